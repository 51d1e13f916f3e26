"""The plausibility check on usable and unusable inputs, and the thresholds that follow from them.

Thresholds come from the training and validation scans of a data set and from what is made of them, never from
test scans. Other scans are measured too and count for nothing but the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from autosam_edge.bundle import open_bundle
from autosam_edge.formats.nifti import read_nifti
from autosam_edge.plausibility.evidence import Evidence
from autosam_edge.plausibility.rules import impossible_values, judge
from autosam_edge.plausibility.signs import measure_signs, shows_whole_liver
from autosam_edge.plausibility.thresholds import Limit, Measured, SignLimits, Threshold, Thresholds
from autosam_edge.read_scan import read
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.session import Session
from autosam_edge.strict_json import build
from autosam_edge.verdict import Plausibility
from autosam_edge.volume import Segmentation, Volume
from autosam_edge.warning_codes import NETWORK_UNSURE, OF_THE_VERDICT
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_benchmarks.studies.plausibility_inputs import TRANSFORMATIONS, Scan, synthetic_inputs
from autosam_edge_training.data import Prepared
from autosam_edge_training.error_codes import SPLIT_EMPTY

Measure = Callable[[Evidence], float | None]

SPLITS: tuple[Literal["validation", "training"], ...] = ("validation", "training")
AS_IT_IS = "as it is"
_NUMBERS = ("confidence", "share_below_fat", "abdomen_ml", "other_organs")
_MIRRORED = "mirrored"
_FAR_FROM_HU = ("HU + 1024", "HU + 1024, one corner -1", "inverted")
NOT_HU = (*_FAR_FROM_HU[:2], "z-scored", "gray values of 8 bits", "like an MR, T1", "like an MR, T2")
_CONFIDENCE: Measure = attrgetter("confidence")
_BELOW_FAT: Measure = attrgetter("share_below_fat")
_ABDOMEN: Measure = attrgetter("abdomen_ml")
_ORGANS: Measure = attrgetter("abdomen_organs")


class Study:
    """Measures inputs one by one; a result that is given already is not measured again.

    Args:
        result: Result so far, from :func:`new_study` or an earlier run; measured inputs are added to it.
        save: Function that is called with the result after each scan.
    """

    def __init__(
        self, session: Session, result: Result, save: Callable[[Result], None], log: Callable[[str], None]
    ) -> None:
        self._session, self.result, self._save, self._log = _with_thresholds(session), result, save, log
        self._done = {(entry["scan"], entry["input"]) for entry in result["inputs"]}

    def measure_data(self, prepared: Prepared) -> None:
        """Measure the scans of a data set: on validation scans every input, on others the quick ones."""
        for split in SPLITS:
            for entry in prepared.manifest.entries(split):
                entry.check()
                load = partial(read_nifti, entry.image)
                self._scan(entry.name, load, fitted=True, all_inputs=split == "validation")

    def measure_others(self, usable: Sequence[Path] = (), unusable: Sequence[Path] = ()) -> None:
        """Measure scans that count for nothing but the table, and synthetic inputs.

        Args:
            usable: Scans for which the model is meant; inputs are made from these only.
            unusable: Scans for which it is not.
        """
        for path in (*usable, *unusable):
            self._scan(path.name, partial(read, path), usable=path in usable, all_inputs=True)
        for name, volume in synthetic_inputs():
            if ("synthetic", name) not in self._done:
                self._measure("synthetic", name, volume, usable=False, fitted=False)
        self._save(self.result)

    def _scan(
        self,
        name: str,
        load: Callable[[], Volume],
        *,
        usable: bool = True,
        fitted: bool = False,
        all_inputs: bool,
    ) -> None:
        wanted = [step for step in TRANSFORMATIONS if usable and (all_inputs or step.quick)]
        missing = [step for step in wanted if (name, step.name) not in self._done]
        if not missing and (name, AS_IT_IS) in self._done:
            return
        volume = load()
        found = self._measure(name, AS_IT_IS, volume, usable=usable, fitted=fitted)
        scan = Scan.of(volume, found.labels, found.table)
        for step in missing:
            made = step.of(scan)
            if made is not None:
                self._measure(name, step.name, made, usable=step.usable, fitted=fitted)
        self._save(self.result)

    def _measure(self, scan: str, name: str, volume: Volume, *, usable: bool, fitted: bool) -> Segmentation:
        segmentation = self._session.segment(volume)
        plausibility = segmentation.plausibility
        assert plausibility is not None
        if (scan, name) not in self._done:
            self._done.add((scan, name))
            self.result["inputs"].append(
                {
                    "scan": scan,
                    "input": name,
                    "usable": usable,
                    "fitted": fitted,
                    **_judged(plausibility, [w for w in segmentation.warnings if w.code in OF_THE_VERDICT]),
                    "other_doubts": [
                        warning.code
                        for warning in segmentation.warnings
                        if warning.severity == "doubtful" and warning.code not in OF_THE_VERDICT
                    ],
                    "measured": _without_names(plausibility.measured),
                }
            )
            self._log(f"{scan}, {name}: {plausibility.verdict}")
        return segmentation


def _with_thresholds(session: Session) -> Session:
    """The session; a model without thresholds measures nothing, so it borrows those of the package."""
    if session.model.plausibility is not None:
        return session
    return Session(replace(session.model, plausibility=open_bundle().model.plausibility), session.engine)


def _judged(plausibility: Plausibility, found: Sequence[ScanWarning]) -> Result:
    return {
        "verdict": plausibility.verdict,
        "refused_for": [reason.code for reason in plausibility.reasons],
        "warnings": sorted({warning.code for warning in found}),
    }


def _without_names(measured: Mapping[str, Any]) -> Result:
    """Measured values without what their keys say already."""
    organs = {
        name: {key: value for key, value in organ.items() if key not in ("name", "title")}
        for name, organ in measured["organs"].items()
    }
    return {**measured, "organs": organs}


def _evidence(measured: Mapping[str, Any]) -> Evidence:
    organs = {
        name: {**organ, "name": name, "title": name.replace("_", " ")}
        for name, organ in measured["organs"].items()
    }
    return build(Evidence, {**measured, "organs": organs}, "measured", other_keys=True)


def as_json(result: Result) -> bytes:
    """A result with one line for each input."""
    lines = ",\n  ".join(json.dumps(entry, allow_nan=False) for entry in result["inputs"])
    text = json.dumps({**result, "inputs": ["INPUTS"]}, indent=1, allow_nan=False)
    return (text.replace('"INPUTS"', lines) + "\n").encode()


def study_header(benchmark: str, session: Session, prepared: Prepared, splits: str) -> Result:
    """The first entries of a result to which inputs are added one by one."""
    return {
        **new_result(benchmark),
        "model": session.model.name,
        "data": f"{prepared.dataset} {splits}",
        "data_sha256": prepared.manifest_sha256,
        "engine": dict(session.engine.description),
        "decision_weights": dict(session.model.decision_weights),
    }


def new_study(session: Session, prepared: Prepared) -> Result:
    """An empty result."""
    return {**study_header("plausibility", session, prepared, " and ".join(SPLITS)), "inputs": []}


def fit(result: Result) -> Thresholds:
    """The thresholds that a study gives."""
    rows = _Rows([entry for entry in result["inputs"] if entry["fitted"]])
    # Thin slabs have the lowest probability of usable inputs. Halfway to the unusable ones it refuses; a
    # third of the way from whole scans down to thin slabs it doubts.
    usable, unusable = rows.spread(_CONFIDENCE), rows.spread(_CONFIDENCE, "spacing x 2", "inverted")
    whole = rows.spread(_CONFIDENCE, AS_IT_IS)
    confidence = Threshold(
        doubtful=round(whole.lowest - (whole.lowest - usable.lowest) / 3, 3),
        refused=round((unusable.highest + usable.lowest) / 2, 3),
        usable=usable,
        unusable=unusable,
    )
    # A narrow field of view inside a thin patient shows less fat and gas than any of these scans.
    usable, unusable = rows.spread(_BELOW_FAT), rows.spread(_BELOW_FAT, *NOT_HU)
    share = Threshold(round(usable.lowest / 4, 4), round(usable.lowest / 8, 4), usable, unusable)
    # Thinner slabs than these are rarer than other body parts; a few ml of another body part are usual.
    usable, unusable = rows.spread(_ABDOMEN), rows.spread(_ABDOMEN, "pelvis only", "chest only")
    ml = Threshold(float(round(usable.lowest * 0.8)), float(round(usable.lowest / 4)), usable, unusable)
    usable, unusable = rows.spread(impossible_values), rows.spread(impossible_values, *_FAR_FROM_HU)
    limits = Thresholds(
        confidence,
        Threshold(1.0, 1.0, confidence.usable, confidence.unusable),
        share,
        ml,
        Limit(round((usable.highest + unusable.lowest) / 2, 3), usable, unusable),
        *_liver(rows),
        _signs(rows),
        tuple(sorted({row["scan"] for row in rows.rows})),
    )
    return replace(limits, surest_organ=_surest(rows.rows, limits), abdomen_organs=_fewest_organs(rows))


def _fewest_organs(rows: _Rows) -> Limit:
    """Above nine of ten unusable inputs, unless a usable one has as few; other rules find the tenth."""
    usable = rows.spread(_ORGANS)
    unusable = rows.spread(_ORGANS, "lung with a tumor")
    return Limit(min(unusable.p90 // 1 + 1.0, usable.lowest), usable, unusable)


def _liver(rows: _Rows) -> tuple[Limit, Limit]:
    """Half or twice the spacing makes an eighth or eight times the volume.

    A network may label more than an eighth in half the spacing, so the lower limit lies above these inputs; a
    liver after surgery may have half of the smallest one of the fit.
    """
    usable = rows.spread(_whole_liver_ml)
    halved, doubled = (rows.spread(_whole_liver_ml, f"spacing x {factor}") for factor in ("0.5", "2"))
    smallest = min(halved.highest * 1.1, usable.lowest / 2)
    return (
        Limit(float(round(max(usable.lowest / 4, smallest))), usable, halved),
        Limit(float(round(usable.highest * 2)), usable, doubled),
    )


def _signs(rows: _Rows) -> SignLimits:
    """Limits between nearly all usable inputs and most of those that the sign has to find."""

    def sign(name: str, limit: Callable[[Measured, Measured], float], digits: int, *found: str) -> Limit:
        def measure(evidence: Evidence) -> float | None:
            return measure_signs(evidence)[name]

        usable, unusable = rows.spread(measure), rows.spread(measure, *found)
        return Limit(round(limit(usable, unusable), digits), usable, unusable)

    return SignLimits(
        # 0 is where both centers lie level: halfway from there to the clearest of the turned bodies' least.
        sign("wrong_side_mm", lambda _, turned: turned.lowest / 2, 1, "front to back", "upside down"),
        # One kidney can be missing, and half of the other can be cut away.
        sign("kidneys_ml", lambda usable, _: usable.p10 / 5, 0, "upside down", "spacing x 0.5"),
        # A share is compared by its factor; one patient of the fit has a spleen larger than the liver.
        sign("spleen_share", lambda usable, found: (usable.p90 * found.median) ** 0.5, 3, _MIRRORED),
        sign("liver_medial_mm", lambda usable, found: (usable.p90 + found.median) / 2, 1, _MIRRORED),
        sign("vena_cava_share", lambda usable, _: usable.lowest, 4, _MIRRORED),
        sign("other_organs", lambda usable, _: usable.highest, 4, _MIRRORED),
    )


def _surest(rows: Sequence[Result], limits: Thresholds) -> Threshold:
    """Limits of the surest organ, from inputs that nothing but a low probability speaks against.

    It lies just above the unusable ones: a thin slab of an abdomen may have less than any usable input, and
    what is not refused is still doubtful.
    """
    usable, unusable = [], []
    for row in rows:
        evidence = _evidence(row["measured"])
        if (evidence.confidence or 0.0) >= limits.confidence.doubtful:
            continue
        if row["usable"]:
            usable.append(evidence.surest_organ)
        elif {warning.code for warning in judge(evidence, limits, ())[0].reasons} == {NETWORK_UNSURE.code}:
            unusable.append(evidence.surest_organ)
    kept, found = _spread(usable), _spread(unusable)
    limit = round(found.highest + (kept.lowest - found.highest) / 10, 3)
    return Threshold(limit, limit, kept, found)


class _Rows:
    """Inputs of the fit with their evidence."""

    def __init__(self, rows: Sequence[Result]) -> None:
        self.rows = rows
        self._evidence = [_evidence(row["measured"]) for row in rows]

    def spread(self, measure: Measure, *names: str) -> Measured:
        """Spread of a number over inputs of these names; without names over all usable inputs."""
        return _spread(
            measure(evidence)
            for row, evidence in zip(self.rows, self._evidence, strict=True)
            if (row["input"] in names if names else row["usable"])
        )


def _whole_liver_ml(evidence: Evidence) -> float | None:
    return evidence.organs["liver"].ml if shows_whole_liver(evidence) else None


def _spread(values: Iterable[float | None]) -> Measured:
    known = [value for value in values if value is not None]
    if not known:
        raise SPLIT_EMPTY(
            "the data set has no input on which a limit can be measured.",
            remedy="Give a data set with validation scans of whole abdomens.",
        )
    rounded = [round(float(value), 4) for value in np.percentile(known, [0, 10, 50, 90, 100])]
    return Measured(len(known), *rounded)


def _span(values: Iterable[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (round(min(known), 4), round(max(known), 4)) if known else None


def summary(result: Result) -> Iterator[Result]:
    """One row for each kind of input: how many of each verdict, and the span of each number."""
    kinds = dict.fromkeys((entry["fitted"], entry["usable"], entry["input"]) for entry in result["inputs"])
    for fitted, usable, name in sorted(kinds, key=lambda kind: (not kind[0], not kind[1])):
        rows = [
            entry
            for entry in result["inputs"]
            if (entry["fitted"], entry["usable"], entry["input"]) == (fitted, usable, name)
        ]
        verdicts = [row["verdict"] for row in rows]
        yield {
            "input": name,
            "usable": usable,
            "fitted": fitted,
            "inputs": len(rows),
            **{verdict: verdicts.count(verdict) for verdict in ("plausible", "doubtful", "implausible")},
            **{number: _span(row["measured"][number] for row in rows) for number in _NUMBERS},
        }


def judge_again(result: Result, thresholds: Thresholds) -> None:
    """Replace the verdicts of a result by those of other thresholds; nothing is run.

    Args:
        result: Result of a study, changed in place.
    """
    for entry in result["inputs"]:
        evidence = _evidence(entry["measured"])
        others = [ScanWarning(code, "doubtful", "") for code in entry["other_doubts"]]
        plausibility, found = judge(evidence, thresholds, others)
        entry.update(_judged(plausibility, found))


def finished(result: Result) -> Result:
    """The result with fitted thresholds, verdicts by them, and a summary."""
    thresholds = fit(result)
    judge_again(result, thresholds)
    return {**result, "plausibility": asdict(thresholds), "summary": list(summary(result))}
