"""The table of a batch: one row for each organ of each scan, one row for a scan that failed."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from autosam_edge.report.statistics_files import csv_cell
from autosam_edge.system.atomic_files import staged_file, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from autosam_edge.batch.folder import BatchFolder
    from autosam_edge.batch.job import Job


@dataclass(frozen=True)
class Row:
    """One row of the table; what does not apply is None.

    Args:
        scan: Id of the scan.
        state: ``done``, ``failed`` or ``waiting``.
        code: Code of the error of a failed scan.
        message: Sentence of the error, or the sentences of the warnings that say that a person must look.
        remedy: What a person can do.
        verdict: ``plausible``, ``doubtful`` or ``implausible``.
        scan_warnings: Codes of the warnings of the whole scan, separated by spaces.
        title: The name of the organ as text.
        ml: Volume in milliliters.
        sd_hu: Standard deviation of the HU.
        touches_border: Whether the edge of the scan cuts the organ.
        expected_dice: Dice that the labels are expected to have against those of a person, 0 to 1.
        warnings: Codes of the warnings of the organ, separated by spaces.
        path: Path of the scan, only where the caller asks for it: it may name the patient.
    """

    scan: str
    state: str
    code: str | None = None
    message: str | None = None
    remedy: str | None = None
    verdict: str | None = None
    scan_warnings: str | None = None
    organ: str | None = None
    title: str | None = None
    ml: float | None = None
    mean_hu: float | None = None
    sd_hu: float | None = None
    touches_border: bool | None = None
    expected_dice: float | None = None
    warnings: str | None = None
    path: str | None = None


def rows_of(jobs: Iterable[Job], folder: BatchFolder, *, show_paths: bool = False) -> Iterator[Row]:
    """The rows of the table, in the order of the jobs.

    Args:
        show_paths: Whether the rows hold the path of the scan, of a series that of its first file.
    """
    for job in jobs:
        path = job.files[0].encode("utf-8", "backslashreplace").decode() if show_paths and job.files else None
        if (statistics := folder.statistics(job)) is None:
            fault = folder.fault(job)
            if fault is None:
                yield Row(job.id, "waiting", path=path)
            else:
                yield Row(job.id, "failed", fault.code, fault.message, fault.remedy, path=path)
            continue
        codes: dict[str | None, list[str]] = defaultdict(list)
        for warning in statistics["warnings"]:
            codes[warning["organ"]].append(warning["code"])
        verdict = (statistics["plausibility"] or {}).get("verdict")
        doubts = " ".join(w["message"] for w in statistics["warnings"] if w["severity"] == "doubtful")
        for organ in statistics["organs"]:
            yield Row(
                job.id,
                "done",
                message=doubts,
                verdict=verdict,
                scan_warnings=" ".join(codes[None]),
                organ=organ["name"],
                title=organ["title"],
                ml=organ["ml"],
                mean_hu=organ["mean_hu"],
                sd_hu=organ["sd_hu"],
                touches_border=organ["touches_border"],
                expected_dice=organ["expected_dice"],
                warnings=" ".join(codes[organ["name"]]),
                path=path,
            )


def write_table(rows: list[Row], folder: Path) -> None:
    """Write ``organs.csv``, and ``organs.parquet`` where pyarrow is installed."""
    names = [field.name for field in fields(Row)]
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(names)
    table.writerows([csv_cell(name, getattr(row, name)) for name in names] for row in rows)
    write_file(text.getvalue().encode(), folder / "organs.csv")
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        return
    types = {"float | None": pa.float64(), "bool | None": pa.bool_()}
    schema = pa.schema([(field.name, types.get(str(field.type), pa.string())) for field in fields(Row)])
    # An opened file, as pyarrow takes no path that is not UTF-8.
    with staged_file(folder / "organs.parquet") as path, path.open("wb") as file:
        parquet.write_table(pa.Table.from_pylist([vars(row) for row in rows], schema), file)
