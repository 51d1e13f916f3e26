"""The node: receive, segment, send, one after the other and for ever; its state is on the disk."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from autosam_edge.error_codes import BATCH_IN_USE, INPUT_UNREADABLE, PATH_MISSING, SEG_SOURCE_UNUSABLE
from autosam_edge.errors import BatchError, InputError, OutputError
from autosam_edge.node.log import log
from autosam_edge.system.atomic_files import explained

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from autosam_edge.batch.batch import Batch
    from autosam_edge.batch.job import Job
    from autosam_edge.node.inbox import Inbox
    from autosam_edge.node.sender import Outbox
    from autosam_edge.node.status import Counts

_PAUSE_S = 0.5
_AWAY_S = 5.0
_MOST_AWAY_S = 300.0
_RETRY_S, _MOST_RETRY_S = 600.0, 86400.0
# Files of the scan may have been away.
_RETRIED = frozenset({PATH_MISSING.code, INPUT_UNREADABLE.code, SEG_SOURCE_UNUSABLE.code})


def watch(
    batch: Batch,
    stop: Event,
    *,
    counts: Counts,
    inbox: Inbox | None = None,
    outbox: Outbox | None = None,
    on_tile: Callable[[Job, int, int], None] | None = None,
    on_wait: Callable[[], None] | None = None,
    retry: frozenset[str] = _RETRIED,
) -> None:
    """Segment what comes into the folders of a batch until ``stop`` is set.

    Args:
        batch: The folders, and where the results go. Its selection says how long a scan must be unchanged.
        stop: Event that ends the loop after the scan in hand.
        counts: Counts ``segmented`` and ``failed`` scans, and series of fewer than three slices, which are
            ``passed_over``; holds the code of the error over which the loop waits.
        inbox: Inbox whose complete studies come into the folder of the batch; None if other programs fill it.
        outbox: Where the results are sent; None keeps them.
        on_tile: Function that is called with the scan, the tiles done and the tiles in all after each tile.
        on_wait: Function that is called when no scan is in hand, as the loop waits for a folder or a disk.
        retry: Codes of errors whose scans are tried again, ever less often.
    """
    pause, away_s, passed_over = 0.0, _AWAY_S, set[str]()
    # Of scans that failed: monotonic time of the next try, and the pause before it.
    due: dict[tuple[str, str], tuple[float, float]] = {}
    while not stop.wait(pause):
        try:
            with explained():
                if inbox is not None:
                    inbox.collect()
                if outbox is not None:  # before what another process may keep from us
                    outbox.send_due()
                started, before = time.monotonic(), {job.id for job in batch.jobs}
                batch.update_index()
                # A look takes a tenth of the time at most.
                pause = max(_PAUSE_S, 9 * (time.monotonic() - started))
                for scan in batch.passed_over():
                    if scan not in passed_over:
                        passed_over.add(scan)
                        counts.add("passed_over")
                        log("passed_over", scan=scan, reason="fewer than three slices")
                now = time.monotonic()
                todo = [job for job in batch.todo(retry) if due.get((job.id, job.stamp), (now,))[0] <= now]
                for job, fault in batch.run(todo, workers=1, on_tile=on_tile) if todo else ():
                    event, facts = ("failed", {"code": fault.code}) if fault else ("segmented", {})
                    if fault and fault.code in retry:
                        _, last_s = due.get((job.id, job.stamp), (0, _RETRY_S / 2))
                        retry_s = min(2 * last_s, _MOST_RETRY_S)  # the fault may last for ever
                        # When a fault of the index ends, the stamp is another.
                        next_try = math.inf if job.fault else time.monotonic() + retry_s
                        due[job.id, job.stamp] = next_try, retry_s
                    counts.waiting_code = None
                    counts.add(event)
                    log(event, scan=job.id, **facts)
                    if outbox is not None:
                        outbox.send_due()
                    if stop.is_set():
                        break
                if todo or not before <= {job.id for job in batch.jobs}:  # one was removed
                    batch.finish()
            away_s, counts.waiting_code = _AWAY_S, None
        except (InputError, OutputError, BatchError) as error:
            # A share that is away for a while, a full disk, or a person's `batch` on the same folder.
            if isinstance(error, BatchError) and error.code != BATCH_IN_USE.code:
                raise
            counts.waiting_code = error.code
            log("waiting", code=error.code)
            if on_wait is not None:
                on_wait()
            if isinstance(error, InputError):
                away_s = _AWAY_S
            pause = away_s
            if isinstance(error, OutputError):  # the scan in hand is segmented again each time
                away_s = min(2 * away_s, _MOST_AWAY_S)
