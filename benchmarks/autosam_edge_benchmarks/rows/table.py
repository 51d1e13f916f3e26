"""Rows as lines of a table, for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autosam_edge_benchmarks.rows.figures import Roofline, Scan
from autosam_edge_benchmarks.rows.row import BenchRow

COLUMNS = (
    *("artifact", "load s", "tile p50 ms", "p90", "scans s", "peak MB", "J a scan", "last / first"),
    *("Dice", "timing"),
)
REST = "program start and short stages"
"""What the stages of a scan leave over: the start of the program, and stages that are short."""


def cells(row: BenchRow) -> list[str]:
    """The cells of a row under ``COLUMNS``; empty where a value is not known."""
    tile, dice = row.tile_latency, row.accuracy.mean_dice
    scan_peaks = [scan.peak_mb for scan in row.end_to_end if scan.peak_mb is not None]
    peaks = [peak for peak in row.memory.peak_mb.values() if peak is not None]
    return [
        row.name,
        _number(row.load.cold_process_s, 2),
        _number(tile.p50 if tile else None, 0),
        _number(tile.p90 if tile else None, 0),
        " / ".join(f"{scan.total_s:.1f}" for scan in row.end_to_end),
        " / ".join(f"{peak:.0f}" for peak in scan_peaks or peaks),
        _number(row.energy.joules_per_scan, 0),
        _number(row.sustained.last_to_first if row.sustained else None, 2),
        _number(dice, 3),
        row.timing,
    ]


def notes(rows: Sequence[BenchRow]) -> Iterator[str]:
    """Sentences below a table: what the scans were, and why times are not to be quoted."""
    for scan in rows[0].end_to_end:
        sides, again = " x ".join(map(str, scan.shape)), ", slices repeated" if scan.repeated else ""
        yield f"Scan: {scan.scan}, {sides}{again}."
    yield from dict.fromkeys(reason for row in rows for reason in row.validity.reasons)


def where_time_goes(rows: Sequence[BenchRow]) -> Iterator[str]:
    """Sentences on the stages of the first scan, and on a tile against the floor of the machine."""
    yield from (_stages_in_words(row.name, row.end_to_end[0]) for row in rows if row.end_to_end)
    yield from (_against_floor(row.name, row.roofline) for row in rows if row.roofline is not None)


def stages(scan: Scan) -> dict[str, float]:
    """Seconds of the stages that hold no others and take at least a twentieth of a scan, and of the rest."""
    leaves = {
        name: seconds
        for name, seconds in scan.stages_s.items()
        if name != "segment" and not name.startswith("write ") and seconds >= scan.total_s / 20
    }
    return {**leaves, REST: max(0.0, scan.total_s - sum(leaves.values()))}


def _stages_in_words(name: str, scan: Scan) -> str:
    parts = ", ".join(f"{stage.replace('_', ' ')} {seconds:.1f} s" for stage, seconds in stages(scan).items())
    return f"{name}, the first scan: {parts}."


def _against_floor(name: str, found: Roofline) -> str:
    slowest = ", ".join(
        f"{cost.kind} {cost.measured_ms:.0f} ms (floor {cost.floor_ms:.0f})"
        for cost in found.operators[:4]
        if cost.measured_ms is not None
    )
    tiles = "" if found.tiles is None else f", {found.tiles} tiles in the first scan"
    return (
        f"{name}: {found.ratio:.1f} times the floor of {found.floor_ms:.0f} ms a tile{tiles}; "
        f"slowest operators: {slowest}."
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
