"""``autosam-edge bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from autosam_edge.bundle import default_bundle_path, open_bundle, open_bundles
from autosam_edge.cli.extras import needs
from autosam_edge.cli.options import (
    BundleOption,
    Data,
    Engine,
    FileOut,
    Threads,
    refuse_given,
    split_commas,
    weights_in,
)
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.read_scan import read
from autosam_edge.session import open_session
from autosam_edge.system.atomic_files import write_file
from autosam_edge.system.machine import available_cores
from autosam_edge_benchmarks.choices import FleetPart
from autosam_edge_benchmarks.cli import rows
from autosam_edge_benchmarks.error_codes import RESULT_DIFFERS
from autosam_edge_benchmarks.result_header import Result, shown
from autosam_edge_training.choices import Student

app = typer.Typer(invoke_without_command=True)
app.callback()(rows.bench)
app.command("report")(rows.report)
Scan = Annotated[Path, typer.Argument(metavar="DICOM_FOLDER", help="Folder of a CT series.", exists=True)]
Split = Annotated[
    Literal["validation", "training"], typer.Option("--split", help="Part of the data set to measure on.")
]
Out = Annotated[Path | None, FileOut(help="JSON file for the result.")]
KeptInputs = Annotated[Path, FileOut(help="JSON file for the result; inputs that it holds are kept.")]


def _write(result: Result, out: Path | None) -> None:
    if out is not None:
        write_file((json.dumps(result, indent=1, allow_nan=False) + "\n").encode(), out)


def _earlier(out: Path | None, expected: Result) -> Result | None:
    """The result that a file holds, which a command goes on with.

    Args:
        expected: Values that it must have; those that an older version did not write may be missing.

    Raises:
        BenchError: It is damaged, or of another measurement (AE-BENCH-005).
    """
    if out is None or not out.is_file():
        return None
    try:
        found: Result = json.loads(out.read_bytes())
        other = [key for key, value in expected.items() if _same(found.get(key, value)) != _same(value)]
    except (ValueError, AttributeError) as error:
        raise RESULT_DIFFERS(f"{out.name} is no result ({type(error).__name__}).") from error
    if other or "benchmark" not in found:
        raise RESULT_DIFFERS(f"{out.name} holds a result of another {', '.join(other) or 'kind'}.")
    return found


def _same(value: object) -> object:
    """A value without the number of threads, which changes no result."""
    return {k: v for k, v in value.items() if k != "threads"} if isinstance(value, dict) else value


def _resumed(out: Path, new: Result) -> Result:
    """The result of a study that a file holds, where it goes on with what a new one would measure."""
    same = {key: value for key, value in new.items() if key not in ("date", "machine", "inputs")}
    return _earlier(out, same) or new


@app.command("parity")
def parity(scan: Scan, out: Out = None, bundle: BundleOption = None) -> None:
    """Compare the labels with MONAI's sliding window on the student in torch, voxel by voxel."""
    with needs("dev"):
        from autosam_edge_benchmarks.studies.streaming_parity import measure_streaming_parity

    result = measure_streaming_parity(open_bundle(bundle), read(scan))
    organs = f"{result['agreement_in_organs']:.6f} of those in an organ"
    print(f"{result['agreement']:.6f} of all voxels have the same label, {organs}")
    _write(result, out)


@app.command("ceiling")
def ceiling(data: Data, split: Split = "validation", out: Out = None) -> None:
    """Measure the best Dice possible at the model's spacing: labels resampled to its grid and back."""
    with needs("dev"):
        from autosam_edge_benchmarks.studies.label_ceiling import measure_label_ceiling

    result = measure_label_ceiling(data, split)
    hard, shares = (shown(result["mean_dice"][kind], 4) for kind in ("hard_labels", "occupancy"))
    print(f"mean Dice: hard labels {hard}, occupancies {shares}")
    _write(result, out)


