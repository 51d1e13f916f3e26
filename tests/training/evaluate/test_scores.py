"""Scores in closed form, and the table that holds them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("monai")

from autosam_edge_test_support import refused

from autosam_edge_training.evaluate.scores import (
    COLUMNS,
    METRICS,
    Score,
    as_csv,
    read_csv,
    score_masks,
    surface_dice,
)

UNIT = (1.0, 1.0, 1.0)


def slab(stop, side=30):
    mask = np.zeros((side, side, side), bool)
    mask[5:stop, 5:25, 5:25] = True
    return mask


def score(case="1", organ="liver", **changes):
    values = {**dict.fromkeys(METRICS, 0.5), "gt_voxels": 3, "pred_voxels": 4, "spacing": UNIT, **changes}
    return Score("m", "d", case, organ, **values)


def test_two_slabs_two_millimeters_apart():
    """A face moved by 2 mm lies within 3 and 2 mm, and not within 1 mm; the other five faces agree."""
    one, two, three = surface_dice(slab(15), slab(17), UNIT)
    assert three == pytest.approx(1.0)
    assert two > 0.97
    assert 0.6 < one < 0.9


def test_spacing_scales_the_tolerance():
    """The same masks with voxels of 4 mm: the face is 8 mm away, outside of every tolerance."""
    coarse = (4.0, 4.0, 4.0)
    assert surface_dice(slab(15), slab(17), coarse)[2] < 0.95
    assert surface_dice(slab(15), slab(15), coarse) == (1.0, 1.0, 1.0)


def test_the_spacing_of_each_axis_counts_along_its_own():
    """A face moved by one voxel along D: within 1 mm if D is fine, beyond 3 mm if it is coarse."""
    assert surface_dice(slab(15), slab(16), (1.0, 5.0, 5.0))[0] == pytest.approx(1.0)
    assert surface_dice(slab(15), slab(16), (5.0, 1.0, 1.0))[2] < 0.95


def test_overlap_of_two_slabs():
    """10 of 12 slices: 2 * 10 / (10 + 12)."""
    assert score_masks(slab(15), slab(17), UNIT)["dice"] == pytest.approx(20 / 22)


@pytest.mark.parametrize(
    ("found", "truth", "skip", "challenge"),
    [
        (False, False, math.nan, 1.0),
        (True, False, math.nan, 0.0),
        (False, True, 0.0, 0.0),
        (True, True, 1.0, 1.0),
    ],
    ids=["neither", "only found", "missed", "both"],
)
def test_what_an_empty_organ_is_worth(found, truth, skip, challenge):
    """Under both rules, for all four metrics."""
    masks = [slab(15) if there else np.zeros((30, 30, 30), bool) for there in (found, truth)]
    for rule, expected in (("skip", skip), ("challenge", challenge)):
        assert list(score_masks(*masks, UNIT, absent_organ=rule).values()) == pytest.approx(
            [expected] * 4, nan_ok=True
        )


def test_a_table_comes_back_as_it_was(tmp_path):
    """Every digit; a score that was skipped is an empty cell."""
    rows = [
        score(dice=1 / 3, spacing=(5.0, 0.7617, 0.76)),
        score(organ="spleen", **dict.fromkeys(METRICS, math.nan), gt_voxels=0),
    ]
    text = as_csv(rows)
    assert (
        text.splitlines()[0]
        == "method,dataset,case,organ,dice,nsd_1,nsd_2,nsd_3,gt_voxels,pred_voxels,spacing"
    )
    assert text.splitlines()[2] == "m,d,1,spleen,,,,,0,4,1.0x1.0x1.0"
    (tmp_path / "cases.csv").write_text(text)
    first, second = read_csv(tmp_path / "cases.csv")
    assert first == rows[0]
    assert math.isnan(second.dice)
    assert dataclasses.replace(second, **dict.fromkeys(METRICS, 0.5)) == dataclasses.replace(
        rows[1], **dict.fromkeys(METRICS, 0.5)
    )


def test_a_table_that_a_spreadsheet_saved_is_the_same(tmp_path):
    """With a byte order mark and the line ends of Windows."""
    text = as_csv([score()])
    path = tmp_path / "cases.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_csv(path) == [score()]


HEAD = ",".join(COLUMNS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD,
        "case,organ,dice\n1,liver,0.5",
        f"{HEAD}\nm,d,1,liver,1.5,1,1,1,3,4,1x1x1",
        f"{HEAD}\nm,d,1,liver,0.5,1,1,1,3,4,1x1",
        f"{HEAD}\nm,d,1,liver,0.5,1,1",
        f"{HEAD}\nm,d,1,liver,0.5,1,1,1,3,4,1x1x1,9",
        f"{HEAD}\nm,d,1,liver,half,1,1,1,3,4,1x1x1",
        f"{HEAD}\nm,d,1,{'x' * 200_000},1,1,1,1,3,4,1x1x1",
        f"{HEAD}\n" + "m,d,1,liver,1,1,1,1,3,4,1x1x1\n" * 2,
        f"{HEAD}\nm,d,1,liver,1,1,1,1,3,4,1x1x1\nn,d,2,liver,1,1,1,1,3,4,1x1x1",
    ],
    ids=[
        "nothing",
        "no row",
        "other columns",
        "beyond 1",
        "two sides",
        "short",
        "long",
        "no number",
        "a cell without end",
        "twice",
        "two methods",
    ],
)
def test_a_table_that_cannot_be_used_is_refused(text, tmp_path):
    """Rather than compared."""
    (tmp_path / "cases.csv").write_text(text)
    with refused("AE-DATA-012"):
        read_csv(tmp_path / "cases.csv")
