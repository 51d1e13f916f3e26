"""``autosam-edge segment`` and ``autosam-edge demo``."""

from __future__ import annotations

import contextlib
import filecmp
import json
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from autosam_edge.cli.progress import Stages
from autosam_edge.error_codes import OUTPUT_OCCUPIED
from autosam_edge.measurements import dice, organ_statistics
from autosam_edge.memory import peak_mb
from autosam_edge.output_formats import FORMATS
from autosam_edge.read_scan import read
from autosam_edge.session import open_session
from autosam_edge.volume import RESEARCH_USE
from autosam_edge.write_results import check_outputs, check_writable, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.output_formats import Format
    from autosam_edge.session import Session
    from autosam_edge.volume import Segmentation, Volume

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if it is not there.")]
BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Model bundle (*.edge). Default: the one that travels with the package."),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine", help="onnx, openvino, executorch or coreml. Default: the best; `info` shows why."
    ),
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="Of the artifact, such as fp32 or int8. Default: the best.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the engine. Default: all cores.")
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        "--max-memory", min=1, help="Budget for resident memory in MB: hold it, or refuse before starting."
    ),
]
FormatNames = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help=f"Write only these files: some of {', '.join(FORMATS)}; several with commas, or the option again. Default: all that fit.",
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        "--series", help="Which series, if the input holds several: its number in the list that is shown."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of the table.")]


def segment(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="DICOM folder, file or zip; NIfTI or NRRD file.", show_default=False
        ),
    ],
    out: Out,
    bundle: BundleOption = None,
    series: Series = None,
    engine: Engine = None,
    precision: Precision = None,
    threads: Threads = None,
    max_memory: MaxMemory = None,
    formats: FormatNames = None,
    as_json: AsJson = False,
) -> None:
    """Label the organs of one CT scan: NIfTI, DICOM SEG, statistics and a picture."""
    stages = Stages()
    chosen = _formats(formats)
    check_writable(out, input_path=source, formats=chosen)
    with stages.stage("read"):
        volume = read(source, series=series)
    check_outputs(
        out, source=volume.source, input_path=source, formats=chosen
    )  # what the input is was not known before
    model = partial(
        open_session, bundle, engine=engine, precision=precision, threads=threads, max_memory_mb=max_memory
    )
    report = _run(volume, out, stages, model, formats=chosen)[1]
    _show(report, as_json=as_json)


def _formats(names: list[str] | None) -> tuple[Format, ...] | None:
    """The formats of ``--format``, None for all that fit."""
    if not names:
        return None
    asked = {part.strip() for name in names for part in name.split(",")}
    if unknown := sorted(asked - set(FORMATS)):
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(FORMATS)}", param_hint="--format")
    return tuple(name for name in FORMATS if name in asked)


def demo(out: Out, bundle: BundleOption = None, threads: Threads = None, as_json: AsJson = False) -> None:
    """Make a synthetic abdomen, write it as a DICOM series, label it, and compare with the known truth."""
    from autosam_edge.phantom import ORGANS, make_phantom
    from autosam_edge.phantom.series import write_dicom_series

    stages = Stages()
    check_writable(out)
    folder = out / "scan"
    fresh = not folder.exists() or not any(folder.iterdir())
    try:
        with stages.stage("phantom"):
            phantom = make_phantom(DEMO_SEED)
            if fresh:
                write_dicom_series(phantom.volume, folder, seed=DEMO_SEED)
            else:
                _require_phantom(folder, phantom.volume)
        with stages.stage("read"):
            volume = read(folder)
        segmentation, report = _run(volume, out, stages, partial(open_session, bundle, threads=threads))
    except BaseException:  # Ctrl-C too: a demo that fails leaves no scan behind
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # the folder held something before
                out.rmdir()
        raise
    for organ in report["organs"]:
        if organ["name"] in ORGANS:  # by name: another data set numbers organs in another way
            overlap = dice(
                segmentation.labels == organ["label"], phantom.labels == ORGANS.index(organ["name"]) + 1
            )
            organ["dice_against_truth"] = round(overlap, 3)
    report["warnings"].append(
        "This is a synthetic phantom, and phantoms are a small part of the model's training: it shows the tool, not its accuracy."
    )
    _show(report, as_json=as_json)


