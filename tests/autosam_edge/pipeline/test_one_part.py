"""Parts are found as scipy finds them; the surest one stays; nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosam_edge.pipeline.one_part import OnePartFilter, connect, find_label_runs, touching
from autosam_edge.pipeline.resample import sample_positions
from autosam_edge.pipeline.restore import AxisMap, Restorer


@settings(max_examples=60)
@given(st.tuples(*[st.integers(1, 9)] * 3), st.floats(0.05, 0.9), st.integers(1, 3), st.integers(0, 2**31))
def test_components_are_those_of_scipy(shape, density, values, seed):
    """26-connected parts per label, on random volumes from dust to solid."""
    ndimage = pytest.importorskip("scipy.ndimage")
    generator = np.random.default_rng(seed)
    labels = (generator.integers(1, values + 1, shape) * (generator.random(shape) < density)).astype(np.uint8)
    runs = find_label_runs(labels)
    rebuilt = np.zeros(shape, dtype=np.uint8)
    ours = np.zeros(shape, dtype=int)
    component = connect(len(runs.row), *touching(runs, shape))
    for row, start, stop, value, part in zip(
        runs.row, runs.start, runs.stop, runs.value, component, strict=True
    ):
        rebuilt[row // shape[1], row % shape[1], start:stop] = value
        ours[row // shape[1], row % shape[1], start:stop] = part + 1
    np.testing.assert_array_equal(rebuilt, labels)
    for value in range(1, values + 1):
        theirs, count = ndimage.label(labels == value, structure=np.ones((3, 3, 3)))
        pairs = {
            (int(a), int(b)) for a, b in zip(ours[labels == value], theirs[labels == value], strict=True)
        }
        assert len(pairs) == count == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def scene(sure_small):
    """A large block and a small one of organ 1, apart.

    The small one sure, the large one hesitant, or the other way round.
    """
    probability = np.zeros((20, 2, 20, 20), dtype=np.float32)
    probability[2:12, 1, 2:12, 2:12] = 0.55 if sure_small else 0.95
    probability[14:19, 1, 14:19, 14:19] = 0.99
    probability[:, 0] = 1 - probability[:, 1]
    return probability


POSITIONS = sample_positions(50, 1.0, 2.5)


def restored(probability, values, rise=None):
    """Labels before and after the rule, and what it removed."""
    maps = tuple(AxisMap(POSITIONS, 50, 0, 20, rise if axis == 0 else None) for axis in range(3))
    labels = np.zeros((50, 50, 50), dtype=np.uint8)
    restorer, one_part = Restorer(maps, labels), OnePartFilter((20, 20, 20), frozenset(values))
    for first in range(0, 20, 7):
        rows = probability[first : first + 7]
        restorer.push(rows)
        one_part.push(rows.argmax(axis=1).astype(np.uint8), rows.max(axis=1))
    before = labels.copy()
    return before, labels, one_part.clean(labels, maps)


@pytest.mark.parametrize("sure_small", [True, False])
def test_the_surest_part_stays(sure_small):
    """1000 voxels at 0.55 weigh less than 125 at 0.99 (100 against 122); at 0.95 they weigh more."""
    before, after, removed = restored(scene(sure_small), {1})
    small = np.zeros(before.shape, dtype=bool)
    small[32:, 32:, 32:] = True
    keeps, loses = (small, ~small) if sure_small else (~small, small)
    np.testing.assert_array_equal(after[keeps], before[keeps])
    assert not after[loses].any()
    assert removed == {1: int((before != after).sum())}


@pytest.mark.parametrize("across", [False, True])
def test_a_part_is_removed_from_tilted_slices(across):
    """The removed block vanishes and the other one stays, although each slice cuts many rows of the model."""
    rise = 0.4 * (POSITIONS[:, None] + (POSITIONS if across else 0)) - 10.0
    before, labels, removed = restored(scene(sure_small=False), {1}, rise)
    index = np.indices(labels.shape)
    row = index[0] + 0.4 * (index[1] + (index[2] if across else 0)) - 10.0  # in input voxels
    small = (before == 1) & (row > 32) & (index[1] > 32) & (index[2] > 32)
    assert small.any()
    assert ((before == 1) & ~small).any()
    np.testing.assert_array_equal(labels, np.where(small, 0, before))
    assert removed == {1: small.sum()}


def test_an_organ_that_may_be_in_parts_is_left_alone():
    """Only the organs that the bundle names are cleaned."""
    before, after, removed = restored(scene(sure_small=True), set())
    np.testing.assert_array_equal(before, after)
    assert removed == {}
