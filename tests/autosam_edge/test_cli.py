"""The command line: files, one JSON object, one-line errors, exit codes, nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
from typing import get_args
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
import typer
from autosam_edge_test_ct import write_enhanced
from autosam_edge_test_support import SHARED_DATA, unframed, write_bundle
from autosam_edge_test_support import run_command as run

from autosam_edge import cli
from autosam_edge.bundle import default_bundle_path
from autosam_edge.cli.demo import SEED, demo_series
from autosam_edge.errors import OutputError
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series

FILES = {"segmentation.nii.gz", "segmentation.dcm", "statistics.json", "statistics.csv", "preview.png"}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    write_dicom_series(make_phantom(5, spacing_mm=(5.0, 4.0, 4.0), shape=(54, 72, 84)).volume, folder, seed=5)
    return folder


@pytest.fixture(scope="module")
def segmented(scan, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "out"
    return out, run("segment", scan, "-o", out, "--json")


def test_segment_writes_five_files_and_one_json_object(segmented):
    """The files of the README, and a report whose parts are all there."""
    out, result = segmented
    assert result.returncode == 0, result.stderr
    assert {p.name for p in out.iterdir()} == FILES
    report = json.loads(result.stdout)
    assert set(report) == {
        "outputs",
        "scan",
        "organs",
        "timings_s",
        "peak_rss_mb",
        "plausibility",
        "warnings",
        "provenance",
    }
    assert set(report["outputs"].values()) == {str(out / name) for name in FILES}
    assert len(report["organs"]) == 13
    assert {"name", "label", "ml", "mean_hu"} <= set(report["organs"][0])
    assert report["peak_rss_mb"] > 50
    assert {"read", "segment", "network", "restore", "write"} <= set(report["timings_s"])
    assert "Research use only" in report["provenance"]["research_use"]


def test_montage_sets_two_labels_of_a_scan_side_by_side(scan, segmented, tmp_path):
    """One picture; equal labels have a Dice of 1, and the volumes are those of the statistics."""
    labels = segmented[0] / "segmentation.nii.gz"
    picture = tmp_path / "new" / "m.png"
    result = run(
        "montage", scan, "--labels", f"a={labels}", "--labels", f"b={labels}", "-o", picture, "--json"
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["picture"] == str(picture)
    volumes = {
        organ["name"]: organ["ml"] for organ in json.loads(segmented[1].stdout)["organs"] if organ["ml"]
    }
    assert {organ["name"]: organ["ml"]["a"] for organ in told["organs"]} == pytest.approx(volumes)
    assert {overlap for organ in told["organs"] for overlap in organ["dice"].values()} == {1.0}
    assert [path.name for path in picture.parent.iterdir()] == ["m.png"]


def test_montage_knows_no_overlap_of_nothing(scan, segmented, tmp_path):
    """The Dice of two labels that both lack an organ is null, also if a third one has it."""
    image = nib.load(segmented[0] / "segmentation.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), tmp_path / "none.nii.gz")
    empty = tmp_path / "none.nii.gz"
    columns = [f"a={empty}", f"b={empty}", f"c={segmented[0] / 'segmentation.nii.gz'}"]
    result = run(
        "montage",
        scan,
        *[part for column in columns for part in ("--labels", column)],
        "-o",
        tmp_path / "m.png",
        "--json",
    )
    assert result.returncode == 0, result.stderr
    assert "NaN" not in result.stdout
    assert {organ["dice"]["b"] for organ in json.loads(result.stdout)["organs"]} == {None}
    assert {organ["dice"]["c"] for organ in json.loads(result.stdout)["organs"]} == {0.0}


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 6, "AE-MEMORY-003"),
        (OSError(errno.EMFILE, "no"), 1, "open. Remedy: Raise the limit, such as `ulimit -n"),
    ],
)
def test_running_out_of_memory_or_of_open_files_is_said(monkeypatch, capsys, error, code, words):
    monkeypatch.setattr(cli, "app", Mock(side_effect=error))
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == code
    assert words in capsys.readouterr().err


def test_montage_refuses_what_does_not_belong(scan, segmented, tmp_path):
    """Labels of another scan, a name given twice, a picture that is no PNG: refused, and no file."""
    labels = segmented[0] / "segmentation.nii.gz"
    other = tmp_path / "other"
    write_dicom_series(make_phantom(6, spacing_mm=(6.0, 4.0, 4.0)).volume, other, seed=6)
    picture = tmp_path / "m.png"
    refused = run("montage", other, "--labels", f"a={labels}", "-o", picture)
    assert refused.returncode == 3
    assert "AE-NIFTI-005" in refused.stderr
    assert (
        run("montage", scan, "--labels", f"a={labels}", "--labels", f"a={labels}", "-o", picture).returncode
        == 2
    )
    assert run("montage", scan, "--labels", f"a={labels}", "-o", tmp_path / "m.jpg").returncode == 2
    assert run("montage", scan, "--labels", f"a={tmp_path / 'none.nii.gz'}", "-o", picture).returncode == 2
    unshown = run("montage", scan, "--labels", f"Größe={labels}", "-o", picture)
    assert unshown.returncode == 2
    assert "a character that the picture cannot show" in unframed(unshown.stderr)
    assert {path.name for path in tmp_path.iterdir()} == {"other"}


def test_progress_is_on_stderr_and_names_the_plan(segmented):
    """Stdout holds the object alone."""
    _, result = segmented
    assert "tiles" in result.stderr
    assert result.stdout.count("\n") == 1


def test_the_same_scan_gives_the_same_bytes(scan, segmented, tmp_path):
    """NIfTI, SEG, statistics and picture are identical when nothing changed."""
    out, _ = segmented
    assert run("segment", scan, "-o", tmp_path / "again").returncode == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def error_of(result, code, exit_code, folder):
    """One line on stderr with this code, this exit code, and an output folder that does not exist."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error ")]
    assert len(lines) == 1, result.stderr
    assert f"error {code}: " in lines[0]
    assert "Remedy: " in lines[0]
    assert result.returncode == exit_code
    assert "Traceback" not in result.stderr
    assert not folder.exists()
    assert result.stdout == ""


