"""The tables of docs/errors.md, from the codes that the packages declare; run this file to write them."""

from __future__ import annotations

import importlib
from pathlib import Path

from autosam_edge import warning_codes
from autosam_edge.errors import ErrorCode
from autosam_edge.scan_warning import WarningCode

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
PACKAGES = ("autosam_edge", "autosam_edge_training", "autosam_edge_export", "autosam_edge_benchmarks")
FIRST = "## Input"
_SECTIONS = {
    "Input": ("INPUT",),
    "DICOM": ("DICOM",),
    "NIfTI, NRRD and MetaImage": ("NIFTI", "NRRD", "MHA"),
    "Bundle, engine, memory": ("BUNDLE", "ENGINE", "MEMORY"),
    "Output": ("OUTPUT",),
    "Plausibility of the labels": ("PLAUSIBLE",),
    "Data sets": ("DATA",),
    "Training": ("TRAIN",),
    "Export": ("EXPORT",),
    "Batch and audit": ("BATCH", "AUDIT"),
    "Benchmarks": ("BENCH",),
    "Everything else": ("EXTRA", "CANCEL", "INTERNAL"),
}


_ABOUT_WARNINGS = """\
A warning does not stop the run. Each has a code, a severity, a sentence and, where it is about one organ, the
organ's name. Every result carries them ([results.md](results.md) says where), and so do `--json` and
`Segmentation.warnings`. The severity is one of three.

- `info`: a fact about the scan or the run that alone is no reason to doubt the labels.
- `caution`: the labels may be less exact.
- `doubtful`: the labels, or those of one organ, are probably wrong; a person must look before the labels
  are used."""


def declared_warnings() -> list[WarningCode]:
    """Every warning of the runtime, by number."""
    declared = [value for value in vars(warning_codes).values() if isinstance(value, WarningCode)]
    return sorted(declared, key=lambda warning: warning.code)


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
    lines += ["## Warnings", "", _ABOUT_WARNINGS, ""]
    lines += ["| code | severity | what was found | what to do |", "|---|---|---|---|"]
    lines += [f"| {w.code} | {w.severity} | {w.meaning} | {w.advice} |" for w in declared_warnings()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(FIRST)] + tables())
