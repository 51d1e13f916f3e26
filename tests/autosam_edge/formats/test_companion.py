"""The file of voxels has the name that stands in the header, letter for letter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  as its own documentation does
from autosam_edge_test_hazards import hazard

from autosam_edge.formats.companion import companion_status
from autosam_edge.read_scan import read

AREA = "NIfTI, NRRD and MetaImage"
HU = (np.arange(5 * 4 * 3).reshape(5, 4, 3) - 1000).astype(np.int16)


def write(path: Path, hu: np.ndarray) -> Path:
    """A header and ``.raw`` beside it, written by ITK; return the file of voxels."""
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((0.9, 0.5, 2.5))
    sitk.WriteImage(image, str(path))
    return path.with_suffix(".raw")


@hazard(AREA, "detached header whose voxels have a name with letters that are not ASCII", "read")
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_a_name_that_is_not_ascii_is_that_file_and_no_other(tmp_path: Path, ending: str) -> None:
    """A reader that leaves the letters out would take the voxels of another scan."""
    write(tmp_path / f"scan_2{ending}", HU)
    voxels = write(tmp_path / f"scan_ü2{ending}", HU[::-1].copy())
    header = tmp_path / f"scan_ü2{ending}"
    volume = read(header)
    assert volume.source.files == (header, voxels)
    np.testing.assert_array_equal(volume.hu, HU[::-1])
    assert companion_status(header) == voxels.stat()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names of any bytes")
@pytest.mark.parametrize("on_disk", ["ä ü.raw", os.fsdecode("ä ü.raw".encode("latin-1"))])
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_a_header_in_latin_1_finds_its_voxels(tmp_path: Path, ending: str, on_disk: str) -> None:
    """Older programs on Windows write so; the file may have been renamed to UTF-8 when it was copied."""
    write(tmp_path / f"v{ending}", HU).rename(tmp_path / on_disk)
    header = tmp_path / f"v{ending}"
    header.write_bytes(header.read_bytes().replace(b"v.raw", "ä ü.raw".encode("latin-1")))
    assert read(header).source.files == (header, tmp_path / on_disk)
