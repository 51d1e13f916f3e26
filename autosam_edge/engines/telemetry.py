"""Third parties that report their use to their vendors are imported with that reporting off."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "ORT_DISABLE_TELEMETRY"
"""Variable of the environment that turns the reporting of ONNX Runtime off, for programs in general."""

_REPORTER = "openvino_telemetry"  # the package through which OpenVINO reports
_IN_TIME = {"onnxruntime": f"set {VARIABLE}=1", "openvino": "import autosam_edge.engines.openvino_engine"}

SET_BEFORE = bool(os.environ.get(VARIABLE))
"""Whether the environment turned the reporting of ONNX Runtime off before this package did."""


def is_off(package: str) -> bool | None:
    """Whether an engine's package, once imported here, reports nothing; None for one that never reports."""
    if package == "onnxruntime":
        return bool(os.environ.get(VARIABLE))
    return sys.modules.get(_REPORTER) is None if package == "openvino" else None


def set_variables() -> None:
    """Keep packages silent that others import: ONNX Runtime here and in child processes, OpenVINO here.

    The command line calls it first, since packages such as MONAI and ExecuTorch import them too.
    """
    os.environ[VARIABLE] = "1"
    sys.modules.setdefault(_REPORTER, None)  # type: ignore[arg-type]  # None makes an import fail


@contextmanager
def telemetry_off(package: str) -> Iterator[None]:
    """Import ``onnxruntime`` or ``openvino`` in this block, and it sends nothing and writes nothing.

    ONNX Runtime reads ``ORT_DISABLE_TELEMETRY`` once, while it is imported; the variable stays set, also for
    child processes. OpenVINO reports each import through ``openvino_telemetry``. Where that package is
    missing, OpenVINO uses a stub that does nothing, so this block makes it look missing.

    Warns:
        RuntimeWarning: The program imported the package before, with its reporting on, which can no longer be
            turned off.
    """
    imported_before = package in sys.modules
    if imported_before and not is_off(package):
        warnings.warn(
            f"{package} was imported with its telemetry on before autosam_edge could turn it off: "
            f"it may contact its vendor. To prevent this, {_IN_TIME[package]} before {package} is imported.",
            RuntimeWarning,
            stacklevel=3,
        )
    if package == "onnxruntime":
        os.environ[VARIABLE] = "1"
    if package == "onnxruntime" or imported_before:
        yield
        return
    absent = object()
    before = sys.modules.get(_REPORTER, absent)
    sys.modules[_REPORTER] = None  # type: ignore[assignment]  # None makes an import fail
    try:
        yield
    finally:
        if before is absent:
            del sys.modules[_REPORTER]
        else:
            sys.modules[_REPORTER] = before  # type: ignore[assignment]
