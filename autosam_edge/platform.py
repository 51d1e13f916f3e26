"""What this Python lacks: parts of the standard library and of the dependencies that a browser's has not."""

from __future__ import annotations

import importlib.util
import sys

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


def peak_resident_mb() -> float:
    """Largest resident memory so far as the system counts it, MB; 0 if it does not tell."""
    try:
        import resource
    except ImportError:  # Windows and browsers
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024.0**2 if sys.platform == "darwin" else peak / 1024.0
