"""A process that puts files into a folder and kills itself at a step: ``OUT TEXT STEP NAME...``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from autosam_edge.output_formats import FILE_NAMES
from autosam_edge.system.atomic_files import staged_results

_EVENTS = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.fsync", "open"})


class _Killer:
    """Counts what changes the disk, and kills the process before a certain one.

    Args:
        step: Number of the change, from 1; 0 kills never.
    """

    def __init__(self, step: int) -> None:
        self.step, self.count = step, 0
        self._fsync = os.fsync

    def on_event(self, event: str, arguments: tuple[object, ...]) -> None:
        reads = event == "open" and not int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR)
        if event not in _EVENTS or reads:
            return
        self.count += 1
        if self.count == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync(self, handle: int) -> None:
        self.on_event("os.fsync", ())
        self._fsync(handle)


def main(out: str, text: str, step: str, *names: str) -> None:
    """Write files of one content.

    Args:
        out: Folder that receives them.
        text: Content of every file.
        step: Number of the change of the disk before which the process is killed; 0 for none.
        names: Names of the files.
    """
    killer = _Killer(int(step))
    os.fsync = killer.fsync  # type: ignore[assignment]  # only descriptors are given
    sys.addaudithook(killer.on_event)
    with staged_results(Path(out), list(FILE_NAMES.values())) as stage:
        for name in names:
            (stage / name).write_text(text)
    killer.step = 0
    print(killer.count)


if __name__ == "__main__":
    main(*sys.argv[1:])
