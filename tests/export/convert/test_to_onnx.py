"""ONNX models hold what the student holds, in as few bits as they say."""

from __future__ import annotations

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
from autosam_edge_test_networks import with_tables
from autosam_edge_test_students import random_tile, small_student, spread
from onnx import numpy_helper

from autosam_edge.engines.onnx_engine import OnnxEngine
from autosam_edge.errors import ExportError
from autosam_edge_export.convert.operators import OF_MONAI
from autosam_edge_export.convert.quantization import Range, should_quantize
from autosam_edge_export.convert.to_onnx import (
    OPERATORS,
    OPSET,
    quantize_inputs,
    quantize_weight,
    store_half,
    store_int8,
    to_onnx,
)
from autosam_edge_export.edge import IN_ONNX, EdgeOptions, edge_form
from autosam_edge_export.targets import TARGETS
from autosam_edge_export.targets.target import preflight
from autosam_edge_training.data import BTCV_INTENSITY
from autosam_edge_training.networks.hu_input import DeviceForm
from autosam_edge_training.networks.students import build_student, parameter_count

PATCH = (64, 32, 32)


def device_form(name):
    torch.manual_seed(0)
    student = with_tables(build_student(name).eval())
    return DeviceForm(edge_form(student, IN_ONNX), BTCV_INTENSITY).eval()


@pytest.fixture(scope="module")
def tiny():
    """SwinUNETR-Tiny with random weights: the module and its ONNX model."""
    form = device_form("swinunetr-tiny")
    program = torch.export.export(form, (torch.zeros(1, 1, *PATCH),))
    return form, to_onnx(program, {"license": "none"})


@pytest.fixture(scope="module")
def tile():
    return random_tile(PATCH)


def run(model, tile):
    return OnnxEngine({"": model}, sha256="", precision="").run(tile)


def test_tiny_in_onnx_is_tiny_in_torch(tiny, tile):
    """Windows, shifts, bias, merging, convolutions: 1e-4 at most, on a patch of unequal sides."""
    form, model = tiny
    with torch.no_grad():
        expected = form(torch.from_numpy(tile)[None, None])[0].numpy()
    np.testing.assert_allclose(run(model, tile), expected, atol=1e-4)


def test_a_model_is_one_checked_file_with_its_facts(tiny):
    """Opset, metadata, no external data, no path of the machine that made it."""
    _, model = tiny
    proto = onnx.load_from_string(model)
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": OPSET}
    assert {entry.key: entry.value for entry in proto.metadata_props} == {"license": "none"}
    assert not [t.name for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert b"site-packages" not in model
    assert b"/home" not in model


def test_the_same_program_gives_the_same_bytes():
    """As in two exports of one student."""
    program = torch.export.export(small_student().eval(), (torch.zeros(1, 1, 32, 32, 32),))
    assert to_onnx(program, {}) == to_onnx(program, {})


def test_constants_are_stored_once(tiny):
    """1.15 x the parameters at most, where each position bias alone would take 118 k values."""
    form, model = tiny
    assert len(model) <= 1.15 * 4 * parameter_count(form)
    stored = [
        tensor.SerializeToString()
        for tensor in onnx.load_from_string(model).graph.initializer
        if len(tensor.raw_data) > 1024
    ]
    assert len(set(stored)) == len(stored)


@pytest.mark.parametrize(("store", "share", "error"), [(store_half, 0.55, 1e-3), (store_int8, 0.40, 0.03)])
def test_small_files_compute_nearly_the_same(tiny, tile, store, share, error):
    """A half and a third of the size: at this patch the graph itself counts."""
    _, model = tiny
    small = store(model)
    assert len(small) <= share * len(model)
    assert 0 < spread(run(small, tile), run(model, tile)) <= error


def test_eight_bits_follow_the_output_channels():
    """Every channel has its own scale, so a channel of small weights keeps its digits."""
    weight = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32) * np.array(
        [[1.0], [1e-3], [100.0]], dtype=np.float32
    )
    values, scale = quantize_weight(weight, 0)
    assert np.abs(values).max(axis=1).tolist() == [127, 127, 127]
    assert (np.abs(values * scale[:, None] - weight).max(axis=1) <= 0.51 * scale).all()


@pytest.fixture(scope="module")
def pocket():
    """PocketNet with random weights in ONNX."""
    return to_onnx(torch.export.export(device_form("pocketnet"), (torch.zeros(1, 1, *PATCH),)), {})


