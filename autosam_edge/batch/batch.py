"""Segment many scans: index, jobs, table and page. The same call again goes on where the last one stopped."""

from __future__ import annotations

import codecs
import csv
import os
import re
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.batch.folder import BatchFolder
from autosam_edge.batch.index import ID_LETTERS, NOT_MOVED, Place, mode_of_input, opened_index, short_hash
from autosam_edge.batch.page import write_page
from autosam_edge.batch.table import rows_of, write_table
from autosam_edge.dicom.find import INPUTS_OF_THEIR_OWN
from autosam_edge.error_codes import BATCH_LIST_INVALID, INPUT_KIND_UNKNOWN, OUTPUT_IN_INPUT
from autosam_edge.system.atomic_files import explained, write_file
from autosam_edge.write_results import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autosam_edge.batch.job import Fault, Job, Settings

_MIN_HASH = 8
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Selection:
    """Which scans of the index are segmented.

    Args:
        retry: Codes of errors whose scans are tried again; other failed scans stay failed.
        limit: Number of scans at most; None sets no limit.
        part: (i, n): only every n-th scan, counted by its id; i from 1 to n. The parts of one batch may run
            on several computers that share the folder.
        settle_s: Seconds for which this run must see the files of a scan unchanged: others may still arrive.
    """

    retry: frozenset[str] = frozenset()
    limit: int | None = None
    part: tuple[int, int] = (1, 1)
    settle_s: float = 0

    def in_part(self, scan: str) -> bool:
        """Whether the scan of an id belongs to the part."""
        index, count = self.part
        return int(scan, 16) % count == index - 1


