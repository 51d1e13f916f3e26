"""Convolutions and norms of the edge form are those that they replace."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")
from autosam_edge_test_networks import (
    convolution_shapes,
    furthest,
    highest_rank,
    planes_of,
    record,
    stirred,
    triples,
)
from torch import nn

from autosam_edge_export.edge.layers import (
    FlatInstanceNorm,
    MeansInstanceNorm,
    MeansLayerNorm,
    PlaneConvolution,
    PlaneUpsampling,
    folding_convolution,
)
from autosam_edge_training.networks.pocketnet import Fold

pytestmark = pytest.mark.usefixtures("one_thread")


def plain(**changes):
    """A convolution that keeps the sides of its input, but for these changes."""
    same = {"kernel": (3, 3, 3), "stride": (1, 1, 1), "padding": (1, 1, 1), "bias": True, "taps": "sum"}
    return same | changes


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
@example(channels=(3, 2), more=(0, 4, 5), **plain(kernel=(5, 3, 3), padding=(2, 1, 1)))
@example(channels=(3, 2), more=(1, 4, 5), **plain())
@example(channels=(2, 3), more=(5, 4, 3), **plain(stride=(1, 2, 1), padding=(1, 1, 0)))
@example(channels=(2, 3), more=(5, 4, 3), **plain(bias=False, taps="concat"))
@example(channels=(2, 3), more=(3, 2, 5), **plain(kernel=(2, 2, 2), stride=(2, 2, 2), padding=(0, 0, 0)))
@example(channels=(2, 3), more=(1, 2, 5), **plain(kernel=(2, 2, 2), stride=(2, 2, 2), padding=(1, 0, 0)))
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
    "options",
    [
        {"groups": 2},
        {"dilation": 2},
        {"dilation": (1, 1, 2)},
        {"padding_mode": "circular"},
        {"padding": "same"},
    ],
    ids=str,
)
def test_a_convolution_without_a_2d_form_is_refused(options):
    """Groups, dilation and padding with anything but a number of zeros."""
    with pytest.raises(ValueError, match="plain convolutions"):
        PlaneConvolution(nn.Conv3d(4, 4, 3, **options), "sum")


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
)
@example(channels=(3, 2), sides=(3, 5, 4), kernel=(1, 2, 3), bias=True)
@example(channels=(3, 2), sides=(3, 5, 4), kernel=(3, 2, 1), bias=True)
@example(channels=(2, 3), sides=(5, 3, 1), kernel=(2, 2, 2), bias=False)
def test_a_transposed_convolution_gives_blocks_of_planes(channels, sides, kernel, bias):
    """Whatever its kernel, as long as that is its stride; at rank 5."""
    torch.manual_seed(0)
    conv = nn.ConvTranspose3d(*channels, kernel, stride=kernel, bias=bias)
    x = torch.randn(1, channels[0], *sides)
    y, operators = record(PlaneUpsampling(conv), planes_of(x))
    assert furthest(planes_of(y), conv(x)) <= 1e-5
    assert highest_rank(operators) <= 5
    plane = tuple(side * edge for side, edge in zip(sides[1:], kernel[1:], strict=True))
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
def test_a_transposed_convolution_whose_blocks_touch_is_refused(blocks):
    """Blocks that overlap, leave gaps or are cut."""
    with pytest.raises(ValueError, match="kernel = stride"):
        PlaneUpsampling(nn.ConvTranspose3d(4, 4, **blocks))


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
@given(
    channels=st.integers(1, 6),
    sides=triples(1, 9).filter(lambda sides: math.prod(sides) > 1),
    affine=st.booleans(),
)
@example(channels=2, sides=(24, 40, 33), affine=True)
@example(channels=3, sides=(7, 1, 1), affine=True)
@example(channels=3, sides=(1, 5, 4), affine=False)
def test_the_instance_norm_written_out_is_the_instance_norm(offset, most, channels, sides, affine):
    """Also where channels are far from zero, within the rounding of float32: the mean is subtracted first."""
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


@pytest.mark.parametrize(
    "written_out", [lambda norm: FlatInstanceNorm(norm, planes=False), MeansInstanceNorm]
)
def test_a_norm_that_keeps_running_statistics_is_refused(written_out):
    """At inference it would not look at its input's own."""
    with pytest.raises(ValueError, match="running statistics"):
        written_out(nn.InstanceNorm3d(3, track_running_stats=True))


def test_a_layer_norm_over_several_axes_is_refused():
    """Its average is over one."""
    with pytest.raises(ValueError, match="unpack"):
        MeansLayerNorm(nn.LayerNorm((3, 4)))


def test_the_flat_norm_refuses_a_batch():
    """At rank 3 its items would be mixed."""
    with pytest.raises(ValueError, match="one tile at a time"):
        FlatInstanceNorm(nn.InstanceNorm3d(12), planes=False)(torch.zeros(2, 12, 3, 3, 3))
