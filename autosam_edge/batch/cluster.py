"""The scans of a batch on a Dask cluster whose computers share the folders."""

from __future__ import annotations

from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from autosam_edge.batch.folder import BatchFolder
from autosam_edge.batch.job import Fault, Job, Settings
from autosam_edge.batch.scan import Scanner
from autosam_edge.error_codes import CLUSTER_UNREACHABLE, RESULTS_ELSEWHERE, WORKER_DIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from distributed import Client


def has_workers(scheduler: str) -> bool:
    """Whether the cluster has workers by now.

    Args:
        scheduler: Address of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Raises:
        BatchError: The scheduler cannot be reached (AE-BATCH-008).
    """
    with _connected(scheduler) as client, _explained():
        return bool(client.scheduler_info()["workers"])


def segment_on_dask(
    jobs: Iterable[Job], root: Path, settings: Settings, scheduler: str
) -> Iterator[tuple[Job, Fault | None]]:
    """Segment scans; results are given as they come, in no order.

    Args:
        root: Folder of the batch, under the same path on every computer.
        scheduler: Address of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Yields:
        Each scan, and its error or None.

    Raises:
        AutosamEdgeError: The model cannot be loaded.
        BatchError: Results are not in the folder (AE-BATCH-007), or the scheduler cannot be reached or has
            ended (-008).
    """
    from distributed import KilledWorker, as_completed
    from distributed.comm import CommClosedError

    folder, done = BatchFolder(root), set[str]()
    with _connected(scheduler) as client:
        futures = {
            client.submit(_segment, job, root, settings, key=f"autosam-edge-{job.id}", pure=False): job
            for job in jobs
        }
        for future in as_completed(futures):
            job = futures[future]
            try:
                fault = future.result()
            except (CommClosedError, CancelledError) as error:
                raise CLUSTER_UNREACHABLE("the scheduler of the cluster has ended.") from error
            except KilledWorker:
                fault = Fault.of(WORKER_DIED("workers of the cluster ended over this scan."))
                folder.set_fault(job, fault)
            if fault is None:
                done.add(job.id)
            yield job, fault
        # A list of the folder, as a network share may say for a while of a file that it is not there.
        if lost := done - {path.name for path in folder.scans.iterdir()}:
            raise RESULTS_ELSEWHERE(f"{len(lost)} scans were segmented, but their results are not here.")


def _connected(scheduler: str) -> Client:
    from distributed import Client

    with _explained():
        return Client(scheduler)


@contextmanager
def _explained() -> Iterator[None]:
    """An error of the network, or of what is no address, with our code."""
    try:
        yield
    except (OSError, OverflowError, ValueError) as error:
        raise CLUSTER_UNREACHABLE(
            f"the scheduler of the cluster cannot be reached ({type(error).__name__})."
        ) from error


@cache
def _scanner(root: Path, settings: Settings) -> Scanner:
    """One loaded model in each process."""
    return Scanner(BatchFolder(root), settings)


def _segment(job: Job, root: Path, settings: Settings) -> Fault | None:
    return _scanner(root, settings).segment(job)
