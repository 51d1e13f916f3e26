"""One row of a benchmark: the classes are the schema, for Python, the web page and the programs for phones.

A value that is not known is null and never left out. ``row.schema.json`` is made from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autosam_edge.manifest import Proof
from autosam_edge.strict_json import build, parse_json
from autosam_edge_benchmarks.error_codes import ROW_INVALID
from autosam_edge_benchmarks.rows.figures import Energy, Memory, Roofline, Scan, Sustained, TileLatency

FORMAT: Literal["autosam-edge bench"] = "autosam-edge bench"
SCHEMA_VERSION: Literal[1] = 1


@dataclass(frozen=True)
class Device:
    """The machine, before and during the measurement.

    Args:
        name: Name that a person gave.
        processor: Processor or system on a chip.
        gpu: Graphics processor.
        cores: Number of logical cores.
        memory_gb: Memory, GB.
        system: Operating system and architecture.
        os_build: Build of the operating system.
        browser: User agent of the browser.
        cross_origin_isolated: Whether the page may use threads.
        power_source: ``mains`` or ``battery``.
        battery_percent: Charge of the battery, 0 to 100.
        governor: Rule by which the system sets the clock of the processor.
        thermal_state: The system's own word, such as ``nominal``.
        temperature_c: Hottest sensor before the measurement, degrees Celsius.
        temperature_end_c: Hottest sensor after it, degrees Celsius.
        load_average: Load average over one minute, before.
        others_cores_before: Cores that other programs used, before.
        others_cores_during: Most cores that other programs used during one step.
        affinity: Cores to which the process is bound.
        versions: Versions of the packages that matter, by name.
    """

    name: str | None
    processor: str | None
    gpu: str | None
    cores: int | None
    memory_gb: float | None
    system: str | None
    os_build: str | None
    browser: str | None
    cross_origin_isolated: bool | None
    power_source: Literal["mains", "battery"] | None
    battery_percent: float | None
    governor: str | None
    thermal_state: str | None
    temperature_c: float | None
    temperature_end_c: float | None
    load_average: float | None
    others_cores_before: float | None
    others_cores_during: float | None
    affinity: tuple[int, ...] | None
    versions: dict[str, str]


@dataclass(frozen=True)
class Measured:
    """The artifact.

    Args:
        software: Version of the program.
        model: Name of the model.
        model_version: Version of the model.
        model_sha256: SHA-256 of the manifest, which names the hash of every file.
        sha256: SHA-256 of the artifact.
        form: Target of the export, such as ``onnx`` or ``coreml``.
        precision: Number format.
        proof: Kind of comparison with the student at export: ``executed``, ``imitated`` or ``interpreted``.
        tile: Sides (D, H, W) of a tile, voxels.
        megabytes: Size of the artifact, MB.
    """

    software: str | None
    model: str
    model_version: str | None
    model_sha256: str | None
    sha256: str | None
    form: str
    precision: str
    proof: Proof | None
    tile: tuple[int, int, int] | None
    megabytes: float | None


@dataclass(frozen=True)
class Placement:
    """Where the network ran.

    Args:
        engine: Package of the runtime.
        engine_version: Its version.
        provider_asked: Processor, driver or provider that was asked for.
        provider: The one that ran it.
        threads: Number of threads.
        operators: Number of operators by the unit, or number format, that runs them.
        fallbacks: Providers that were tried before and refused, with the reason.
    """

    engine: str
    engine_version: str | None
    provider_asked: str | None
    provider: str | None
    threads: int | None
    operators: dict[str, int] | None
    fallbacks: tuple[str, ...]


@dataclass(frozen=True)
class Load:
    """Time until the model is ready.

    Args:
        first_s: First load of this measurement; the file may come from the disk, s.
        cold_process_s: Median load in a new process, without the start of the program, s.
        warm_s: Median second load in the same process, s.
        stages_s: Parts of the first load by name, s.
    """

    first_s: float | None
    cold_process_s: float | None
    warm_s: float | None
    stages_s: dict[str, float] | None


@dataclass(frozen=True)
class Install:
    """Size on the disk.

    Args:
        packages_mb: The program and every package that it needs with this engine, MB.
        bundle_mb: The bundle, MB.
    """

    packages_mb: float | None
    bundle_mb: float | None


@dataclass(frozen=True)
class Accuracy:
    """Dice of the same artifact, 0 to 1.

    Args:
        mean_dice: Mean over the organs against labels of people, with the same engine and number format.
        data: Data set and part of it.
        cases: Number of scans.
        against_student: Mean Dice against the trained student, from the comparison at export.
        worst_organ: Organ with the lowest Dice against the student.
        worst_organ_dice: Its Dice.
    """

    mean_dice: float | None
    data: str | None
    cases: int | None
    against_student: float | None
    worst_organ: str | None
    worst_organ_dice: float | None


@dataclass(frozen=True)
class Validity:
    """Whether the times may be quoted.

    Args:
        noisy: True if the machine was busy or not ready, and the measurement was forced.
        stable: True if the medians of at least three repeats are within 5 %; null with fewer repeats.
        reasons: Why it is noisy, or unstable; one sentence each.
    """

    noisy: bool
    stable: bool | None
    reasons: tuple[str, ...]

    @property
    def word(self) -> str:
        """``noisy``, ``unstable``, ``not repeated`` or ``quiet``."""
        if self.noisy:
            return "noisy"
        return {True: "quiet", False: "unstable", None: "not repeated"}[self.stable]


@dataclass(frozen=True)
class BenchRow:
    """One measured artifact on one device.

    Args:
        format: Always ``autosam-edge bench``.
        schema_version: Number of this layout.
        measured_with: Program that measured: ``python``, ``browser``, ``kotlin``, ``swift`` or ``cpp``.
        date: Day in ISO form.
        tile_latency: Time of one tile; null if no tile was measured.
        end_to_end: Whole scans, small ones first.
        roofline: Comparison with the peaks of this machine; null if it was not asked for.
    """

    format: Literal["autosam-edge bench"]
    schema_version: Literal[1]
    measured_with: Literal["python", "browser", "kotlin", "swift", "cpp"]
    date: str
    device: Device
    artifact: Measured
    placement: Placement
    load: Load
    tile_latency: TileLatency | None
    end_to_end: tuple[Scan, ...]
    sustained: Sustained | None
    memory: Memory
    energy: Energy
    install: Install
    accuracy: Accuracy
    roofline: Roofline | None
    validity: Validity

    @property
    def name(self) -> str:
        """Form, precision and threads, such as ``openvino/bf16, 2 threads``."""
        threads = self.placement.threads
        counted = "" if threads is None else f", {threads} thread{'s' * (threads != 1)}"
        return f"{self.artifact.form}/{self.artifact.precision}{counted}"

    @property
    def timing(self) -> str:
        """``correct, not timed`` without any time, else the word of the validity."""
        return self.validity.word if self.tile_latency or self.end_to_end else "correct, not timed"


def read_row(path: Path) -> BenchRow:
    """Read a stored row.

    Raises:
        BenchError: It does not follow the schema (AE-BENCH-003); the message names the file and the key.
    """
    try:
        return build(BenchRow, parse_json(path.read_bytes()), "row")
    except ValueError as error:
        raise ROW_INVALID(f"{path.name} is no row of a benchmark: {error}.") from error
