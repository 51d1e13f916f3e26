"""Restoration equals the plain way: interpolate every class everywhere, take the largest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosam_edge.pipeline.decision import DecisionWeights
from autosam_edge.pipeline.resample import sample_positions
from autosam_edge.pipeline.restore import AxisMap, Restorer


def plain(probability, maps, shape):
    """(C, D, H, W) on the box -> labels, by brute force in float64."""
    result = np.zeros(shape, dtype=np.uint8)
    margin = np.full(shape, np.inf)
    volume = probability.astype(np.float64)
    for axis, axis_map in enumerate(maps, start=1):
        low = axis_map.lower
        high = np.minimum(low + 1, volume.shape[axis] - 1)
        f = axis_map.fraction.astype(np.float64).reshape([-1 if k == axis else 1 for k in range(4)])
        volume = volume.take(low, axis) * (1 - f) + volume.take(high, axis) * f
    covered = tuple(m.covered for m in maps)
    result[covered] = volume.argmax(axis=0)
    top = np.sort(volume, axis=0)[-2:]
    margin[covered] = top[1] - top[0]
    return result, margin


def random_probability(generator, classes, sides):
    """(C, D, H, W) probabilities, each voxel summing to 1."""
    logits = generator.standard_normal((classes, *sides)) * 3
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)


@settings(max_examples=40)
@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.floats(0.4, 5.0)] * 3),
    st.integers(2, 14),
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.booleans(),
)
def test_equals_the_plain_way(shape, spacing, classes, seed, block, weighted):
    """Every voxel whose winner leads by more than rounding has the same label, however the rows are fed.

    Also with weights from 0.1 to 10 on the probabilities: no class is dropped that could win.
    """
    generator = np.random.default_rng(seed)
    positions = [sample_positions(n, s, 2.0) for n, s in zip(shape, spacing, strict=True)]
    box = []
    for p in positions:
        start = int(generator.integers(0, len(p)))
        box.append((start, int(generator.integers(start + 1, len(p) + 1))))
    maps = tuple(AxisMap(p, n, a, b) for p, n, (a, b) in zip(positions, shape, box, strict=True))
    probability = random_probability(generator, classes, [b - a for a, b in box])

    labels = np.zeros(shape, dtype=np.uint8)
    weights = DecisionWeights(10 ** generator.uniform(-1, 1, classes) if weighted else np.ones(classes))
    restorer = Restorer(maps, labels, smallest_winner=weights.smallest_winner)
    rows = np.moveaxis(probability, 1, 0)
    weights.apply(rows)
    for first in range(0, len(rows), block):
        restorer.push(rows[first : first + block])
    expected, margin = plain(probability, maps, shape)
    clear = margin > (1e-4 if weighted else 1e-5)
    np.testing.assert_array_equal(labels[clear], expected[clear])


@settings(max_examples=30)
@given(
    st.tuples(*[st.integers(2, 12)] * 3),
    st.tuples(st.floats(-1.5, 1.5), st.sampled_from([0.0, 0.4, -0.7])),
    st.integers(2, 6),
    st.integers(0, 2**31),
    st.integers(1, 5),
)
def test_a_tilted_slice_equals_the_plain_way(shape, rise, classes, seed, block):
    """Along D, each column is interpolated at its own place; then the plane, as in an upright slice."""
    generator = np.random.default_rng(seed)
    positions = [
        sample_positions(side, spacing, 2.0) for side, spacing in zip(shape, (2.5, 1.1, 0.9), strict=True)
    ]
    along_h, along_w = rise[0] * positions[1][:, None], rise[1] * positions[2]
    nodes = along_h + along_w if rise[1] else along_h
    depth, height, width = (
        AxisMap(p, n, 0, len(p), nodes if axis == 0 else None)
        for axis, (p, n) in enumerate(zip(positions, shape, strict=True))
    )
    probability = random_probability(generator, classes, [len(p) for p in positions])

    labels = np.zeros(shape, dtype=np.uint8)
    restorer = Restorer((depth, height, width), labels)
    rows = np.moveaxis(probability, 1, 0)
    for first in range(0, len(rows), block):
        restorer.push(rows[first : first + block])

    sides = probability.shape[2:]
    for d in range(shape[0]):
        places = np.broadcast_to(d + nodes, sides)
        plane = np.empty((classes, *sides))
        for c, j, i in np.ndindex(classes, *sides):
            plane[c, j, i] = np.interp(places[j, i], positions[0], probability[c, :, j, i])
        flat = AxisMap(np.zeros(1), 1, 0, 1)
        expected, margin = plain(plane[:, None], (flat, height, width), (1, *shape[1:]))
        clear = margin[0] > 1e-4
        np.testing.assert_array_equal(labels[d][clear], expected[0][clear])


def test_beyond_the_box_is_background():
    """A box that is all organ leaves the rest of the scan unlabelled."""
    positions = sample_positions(40, 1.0, 2.0)
    maps = tuple(AxisMap(positions, 40, 5, 15) for _ in range(3))
    labels = np.zeros((40, 40, 40), dtype=np.uint8)
    probability = np.zeros((10, 2, 10, 10), dtype=np.float32)
    probability[:, 1] = 1.0
    Restorer(maps, labels).push(probability)
    assert labels[10:30, 10:30, 10:30].all()
    labels[10:30, 10:30, 10:30] = 0
    assert not labels.any()


@pytest.mark.parametrize("side", [1, 2, 7])
def test_an_axis_at_the_models_spacing_is_taken_as_it_is(side):
    """Same spacing: voxel k is voxel k."""
    axis_map = AxisMap(sample_positions(side, 3.0, 3.0), side, 0, side)
    np.testing.assert_allclose(axis_map.lower + axis_map.fraction, np.arange(side), atol=1e-6)