@app.command("one-part")
def one_part(data: Data, split: Split = "validation", bundle: BundleOption = None, out: Out = None) -> None:
    """Measure how keeping only the most certain part of each organ changes its Dice."""
    with needs("dev"):
        from autosam_edge_benchmarks.studies.one_part import measure_one_part

    result = measure_one_part(bundle or default_bundle_path(), data, split, log=Stages().log)
    print(f"{'mean Dice':<30}as found one part")
    for name, before in result["dice"]["as_found"].items():
        print(f"{name:<30}{before:8.3f} {result['dice']['one_part'][name]:8.3f}")
    print("harmless for:", ", ".join(result["harmless"]))
    _write(result, out)


@app.command("short-scans")
def short_scans(
    data: Data, split: Split = "validation", bundle: BundleOption = None, out: Out = None
) -> None:
    """Measure the Dice of scans cut to 24, 40, 60 and 90 mm, with and without the rules for scan ends."""
    with needs("dev"):
        from autosam_edge_benchmarks.studies.short_scans import measure_short_scans

    result = measure_short_scans(bundle or default_bundle_path(), data, split, log=Stages().log)
    for name, variant in result["variants"].items():
        print(name.replace("_", " "))
        for key, value in variant["mean"].items():
            print(f"  {key.replace('_', ' '):<26}{shown(value):>7}")
    _write(result, out)


@app.command("tiers")
def tiers(
    data: Data,
    split: Split = "validation",
    bundle: BundleOption = None,
    coarse: Annotated[
        Path | None, typer.Option("--coarse", help="Bundle that finds the organs. Default: the fast tier.")
    ] = None,
    out: Out = None,
) -> None:
    """Measure what a coarse model that finds the organs changes in the labels of a finer one."""
    with needs("dev"):
        from autosam_edge_benchmarks.studies.tiers import measure_tiers

    finder = coarse or open_bundle(tier="fast").path
    result = measure_tiers(bundle or default_bundle_path(), finder, data, split, log=Stages().log)
    for key, value in result["mean"].items():
        digits = 1 if key.startswith("tiles") else 3
        print(f"{key.replace('_', ' '):<16}{shown(value, digits):>8}")
    _write(result, out)


@app.command("edge-form")
def edge_form(
    student: Annotated[Student, typer.Option("--student", help="Network of the student.")] = "swinunetr-tiny",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            help="Weights of a student, measured in place of --student: student.safetensors, or "
            "the folder of a run or bundle with that file. Default: random weights of --student.",
            exists=True,
            callback=weights_in,
        ),
    ] = None,
    out: Out = None,
) -> None:
    """Compare the network rewritten for export with the original in ONNX Runtime."""
    with needs("dev"):
        from autosam_edge_benchmarks.studies.edge_form import measure_edge_form

    result = measure_edge_form(student, checkpoint, log=Stages().log)
    for entry in result["forms"]:
        load, peak = f"load {entry['load_s']:.2f} s", f"peak {entry['peak_rss_mb']:.0f} MB"
        tile = f"{entry['tile_ms']:6.0f} ms a tile ({entry['relative_time']:.2f} x)"
        costs = f"{entry['megabytes']:6.1f} MB  {load}  {tile}  {peak}"
        print(f"{entry['form']:<38}{costs}  furthest logit {entry['logit_error']:.1e}")
    if result["doubt_of_times"]:
        print(result["doubt_of_times"])
    _write(result, out)


