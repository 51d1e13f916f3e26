"""The page of stored rows, and its table as Markdown."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("psutil")
from autosam_edge_test_rows import make_row

from autosam_edge.errors import BenchError
from autosam_edge.volume import RESEARCH_USE
from autosam_edge_benchmarks.rows.measure import write_row
from autosam_edge_benchmarks.rows.report import BEGIN, END, as_markdown, page, read_rows, write_report

ROWS = [make_row(), make_row("int8", 2, 60.0, dice=None, word="noisy")]


def test_the_page_holds_every_row_and_every_figure():
    """Four figures with names; nothing is loaded or run; rows that may not be quoted are announced."""
    text = page(ROWS)
    assert RESEARCH_USE in text
    assert all(f"<td>{row.name}</td>" in text for row in ROWS)
    titles = [
        "Time of a tile and memory",
        "Dice and time of a scan",
        "Stages of a scan of 160 slices",
        "Tiles without a pause",
    ]
    assert re.findall(r'<svg role="img" aria-label="([^"]+)"', text) == titles
    assert "1 of 2 rows are not quiet and stable" in text
    assert not re.search(r"<script|<link|<img|src=", text)
    assert page(ROWS) == text


def test_other_tools_have_a_table(tmp_path):
    """On the page and in Markdown, with the reason of one that did not run."""
    (tmp_path / "rows").mkdir()
    write_row(ROWS[0], tmp_path / "rows")
    ran = {"reason": None, "median_s": 4.2, "median_mb": 650, "times_slower": 1.0, "times_memory": 1.0}
    tools = [
        {"name": "own", "weights": "a student", "seconds": [4.2], "peak_mb": [650], **ran},
        {"name": "other", "weights": "the same", "reason": "cannot be installed here: <no index>"},
    ]
    peers = {
        "scan": {"shape_dhw": [160, 512, 512]},
        "threads": 2,
        "machine": {"cpu": "a CPU"},
        "tools": tools,
    }
    (tmp_path / "peers.json").write_text(json.dumps(peers))
    (tmp_path / "page.md").write_text(BEGIN + END)
    write_report(tmp_path / "rows", tmp_path / "b.html", tmp_path / "page.md", tmp_path / "peers.json")
    text = (tmp_path / "b.html").read_text()
    assert "<td>own</td><td>4.2</td><td>650</td><td>1.0 x</td>" in text
    assert "cannot be installed here: &lt;no index&gt;" in text
    assert "| own | 4.2 | 650 | 1.0 x | 1.0 x | a student |" in (tmp_path / "page.md").read_text()


def test_what_was_not_measured_has_no_figure():
    """A row of tiles alone: one figure, and no warning where all rows are quiet."""
    text = page([dataclasses.replace(ROWS[0], end_to_end=(), sustained=None)])
    assert text.count("<svg") == 1
    assert "Not to be quoted" not in text


def test_machines_and_models_have_their_own_tables():
    """Named by processor, cores, memory and model; a tier's table names the time that finds the organs."""
    other = dataclasses.replace(
        ROWS[0], device=dataclasses.replace(ROWS[0].device, name="tablet", memory_gb=8.0)
    )
    finer = dataclasses.replace(ROWS[0].artifact, model="finer")
    scan = dataclasses.replace(ROWS[0].end_to_end[0], stages_s={"read": 1.0, "find_organs": 2.5})
    tier = dataclasses.replace(ROWS[0], artifact=finer, end_to_end=(scan,))
    text = as_markdown([*ROWS, other, tier])
    assert text.count("| artifact |") == 3
    assert "\n### model 1\n\ntablet, Processor, 2 cores, 8 GB:\n" in text
    assert "\n### finer 1\n" in text
    parts = "read 1.0 s, find organs 2.5 s, program start and short stages 0.5 s"
    assert f"{tier.name}, the first scan: {parts}." in text


