"""The edge form: the student's function and parameters, written so that every target takes it.

``layers`` holds the convolutions and norms, ``swin`` the windowed attention, ``form`` puts them into a
student as ``options`` say.
"""

from autosam_edge_export.edge.form import edge_form
from autosam_edge_export.edge.options import IN_ONNX, EdgeOptions

__all__ = ["IN_ONNX", "EdgeOptions", "edge_form"]
