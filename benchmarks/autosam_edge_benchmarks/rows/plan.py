"""The plan of a measurement: its steps, each a process of its own, and what they saw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autosam_edge.bundle import Bundle, Tier, open_bundles
from autosam_edge.manifest import Artifact
from autosam_edge.version import __version__
from autosam_edge_benchmarks.rows.figures import Roofline
from autosam_edge_benchmarks.rows.probe import TimedTiles
from autosam_edge_benchmarks.rows.row import Device
from autosam_edge_benchmarks.rows.whole_scan import ScanRun, scan_digest

PHANTOM_SHAPE = (160, 512, 512)


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        bundle: Bundle of the artifacts.
        artifacts: Artifacts that run here.
        threads: Numbers of threads.
        slices: Numbers of slices of the whole scans, in rising order; may be empty.
        scan: Folder of a DICOM series, repeated to each number of slices; None for a phantom.
        repeats: Number of repeats of everything.
        minutes: Length of the sustained run, minutes; 0 leaves it out.
        scored: Files ``summary.json`` of evaluations, for the Dice.
        name: Name of the machine that a person gives.
        roofline: Whether each tile is compared with the peaks of this machine.
        force: Whether to measure a machine that is not quiet.
        tier: Tier of the package that ``bundle`` is; whole scans then run with its model that finds organs.
            None runs the bundle alone.
    """

    bundle: Bundle
    artifacts: tuple[Artifact, ...]
    threads: tuple[int, ...]
    slices: tuple[int, ...]
    scan: Path | None
    repeats: int
    minutes: float
    scored: tuple[Path, ...]
    name: str | None
    roofline: bool
    force: bool
    tier: Tier | None = None

    @property
    def model(self) -> tuple[str, str]:
        """The option of ``segment`` that names the model."""
        return ("--bundle", str(self.bundle.path)) if self.tier is None else ("--tier", self.tier)

    def steps(self) -> Iterator[Step]:
        """Every step; the repeats are the outer loop, so that a slow hour slows all artifacts."""
        subjects = [(artifact.name, threads) for threads in self.threads for artifact in self.artifacts]
        for repeat in range(self.repeats):
            for what in ("tiles", *map(str, self.slices)):
                yield from (Step(name, threads, what, repeat) for name, threads in subjects)
        roofline = f"roofline {self.slices[0]}" if self.slices else "roofline"
        for what, wanted in (("sustained", self.minutes > 0), (roofline, self.roofline)):
            yield from (Step(name, threads, what, 0) for name, threads in subjects if wanted)

    def slices_of(self, step: Step) -> tuple[int, ...]:
        """Numbers of slices of the scans that a step reads."""
        slices = step.what.removeprefix("roofline ")
        return (int(slices),) if slices.isdecimal() else ()

    def identity(self, device: Device) -> str:
        """Ten digits that change when stored steps no longer belong to this measurement."""
        _, coarse = open_bundles(None, self.tier) if self.tier else (self.bundle, None)
        models = (self.bundle.manifest_sha256, coarse and coarse.manifest_sha256)
        same = (models, __version__, device.processor, device.versions, self.minutes)
        return hashlib.sha256(repr((same, self.scan and scan_digest(self.scan))).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Step:
    """One process.

    Args:
        artifact: Name of the artifact.
        threads: Number of threads.
        what: ``tiles``, ``sustained``, the number of slices of a whole scan, or ``roofline`` with the number
            of slices of the scan whose tiles are counted, if there is one.
        repeat: Number of the repeat, from 0.
    """

    artifact: str
    threads: int
    what: str
    repeat: int


@dataclass(frozen=True)
class Done:
    """A step and what was seen.

    Args:
        step: The step.
        others_cores: Cores that other programs used meanwhile; None where the system does not tell.
        reasons: Why the machine was not ready before; empty if it was.
        date: Day in ISO form.
        device: The device just before.
        tiles: Result of ``tiles`` and ``sustained``.
        scan: Result of a whole scan.
        roofline: Result of ``roofline``.
    """

    step: Step
    others_cores: float | None
    reasons: tuple[str, ...]
    date: str
    device: Device
    tiles: TimedTiles | None = None
    scan: ScanRun | None = None
    roofline: Roofline | None = None

    def __post_init__(self) -> None:
        what = self.step.what
        results = {"tiles": self.tiles, "sustained": self.tiles, "roofline": self.roofline}
        if results.get(what.partition(" ")[0], self.scan) is None:
            raise ValueError(f"the step {what!r} lacks its result")
