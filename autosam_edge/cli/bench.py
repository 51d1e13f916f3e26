"""``autosam-edge bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from autosam_edge.atomic_files import write_file
from autosam_edge.cli.extras import load_room
from autosam_edge.cli.options import one_of
from autosam_edge.cli.progress import Stages

app = typer.Typer(help="Measure latency and memory on this machine.", no_args_is_help=True)
Scan = Annotated[
    Path, typer.Argument(metavar="DICOM_FOLDER", help="A CT series.", exists=True, show_default=False)
]
BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Bundle to run. Default: the one that travels with the package."),
]
Data = Annotated[Path, typer.Option("--data", help="Folder that `data prepare` wrote.", exists=True)]
Split = Annotated[str, typer.Option("--split", help="validation or training.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for the result.")]


@app.command("segment")
def segment(
    scan: Scan,
    out: Out = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs; medians are reported.")] = 5,
    bundle: BundleOption = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="onnx, openvino, executorch or coreml. Default: the best.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the engine.")] = None,
) -> None:
    """Wall time from command to files, time per stage, peak memory."""
    room = load_room("autosam_edge_benchmarks.segment_scan", "bench")
    result = room.measure_segment(scan, repeats=repeats, bundle=bundle, engine=engine, threads=threads)
    print(
        f"wall {result['wall_s']:.2f} s, peak {result['peak_rss_mb']:.0f} MB, {result['model']} on {result['engine']} {result['precision']}"
    )
    for name, seconds in result["stages_s"].items():
        print(f"  {name:<12}{seconds:7.2f} s")
    _write(result, out)


@app.command("memory")
def memory(
    scan: Scan,
    out: Out = None,
    slices: Annotated[str, typer.Option("--slices", help="Numbers of slices, with commas.")] = "160,320,640",
    bundle: BundleOption = None,
) -> None:
    """Peak memory on the series repeated to more and more slices."""
    room = load_room("autosam_edge_benchmarks.segment_scan", "bench")
    if not all(part.strip().isdigit() for part in slices.split(",")):
        raise typer.BadParameter(f"{slices!r} is not whole numbers with commas", param_hint="--slices")
    counts = [int(part) for part in slices.split(",")]
    result = room.measure_growth(scan, counts, bundle=bundle, say=Stages().say)
    for run in result["runs"]:
        print(f"{run['slices']:>6} slices {run['peak_rss_mb']:8.0f} MB")
    for step in result["growth"]:
        own = step["arrays_mb_per_slice"]
        print(
            f"{step['from']} to {step['to']}: {step['mb_per_slice']:.3f} MB a slice; the arrays themselves take {own:.3f}"
        )
    _write(result, out)


def _costs(entry: dict[str, Any]) -> str:
    if "tile_ms" not in entry:
        return f"{entry['megabytes']:6.1f} MB  not run here"
    time = f"{entry['tile_ms']:6.0f} ms a tile ({entry['relative_time']:.2f} x)"
    return f"{entry['megabytes']:6.1f} MB  load {entry['load_s']:.2f} s  {time}  peak {entry['peak_rss_mb']:.0f} MB"


def _write(result: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        write_file((json.dumps(result, indent=1) + "\n").encode(), out)


@app.command("parity")
def parity(scan: Scan, out: Out = None, bundle: BundleOption = None) -> None:
    """The streamed labels against MONAI's sliding window on the torch student, voxel by voxel."""
    room = load_room("autosam_edge_benchmarks.studies.streaming_parity", "dev")
    from autosam_edge.bundle import open_bundle
    from autosam_edge.read_scan import read

    result = room.measure_streaming_parity(open_bundle(bundle), read(scan))
    print(
        f"{result['agreement']:.6f} of all voxels have the same label, {result['agreement_in_organs']:.6f} of those in an organ"
    )
    _write(result, out)