def test_rows_of_other_scans_or_other_data_have_their_own_tables():
    """What stands below a table, and in the titles of its figures, is true of each of its rows."""
    long = dataclasses.replace(ROWS[1], end_to_end=ROWS[1].end_to_end[1:])
    text = page([ROWS[0], long])
    assert re.findall(r'aria-label="(Stages[^"]+)"', text) == [
        "Stages of a scan of 160 slices",
        "Stages of a scan of 320 slices",
    ]
    assert re.findall(r"<h2>(model 1.*)</h2>", text) == [
        "model 1, scans of 160 and 320 slices",
        "model 1, scans of 320 slices",
    ]
    elsewhere = dataclasses.replace(ROWS[0].accuracy, data="own test")
    scored = dataclasses.replace(make_row("fp16"), accuracy=elsewhere)
    unscored = dataclasses.replace(make_row("int8"), accuracy=dataclasses.replace(elsewhere, data=None))
    text = as_markdown([ROWS[0], scored, unscored])
    first, second = text.index("### model 1, Dice on btcv test"), text.index("### model 1, Dice on own test")
    assert first < text.index("| onnx/int8") < second < text.index("| onnx/fp16")
    assert as_markdown([ROWS[0], unscored]).count("### model 1\n") == 1


def test_machines_that_nothing_tells_apart_are_named_after_their_places(tmp_path):
    """By folder where each has one, else by file; every other row of such a folder goes along."""
    for folder in ("one", "two"):
        write_row(ROWS[0], tmp_path / folder)
    write_row(ROWS[1], tmp_path / "one")
    assert [(row.device.name, row.name) for row in read_rows(tmp_path)] == [
        ("one", ROWS[0].name),
        ("one", ROWS[1].name),
        ("two", ROWS[0].name),
    ]
    (tmp_path / "one" / "copy.json").write_bytes((tmp_path / "two" / "onnx-fp32-1.json").read_bytes())
    (tmp_path / "two" / "onnx-fp32-1.json").unlink()
    assert [row.device.name for row in read_rows(tmp_path)] == ["one/copy", "one/onnx-fp32-1", None]


def test_rows_of_the_folder_itself_come_first(tmp_path):
    """Then those of folders in it, whatever their names: earlier versions can lie deeper."""
    names = {"earlier/0.1": "oldest", "a tablet": "other", "": "own"}
    for place, model in names.items():
        artifact = dataclasses.replace(ROWS[0].artifact, model=model)
        write_row(dataclasses.replace(ROWS[0], artifact=artifact), tmp_path / place)
    rows = read_rows(tmp_path)
    assert [row.artifact.model for row in rows] == ["own", "other", "oldest"]
    text = as_markdown(rows)
    assert text.index("### own 1") < text.index("### other 1") < text.index("### oldest 1")


def test_a_folder_becomes_a_page_and_a_part_of_another(tmp_path):
    """Only the part between the marks is replaced, as often as one likes."""
    for row in ROWS:
        write_row(row, tmp_path / "rows")
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}old\n{END}after\n")
    for _ in range(2):
        assert write_report(tmp_path / "rows", tmp_path / "page.html", document) == 2
        assert document.read_text() == f"before\n{BEGIN}{as_markdown(ROWS)}{END}after\n"
    assert (tmp_path / "page.html").read_text() == page(ROWS)


@pytest.mark.parametrize("text", ["no mark\n", f"{BEGIN}no end\n", f"{END}{BEGIN}\n", "Größe"])
def test_a_page_without_its_marks_is_refused(text, tmp_path):
    """Nothing of it is lost, and the other page is not written either."""
    write_row(ROWS[0], tmp_path / "rows")
    document = tmp_path / "performance.md"
    document.write_text(text, encoding="latin-1")
    with pytest.raises(BenchError, match="AE-BENCH-007.*performance.md"):
        write_report(tmp_path / "rows", tmp_path / "page.html", document)
    assert document.read_text(encoding="latin-1") == text
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"tools": []}'])
def test_a_file_that_is_no_comparison_of_tools_is_refused(text, tmp_path):
    """AE-BENCH-003, before a page is written."""
    write_row(ROWS[0], tmp_path / "rows")
    (tmp_path / "peers.json").write_text(text)
    with pytest.raises(BenchError, match="AE-BENCH-003.*peers.json"):
        write_report(tmp_path / "rows", tmp_path / "page.html", peers=tmp_path / "peers.json")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(("name", "told"), [("a.json", "a.json is no row"), ("a.txt", "holds no row")])
def test_a_folder_without_rows_is_refused(name, told, tmp_path):
    """AE-BENCH-003, which names the file."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(BenchError, match=f"AE-BENCH-003: .*{told}"):
        read_rows(tmp_path)
