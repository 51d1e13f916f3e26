"""Run by ``doctor`` in a child process, which is all that a crash of a native library takes down."""

from __future__ import annotations

import importlib
import json

from autosam_edge.bundle import open_bundle
from autosam_edge.engines.selection import engine_class
from autosam_edge.engines.telemetry import is_off
from autosam_edge.errors import AutosamEdgeError, first_line
from autosam_edge.verify import verify_artifact

DECODERS = "compressed DICOM"


def run_in_child(arguments: list[str], data: bytes) -> bytes:  # noqa: ARG001  the interface of run_child
    """Try one part and answer with a JSON array: ``state``, ``detail``, ``telemetry_off``.

    Args:
        arguments: The target of an engine, or ``DECODERS``.
        data: Not used.
    """
    (name,) = arguments
    try:
        answer = _try_decoders() if name == DECODERS else _try_engine(name)
    except AutosamEdgeError as error:
        answer = "broken", error.message.rstrip("."), None
    except Exception as error:  # a foreign package may raise anything while it is imported
        told = f"{type(error).__name__}: {first_line(error)}"
        answer = "broken", f"it does not load: {told[:160].rstrip('.')}", None
    return json.dumps(answer).encode()


def _try_decoders() -> tuple[str, str, bool | None]:
    importlib.import_module("autosam_edge.dicom.codecs")
    return "loads", "JPEG, JPEG-LS and JPEG 2000 can be read", None


def _try_engine(target: str) -> tuple[str, str, bool | None]:
    package = engine_class(target).package
    telemetry_off = is_off(package)
    bundle = open_bundle()
    artifacts = [artifact for artifact in bundle.manifest.artifacts if artifact.target == target]
    checks = [verify_artifact(bundle, artifact) for artifact in artifacts]
    if failed := [check for check in checks if check.verdict != "passed"]:
        return "broken", f"{failed[0].name}: {failed[0].detail}", telemetry_off
    if not checks:
        return "loads", "the default bundle has no artifact to try it with", telemetry_off
    names = ", ".join(check.name for check in checks)
    return "works", f"correct on the golden tile: {names}", telemetry_off