@app.command("ceiling")
def ceiling(data: Data, split: Split = "validation", out: Out = None) -> None:
    """The best Dice that any network can reach at the model's spacing: labels to its grid and back."""
    result = load_room("autosam_edge_benchmarks.studies.label_ceiling", "dev").measure_label_ceiling(
        data, split
    )
    print(
        f"hard labels {result['mean_dice']['hard_labels']:.4f}, occupancies {result['mean_dice']['occupancy']:.4f}"
    )
    _write(result, out)


@app.command("one-part")
def one_part(data: Data, split: Split = "validation", bundle: BundleOption = None, out: Out = None) -> None:
    """What keeping one part of each organ does to its Dice: which organs the bundle should name."""
    from autosam_edge.bundle import default_bundle_path

    room = load_room("autosam_edge_benchmarks.studies.one_part", "dev")
    result = room.measure_one_part(bundle or default_bundle_path(), data, split, say=Stages().say)
    for name, before in result["dice"]["as_found"].items():
        print(f"{name:<30}{before:7.3f} {result['dice']['one_part'][name]:7.3f}")
    print("harmless for:", ", ".join(result["harmless"]))
    _write(result, out)


@app.command("artifacts")
def artifacts(bundle: BundleOption = None, out: Out = None) -> None:
    """The scorecard of a bundle: size, loading, memory, time of a tile and worst organ of the student and every artifact."""
    from autosam_edge.bundle import open_bundle

    room = load_room("autosam_edge_benchmarks.artifacts", "bench")
    result = room.measure_artifacts(open_bundle(bundle), say=Stages().say)
    student = result["torch"]
    print(
        f"{'student in torch':<26}{student['megabytes']:6.1f} MB {student['tile_ms']:6.0f} ms a tile ({student['relative_time']:.2f} x)"
    )
    for entry in result["artifacts"]:
        worst = f"{entry['worst_organ']} {entry['organ_dice'][entry['worst_organ']]:.4f}"
        print(f"{entry['name']:<26}{_costs(entry)}  {entry['proof']}, worst organ {worst}")
    _write(result, out)


@app.command("students")
def students(
    scan: Scan,
    bundle: Annotated[
        list[Path], typer.Option("--bundle", help="A student as it is run; once per student.", exists=True)
    ],
    results: Annotated[Path, typer.Option("--results", help="Folder with scored runs.")] = Path(
        "benchmarks/results/runs"
    ),
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Turns; medians are reported.")] = 3,
    engine: Annotated[str, typer.Option("--engine", help="That all run on.")] = "onnx",
    out: Out = None,
) -> None:
    """Seconds for a scan against the Dice of each student's scored run; with -o a picture beside the JSON."""
    room = load_room("autosam_edge_benchmarks.students", "dev")
    result = room.measure_students(bundle, results, scan, repeats=repeats, engine=engine, say=Stages().say)
    for entry in result["students"]:
        worth = f"mean Dice {entry['dice']:.4f}  NSD at 1 mm {entry['nsd_1']:.4f}"
        print(f"{entry['run']:<32}{entry['network']:<18}{entry['wall_s']:6.2f} s  {worth}")
    _write(result, out)
    if out is not None:
        room.draw_students(result, out.with_suffix(".png"))


@app.command("edge-form")
def edge_form(
    student: Annotated[
        str, typer.Option("--student", help="swinunetr-tiny, swinunetr-small or pocketnet.")
    ] = "swinunetr-tiny",
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Its weights. Default: random ones.", exists=True)
    ] = None,
    out: Out = None,
) -> None:
    """The edge form in ONNX Runtime against the student as it stands: size, memory, time, distance from torch."""
    known = load_room("autosam_edge_training.networks.students", "train").STUDENTS
    one_of("--student", student, known)
    result = load_room("autosam_edge_benchmarks.edge_form", "dev").measure_edge_form(
        student, checkpoint, say=Stages().say
    )
    for entry in result["forms"]:
        print(f"{entry['form']:<38}{_costs(entry)}  furthest logit {entry['logit_error']:.1e}")
    _write(result, out)
