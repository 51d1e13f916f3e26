"""The edge form: the student's function and parameters, written so that every target takes it.

``layers`` holds the convolutions and norms, ``swin`` the windowed attention, ``form`` puts them into a student.
"""

from autosam_edge_export.edge.form import EdgeOptions, edge_form

__all__ = ["EdgeOptions", "edge_form"]
