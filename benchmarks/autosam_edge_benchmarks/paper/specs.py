"""Which rows the paper's tables have, and which of our runs answer a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autosam_edge_training.evaluate.scored_runs import Criteria

if TYPE_CHECKING:
    from autosam_edge_benchmarks.paper.published import Dataset, Exhibit, Measure
    from autosam_edge_training.evaluate.scored_runs import Method


@dataclass(frozen=True)
class Row:
    """A row of the paper.

    Args:
        key: As in :mod:`autosam_edge_benchmarks.paper.published`.
        title: As a reader sees it.
        criteria: Our runs that answer it: any that meets one of these.
    """

    key: str
    title: str
    criteria: tuple[Criteria, ...]


@dataclass(frozen=True)
class TableSpec:
    """A table of the paper.

    Args:
        exhibit: Its name.
        title: What it shows.
        heading: Of the first column.
        measures: Columns that are compared.
        datasets: Data sets that it reports.
        rows: In the paper's order.
        notes: What a reader must know, one sentence each.
        ours_against_all: The last row is ours and is tested against each of the others.
    """

    exhibit: Exhibit
    title: str
    heading: str
    measures: tuple[Measure, ...]
    datasets: tuple[Dataset, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    ours_against_all: bool = False


_SMALL, _TINY = "swinunetr-small", "swinunetr-tiny"


def _either(method: Method, network: str) -> tuple[Criteria, ...]:
    """A baseline from predictions read in, or from our own recipe with MONAI's network."""
    return Criteria((method,)), Criteria(("student",), network=network)


_OURS = (Criteria(("teacher",), apg=True),)
_POINTS = "Points are taken from the ground truth at test time: these rows are no automatic segmentation."
_MEANS = "Means are over cases per organ, then over organs, without the background; NSD is at 1 mm, the paper names no tolerance."

TABLE1 = TableSpec(
    "table1",
    "Comparison with networks for medical images",
    "model",
    ("parameters", "dice", "nsd"),
    ("btcv", "amos"),
    (
        Row("nnunet", "nnU-Net", (Criteria(("nnunet",)),)),
        Row("nnformer", "nnFormer", (Criteria(("nnformer",)),)),
        Row("unetr", "UNETR", _either("unetr", "monai:UNETR")),
        Row("swinunetr", "SwinUNETR", _either("swinunetr", "monai:SwinUNETR")),
        Row("ours", "AutoSAM Adapter", _OURS),
    ),
    (
        _MEANS,
        "Tuned parameters are counted on our network, in millions.",
        "*: p < 0.01 against every baseline (Wilcoxon signed-rank, two-sided, paired by case and organ) in mDice and mNSD.",
    ),
    ours_against_all=True,
)
TABLE2 = TableSpec(
    "table2",
    "Comparison with SAM and MedSAM",
    "model / tuning",
    ("dice", "nsd"),
    ("btcv", "amos"),
    (
        Row("sam-point", "SAM point / none", (Criteria(("sam-point",)),)),
        Row("medsam-pm", "MedSAM point / prompt encoder and mask decoder", (Criteria(("medsam-pm",)),)),
        Row("medsam-full", "MedSAM point / full", (Criteria(("medsam-full",)),)),
        Row("ours", "AutoSAM Adapter / parameter-efficient", _OURS),
    ),
    (_POINTS, _MEANS),
)
TABLE3 = TableSpec(
    "table3",
    "Auto prompt generator",
    "auto prompt generator",
    ("dice", "nsd"),
    ("btcv",),
    (Row("with", "with", _OURS), Row("without", "without", (Criteria(("teacher",), apg=False),))),
    ("The data set is read as BTCV.", _MEANS),
)


def table4(small: str = _SMALL, *others: str) -> TableSpec:
    """Table 4: the paper's student is Small, and ours are others too."""
    rows = []
    for network in (small, *others):
        for weight in (0.0, 0.2, 0.5, 0.8, 1.0):
            criteria = [Criteria(("distill",), network=network, weight=weight)]
            if weight == 1.0:  # without the teacher's term there is no teacher
                criteria.append(Criteria(("student",), network=network))
            rows.append(
                Row(
                    f"{weight:g}" if network == small else f"{network}-{weight:g}",
                    f"{network}, {weight:g}",
                    tuple(criteria),
                )
            )
    return TableSpec(
        "table4",
        "Weight of the ground truth in distillation (lambda)",
        "student, lambda",
        ("dice",),
        ("btcv",),
        tuple(rows),
        ("The data set is read as BTCV. lambda = 1 is the student without a teacher.",),
    )


def figure4(small: str = _SMALL, tiny: str = _TINY, *others: str) -> TableSpec:
    """The bars of figure 4 as a table; students that the paper has not come last."""
    rows = []
    for key, network in (("tiny", tiny), ("small", small), *((other, other) for other in others)):
        alone = (Criteria(("student",), network=network), Criteria(("distill",), network=network, weight=1.0))
        rows.append(Row(f"{key}-alone", f"{network} alone", alone))
        rows.append(
            Row(
                f"{key}-distilled",
                f"{network} distilled",
                (Criteria(("distill",), network=network, weight=0.5),),
            )
        )
    return TableSpec(
        "figure4",
        "Students with and without distillation (lambda 0.5)",
        "student",
        ("dice",),
        ("btcv",),
        tuple(rows),
        ("The paper's bars of Tiny lie about 4 points apart; their values are not known here.",),
    )


def table_spec(exhibit: Exhibit) -> TableSpec:
    """The specification of a table, or of the figure that is drawn from one."""
    distilled = {"table4": table4(_SMALL, _TINY), "figure4": figure4(_SMALL, _TINY, "pocketnet")}
    return {"table1": TABLE1, "table2": TABLE2, "table3": TABLE3, **distilled}[exhibit]
