"""The process in which inputs are read: one after the other, and what became of each."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import autosam_edge
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.memory import peak_mb
from autosam_edge_benchmarks.fuzz.dicom_seeds import Files
from autosam_edge_benchmarks.fuzz.kept_child import keep_children
from autosam_edge_benchmarks.fuzz.kinds import SECRETS, Kind, WrongResult

_PACKAGE = Path(autosam_edge.__file__).parent


class Outcome(NamedTuple):
    """What became of one input.

    Args:
        result: ``read``, the code of an error, or ``untyped``, ``wrong``, ``hung``, ``large`` or ``died``.
        place: Where an untyped exception was raised, ``file:line`` and its class; else empty.
        contained: How a child process failed, see :class:`~autosam_edge.system.child_process.ChildFailed`;
            else empty.
        seconds: Time to read it, s.
        peak_mb: Largest resident memory of the process, MB; 0 where the system does not tell it.
    """

    number: int
    result: str
    place: str = ""
    contained: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0


def work(connection: Connection, folder: str) -> None:
    """Read inputs until the other side closes; it sends a kind and numbers, and gets outcomes."""
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 2)  # native code prints there
    children = keep_children()
    connection.send(None)  # it has started
    while True:
        try:
            name, kind, numbers = connection.recv()
        except EOFError:
            return
        for number in numbers:
            place = write_input(kind.make(name, number), Path(folder))
            _reset_peak()
            started = time.perf_counter()
            result, where = try_input(kind, place)
            seconds = time.perf_counter() - started
            contained = next((child.contained for child in children if child.contained), "")
            for child in children:
                child.contained = ""
            connection.send(Outcome(number, result, where, contained, round(seconds, 4), _peak_mb()))
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        gc.collect()


def write_input(files: Files, folder: Path) -> Path:
    """Write the files of an input; the path to read."""
    made: set[Path] = set()
    for name, content in files.items():
        path = folder / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(content)
    return folder / next(iter(files)).partition("/")[0]


def try_input(kind: Kind, path: Path) -> tuple[str, str]:
    """Read an input: the result and the place of an :class:`Outcome`."""
    try:
        kind.load(path)
    except AutosamEdgeError as error:
        text = str(error)
        if "\n" in text or str(path.parent) in text or any(secret in text for secret in SECRETS):
            return "wrong", f"{error.code} quotes the patient or a path"
        return error.code, ""
    except WrongResult as error:
        return "wrong", str(error)
    except Exception as error:  # the harness looks for these
        return "untyped", _place(error)
    return "read", ""


def _place(error: BaseException) -> str:
    """Innermost line of our package, innermost line at all, and the class of an exception."""
    frames = [*traceback.extract_tb(error.__traceback__)]
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)] or frames
    lines = dict.fromkeys(f"{_short(frame.filename)}:{frame.lineno}" for frame in (ours[-1], frames[-1]))
    return f"{' in '.join(reversed(list(lines)))} {type(error).__name__}"


def _short(name: str) -> str:
    path = Path(name)
    return path.relative_to(_PACKAGE).as_posix() if path.is_relative_to(_PACKAGE) else path.name


def _reset_peak() -> None:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    return round(peak_mb(), 1) if sys.platform == "linux" else 0.0
