"""The paper's tables as data: rows, printed values, results of others, and which of our runs belong to a row.

Paper: "Auto-Prompting SAM for Mobile Friendly 3D Medical Image Segmentation", arXiv 2308.14936, v1 and v2.
From v3 on the paper is called AutoProSAM; it has no distillation and other tables. The values are those that
we read in v1 and v2. A value that we did not read is :data:`UNKNOWN`, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from autosam_edge_benchmarks.choices import Dataset, Exhibit
from autosam_edge_training.evaluate.scored_runs import Method, RunFacts

EDITION = "arXiv 2308.14936, the edition that distils (v1, v2)"
UNKNOWN = "not known here"
_NOT_IN_PAPER = "not in the paper"

Measure = Literal["parameters", "dice", "nsd"]

Matches = Callable[["RunFacts"], bool]


class Published(NamedTuple):
    """A result that others published, for comparison.

    Args:
        dice: Mean Dice, percent.
        protocol: Split and inference, in a few words. Values of different protocols are not comparable.
    """

    what: str
    dataset: Dataset
    dice: float
    protocol: str
    source: str


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        matches: Test whether a scored run belongs to this row.
        paper: Value that the paper prints, by measure, as text: percent, or millions of parameters.
    """

    key: str
    title: str
    matches: Matches
    paper: Mapping[Measure, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, or a figure that shows values.

    Args:
        rows: Rows in the paper's order.
        published: Results of others, printed below the table.
        test_last_row: True if the last row is ours and is tested against each other row.
    """

    exhibit: Exhibit
    title: str
    heading: str
    measures: tuple[Measure, ...]
    datasets: tuple[Dataset, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    published: tuple[Published, ...] = ()
    test_last_row: bool = False


def _method(method: Method, network: str | None = None) -> Matches:
    """Predictions of a method that were read in, or our student recipe with this network of MONAI."""
    return lambda run: run.method == method or (run.method == "student" and run.network == network)


def _teacher(*, prompts: bool) -> Matches:
    return lambda run: run.method == "teacher" and run.apg is prompts


def _student(network: str, weight: float) -> Matches:
    """A student network at one lambda; a student that was trained without a teacher has lambda 1."""

    def matches(run: RunFacts) -> bool:
        found = 1.0 if run.method == "student" else run.weight
        return run.network == network and found is not None and math.isclose(found, weight, abs_tol=1e-9)

    return matches


_SMALL, _TINY, _POCKETNET = "swinunetr-small", "swinunetr-tiny", "pocketnet"
_OURS = _teacher(prompts=True)
_AS_BTCV = "The data set is read as BTCV."
_MEANS = (
    "Means are over cases per organ, then over organs, without the background; NSD is at 1 mm, "
    "the paper names no tolerance."
)
_STAR = (
    "*: p < 0.01 against every baseline (Wilcoxon signed-rank, two-sided, paired by case and organ) "
    "in mDice and mNSD."
)
_FOLDS = "5-fold cross validation, from scratch", "MIC-DKFZ/nnUNet, documentation/resenc_presets.md"
_SPLIT = (
    "24/6 split of SwinUNETR, overlap 0.5, not distilled",
    "Project-MONAI/research-contributions, SwinUNETR/BTCV/README",
)

_TABLE1 = PaperTable(
    "table1",
    "Comparison with networks for medical images",
    "model",
    ("parameters", "dice", "nsd"),
    ("btcv", "amos"),
    (
        Row("nnunet", "nnU-Net", _method("nnunet"), {"parameters": "31.18"}),
        Row("nnformer", "nnFormer", _method("nnformer"), {"parameters": "150"}),
        Row("unetr", "UNETR", _method("unetr", "monai:UNETR"), {"parameters": "93.02"}),
        Row("swinunetr", "SwinUNETR", _method("swinunetr", "monai:SwinUNETR"), {"parameters": "62.83"}),
        Row("ours", "AutoSAM Adapter", _OURS, {"parameters": "26.53"}),
    ),
    (_MEANS, "Tuned parameters are counted on our network, in millions.", _STAR),
    (
        Published("nnU-Net", "btcv", 83.08, *_FOLDS),
        Published("nnU-Net", "amos", 88.64, *_FOLDS),
        Published("nnFormer", "btcv", 80.86, *_FOLDS),
        Published("nnFormer", "amos", 81.55, *_FOLDS),
        Published("SwinUNETR", "btcv", 78.89, *_FOLDS),
        Published("SwinUNETR", "amos", 83.81, *_FOLDS),
        Published("MedNeXt-L k5", "btcv", 85.04, *_FOLDS),
        Published("MedNeXt-L k5", "amos", 89.73, *_FOLDS),
        Published("SwinUNETR Base, self-supervised weights", "btcv", 81.86, *_SPLIT),
    ),
    test_last_row=True,
)
_TABLE2 = PaperTable(
    "table2",
    "Comparison with SAM and MedSAM",
    "model / tuning",
    ("dice", "nsd"),
    ("btcv", "amos"),
    (
        Row("sam-point", "SAM point / none", _method("sam-point"), {"nsd": "-"}),
        Row(
            "medsam-pm", "MedSAM point / prompt encoder and mask decoder", _method("medsam-pm"), {"nsd": "-"}
        ),
        Row("medsam-full", "MedSAM point / full", _method("medsam-full"), {"nsd": "-"}),
        Row("ours", "AutoSAM Adapter / parameter-efficient", _OURS),
    ),
    (
        "Points are taken from the ground truth at test time: these rows are no automatic segmentation.",
        _MEANS,
    ),
)
_TABLE3 = PaperTable(
    "table3",
    "Auto prompt generator",
    "auto prompt generator",
    ("dice", "nsd"),
    ("btcv",),
    (
        Row("with", "with", _OURS, {"dice": "87.15", "nsd": "78.83"}),
        Row("without", "without", _teacher(prompts=False), {"dice": "85.23", "nsd": "74.12"}),
    ),
    (_AS_BTCV, _MEANS),
)


def _table4(small: str, *others: str) -> PaperTable:
    paper = {0.0: "78.54", 0.2: "82.45", 0.5: "83.27", 0.8: "81.14", 1.0: "79.63"}
    rows = [
        Row(f"{weight:g}", f"{small}, {weight:g}", _student(small, weight), {"dice": dice})
        for weight, dice in paper.items()
    ]
    rows += [
        Row(f"{other}-{w:g}", f"{other}, {w:g}", _student(other, w), {"dice": _NOT_IN_PAPER})
        for other in others
        for w in paper
    ]
    return PaperTable(
        "table4",
        "Weight of the ground truth in distillation (lambda)",
        "student, lambda",
        ("dice",),
        ("btcv",),
        tuple(rows),
        (f"{_AS_BTCV} lambda = 1 is the student without a teacher.",),
        (Published("SwinUNETR Small", "btcv", 79.34, *_SPLIT),),
    )


def _figure4(**students: str) -> PaperTable:
    paper = {"tiny": (UNKNOWN, UNKNOWN), "small": ("79.63", "83.27")}
    rows = []
    for key, network in students.items():
        alone, distilled = paper.get(key, (_NOT_IN_PAPER, _NOT_IN_PAPER))
        rows += [
            Row(f"{key}-alone", f"{network} alone", _student(network, 1.0), {"dice": alone}),
            Row(f"{key}-distilled", f"{network} distilled", _student(network, 0.5), {"dice": distilled}),
        ]
    return PaperTable(
        "figure4",
        "Students with and without distillation (lambda 0.5)",
        "student",
        ("dice",),
        ("btcv",),
        tuple(rows),
        ("The paper's bars of Tiny lie about 4 points apart; their values are not known here.",),
        (
            Published("SwinUNETR Tiny", "btcv", 70.35, *_SPLIT),
            Published("SwinUNETR Small", "btcv", 79.34, *_SPLIT),
        ),
    )


def table_spec(exhibit: Exhibit, *, student: str | None = None) -> PaperTable:
    """Return the definition of a table, or of the figure that is drawn from one.

    Args:
        exhibit: ``table1`` to ``table4`` or ``figure4``.
        student: Network that takes the place of the paper's student Small, as the only student of the table;
            None for the students of our experiments.
    """
    return {
        "table1": _TABLE1,
        "table2": _TABLE2,
        "table3": _TABLE3,
        "table4": _table4(student) if student else _table4(_SMALL, _TINY),
        "figure4": _figure4(small=student)
        if student
        else _figure4(tiny=_TINY, small=_SMALL, pocketnet=_POCKETNET),
    }[exhibit]
