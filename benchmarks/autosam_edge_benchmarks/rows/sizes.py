"""Size of what is installed, and the Dice of an artifact in the files of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from autosam_edge.bundle import Bundle
from autosam_edge.manifest import Artifact
from autosam_edge.parity import read_parity
from autosam_edge.strict_json import build, build_list, parse_json
from autosam_edge_benchmarks.error_codes import ROW_INVALID
from autosam_edge_benchmarks.rows.row import Accuracy, Install

_PROGRAM = "autosam-edge"


@dataclass(frozen=True)
class _Compared:
    """The part of an entry of ``parity.json`` that a row holds."""

    target: str
    precision: str
    mean_dice: float
    worst_organ: str
    organ_dice: dict[str, float]


@dataclass(frozen=True)
class _Engine:
    name: str
    precision: str
    sha256: str


@dataclass(frozen=True)
class _Organ:
    cases: int


@dataclass(frozen=True)
class _Scored:
    """The part of a ``summary.json`` of `evaluate` that a row holds."""

    data: str
    engine: _Engine
    mean_dice: float
    organs: dict[str, _Organ]


def install_size(bundle: Path, engine: str) -> Install:
    """Measure the program with every package that it needs, and the bundle.

    Args:
        bundle: Folder or file of the bundle.
        engine: Package of the runtime.
    """
    needed = {found.metadata["Name"]: found for found in _needed([_PROGRAM, engine])}
    files = (Path(str(d.locate_file(file))) for d in needed.values() for file in d.files or ())
    inside = [bundle] if bundle.is_file() else [path for path in bundle.rglob("*") if path.is_file()]
    return Install(
        round(sum(file.stat().st_size for file in files if file.is_file()) / 1e6, 1),
        round(sum(file.stat().st_size for file in inside) / 1e6, 1),
    )


def _needed(names: list[str]) -> Iterator[Distribution]:
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            found = distribution(name)
        except PackageNotFoundError:  # what an extra brings, or the checkout of this program
            continue
        yield found
        asked = map(Requirement, found.requires or ())
        names += [r.name for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]


def read_scored(path: Path) -> _Scored:
    """Read a result of ``evaluate``.

    Raises:
        BenchError: The file is none (AE-BENCH-003).
    """
    try:
        return build(_Scored, parse_json(path.read_bytes()), "summary", other_keys=True)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise ROW_INVALID(
            f"{path.name} is no result of `evaluate`: {why}.",
            remedy="Give the summary.json that `autosam-edge evaluate` wrote.",
        ) from error


def accuracy(bundle: Bundle, artifact: Artifact, engine: str, scored: Sequence[Path]) -> Accuracy:
    """Dice of an artifact: against the student from the bundle, against people from evaluations.

    Args:
        engine: Package of the runtime.
        scored: Files ``summary.json`` of evaluations; the first of the same artifact, engine and number
            format counts.

    Raises:
        BenchError: See :func:`read_scored`.
    """
    compared = build_list(_Compared, read_parity(bundle).content, "parity.json", other_keys=True)
    entry = next(e for e in compared if (e.target, e.precision) == (artifact.target, artifact.precision))
    same = _Engine(engine, artifact.precision, bundle.manifest.sha256_of(artifact.path))
    found = next((summary for summary in map(read_scored, scored) if summary.engine == same), None)
    return Accuracy(
        mean_dice=found.mean_dice if found else None,
        data=found.data if found else None,
        cases=max(organ.cases for organ in found.organs.values()) if found else None,
        against_student=entry.mean_dice,
        worst_organ=entry.worst_organ,
        worst_organ_dice=entry.organ_dice.get(entry.worst_organ),
    )
