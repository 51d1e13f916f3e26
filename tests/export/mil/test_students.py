"""A student in Core ML, interpreted from the bytes of its package, is the student in torch."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from autosam_edge_test_mil import IOS15, IOS17, IOS18, convert, ct
from autosam_edge_test_networks import with_tables
from torch._decomp import get_decompositions

from autosam_edge_export.edge import EdgeOptions, edge_form
from autosam_edge_export.mil import Interpreter
from autosam_edge_training.data import BTCV_INTENSITY
from autosam_edge_training.networks.hu_input import DeviceForm
from autosam_edge_training.networks.students import build_student


def student_program(name, patch, options):
    torch.manual_seed(0)
    student = with_tables(build_student(name).eval())
    form = DeviceForm(edge_form(student, EdgeOptions(**options)), BTCV_INTENSITY).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(form, (torch.zeros(1, 1, *patch),)).run_decompositions(
            get_decompositions([torch.ops.aten.new_ones, torch.ops.aten.new_zeros])
        )
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    return form, program


def student_package(program, patch, target, precision, folder):
    return convert(
        program,
        target,
        folder,
        compute_precision=precision,
        inputs=[ct.TensorType(name="image_hu", shape=(1, 1, *patch))],
        outputs=[ct.TensorType(name="logits")],
    )


def close_to_torch(form, interpreter, patch):
    image = torch.from_numpy(np.random.default_rng(1).uniform(-200, 300, (1, 1, *patch)).astype(np.float32))
    with torch.no_grad():
        expected = form(image)
    return float((interpreter.run(image) - expected).abs().max()), float(expected.std())


def test_pocketnet_in_core_ml_is_pocketnet_in_torch(tmp_path):
    """1e-4 at most in float32, a twentieth of the logits' spread in float16, and the facts of the program."""
    patch = (32, 32, 32)
    form, program = student_program("pocketnet", patch, {})
    interpreter = Interpreter(
        student_package(program, patch, IOS17, ct.precision.FLOAT32, tmp_path / "single")
    )
    assert close_to_torch(form, interpreter, patch)[0] < 1e-4
    assert (interpreter.inputs[0].name, interpreter.inputs[0].shape) == ("image_hu", (1, 1, *patch))
    assert (interpreter.outputs[0].name, interpreter.outputs[0].dtype) == ("logits", "float32")
    assert interpreter.max_rank == 5
    assert interpreter.operators["conv"] == sum(
        node.target is torch.ops.aten.conv3d.default for node in program.graph.nodes
    )
    assert "com.github.apple.coremltools.version" in interpreter.metadata
    error, spread = close_to_torch(
        form,
        Interpreter(student_package(program, patch, IOS17, ct.precision.FLOAT16, tmp_path / "half")),
        patch,
    )
    assert 0 < error < 0.05 * spread


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "target"),
    [({}, IOS17), ({"convolution": "2d-sum"}, IOS18), ({"convolution": "2d-concat"}, IOS15)],
)
def test_swinunetr_in_core_ml_is_swinunetr_in_torch(options, target, tmp_path):
    """Windows, shifts, bias, merging: 1e-4 at most, in every form."""
    patch = (64, 32, 32)
    form, program = student_program("swinunetr-tiny", patch, options)
    interpreter = Interpreter(student_package(program, patch, target, ct.precision.FLOAT32, tmp_path))
    assert close_to_torch(form, interpreter, patch)[0] < 1e-4
    assert interpreter.max_rank == 5
