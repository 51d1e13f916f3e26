"""Child processes that serve many inputs, as the start of one takes longer than a hundred inputs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

from autosam_edge.dicom import decoder
from autosam_edge.engines import load
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.child_process import ChildFailed, ChildWorker


class KeptChild:
    """Stands in for :class:`~autosam_edge.system.child_process.ChildWorker`: the same child until it fails.

    Args:
        module: Module of the child, see there.
    """

    def __init__(self, module: str) -> None:
        self._module, self._worker, self._waiting = module, None, 0
        self._failed = False
        self.contained = ""

    _worker: ChildWorker | None

    def __call__(self, _module: str, _arguments: Sequence[str] = ()) -> KeptChild:
        """What the constructor would give."""
        return self

    def __exit__(self, *_: object) -> None:
        """The end of one input: what it left is taken away; a child that has failed ends."""
        if self._worker is None:
            return
        while self._waiting and not self._failed:
            with contextlib.suppress(AutosamEdgeError, ChildFailed):
                self.receive(seconds=20.0, max_output_bytes=1 << 30)
        if self._failed:
            self._worker.__exit__()
            self._worker, self._waiting, self._failed = None, 0, False

    def send(self, data: bytes, *, seconds: float, memory_mb: float) -> None:
        """See :meth:`~autosam_edge.system.child_process.ChildWorker.send`."""
        self._worker = self._worker or ChildWorker(self._module)
        self._waiting += 1
        self._worker.send(data, seconds=seconds, memory_mb=memory_mb)

    def receive(self, *, seconds: float, max_output_bytes: int = 1 << 20) -> bytes | memoryview:
        """See :meth:`~autosam_edge.system.child_process.ChildWorker.receive`."""
        assert self._worker is not None
        self._waiting -= 1
        try:
            return self._worker.receive(seconds=seconds, max_output_bytes=max_output_bytes)
        except ChildFailed as failed:
            self._failed, self.contained = True, failed.reason
            raise

    def run(self, _module: str, arguments: Sequence[str] = (), *, seconds: float, memory_mb: float) -> bytes:
        """Stands in for :func:`~autosam_edge.system.child_process.run_child`."""
        try:
            self.send(json.dumps(arguments).encode(), seconds=seconds, memory_mb=memory_mb)
            return bytes(self.receive(seconds=seconds))
        finally:
            self.__exit__()


def keep_children() -> tuple[KeptChild, KeptChild]:
    """Let the decoder of pixels and the trial of models use a kept child in this process."""
    pixels, trials = KeptChild("autosam_edge.dicom.codecs"), KeptChild(__name__)
    decoder.ChildWorker = pixels  # type: ignore[assignment,attr-defined]
    load.run_child = trials.run  # type: ignore[assignment,attr-defined]
    return pixels, trials


def run_in_child(_arguments: list[str], data: bytes) -> bytes:
    """The trial of a model; its arguments come as data."""
    return load.run_in_child(json.loads(data), b"")