@app.command("plausibility")
def plausibility(
    data: Data,
    out: KeptInputs,
    bundle: BundleOption = None,
    usable: Annotated[
        list[Path] | None, typer.Option("--usable", help="Further abdominal CT, once for each.", exists=True)
    ] = None,
    unusable: Annotated[
        list[Path] | None,
        typer.Option("--unusable", help="Further scan of another kind, once for each.", exists=True),
    ] = None,
) -> None:
    """Fit the thresholds of the plausibility check, and show which inputs it refuses."""
    with needs("dev"):
        from autosam_edge_benchmarks.studies import plausibility as study
        from autosam_edge_training.data import Prepared

    prepared = Prepared.read(data)
    names = [entry.name for split in study.SPLITS for entry in prepared.manifest.entries(split)]
    names += [path.name for path in (*(usable or ()), *(unusable or ()))]
    if twice := {name for name in names if names.count(name) > 1}:
        raise typer.BadParameter(
            f"two scans have the name {min(twice)}, by which the result tells them apart",
            param_hint="--usable, --unusable",
        )
    session = open_session(bundle)
    result = _resumed(out, study.new_study(session, prepared))
    running = study.Study(session, result, lambda found: write_file(study.as_json(found), out), Stages().log)
    running.measure_data(prepared)
    running.measure_others(usable or (), unusable or ())
    result = study.finished(result)
    for row in result["summary"]:
        expected = "usable" if row["usable"] else "unusable"
        verdicts = ", ".join(f"{row[name]} {name}" for name in ("plausible", "doubtful", "implausible"))
        print(f"{row['input']:<28}{expected:<10}{verdicts}")
    write_file(study.as_json(result), out)


@app.command("confidence")
def confidence(
    data: Data,
    out: KeptInputs,
    bundle: BundleOption = None,
    split: Annotated[
        Literal["validation", "training", "test"],
        typer.Option(
            "--split", help="Part of the data set. The map is fitted on validation; on others it is judged."
        ),
    ] = "validation",
) -> None:
    """Fit the map to the expected Dice of each organ, or judge that of a bundle."""
    with needs("dev"):
        from autosam_edge_benchmarks.studies import confidence as study
        from autosam_edge_benchmarks.studies import confidence_inputs as inputs
        from autosam_edge_benchmarks.studies.plausibility import as_json
        from autosam_edge_training.data import Prepared
        from autosam_edge_training.evaluate.seen_cases import seen_by_bundles

    session, prepared = open_session(bundle), Prepared.read(data)
    used = None if split == "validation" else session.model.confidence
    if split != "validation" and used is None:
        raise typer.BadParameter(
            "the bundle has no map to the expected Dice; fit one with --split validation",
            param_hint="--bundle",
        )
    log = Stages().log
    result = _resumed(out, inputs.new_study(session, prepared, split))
    if seen := seen_by_bundles(open_bundles(bundle), prepared, split, log=log):
        result["seen"] = seen
    inputs.measure(
        session, prepared, split, result, save=lambda found: write_file(as_json(found), out), log=log
    )
    result = study.finished(result, used)
    for name, found in result["reliability"].items():
        print(
            f"{name}: organs: {found['organs']}, mean error {shown(found['mean_error'])}, "
            f"rank correlation {shown(found['rank_correlation'])}"
        )
        for row in found["bins"]:
            print(
                f"  expected {row['from']:.1f} to {row['to']:.1f}: organs: {row['organs']:4}, "
                f"mean expected {row['expected']:.3f}, mean Dice {row['dice']:.3f}"
            )
    write_file(as_json(result), out)


@app.command("odd-inputs")
def odd_inputs(
    max_memory: Annotated[int, typer.Option("--max-memory", min=1, help="Memory limit in MB.")] = 800,
    out: Annotated[
        Path | None, FileOut(help="JSON file for the result; inputs that it holds are kept.")
    ] = None,
) -> None:
    """Show that `segment --max-memory` holds its limit on bombs, lies about sizes and large scans."""
    with needs("bench"):
        from autosam_edge_benchmarks.studies.odd_inputs import measure_odd_inputs

    result = measure_odd_inputs(
        max_memory,
        earlier=_earlier(out, {"benchmark": "odd inputs", "limit_mb": max_memory}),
        save=lambda found: _write(found, out),
        log=Stages().log,
    )
    peak = max(row["peak_mb"] for row in result["inputs"])
    print(f"largest peak {peak:.0f} MB, the limit is {'held' if result['held'] else 'NOT held'} within 10 %")


