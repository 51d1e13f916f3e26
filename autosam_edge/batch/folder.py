"""The folder of a batch: what is done, what failed, and where the results of a scan go.

The folders of the scans are the truth. Each appears by one rename, so a scan is done or it is not, whatever
was killed, and two workers that meet at one scan leave one result.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autosam_edge.audit import append
from autosam_edge.batch.job import Fault
from autosam_edge.error_codes import BATCH_IN_USE, BATCH_OTHER_SETTINGS, OUTPUT_OCCUPIED
from autosam_edge.errors import AutosamEdgeError, BatchError
from autosam_edge.output_formats import FILE_NAMES
from autosam_edge.system.atomic_files import explained, write_file
from autosam_edge.system.file_lock import LockedError, lock_now
from autosam_edge.system.staging import sweep, sync
from autosam_edge.wording import with_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from autosam_edge.batch.job import Job

STATISTICS = FILE_NAMES["json"]
PREVIEW = FILE_NAMES["preview"]
_STAMP = "source.txt"
_FACTS = {"organs", "plausibility", "warnings"}  # in the statistics, which the table and the page show
_OF_ALL_SCANS = ("--accept-implausible", "--allow-gap", "--assume-hu", "--ignore-frame-of-reference")
_ALONE = (
    " The options of a batch hold for all of its scans: segment this scan alone, with `autosam-edge segment` "
    "and the option."
)


class BatchFolder:
    """The folder that ``autosam-edge batch`` writes.

    Args:
        root: The folder; made when absent.

    Attributes:
        scans: Folder with a folder of results for each scan that is done.
        record: File that records the runs, see :mod:`autosam_edge.audit`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scans, self._failed, self._work = root / "scans", root / "failed", root / ".work"
        self.record = root / "audit.jsonl"
        self._whole: set[tuple[str, int, int]] = set()  # statistics that can be read: scan, time, size
        with explained():
            self._is_new = not root.exists()
            for folder in (self.scans, self._failed, self._work):
                if folder.is_file():
                    raise OUTPUT_OCCUPIED(f"{folder.name} in the output folder is a file, expected a folder.")
                folder.mkdir(parents=True, exist_ok=True)

    def check_settings(self, settings: dict[str, object]) -> None:
        """Compare the settings with those of the results that are there; keep them where there are none.

        Args:
            settings: Result of :meth:`autosam_edge.batch.job.Settings.of_results`.

        Raises:
            BatchError: They differ (AE-BATCH-002).
        """
        path = self.root / "settings.json"
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            before = {}
        except OSError as error:
            raise BATCH_OTHER_SETTINGS(
                f"settings.json in the folder cannot be read ({type(error).__name__}).",
                remedy="Give another folder, or check the permissions and the medium.",
            ) from error
        except (ValueError, TypeError):
            raise BATCH_OTHER_SETTINGS("settings.json in the folder is damaged or none of a batch.") from None
        different = sorted(key for key in settings if settings[key] != before.get(key))
        # A file of this name that another program has written stays.
        if before and different and (self._has_begun() or not before.keys() >= settings.keys()):
            raise BATCH_OTHER_SETTINGS(f"the folder holds results that differ in {', '.join(different)}.")
        if different:
            write_file((json.dumps(settings, indent=2) + "\n").encode(), path)

    def remove_if_new(self, index: Path) -> None:
        """Remove the folder if this call has made it, with its index; what others have put there stays."""
        if self._is_new and not self._has_begun() and list(self.root.glob("*index*")) == [index]:
            with suppress(OSError):
                for file in (index, self.root / "settings.json"):
                    file.unlink()
                for folder in (self.scans, self._failed, self._work, self.root):
                    folder.rmdir()

    def _has_begun(self) -> bool:
        """Whether results or errors are there, or another process is making some."""
        try:
            for lock in self.root.glob(".index*.lock"):
                with self.locked(lock.stem[1:]):
                    pass
        except BatchError:
            return True
        return any(any(folder.glob("[!.]*")) for folder in (self.scans, self._failed))

    @contextmanager
    def locked(self, name: str, in_use: AutosamEdgeError | None = None) -> Iterator[None]:
        """Keep other processes from the same part of the batch while the block runs.

        Args:
            in_use: The error to raise in place of the usual one.

        Raises:
            BatchError: Another process has it (AE-BATCH-003).
        """
        try:
            handle, _ = lock_now(self.root / f".{name}.lock")
        except LockedError:
            raise in_use or BATCH_IN_USE("another process works on this batch.") from None
        try:
            yield
        finally:
            os.close(handle)

    def serving(self) -> AbstractContextManager[None]:
        """Keep other services from the folder while the block runs; :meth:`locked` is for each look.

        Raises:
            BatchError: Another service uses it (AE-BATCH-003).
        """
        error = BATCH_IN_USE(
            "another service uses the output folder.", remedy="End it, or give another folder with `-o`."
        )
        return self.locked("index-service", error)

    def sweep(self, of_scan: Callable[[str], bool]) -> None:
        """Remove what killed workers left, while no worker runs on these scans.

        Args:
            of_scan: Function that says of the id of a scan whether it may be swept.
        """
        for folder in (self._work, self._failed):
            sweep(folder)
        for leftover in self._work.glob("[!.]*"):
            if of_scan(leftover.name.partition("-")[0]):
                shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def new_results(self, job: Job) -> Iterator[Path]:
        """A folder to fill, which becomes the folder of the scan when the block ends well.

        Results of files that have changed since are replaced. Where another worker was faster, its results
        stay: they are the same.
        """
        stage = self._work / f"{job.id}-{uuid.uuid4().hex[:8]}"
        before = stage.with_name(f"{stage.name}-old")
        try:
            yield stage
            with explained():
                (stage / _STAMP).write_text(job.stamp)
                sync(stage / _STAMP)
                sync(stage)
                if not self.is_done(job):
                    with suppress(FileNotFoundError):
                        (self.scans / job.id).rename(before)
                try:
                    stage.rename(self.scans / job.id)
                except OSError:
                    if not self.is_done(job):
                        raise
                self._fault_path(job.id).unlink(missing_ok=True)
        finally:
            for leftover in (stage, before):
                shutil.rmtree(leftover, ignore_errors=True)

    def is_done(self, job: Job) -> bool:
        """Whether the results of a scan are there, made of its files as they are.

        A service asks this of every scan twice a second, so statistics that were whole are not read again.
        """
        if not self._is_of_these_files(job):
            return False
        try:
            found = (self.scans / job.id / STATISTICS).stat()
        except OSError:
            return False
        file = job.id, found.st_mtime_ns, found.st_size
        if file not in self._whole and self.statistics(job) is not None:
            self._whole.add(file)
        return file in self._whole

    def statistics(self, job: Job) -> dict[str, Any] | None:
        """The statistics of a scan that is done; None of another one, and of one whose files are damaged."""
        if not self._is_of_these_files(job):
            return None
        try:
            content = json.loads((self.scans / job.id / STATISTICS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and content.keys() >= _FACTS else None

    def _is_of_these_files(self, job: Job) -> bool:
        """Whether the folder of a scan was made of its files as they are."""
        try:
            return (self.scans / job.id / _STAMP).read_text() == job.stamp
        except (OSError, ValueError):
            return False

    def fault(self, job: Job) -> Fault | None:
        """The error of a scan that failed with its files as they are; None if it is damaged."""
        try:
            content = json.loads(self._fault_path(job.id).read_text(encoding="utf-8"))
            return Fault(**content["error"]) if content["stamp"] == job.stamp else None
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def set_fault(self, job: Job, fault: Fault) -> None:
        """Keep the error of a scan in place of older results, and in the record of what ran.

        It is kept in the words of the command line, as the table and the page show it.

        Raises:
            OutputError, AuditError: See :func:`autosam_edge.audit.append`; the error cannot be written.
        """
        append(self.record, {"scan": job.id, "error": fault.code})
        if not self.is_done(job):  # another worker may have been luckier
            self._remove_results(job.id)
        error = {key: with_options(text) for key, text in asdict(fault).items()}
        if any(option in error["remedy"] for option in _OF_ALL_SCANS):
            error["remedy"] += _ALONE
        content = {"error": error, "stamp": job.stamp}
        write_file((json.dumps(content, indent=2) + "\n").encode(), self._fault_path(job.id))

    def remove(self, scan: str) -> None:
        """Remove the results and the error of a scan."""
        self._remove_results(scan)
        self._fault_path(scan).unlink(missing_ok=True)

    def _remove_results(self, scan: str) -> None:
        """Remove the results of a scan; they vanish whole, as they have appeared."""
        leftover = self._work / f"{scan}-{uuid.uuid4().hex[:8]}-old"
        with explained(), suppress(FileNotFoundError):
            (self.scans / scan).rename(leftover)
        shutil.rmtree(leftover, ignore_errors=True)

    def _fault_path(self, scan: str) -> Path:
        return self._failed / f"{scan}.json"