class Batch:
    """A batch in a folder.

    Args:
        inputs: Folders, and files that are scans by themselves; a CSV file with a column ``path`` or
            ``series``; a text file with one series in each line. A series is its SeriesInstanceUID or the
            start of its hash (8 letters or more). Lists are UTF-8, or UTF-16 with a mark.
        out: Folder for the results.
        settings: What all scans share.
        selection: Which scans are segmented.
        movable: Whether the one input is the folder of a service that may be moved together with the results,
            or mounted under another path: the ids of its scans stay.

    Raises:
        InputError: An input does not exist (AE-INPUT-001) or cannot be read (-003).
        BatchError: The folder holds results with other settings (AE-BATCH-002), or a list cannot be read
            (-004).
        BundleError: The model cannot be opened.
        OutputError: The folder for the results lies inside an input (AE-OUTPUT-004).
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        out: Path,
        settings: Settings,
        selection: Selection | None = None,
        *,
        movable: bool = False,
    ) -> None:
        self.selection = selection or Selection()
        self._roots, self._wanted = _roots_and_series(inputs)
        with explained():  # workers may have another working directory, and the one here may be gone
            out = out.absolute()
            around = (out.resolve(), *out.resolve().parents)
            self.settings = replace(settings, bundle=settings.bundle and settings.bundle.absolute())
        for root in self._roots:
            if stat.S_ISDIR(mode_of_input(root)) and root.resolve() in around:
                raise OUTPUT_IN_INPUT("the output folder lies inside an input folder.")
        check_writable(out)
        self._of_results = settings.of_results()  # a wrong bundle leaves no folder
        self.folder = BatchFolder(out)
        self.folder.check_settings(self._of_results)
        index, count = self.selection.part
        name = "index.sqlite" if count == 1 else f"index-{index}-of-{count}.sqlite"
        self._index_path = out / name
        self._place = _place(self._roots[0], out) if movable else NOT_MOVED
        self.jobs: list[Job] = []
        self._short: list[Job] = []
        self.not_found = 0  # series that a list names and no folder holds
        self._since: dict[tuple[object, ...], float] = {}  # time of the first look at each scan as it is now

    def update_index(self) -> None:
        """Look at the inputs and list their scans in :attr:`jobs`.

        Raises:
            InputError: See :meth:`autosam_edge.batch.index.Index.update`.
            BatchError, OutputError: See :func:`autosam_edge.batch.index.opened_index`.
        """
        with opened_index(self._index_path, self._place) as index:
            index.update(self._roots)
            found = list(index.jobs())
        if self._wanted is not None:
            given = {str(root.resolve()) for root in self._roots if root.is_file()}
            found = [
                job
                for job in found
                if not self._wanted.isdisjoint(_starts(job.id)) or not given.isdisjoint(job.files)
            ]
            self.not_found = len(self._wanted.difference(*(_starts(job.id) for job in found)))
        self.jobs = [job for job in found if not job.short]
        self._short = [job for job in found if job.short]
        now = time.monotonic()
        self._since = {state: self._since.get(state, now) for state in map(_state, found)}

    def id_of_file(self, path: Path) -> str:
        """Id of a file that is a scan by itself."""
        return short_hash(self._place.name(str(path.resolve())))

    def require_scans(self) -> None:
        """End a run whose inputs hold nothing; a folder that it has made for the results goes.

        Raises:
            InputError: There is no scan, in the inputs or on a list (AE-INPUT-002).
        """
        if not self.jobs and not self.not_found:
            self.folder.remove_if_new(self._index_path)
            raise INPUT_KIND_UNKNOWN("the input holds no CT scan of three slices or more.")

    def todo(self, retry: frozenset[str] = frozenset()) -> list[Job]:
        """The scans that this run segments.

        Args:
            retry: Codes of errors whose scans are tried again, besides those of the selection.
        """
        chosen = []
        for job in self.jobs:
            if not self._settled(job) or not self.selection.in_part(job.id) or self.folder.is_done(job):
                continue
            fault = self.folder.fault(job)
            if fault is None or fault.code in self.selection.retry | retry:
                chosen.append(job)
        return chosen[: self.selection.limit]

    def passed_over(self) -> list[str]:
        """Ids of the series of fewer than three slices, such as bolus tracking, which are no scans."""
        return [job.id for job in self._short if self._settled(job) and self.selection.in_part(job.id)]

    def _settled(self, job: Job) -> bool:
        # The dates of the files say nothing: copies may keep old ones, and a clock may be ahead.
        return time.monotonic() - self._since[_state(job)] >= self.selection.settle_s

    def finish(self, *, show_paths: bool = False, write: bool = True) -> dict[str, int]:
        """Write the table and the page over all scans; return the number of scans in each state."""
        rows = list(rows_of(self.jobs, self.folder, show_paths=show_paths))
        states = {row.scan: row.state for row in rows}
        counts = {state: list(states.values()).count(state) for state in ("done", "failed", "waiting")}
        if write:
            write_table(rows, self.folder.root)
            summary = ", ".join(f"{count} {state}" for state, count in counts.items())
            write_page(rows, self.folder, f"{summary}.")
        return counts

    def run(
        self,
        jobs: Sequence[Job],
        *,
        workers: int,
        scheduler: str | None = None,
        on_tile: Callable[[Job, int, int], None] | None = None,
    ) -> Iterator[tuple[Job, Fault | None]]:
        """Segment scans; results are given as they come, in no order.

        Args:
            jobs: The scans, such as those of :meth:`todo`; one that is done by now is left as it is.
            workers: Number of processes of this computer.
            scheduler: Address of a Dask scheduler whose workers do the work; None takes processes of this
                computer.
            on_tile: Function that is called with the scan, the tiles done and the tiles in all after each
                tile; not on a cluster.

        Yields:
            Each scan, and its error or None.

        Raises:
            AutosamEdgeError: The model cannot be loaded.
            BatchError: Another process works on this part of the batch (AE-BATCH-003), another call has given
                other settings (-002), the workers of the cluster write elsewhere (-007), or its scheduler
                cannot be reached or has ended (-008).
            OutputError, AuditError: The record or an error cannot be written.
        """
        with self.folder.locked(self._index_path.stem):
            self.folder.check_settings(self._of_results)  # another call may have given others meanwhile
            self.folder.sweep(self.selection.in_part)
            if scheduler is not None:
                from autosam_edge.batch.cluster import segment_on_dask

                yield from segment_on_dask(jobs, self.folder.root, self.settings, scheduler)
            else:
                from autosam_edge.batch.workers import segment_in_processes

                yield from segment_in_processes(jobs, self.folder.root, self.settings, workers, on_tile)
            self.folder.sweep(self.selection.in_part)  # a worker may have died


def _state(job: Job) -> tuple[object, ...]:
    """A scan as its files are; the message of its error may change with other files."""
    return job.id, job.stamp, job.newest_s


def _place(root: Path, out: Path) -> Place:
    """Where the input of a service lies and lay first, which a file in the folder of the results keeps."""
    now, note = str(root.resolve()), out / "first-place.txt"
    with explained():
        if not note.exists():
            write_file(os.fsencode(now), note)
        return Place(now, os.fsdecode(note.read_bytes()))


def _roots_and_series(inputs: Sequence[Path]) -> tuple[list[Path], frozenset[str] | None]:
    """Folders and files to index, and the starts of the ids of the scans that are wanted, None for all."""
    roots: list[Path] = []
    wanted: set[str] = set()
    for path in inputs:
        if path.suffix.lower() not in (".csv", ".txt") or path.is_dir():
            roots.append(path)
            continue
        lines = _lines_of_list(path)
        paths = [(number, path.parent / line["path"]) for number, line in lines if line.get("path")]
        series = {_start_of_id(line["series"]) for _, line in lines if line.get("series")}
        for number, given in paths:
            mode_of_input(given, f"the path in line {number} of the list")
        if not paths and not series:
            raise BATCH_LIST_INVALID("a list names no scan.", remedy="Leave it out to take all scans.")
        roots += (given for _, given in paths)
        wanted |= series
    if not roots:
        raise BATCH_LIST_INVALID(
            "the inputs name series, but no folder that holds them.", remedy="Give the folder too."
        )
    return roots, frozenset(wanted) or None


def _lines_of_list(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The lines of a list: the number of each, and its texts by their headings.

    A text file is a list of series, whose one heading is added.
    """
    is_csv = path.suffix.lower() == ".csv"
    try:
        content = path.read_bytes()
        text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig").strip()
        heading, *below = (text or " ").splitlines() if is_csv else ["series", *re.split(r"[\s,;]+", text)]
        # Excel separates the columns as is usual in the language of the computer.
        reader = csv.DictReader([heading.lower(), *below], delimiter=max(",;\t", key=heading.count))
        lines = [
            (reader.line_num, {key: (value or "").strip() for key, value in line.items() if key})
            for line in reader
        ]
    except UnicodeDecodeError as error:
        raise BATCH_LIST_INVALID(
            "a list of scans is not UTF-8.", remedy='Save it as UTF-8, in Excel as "CSV UTF-8".'
        ) from error
    except (OSError, csv.Error) as error:
        raise BATCH_LIST_INVALID(f"a list of scans cannot be read ({type(error).__name__}).") from error
    if not is_csv and any(map(_is_path, below)):
        raise BATCH_LIST_INVALID(
            "a text file holds paths, expected series.",
            remedy='Give a list of paths as a CSV file with the heading "path".',
        )
    if not {"path", "series"} & set(reader.fieldnames or ()):
        raise BATCH_LIST_INVALID('a CSV list has neither a column "path" nor a column "series".')
    return lines


def _is_path(text: str) -> bool:
    """Whether a text of a list, expected to be a series, is a path."""
    return bool({"/", "\\"} & set(text)) or text.lower().endswith(tuple(INPUTS_OF_THEIR_OWN))


def _starts(scan: str) -> Iterator[str]:
    """The texts by which a list may name a scan: its id, and the first letters of it."""
    return (scan[:length] for length in range(_MIN_HASH, ID_LETTERS + 1))


def _start_of_id(series: str) -> str:
    """Start of the id of a series that is given by its SeriesInstanceUID or by its hash."""
    is_hash = len(series) >= _MIN_HASH and set(series.lower()) <= set("0123456789abcdef")
    return series.lower()[:ID_LETTERS] if is_hash else short_hash(series)
