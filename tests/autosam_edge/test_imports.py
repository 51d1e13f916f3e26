"""What must be absent: torch in the runtime, names nobody promised, packages nobody expects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import autosam_edge

FORBIDDEN = ("torch", "torchao", "monai", "onnx", "coremltools", "executorch", "scipy", "pandas", "matplotlib")


def test_the_runtime_and_its_command_line_load_no_torch():
    """A fresh interpreter imports both, asks which engines it has, and holds none of the heavy packages."""
    code = (
        "import sys, autosam_edge, autosam_edge.cli; from autosam_edge.engines.choose import ENGINES, why_missing; "
        f"[why_missing(t) for t in ENGINES]; print([m for m in {FORBIDDEN} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_leaves_are_loaded_when_they_are_used():
    """Importing the package does not load highdicom, onnxruntime or nibabel: `--version` and `--help` stay quick."""
    code = "import sys, autosam_edge.cli; print([m for m in ('highdicom', 'onnxruntime', 'nibabel', 'nrrd') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_facade_is_what_it_says():
    """A sorted list of names, each of which exists."""
    assert autosam_edge.__all__ == sorted(autosam_edge.__all__)
    assert all(hasattr(autosam_edge, name) for name in autosam_edge.__all__)


def test_the_wheel_puts_four_packages_at_the_top():
    """No package named ``export`` or ``training`` reaches site-packages."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    listed = text.split("packages = [\n")[1].split("]")[0]
    names = [line.strip().strip('",').split("/")[-1] for line in listed.splitlines() if line.strip()]
    assert names == ["autosam_edge", "autosam_edge_export", "autosam_edge_training", "autosam_edge_benchmarks"]