@app.command("fuzz")
def fuzz(
    context: typer.Context,
    inputs: Annotated[int, typer.Option("--inputs", min=1, help="Number of inputs, of all kinds.")] = 100_000,
    kinds: Annotated[
        str | None, typer.Option("--kinds", metavar="KIND,...", help="Kinds of inputs. Default: all.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Number of processes.")] = 2,
    again: Annotated[
        str | None, typer.Option("--again", metavar="KIND:NUMBER", help="Make and read this input alone.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Folder that receives the files of `--again`.")
    ] = None,
    out: Annotated[
        Path | None, FileOut(help="JSON file for the result; the run of one that is there goes on.")
    ] = None,
) -> None:
    """Read damaged scans and bundles: every one must be read, or refused with an error of its own."""
    if again is None:
        refuse_given(context, {"keep"}, "has no effect without --again")
    else:
        refuse_given(context, {"inputs", "kinds", "jobs", "out"}, "has no effect with --again")
    with needs("dev"):
        from autosam_edge_benchmarks.fuzz import run
        from autosam_edge_benchmarks.fuzz.kinds import KINDS

    if again is not None:
        try:
            print(*run.again(again, keep))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--again") from error
        return
    names = (
        split_commas(kinds, str, option="--kinds", expected="kinds with commas") if kinds else tuple(KINDS)
    )
    if unknown := sorted(set(names) - set(KINDS)):
        raise typer.BadParameter(f"{unknown[0]} is none of: {', '.join(KINDS)}", param_hint="--kinds")
    chosen = {name: KINDS[name] for name in names}
    before = _earlier(out, {"benchmark": "fuzz"})
    if before and set(before["kinds"]) != set(names):
        raise typer.BadParameter(f"the run of {out} has other kinds", param_hint="--kinds")
    result = run.fuzz(inputs, earlier=before, kinds=chosen, jobs=jobs, log=Stages().log)
    for failure in result["failures"]:
        print(failure["input"], failure["result"], failure["place"])
    print(", ".join(f"{count} {name}" for name, count in result["counts"].items() if name != "contained"))
    _write(result, out)
    if result["failures"]:
        raise typer.Exit(1)


@app.command("kills")
def kills(
    random_kills: Annotated[
        int, typer.Option("--random", min=0, help="Number of runs that are killed at a random moment.")
    ] = 108,
    out: Annotated[
        Path | None, FileOut(help="JSON file for the result; groups of kills that it holds are kept.")
    ] = None,
) -> None:
    """Kill runs at every change of the disk and at random moments, and look at what they leave."""
    from autosam_edge_benchmarks.studies.kills import measure_kills

    result = measure_kills(
        random_kills,
        earlier=_earlier(out, {"benchmark": "kills"}),
        save=lambda found: _write(found, out),
        log=Stages().log,
    )
    print(f"{result['kills']} kills: no mixture, nothing left behind, every next run succeeded")


@app.command("long-life")
def long_life(
    scans: Annotated[int, typer.Option("--scans", min=20, help="Number of scans.")] = 200,
    bundle: BundleOption = None,
    engine: Engine = None,
    stand_in: Annotated[
        bool, typer.Option("--stand-in", help="Use a formula in the place of the network.")
    ] = False,
    out: Out = None,
) -> None:
    """Read, segment and write many scans in one session; memory, files and threads must not grow."""
    from autosam_edge_benchmarks.stand_in import stand_in_session
    from autosam_edge_benchmarks.studies.long_life import measure_long_life

    session = stand_in_session() if stand_in else open_session(bundle, engine=engine)
    result = measure_long_life(scans, session, log=Stages().log)
    print(f"{scans} scans: memory {result['growth_percent']:+.2f} %, {result['descriptors']} descriptors")
    _write(result, out)


