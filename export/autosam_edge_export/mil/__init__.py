"""An interpreter for the Core ML program in a saved package, for machines without Core ML.

``package`` reads the bytes, ``compute_ops`` and ``layout_ops`` hold one function per operator, and
``interpreter`` runs a program.
"""

from autosam_edge_export.mil.interpreter import Interpreter
from autosam_edge_export.mil.package import read_package

__all__ = ["Interpreter", "read_package"]
