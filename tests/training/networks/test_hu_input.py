"""The device's form of a student takes HU, and is the student behind the runtime's engine protocol."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autosam_edge.engines.engine import Engine
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, Case, Intensity
from autosam_edge_training.networks.hu_input import DeviceForm, TorchEngine
from autosam_edge_training.networks.pocketnet import PocketNet


def test_the_window_is_inside_of_the_graph():
    """Below, at its ends, inside and above: 0, 0, the middle, 1, 1."""
    image = torch.tensor([-1024.0, -125.0, 75.0, 275.0, 3071.0]).reshape(1, 1, 5, 1, 1)
    assert DeviceForm(nn.Identity(), BTCV_INTENSITY)(image).flatten().tolist() == pytest.approx(
        [0.0, 0.0, 0.5, 1.0, 1.0]
    )


@given(low=st.integers(-1000, 0), width=st.integers(1, 2000), hu=st.integers(-1024, 3071))
def test_any_window_becomes_0_to_1(low, width, hu):
    """(HU - low) / width, held between 0 and 1."""
    found = DeviceForm(nn.Identity(), Intensity((float(low), float(low + width)), float(low), float(width)))(
        torch.tensor([float(hu)])
    ).item()
    assert found == pytest.approx(min(1.0, max(0.0, (hu - low) / width)), abs=1e-5)


@pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
def test_device_and_training_normalize_alike(intensity):
    """What a case shows a student is what the device shows it."""
    low, high = map(int, intensity.window_hu)
    hu = np.random.default_rng(0).integers(low, high + 1, (4, 5, 6)).astype(np.int16)
    case = Case("c", hu, np.zeros(hu.shape, np.uint8), 2, intensity)
    trained, _ = case.patch(case.whole)
    on_device = DeviceForm(nn.Identity(), intensity)(torch.from_numpy(hu.astype(np.float32))[None, None])
    torch.testing.assert_close(on_device[0, 0], torch.from_numpy(trained))


def test_the_student_keeps_its_weights():
    """The form adds none and owns the student itself, under one name."""
    student = nn.Conv3d(1, 2, 1)
    form = DeviceForm(student, BTCV_INTENSITY)
    assert form.student is student
    assert sorted(form.state_dict()) == ["student.bias", "student.weight"]


def test_the_engine_gives_the_students_logits():
    """A tile of HU in, (C, D, H, W) out, in NumPy; the student runs in eval mode."""
    torch.manual_seed(0)
    student = PocketNet(classes=3, widths=(8, 8, 8)).train()
    tile = np.random.default_rng(0).uniform(-300, 400, (16, 24, 32)).astype(np.float32)
    engine = TorchEngine(student, BTCV_INTENSITY)
    logits = engine.run(tile)
    assert (logits.shape, logits.dtype) == ((3, 16, 24, 32), np.float32)
    with torch.no_grad():
        expected = student(torch.from_numpy(np.clip((tile + 125) / 400, 0, 1))[None, None])[0]
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=1e-4)


def test_the_engine_follows_the_runtimes_protocol():
    """The keys of the provenance stamp, all text; it has no artifact and so no hash."""
    engine = TorchEngine(nn.Identity(), BTCV_INTENSITY)
    assert isinstance(engine, Engine)
    assert engine.description == {
        "name": "torch",
        "version": torch.__version__,
        "precision": "fp32",
        "threads": str(torch.get_num_threads()),
        "sha256": "",
    }
