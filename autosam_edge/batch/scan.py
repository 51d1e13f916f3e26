"""Segment one scan of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.audit import append_run
from autosam_edge.batch.job import Fault
from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import DISK_FULL, OUTPUT_BUSY, OUTPUT_NOT_WRITABLE
from autosam_edge.errors import CancelledError, OutputError
from autosam_edge.read_scan import read
from autosam_edge.session import open_session
from autosam_edge.write_results import write

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.batch.folder import BatchFolder
    from autosam_edge.batch.job import Job, Settings


_OF_THE_PLACE = {code.code for code in (DISK_FULL, OUTPUT_BUSY, OUTPUT_NOT_WRITABLE)}


class Scanner:
    """Segments one scan after the other with one loaded model.

    Raises:
        BundleError: The model cannot be opened.
        BudgetError: A memory limit is set, and the memory of the artifact is not known.
        EngineError: The engine cannot be loaded.
    """

    def __init__(self, folder: BatchFolder, settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        self._session = open_session(
            settings.bundle,
            tier=settings.tier,
            engine=settings.engine,
            precision=settings.precision,
            threads=settings.threads,
            max_memory_mb=settings.max_memory_mb,
        )

    def segment(self, job: Job, progress: Callable[[int, int], None] | None = None) -> Fault | None:
        """Segment a scan and publish its results, or keep its error.

        Args:
            progress: Function that is called with (tiles done, tiles in all) after each tile.

        Returns:
            The error of the scan; None when its results are there.

        Raises:
            CancelledError: The caller asked to stop.
            OutputError: The folder cannot be written (AE-OUTPUT-001), the disk is full (-003), or another
                process blocks the folder (-007): no fault of the scan.
            AuditError: See :func:`autosam_edge.audit.append`: nothing can be kept.
        """
        if self._folder.is_done(job):
            return None
        fault = job.fault
        try:
            if fault is None:
                self._segment(job, progress)
        except CancelledError:
            raise
        except Exception as error:  # one scan never stops the others
            if isinstance(error, OutputError) and error.code in _OF_THE_PLACE:
                raise
            fault = Fault.of(error)
        if fault is not None:
            self._folder.set_fault(job, fault)
        return fault

    def _segment(self, job: Job, progress: Callable[[int, int], None] | None) -> None:
        settings, files = self._settings, [Path(path) for path in job.files]
        limit = settings.max_memory_mb
        if job.dicom:
            volume = read_dicom(files, choices=settings.choices, max_memory_mb=limit)
        else:
            volume = read(files[0], **vars(settings.choices), max_memory_mb=limit)
        segmentation = self._session.segment(volume, progress=progress)
        with self._folder.new_results(job) as stage:
            write(
                volume,
                segmentation,
                stage,
                formats=settings.formats and tuple({*settings.formats, "json"}),  # the table is made of it
                accept_implausible=settings.accept_implausible,
                pseudonymize=settings.pseudonymize,
            )
            append_run(self._folder.record, segmentation, stage.iterdir())
