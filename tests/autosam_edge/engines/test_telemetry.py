"""Engines send nothing to their vendors and write nothing below the home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def run(code: str, home: Path) -> str:
    """What a new interpreter prints to stderr; its environment turns nothing off."""
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(home))
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env={**kept, **places},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*")]


def test_onnx_runtime_is_imported_silent(tmp_path: Path) -> None:
    """The variable is set before the import, and nothing is written."""
    code = (
        "from autosam_edge.engines.onnx_engine import ort; import os;"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'; ort.SessionOptions()"
    )
    assert run(code, tmp_path) == ""
    assert files(tmp_path) == []


def test_openvino_is_imported_without_its_reporter(tmp_path: Path) -> None:
    """OpenVINO uses its own stub, and the real package can still be imported afterwards."""
    pytest.importorskip("openvino")
    code = (
        "import sys; from autosam_edge.engines.openvino_engine import openvino;"
        "from openvino.tools.ovc import telemetry_utils;"
        "assert telemetry_utils.tm.__name__ == 'openvino.tools.ovc.telemetry_stub', telemetry_utils.tm;"
        "assert 'openvino_telemetry' not in sys.modules; import openvino_telemetry"
    )
    assert run(code, tmp_path) == ""
    assert files(tmp_path) == []


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
def test_a_package_that_the_program_imported_first_is_told(package: str, tmp_path: Path) -> None:
    """Its telemetry cannot be turned off any more, so a warning says so and how to prevent it."""
    pytest.importorskip(package)
    module = {"onnxruntime": "onnx_engine", "openvino": "openvino_engine"}[package]
    # The stand-ins look like the packages after a loud import, and contact nobody.
    code = (
        "import sys, types;"
        f"sys.modules[{package!r}] = types.ModuleType({package!r});"
        "sys.modules['openvino_telemetry'] = types.ModuleType('openvino_telemetry');"
        f"import autosam_edge.engines.{module}"
    )
    said = run(code, tmp_path)
    assert f"RuntimeWarning: {package} was imported with its telemetry on" in said
    assert "To prevent this" in said