def test_bad_input_leaves_nothing(tmp_path, scan):
    """An empty folder, no path, a missing bundle, a budget of 1 MB: each its code, each its exit code."""
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    error_of(run("segment", tmp_path / "empty", "-o", out), "AE-DICOM-001", 3, out)
    error_of(run("segment", tmp_path / "absent", "-o", out), "AE-INPUT-001", 3, out)
    error_of(run("segment", scan, "-o", out, "--bundle", tmp_path / "none.edge"), "AE-BUNDLE-001", 4, out)
    error_of(run("segment", scan, "-o", out, "--max-memory", "1"), "AE-MEMORY-001", 6, out)


@pytest.mark.parametrize(
    "arguments", [["segment", "", "-o"], ["batch", "", "-o"], ["watch", "", "-o"], ["contract", ""]]
)
def test_an_empty_text_is_no_input(tmp_path, arguments):
    """It is not the working directory."""
    out = tmp_path / "out"
    error_of(run(*arguments, out, cwd=tmp_path, timeout=60), "AE-INPUT-001", 3, out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["segment", "x", "-o", "y", "--bundle", ""], "--bundle: expected a value or nothing after it"),
        (
            ["segment", "x", "-o", "y", "--require-signature="],
            "--require-signature: expected a value or nothing",
        ),
        (["train", "student", "--smoke", "--out="], "AE-OUTPUT-008"),
        (["data", "prepare", "btcv", "--src", ".", "-o", ""], "AE-OUTPUT-008"),
        (["evaluate", "--data", ""], "--data: expected a value or nothing after it, found an empty text"),
        (["info", "--json", ""], "--json: expected a value or nothing after it, found an empty text"),
        (["bundle", "sign", "", "--key", "key.pem"], "BUNDLE: expected a path, found an empty text"),
    ],
)
def test_an_empty_text_is_no_path(arguments, said, tmp_path):
    """As of a variable of the shell that is not set; the path would be that of the working directory."""
    result = run(*arguments, cwd=tmp_path)
    assert said in unframed(result.stderr).replace("'", "").replace("Invalid value for ", "")
    assert result.returncode in (2, OutputError.exit_code)
    assert list(tmp_path.iterdir()) == []


