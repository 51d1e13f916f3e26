"""What the web worker answers to the page, as JSON: values, errors, organs with color and place."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict
from functools import wraps
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.error_codes import INTERNAL_ERROR, OUT_OF_MEMORY
from autosam_edge.errors import AutosamEdgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.volume import Segmentation


def _answer(value: object) -> str:
    return json.dumps({"value": value}, allow_nan=False)


def _refusal(error: Exception) -> str:
    """What an exception tells the page; a foreign message may quote the value of a tag and is not shown."""
    if isinstance(error, MemoryError) and not isinstance(error, AutosamEdgeError):
        error = OUT_OF_MEMORY("the device ran out of memory.")
    if not isinstance(error, AutosamEdgeError):
        traceback.print_tb(error.__traceback__)  # on the console of the browser
        error = INTERNAL_ERROR(
            f"unexpected {type(error).__name__}.", remedy="Report it with the kind of scan."
        )
    content = {"code": error.code, "message": error.message, "remedy": error.remedy}
    return json.dumps({"error": {**content, "exitCode": error.exit_code}})


def answered(method: Callable[..., object]) -> Callable[..., str]:
    """Make JSON of what a method returns or raises."""

    @wraps(method)
    def call(*arguments: object) -> str:
        try:
            return _answer(method(*arguments))
        except Exception as error:
            return _refusal(error)

    return call


def answered_later(method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[str]]:
    """The same for a method that is awaited."""

    @wraps(method)
    async def call(*arguments: object) -> str:
        try:
            return _answer(await method(*arguments))
        except Exception as error:
            return _refusal(error)

    return call


def organs_for_page(
    segmentation: Segmentation, statistics: Iterable[OrganStatistics]
) -> list[dict[str, object]]:
    """Measurements with what a list and a viewer need."""
    places = _places(segmentation)
    colors = {label.value: list(label.color) for label in segmentation.table}
    return [
        {
            **asdict(organ),
            "volume_ml": organ.ml,
            "color": colors[organ.label],
            "center_ras_mm": places.get(organ.label),
        }
        for organ in statistics
    ]


def _places(segmentation: Segmentation) -> dict[int, list[float]]:
    """A place (RAS mm) inside each organ that was found: the middle of the slice that shows most of it."""
    labels = segmentation.labels
    counts = np.stack([np.bincount(plane.reshape(-1), minlength=256) for plane in labels])
    counts[:, 0] = 0  # the background
    places = {}
    for value in np.flatnonzero(counts.any(axis=0)):
        d = int(counts[:, value].argmax())
        rows, columns = np.nonzero(labels[d] == value)
        h = int(rows[len(rows) // 2])
        inside = columns[rows == h]
        x, y, z, _ = segmentation.grid.affine @ (d, h, int(inside[len(inside) // 2]), 1)
        places[int(value)] = [-float(x), -float(y), float(z)]
    return places
