"""Run by ``doctor`` in a child process, which is all that a crash of a native library takes down."""

from __future__ import annotations

import dataclasses
import importlib
import json

from autosam_edge.bundle import open_bundle
from autosam_edge.engines.selection import engine_class
from autosam_edge.engines.telemetry import is_off
from autosam_edge.verify import verify_artifact


def probe_engine(target: str) -> None:
    """Run the golden tile of each artifact of a target and print the checks as one JSON object.

    Args:
        target: Target of artifacts, such as ``onnx``.
    """
    package = engine_class(target).package
    bundle = open_bundle()
    artifacts = [artifact for artifact in bundle.manifest.artifacts if artifact.target == target]
    checks = [dataclasses.asdict(verify_artifact(bundle, artifact)) for artifact in artifacts]
    _answer(checks, "the default bundle has no artifact to try it with", telemetry_off=is_off(package))


def probe_decoder() -> None:
    """Load the decoders of compressed DICOM and say so in a JSON object."""
    importlib.import_module("autosam_edge.dicom.codecs")
    _answer([], "JPEG, JPEG-LS and JPEG 2000 can be read", telemetry_off=None)


def _answer(checks: list[dict[str, object]], without_check: str, *, telemetry_off: bool | None) -> None:
    print(json.dumps({"checks": checks, "without_check": without_check, "telemetry_off": telemetry_off}))
