"""The Dice of scans cut to a few centimeters, with and without the rules for scan ends and small organs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autosam_edge.planned_run import PlannedRun
from autosam_edge.session import Session, open_session
from autosam_edge.volume import Volume
from autosam_edge_benchmarks.result_header import Result, mean, new_result, shown
from autosam_edge_benchmarks.studies.organ_dice import Labels, mean_dice
from autosam_edge_training.data import Entry, Prepared, Split
from autosam_edge_training.error_codes import NO_COMMON_ORGAN
from autosam_edge_training.evaluate.evaluator import read_truth, split_entries

CENTER = "pancreas"
"""The organ whose middle slice is the middle of each cut: it lies among all others."""
LENGTHS_MM = (24, 40, 60, 90)


class _AirBeyondEnds(PlannedRun):
    """A run that shows the network air beyond the ends of the scan."""

    def _image(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        rows = super()._image(start, stop)
        inside = np.arange(start, stop) - self._tiles.pad_before[0]
        rows[(inside < 0) | (inside >= self._tiles.shape[0])] = self._model.input.window_hu[0]
        return rows


class _AirSession(Session):
    def plan(self, volume: Volume) -> PlannedRun:
        return _AirBeyondEnds(self.model, self.engine, volume)


def _variants(session: Session) -> dict[str, Session]:
    """The session as it is, without decision weights, and also with air beyond the ends."""
    plain = dataclasses.replace(session.model, decision_weights={})
    no_rows = dataclasses.replace(plain, input=dataclasses.replace(plain.input, rows_beyond_ends=0))
    return {
        "air_beyond_ends": _AirSession(no_rows, session.engine),
        "last_slice_repeated": Session(plain, session.engine),
        "and_decision_weights": session,
    }


def measure_short_scans(
    bundle: Path,
    data: Path,
    split: Split,
    *,
    lengths_mm: Sequence[int] = LENGTHS_MM,
    log: Callable[[str], None] = lambda _: None,
) -> Result:
    """Measure the Dice of whole scans, of short scans, and of the same slices of the whole scan's labels.

    Args:
        lengths_mm: Lengths of the cuts along the body, mm.

    Returns:
        For each variant and case the mean Dice over the organs present: ``whole``, and for each length
        ``short`` and ``cut_from_whole``; ``mean`` over the cases.
    """
    result = new_result("short scans")
    prepared = Prepared.read(data)
    session = open_session(bundle)
    variants: dict[str, dict[str, object]] = {}
    for name, variant in _variants(session).items():
        cases = {}
        for entry in split_entries(prepared, split):
            cases[entry.name] = _measure_case(variant, prepared, entry, lengths_mm)
            log(f"{name}, case {entry.name}: mean Dice {shown(cases[entry.name]['whole'])}")
        keys = next(iter(cases.values()))
        means = {key: mean(case[key] for case in cases.values()) for key in keys}
        variants[name] = {"mean": means, "cases": cases}
    return {
        **result,
        "model": session.model.name,
        "engine": dict(session.engine.description),
        "data": f"{prepared.dataset} {split}",
        "center": CENTER,
        "lengths_mm": list(lengths_mm),
        "variants": variants,
    }


def _measure_case(
    session: Session, prepared: Prepared, entry: Entry, lengths_mm: Sequence[int]
) -> dict[str, float | None]:
    scan, labels, known = read_truth(entry, prepared)
    volume, truth = _canonical(scan, labels)
    center = (truth == known.get(CENTER, -1)).any(axis=(1, 2))
    if not center.any():
        raise NO_COMMON_ORGAN(
            f"case {entry.name} has no labeled {CENTER}, around which the scan is cut.",
            remedy="Leave the case out.",
        )
    table = session.model.labels
    whole = session.segment(volume).labels
    figures = {"whole": mean_dice(whole, truth, table, known)}
    slices = np.flatnonzero(center)
    for length_mm in lengths_mm:
        count = max(1, round(length_mm / volume.grid.spacing_mm[0]))
        start = max(0, int(slices.mean()) - count // 2)
        part = slice(start, min(start + count, len(truth)))
        short = session.segment(volume.slices(part.start, part.stop)).labels
        figures[f"short_{length_mm}_mm"] = mean_dice(short, truth[part], table, known)
        figures[f"cut_from_whole_{length_mm}_mm"] = mean_dice(whole[part], truth[part], table, known)
    return figures


def _canonical(volume: Volume, labels: Labels) -> tuple[Volume, Labels]:
    """Scan and labels with the slices along the first axis."""
    orientation = volume.grid.orientation
    hu = np.ascontiguousarray(orientation.to_canonical(volume.hu))
    return Volume(hu, volume.grid.canonical), orientation.to_canonical(labels)
