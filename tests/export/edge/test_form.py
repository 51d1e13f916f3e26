"""The edge form is the student: the same function, the same parameters, no tensor of a rank over 5."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")
from autosam_edge_test_networks import convolution_shapes, furthest, highest_rank, record, stirred
from monai.networks.nets.swin_unetr import WindowAttention
from torch import nn

from autosam_edge_export.edge import IN_ONNX, EdgeOptions, edge_form
from autosam_edge_export.edge.form import OnPlanes
from autosam_edge_export.edge.swin import MASK
from autosam_edge_training.networks.pocketnet import PocketNet
from autosam_edge_training.networks.students import build_student

SMALL = (64, 32, 64)
OPTIONS = {
    "default": EdgeOptions(),
    "fused": EdgeOptions(attention="fused"),
    "onnx": IN_ONNX,
    "concat": EdgeOptions(convolution="2d-concat"),
    "sum": EdgeOptions(attention="fused", convolution="2d-sum"),
    "means": EdgeOptions(attention="by-head", convolution="2d-sum", norm="means"),
    "shuffle": EdgeOptions(convolution="2d-sum", norm="means", upsampling="shuffle"),
}

SWIN_STUDENTS = ("swinunetr-tiny", pytest.param("swinunetr-small", marks=pytest.mark.slow))

pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def student_of(name):
    """Random weights; built once, and no test may change it."""
    torch.manual_seed(0)
    return stirred(build_student(name))


def image(sides):
    return torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(0))


@functools.cache
def logits_of(name, sides):
    with torch.no_grad():
        return student_of(name)(image(sides))


def assert_is_written_as_asked(form, options, x, expected):
    """The same logits, at rank 5, with convolutions of the right rank, with or without norms."""
    y, operators = record(form, x)
    assert furthest(y, expected) <= (5e-5 if options.planes else 1e-5) * max(1.0, expected.abs().max().item())
    assert highest_rank(operators) <= 5
    assert {len(shape) for shape in convolution_shapes(operators)} == {4 if options.planes else 5}
    assert any("norm" in name for name, _ in operators) == (options.norm != "means")


def assert_edge_form_is_the_student(name, options, sides):
    """See :func:`assert_is_written_as_asked`."""
    assert_is_written_as_asked(
        edge_form(student_of(name), options), options, image(sides), logits_of(name, sides)
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", SWIN_STUDENTS)
def test_the_edge_form_is_the_student(name, options):
    """With every way of writing it."""
    assert_edge_form_is_the_student(name, options, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(96, 96, 96), (128, 64, 96)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["swinunetr-tiny", "swinunetr-small"])
def test_the_edge_form_is_the_student_on_whole_patches(name, options, sides):
    """On a cube and on a patch of unequal sides."""
    assert_edge_form_is_the_student(name, options, sides)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_edge_form_of_a_convolutional_student(options):
    """PocketNet has no stage, and all the rest."""
    torch.manual_seed(0)
    student = stirred(PocketNet(classes=3, widths=(8, 8, 8)))
    x = torch.rand(1, 1, 16, 24, 16)
    with torch.no_grad():
        expected = student(x)
    assert_is_written_as_asked(edge_form(student, options), options, x, expected)


def sorted_values(parameters):
    """Sorted values of all parameters but those of marks and folding; NumPy sorts faster than torch."""
    values = torch.cat([parameter.detach().flatten() for parameter in parameters])
    return np.sort(values[~torch.isin(values, torch.tensor([0.0, 1.0, -1.0, MASK, -MASK]))].numpy())


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", [*SWIN_STUDENTS, "pocketnet"])
def test_every_parameter_is_the_students(name, options):
    """All numbers are the same; only queries are scaled, and biases of an upsampling repeat in a block."""
    student = student_of(name)
    held = dict(student.named_parameters())
    for path, module in student.named_modules():
        if isinstance(module, WindowAttention):
            for key in ("weight", "bias"):
                queries, rest = held[f"{path}.qkv.{key}"].split([module.dim, 2 * module.dim])
                held[f"{path}.qkv.{key}"] = torch.cat([queries * module.scale, rest])
        if isinstance(module, nn.ConvTranspose3d) and module.bias is not None and options.planes:
            shuffled = options.upsampling == "shuffle"
            held[f"{path}.bias"] = module.bias.repeat(math.prod(module.kernel_size[: 3 if shuffled else 1]))
    assert np.array_equal(
        sorted_values(edge_form(student, options).parameters()), sorted_values(held.values())
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_student_is_left_as_it_is(options):
    """Its weights, its modules, its mode; nothing of it is shared, and the form does not learn."""
    student = copy.deepcopy(student_of("swinunetr-tiny")).train()
    state = copy.deepcopy(student.state_dict())
    modules = [(name, type(module)) for name, module in student.named_modules()]
    form = edge_form(student, options)
    with torch.no_grad():
        for tensor in form.state_dict().values():
            tensor.zero_()
    assert list(state) == list(student.state_dict())
    assert all(
        torch.equal(before, after)
        for before, after in zip(state.values(), student.state_dict().values(), strict=True)
    )
    assert modules == [(name, type(module)) for name, module in student.named_modules()]
    assert all(module.training for module in student.modules())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not any(module.training for module in form.modules())
    assert not any(parameter.requires_grad for parameter in form.parameters())


def test_planes_refuse_a_batch():
    """The batch axis holds depth."""
    with pytest.raises(ValueError, match="one tile at a time"):
        OnPlanes(nn.Identity())(torch.zeros(2, 12, 3, 3, 3))
