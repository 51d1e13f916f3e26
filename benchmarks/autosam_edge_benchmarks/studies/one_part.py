"""The Dice of each organ with and without the one-part rule, on labeled cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autosam_edge.session import Session, open_session
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_benchmarks.studies.organ_dice import organ_dice
from autosam_edge_training.data import Prepared, Split
from autosam_edge_training.error_codes import NO_COMMON_ORGAN
from autosam_edge_training.evaluate.evaluator import read_truth, split_entries


def measure_one_part(
    path: Path, data: Path, split: Split, *, log: Callable[[str], None] = lambda _: None
) -> Result:
    """Measure the mean Dice of each organ, with all its parts and with the largest part only.

    Args:
        split: ``validation`` or ``training``; not the test cases, because the result decides the rule.

    Raises:
        InputError: The split is empty (AE-DATA-005), or no case has an organ of the model (AE-DATA-011).
    """
    result = new_result("one part")
    prepared = Prepared.read(data)
    ready = open_session(path)
    table = ready.model.labels
    names = tuple(label.name for label in table if label.name in prepared.labels)
    means: dict[str, dict[str, float]] = {}
    for variant, organs in (("as_found", ()), ("one_part", names)):
        session = Session(dataclasses.replace(ready.model, one_part=organs), ready.engine)
        scores: dict[str, list[float]] = {name: [] for name in names}
        for entry in split_entries(prepared, split):
            volume, truth, known = read_truth(entry, prepared)
            for name, score in organ_dice(session.segment(volume).labels, truth, table, known).items():
                scores[name].append(score)
        means[variant] = {name: float(np.mean(found)) for name, found in scores.items() if found}
        if not means[variant]:
            raise NO_COMMON_ORGAN(f"no case of the {split} split has an organ of {ready.model.name}.")
        log(f"{variant}: mean Dice {np.mean(list(means[variant].values())):.4f}")
    return {
        **result,
        "model": ready.model.name,
        "data": f"{prepared.dataset} {split}",
        "dice": means,
        "harmless": [
            name for name, before in means["as_found"].items() if means["one_part"][name] >= before - 1e-3
        ],
    }
