"""What this Python lacks: parts of the standard library and of the dependencies that a browser's has not."""

from __future__ import annotations

import importlib.util

try:
    from lzma import LZMAError as LZMAError
except ImportError:  # without this part of the standard library no archive with LZMA is opened

    class LZMAError(Exception):  # type: ignore[no-redef]
        """Never raised: there is no decoder."""


def can_draw() -> bool:
    """Whether Pillow is there, which draws the preview."""
    try:
        return importlib.util.find_spec("PIL.ImageDraw") is not None
    except ModuleNotFoundError:  # not even the package that holds it
        return False
