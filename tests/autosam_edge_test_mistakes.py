"""Mistakes that an app can make around the network, each made in our own runtime (docs/apps.md)."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np

from autosam_edge.pipeline import resample, run, slab, tiles
from autosam_edge.pipeline.one_part import OnePartFilter
from autosam_edge.pipeline.restore import axis_maps
from autosam_edge.pipeline.run import TileRun
from autosam_edge.session import Session


def changed_input(**changes):
    """A model with another input contract."""
    return lambda model, *scan: labels_of(replace(model, input=replace(model.input, **changes)), *scan)


def without(**rules):
    """A model without a rule."""
    return lambda model, *scan: labels_of(replace(model, **rules), *scan)


def patched(*patch):
    """The runtime with one function in the place of another."""

    def labels(*model_and_scan):
        with mock.patch.object(*patch):
            return labels_of(*model_and_scan)

    return labels


def scored(score):
    """The score of a part is the sum of ``score``, a function of (model, winner, p)."""
    push = OnePartFilter.push

    def labels(model, *scan):
        def wrong(one_part, winner, probability):
            # What the filter computes from this probability is the score, times 256.
            push(one_part, winner, (256.0 * score(model, winner, probability) + 254.0) / 510.0)

        return patched(OnePartFilter, "push", wrong)(model, *scan)

    return labels


def labels_of(model, formula, volume):
    """Labels (D, H, W) of a volume, with a formula in the place of the network."""
    return Session(model, formula).segment(volume).labels


def weighted(model, winner, probability):
    """The score of the page, of p times the decision weight."""
    weight = np.array(model.class_weights, np.float32)[winner]
    return np.clip(510.0 * weight * probability - 254.0, 1.0, 256.0) / 256.0


def nearest_line(positions, side):
    """Linear interpolation that looks at two inputs only, however large the step is."""
    weights = np.maximum(0.0, 1.0 - np.abs(np.clip(positions, 0, side - 1)[:, None] - np.arange(side)))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def image_with_air(image):
    """Rows of the padded scan as an app sees them that pads its ends with air."""

    def rows(run, start, stop):
        inside = np.arange(start, stop) - run._tiles.pad_before[0]
        filled = image(run, start, stop)
        filled[(inside < 0) | (inside >= run._tiles.shape[0])] = run._model.input.window_hu[0]
        return filled

    return rows


def labels_beyond_box(model, formula, volume):
    """Beyond the box along H and W, each voxel has the label of the nearest one inside."""
    orientation, planned = volume.grid.orientation, TileRun(model, volume)
    labels = orientation.to_canonical(labels_of(model, formula, volume))
    _, height, width = (axis.covered for axis in axis_maps(planned._resampler, planned.box))
    sides = [
        (part.start, side - part.stop) for part, side in zip((height, width), labels.shape[1:], strict=True)
    ]
    return orientation.from_canonical(np.pad(labels[:, height, width], ((0, 0), *sides), mode="edge"))


MISTAKES = {
    "no background beyond the box along H and W": labels_beyond_box,
    "resampling without antialias": patched(resample, "resampling_matrix", nearest_line),
    "no crop to the body": patched(
        run, "body_box", lambda hu, grid: tuple(slice(0, side) for side in grid.shape)
    ),
    "air beyond the ends": patched(TileRun, "_image", image_with_air(TileRun._image)),
    "no rows beyond the ends": changed_input(rows_beyond_ends=0),
    "always 8 rows beyond the ends, also where this adds a tile": patched(
        tiles, "rows_beyond", lambda side, patch, overlap, most: most
    ),
    "tiles without overlap": changed_input(overlap=0.0),
    "the plain mean of the tiles": patched(
        slab, "gaussian_weights", lambda patch: np.ones(patch, np.float32)
    ),
    "no decision weights": without(decision_weights={}),
    "every part of an organ stays": without(one_part=()),
    "of the parts of an organ, the one kept has the largest volume": scored(
        lambda model, winner, p: np.ones_like(p)
    ),
    "of the parts of an organ, the one kept has the largest plain sum of p": scored(
        lambda model, winner, p: p
    ),
    "the score of a part is computed from p times the decision weight": scored(weighted),
}
"""By the words of the page: a function of (model, formula, volume) to the labels that an app then finds."""

WITHOUT_DECISION_WEIGHTS = {
    "no decision weights",
    "the score of a part is computed from p times the decision weight",
}
"""Those that are none for a model without decision weights."""
