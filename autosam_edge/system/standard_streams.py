"""Stdout and stderr that never stop a run, whether they are closed, full, or a pipe that nobody reads."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TextIO

_first_error: OSError | None = None


class _Lasting(io.RawIOBase):
    """A descriptor whose errors are noted and not raised; what follows an error is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        global _first_error
        size = len(data)
        if self._error is not None:
            return size
        try:
            if os.name != "nt":  # a terminal may be set not to wait by another program
                select.select((), (self._descriptor,), ())
            return os.write(self._descriptor, data)
        except OSError as error:
            self._error = error
            if self._descriptor == 1:
                _first_error = error
            return size


def guard_streams() -> None:
    """Make the standard streams safe; called before anything is printed.

    A closed one becomes the null device: otherwise the first file that is opened would take its number, and
    receive what native code prints. A letter that the terminal cannot show is printed as an escape.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # noqa: PERF203
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stdout, sys.stderr = _guarded(sys.stdout, 1), _guarded(sys.stderr, 2)


def stdout_error() -> OSError | None:
    """The first error of stdout so far; None if all was printed."""
    sys.stdout.flush()
    return _first_error


def _guarded(stream: TextIO | None, number: int) -> TextIO:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    lines = number == 2 or os.isatty(number)
    raw = io.BufferedWriter(_Lasting(number))  # type: ignore[type-var]  # the stubs ask for more than is used
    return io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", line_buffering=lines)
