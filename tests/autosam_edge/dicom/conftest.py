"""Tests of DICOM write invalid files on purpose."""

from __future__ import annotations

from autosam_edge_test_ct import lenient_writing  # noqa: F401  used by every test
from autosam_edge_test_seg import segmentation, series  # noqa: F401  fixtures of the DICOM SEG
