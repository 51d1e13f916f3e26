"""The table of docs/hazards.md, from tests that are marked with :func:`hazard`; run this file to write it.

A test declares the condition that it makes and the outcome that it sees. Where the outcome is a code,
``tests/conftest.py`` checks that the test really made an error or a warning of that code.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosam_edge.errors import ErrorCode
from autosam_edge.scan_warning import WarningCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "hazards.md"
FIRST = "## "
AREAS = (
    "Files and folders",
    "Choice of the series",
    "Pixel values",
    "Geometry",
    "NIfTI, NRRD and MetaImage",
    "Plausibility of the labels",
    "Results",
    "Model bundles",
)


@dataclass(frozen=True)
class Hazard:
    """One row of the table.

    Args:
        area: One of :data:`AREAS`.
        condition: What the input, or the place of the results, is like.
        outcome: What happens, as a phrase; or the error or warning that is made.
    """

    area: str
    condition: str
    outcome: str | ErrorCode | WarningCode

    @property
    def behavior(self) -> str:
        """The outcome as the table shows it."""
        if isinstance(self.outcome, ErrorCode):
            return f"refused: {self.outcome.code}"
        if isinstance(self.outcome, WarningCode):
            return f"read, with the warning {self.outcome.code} ({self.outcome.severity})"
        return self.outcome


def hazard(area: str, condition: str, outcome: str | ErrorCode | WarningCode) -> Callable[[Any], Any]:
    """Mark a test as the proof of a row; a test may prove several rows.

    Args:
        area: One of :data:`AREAS`.
        condition: What the input is like, as a phrase.
        outcome: What happens, as a phrase such as ``read``; or the error or warning that is made.
    """
    if area not in AREAS:
        raise ValueError(f"no area {area!r}, expected one of {AREAS}")

    def mark(test: Any) -> Any:
        test.hazards = (Hazard(area, condition, outcome), *getattr(test, "hazards", ()))
        return test

    return mark


def declared() -> Iterator[tuple[Hazard, str]]:
    """Every row with the name of the test that proves it."""
    for path in sorted((TESTS / "autosam_edge").rglob("test_*.py")):
        if "import hazard" not in path.read_text(encoding="utf-8"):
            continue
        name = f"hazard_page_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses of the module look themselves up here
        spec.loader.exec_module(module)
        for test in vars(module).values():
            for row in getattr(test, "hazards", ()):
                yield row, f"{path.relative_to(TESTS).as_posix()}::{test.__name__}"


def tables() -> str:
    """The part of the page from its first table on."""
    rows, lines = list(declared()), []
    for area in AREAS:
        lines += [f"## {area}", "", "| condition | what happens | test |", "|---|---|---|"]
        lines += [
            f"| {row.condition} | {row.behavior} | `{test}` |" for row, test in rows if row.area == area
        ]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(FIRST)] + tables(), encoding="utf-8")
