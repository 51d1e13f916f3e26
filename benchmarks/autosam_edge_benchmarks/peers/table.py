"""A stored comparison with other tools as a table."""

from __future__ import annotations

from autosam_edge_benchmarks.result_header import Result

COLUMNS = ("tool", "s", "MB", "time", "memory", "network")


def title(result: Result) -> str:
    """What was compared, on which machine."""
    shape = " x ".join(map(str, result["scan"]["shape_dhw"]))
    repeats = max(len(entry.get("seconds", ())) for entry in result["tools"])
    return (
        f"DICOM series of {shape} to labels on the disk, {result['threads']} threads of "
        f"{result['machine']['cpu']}, medians of {repeats} runs in turn"
    )


def cells(entry: Result) -> tuple[str, ...]:
    """The cells of one tool under ``COLUMNS``; one that did not run has its reason in the last."""
    if entry["reason"]:
        return entry["name"], "", "", "", "", entry["reason"]
    multiples = [f"{entry[key]:.1f} x" if key in entry else "" for key in ("times_slower", "times_memory")]
    return entry["name"], f"{entry['median_s']:.1f}", f"{entry['median_mb']}", *multiples, entry["weights"]
