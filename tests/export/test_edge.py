"""The edge form is the student: the same function, the same parameters, no tensor of a rank over 5."""

from __future__ import annotations

import copy
import functools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")
from monai.networks.nets import swin_unetr
from monai.networks.nets.swin_unetr import (
    BasicLayer,
    PatchMerging,
    PatchMergingV2,
    SwinTransformer,
    WindowAttention,
    window_partition,
    window_reverse,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autosam_edge_export.edge import EdgeOptions, edge_form
from autosam_edge_export.edge.form import OnPlanes
from autosam_edge_export.edge.layers import (
    FlatInstanceNorm,
    MeansInstanceNorm,
    MeansLayerNorm,
    PlaneConvolution,
    PlaneUpsampling,
    folding_convolution,
)
from autosam_edge_export.edge.swin import (
    MASK,
    EdgeAttention,
    EdgeMerging,
    EdgeStage,
    PlaneTransformer,
    assemble,
    partition,
    roll,
    tail_marks,
)
from autosam_edge_training.convnet import Fold, PocketNet
from autosam_edge_training.merging import LegacyPatchMerging, merging_of
from autosam_edge_training.students import build_student

SMALL = (64, 32, 64)
KINDS = ["matmul", "by-head", "fused"]
OPTIONS = {
    "default": EdgeOptions(),
    "fused": EdgeOptions(attention="fused"),
    "concat": EdgeOptions(convolution="2d-concat"),
    "shuffle": EdgeOptions(attention="fused", convolution="2d-sum", transposed="shuffle"),
    "means": EdgeOptions(attention="by-head", convolution="2d-sum", norm="means"),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def triples(low, high):
    """Three numbers, drawn one by one."""
    return st.tuples(*[st.integers(low, high)] * 3)


class Recorder(TorchDispatchMode):
    """Notes the name and the output shapes of every operator that runs."""

    def __init__(self):
        super().__init__()
        self.outputs = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.outputs += [(func.overloadpacket.__name__, tuple(tensor.shape)) for tensor in tensors]
        return result


def record(module, x):
    """The module's result, and (operator, output shape) of all that ran."""
    with torch.no_grad(), Recorder() as recorder:
        y = module(x)
    return y, recorder.outputs


def highest_rank(operators):
    return max(len(shape) for _, shape in operators)


def convolution_shapes(operators):
    return [shape for name, shape in operators if "convolution" in name]


def planes_of(x):
    """(1, C, D, H, W) -> (D, C, H, W) and back, with a batch of 1."""
    return x[0].transpose(0, 1) if x.ndim == 5 else x.transpose(0, 1)[None]


def furthest(a, b):
    """Largest absolute difference of two tensors of one shape."""
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def stirred(module):
    """Eval mode, with tables, norms and biases that matter: at birth a table is next to nothing and a norm is the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("relative_position_bias_table"):
                parameter.normal_(0.0, 0.5, generator=generator)
            elif parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@settings(max_examples=80)
@given(
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    more=triples(0, 6),
    kernel=triples(1, 5),
    stride=triples(1, 3),
    padding=triples(0, 2),
    bias=st.booleans(),
    taps=st.sampled_from(["sum", "concat"]),
)
@example(channels=(3, 2), more=(0, 4, 5), kernel=(5, 3, 3), stride=(1, 1, 1), padding=(2, 1, 1), bias=True, taps="sum")
@example(channels=(3, 2), more=(1, 4, 5), kernel=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1), bias=True, taps="sum")
@example(channels=(2, 3), more=(5, 4, 3), kernel=(3, 3, 3), stride=(1, 2, 1), padding=(1, 1, 0), bias=True, taps="sum")
@example(channels=(2, 3), more=(5, 4, 3), kernel=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1), bias=False, taps="concat")
@example(channels=(2, 3), more=(3, 2, 5), kernel=(2, 2, 2), stride=(2, 2, 2), padding=(0, 0, 0), bias=True, taps="sum")
@example(channels=(2, 3), more=(1, 2, 5), kernel=(2, 2, 2), stride=(2, 2, 2), padding=(1, 0, 0), bias=True, taps="sum")
def test_a_3d_convolution_is_2d_convolutions_of_planes(channels, more, kernel, stride, padding, bias, taps):
    """Whatever its kernel, stride and padding along each axis, from the smallest input on; at rank 4."""
    torch.manual_seed(0)
    conv = nn.Conv3d(*channels, kernel, stride=stride, padding=padding, bias=bias)
    sides = [max(1, edge - 2 * rim) + extra for edge, rim, extra in zip(kernel, padding, more, strict=True)]
    x = torch.randn(1, channels[0], *sides)
    y, operators = record(PlaneConvolution(conv, taps), planes_of(x))
    assert furthest(planes_of(y), conv(x)) <= 1e-5
    assert highest_rank(operators) == 4
    assert {len(shape) for shape in convolution_shapes(operators)} == {4}


@pytest.mark.parametrize(
    ("conv", "taps", "count"),
    [
        (nn.Conv3d(2, 3, 3, padding=1), "sum", 3),
        (nn.Conv3d(2, 3, 3), "sum", 3),
        (nn.Conv3d(2, 3, 3, padding=1), "concat", 1),
        (nn.Conv3d(2, 3, 2, stride=2), "sum", 1),
        (nn.Conv3d(2, 3, 2, stride=2), "concat", 1),
    ],
)
def test_taps_are_summed_or_laid_side_by_side(conv, taps, count):
    """One convolution per tap, or one in all."""
    assert len(convolution_shapes(record(PlaneConvolution(conv, taps), torch.randn(6, 2, 5, 4))[1])) == count


@pytest.mark.parametrize(
    "plain", [{"groups": 2}, {"dilation": 2}, {"dilation": (1, 1, 2)}, {"padding_mode": "circular"}, {"padding": "same"}], ids=str
)
def test_a_convolution_without_a_2d_form_is_refused(plain):
    """Groups, dilation and padding with anything but a number of zeros."""
    with pytest.raises(ValueError, match="plain convolutions"):
        PlaneConvolution(nn.Conv3d(4, 4, 3, **plain), "sum")


@pytest.mark.parametrize("taps", ["sum", "concat"])
@pytest.mark.parametrize("channels", [1, 3])
def test_folding_is_a_convolution_with_ones(channels, taps):
    """No bit changes, in 3D or on planes."""
    x = torch.randn(1, channels, 4, 6, 8) * 1000
    conv = folding_convolution(channels)
    with torch.no_grad():
        assert torch.equal(conv(x), Fold()(x))
        assert torch.equal(planes_of(PlaneConvolution(conv, taps)(planes_of(x))), Fold()(x))


@settings(max_examples=60)
@given(
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    sides=triples(1, 5),
    kernel=triples(1, 3),
    bias=st.booleans(),
    shuffle=st.booleans(),
)
@example(channels=(3, 2), sides=(3, 5, 4), kernel=(1, 2, 3), bias=True, shuffle=True)
@example(channels=(3, 2), sides=(3, 5, 4), kernel=(3, 2, 1), bias=True, shuffle=False)
@example(channels=(2, 3), sides=(5, 3, 1), kernel=(2, 2, 2), bias=False, shuffle=True)
@example(channels=(2, 3), sides=(1, 3, 5), kernel=(2, 2, 2), bias=True, shuffle=False)
def test_a_transposed_convolution_gives_blocks_of_planes(channels, sides, kernel, bias, shuffle):
    """Whatever its kernel, as long as that is its stride; at rank 5, and where it shuffles, by a pointwise convolution."""
    torch.manual_seed(0)
    conv = nn.ConvTranspose3d(*channels, kernel, stride=kernel, bias=bias)
    x = torch.randn(1, channels[0], *sides)
    y, operators = record(PlaneUpsampling(conv, shuffle=shuffle), planes_of(x))
    assert furthest(planes_of(y), conv(x)) <= 1e-5
    assert highest_rank(operators) <= 5
    plane = sides[1:] if shuffle else tuple(side * edge for side, edge in zip(sides[1:], kernel[1:], strict=True))
    ((depth, _, *convolved),) = convolution_shapes(operators)
    assert (depth, *convolved) == (sides[0], *plane)


@pytest.mark.parametrize(
    "blocks",
    [
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 2, "stride": 1},
        {"kernel_size": (2, 2, 1), "stride": 2},
        {"kernel_size": 2, "stride": 2, "groups": 2},
        {"kernel_size": 2, "stride": 2, "dilation": 2},
        {"kernel_size": 2, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 2, "output_padding": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_transposed_convolution_that_is_no_shuffle_is_refused(blocks, shuffle):
    """Blocks that overlap, leave gaps or are cut."""
    with pytest.raises(ValueError, match="kernel = stride"):
        PlaneUpsampling(nn.ConvTranspose3d(4, 4, **blocks), shuffle=shuffle)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("sides", [(4, 3, 5), (1, 1, 2)])
def test_the_flat_norm_is_the_instance_norm(affine, sides):
    """With its own scale and offset per channel or without, and with its own epsilon; in either layout."""
    torch.manual_seed(0)
    norm = stirred(nn.InstanceNorm3d(3, eps=0.1, affine=affine))
    x = torch.randn(1, 3, *sides) * 3 + 7
    assert furthest(FlatInstanceNorm(norm, planes=False)(x), norm(x)) <= 1e-5
    assert furthest(planes_of(FlatInstanceNorm(norm, planes=True)(planes_of(x))), norm(x)) <= 1e-5


FAR = pytest.mark.parametrize(("offset", "most"), [(0.0, 1e-5), (1000.0, 1e-3)], ids=["near zero", "far off"])


@FAR
@settings(max_examples=30)
@given(channels=st.integers(1, 6), sides=triples(1, 9).filter(lambda sides: math.prod(sides) > 1), affine=st.booleans())
@example(channels=2, sides=(24, 40, 33), affine=True)
@example(channels=3, sides=(7, 1, 1), affine=True)
@example(channels=3, sides=(1, 5, 4), affine=False)
def test_the_instance_norm_written_out_is_the_instance_norm(offset, most, channels, sides, affine):
    """Where channels lie far from zero too, within what float32 keeps of a thousand and one: the mean goes before the squares."""
    torch.manual_seed(0)
    norm = stirred(nn.InstanceNorm3d(channels, eps=0.1, affine=affine))
    x = torch.randn(1, channels, *sides) + offset * torch.randn(1, channels, 1, 1, 1).sign()
    y, operators = record(MeansInstanceNorm(norm), planes_of(x))
    assert furthest(planes_of(y).double(), norm.double()(x.double())) <= most
    assert highest_rank(operators) == 4
    assert not any("norm" in name for name, _ in operators)


@FAR
@settings(max_examples=30)
@given(leading=st.lists(st.integers(1, 5), max_size=3), channels=st.integers(2, 200), affine=st.booleans())
@example(leading=[3, 4, 5], channels=384, affine=True)
@example(leading=[], channels=7, affine=False)
def test_the_layer_norm_written_out_is_the_layer_norm(offset, most, leading, channels, affine):
    """On any number of axes, and far from zero too."""
    torch.manual_seed(0)
    norm = stirred(nn.LayerNorm(channels, eps=0.1, elementwise_affine=affine))
    x = torch.randn(*leading, channels) + offset * torch.randn(*leading, 1).sign()
    y, operators = record(MeansLayerNorm(norm), x)
    assert furthest(y.double(), norm.double()(x.double())) <= most
    assert not any("norm" in name for name, _ in operators)


@pytest.mark.parametrize("written_out", [lambda norm: FlatInstanceNorm(norm, planes=False), MeansInstanceNorm])
def test_a_norm_that_keeps_running_statistics_is_refused(written_out):
    """At inference it would not look at its input's own."""
    with pytest.raises(ValueError, match="running statistics"):
        written_out(nn.InstanceNorm3d(3, track_running_stats=True))


def test_a_layer_norm_over_several_axes_is_refused():
    """Its average is over one."""
    with pytest.raises(ValueError, match="unpack"):
        MeansLayerNorm(nn.LayerNorm((3, 4)))


@pytest.mark.parametrize("for_planes", [{"norm": "means"}, {"transposed": "shuffle"}], ids=str)
def test_options_for_planes_are_refused_with_3d_convolutions(for_planes):
    """Rather than not looked at."""
    with pytest.raises(ValueError, match="forms for planes"):
        EdgeOptions(**for_planes)
    assert EdgeOptions(convolution="2d-sum", **for_planes).planes


@given(window=triples(1, 4), rows=st.integers(1, 3), columns=st.integers(1, 3), channels=st.integers(1, 3))
def test_a_slab_is_cut_into_monais_windows_and_put_together_again(window, rows, columns, channels):
    """The order of the windows and of the tokens in them is MONAI's; nothing is lost."""
    height, width = rows * window[1], columns * window[2]
    slab = torch.randn(window[0], height, width, channels)
    tokens = partition(slab, window)
    assert torch.equal(tokens, window_partition(slab[None], window))
    assert torch.equal(assemble(tokens, window, height, width), slab)
    assert torch.equal(window_reverse(tokens, window, (1, window[0], height, width))[0], slab)


@given(sides=triples(1, 6), shift=triples(-13, 13))
def test_roll_is_torch_roll_by_the_negative_shift(sides, shift):
    """Forward, backward, not at all, and more than once around."""
    x = torch.randn(*sides, 2)
    assert torch.equal(roll(x, shift), torch.roll(x, [-steps for steps in shift], dims=(0, 1, 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@settings(max_examples=30)
@given(window=triples(2, 4), counts=triples(1, 3))
def test_the_marks_multiply_to_monais_mask(dtype, window, counts):
    """0 within a region, exactly; -100 or less between two, where MONAI adds -100. An axis of one window is not shifted."""
    grid = [edge * count for edge, count in zip(window, counts, strict=True)]
    shift = [edge // 2 if count > 1 else 0 for edge, count in zip(window, counts, strict=True)]
    attention = EdgeAttention(stirred(WindowAttention(6, 3, window, qkv_bias=True)), "matmul", marked=True).to(dtype)
    x = torch.cat([torch.randn(*grid, 6), tail_marks(grid, shift, torch.zeros(1))], dim=-1)
    tokens = window_partition(x[None], window).to(dtype)
    with torch.no_grad():
        q, k, v = (project(tokens).unflatten(-1, (3, -1)).transpose(1, 2) for project in (attention.q, attention.k, attention.v))
    assert [y.shape[-1] for y in (q, k, v)] == [8, 8, 2]
    product = q[..., 2:] @ k[..., 2:].transpose(2, 3)
    expected = swin_unetr.compute_mask(grid, window, shift, "cpu").to(dtype)[:, None].expand_as(product)
    assert torch.equal(product == 0, expected == 0)
    assert torch.equal(product.clamp_min(MASK), expected)


def monai_stage(window, downsample=None):
    """As SwinTransformer builds one: the second of two blocks is shifted."""
    torch.manual_seed(0)
    return stirred(BasicLayer(12, 2, 3, window, [0.0, 0.0], qkv_bias=True, downsample=downsample))


def edge_stage(stage, kind="matmul", windows_at_once=49, convolution="3d"):
    return EdgeStage(stage, EdgeOptions(attention=kind, windows_at_once=windows_at_once, convolution=convolution)).eval()


@settings(max_examples=60)
@given(
    sides=triples(1, 9),
    window=st.sampled_from([(3, 3, 3), (4, 4, 4), (2, 3, 4)]),
    kind=st.sampled_from(KINDS),
    windows_at_once=st.sampled_from([1, 3, 49]),
    downsample=st.sampled_from([None, PatchMerging, LegacyPatchMerging]),
)
@example(sides=(9, 7, 5), window=(4, 4, 4), kind="matmul", windows_at_once=1, downsample=LegacyPatchMerging)
@example(sides=(9, 7, 5), window=(4, 4, 4), kind="fused", windows_at_once=49, downsample=PatchMerging)
@example(sides=(9, 7, 5), window=(4, 4, 4), kind="by-head", windows_at_once=3, downsample=PatchMerging)
@example(sides=(8, 4, 8), window=(4, 4, 4), kind="matmul", windows_at_once=3, downsample=None)
@example(sides=(2, 9, 6), window=(3, 3, 3), kind="fused", windows_at_once=3, downsample=LegacyPatchMerging)
@example(sides=(7, 2, 2), window=(4, 4, 4), kind="by-head", windows_at_once=49, downsample=PatchMerging)
@example(sides=(2, 3, 2), window=(3, 3, 3), kind="fused", windows_at_once=1, downsample=None)
def test_a_stage_is_monais(sides, window, kind, windows_at_once, downsample):
    """On odd, unequal and small grids, within float32's rounding, and in float64 within float64's: nothing is approximated."""
    stage = monai_stage(window, downsample)
    x = torch.randn(1, 12, *sides)
    with torch.no_grad():
        expected = stage(x)
        edge = edge_stage(stage, kind, windows_at_once)
        y, operators = record(edge, x)
        assert furthest(y, expected) <= 1e-5
        assert highest_rank(operators) <= 5
        y, operators = record(edge_stage(stage, kind, windows_at_once, "2d-sum"), planes_of(x))
        assert furthest(planes_of(y), expected) <= 1e-5
        assert highest_rank(operators) <= 5
        assert furthest(edge.double()(x.double()), stage.double()(x.double())) <= 1e-10


@pytest.mark.parametrize(("kind", "rank"), [("matmul", 4), ("by-head", 3)])
def test_the_scores_of_heads_lie_together_or_not(kind, rank):
    """By head there is no axis of heads, and one softmax for each in each of two blocks."""
    _, operators = record(edge_stage(monai_stage((3, 3, 3)), kind), torch.randn(1, 12, 3, 6, 6))
    assert [len(shape) for name, shape in operators if name == "_softmax"] == [rank] * (2 if kind == "matmul" else 6)


def test_fused_attention_is_one_operator():
    """No softmax is written out."""
    names = [name for name, _ in record(edge_stage(monai_stage((3, 3, 3)), "fused"), torch.randn(1, 12, 3, 6, 6))[1]]
    assert "_softmax" not in names
    assert any("scaled_dot_product" in name for name in names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("windows_at_once", [1, 3, 49])
def test_a_stage_with_the_students_window_is_monais(kind, windows_at_once):
    """Window 7: one axis of three windows, two that are padded."""
    stage = monai_stage((7, 7, 7), PatchMerging)
    x = torch.randn(1, 12, 9, 8, 21)
    with torch.no_grad():
        assert furthest(edge_stage(stage, kind, windows_at_once)(x), stage(x)) <= 1e-5


def test_the_rank_check_sees_what_it_is_for():
    """MONAI's own stage views windows at rank 8."""
    assert highest_rank(record(monai_stage((3, 3, 3)), torch.randn(1, 12, 6, 6, 6))[1]) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_has_the_shift_mask(kind, monkeypatch):
    """Without it MONAI's stage gives something else, so a stage that equals the one with it has it."""
    stage = monai_stage((4, 4, 4))
    x = torch.randn(1, 12, 8, 8, 8)
    with torch.no_grad():
        masked = stage(x)
        real = swin_unetr.compute_mask
        monkeypatch.setattr(swin_unetr, "compute_mask", lambda *arguments: torch.zeros_like(real(*arguments)))
        assert furthest(stage(x), masked) > 1e-3
        assert furthest(edge_stage(stage, kind)(x), masked) <= 1e-5


@pytest.mark.parametrize("sides", [(8, 8, 8), (2, 8, 3)], ids=["whole windows", "below the window"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_has_the_position_bias(kind, sides):
    """With its tables at zero MONAI's stage gives something else, so a stage that equals the one with them has them."""
    stage = monai_stage((4, 4, 4))
    x = torch.randn(1, 12, *sides)
    with torch.no_grad():
        biased = stage(x)
        edge = edge_stage(stage, kind)
        for block in stage.blocks:
            block.attn.relative_position_bias_table.zero_()
        assert furthest(stage(x), biased) > 1e-3
        assert furthest(edge(x), biased) <= 1e-5


def test_the_mergings_differ():
    """A stage with one merging is not the stage with the other, though the weights are the same."""
    legacy, v2 = monai_stage((3, 3, 3), LegacyPatchMerging), monai_stage((3, 3, 3), PatchMerging)
    v2.load_state_dict(legacy.state_dict())
    x = torch.randn(1, 12, 6, 6, 6)
    with torch.no_grad():
        assert furthest(edge_stage(legacy)(x), edge_stage(v2)(x)) > 1e-3


@pytest.mark.parametrize("kind", ["matmul", "by-head"])
@pytest.mark.parametrize(("windows_at_once", "most"), [(1, 4), (4, 4), (7, 4), (9, 8), (49, 16)])
def test_no_more_windows_than_asked_have_scores_together(windows_at_once, most, kind):
    """In whole rows, here of 4 windows, at least one row and at most a slab."""
    _, operators = record(edge_stage(monai_stage((3, 3, 3)), kind, windows_at_once), torch.randn(1, 12, 6, 12, 12))
    assert max(shape[0] for name, shape in operators if name == "_softmax") == most


class AnotherMerging(PatchMerging):
    """Whoever inherits may have changed the order."""


@pytest.mark.parametrize("merging", [PatchMergingV2, AnotherMerging])
def test_an_unknown_merging_is_refused(merging):
    """It has the parameters of those that are known, and another order: alone or in a stage."""
    for refuses in (merging_of, EdgeMerging):
        with pytest.raises(ValueError, match=f"{merging.__name__} is no patch merging"):
            refuses(merging(4))
    with pytest.raises(ValueError, match=f"{merging.__name__} is no patch merging"):
        edge_stage(monai_stage((3, 3, 3), merging))


def monai_transformer(**options):
    """Four stages of two blocks."""
    torch.manual_seed(0)
    return stirred(SwinTransformer(1, 6, (3, 3, 3), (2, 2, 2), [2] * 4, [3] * 4, **options))


@pytest.mark.parametrize("norm", ["flat", "means"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("sides", [(40, 24, 56), (14, 44, 32)])
def test_the_transformer_on_planes_is_monais(sides, normalize, norm):
    """All five outputs, on grids with odd sides, with the norms of MONAI or written out."""
    transformer = monai_transformer()
    x = torch.randn(1, 1, *sides)
    with torch.no_grad():
        expected = transformer(x, normalize)
        form = edge_form(nn.Sequential(transformer), EdgeOptions(convolution="2d-concat", norm=norm)).network[0]
        assert isinstance(form, PlaneTransformer) == (norm == "means")
        outputs = form(planes_of(x), normalize)
    assert len(outputs) == len(expected) == 5
    for y, of_monai in zip(outputs, expected, strict=True):
        assert furthest(planes_of(y), of_monai) <= 5e-5


@pytest.mark.parametrize("options", [{"use_v2": True}, {"patch_norm": True}], ids=str)
def test_another_transformer_is_refused(options):
    """The second version convolves before each stage; a norm of the patches would be left out."""
    with pytest.raises(ValueError, match="no form on planes"):
        PlaneTransformer(monai_transformer(**options))


@functools.cache
def student_of(name, merging="v2"):
    """Random weights; built once, and no test may change it."""
    torch.manual_seed(0)
    return stirred(build_student(name, merging=merging))


def image(sides):
    return torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(0))


@functools.cache
def logits_of(name, merging, sides):
    with torch.no_grad():
        return student_of(name, merging)(image(sides))


def assert_is_written_as_asked(form, options, x, expected):
    """The same logits, at rank 5, with convolutions of the rank asked for and with or without norms; planes sum in another order."""
    y, operators = record(form, x)
    assert furthest(y, expected) <= (5e-5 if options.planes else 1e-5) * max(1.0, expected.abs().max().item())
    assert highest_rank(operators) <= 5
    assert {len(shape) for shape in convolution_shapes(operators)} == {4 if options.planes else 5}
    assert any("norm" in name for name, _ in operators) == (options.norm == "flat")


def assert_edge_form_is_the_student(name, merging, options, sides):
    """See :func:`assert_is_written_as_asked`."""
    assert_is_written_as_asked(edge_form(student_of(name, merging), options), options, image(sides), logits_of(name, merging, sides))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["swinunetr-tiny", "swinunetr-small"])
def test_the_edge_form_is_the_student(name, options):
    """With every way of writing it."""
    assert_edge_form_is_the_student(name, "v2", options, SMALL)


def test_the_edge_form_is_the_student_trained_with_the_legacy_merging():
    """The order is read off the student."""
    assert_edge_form_is_the_student("swinunetr-tiny", "legacy", OPTIONS["default"], SMALL)
    assert furthest(logits_of("swinunetr-tiny", "legacy", SMALL), logits_of("swinunetr-tiny", "v2", SMALL)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(96, 96, 96), (128, 64, 96)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["swinunetr-tiny", "swinunetr-small"])
def test_the_edge_form_is_the_student_on_whole_patches(name, options, sides):
    """On a cube and on a patch of unequal sides."""
    assert_edge_form_is_the_student(name, "v2", options, sides)


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
    """Of all parameters, but for those that marks and folding are made of."""
    values = torch.cat([parameter.detach().flatten() for parameter in parameters])
    return values[~torch.isin(values, torch.tensor([0.0, 1.0, -1.0, MASK, -MASK]))].sort().values


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["swinunetr-tiny", "swinunetr-small", "pocketnet"])
def test_every_parameter_is_the_students(name, options):
    """Number for number, none missing and none added; only queries are scaled, and an upsampling's biases repeat within a block."""
    student = student_of(name)
    held = dict(student.named_parameters())
    for path, module in student.named_modules():
        if isinstance(module, WindowAttention):
            for key in ("weight", "bias"):
                queries, rest = held[f"{path}.qkv.{key}"].split([module.dim, 2 * module.dim])
                held[f"{path}.qkv.{key}"] = torch.cat([queries * module.scale, rest])
        if isinstance(module, nn.ConvTranspose3d) and module.bias is not None and options.planes:
            outputs = module.kernel_size if options.transposed == "shuffle" else module.kernel_size[:1]
            held[f"{path}.bias"] = module.bias.repeat(math.prod(outputs))
    assert torch.equal(sorted_values(edge_form(student, options).parameters()), sorted_values(held.values()))


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
    assert all(torch.equal(before, after) for before, after in zip(state.values(), student.state_dict().values(), strict=True))
    assert modules == [(name, type(module)) for name, module in student.named_modules()]
    assert all(module.training for module in student.modules())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not any(module.training for module in form.modules())
    assert not any(parameter.requires_grad for parameter in form.parameters())


@pytest.mark.parametrize(
    "module", [OnPlanes(nn.Identity()), FlatInstanceNorm(nn.InstanceNorm3d(12), planes=False), edge_stage(monai_stage((3, 3, 3)))]
)
def test_a_batch_is_refused(module):
    """The batch axis holds depth and windows."""
    with pytest.raises(ValueError, match="one tile at a time"):
        module(torch.zeros(2, 12, 3, 3, 3))


def test_a_module_that_merges_nothing_is_refused():
    """By the same error as an unknown merging."""
    with pytest.raises(ValueError, match="no patch merging"):
        EdgeMerging(nn.Identity())
