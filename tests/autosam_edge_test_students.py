"""Students for the export's tests: small, quickly converted, with the forms of an export around them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from autosam_edge_test_networks import BTCV

from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_training.networks.hu_input import TorchEngine
from autosam_edge_training.networks.pocketnet import PocketNet

METADATA = {"model": "small", "license": "none", "intended_use": "tests"}


def small_student(name="pocketnet", classes=14, merging="v2", arguments=None):
    """A replacement of ``build_student`` that gives the same small student for every name."""
    return PocketNet(classes=classes, widths=(8, 8))


def forms_of(student, patch):
    """Its export with a patch of (D, H, W) and three organs; nothing to calibrate on."""
    return StudentForms(
        student,
        BTCV.contract(patch, 0.25),
        BTCV.intensity,
        ["a", "b", "c"],
        METADATA,
        list,
        lambda line: None,
    )


def random_tile(patch):
    """HU inside and outside of the window, (D, H, W)."""
    return np.random.default_rng(0).uniform(-200, 300, patch).astype(np.float32)


def logits_in_torch(student, tile):
    """What every artifact is held against, (C, D, H, W)."""
    return TorchEngine(student, BTCV.intensity).run(tile)


def spread(found, expected):
    """Root mean square difference as a share of the expected logits' own spread."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
