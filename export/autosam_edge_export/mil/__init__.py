"""Core ML programs evaluated from a saved package's bytes, where there is no Core ML: a reference for what was converted.

``package`` reads the bytes, ``operators`` and ``moving`` hold one function per operator, ``interpreter`` runs
a program.
"""

from autosam_edge_export.mil.interpreter import Interpreter
from autosam_edge_export.mil.package import MilProgram, read_package

__all__ = ["Interpreter", "MilProgram", "read_package"]
