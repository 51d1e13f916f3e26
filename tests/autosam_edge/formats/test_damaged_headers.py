"""Whatever bytes a header holds, the readers give a volume or an error of ours."""

from __future__ import annotations

import gzip
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from autosam_edge.errors import AutosamEdgeError
from autosam_edge.read_scan import read

HU_XYZ = (np.arange(3 * 4 * 5).reshape(3, 4, 5) - 1000).astype(np.int16)
RAS = np.diag([-0.9, -0.5, 2.5, 1.0])
NRRD_HEADER = {"space": "LPS", "space directions": np.diag([0.9, 0.5, 2.5]), "space origin": np.zeros(3)}
METAIMAGE = b"""NDims = 3
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = 0.9 0.5 2.5
DimSize = 3 4 5
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
KINDS = ("nifti-1", "nifti-2", "nifti.gz", "nrrd", "nrrd.gz", "metaimage", "pair")


@cache
def sound(kind: str) -> bytes:
    """A sound file; of the pair, the header."""
    image = nib.Nifti1Image(HU_XYZ, RAS)
    image.header["qform_code"] = 1
    if kind.startswith("nrrd"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "v.nrrd"
            nrrd.write(str(path), HU_XYZ, {**NRRD_HEADER, "encoding": "gzip" if "gz" in kind else "raw"})
            return path.read_bytes()
    if kind == "pair":
        return bytes(nib.Nifti1Pair(HU_XYZ, RAS).header.binaryblock)
    return {
        "nifti-1": image.to_bytes(),
        "nifti-2": nib.Nifti2Image(HU_XYZ, RAS).to_bytes(),
        "nifti.gz": gzip.compress(image.to_bytes()),
        "metaimage": METAIMAGE + HU_XYZ.tobytes(order="F"),
    }[kind]


def read_or_refuse(path: Path, content: bytes) -> None:
    """Read a file; only errors of ours may come, in one line."""
    path.write_bytes(content)
    try:
        volume = read(path)
    except AutosamEdgeError as error:
        assert "\n" not in str(error)  # noqa: PT017  both outcomes are right
    else:
        assert volume.hu.size <= 10_000


@hazard("NIfTI, NRRD and MetaImage", "any bytes of a header changed", "read or refused with a code")
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
@example(changes=[(0.0, 0)])
@example(changes=[(0.6743155472924075, 0)])  # in NIfTI-2, an axis whose length is 0 by underflow
def test_flipped_bytes(kind: str, changes: Any, tmp_path: Path) -> None:
    """Places are shares of the length, so each example hits every kind of file."""
    content = bytearray(sound(kind))
    for share, value in changes:
        content[int(share * (len(content) - 1))] = value
    if kind == "pair":
        (tmp_path / "v.img").write_bytes(HU_XYZ.tobytes(order="F"))
    read_or_refuse(tmp_path / "v.hdr", bytes(content))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_files(kind: str, tmp_path: Path) -> None:
    """Wherever a file ends."""
    content = sound(kind)
    for end in range(0, len(content), max(1, len(content) // 60)):
        read_or_refuse(tmp_path / "v.hdr", content[:end])


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("dim", [[8] * 8, [3, -1, 1, 1, 1, 1, 1, 1], [3, 27307, 1, 6, 1, 1, 1, 1], [0] * 8, [-3] * 8]),
        ("vox_offset", [np.nan, np.inf, -1.0, 1e30, 3.0]),
        ("scl_slope", [np.nan, np.inf, 0.0, 1e38]),
        ("scl_inter", [np.nan, np.inf, 1e38]),
        ("datatype", [0, 1, 3, 255, 256, 1536, 2048, 2304, -1]),
        ("pixdim", [[np.nan] * 8, [np.inf] * 8, [0] * 8, [-1] * 8, [1e38] * 8]),
        ("quatern_b", [np.nan, np.inf, 5.0]),
        ("srow_x", [[1e20, 0, 0, 0], [np.nan] * 4, [np.inf] * 4, [0] * 4, [1e38] * 4]),
        ("qform_code", [-1, 99, 32767]),
        ("sform_code", [-1, 99, 0]),
        ("xyzt_units", [255, 7, 3]),
    ],
)
def test_absurd_fields_of_nifti(field: str, values: list[Any], tmp_path: Path) -> None:
    """Values that no writer writes."""
    for value in values:
        image = nib.Nifti1Image(HU_XYZ, RAS)
        image.header["qform_code"] = 1
        content = bytearray(image.to_bytes())
        header = np.frombuffer(bytes(content[:348]), nib.Nifti1Header.template_dtype).copy()
        header[field] = value
        content[:348] = header.tobytes()
        read_or_refuse(tmp_path / "v.nii", bytes(content))
