"""``autosam-edge montage``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from autosam_edge.bundle import open_bundle
from autosam_edge.cli.options import AsJson, BundleOption, FileOut, Scan, Series, named_paths
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.error_codes import OUTPUT_IN_INPUT, OUTPUT_OCCUPIED
from autosam_edge.measurements import dice
from autosam_edge.read_scan import input_path, read
from autosam_edge.system.atomic_files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from autosam_edge.geometry import Grid
    from autosam_edge.volume import Label


def montage(
    scan: Scan,
    labels: Annotated[
        list[str],
        typer.Option(
            "--labels",
            metavar="NAME=FILE",
            help="Heading and segmentation.nii.gz of a column; once for each column.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, FileOut(help="PNG file to write.")],
    bundle: BundleOption = None,
    series: Series = None,
    as_json: AsJson = False,
) -> None:
    """Draw several segmentations of one scan side by side.

    The sections are those that show most of the first segmentation. The table lists the volume of each organ
    and its Dice with the first segmentation.
    """
    from autosam_edge.report.montage import MontageCase, draw_montage

    source, files = input_path(scan), named_paths("--labels", labels)
    if out.suffix.lower() != ".png":
        raise typer.BadParameter("expected a name that ends in .png", param_hint="--out")
    for name in files:
        if not (name.isascii() and name.isprintable()):
            raise typer.BadParameter(
                f"the heading {name!r} has a character that the picture cannot show; expected letters from A "
                "to Z, digits and signs of ASCII",
                param_hint="--labels",
            )
    table = open_bundle(bundle).manifest.labels
    volume = read(source, series=series)
    _check_inputs_stay(out, source, files.values())
    organs = {label.value: label.name for label in table}
    found = {name: _read_column(name, path, volume.grid, organs) for name, path in files.items()}
    write_file(draw_montage([MontageCase("", volume, found)], table, planes={"axial": 2, "coronal": 1}), out)
    Stages().log(f"wrote {out}")
    rows = [organ for label in table if (organ := _organ(label, found, volume.grid.voxel_ml))]
    if as_json:
        print(json.dumps({"picture": str(out), "organs": [organ.as_dict() for organ in rows]}))
        return
    shown = new_table("milliliters, and Dice with the first column", "organ", *files)
    for organ in rows:
        overlaps = {
            name: "    n/a" if value is None else f"  {value:.3f}" for name, value in organ.dice.items()
        }
        shown.add_row(organ.name, *(f"{ml:.1f}{overlaps.get(name, '')}" for name, ml in organ.ml.items()))
    show(shown)


def _read_column(name: str, path: Path, grid: Grid, organs: Mapping[int, str]) -> npt.NDArray[np.uint8]:
    """Labels of one column; an error names it by its heading, as the files often share one name."""
    from autosam_edge.formats.label_image import naming_labels, read_named_labels

    with naming_labels(
        f'the labels of "{name}"', "Give labels of this scan, such as its segmentation.nii.gz."
    ):
        remedy = "Give `--bundle` with the model that made them."
        return read_named_labels(path, grid, organs, "they and the scan", remedy)


def _check_inputs_stay(out: Path, source: Path, labels: Iterable[Path]) -> None:
    """Refuse a picture that would replace what it shows, or that the next run would read."""
    if source.is_dir() and source.resolve() in out.resolve().parents:
        raise OUTPUT_IN_INPUT("the picture lies inside the input folder.")
    if out.exists() and any(out.samefile(path) for path in (source, *labels)):
        raise OUTPUT_OCCUPIED(
            "the picture would replace the scan or its labels.", remedy="Give another name to the picture."
        )


@dataclass(frozen=True)
class _Organ:
    """Volumes of one organ by column, and its Dice with the first column."""

    name: str
    label: int
    ml: dict[str, float]
    dice: dict[str, float | None]

    def as_dict(self) -> dict[str, object]:
        """The organ in the JSON object; the table rounds the numbers themselves."""
        return {
            **asdict(self),
            "ml": {name: round(ml, 2) for name, ml in self.ml.items()},
            "dice": {name: None if value is None else round(value, 4) for name, value in self.dice.items()},
        }


def _organ(label: Label, found: dict[str, npt.NDArray[np.uint8]], voxel_ml: float) -> _Organ | None:
    """Volumes and overlaps of one organ; None where nobody found it."""
    masks = {name: labels == label.value for name, labels in found.items()}
    milliliters = {name: int(np.count_nonzero(mask)) * voxel_ml for name, mask in masks.items()}
    if not any(milliliters.values()):
        return None
    (_, first), *others = masks.items()
    overlaps = {name: dice(first, mask) if first.any() or mask.any() else None for name, mask in others}
    return _Organ(label.name, label.value, milliliters, overlaps)
