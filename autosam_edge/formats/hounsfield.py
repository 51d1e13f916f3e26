"""Values of formats without a modality as Hounsfield units, with the checks that they need."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from autosam_edge.errors import ErrorCode
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.warning_codes import NOTHING_BELOW_WATER


def as_hu(values: npt.NDArray[Any], code: ErrorCode) -> tuple[npt.NDArray[Any], list[ScanWarning]]:
    """Bring values to the smallest of int16, int32 and float32 that holds them, in C order.

    Args:
        values: (D, H, W), HU, any real type; not changed.
        code: Error code of the format.

    Returns:
        The array and warnings.

    Raises:
        InputError: The values are not real numbers, not finite, or beyond int32.
    """
    if values.dtype.kind not in "iuf":
        raise code(
            "the voxels are complex, colored or no numbers, expected HU.", remedy="Give a CT volume in HU."
        )
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise code(
            "the voxels hold NaN or infinity, expected HU.",
            remedy="Replace them with -1024 HU if they are padding.",
        )
    if max(-low, high) > np.iinfo(np.int32).max:
        raise code("the voxels reach beyond 32 bits, expected HU.", remedy="Give a CT volume in HU.")
    dtype: type = np.float32
    if values.dtype.kind in "iu":
        dtype = np.int16 if low >= -32768 and high <= 32767 else np.int32
    warnings = (
        [NOTHING_BELOW_WATER("No voxel is below 0 HU: the values may not be Hounsfield units.")]
        if low >= 0
        else []
    )
    return np.array(values, dtype=dtype, order="C"), warnings
