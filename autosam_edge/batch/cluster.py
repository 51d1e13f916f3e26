"""The scans of a batch on a Dask cluster whose computers share the folders."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from autosam_edge.batch.folder import BatchFolder
from autosam_edge.batch.job import Fault, Job, Settings
from autosam_edge.batch.scan import Scanner
from autosam_edge.error_codes import RESULTS_ELSEWHERE, WORKER_DIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def segment_on_dask(
    jobs: Iterable[Job], root: Path, settings: Settings, scheduler: str
) -> Iterator[tuple[Job, Fault | None]]:
    """Segment scans; results are given as they come, in no order.

    Args:
        jobs: The scans.
        root: Folder of the batch, under the same path on every computer.
        settings: What all scans share.
        scheduler: Address of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Yields:
        Each scan, and its error or None.

    Raises:
        AutosamEdgeError: The model cannot be loaded.
        BatchError: Results are not in the folder (AE-BATCH-007).
    """
    from distributed import Client, KilledWorker, as_completed

    folder, done = BatchFolder(root), set[str]()
    with Client(scheduler) as client:
        futures = {
            client.submit(_segment, job, root, settings, key=f"autosam-edge-{job.id}", pure=False): job
            for job in jobs
        }
        for future in as_completed(futures):
            job = futures[future]
            try:
                fault = future.result()
            except KilledWorker:
                fault = Fault.of(WORKER_DIED("workers of the cluster ended over this scan."))
                folder.set_fault(job, fault, settings.record)
            if fault is None:
                done.add(job.id)
            yield job, fault
        # A list of the folder, as a network share may say for a while of a file that it is not there.
        if lost := done - {path.name for path in folder.scans.iterdir()}:
            raise RESULTS_ELSEWHERE(f"{len(lost)} scans were segmented, but their results are not here.")


@cache
def _scanner(root: Path, settings: Settings) -> Scanner:
    """One loaded model in each process."""
    return Scanner(BatchFolder(root), settings)


def _segment(job: Job, root: Path, settings: Settings) -> Fault | None:
    return _scanner(root, settings).segment(job)
