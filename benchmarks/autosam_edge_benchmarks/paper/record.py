"""Write ``run.json`` for predictions of other tools, so that the tables find their scores."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from autosam_edge_benchmarks.error_codes import METHOD_UNKNOWN
from autosam_edge_training.evaluate.scored_runs import (
    OTHERS,
    Run,
    RunFacts,
    Scored,
    check_together,
    read_run,
    write_facts,
)
from autosam_edge_training.evaluate.scores import read_csv

_DATASETS: tuple[Scored, ...] = get_args(Scored)


def record_baseline(
    folder: Path,
    *,
    network: str,
    data_sha256: str | None = None,
    seed: int | None = None,
    steps: int | None = None,
    trainable_parameters: int | None = None,
    total_parameters: int | None = None,
    machine: str | None = None,
) -> Run:
    """Write ``run.json`` into a folder of scores; method and data set are those of the scores.

    Args:
        folder: Folder that ``evaluate --predictions ... -o FOLDER`` wrote.
        data_sha256: SHA-256 of the manifest of the prepared data set; None if unknown, as for all below.

    Raises:
        TrainingError: No table has the method of others or the data set of the scores (AE-TRAIN-026), or the
            files of the folder do not belong together or to the data set (AE-TRAIN-021).
        InputError: ``cases.csv`` cannot be used (AE-DATA-012).
    """
    scores = read_csv(folder / "cases.csv")
    first = scores[0]
    if first.method not in OTHERS or first.dataset not in _DATASETS:
        raise METHOD_UNKNOWN(
            f"cases.csv has scores of the method {first.method} on the data set {first.dataset}; the tables "
            f"have the methods of others {', '.join(OTHERS)} and the data sets {', '.join(_DATASETS)}."
        )
    facts = RunFacts(
        method=first.method,
        network=network,
        dataset=first.dataset,
        weight=None,
        reduction=None,
        apg=None,
        seed=seed,
        steps=steps,
        trainable_parameters=trainable_parameters,
        total_parameters=total_parameters,
        spacing_mm=None,
        machine=machine,
        commit=None,
        data_sha256=data_sha256,
        smoke=first.dataset == "phantoms",
    )
    check_together(folder, facts, scores)
    write_facts(facts, folder)
    return read_run(folder)
