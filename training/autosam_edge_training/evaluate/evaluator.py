"""One evaluator for every method, on the scan's own grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autosam_edge.ct_grid import LEAST_TILT_DEG
from autosam_edge.error_codes import GRIDS_DIFFER, NIFTI_GRID_INVALID
from autosam_edge.formats.label_image import as_labels, naming_labels, read_labels, read_named_labels
from autosam_edge.formats.nifti import read_nifti, write_nifti
from autosam_edge.labels import total_segmentator_name
from autosam_edge.session import Session
from autosam_edge.volume import Volume
from autosam_edge_training.choices import AbsentOrganRule
from autosam_edge_training.data import Entry, Prepared, Split
from autosam_edge_training.data.case import UNKNOWN
from autosam_edge_training.error_codes import NO_COMMON_ORGAN, PREDICTION_MISSING, SPLIT_EMPTY
from autosam_edge_training.evaluate.report import report
from autosam_edge_training.evaluate.scores import Score, score_masks
from autosam_edge_training.strict import JsonObject

Labels = npt.NDArray[np.uint8]
Predict = Callable[[Volume], npt.NDArray[np.uint8]]
"""A CT to labels (D, H, W) uint8 on its own grid."""
_REMEDY = (
    "Save the prediction again: the label numbers of the data set as integers without a scale factor, on the "
    "grid of its image, with sform or qform."
)


def evaluate_predictions(
    predict: Predict,
    prepared: Prepared,
    split: Split,
    *,
    method: str,
    names: Sequence[str] | None = None,
    absent_organ: AbsentOrganRule = "skip",
    log: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Score]:
    """Score every case of a split; organs are matched by name, and those that both sides know are scored.

    Names are compared as :func:`~autosam_edge.labels.total_segmentator_name` writes them.

    In a scan that is labeled in part, these are the organs that are labeled everywhere in it.

    Args:
        predict: A CT on its own grid to labels (D, H, W) uint8 on the same grid.
        names: Names by value of what ``predict`` returns; the data set's by default.
        absent_organ: Rule for an organ that the truth lacks; see
            :func:`~autosam_edge_training.evaluate.scores.score_masks`.

    Raises:
        InputError: The split is empty (AE-DATA-005), a file is missing (AE-DATA-002) or another one than was
            prepared (AE-DATA-008), no organ is known to both (AE-DATA-011), or a prediction has another shape
            (AE-NIFTI-005) or unknown labels (AE-DATA-003).
    """
    entries = split_entries(prepared, split)
    numbers = {total_segmentator_name(name): n for n, name in enumerate(names or prepared.labels) if n}
    organs = [
        (name, number, value)
        for value, name in enumerate(prepared.labels)
        if value and (number := numbers.get(total_segmentator_name(name)))
    ]
    if not organs:
        raise NO_COMMON_ORGAN(f"{method} and {prepared.dataset} have no organ in common.")
    values = {value for _, _, value in organs}
    if not any(entry.known is None or values & {*entry.known} for entry in entries):
        raise NO_COMMON_ORGAN(
            f"no case of the {split} split has an organ of {method} that is labeled everywhere in its scan.",
            remedy="Score cases for which cases.json lists known organs.",
        )
    scores: list[Score] = []
    for done, entry in enumerate(entries, start=1):
        truth, labeled, found, spacing_mm = _truth_and_prediction(
            entry, prepared, predict, len(names or prepared.labels)
        )
        rows = [
            Score(
                method,
                prepared.dataset,
                entry.name,
                organ,
                **score_masks(found == number, truth == value, spacing_mm, absent_organ=absent_organ),
                gt_voxels=int(np.count_nonzero(truth == value)),
                pred_voxels=int(np.count_nonzero(found == number)),
                spacing=spacing_mm,
            )
            for organ, number, value in organs
            if value in labeled
        ]
        scores.extend(rows)
        scored = [row.dice for row in rows if not math.isnan(row.dice)]
        told = f"mean Dice {np.mean(scored):.3f}" if scored else "has none of the organs"
        log(f"case {entry.name}: {told}")
        progress(done, len(entries))
    return scores


def _truth_and_prediction(
    entry: Entry, prepared: Prepared, predict: Predict, classes: int
) -> tuple[Labels, Collection[int], Labels, tuple[float, float, float]]:
    """Labels of a case, the values that are labeled everywhere, the prediction, and the spacing."""
    volume, truth, labeled = read_truth(entry, prepared)
    if volume.grid.canonical.tilt_deg > LEAST_TILT_DEG:
        raise NIFTI_GRID_INVALID(
            f"the slices of case {entry.name} are tilted, and distances are measured on upright grids only.",
            remedy="Leave the case out.",
        )
    found = as_labels(predict(volume), classes)
    if found.shape != truth.shape:
        raise GRIDS_DIFFER(
            f"the prediction of case {entry.name} has another shape than its image.",
            remedy="Predict on its grid.",
        )
    return truth, labeled.values(), found, volume.grid.spacing_mm


def read_truth(entry: Entry, prepared: Prepared) -> tuple[Volume, Labels, dict[str, int]]:
    """A scan, its labels (D, H, W) on its own grid, and the organs that are labeled everywhere in it.

    Returns:
        The scan; the labels, 255 where nobody labeled a voxel; and the value of each such organ by its name.

    Raises:
        InputError: A file is missing or the scan has no labels (AE-DATA-002), a file is not the one that was
            prepared (AE-DATA-008), or a label is unknown (AE-DATA-003) or on another grid (AE-NIFTI-005).
    """
    path, known = entry.label_file, entry.known
    entry.check()
    volume = read_nifti(entry.image)
    values = len(prepared.labels) if known is None else UNKNOWN + 1
    truth = read_labels(path, volume.grid, values, f"image and label of case {entry.name}")
    organs = enumerate(prepared.labels)
    return volume, truth, {name: v for v, name in organs if v and (known is None or v in known)}


def split_entries(prepared: Prepared, split: Split) -> list[Entry]:
    """The files of a split that is not empty.

    Raises:
        InputError: It is empty (AE-DATA-005), or a file is missing (AE-DATA-002).
    """
    entries = prepared.manifest.entries(split)
    if not entries:
        raise SPLIT_EMPTY(f"the {split} split is empty.")
    return entries


def from_files(folder: Path, entries: Sequence[Entry], names: Sequence[str]) -> Predict:
    """Predictions of any tool: a NIfTI file per case, on the image's grid, with the data set's label values.

    Args:
        names: Labels of the data set in the order of their values, the background first.

    Raises:
        InputError: A prediction is missing, or there are two for a case (AE-DATA-010). When called: a
            prediction lies on another grid (AE-NIFTI-005), holds unknown labels (AE-DATA-003), or has a label
            table of this package that is another one (AE-DATA-009).
    """
    files: dict[Path, Path] = {}
    for entry in entries:
        names_of_case = (f"{entry.name}.nii.gz", f"{entry.name}.nii", entry.image.name, entry.label_file.name)
        candidates = dict.fromkeys(names_of_case)
        found = [folder / name for name in candidates if (folder / name).is_file()]
        if len(found) != 1:
            why = (
                f"{found[0].name} and {found[1].name} are both there"
                if found
                else f"there is no {entry.name}.nii.gz"
            )
            raise PREDICTION_MISSING(f"no single prediction of case {entry.name}: {why}.")
        files[entry.image] = found[0]
    organs = dict(enumerate(names))

    def predict(volume: Volume) -> npt.NDArray[np.uint8]:
        path = files[volume.source.files[0]]
        remedy = f"Give the model of {path.name} as `--bundle`: it is scored by names."
        with naming_labels(f"the prediction {path.name}", _REMEDY):
            return read_named_labels(path, volume.grid, organs, "it and its image", remedy)

    return predict


def evaluate_method(
    source: Session | Path,
    prepared: Prepared,
    split: Split,
    *,
    method: str | None = None,
    absent_organ: AbsentOrganRule = "skip",
    labels: Path | None = None,
    seen: Sequence[str] = (),
    log: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[list[Score], JsonObject]:
    """Score a network as a user would run it, or the NIfTI predictions of any tool.

    Args:
        source: The runtime's session, or a folder with a file per case, see :func:`from_files`.
        method: Name in the tables; None takes the model's or the folder's.
        labels: Folder to write a session's labels to, ``CASE.nii.gz``; None writes none.
        seen: Cases that the model was trained on, for the summary; see
            :func:`~autosam_edge_training.evaluate.seen_cases.seen_by_bundles`.

    Returns:
        The rows of ``cases.csv`` and the content of ``summary.json``.

    Raises:
        InputError: See :func:`evaluate_predictions` and :func:`from_files`.
    """
    entries = split_entries(prepared, split)
    names: Sequence[str] = prepared.labels
    if isinstance(source, Path):
        method = method or source.resolve().name
        predict = from_files(source, entries, prepared.labels)
        details: JsonObject = {"model": method, "engine": None, "overlap": None}
    else:
        model = source.model
        method = method or model.name
        by_value = {label.value: label.name for label in model.labels}
        names = [by_value.get(value, "") for value in range(max(by_value) + 1)]
        predict = _from_session(source, entries, labels)
        details = {"model": model.name, "engine": source.engine.description, "overlap": model.input.overlap}
    scores = evaluate_predictions(
        predict,
        prepared,
        split,
        method=method,
        names=names,
        absent_organ=absent_organ,
        log=log,
        progress=progress,
    )
    details |= {"empty": absent_organ, "manifest_sha256": prepared.manifest_sha256}
    known = set(map(total_segmentator_name, names))
    if missing := [name for name in prepared.labels[1:] if total_segmentator_name(name) not in known]:
        details["not_scored"] = missing
    if seen:
        details["seen"] = list(seen)
    return scores, report(scores, split, details)


def _from_session(session: Session, entries: Sequence[Entry], labels: Path | None) -> Predict:
    names = {entry.image: entry.name for entry in entries}

    def predict(volume: Volume) -> npt.NDArray[np.uint8]:
        found = session.segment(volume)
        if labels is not None:
            write_nifti(found, labels / f"{names[volume.source.files[0]]}.nii.gz")
        return found.labels

    return predict
