"""Windows, shifts, attention and merging of the edge form are MONAI's."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")
from autosam_edge_test_networks import furthest, highest_rank, planes_of, record, stirred, triples
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

from autosam_edge_export.edge import EdgeOptions, edge_form
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

KINDS = ["matmul", "by-head", "fused"]


pytestmark = pytest.mark.usefixtures("one_thread")


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
    """Exactly 0 within a region, -100 or less between two (MONAI adds -100); one window is not shifted."""
    grid = [edge * count for edge, count in zip(window, counts, strict=True)]
    shift = [edge // 2 if count > 1 else 0 for edge, count in zip(window, counts, strict=True)]
    attention = EdgeAttention(
        stirred(WindowAttention(6, 3, window, qkv_bias=True)), "matmul", marked=True
    ).to(dtype)
    x = torch.cat([torch.randn(*grid, 6), tail_marks(grid, shift, torch.zeros(1))], dim=-1)
    tokens = window_partition(x[None], window).to(dtype)
    with torch.no_grad():
        q, k, v = (
            project(tokens).unflatten(-1, (3, -1)).transpose(1, 2)
            for project in (attention.q, attention.k, attention.v)
        )
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
    made = EdgeStage(stage, EdgeOptions(attention=kind, convolution=convolution)).eval()
    for block in made.blocks:
        block.windows_at_once = windows_at_once
    return made


@settings(max_examples=60)
@given(
    sides=triples(1, 9),
    window=st.sampled_from([(3, 3, 3), (4, 4, 4), (2, 3, 4)]),
    kind=st.sampled_from(KINDS),
    windows_at_once=st.sampled_from([1, 3, 49]),
    downsample=st.sampled_from([None, PatchMerging]),
)
@example(sides=(9, 7, 5), window=(4, 4, 4), kind="matmul", windows_at_once=1, downsample=PatchMerging)
@example(sides=(9, 7, 5), window=(4, 4, 4), kind="fused", windows_at_once=49, downsample=PatchMerging)
@example(sides=(9, 7, 5), window=(4, 4, 4), kind="by-head", windows_at_once=3, downsample=PatchMerging)
@example(sides=(8, 4, 8), window=(4, 4, 4), kind="matmul", windows_at_once=3, downsample=None)
@example(sides=(2, 9, 6), window=(3, 3, 3), kind="fused", windows_at_once=3, downsample=PatchMerging)
@example(sides=(7, 2, 2), window=(4, 4, 4), kind="by-head", windows_at_once=49, downsample=PatchMerging)
@example(sides=(2, 3, 2), window=(3, 3, 3), kind="fused", windows_at_once=1, downsample=None)
def test_a_stage_is_monais(sides, window, kind, windows_at_once, downsample):
    """On odd, unequal and small grids, within the rounding of float32 and of float64."""
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
    assert [len(shape) for name, shape in operators if name == "_softmax"] == [rank] * (
        2 if kind == "matmul" else 6
    )


def test_fused_attention_is_one_operator():
    """No softmax is written out."""
    names = [
        name
        for name, _ in record(edge_stage(monai_stage((3, 3, 3)), "fused"), torch.randn(1, 12, 3, 6, 6))[1]
    ]
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
    """With its tables at zero, MONAI's stage gives other values, so an equal stage has the tables."""
    stage = monai_stage((4, 4, 4))
    x = torch.randn(1, 12, *sides)
    with torch.no_grad():
        biased = stage(x)
        edge = edge_stage(stage, kind)
        for block in stage.blocks:
            block.attn.relative_position_bias_table.zero_()
        assert furthest(stage(x), biased) > 1e-3
        assert furthest(edge(x), biased) <= 1e-5


@pytest.mark.parametrize("kind", ["matmul", "by-head"])
@pytest.mark.parametrize(("windows_at_once", "most"), [(1, 4), (4, 4), (7, 4), (9, 8), (49, 16)])
def test_no_more_windows_than_asked_have_scores_together(windows_at_once, most, kind):
    """In whole rows, here of 4 windows, at least one row and at most a slab."""
    _, operators = record(
        edge_stage(monai_stage((3, 3, 3)), kind, windows_at_once), torch.randn(1, 12, 6, 12, 12)
    )
    assert max(shape[0] for name, shape in operators if name == "_softmax") == most


class AnotherMerging(PatchMerging):
    """Whoever inherits may have changed the order."""


@pytest.mark.parametrize("merging", [PatchMergingV2, AnotherMerging])
def test_an_unknown_merging_is_refused(merging):
    """It has the parameters of those that are known, and another order: alone or in a stage."""
    with pytest.raises(ValueError, match=f"{merging.__name__} is no patch merging"):
        EdgeMerging(merging(4))
    with pytest.raises(ValueError, match=f"{merging.__name__} is no patch merging"):
        edge_stage(monai_stage((3, 3, 3), merging))


def test_a_module_that_merges_nothing_is_refused():
    """By the same error as an unknown merging."""
    with pytest.raises(ValueError, match="no patch merging"):
        EdgeMerging(nn.Identity())


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
        form = edge_form(nn.Sequential(transformer), EdgeOptions(convolution="2d-concat", norm=norm)).network[
            0
        ]
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


def test_a_stage_refuses_a_batch():
    """The batch axis holds windows."""
    with pytest.raises(ValueError, match="one tile at a time"):
        edge_stage(monai_stage((3, 3, 3)))(torch.zeros(2, 12, 3, 3, 3))