def test_eight_bits_are_for_what_is_large_and_deep(pocket):
    """A layer of 64 channels works on a fine grid: it stays in 16 bits however large, as do small ones."""
    model = onnx.load_from_string(store_int8(pocket))
    stored = {tensor.name: numpy_helper.to_array(tensor).dtype for tensor in model.graph.initializer}
    assert stored["student.decoder.0.conv1.weight.int8"] == np.int8
    assert stored["student.decoder.1.conv1.weight.half"] == stored["student.down.2.weight.half"] == np.float16
    assert should_quantize((112, 64, 27), 0)
    assert not should_quantize((112, 64, 27), 1)
    assert not should_quantize((112, 64, 8), 0)


def test_static_int8_puts_uint8_before_the_named_convolutions(pocket, tile):
    """And nowhere else; a range that covers the input costs at most half a step."""
    name = "student.encoder.0.conv1.weight"
    quantized = quantize_inputs(pocket, {name: Range(0.0, 1.0)})
    nodes = [
        node
        for node in onnx.load_from_string(quantized).graph.node
        if "Quantize" in node.op_type or "quantize" in node.op_type
    ]
    assert [node.op_type for node in nodes] == ["QuantizeLinear", "DequantizeLinear"]
    assert 0 < spread(run(quantized, tile), run(pocket, tile)) < 0.05
    eight = onnx.load_from_string(store_int8(quantized, always=[name]))
    types = {tensor.name: numpy_helper.to_array(tensor).dtype for tensor in eight.graph.initializer}
    assert types[f"{name}.int8"] == np.int8
    with pytest.raises(ValueError, match="no convolution with the weight nonsense"):
        quantize_inputs(pocket, {"nonsense": Range(0.0, 1.0)})


def short_swin():
    """SwinUNETR-Tiny with half of its blocks: the operators are the same."""
    return build_student("monai:SwinUNETR", arguments={"feature_size": 12, "depths": [2, 1, 1, 1]})


@functools.cache
def program_of(name, options):
    """Of a student with random weights, in the form that a target takes."""
    student = short_swin() if name == "swinunetr" else build_student(name)
    form = DeviceForm(edge_form(student.eval(), options), BTCV_INTENSITY).eval()
    return torch.export.export(form, (torch.zeros(1, 1, *PATCH),))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("name", [pytest.param("swinunetr", marks=pytest.mark.slow), "pocketnet"])
def test_the_preflight_lets_students_pass(target, name):
    """In the form that the target asks for."""
    if (target.name, name) == ("onnx-2d", "swinunetr"):
        pytest.skip("the planes of onnx-2d have no attention")
    preflight(target, program_of(name, target.options))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_preflight_names_what_a_target_lacks(target):
    """A Fourier transform and a tensor of rank 7."""

    class Strange(torch.nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x).abs() + x.reshape(1, 1, 2, 2, 2, 2, 1).sum()

    with pytest.raises(
        ExportError, match=r"AE-EXPORT-007.*aten.fft_r2c.*|AE-EXPORT-007.*aten.fft_rfft.*rank over 5"
    ) as caught:
        preflight(target, torch.export.export(Strange(), (torch.zeros(1, 1, 16),)))
    assert "rank over 5" in str(caught.value)


def test_every_operator_of_the_list_is_one_that_students_need():
    """With attention in one operator or in three; what nobody needs nobody compares with torch."""
    programs = [
        program_of(name, EdgeOptions(attention=kind))
        for name in ("swinunetr", "pocketnet")
        for kind in ("fused", "matmul")
    ]
    assert {
        str(node.target) for program in programs for node in program.graph.nodes if node.op == "call_function"
    } == OPERATORS - OF_MONAI


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("UNet", {"channels": [4, 8], "strides": [2], "norm": "instance"}),  # as --smoke trains it
        ("SegResNet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}),
        ("BasicUNet", {"features": [4] * 6}),
    ],
)
def test_networks_of_monai_are_exported(name, arguments):
    """With operators that our own students do not have; ONNX Runtime computes what torch does."""
    torch.manual_seed(0)
    student = build_student(f"monai:{name}", classes=3, arguments=arguments).eval()
    form = DeviceForm(edge_form(student, IN_ONNX), BTCV_INTENSITY).eval()
    tile = torch.rand(1, 1, 32, 32, 32) * 400 - 125
    program = torch.export.export(form, (tile,))
    for target in ("onnx", "openvino"):
        preflight(TARGETS[target], program)
    with torch.no_grad():
        expected = form(tile)[0].numpy()
    np.testing.assert_allclose(run(to_onnx(program, {}), tile[0, 0].numpy()), expected, atol=1e-4)
