"""``parity.json`` of a bundle: how close each artifact is to the trained student, and must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from autosam_edge.manifest import well_formed
from autosam_edge.strict_json import build_list, parse_json

if TYPE_CHECKING:
    from autosam_edge.bundle import Bundle

PARITY = "parity.json"
_MAX_BYTES = 16 << 20
MAX_LOGIT_RMS = {
    "fp32": 1e-3,
    "fp16": 2e-2,
    "bf16": 0.2,
    "int8-weights": 0.1,
    "int8": 0.3,
    "palette6": 0.3,
    "palette4": 1.0,
}
"""Largest root mean square difference of the logits by number format: no bundle may allow itself more."""


@dataclass(frozen=True)
class _Tolerance:
    logit_rms: float


@dataclass(frozen=True)
class _ParityEntry:
    """The part of an entry of ``parity.json`` that verification needs."""

    target: str
    precision: str
    tolerance: _Tolerance


class Parity(NamedTuple):
    """What ``parity.json`` says.

    Args:
        content: All of it as JSON types.
        allowed_rms: Largest root mean square difference from the student's logits, for each artifact of the
            manifest by name.
    """

    content: object
    allowed_rms: dict[str, float]


def read_parity(bundle: Bundle) -> Parity:
    """Read ``parity.json``.

    Raises:
        BundleError: It is too large (AE-BUNDLE-002), not valid, lacks an artifact, or allows more than
            ``MAX_LOGIT_RMS`` (AE-BUNDLE-003).
    """
    with well_formed(PARITY):
        parsed = parse_json(bundle.read(PARITY, _MAX_BYTES))
        entries = build_list(_ParityEntry, parsed, PARITY, other_keys=True)
        allowed = {f"{entry.target}/{entry.precision}": entry.tolerance.logit_rms for entry in entries}
        if len(allowed) != len(entries):
            raise ValueError("it names an artifact twice")
        names = [artifact.name for artifact in bundle.manifest.artifacts]
        for artifact in bundle.manifest.artifacts:
            if artifact.name not in allowed:
                raise ValueError(f"it has no entry for {artifact.name}")
            if artifact.precision not in MAX_LOGIT_RMS:
                raise ValueError(f"{artifact.precision} is no number format that this version knows")
            most = MAX_LOGIT_RMS[artifact.precision]
            if not 0.0 < allowed[artifact.name] <= most:
                raise ValueError(
                    f"tolerance.logit_rms of {artifact.name} is out of range, expected 0 to {most:g}"
                )
        return Parity(parsed, {name: allowed[name] for name in names})
