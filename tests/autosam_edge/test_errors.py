"""Every error has a code that the documentation explains, and a class that is what it says."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest
from autosam_edge_test_errors_page import FIRST, PAGE, declared_codes, declared_warnings, tables

from autosam_edge import errors
from autosam_edge.verify import Check, VerificationError

ROOT = Path(__file__).parents[2]
SOURCES = [
    p for room in ("autosam_edge", "export", "training", "benchmarks") for p in (ROOT / room).rglob("*.py")
]


def test_the_page_of_codes_is_what_the_packages_declare():
    """Run ``python tests/autosam_edge_test_errors_page.py`` after a change of a code."""
    page = PAGE.read_text()
    assert page[page.index(FIRST) :] == tables()


def test_a_code_is_declared_once():
    """Neither a code nor its text stands in two declarations, and no raise site spells a code."""
    codes = [code.code for code in declared_codes()]
    assert len(set(codes)) == len(codes) > 120
    spelled = [
        p.name
        for p in SOURCES
        if p.name not in ("error_codes.py", "warning_codes.py", "scan_warning.py")
        and re.search(r"\"AE-[A-Z]+-\d{3}\"", p.read_text())
    ]
    assert spelled == []


def test_a_warning_is_declared_once_and_reads_as_a_sentence():
    """A program acts on the code, a person on the advice."""
    warnings = declared_warnings()
    assert len({warning.code for warning in warnings}) == len(warnings) > 10
    for warning in warnings:
        assert re.fullmatch(r"AE-WARN-\d{3}", warning.code)
        assert not warning.meaning.endswith(".")
        assert warning.advice.endswith(".")
        assert "|" not in warning.meaning + warning.advice
        made = warning("Found this.", organ="liver")
        assert made.as_dict() == {
            "code": warning.code,
            "severity": warning.severity,
            "message": "Found this.",
            "organ": "liver",
        }
        assert str(made) == f"{warning.code}: Found this."


@pytest.mark.parametrize("code", declared_codes(), ids=lambda code: code.code)
def test_a_code_reads_as_a_sentence(code):
    """The meaning is a phrase, the remedy ends with a period, and both fit a table."""
    assert re.fullmatch(r"AE-[A-Z]+-\d{3}", code.code)
    assert not code.meaning.endswith(".")
    assert code.remedy.endswith((".", "'", "`")), code.remedy
    assert "|" not in code.meaning + code.remedy
    error = code("found this.")
    assert isinstance(error, code.kind)
    assert error.remedy == code.remedy
    assert code("found this.", remedy="Do that.").remedy == "Do that."


TREE = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.AutosamEdgeError)]


@pytest.mark.parametrize("kind", TREE)
def test_an_error_is_one_line_with_code_and_remedy(kind):
    """What a person reads, also from another process; the fields of the builtin base hold nothing wrong."""
    error = kind("AE-X-001", "found this.", remedy="Do that.")
    for told in (error, pickle.loads(pickle.dumps(error))):
        assert str(told) == "AE-X-001: found this. Remedy: Do that."
        assert told.args == ("AE-X-001", "found this.", "Do that.")
        assert {getattr(told, field, None) for field in ("errno", "filename", "filename2")} == {None}


def test_an_error_of_another_constructor_comes_from_another_process_too():
    """Every class that is declared outside of the tree, which is one."""
    kinds = "|".join(kind.__name__ for kind in TREE)
    declared = re.compile(rf"^class (\w+)\([^)]*\b(?:{kinds})\b", re.MULTILINE)
    found = [
        name for path in SOURCES if path.name != "errors.py" for name in declared.findall(path.read_text())
    ]
    assert found == ["VerificationError"]
    checks = [Check("files", "passed", "", {}), Check("onnx", "failed", "it differs", {"error": 1.0})]
    error = VerificationError(checks[1], checks)
    told = pickle.loads(pickle.dumps(error))
    assert type(told) is VerificationError
    assert (str(told), told.args, told.checks) == (str(error), error.args, checks)


def test_kinds_have_their_own_exit_codes():
    """A script can tell a bad scan from a full disk."""
    codes = [kind.exit_code for kind in TREE]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert 2 not in codes  # usage


def test_the_tree_in_the_docstring_is_the_tree():
    """Each class stands in the drawing with its builtin base and its exit code."""
    drawing = errors.__doc__
    for kind in TREE:
        if kind is not errors.AutosamEdgeError:
            line = next(line for line in drawing.splitlines() if f"{kind.__name__}(" in line)
            assert f"({kind.__bases__[1].__name__})" in line
            assert f" {kind.exit_code} " in line
