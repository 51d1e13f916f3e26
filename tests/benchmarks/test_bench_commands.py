"""The commands of `bench` refuse what they cannot measure or go on with."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("psutil")
pytest.importorskip("monai")
from autosam_edge.cli import app
from autosam_edge.errors import BenchError, OutputError
from autosam_edge_benchmarks.cli.bench import _earlier
from autosam_edge_training.data import Manifest, prepare_phantoms

EXPECTED = {"benchmark": "confidence", "model": "a", "engine": {"sha256": "1", "threads": "2"}}


def test_a_result_of_the_same_measurement_goes_on(tmp_path):
    """With another number of threads too, and if it is older than a key."""
    out = tmp_path / "result.json"
    assert _earlier(None, EXPECTED) is None
    assert _earlier(out, EXPECTED) is None
    for found in (
        {**EXPECTED, "inputs": [1]},
        {"benchmark": "confidence", "model": "a", "engine": {"sha256": "1", "threads": "8"}},
        {"benchmark": "confidence", "model": "a"},
    ):
        out.write_text(json.dumps(found))
        assert _earlier(out, EXPECTED) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no result"),
        ("[]", "is no result"),
        ("{}", "another kind"),
        (json.dumps({**EXPECTED, "benchmark": "kills"}), "another benchmark"),
        (json.dumps({**EXPECTED, "model": "b"}), "another model"),
        (json.dumps({**EXPECTED, "engine": {"sha256": "2"}}), "another engine"),
    ],
)
def test_a_result_of_another_measurement_is_refused(text, told, tmp_path):
    """Its figures would be taken for those of this model; the file stays as it is."""
    out = tmp_path / "result.json"
    out.write_text(text)
    with pytest.raises(BenchError, match=f"AE-BENCH-005.*{told}"):
        _earlier(out, EXPECTED)
    assert out.read_text() == text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--slices", "0"], "--slices"),
        (["--slices", "160,-5"], "--slices"),
        (["--threads", "0"], "--threads"),
        (["--threads", "1,4096"], "--threads"),
        (["--rows", "result.json"], "--rows"),
        (["--scored", "missing.json"], "--scored"),
        (["--scored", "."], "--scored"),
        (["report", "result.json", "-o", "b.html"], "ROWS"),
        (["--threads", "2", "peers", "."], "--threads"),
        (["fuzz", "--again", "nothing"], "--again"),
        (["fuzz", "--keep", "folder"], "--keep"),
        (["fuzz", "--again", "nothing", "--jobs", "1"], "--jobs"),
        (["odd-inputs", "--max-memory", "900", "--out", "result.json"], "limit_mb"),
    ],
)
def test_an_option_that_cannot_be_measured_is_named(options, named, tmp_path, monkeypatch):
    """Nothing is measured; a result of another memory limit is not mixed with this one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result.json").write_text(
        json.dumps({"benchmark": "odd inputs", "limit_mb": 800, "inputs": []})
    )
    found = CliRunner().invoke(app, ["bench", *options])
    assert found.exit_code != 0
    assert named in found.output + str(found.exception)


@pytest.mark.parametrize("case", [False, True])
def test_scans_of_one_name_cannot_be_told_apart(case, tmp_path):
    """The second would count as measured, also where the first is a case of the data set."""
    data = prepare_phantoms(tmp_path / "data", training=1, scan_spacing_mm=(8.0, 6.0, 6.0))
    (entry,) = Manifest.read(data / "manifest.json").entries("training")
    names = {"--usable": "scan", "--unusable": entry.name if case else "scan"}
    command = ["bench", "plausibility", "--data", str(data), "-o", str(tmp_path / "o.json")]
    for option, name in names.items():
        (tmp_path / option / name).mkdir(parents=True)
        command += [option, str(tmp_path / option / name)]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 2
    assert names["--unusable"] in found.output


@pytest.mark.parametrize("command", [("bench", "ceiling"), ("fit-decision-weights",)])
def test_a_result_that_cannot_be_written_is_refused_before_the_measurement(command, tmp_path):
    """A folder in the place of the file; the data set is not read."""
    found = CliRunner().invoke(app, [*command, "--data", str(tmp_path), "-o", str(tmp_path)])
    assert isinstance(found.exception, OutputError)
    assert found.exception.code == "AE-OUTPUT-002"
