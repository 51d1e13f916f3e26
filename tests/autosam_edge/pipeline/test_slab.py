"""Tiles that agree blend to what they agree on; the slab checks them, drops the padding and rolls on."""

from __future__ import annotations

import numpy as np
import pytest

from autosam_edge.errors import EngineError
from autosam_edge.pipeline.slab import ROWS_AT_ONCE, Slab
from autosam_edge.pipeline.tiles import TilePlan
from autosam_edge.system.thread_team import ThreadTeam

PATCH = (16, 16, 16)
ALL = slice(None)


def logits_of(probabilities, shape=PATCH):
    """The same class probabilities in every voxel of a tile."""
    return np.broadcast_to(np.log(probabilities)[:, None, None, None], (len(probabilities), *shape)).astype(
        np.float32
    )


def windows(tiles):
    return [(ALL, slice(h, h + 16), slice(w, w + 16)) for h in tiles.starts[1] for w in tiles.starts[2]]


def test_tiles_that_agree_give_their_own_probabilities():
    """Whatever the overlap, the weights cancel out.

    Blocks of at most ROWS_AT_ONCE rows cover the box and no padding.
    """
    tiles = TilePlan((12, 40, 23), PATCH, 0.5)
    slab = Slab(tiles, 3)
    for window in windows(tiles):
        slab.add(logits_of((0.2, 0.7, 0.1)), window)
    blocks = list(slab.finished(0, 16))
    assert [len(block) for block in blocks] == [ROWS_AT_ONCE, 12 - ROWS_AT_ONCE]
    rows = np.concatenate(blocks)
    assert rows.shape == (12, 3, 40, 23)
    np.testing.assert_allclose(
        rows, np.broadcast_to(np.array([0.2, 0.7, 0.1])[:, None, None], rows.shape), rtol=1e-5
    )


def test_a_background_tile_is_a_tile_of_background():
    """As a network that is sure of it."""
    tiles = TilePlan(PATCH, PATCH, 0.0)
    slab = Slab(tiles, 2)
    slab.add_background((ALL, ALL, ALL))
    rows = np.concatenate(list(slab.finished(0, 16)))
    assert (rows[:, 0] == 1).all()
    assert (rows[:, 1] == 0).all()


def test_rows_that_were_handed_over_leave_no_trace():
    """Half of the slab is rolled out.

    What was in the other half is now its first rows, and a new tile is added to it.
    """
    tiles = TilePlan((24, 16, 16), PATCH, 0.5)
    slab, whole = Slab(tiles, 2), (ALL, ALL, ALL)
    slab.add(logits_of((0.9, 0.1)), whole)
    slab.roll(8)
    slab.add(logits_of((0.1, 0.9)), whole)
    first = np.concatenate(list(slab.finished(8, 8)))[:, 1, 8, 8]
    slab.roll(8)
    last = np.concatenate(list(slab.finished(16, 8)))[:, 1, 8, 8]
    assert (np.diff(first) > 0).all()  # from the center of the first tile to that of the second
    assert 0.1 < first[0] < first[-1] < 0.9
    np.testing.assert_allclose(last, 0.9, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("row", [0, 15])
def test_a_value_that_is_not_finite_is_refused(row, threads):
    """In the first row and the last, which two threads add."""
    logits = logits_of((0.2, 0.7, 0.1)).copy()
    logits[1, row, 3, 4] = np.nan
    with pytest.raises(EngineError, match="AE-ENGINE-005"):
        Slab(TilePlan(PATCH, PATCH, 0.0), 3, ThreadTeam(threads)).add(logits, (ALL, ALL, ALL))


def test_logits_of_another_number_of_classes_are_refused():
    """Before one of them is added."""
    with pytest.raises(EngineError, match="AE-ENGINE-003"):
        Slab(TilePlan(PATCH, PATCH, 0.0), 3).add(logits_of((0.5, 0.5)), (ALL, ALL, ALL))
