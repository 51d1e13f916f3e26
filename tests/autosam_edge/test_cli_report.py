"""What stands in the terminal: no number is lost at any width, the most severe warnings come first."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import run_python

from autosam_edge.cli.report import Report, show_report
from autosam_edge.geometry import Grid
from autosam_edge.measurements import OrganStatistics
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.volume import Provenance, Segmentation

TITLES = {
    "spleen": "Spleen",
    "liver": "Liver",
    "portal_vein_and_splenic_vein": "Portal vein and splenic vein",
}
NAMES = tuple(TITLES)
WARNINGS = [
    ScanWarning("AE-WARN-001", "info", "Files were passed over."),
    ScanWarning("AE-WARN-101", "caution", "It is cut by the edge.", "liver"),
    ScanWarning("AE-WARN-100", "doubtful", "It lies on the left.", "liver"),
    ScanWarning("AE-WARN-102", "doubtful", "This may be no abdomen."),
]


def report(*, with_truth: bool = False, warnings: Sequence[ScanWarning] = WARNINGS) -> Report:
    """A report of three organs; the first is absent."""
    organs = tuple(
        OrganStatistics(
            label=1,
            name=name,
            title=TITLES[name],
            voxels=at,
            ml=1234.5 * at,
            mean_hu=-56.0 * at or None,
            sd_hu=None,
            touches_border=at == 2,
            expected_dice=0.625 + 0.125 * at if at else None,
        )
        for at, name in enumerate(NAMES)
    )
    segmentation = Segmentation(
        np.zeros((2, 2, 2), np.uint8),
        Grid.axis_aligned((2, 2, 2), (1.0, 1.0, 1.0)),
        (),
        provenance=Provenance(model="student", engine="fake", precision="fp32"),
        warnings=tuple(warnings),
    )
    truth = dict.fromkeys(NAMES, 0.875) if with_truth else {}
    return Report(segmentation, organs, {"json": Path("out/statistics.json")}, {}, 0.0, truth)


def shown(monkeypatch, capsys, columns: int | None, **options: bool) -> str:
    """The text on a terminal of a number of columns, without its colors; None is a pipe."""
    if columns is None:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    else:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))
    show_report(report(**options), as_json=False)
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


@hazard("Results", "a terminal of 25 to 60 columns", "every number and every warning is printed whole")
@pytest.mark.parametrize("columns", [25, 40, 52, 60, 72, 80, 120, None])
@pytest.mark.parametrize("with_truth", [False, True])
def test_every_number_and_word_is_whole_at_every_width(
    columns: int | None, with_truth: bool, monkeypatch, capsys
) -> None:
    """Words may be folded between lines; nothing is cut or left out."""
    text = shown(monkeypatch, capsys, columns, with_truth=with_truth)
    for number in ("1234.5", "2469.0", "-56", "-112", "0.88", *([] if with_truth else ["0.75"])):
        assert number in text
    words = set(text.split())
    for warning in WARNINGS:
        assert {*warning.message.split(), warning.code, warning.severity} <= words
    if columns is None or columns >= 40:
        assert {*" ".join(TITLES.values()).split()} <= words
    assert "found" in words  # the spleen was not


def test_80_columns_have_room_for_the_expected_dice(monkeypatch, capsys) -> None:
    """In the table; beside a Dice against the truth it is left out."""
    (row,) = (line for line in shown(monkeypatch, capsys, 80).splitlines() if TITLES[NAMES[2]] in line)
    assert row.split() == [*TITLES[NAMES[2]].split(), "2469.0", "-112", "0.88", "at", "the", "border"]
    assert "expected" not in shown(monkeypatch, capsys, 80, with_truth=True)


def test_a_number_is_rounded_once(monkeypatch, capsys) -> None:
    """In the table from the number itself; JSON has more decimals."""
    told = report(warnings=())
    liver = replace(told.organs[1], ml=152.74575, mean_hu=1.46, expected_dice=0.3746)
    told = replace(told, organs=(liver,))
    show_report(told, as_json=False)
    assert re.search(r"Liver +152\.7 +1 +0\.37", capsys.readouterr().out)
    show_report(told, as_json=True)
    (organ,) = json.loads(capsys.readouterr().out)["organs"]
    assert (organ["ml"], organ["mean_hu"], organ["expected_dice"]) == (152.75, 1.5, 0.375)


def test_lines_fit_the_terminal(monkeypatch, capsys) -> None:
    """The terminal itself breaks only paths and the research-use statement, which are copied whole."""
    text = shown(monkeypatch, capsys, 40)
    assert max(len(line) for line in text.splitlines() if not line.startswith(("out/", "Research"))) <= 40


def test_an_organ_shows_its_most_severe_warning_and_the_others_stand_below(monkeypatch, capsys) -> None:
    """Each warning once, below by severity; in a pipe each is one line."""
    lines = shown(monkeypatch, capsys, None).splitlines()
    (row,) = (line for line in lines if line.split()[:1] == ["Liver"])
    assert "doubtful It lies on the left. AE-WARN-100" in row
    below = [line.strip() for line in lines if line.startswith(("doubtful", "caution", "info"))]
    assert below == [
        "doubtful This may be no abdomen. AE-WARN-102",
        "caution Liver: It is cut by the edge. AE-WARN-101",
        "info Files were passed over. AE-WARN-001",
    ]


def test_a_fact_about_an_organ_is_not_said_twice(monkeypatch, capsys) -> None:
    """The word of the table stands for it; where there is no word, the fact is the note."""
    for organ, shown_as_note in (("spleen", False), ("liver", True)):
        fact = ScanWarning("AE-WARN-113", "info", "It goes on.", organ)
        show_report(report(warnings=[fact]), as_json=False)
        text = capsys.readouterr().out
        assert ("It goes on." in text) == shown_as_note
        assert "not found" in text


PRINTS = """
import sys
from autosam_edge import __main__, cli
@cli.app.command("prints")
def prints():
    print("M\\u00fcller \\udcff")
sys.argv = ["autosam-edge", "prints"]
__main__.main()
"""


@hazard(
    "Results",
    "the output folder has a name that the terminal cannot print",
    "the results are written, and the name is printed with escapes",
)
@pytest.mark.parametrize(
    ("encoding", "printed"), [("ascii", rb"M\xfcller \udcff"), ("utf-8", "Müller \\udcff".encode())]
)
def test_a_name_that_the_terminal_cannot_print_is_escaped(encoding: str, printed: bytes) -> None:
    """Of every command: the encoding is that of stdout."""
    result = run_python("-c", PRINTS, text=False, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (result.returncode, result.stdout.strip()) == (0, printed), result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is of Linux")  # noqa: PTH110
@hazard("Results", "stdout is a file on a full disk", "refused: AE-OUTPUT-003")
def test_a_full_disk_under_stdout_is_no_internal_error() -> None:
    """The code names the cause."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(
            [sys.executable, "-c", PRINTS], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 7
    assert "AE-OUTPUT-009" in result.stderr