def test_an_altered_bundle_is_refused(tmp_path, scan):
    """A wrong hash: AE-BUNDLE-004 and exit code 4."""
    folder = write_bundle(tmp_path / "b.edge")
    (folder / "onnx" / "fp32.onnx").write_bytes(b"something else")
    error_of(
        run("segment", scan, "-o", tmp_path / "out", "--bundle", folder), "AE-BUNDLE-004", 4, tmp_path / "out"
    )


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path, scan):
    """A file where the folder should be, and a folder inside the input."""
    (tmp_path / "file").write_text("mine")
    result = run("segment", scan, "-o", tmp_path / "file")
    assert result.returncode == 7
    assert "AE-OUTPUT-002" in result.stderr
    assert (tmp_path / "file").read_text() == "mine"
    error_of(run("segment", scan, "-o", scan / "out"), "AE-OUTPUT-004", 7, scan / "out")


def test_segment_writes_the_formats_asked_for(scan, segmented, tmp_path):
    """With commas or the option again: those files and no other, and the same bytes as among all five."""
    out = tmp_path / "out"
    result = run("segment", scan, "-o", out, "--format", "nifti,json", "--format", "csv", "--json")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in out.iterdir()} == {
        "segmentation.nii.gz",
        "statistics.json",
        "statistics.csv",
    }
    assert set(json.loads(result.stdout)["outputs"]) == {"nifti", "json", "csv"}
    assert all(path.read_bytes() == (segmented[0] / path.name).read_bytes() for path in out.iterdir())


def test_a_seg_of_what_is_not_dicom_is_refused_before_the_work(segmented, tmp_path):
    """The refusal comes after reading and before the model is loaded; its remedy is an option."""
    scan = tmp_path / "scan.nii.gz"
    image = nib.load(segmented[0] / "segmentation.nii.gz")
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj).astype(np.int16), image.affine), scan)
    result = run("segment", scan, "-o", tmp_path / "out", "--format", "dicom-seg")
    error_of(result, "AE-OUTPUT-005", 7, tmp_path / "out")
    assert result.stderr.startswith("read ")
    assert "load model" not in result.stderr
    assert "--format nifti,json,csv,preview" in result.stderr


def test_an_enhanced_file_is_segmented_in_its_own_folder(scan, tmp_path):
    """The user gave one file, so its folder is as good as any other; what is there stays."""
    write_enhanced(sorted(scan.iterdir()), tmp_path / "scan.dcm")
    before = (tmp_path / "scan.dcm").read_bytes()
    result = run("segment", "scan.dcm", "-o", ".", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"scan.dcm", *FILES}
    assert (tmp_path / "scan.dcm").read_bytes() == before


def test_wrong_usage_exits_with_2(tmp_path):
    """No INPUT, an unknown option, threads below one, a format that does not exist."""
    assert run("segment").returncode == 2
    assert run("segment", tmp_path, "-o", tmp_path, "--nonsense").returncode == 2
    assert run("segment", tmp_path, "-o", tmp_path, "--threads", "0").returncode == 2
    for names in ("png", "nifti,", ""):
        refused = run("segment", tmp_path, "-o", tmp_path / "out", "--format", names)
        assert refused.returncode == 2
        assert "dicom-seg" in refused.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_run_leaves_nothing(tmp_path, scan):
    """SIGTERM when the inference begins: exit code 143, no output, no temporary folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "autosam_edge", "segment", str(scan), "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("plan"):
            break
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "AE-CANCEL-001" in stderr
    assert list(tmp_path.iterdir()) == []


def test_info_shows_the_default_bundle():
    """Every hash is checked; the JSON names the labels."""
    result = run("info", "--json")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["labels"]["6"] == "liver"
    assert min(facts["parity"][0]["organ_dice"].values()) >= 0.999
    assert {artifact["target"] for artifact in facts["artifacts"]} == {"onnx", "openvino"}
    assert "every hash is correct" in run("info").stdout


def test_a_command_whose_extra_is_missing_names_it(tmp_path):
    """Without torch, `verify --interpret` and `export` say what brings it."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ModuleNotFoundError(name='torch')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    without_torch = {"env": {**os.environ, "PYTHONPATH": path}}
    for arguments in (["verify", "--interpret"], ["export", "-o", tmp_path / "out.edge"]):
        result = run(*arguments, **without_torch)
        error_of(result, "AE-EXTRA-001", 8, tmp_path / "out.edge")
        assert "needs torch" in result.stderr
        assert "pip install 'autosam-edge[export]'" in result.stderr


