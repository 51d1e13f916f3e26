"""A batch whose inputs were looked at, and the loop of a service that works it off."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from autosam_edge.batch.batch import Batch
from autosam_edge.node.status import Counts
from autosam_edge.node.watch import watch


def indexed(*arguments, **options):
    batch = Batch(*arguments, **options)
    batch.update_index()
    return batch


@contextmanager
def watching(batch, **options):
    """Watch in a thread while the block runs; gives the counts of what was done."""
    counts, stop = Counts(), threading.Event()
    told = {"counts": counts, **options}
    loop = threading.Thread(target=watch, args=(batch, stop), kwargs=told, daemon=True)
    loop.start()
    try:
        yield counts
    finally:
        stop.set()
        loop.join()
