"""Signals that ask the command line to stop. Nothing is imported that takes time to load."""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

MESSAGE = (
    "error AE-CANCEL-001: stopped on request; no unfinished result was left. "
    "Remedy: Run the command again; a batch, a service or a training goes on where it stopped."
)
"""The one line about a stopped run, as :data:`autosam_edge.error_codes.CANCELLED` words it."""
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Names of the signals; Windows does not have the last one."""
_CLEANING_S = 5.0  # what runs after the first signal removes files, and a second Ctrl-C must not stop it

_running = False
_received: tuple[int, float] | None = None


def catch_signals() -> None:
    """Catch SIGINT, SIGTERM and SIGHUP from now on; one that is ignored already, as by nohup, stays so.

    Until :func:`run_begins` there is nothing to clean up: the program says one line and ends at once, as an
    exception inside an import could come out as another one.
    """
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def run_begins() -> None:
    """From now on a signal raises KeyboardInterrupt, so that every block cleans up."""
    global _running
    _running = True


def run_ends() -> None:
    """From now on the signals are ignored: the exit code is known, and only the interpreter is taken down.

    In that time Python gives each signal its default back, which would end a success with another exit code.
    A signal that is ignored stays ignored.
    """
    for number in signal.valid_signals():
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)


def exit_code() -> int | None:
    """128 + the number of the signal that came; None if none came."""
    return None if _received is None else 128 + _received[0]


def is_told(number: int) -> bool:
    """Whether this process tells that the signal has stopped it.

    ``torchrun`` stops the other processes of a training when one of them ends with an error, which that one
    has told; Ctrl-C reaches all of them.
    """
    rank = os.environ.get("LOCAL_RANK")
    return rank is None or (rank == "0" and number == signal.SIGINT)


def _stop(number: int, _frame: FrameType | None) -> None:
    global _received
    if not _running:
        try:
            if is_told(number):
                os.write(2, f"{MESSAGE}\n".encode())
        finally:
            os._exit(128 + number)
    now = time.monotonic()
    if _received is not None and now - _received[1] < _CLEANING_S:
        return
    _received = number, now
    raise KeyboardInterrupt
