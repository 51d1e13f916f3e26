"""Builders that several test files use."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from autosam_edge.errors import InputError
from autosam_edge.io.dicom_series import read_dicom
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import RESEARCH_USE

SECRETS = ("Mustermann", "Erika", "SECRET", "4711")  # what the test series hold as patient data
SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


def manifest_dict(**changes):
    """A valid manifest with two organs; ``changes`` replace top-level keys."""
    artifact = b"not a model"
    manifest = {
        "schema_version": 1,
        "name": "test-model",
        "version": "1",
        "license": "none",
        "intended_use": RESEARCH_USE,
        "training_data": "nothing",
        "input": {
            "modality": "CT",
            "axes": "DHW",
            "unit": "HU",
            "spacing_mm": [3.0, 3.0, 3.0],
            "window_hu": [-125.0, 275.0],
            "resampling": "antialiased-linear",
            "patch": [16, 16, 16],
            "overlap": 0.5,
            "blend": "gaussian",
        },
        "postprocess": {"one_part": []},
        "labels": [dataclasses.asdict(label) for label in BTCV_LABELS[:2]],
        "artifacts": [
            {
                "target": "onnx",
                "precision": "fp32",
                "path": "onnx/fp32.onnx",
                "working_set_mb": 1.0,
                "worst_organ_dice": 1.0,
                "relative_time": 1.0,
            }
        ],
        "files": {"onnx/fp32.onnx": hashlib.sha256(artifact).hexdigest()},
        "provenance": {},
    }
    manifest.update(changes)
    return manifest


def write_bundle(folder, **changes):
    """Write a bundle folder with :func:`manifest_dict`."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "fp32.onnx").write_bytes(b"not a model")
    (folder / "manifest.json").write_text(json.dumps(manifest_dict(**changes)))
    return folder


def refusal(root: Path, **options: Any) -> InputError:
    """The error that reading raises; it is one line and names no patient."""
    with pytest.raises(InputError) as caught:
        read_dicom(root, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert not [secret for secret in SECRETS if secret in text]
    assert str(root) not in text
    return caught.value