def _require_phantom(folder: Path, volume: Volume) -> None:
    """Refuse a folder that holds anything but what an earlier demonstration wrote: it may be somebody's scan."""
    from autosam_edge.phantom.series import write_dicom_series

    with tempfile.TemporaryDirectory() as other:
        names = sorted(path.name for path in write_dicom_series(volume, Path(other), seed=DEMO_SEED))
        if (
            sorted(path.name for path in folder.iterdir()) != names
            or filecmp.cmpfiles(folder, other, names, shallow=False)[0] != names
        ):
            raise OUTPUT_OCCUPIED(
                f"the output folder holds a folder named {folder.name} that is not the demonstration's."
            )


# Not among the seeds that training uses (1000 and up).
DEMO_SEED = 7


def _run(
    volume: Volume,
    out: Path,
    stages: Stages,
    open_model: Callable[[], Session],
    *,
    formats: tuple[Format, ...] | None = None,
) -> tuple[Segmentation, dict[str, Any]]:
    """Segment, measure and write; returns the labels and the report that ``--json`` prints."""
    with stages.stage("load model"):
        session = open_model()
    planned = session.plan(volume)
    shape = "x".join(map(str, planned.model_shape))
    stages.say(f"plan        {planned.tiles} tiles on {shape} voxels, about {planned.peak_mb:.0f} MB")
    with stages.bar("segment") as progress:
        segmentation = planned.execute(progress=progress)
    del session, planned  # the engine's memory is not needed any more, and writing takes some
    with stages.stage("statistics"):
        statistics = organ_statistics(volume, segmentation)
    write_s: dict[str, float] = {}
    with stages.stage("write"):
        outputs = write(volume, segmentation, out, formats=formats, statistics=statistics, timings_s=write_s)
    return segmentation, {
        "outputs": {name: str(path) for name, path in outputs.items()},
        "scan": volume.grid.described(),
        "organs": [_organ(entry) for entry in statistics],
        "timings_s": {
            key: round(value, 3)
            for key, value in {
                **stages.seconds,
                **segmentation.timings_s,
                **{f"write {k}": v for k, v in write_s.items()},
            }.items()
        },
        "peak_rss_mb": round(peak_mb(), 1),
        "warnings": list(segmentation.warnings),
        "provenance": segmentation.provenance,
    }


def _organ(entry: OrganStatistics) -> dict[str, Any]:
    mean = None if entry.mean_hu is None else round(entry.mean_hu, 1)
    return {
        "name": entry.name,
        "label": entry.label,
        "ml": round(entry.ml, 2),
        "mean_hu": mean,
        "touches_border": entry.touches_border,
    }


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    """Print the report on stdout."""
    if as_json:
        print(json.dumps(report))
        return
    console = Console(highlight=False)
    with_truth = any("dice_against_truth" in organ for organ in report["organs"])
    table = Table(
        title=f"{report['provenance']['model']}, {report['provenance']['engine']} {report['provenance']['precision']}",
        title_justify="left",
    )
    table.add_column("organ", no_wrap=True, min_width=28)
    for heading in ("ml", "mean HU", *(["Dice to truth"] if with_truth else [])):
        table.add_column(heading, justify="right")
    table.add_column("note")
    for organ in report["organs"]:
        cells = [
            organ["name"],
            f"{organ['ml']:.1f}" if organ["ml"] else "-",
            "-" if organ["mean_hu"] is None else f"{organ['mean_hu']:.0f}",
        ]
        if with_truth:
            cells.append(f"{organ['dice_against_truth']:.2f}" if "dice_against_truth" in organ else "-")
        note = "not found" if not organ["ml"] else "at the border" if organ["touches_border"] else ""
        table.add_row(*cells, note)
    console.print(table)
    for warning in report["warnings"]:
        console.print(f"note: {warning}", markup=False, soft_wrap=True)
    for path in report["outputs"].values():
        console.print(path, markup=False, soft_wrap=True)
    console.print(RESEARCH_USE, markup=False, soft_wrap=True)
