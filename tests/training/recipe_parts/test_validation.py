"""Validation measures Dice of what a network says, organ by organ, and leaves the network as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("scipy")
from torch import nn

from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, Case
from autosam_edge_training.recipe_parts.validation import validate

CPU = torch.device("cpu")
PATCH = (8, 8, 8)
CLASSES = 4
STEP_HU = 40  # from one class to the next in the image


class Reader(nn.Module):
    """Reads the class off the gray value, in which the cases below carry it; notes what it saw."""

    def __init__(self, intensity):
        super().__init__()
        levels = (torch.arange(CLASSES) * STEP_HU - intensity.offset) / intensity.scale
        self.register_buffer("levels", levels.reshape(1, CLASSES, 1, 1, 1))
        self.dropout = nn.Dropout(0.9)
        self.seen = []

    def forward(self, image):
        self.seen.append(image)
        return self.dropout(1000.0 - 1000.0 * (image - self.levels) ** 2)


class Always(nn.Module):
    """Says the same class of every voxel."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, image):
        logits = torch.zeros(image.shape[0], CLASSES, *image.shape[2:])
        logits[:, self.label] = 1
        return logits


def case_of(labels, intensity=BTCV_INTENSITY):
    """A case whose image tells its labels."""
    return Case("c", (labels.astype(np.int16) * STEP_HU), labels.astype(np.uint8), CLASSES, intensity)


def random_labels(shape, *, low=0, high=CLASSES):
    return np.random.default_rng(0).integers(low, high, shape)


def scores_of(network, *cases):
    return validate(network, cases, PATCH, device=CPU)


@pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
@pytest.mark.parametrize(
    "shape", [(8, 8, 8), (8, 13, 21), (5, 9, 6)], ids=["one window", "many windows", "smaller"]
)
def test_the_truth_scores_1(shape, intensity):
    """One window, several that overlap, and a scan smaller than the patch: every voxel is right."""
    assert scores_of(Reader(intensity), case_of(random_labels(shape), intensity)) == [1.0, 1.0, 1.0]


def test_an_organ_that_no_case_has_has_no_score():
    """None, where Dice would be a division by zero; the others are as they were."""
    cases = [case_of(random_labels((8, 8, 8), high=2)), case_of(np.where(random_labels((8, 8, 8)) > 1, 3, 0))]
    assert scores_of(Reader(BTCV_INTENSITY), *cases) == [1.0, None, 1.0]


def test_scores_are_means_over_the_cases_that_have_the_organ():
    """All predicted as class 1: 2 n / (n + 512) for two cases with n voxels of it; class 2 is never found."""
    labels = np.zeros((3, 8, 8, 8), np.uint8)
    labels[0, :4], labels[0, 4:] = 1, 2
    labels[1, :1] = 1
    expected = (2 * 256 / (256 + 512) + 2 * 64 / (64 + 512)) / 2
    scores = scores_of(Always(1), *map(case_of, labels))
    assert scores == [pytest.approx(expected), 0.0, None]


def test_what_is_labeled_in_part_has_no_score():
    """Class 1 is known, of class 2 only a part is labeled: the truth itself would not score 1."""
    labels = np.where(random_labels((8, 8, 8)) == 1, 1, CLASSES)
    labels[0, 0] = 2
    case = replace(case_of(labels), known=frozenset({1}))
    assert scores_of(Reader(BTCV_INTENSITY), case) == [1.0, None, None]


def test_occupancies_are_held_against_the_class_that_fills_most():
    """A voxel with 40 % of class 1 and 35 % of class 3 is one of class 1."""
    shares = np.zeros((CLASSES, 8, 8, 8), np.uint8)
    shares[0], shares[1], shares[3] = 64, 102, 89
    case = Case("c", np.full((8, 8, 8), STEP_HU, np.int16), shares, CLASSES, BTCV_INTENSITY)
    assert scores_of(Reader(BTCV_INTENSITY), case) == [1.0, None, None]


@pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
def test_the_network_sees_what_the_runtime_shows(intensity):
    """(HU - offset) / scale, the end slices repeated, the window's lower end beside them."""
    labels = np.full((4, 6, 8), 3)
    labels[0], labels[-1] = 1, 2
    network = Reader(intensity)
    scores_of(network, case_of(labels, intensity))
    (seen,) = network.seen
    assert seen.shape == (1, 1, *PATCH)
    rows = (np.array([1, 1, 1, 3, 3, 2, 2, 2]) * STEP_HU - intensity.offset) / intensity.scale
    inside = seen[0, 0, :, 1:7].numpy()
    np.testing.assert_allclose(inside, np.broadcast_to(rows[:, None, None], inside.shape), rtol=1e-6)
    assert seen[0, 0, :, [0, 7]].unique().tolist() == pytest.approx([intensity.low])


@pytest.mark.parametrize("training", [True, False])
def test_the_networks_mode_is_restored(training):
    """It is asked in eval mode, where dropout does nothing, and goes on in the mode that it was in."""
    network = Reader(BTCV_INTENSITY).train(training)
    assert scores_of(network, case_of(random_labels(PATCH))) == [1.0, 1.0, 1.0]
    assert (network.training, network.dropout.training) == (training, training)


def test_nothing_is_kept_for_a_gradient():
    """A validation within training takes no more memory than its windows."""
    network = nn.Conv3d(1, CLASSES, 1)
    outputs = []
    network.register_forward_hook(lambda module, args, output: outputs.append(output))
    scores_of(network, case_of(random_labels(PATCH)))
    assert [output.requires_grad for output in outputs] == [False]
