"""What the paper prints, as data: "Auto-Prompting SAM for Mobile Friendly 3D Medical Image Segmentation", arXiv 2308.14936.

The values are those of the edition that distils (the first title, v1 and v2); from v3 on the paper is
AutoProSAM, has no distillation and other tables. Its tables could not be read again while this was written,
so only what an earlier reading had noted stands here. What is not known stays unknown and is shown as such: a
number that nobody read is worse than a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

EDITION = "arXiv 2308.14936, the edition that distils (v1, v2)"

Exhibit = Literal["table1", "table2", "table3", "table4", "figure1", "figure3", "figure4"]
EXHIBITS: tuple[Exhibit, ...] = get_args(Exhibit)
Dataset = Literal["btcv", "amos"]
DATASETS: tuple[Dataset, ...] = get_args(Dataset)
Measure = Literal["parameters", "dice", "nsd"]


@dataclass(frozen=True)
class Printed:
    """One value of the paper.

    Args:
        value: Percent for ``dice`` and ``nsd``, millions for ``parameters``; None when there is no number to
            compare with.
        absent: Why there is none: ``not known here``, or what the paper prints in its place.
        digits: Decimals that are known.
    """

    value: float | None = None
    absent: str = "not known here"
    digits: int = 2

    def __str__(self) -> str:
        return self.absent if self.value is None else f"{self.value:.{self.digits}f}"


UNKNOWN = Printed()
NOT_IN_IT = Printed(absent="not in the paper")
DASH = Printed(absent="-")  # the paper itself prints a dash


@dataclass(frozen=True)
class Entry:
    """Where a value stands in the paper.

    Args:
        exhibit: Table or figure.
        row: Key of the row, the same as in :mod:`autosam_edge_benchmarks.paper.tables`.
        measure: Column.
        dataset: Data set; None for what does not depend on it.
        printed: The value.
    """

    exhibit: Exhibit
    row: str
    measure: Measure
    dataset: Dataset | None
    printed: Printed


PAPER: tuple[Entry, ...] = (
    # Table 1, column of tuned parameters, millions.
    Entry("table1", "nnunet", "parameters", None, Printed(31.18)),
    Entry("table1", "nnformer", "parameters", None, Printed(150.0, digits=0)),
    Entry("table1", "unetr", "parameters", None, Printed(93.02)),
    Entry("table1", "swinunetr", "parameters", None, Printed(62.83)),
    Entry("table1", "ours", "parameters", None, Printed(26.53)),
    # Table 2: the point baselines have no NSD.
    *(
        Entry("table2", row, "nsd", data, DASH)
        for row in ("sam-point", "medsam-pm", "medsam-full")
        for data in DATASETS
    ),
    # Table 3: with and without the auto prompt generator.
    Entry("table3", "with", "dice", "btcv", Printed(87.15)),
    Entry("table3", "with", "nsd", "btcv", Printed(78.83)),
    Entry("table3", "without", "dice", "btcv", Printed(85.23)),
    Entry("table3", "without", "nsd", "btcv", Printed(74.12)),
    # Table 4: weight of the ground truth in equation 2, student Small.
    Entry("table4", "0", "dice", "btcv", Printed(78.54)),
    Entry("table4", "0.2", "dice", "btcv", Printed(82.45)),
    Entry("table4", "0.5", "dice", "btcv", Printed(83.27)),
    Entry("table4", "0.8", "dice", "btcv", Printed(81.14)),
    Entry("table4", "1", "dice", "btcv", Printed(79.63)),
    *(
        Entry("table4", f"swinunetr-tiny-{weight}", "dice", "btcv", NOT_IN_IT)
        for weight in ("0", "0.2", "0.5", "0.8", "1")
    ),
    # Figure 4: the bars of Small are two rows of table 4; those of Tiny were not read, only that they lie
    # about 4 points apart.
    Entry("figure4", "small-alone", "dice", "btcv", Printed(79.63)),
    Entry("figure4", "small-distilled", "dice", "btcv", Printed(83.27)),
    *(Entry("figure4", f"pocketnet-{how}", "dice", "btcv", NOT_IN_IT) for how in ("alone", "distilled")),
)

_BY_PLACE = {(entry.exhibit, entry.row, entry.measure, entry.dataset): entry.printed for entry in PAPER}


def printed(exhibit: Exhibit, row: str, measure: Measure, dataset: Dataset) -> Printed:
    """The paper's value for a cell; :data:`UNKNOWN` when it is not known here."""
    return _BY_PLACE.get(
        (exhibit, row, measure, dataset), _BY_PLACE.get((exhibit, row, measure, None), UNKNOWN)
    )


@dataclass(frozen=True)
class Published:
    """A result of others, to judge ours by.

    Args:
        what: Method and setting.
        dataset: Data set.
        dice: Mean Dice, percent.
        protocol: Split and inference, in a few words.
        source: Where it stands.
    """

    what: str
    dataset: Dataset
    dice: float
    protocol: str
    source: str


_SWINUNETR = "Project-MONAI/research-contributions, SwinUNETR/BTCV/README"
_NNUNET = "MIC-DKFZ/nnUNet, documentation/resenc_presets.md"
_SPLIT, _FOLDS = (
    "24/6 split of SwinUNETR, overlap 0.5, not distilled",
    "5-fold cross validation, from scratch",
)

PUBLISHED: dict[Exhibit, tuple[Published, ...]] = {
    "table1": (
        Published("nnU-Net", "btcv", 83.08, _FOLDS, _NNUNET),
        Published("nnU-Net", "amos", 88.64, _FOLDS, _NNUNET),
        Published("nnFormer", "btcv", 80.86, _FOLDS, _NNUNET),
        Published("nnFormer", "amos", 81.55, _FOLDS, _NNUNET),
        Published("SwinUNETR", "btcv", 78.89, _FOLDS, _NNUNET),
        Published("SwinUNETR", "amos", 83.81, _FOLDS, _NNUNET),
        Published("MedNeXt-L k5", "btcv", 85.04, _FOLDS, _NNUNET),
        Published("MedNeXt-L k5", "amos", 89.73, _FOLDS, _NNUNET),
        Published("SwinUNETR Base, self-supervised weights", "btcv", 81.86, _SPLIT, _SWINUNETR),
    ),
    "table4": (Published("SwinUNETR Small", "btcv", 79.34, _SPLIT, _SWINUNETR),),
    "figure4": (
        Published("SwinUNETR Tiny", "btcv", 70.35, _SPLIT, _SWINUNETR),
        Published("SwinUNETR Small", "btcv", 79.34, _SPLIT, _SWINUNETR),
    ),
}
"""Results of others beside the exhibit that they help to judge; Dice under another protocol is not comparable."""
