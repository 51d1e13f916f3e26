"""Options that do not fit together are refused."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")

from autosam_edge_export.edge import EdgeOptions


@pytest.mark.parametrize("form", [{"norm": "means"}, {"upsampling": "shuffle"}])
def test_a_form_for_planes_is_refused_with_3d_convolutions(form):
    """Rather than not looked at."""
    with pytest.raises(ValueError, match="form for planes"):
        EdgeOptions(**form)
    assert EdgeOptions(convolution="2d-sum", norm="means").planes


def test_a_form_for_volumes_is_refused_on_planes():
    """Planes have the channels second, where the norm of a volume would mix slices."""
    with pytest.raises(ValueError, match="form for volumes"):
        EdgeOptions(convolution="2d-sum", norm="native")