PANELS = {
    "Segment a scan": ["segment", "demo", "montage", "info", "doctor"],
    "Export and verify": ["verify", "bundle", "export"],
    "Segment many scans": ["batch", "watch", "serve", "contract", "audit"],
    "Train": ["data", "train", "distill", "fit-decision-weights"],
    "Evaluate and reproduce": ["score", "evaluate", "compare", "reproduce", "baseline", "bench"],
}


def test_version_and_help_name_the_commands():
    """`--version` is one line; `--help` lists all commands under the headings of their readers."""
    assert run("--version").stdout.startswith("autosam-edge ")
    text = run("--help").stdout
    assert "Research use only" in text
    shown, panel = {}, None
    for line in text.splitlines():
        words = line.strip("╭─╮│╰╯ ")
        panel = words if line.startswith("╭") else panel
        if panel in PANELS and line.startswith("│ ") and line[2] != " ":
            shown.setdefault(panel, []).append(words.split()[0])
    assert shown == PANELS


def test_the_list_of_commands_repeats_the_help_of_each():
    """The line in `--help`, known without the command's module, is the first sentence of its own help."""
    from autosam_edge.cli import app
    from autosam_edge.cli.extras import LazyCommand

    lazy = [c for c in typer.main.get_command(app).commands.values() if isinstance(c, LazyCommand)]
    assert lazy
    for command in lazy:
        assert command.load().help.split("\n\n")[0].replace("\n", " ") == command.help, command.name


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (["segment", ".", "-o", "out", "--engine", "tensorrt"], ("onnx", "openvino", "executorch", "coreml")),
        (["segment", ".", "-o", "out", "--format", "csv,JSON"], ("'JSON' in 'csv,JSON'", "nifti")),
        (["evaluate", "--data", ".", "--split", "tset"], ("training", "validation", "test")),
        (["evaluate", "--data", ".", "--absent-organ", "0"], ("skip", "challenge")),
        (["compare", "a.csv", "--unit", "organ"], ("case_organ", "case")),
        (["distill", "--reduction", "mean"], ("voxel", "element")),
        (["data", "prepare", "nnunet", "--src", ".", "-o", "out"], ("btcv", "amos", "decathlon", "partial")),
        (["reproduce", "table9"], ("table1", "figure4")),
        (["bench", "edge-form", "--student", "unet"], ("swinunetr-tiny", "pocketnet")),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_choice_is_refused_without_torch(arguments, choices, tmp_path):
    """Exit code 2 with the right choices, where torch, MONAI and scipy cannot be loaded at all."""
    for name in ("torch", "monai", "scipy"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemError('{name} was loaded')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "a.csv").touch()
    result = run(*arguments, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    assert result.returncode == 2, result.stderr
    assert all(choice in result.stderr for choice in choices)


def test_choices_are_those_of_the_code():
    """An engine's name on the command line is one that the engines know."""
    from autosam_edge.cli.options import EngineName
    from autosam_edge.engines.selection import ENGINES

    assert set(get_args(EngineName)) == set(ENGINES)


def test_choices_are_completed():
    """The shell gets the values of an option, also of a command whose module is loaded only then."""
    for words, found in (("segment --engine op", "openvino"), ("evaluate --split va", "validation")):
        line = f"autosam-edge {words}"
        complete = {"_AUTOSAM_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": line}
        result = run(env={**os.environ, **complete, "COMP_CWORD": str(len(line.split()) - 1)})
        assert result.stdout.split() == [found], result.stderr


def test_demo_ends_with_a_table_against_the_truth(tmp_path):
    """A DICOM series, the five files, and the Dice to the known truth, which is called synthetic.

    The default model finds the large organs of a phantom that training never saw.
    """
    result = run("demo", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*FILES, "scan"}
    assert "synthetic" in result.stdout
    rows = {label.title: re.search(rf"{label.title} +(.+)", result.stdout) for label in BTCV_LABELS}
    dice = {title: float(row[1].split()[2]) for title, row in rows.items()}
    for organ in ("Liver", "Spleen", "Left kidney", "Right kidney", "Aorta"):
        assert dice[organ] >= 0.7, organ


@pytest.mark.parametrize("found", ["scan of demo", "scan of somebody", "one slice less"])
def test_demo_touches_nobodys_scan(tmp_path, found):
    """Its own scan of an earlier time is used; any other is refused, and every file stays as it was."""
    volume = make_phantom(spacing_mm=(40.0, 9.0, 9.0)).volume
    folder = tmp_path / "scan"
    files = write_dicom_series(volume, folder, seed=5 if found == "scan of somebody" else SEED)
    if found == "one slice less":
        files[0].unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refused = pytest.raises(OutputError, match="that `demo` did not write")
    with contextlib.nullcontext() if found == "scan of demo" else refused, demo_series(folder, volume):
        assert found == "scan of demo"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_demo_replaces_no_file(tmp_path):
    """A file stands where the scan of `demo` goes; that is said before the scan is made."""
    (tmp_path / "scan").write_text("mine")
    result = run("demo", "-o", tmp_path)
    assert (result.returncode, (tmp_path / "scan").read_text()) == (7, "mine")
    assert result.stderr.startswith("error AE-OUTPUT-002")


def test_the_default_bundle_fits_the_package():
    """At most 40 MB, with the student beside the artifact."""
    folder = default_bundle_path()
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 40e6
    assert (folder / "student.safetensors").is_file()


FAILING = [
    ("notavolume/001", "AE-DICOM-015"),
    ("slicecount/001", "AE-DICOM-002"),
    ("sliceincrement/001", "AE-DICOM-016"),
    ("sliceincrement/002", "AE-DICOM-016"),
    ("sliceorientation/001", "AE-DICOM-002"),
]


@pytest.mark.parametrize(("series", "code"), FAILING)
def test_real_series_that_are_wrong_are_refused(series, code, tmp_path):
    """Icometrix's failing series, through the command line."""
    folder = SHARED_DATA / "dicom2nifti-failing" / series
    if not folder.is_dir():
        pytest.skip("the failing series ../shared/data/dicom2nifti-failing are not on this machine")
    error_of(run("segment", folder, "-o", tmp_path / "out"), code, 3, tmp_path / "out")


def test_a_real_tilted_series_is_read_where_it_is_and_refused_for_its_air(tmp_path):
    """Its pixels are blanked: all of them are air. Where that is accepted, the tilt is told."""
    folder = SHARED_DATA / "dicom2nifti-failing" / "gantrytilting" / "001"
    if not folder.is_dir():
        pytest.skip("the failing series ../shared/data/dicom2nifti-failing are not on this machine")
    error_of(run("segment", folder, "-o", tmp_path / "out"), "AE-PLAUSIBLE-005", 11, tmp_path / "out")
    result = run("segment", folder, "-o", tmp_path / "out", "--json", "--accept-implausible")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert {"AE-WARN-041", "AE-WARN-044"} <= {warning["code"] for warning in report["warnings"]}
    affine = nib.load(tmp_path / "out" / "segmentation.nii.gz").affine
    np.testing.assert_allclose(affine[:3, 2], (0, 0, 5), atol=1e-5)  # the table moves along z
    np.testing.assert_allclose(affine[2, 1] / affine[1, 1], np.tan(np.radians(14)), atol=1e-5)


def test_a_demo_that_fails_leaves_nothing(tmp_path):
    """The bundle is missing: that is said before the scan is made, and no folder stays."""
    result = run("demo", "-o", tmp_path / "out", "--bundle", tmp_path / "none.edge")
    error_of(result, "AE-BUNDLE-001", 4, tmp_path / "out")
    assert result.stderr.startswith("error ")


@pytest.mark.parametrize("there", [[], ["notes.txt"]])
def test_a_demo_that_is_interrupted_leaves_nothing(tmp_path, there):
    """The scan and its folder go; what was there before stays."""
    folder = tmp_path / "out" / "scan"
    for name in there:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).touch()
    volume = make_phantom(spacing_mm=(40.0, 9.0, 9.0)).volume
    with pytest.raises(KeyboardInterrupt), demo_series(folder, volume):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == (["out", *there] if there else [])
