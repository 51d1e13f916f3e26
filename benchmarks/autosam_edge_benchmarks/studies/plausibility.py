"""The plausibility check on usable and unusable inputs, and the thresholds that follow from them.

Thresholds come from the training and validation scans of a data set and from what is made of them, never from
test scans. Other scans are measured too and count for nothing but the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from autosam_edge.formats.nifti import read_nifti
from autosam_edge.plausibility.evidence import Evidence
from autosam_edge.plausibility.rules import judge
from autosam_edge.plausibility.thresholds import Threshold, Thresholds, UpperLimit
from autosam_edge.read_scan import read
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.session import Session
from autosam_edge.strict_json import build
from autosam_edge.verdict import Plausibility
from autosam_edge.volume import Segmentation, Volume
from autosam_edge.warning_codes import NETWORK_UNSURE
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_benchmarks.studies.plausibility_inputs import TRANSFORMATIONS, Scan, synthetic_inputs
from autosam_edge_training.data import Prepared

SPLITS: tuple[Literal["validation", "training"], ...] = ("validation", "training")
AS_IT_IS = "as it is"
_NUMBERS = ("confidence", "share_below_fat", "abdomen_ml", "other_organs")
_RULES = frozenset(f"AE-WARN-{number}" for number in range(100, 112))
_FOUND_BY = {step.name: step.found_by for step in TRANSFORMATIONS}


@dataclass(frozen=True)
class OtherScan:
    """A scan that is not part of the data set.

    Args:
        usable: Whether the model is meant for the scan; inputs are made from it only then.
    """

    name: str
    path: Path
    usable: bool


class Study:
    """Measures inputs one by one; a result that is given already is not measured again.

    Args:
        result: Result so far, from :func:`new_study` or an earlier run; measured inputs are added to it.
        save: Function that is called with the result after each scan.
    """

    def __init__(
        self, session: Session, result: Result, save: Callable[[Result], None], log: Callable[[str], None]
    ) -> None:
        self._session, self.result, self._save, self._log = session, result, save, log
        self._done = {(entry["scan"], entry["input"]) for entry in result["inputs"]}

    def measure_data(self, prepared: Prepared, extended: int) -> None:
        """Measure every training and validation scan of a data set.

        Args:
            extended: Number of scans, from the first validation scan on, on which all inputs are measured; on
                the others the quick ones are.
        """
        entries = [entry for split in SPLITS for entry in prepared.manifest.entries(split)]
        for number, entry in enumerate(entries):
            entry.check()
            self._scan(
                entry.name, partial(read_nifti, entry.image), fitted=True, all_inputs=number < extended
            )

    def measure_others(self, scans: Sequence[OtherScan]) -> None:
        """Measure scans that count for nothing but the table, and synthetic inputs."""
        for scan in scans:
            self._scan(scan.name, partial(read, scan.path), usable=scan.usable, all_inputs=True)
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
            made = step.make(scan)
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
                    **_judged(plausibility, [w for w in segmentation.warnings if w.code in _RULES]),
                    "other_doubts": [
                        warning.code
                        for warning in segmentation.warnings
                        if warning.severity == "doubtful" and warning.code not in _RULES
                    ],
                    "measured": _without_names(plausibility.measured),
                }
            )
            self._log(f"{scan}, {name}: {plausibility.verdict}")
        return segmentation


def _judged(plausibility: Plausibility, found: Sequence[ScanWarning]) -> dict[str, Any]:
    return {
        "verdict": plausibility.verdict,
        "refused_for": [reason.code for reason in plausibility.reasons],
        "warnings": sorted({warning.code for warning in found}),
    }


def _without_names(measured: Mapping[str, Any]) -> dict[str, Any]:
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
    lines = ",\n  ".join(json.dumps(entry) for entry in result["inputs"])
    text = json.dumps({**result, "inputs": ["INPUTS"]}, indent=1)
    return (text.replace('"INPUTS"', lines) + "\n").encode()


def new_study(session: Session, prepared: Prepared) -> Result:
    """An empty result."""
    return {
        **new_result("plausibility"),
        "model": session.model.name,
        "data": f"{prepared.dataset} {' and '.join(SPLITS)}",
        "inputs": [],
    }


def fit(result: Result) -> Thresholds:
    """The thresholds that a study gives."""
    rows = [entry for entry in result["inputs"] if entry["fitted"]]
    # Thin slabs have the lowest probability of usable inputs. Halfway to the unusable ones it refuses; a
    # third of the way from whole scans down to thin slabs it doubts.
    usable, unusable = _spans(rows, "confidence")
    whole = _span(row["measured"]["confidence"] for row in rows if row["input"] == AS_IT_IS)
    assert whole is not None
    confidence = Threshold(
        doubtful=round(whole[0] - (whole[0] - usable[0]) / 3, 3),
        refused=round((unusable[1] + usable[0]) / 2, 3),
        usable=usable,
        unusable=unusable,
    )
    # A narrow field of view inside a thin patient shows less fat and gas than any of these scans.
    usable, unusable = _spans(rows, "share_below_fat")
    share = Threshold(round(usable[0] / 4, 4), round(usable[0] / 8, 4), usable, unusable)
    # Thinner slabs than these are rarer than other body parts; a few ml of another body part are usual.
    usable, unusable = _spans(rows, "abdomen_ml")
    ml = Threshold(float(round(usable[0] * 0.8)), float(round(usable[0] / 4)), usable, unusable)
    usable, unusable = _spans([row for row in rows if _whole_liver(row)], "other_organs")
    others = UpperLimit(usable[1], usable, unusable)
    always = Threshold(1.0, 1.0, (0.0, 1.0), (0.0, 1.0))
    limits = Thresholds(confidence, always, share, ml, others, tuple(sorted({row["scan"] for row in rows})))
    return replace(limits, surest_organ=_surest(rows, limits))


def _surest(rows: Sequence[dict[str, Any]], limits: Thresholds) -> Threshold:
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
    kept, found = _span(usable), _span(unusable)
    assert kept is not None
    assert found is not None
    limit = round(found[1] + (kept[0] - found[1]) / 10, 3)
    return Threshold(limit, limit, kept, found)


def _whole_liver(row: dict[str, Any]) -> bool:
    liver = row["measured"]["organs"].get("liver")
    return liver is not None and not liver["cut_by"]


def _spans(rows: Sequence[dict[str, Any]], number: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest number over the usable inputs, and over the unusable ones that it has to find."""
    usable = [row["measured"][number] for row in rows if row["usable"]]
    unusable = [
        row["measured"][number] for row in rows if not row["usable"] and _FOUND_BY[row["input"]] == number
    ]
    spans = _span(usable), _span(unusable)
    assert spans[0] is not None
    assert spans[1] is not None
    return spans[0], spans[1]


def _span(values: Iterable[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (round(min(known), 4), round(max(known), 4)) if known else None


def summary(result: Result) -> Iterator[dict[str, Any]]:
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
