"""The winner is the class with the largest product of probability and weight, never below the bound."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autosam_edge.pipeline.decision import DecisionWeights


def weighted(weights, probability):
    """Decide about one row of voxels, (C, W) probabilities."""
    rows = np.array(probability, np.float32)[None, :, None, :]
    weights.apply(rows)
    winner, certainty = weights.winners(rows)
    return winner[0, 0].tolist(), certainty[0, 0], rows


def test_a_weight_finds_what_the_network_doubts():
    """0.3 of an organ times 2.5 exceeds 0.7 of background, 0.2 does not; the certainty is the network's."""
    winner, certainty, _ = weighted(DecisionWeights((1.0, 2.5)), [[0.7, 0.8, 0.1], [0.3, 0.2, 0.9]])
    assert winner == [1, 0, 1]
    np.testing.assert_allclose(certainty, [0.3, 0.8, 0.9], rtol=1e-6)


def test_equal_products_go_to_the_lowest_class():
    """As argmax does."""
    assert weighted(DecisionWeights((1.0, 1.0, 1.0)), [[0.2], [0.4], [0.4]])[0] == [1]


def test_without_weights_the_bound_is_that_of_the_largest_probability():
    """One of C classes has at least 1 / C."""
    assert DecisionWeights([1.0] * 14).smallest_winner == 1 / 14


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=14), st.integers(0, 2**31))
def test_no_winner_is_below_the_bound(values, seed):
    """On random voxels, and exactly at it where all products are equal."""
    weights = DecisionWeights(values)
    generator = np.random.default_rng(seed)
    probability = generator.dirichlet(np.ones(len(values)) * 0.3, size=200).T
    equal = (1 / np.array(values)) / (1 / np.array(values)).sum()
    *_, rows = weighted(weights, np.hstack([probability, equal[:, None]]))
    largest = rows[0, :, 0].max(axis=0)
    assert largest.min() >= weights.smallest_winner * (1 - 1e-5)
    np.testing.assert_allclose(largest[-1], weights.smallest_winner, rtol=1e-5)
