"""A small NIfTI volume, and files whose headers hold what no writer writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

HU_XYZ = (np.arange(3 * 4 * 5).reshape(5, 4, 3).T - 1000).astype(np.int16)  # (x, y, z)
RAS = np.array([[-0.9, 0, 0, 100], [0, -0.5, 0, 50], [0, 0, 2.5, 300], [0, 0, 0, 1.0]])
DIM, PIXDIM, OFFSET, SCALE, UNITS, QUATERNION = 40, 76, 108, 112, 123, 256  # bytes of the header of NIfTI-1


def patched(path: Path, place: int, values: Any) -> Path:
    """A file that is not compressed, whose bytes at a place are replaced by those of an array."""
    raw = bytearray(path.read_bytes())
    raw[place : place + values.nbytes] = values.tobytes()
    path.write_bytes(bytes(raw))
    return path
