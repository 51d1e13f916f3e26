"""The expected Dice of an organ: from probabilities to the statistics and the warning."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import LIMITS, make_model, parse_manifest

from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.errors import BundleError
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.measurements import dice, organ_statistics
from autosam_edge.plausibility.expected_dice import Confidence, SoftDice, near_organs
from autosam_edge.session import Session
from autosam_edge.volume import Volume
from autosam_edge.warning_codes import LOW_EXPECTED_DICE

SPLEEN, KIDNEY = (label.name for label in BTCV_LABELS[:2])
CONFIDENCE = Confidence(
    temperature=1.0,
    slope=1.0,
    offsets={SPLEEN: 0.0, KIDNEY: -2.0},
    warn_below=0.5,
    organs=40,
    mean_error=0.05,
    caught=0.8,
    false_alarms=0.1,
    scans=("one", "two"),
)


def soft_dice(rows, weights=(1.0, 1.0, 1.0), temperature=1.0):
    """By organ, of (rows, C, H, W) probabilities."""
    collector = SoftDice(weights, temperature)
    collector.push(near_organs(np.asarray(rows, dtype=np.float32)))
    return collector.by_organ(BTCV_LABELS[: len(weights) - 1])


@pytest.mark.parametrize(
    ("weights", "temperature", "expected"),
    [
        # The spleen wins the first voxel: 2 x 0.8 / (1 + 0.8 + 0.3 + 0.2); the kidney the second.
        ((1.0, 1.0, 1.0), 1.0, {SPLEEN: 1.6 / 2.3, KIDNEY: 1.2 / 1.9}),
        # A weight of 4 gives it all three voxels, and changes no probability.
        ((1.0, 4.0, 1.0), 1.0, {SPLEEN: 2.6 / 4.3}),
        # With a temperature of 0.5 the probabilities are squared.
        (
            (1.0, 1.0, 1.0),
            0.5,
            {
                SPLEEN: 2 * 64 / 66 / (1 + 64 / 66 + 4 / 44 + 9 / 38),
                KIDNEY: 2 * 36 / 44 / (1 + 1 / 66 + 36 / 44 + 4 / 38),
            },
        ),
    ],
)
def test_the_soft_dice_is_that_of_its_definition(weights, temperature, expected):
    """On three voxels and one that is background for certain, counted by hand."""
    rows = np.array([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2], [0.995, 0.005, 0.0]]).T
    found = soft_dice(rows[None, :, None], weights, temperature)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_soft_dice_is_the_dice_if_the_probabilities_are_right():
    """Labels by probability against a truth that is drawn with these probabilities."""
    rng = np.random.default_rng(0)
    probability = np.clip(rng.normal(0.4, 0.35, (20, 40, 50)), 0.0, 1.0)
    truth = rng.random(probability.shape) < probability
    found = soft_dice(np.stack([1 - probability, probability], axis=1), (1.0, 1.0))
    assert found[SPLEEN] == pytest.approx(dice(probability > 0.5, truth), abs=0.01)


@pytest.mark.parametrize("soft", [0.0, 0.3, 0.9, 1.0])
def test_the_expected_dice_rises_with_the_soft_dice_by_organ(soft):
    """Slope 1 and offset 0 change only the ends; a lower offset expects less; an unknown organ has none."""
    found = CONFIDENCE.expected_dice({SPLEEN: soft, KIDNEY: soft, "liver": soft})
    assert found[SPLEEN] == pytest.approx(min(max(soft, 0.001), 0.999))
    assert 0.0 < found[KIDNEY] < found[SPLEEN] < 1.0
    assert "liver" not in found


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"slope": -1.0},
        {"offsets": {SPLEEN: 1e9}},
        {"warn_below": 1.5},
        {"mean_error": -0.1},
        {"caught": 2.0},
        {"false_alarms": float("inf")},
        {"organs": 0},
        {"scans": "one"},
        {"offsets": [1.0]},
        {"offsets": {"toe": 1.0}},
        {"organs": 1.5},
        {"more": 1},
    ],
)
def test_a_bundle_with_an_impossible_map_is_refused(changes):
    """A manifest is data from outside: AE-BUNDLE-003."""
    content = {**dataclasses.asdict(CONFIDENCE), **changes}
    with pytest.raises(BundleError, match="AE-BUNDLE-003"):
        parse_manifest(confidence=content)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, None), ({"confidence": None}, None), ({"confidence": dataclasses.asdict(CONFIDENCE)}, CONFIDENCE)],
)
def test_a_bundle_may_have_no_map(changes, expected):
    """Null and nothing are the same."""
    manifest = parse_manifest(**changes)
    assert manifest.confidence == manifest.model("").confidence == expected


@pytest.fixture(scope="module")
def volume():
    """Air, and a block of 40 HU for the spleen; no voxel of 200 HU for the kidney."""
    hu = np.full((40, 50, 60), -1000, np.int16)
    hu[4:36, 10:30, 10:40] = 40
    return Volume(hu, Grid.axis_aligned(hu.shape, (3.0, 2.0, 2.0)))


def segment(volume, **changes):
    """Labels of a network that is sure of what it says."""
    model = dataclasses.replace(make_model(spacing_mm=(3.0, 2.0, 2.0)), **changes)
    return Session(model, ThresholdEngine((-125.0, 40.0, 200.0))).segment(volume)


@pytest.mark.parametrize("plausibility", [None, LIMITS])
def test_a_run_expects_the_dice_of_each_organ_and_changes_no_label(volume, plausibility):
    """Near 1 where the network is sure; none for an organ that was not found, or without a map."""
    plain = segment(volume, plausibility=plausibility)
    found = segment(volume, plausibility=plausibility, confidence=CONFIDENCE)
    assert np.array_equal(found.labels, plain.labels)
    spleen, kidney = organ_statistics(volume, found)
    assert 0.95 < spleen.expected_dice <= 1.0
    assert kidney.expected_dice is None
    assert {organ.expected_dice for organ in organ_statistics(volume, plain)} == {None}
    assert found.verdict == plain.verdict
    assert found.warnings == plain.warnings


@hazard("Plausibility of the labels", "the labels of an organ are probably wrong in parts", LOW_EXPECTED_DICE)
@pytest.mark.parametrize("plausibility", [None, LIMITS])
def test_an_organ_with_a_low_expected_dice_has_a_warning(volume, plausibility):
    """The organ and the limit are named; the verdict stays."""
    unsure = dataclasses.replace(CONFIDENCE, offsets={SPLEEN: -9.0, KIDNEY: -9.0})
    found = segment(volume, plausibility=plausibility, confidence=unsure)
    (warning,) = (w for w in found.warnings if w.code == LOW_EXPECTED_DICE.code)
    assert (warning.severity, warning.organ) == ("caution", SPLEEN)
    assert "is below 0.50" in warning.message
    assert found.verdict == segment(volume, plausibility=plausibility).verdict
