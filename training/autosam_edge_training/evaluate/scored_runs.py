"""Scored runs: ``run.json`` (the run), ``cases.csv`` (the scores) and ``summary.json`` (the means).

Whatever made the predictions, a run is read the same way, and the means that a table shows are computed from
``cases.csv`` again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter

from autosam_edge_training.choices import Reduction, RunKind
from autosam_edge_training.error_codes import RUN_FILE_INVALID, RUN_FILES_DIFFER
from autosam_edge_training.evaluate.report import summarize
from autosam_edge_training.evaluate.scores import METRICS, Metric, Score, read_csv
from autosam_edge_training.strict import STRICT, checked_dataclass, parse_json

_Others = Literal["nnunet", "nnformer", "unetr", "swinunetr", "sam-point", "medsam-pm", "medsam-full"]
Method = Literal[RunKind, _Others]
Scored = Literal["btcv", "amos", "phantoms"]
OTHERS: tuple[_Others, ...] = get_args(_Others)
_SUMMARY_TOLERANCE = 1e-6  # of a mean in 0..1 that went through JSON

_Count = Annotated[int, Field(ge=0)]
_Length = Annotated[float, Field(gt=0)]


@checked_dataclass(config=ConfigDict(**STRICT, populate_by_name=True))
class RunFacts:
    """What ``run.json`` says. What a method read in from elsewhere does not tell is null.

    Args:
        network: Such as ``swinunetr-small`` or ``autosam-vit-b``.
        dataset: Name of the data set that was scored, such as ``btcv``.
        weight: Key ``lambda``: weight of the ground truth in equation 2; None without distillation.
        reduction: Reduction of the distillation loss, ``voxel`` or ``element``.
        apg: True if the teacher has its auto prompt generator; None for other networks.
        seed, steps: Random seed and number of steps of the training.
        spacing_mm: Voxel spacing of the network's grid (D, H, W), mm.
        recipe_sha256: SHA-256 of the training recipe and the further data, without the seed.
        smoke: The figures mean nothing: phantoms and tiny networks.
    """

    method: Method
    network: str
    dataset: Annotated[str, Field(min_length=1)]
    weight: Annotated[float | None, Field(alias="lambda", ge=0, le=1)]
    reduction: Reduction | None
    apg: bool | None
    seed: int | None
    steps: _Count | None
    trainable_parameters: _Count | None
    total_parameters: _Count | None
    spacing_mm: tuple[_Length, _Length, _Length] | None
    machine: str | None
    commit: str | None
    data_sha256: str | None
    smoke: bool
    teacher: str | None = None
    weights_sha256: str | None = None
    recipe_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.method == "distill" and self.weight is None:
            raise ValueError("a distilled run has a lambda")
        if self.dataset == "phantoms" and not self.smoke:
            raise ValueError("a run on phantoms is a smoke run")


@dataclass(frozen=True)
class Run:
    """A scored run.

    Args:
        means: Mean of each score over cases per organ, then over organs, 0 to 1.
    """

    folder: Path
    facts: RunFacts
    means: Mapping[Metric, float]

    @property
    def cases(self) -> Path:
        """The table of every case and organ."""
        return self.folder / "cases.csv"


def write_facts(facts: RunFacts, folder: Path) -> None:
    """Write ``run.json``."""
    content = TypeAdapter(RunFacts).dump_json(facts, by_alias=True, indent=1)
    (folder / "run.json").write_bytes(content + b"\n")


def read_run(folder: Path) -> Run:
    """Read one scored run.

    Raises:
        TrainingError: ``run.json`` cannot be used (AE-TRAIN-020), or the three files do not belong together
            (-021).
        InputError: ``cases.csv`` cannot be used (AE-DATA-012).
    """
    facts = _read_facts(folder)
    scores = read_csv(folder / "cases.csv")
    return Run(folder, facts, check_together(folder, facts, scores))


def check_together(folder: Path, facts: RunFacts, scores: Sequence[Score]) -> Mapping[Metric, float]:
    """The mean of each score, where the files of a run are of one run.

    Raises:
        TrainingError: They are not (AE-TRAIN-021).
    """
    means = {metric: summarize(scores)[f"mean_{metric}"] for metric in METRICS}
    if problem := _find_mismatch(folder, facts, scores, means):
        raise RUN_FILES_DIFFER(
            f"the files of the scored run {folder.name} do not belong together: {problem}."
        )
    return means


def _read_facts(folder: Path) -> RunFacts:
    try:
        return parse_json(RunFacts, (folder / "run.json").read_bytes())
    except OSError as error:
        problem = f"it cannot be read ({type(error).__name__})"
    except ValueError as error:
        problem = str(error)
    raise RUN_FILE_INVALID(f"run.json of the scored run {folder.name} cannot be used: {problem}.")


def _find_mismatch(
    folder: Path, facts: RunFacts, scores: Sequence[Score], means: Mapping[Metric, float | None]
) -> str:
    """Why the files of a run are not of one run; empty when they are."""
    first = scores[0]
    if (first.method, first.dataset) != (facts.method, facts.dataset):
        return (
            f"cases.csv is of {first.method} on {first.dataset}, "
            f"run.json of {facts.method} on {facts.dataset}"
        )
    if means["dice"] is None:
        return "cases.csv has no scored organ"
    try:
        summary = json.loads((folder / "summary.json").read_bytes())
        stated, data = float(summary["mean_dice"]), summary.get("manifest_sha256")
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError) as error:
        return f"summary.json states no mean Dice ({type(error).__name__})"
    if abs(stated - means["dice"]) > _SUMMARY_TOLERANCE:
        return f"summary.json states a mean Dice of {stated:.6f}, cases.csv of {means['dice']:.6f}"
    if None not in (data, facts.data_sha256) and data != facts.data_sha256:
        return "summary.json is of other data than run.json"
    return ""


def find_runs(results: Path, *, smoke: bool = False) -> tuple[Run, ...]:
    """The scored runs below a folder, at any depth, in order of their paths: smoke runs, or all others.

    Raises:
        TrainingError: A run is broken (see :func:`read_run`).
    """
    folders = sorted({path.parent for name in ("run.json", "cases.csv") for path in results.rglob(name)})
    runs = (read_run(folder) for folder in folders)
    return tuple(run for run in runs if run.facts.smoke == smoke)
