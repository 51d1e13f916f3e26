"""The tables of docs/errors.md, from the codes that the packages declare; run this file to write them."""

from __future__ import annotations

import importlib
from pathlib import Path

from autosam_edge.errors import ErrorCode

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
PACKAGES = ("autosam_edge", "autosam_edge_training", "autosam_edge_export", "autosam_edge_benchmarks")
FIRST = "## Input"
_SECTIONS = {
    "Input": ("INPUT",),
    "DICOM": ("DICOM",),
    "NIfTI and NRRD": ("NIFTI", "NRRD"),
    "Bundle, engine, memory": ("BUNDLE", "ENGINE", "MEMORY"),
    "Output": ("OUTPUT",),
    "Data sets": ("DATA",),
    "Training": ("TRAIN",),
    "Export": ("EXPORT",),
    "Everything else": ("EXTRA", "CANCEL", "INTERNAL"),
}


def declared_codes() -> list[ErrorCode]:
    """Every code of every package."""
    modules = [importlib.import_module(f"{package}.error_codes") for package in PACKAGES]
    return [value for module in modules for value in vars(module).values() if isinstance(value, ErrorCode)]


def tables() -> str:
    """The part of the page from its first table on."""
    codes, lines = declared_codes(), []
    for section, prefixes in _SECTIONS.items():
        lines += [
            f"## {section}",
            "",
            "| code | what was found | what to do | exit code |",
            "|---|---|---|---|",
        ]
        for prefix in prefixes:
            mine = sorted((c for c in codes if c.code.split("-")[1] == prefix), key=lambda c: c.code)
            lines += [f"| {c.code} | {c.meaning} | {c.remedy} | {c.kind.exit_code} |" for c in mine]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(FIRST)] + tables())