@app.command("fleet")
def fleet(
    count: Annotated[int, typer.Option("--scans", min=11, help="Number of series; ten are broken.")] = 200,
    kills: Annotated[int, typer.Option("--kills", min=0, help="Number of kills at random moments.")] = 20,
    tiny: Annotated[
        int, typer.Option("--tiny", min=2, help="Number of jobs without inference, for their cost.")
    ] = 10_000,
    scan: Annotated[
        Path | None,
        typer.Option(
            "--scan", exists=True, help="Folder of a CT series; every second series is a part of it."
        ),
    ] = None,
    part: Annotated[
        FleetPart | None,
        typer.Option("--part", help="Part to measure. Default: those that the result does not hold."),
    ] = None,
    out: Out = None,
) -> None:
    """Run `batch` with workers and on Dask, kill it, and compare tables, speed and memory.

    The same command again goes on where the last one stopped.
    """
    with needs("bench"):
        from autosam_edge_benchmarks.rows.whole_scan import scan_digest
        from autosam_edge_benchmarks.studies.fleet import check_same, measure_part

    header = {"benchmark": "fleet", "scans": count, "scan": scan and scan_digest(scan)}
    found = (_earlier(out, header) or {"parts": {}})["parts"]
    for name in [part] if part else [name for name in get_args(FleetPart) if name not in found]:
        found[name] = measure_part(name, count=count, kills=kills, tiny=tiny, scan=scan, log=Stages().log)
        _write({**header, "parts": found}, out)
    check_same(found)
    print(json.dumps(found, indent=1))


@app.command("peers")
def peers(
    scan: Scan,
    environment: Annotated[
        Path,
        typer.Option(
            "--environment", help="Folder for the packages of nnU-Net and TotalSegmentator (3 to 8 GB)."
        ),
    ] = Path("peers-environment"),
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs of each tool.")] = 5,
    threads: Threads = None,
    out: Out = None,
) -> None:
    """Compare with MONAI, nnU-Net and TotalSegmentator on one scan: time and memory, in turns."""
    with needs("bench"), needs("export"):
        from autosam_edge_benchmarks.peers.compare import compare
        from autosam_edge_benchmarks.peers.table import COLUMNS, cells, title

    cores = threads or available_cores()
    result = compare(scan, environment, repeats=repeats, threads=cores, log=Stages().log)
    table = new_table(title(result))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("tool", "network") else "right")
    for entry in result["tools"]:
        table.add_row(*cells(entry))
    show(table)
    _write(result, out)


@app.command("arm64")
def arm64(
    rows_folder: Annotated[Path, typer.Option("--rows", help="Folder for the rows.")],
    environment: Annotated[
        Path, typer.Option("--environment", help="Folder for the Arm64 system (500 MB).")
    ] = Path("arm64-environment"),
) -> None:
    """Verify the bundle of the package on an emulated Arm64 processor; nothing is timed."""
    with needs("bench"):
        from autosam_edge_benchmarks.rows.arm64 import verify_on_arm64
        from autosam_edge_benchmarks.rows.measure import write_row

    for row in verify_on_arm64(environment, log=Stages().log):
        write_row(row, rows_folder / "arm64-emulated")
        print(*row.validity.reasons)


@app.command("network")
def network(
    out: Out = None,
    alive: Annotated[
        float,
        typer.Option("--alive", min=0, help="Seconds for which each process is watched after its work."),
    ] = 30.0,
) -> None:
    """Show that no command and no engine sends anything, or leaves a file outside of the output folder."""
    from autosam_edge_benchmarks.studies.network import in_words, measure_network

    result = measure_network(alive_s=alive, log=Stages().log)
    for part in ("jobs", "control", "defaults"):
        for name, seen in result[part].items():
            print(f"{name:<42}{in_words(seen)}")
    _write(result, out)
    print(
        "nothing was sent, nothing was left" if result["clean"] else "NOT clean, or the control was not seen"
    )
    raise typer.Exit(0 if result["clean"] else 1)
