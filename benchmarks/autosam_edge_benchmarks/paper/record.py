"""What a method of others was, beside its scores: ``run.json`` for predictions that ``evaluate`` read in."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from autosam_edge_benchmarks.error_codes import METHOD_UNKNOWN
from autosam_edge_training.evaluate import read_csv
from autosam_edge_training.evaluate.scored_runs import METHODS, RunFacts, Scored, read_run, write_facts

if TYPE_CHECKING:
    from pathlib import Path

    from autosam_edge_training.evaluate.scored_runs import Run

DATASETS: tuple[Scored, ...] = get_args(Scored)


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
    """Write ``run.json`` into a folder that ``evaluate --predictions ... -o FOLDER`` made; method and data set are those of its scores.

    Args:
        folder: With ``cases.csv`` and ``summary.json``.
        network: What the method trained.
        data_sha256: Of the manifest of the prepared data set.
        seed: Of the training; this and what follows is None where the method does not tell.
        steps: Of the training.
        trainable_parameters: As its own tool counts them.
        total_parameters: The same.
        machine: What it was trained on.

    Returns:
        The run as the tables read it.

    Raises:
        TrainingError: The scores are of a method or data set that no table has (AE-TRAIN-026), or the
            folder's files do not belong together (AE-TRAIN-021).
        InputError: ``cases.csv`` cannot be used (AE-DATA-012).
    """
    first = read_csv(folder / "cases.csv")[0]
    if first.method not in METHODS or first.dataset not in DATASETS:
        raise METHOD_UNKNOWN(
            f"the scores are of {first.method} on {first.dataset}; the tables have {', '.join(METHODS)} on {', '.join(DATASETS)}."
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
    write_facts(facts, folder)
    return read_run(folder)
