"""The paths of files that messages name by their number; printed only when a person asks for them."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from autosam_edge.errors import AutosamEdgeError
from autosam_edge.read_scan import numbered_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NUMBERED = re.compile(r"\bfile (\d+) of (\d+)\b")


@contextmanager
def paths_shown(source: Path, *, wanted: bool) -> Iterator[None]:
    """After an error in the block, print the path of each file that its message names by number, on stderr.

    Args:
        wanted: Whether to print them; a path often holds a patient's name.
    """
    try:
        yield
    except AutosamEdgeError as error:
        if wanted:
            with suppress(AutosamEdgeError, OSError):  # the error of the block is the one to show
                files = numbered_files(source)
                for number, count in dict.fromkeys(_NUMBERED.findall(error.message)):
                    if int(count) == len(files):  # otherwise the folder has changed meanwhile
                        print(f"file {number} of {count} is {files[int(number) - 1]}", file=sys.stderr)
        raise
