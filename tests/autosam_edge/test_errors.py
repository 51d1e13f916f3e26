"""Every error has a code that the documentation explains, and a class that is what it says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from autosam_edge import errors

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"AE-[A-Z]+-\d{3}")
SOURCES = [
    p for room in ("autosam_edge", "export", "training", "benchmarks") for p in (ROOT / room).rglob("*.py")
]


def test_the_page_of_codes_is_complete():
    """Each code in the source stands in docs/errors.md, and no other does."""
    used = {code for path in SOURCES for code in CODE.findall(path.read_text())}
    documented = re.findall(
        r"^\| (AE-[A-Z]+-\d{3}) \|", (ROOT / "docs" / "errors.md").read_text(), flags=re.MULTILINE
    )
    assert sorted(used) == sorted(documented)


TREE = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.AutosamEdgeError)]


@pytest.mark.parametrize("kind", TREE)
def test_an_error_is_one_line_with_code_and_remedy(kind):
    """What a person reads."""
    text = str(kind("AE-X-001", "found this.", remedy="Do that."))
    assert text == "AE-X-001: found this. Remedy: Do that."


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
