"""Dice and soft Dice of each organ on scans that the network did not see, their parts, and worse copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from autosam_edge.geometry import Grid
from autosam_edge.measurements import dice
from autosam_edge.model import Model
from autosam_edge.pipeline.resample import Resampler
from autosam_edge.plausibility.expected_dice import SoftDice, calibrate, near_organs
from autosam_edge.session import Session
from autosam_edge.volume import Volume
from autosam_edge_benchmarks.result_header import Result
from autosam_edge_benchmarks.studies.plausibility import AS_IT_IS, study_header
from autosam_edge_benchmarks.studies.plausibility_inputs import TRANSFORMATIONS, Scan, Transformation, noisy
from autosam_edge_training.data import Entry, Prepared, Split
from autosam_edge_training.data.case import UNKNOWN
from autosam_edge_training.evaluate.evaluator import read_truth, split_entries

FloatArray = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]

TEMPERATURES = (0.8, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0)
"""Temperatures that are tried."""
_JUDGED = (AS_IT_IS, "slab of 60 mm", "field of view of 150 mm")  # inputs of scans that no map is fitted on


def _thick_slices(scan: Scan, mm: float) -> Volume:
    """Means of neighboring slices."""
    count = max(1, round(mm / scan.grid.spacing_mm[0]))
    rows = len(scan.hu) // count
    hu = scan.hu[: rows * count].reshape(rows, count, *scan.grid.shape[1:]).mean(axis=1)
    affine = scan.grid.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (count - 1) / 2
    affine[:3, 0] *= count
    return Volume(hu, Grid((rows, *scan.grid.shape[1:]), affine))


def _blurred(scan: Scan, mm: float) -> Volume:
    return scan.with_hu(gaussian_filter(scan.hu, [0.0, *(mm / side for side in scan.grid.spacing_mm[1:])]))


INPUTS: tuple[Transformation, ...] = (
    Transformation(AS_IT_IS, True, lambda scan: scan.with_hu(scan.hu)),
    # The truth of a turned scan would have to be turned too.
    *(step for step in TRANSFORMATIONS if step.usable and step.name != "turned by 10 degrees"),
    Transformation("noise of 80 HU", True, lambda scan: noisy(scan, 80.0, seed=1)),
    Transformation("slices of 9 mm", True, lambda scan: _thick_slices(scan, 9.0)),
    Transformation("blurred by 3 mm", True, lambda scan: _blurred(scan, 3.0)),
)
"""Every input that is made from a scan."""


def new_study(session: Session, prepared: Prepared, split: Split) -> Result:
    """An empty result."""
    header = study_header("confidence", session, prepared, split)
    return {**header, "temperatures": list(TEMPERATURES), "inputs": []}


def measure(
    session: Session,
    prepared: Prepared,
    split: Split,
    result: Result,
    *,
    save: Callable[[Result], None],
    log: Callable[[str], None],
) -> None:
    """Measure the scans of a split: on validation scans every input, on others a few.

    Args:
        result: Result of :func:`new_study` or of an earlier run, whose inputs are not measured again; inputs
            are added to it.
        save: Function that is called with the result after each input.

    Raises:
        InputError: The split is empty (AE-DATA-005), or a file is missing (AE-DATA-002) or not the one that
            was prepared (AE-DATA-008).
    """
    done = {(entry["scan"], entry["input"]) for entry in result["inputs"]}
    for entry in split_entries(prepared, split):
        wanted = [step for step in INPUTS if split == "validation" or step.name in _JUDGED]
        missing = [step for step in wanted if (entry.name, step.name) not in done]
        if not missing:
            continue
        scan, organs = _load(entry, prepared, session.model)
        for step in missing:
            made = step.of(scan)
            if made is not None:
                found = _measure(session, made, _onto(scan, made.grid), organs)
                result["inputs"].append({"scan": entry.name, "input": step.name, **found})
                log(f"{entry.name}, {step.name}: organs: {len(found['organs'])}")
                save(result)


def _load(entry: Entry, prepared: Prepared, model: Model) -> tuple[Scan, dict[str, int]]:
    """A scan with its truth in the model's numbers, and the numbers of the organs that are labeled in it."""
    volume, truth, labeled = read_truth(entry, prepared)
    numbers = {label.name: label.value for label in model.labels}
    by_value = np.zeros(256, dtype=np.uint8)
    by_value[UNKNOWN] = UNKNOWN
    known = {name: numbers[name] for name in labeled if name in numbers}
    for name, number in known.items():
        by_value[labeled[name]] = number
    return Scan.of(volume, by_value[truth], model.labels), known


def _onto(scan: Scan, grid: Grid) -> Labels:
    """The truth at the voxels of another upright grid inside of the scan."""
    step = np.linalg.inv(scan.grid.affine) @ grid.affine
    places = [step[axis, 3] + step[axis, axis] * np.arange(side) for axis, side in enumerate(grid.shape)]
    return _nearest(scan.labels, places)


def _nearest(labels: Labels, positions: Sequence[FloatArray]) -> Labels:
    """Labels at the voxels nearest to positions along each axis, in indices."""
    index = [
        np.clip(np.rint(place), 0, side - 1).astype(int)
        for place, side in zip(positions, labels.shape, strict=True)
    ]
    nearest: Labels = labels[np.ix_(*index)]
    return nearest


def _measure(session: Session, volume: Volume, truth: Labels, organs: dict[str, int]) -> Result:
    """Run one input: Dice and soft Dice of each organ found, and the log loss near organs, by temperature."""
    model, run = session.model, session.plan(volume)
    resampler = Resampler.of_scan(volume.grid, model.input.spacing_mm, model.input.window_hu)
    places = [place[part] for place, part in zip(resampler.positions, run.box, strict=True)]
    in_box = _nearest(truth, places).astype(np.float32)
    collectors = [SoftDice(model.class_weights, temperature) for temperature in TEMPERATURES]
    losses, voxels, row = np.zeros(len(TEMPERATURES)), 0, 0

    def on_rows(rows: npt.NDArray[np.float32]) -> None:
        nonlocal losses, voxels, row
        labeled = np.concatenate([rows, in_box[row : row + len(rows), None]], axis=1)
        row += len(rows)
        near, true = np.split(near_organs(labeled), [model.classes], axis=1)
        for collector in collectors:
            collector.push(near)
        known = true[:, 0] < model.classes
        near, right = near[known], true[known].astype(int)
        voxels += len(near)
        given = (np.take_along_axis(calibrate(near, t), right, axis=1) for t in TEMPERATURES)
        losses += [-np.log(np.maximum(probability, 1e-6)).sum() for probability in given]

    segmentation = run.execute(on_rows=on_rows)
    unknown = truth == UNKNOWN
    found, truth = np.where(unknown, 0, segmentation.labels), np.where(unknown, 0, truth)
    soft = [collector.by_organ(model.labels) for collector in collectors]
    return {
        "verdict": segmentation.verdict,
        "log_loss": [round(float(loss), 5) for loss in losses / max(voxels, 1)],
        "organs": {
            name: {
                "dice": round(dice(found == value, truth == value), 4),
                "soft_dice": [round(by_organ[name], 5) for by_organ in soft],
            }
            for name, value in organs.items()
            if name in soft[0] and (found == value).any()
        },
    }
