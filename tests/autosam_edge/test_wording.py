"""A library error speaks Python, the command line speaks options."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
import typer

from autosam_edge.cli import app
from autosam_edge.engines.selection import ENGINES
from autosam_edge.output_formats import FORMATS
from autosam_edge.wording import OPTIONS, with_options
from autosam_edge_training.choices import Layout

ROOT = Path(__file__).parents[2]
PACKAGES = ("autosam_edge", "export", "training", "benchmarks")
# Words in backticks that are no parameter: keys of files and a variable of the environment.
OTHER = {"root", "AUTOSAM_EDGE_TRACEBACK"}


def commands(command, *above):
    """Every command with the words that call it."""
    command = command.load() if hasattr(command, "load") else command
    yield (above, command)
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *above, name)


ALL = list(commands(typer.main.get_command(app)))


def texts_of_errors():
    """(file, text) of every error code and every message and remedy where an error is raised."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _makes_an_error(node.func):
                    yield from ((path.name, _text(part)) for part in ast.walk(node))


def _makes_an_error(function):
    """``ErrorCode(...)``, or a code that is called, such as ``SLICES_MISSING(...)``."""
    return isinstance(function, ast.Name) and (function.id == "ErrorCode" or function.id.isupper())


def _text(node):
    if isinstance(node, ast.JoinedStr):
        return ast.unparse(node)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_every_word_in_backticks_of_an_error_is_known():
    """A parameter has its option in the table; every other word is a command, a value or a key."""
    words = {word for _, command in ALL for word in getattr(command, "commands", {})}
    same = words | set(ENGINES) | set(FORMATS) | set(get_args(Layout)) | OTHER
    found = [
        (path, word) for path, text in texts_of_errors() for word in re.findall(r"`(\w+)(?:=[^`]*)?`", text)
    ]
    assert len(found) >= 5
    assert [(path, word) for path, word in found if word not in OPTIONS and word not in same] == []


def test_every_option_of_the_table_exists():
    """A message names no option that no command has."""
    options = {option for _, command in ALL for parameter in command.params for option in parameter.opts}
    assert set(OPTIONS.values()) - options == set()


@pytest.mark.parametrize(
    ("python", "line"),
    [
        ("Give `max_memory_mb=812` or more.", "Give --max-memory 812 or more."),
        ("Name one with `series`.", "Name one with --series."),
        ('Give `formats=("nifti", "json")`.', "Give --format nifti,json."),
        ('Give `engine="onnx"`, or leave `precision` out.', "Give --engine onnx, or leave --precision out."),
        (
            "Run `data prepare`, or read `cases.csv` with `root`.",
            "Run `data prepare`, or read `cases.csv` with `root`.",
        ),
    ],
)
def test_a_parameter_becomes_an_option(python, line):
    """With and without a value; commands, files and keys stay as they are."""
    assert with_options(python) == line
