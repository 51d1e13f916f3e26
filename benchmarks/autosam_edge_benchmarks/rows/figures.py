"""The measured parts of a row: tiles, whole scans, sustained work, memory, energy, roofline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

P90_SAMPLES = 44
"""From this number on, a p90 is told: the chance that no sample lies above the true one is 0.9^44 < 1 %."""
STABLE_SHARE = 0.05
"""Largest distance between the medians of the repeats, as a share of their median, of a stable row."""


@dataclass(frozen=True)
class TileLatency:
    """Time of one tile.

    Args:
        unit: Always ``ms``.
        warm_ups: Runs in each repeat that are not counted.
        samples: Every sample, ms.
        repeat_p50: Median of each repeat, ms.
        n: Number of samples.
        min: Smallest, ms.
        p50: Median, ms.
        p90: Nine of ten are faster, ms; null below 44 samples.
        mean: Mean, ms.
        sd: Standard deviation of the samples, ms; null for one sample.
    """

    unit: Literal["ms"]
    warm_ups: int
    samples: tuple[float, ...]
    repeat_p50: tuple[float, ...]
    n: int
    min: float
    p50: float
    p90: float | None
    mean: float
    sd: float | None

    @staticmethod
    def of(repeats: Sequence[Sequence[float]], warm_ups: int) -> TileLatency:
        """Summarize the samples of each repeat, ms."""
        samples = sorted(sample for repeat in repeats for sample in repeat)
        enough = len(samples) >= P90_SAMPLES
        return TileLatency(
            unit="ms",
            warm_ups=warm_ups,
            samples=tuple(sample for repeat in repeats for sample in repeat),
            repeat_p50=tuple(statistics.median(repeat) for repeat in repeats),
            n=len(samples),
            min=samples[0],
            p50=statistics.median(samples),
            p90=statistics.quantiles(samples, n=10, method="inclusive")[-1] if enough else None,
            mean=statistics.fmean(samples),
            sd=statistics.stdev(samples) if len(samples) > 1 else None,
        )


@dataclass(frozen=True)
class Scan:
    """A whole scan, from the input to the written files.

    Args:
        scan: What it shows, such as ``phantom``; never a name of a file.
        shape: Slices, rows and columns, voxels.
        spacing_mm: Spacing (D, H, W), mm.
        repeated: Whether the slices of a shorter series are repeated.
        total_s: Median time, s.
        samples_s: Time of every run, s.
        stages_s: Median time of each stage by name, s. Some stages hold others.
        peak_mb: Largest peak memory of the run, MB.
    """

    scan: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    repeated: bool
    total_s: float
    samples_s: tuple[float, ...]
    stages_s: dict[str, float]
    peak_mb: float | None


@dataclass(frozen=True)
class Sustained:
    """Tiles without a pause.

    Args:
        minutes: Length, minutes.
        last_to_first: Median time of a tile in the last quarter divided by that in the first quarter.
        curve: Seconds since the start and median time of a tile, ms, for each of at most 40 parts.
    """

    minutes: float
    last_to_first: float
    curve: tuple[tuple[float, float], ...]

    @staticmethod
    def of(samples: Sequence[float]) -> Sustained:
        """Summarize samples that followed each other, ms."""
        size = math.ceil(len(samples) / 40)
        ends_s = [sum(samples[: end + size]) / 1000.0 for end in range(0, len(samples), size)]
        parts = [statistics.median(samples[at : at + size]) for at in range(0, len(samples), size)]
        quarter = max(1, len(samples) // 4)
        ratio = statistics.median(samples[-quarter:]) / statistics.median(samples[:quarter])
        curve = tuple((round(s, 1), round(ms, 2)) for s, ms in zip(ends_s, parts, strict=True))
        return Sustained(round(sum(samples) / 60_000.0, 2), round(ratio, 3), curve)


@dataclass(frozen=True)
class Memory:
    """Peak memory.

    Args:
        peak_mb: Peak by the name of the process or of the part, MB.
        method: How it was counted.
    """

    peak_mb: dict[str, float | None]
    method: str


@dataclass(frozen=True)
class Energy:
    """Energy of the processor's package, without the rest of the machine.

    Args:
        joules_per_tile: Energy of one tile, J.
        joules_per_scan: Energy of the first scan of ``end_to_end``, J.
        method: How it was counted, or why it is not known.
    """

    joules_per_tile: float | None
    joules_per_scan: float | None
    method: str


@dataclass(frozen=True)
class OperatorCost:
    """All operators of one kind in one tile.

    Args:
        kind: Name of the operator as the runtime calls it.
        count: Number of them.
        gflop: Multiplications and additions, billions.
        megabytes: Inputs, outputs and weights, each moved once, MB.
        floor_ms: Shortest time of this machine for them, ms.
        measured_ms: Time by the profile of the runtime, ms; null where nothing of this kind ran.
    """

    kind: str
    count: int
    gflop: float
    megabytes: float
    floor_ms: float
    measured_ms: float | None


@dataclass(frozen=True)
class Roofline:
    """One tile against what this machine can do at most.

    Args:
        fp32_gflops: Measured peak of a float32 matrix product, billions of operations per second.
        bf16_gflops: The same for bfloat16.
        int8_gops: The same for 8-bit integers.
        copy_gb_s: Measured bandwidth of a copy, read and written bytes, GB/s.
        tiles: Number of tiles of the first scan; null if none was measured.
        gflop: Work of a tile, billions of multiplications and additions.
        megabytes: Bytes of a tile if every operator reads and writes memory once, MB.
        floor_ms: Shortest time of a tile: for each operator the longer of its work and its bytes, ms.
        ratio: Time of a tile, measured right after the peaks, divided by the floor.
        operators: Kinds of operators, slowest first.
    """

    fp32_gflops: float
    bf16_gflops: float | None
    int8_gops: float | None
    copy_gb_s: float
    tiles: int | None
    gflop: float
    megabytes: float
    floor_ms: float
    ratio: float
    operators: tuple[OperatorCost, ...]


def within(medians: Sequence[float]) -> bool | None:
    """Whether at least three medians of repeats lie within 5 % of each other; None with fewer."""
    if len(medians) < 3:
        return None
    return max(medians) - min(medians) <= STABLE_SHARE * statistics.median(medians)
