"""``export``, ``verify`` and ``info`` as a person meets them."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
import typer
from typer.testing import CliRunner

from autosam_edge.cli import app
from autosam_edge.errors import ExportError, OutputError
from autosam_edge.formats.nifti import write_nifti
from autosam_edge.phantom import make_phantom
from autosam_edge.volume import Segmentation
from autosam_edge_export import cli as export_cli
from autosam_edge_export.cli import _show
from autosam_edge_export.proof.parity import TOLERANCES
from autosam_edge_export.targets import TARGETS

PATCH = ("--patch", "32,32,32")


pytestmark = pytest.mark.usefixtures("small_students")


def call(*arguments):
    """Standard output of a command; what it raises comes through."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A small NIfTI file: this package writes only segmentations as NIfTI, so its labels are HU."""
    volume = make_phantom(1, spacing_mm=(6.0, 6.0, 6.0), shape=(16, 16, 16)).volume
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    write_nifti(Segmentation((volume.hu.clip(0, 255)).astype("uint8"), volume.grid, ()), path)
    return path


@pytest.fixture(scope="module")
def exported(small_students, checkpoint, scan, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "s.edge"
    options = ("--target", "onnx,openvino", "--precision", "fp32", "--volume", scan, *PATCH)
    return out, call("export", "--checkpoint", checkpoint, "-o", out, *options)


def test_export_ends_with_a_table(exported):
    """One row per artifact: size, cost, worst organ, verdict; no path, which may be a patient's name."""
    _, text = exported
    for heading in ("artifact", "MB", "load s", "ms a tile", "worst organ", "verdict"):
        assert heading in text
    rows = [line for line in text.splitlines() if "/fp32" in line]
    assert [row.split()[0] for row in rows] == ["onnx/fp32", "openvino/fp32"]
    assert all("passed" in row for row in rows)


def test_the_help_names_every_target_and_precision():
    """They are written by hand, so that the help needs no torch."""
    command = typer.main.get_command(app).commands["export"].load()
    lists = {option.name: (option.help or "").split(":")[-1] for option in command.params}
    targets, precisions = (re.findall(r"[a-z][a-z0-9-]+", lists[name]) for name in ("target", "precision"))
    assert set(targets) - {"or", "alone"} == {*TARGETS, "monai", "web"}
    assert set(precisions) == {precision for _, precision in TOLERANCES}


def test_no_scans_name_is_in_the_bundle(exported):
    """Volumes are numbered."""
    report = json.loads((exported[0] / "parity.json").read_text())
    assert [record["volume"] for record in report[0]["volumes"]] == ["scan 1"]


@pytest.mark.slow
def test_export_prints_one_json_object(checkpoint, scan, tmp_path):
    """For programs."""
    options = ("-o", tmp_path / "s.edge", "--volume", scan, "--json", *PATCH)
    report = json.loads(call("export", "--checkpoint", checkpoint, *options))
    assert report["artifacts"][0]["name"] == "onnx/fp32"
    assert {"load_s", "peak_rss_mb", "tile_ms", "working_set_mb"} <= set(report["artifacts"][0]["cost"])


def test_verify_says_what_it_saw(exported):
    """A table for a person, one object for a program."""
    text = call("verify", exported[0])
    assert text.count("passed") == 8
    checks = json.loads(call("verify", exported[0], "--json"))["checks"]
    assert [check["name"] for check in checks[:6]] == [
        "files",
        "resampling",
        "labels without the network",
        "labels of a short scan",
        "scan ends",
        "decision weights",
    ]
    assert {check["name"] for check in checks[6:]} == {"onnx/fp32", "openvino/fp32"}
    assert {check["verdict"] for check in checks} == {"passed"}


def test_info_gives_the_order_and_the_reasons(exported):
    """The first one is what `segment` runs."""
    text = call("info", exported[0])
    assert "best first on this device" in text
    artifacts = json.loads(call("info", exported[0], "--json"))["artifacts"]
    assert all(artifact["usable"] and "equal to the student" in artifact["reason"] for artifact in artifacts)


@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_is_not_installed_comes_with_the_whole_command(exported, monkeypatch, command):
    """The extra's brackets are not markup."""
    from autosam_edge.engines import selection

    honest = selection.importlib.util.find_spec
    monkeypatch.setattr(
        selection.importlib.util, "find_spec", lambda name: None if name == "openvino" else honest(name)
    )
    assert "pip install 'autosam-edge[openvino]'" in call(command, exported[0])


@pytest.mark.parametrize("doubt", ["", "The times are not to be trusted."])
def test_an_export_on_a_busy_machine_says_so(doubt, capsys):
    """Below the table; nothing on a quiet one."""
    student = {"model": "m", "student": "s", "torch": {"tile_ms": 9.0, "megabytes": 1.0}}
    _show({"bundle": "b", **student, "artifacts": [], "not_compared": "", "doubt_of_times": doubt})
    assert ("not to be trusted" in capsys.readouterr().out) is bool(doubt)


def test_bad_arguments_are_refused(checkpoint, tmp_path):
    """An unknown target, three letters for a patch, a folder that is no bundle."""
    command = ("export", "--checkpoint", checkpoint, "-o", tmp_path / "s.edge")
    with pytest.raises(ExportError, match="AE-EXPORT-001"):
        call(*command, "--target", "abacus")
    with pytest.raises(Exception, match="three whole numbers"):
        call(*command, "--patch", "a,b,c")
    with pytest.raises(Exception, match=r"card\.md.*does not exist"):
        call(*command, "--model-card", tmp_path / "card.md")
    for extra in (["monai,onnx"], ["monai", "--precision", "int8"]):
        with pytest.raises(Exception, match="a MONAI bundle holds the student unchanged"):
            call(*command, "--target", *extra)
    for targets in ("web,onnx", "onnx,web"):
        with pytest.raises(Exception, match="a web site is no bundle"):
            call("export", "--target", targets, "-o", tmp_path / "s.edge")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="AE-OUTPUT-002"):
        call("export", "--checkpoint", checkpoint, "-o", tmp_path)


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (("--target", "web", "--checkpoint", "mine.safetensors"), "--checkpoint"),
        (("--target", "web", "--name", "mine"), "--name"),
        (("--target", "monai", "--interpreted-tiles", "2"), "--interpreted-tiles"),
        (("--interpreted-tiles", "2"), "--interpreted-tiles"),
        (("--bundle", "mine.edge"), "--bundle"),
        (("--target", "openvino", "--no-download"), "--download"),
        (("--calibrate", "scan.nii.gz", "--precision", "fp16"), "--calibrate"),
    ],
)
def test_an_option_that_nothing_would_use_is_refused(options, refused, tmp_path):
    """Not passed over: the export would silently be of another student, bundle or scan."""
    with pytest.raises(Exception, match=r"does not use|int8 only") as error:
        call("export", *options, "-o", tmp_path / "out")
    assert error.value.param_hint == refused
    assert list(tmp_path.iterdir()) == []


