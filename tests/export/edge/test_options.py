"""Options that do not fit together are refused."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")

from autosam_edge_export.edge import EdgeOptions


@pytest.mark.parametrize("for_planes", [{"norm": "means"}, {"transposed": "shuffle"}], ids=str)
def test_options_for_planes_are_refused_with_3d_convolutions(for_planes):
    """Rather than not looked at."""
    with pytest.raises(ValueError, match="forms for planes"):
        EdgeOptions(**for_planes)
    assert EdgeOptions(convolution="2d-sum", **for_planes).planes