def test_every_option_of_export_belongs_to_a_target():
    """A new option is either of every target or in one of the three lists."""
    command = typer.main.get_command(app).commands["export"].load()
    every = {"out", "target", "precision", "as_json"}
    names = {option.name for option in command.params}
    assert names == every | export_cli._FOR_WEB | export_cli._FOR_STUDENT | export_cli._FOR_BUNDLE


def test_names_with_spaces_after_the_commas_are_names(tmp_path):
    """The precision is what is refused, not the target."""
    with pytest.raises(ExportError, match=r"AE-EXPORT-001.*precision fp99"):
        call("export", "--target", "onnx, openvino", "--precision", "fp32, fp99", "-o", tmp_path / "s.edge")


@pytest.mark.parametrize(("target", "named"), [("onnx,", "''"), ("ONNX", "'ONNX'")])
def test_a_target_that_is_none_is_named(target, named, tmp_path):
    """The remedy lists the targets, not every pair."""
    with pytest.raises(ExportError, match=f"AE-EXPORT-001: there is no target {named}") as error:
        call("export", "--target", target, "-o", tmp_path / "s.edge")
    assert set(TARGETS) == set(re.findall(r"[a-z][a-z0-9-]+", error.value.remedy)) - {"hoose", "among"}


def test_a_checkpoint_can_be_the_folder_that_holds_it(checkpoint, monkeypatch, tmp_path):
    """As with `train --init`; a folder without one and a missing file are told as what they are."""
    seen = []
    monkeypatch.setattr(
        "autosam_edge_export.export.export_monai", lambda given, *_, **__: seen.append(given) or given
    )
    call("export", "--target", "monai", "--checkpoint", checkpoint.parent, "-o", tmp_path / "m")
    assert seen == [checkpoint]
    with pytest.raises(Exception, match=r"holds no student\.safetensors"):
        call("export", "--checkpoint", tmp_path, "-o", tmp_path / "s.edge")
    with pytest.raises(ExportError, match=r"AE-EXPORT-002: gone .*: No such file or directory\."):
        call("export", "--checkpoint", tmp_path / "gone", "-o", tmp_path / "s.edge")


def test_a_model_card_that_is_no_text_is_refused(tmp_path):
    """Latin-1 is not UTF-8."""
    (tmp_path / "card.md").write_bytes("# Größe".encode("latin-1"))
    with pytest.raises(Exception, match=r"card\.md is no UTF-8 text"):
        call("export", "--model-card", tmp_path / "card.md", "-o", tmp_path / "s.edge")


def test_an_empty_output_is_refused():
    """A variable of a shell that is not set does not mean the working directory."""
    with pytest.raises(OutputError, match="AE-OUTPUT-008"):
        call("export", "-o", "")
