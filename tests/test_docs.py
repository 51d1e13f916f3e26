"""The snippets of the documentation run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autosam_edge.bundle import default_bundle_path
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series

ROOT = Path(__file__).parents[1]


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def test_the_readmes_python_labels_a_scan(tmp_path):
    """Read, segment, write: five files."""
    (tmp_path / "scan").mkdir()
    write_dicom_series(make_phantom(5, spacing_mm=(5.0, 3.0, 3.0)).volume, tmp_path / "scan", seed=5)
    (block,) = python_blocks("README.md")
    exec(block.replace('"SCAN"', repr(str(tmp_path / "scan"))).replace('"out"', repr(str(tmp_path / "out"))), {})
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_the_bundle_pages_check_passes_on_the_default_bundle(capsys):
    """ONNX Runtime alone reproduces the golden logits within the tolerance of fp32."""
    (block,) = python_blocks("docs/bundle.md")
    exec(block.replace("model.edge", str(default_bundle_path())), {})
    assert float(capsys.readouterr().out) < 1e-3


@pytest.mark.parametrize("exhibit", ["table3", "table4", "figure4"])
def test_the_tables_of_the_page_are_those_of_the_command(exhibit):
    """docs/reproduction.md repeats what ``reproduce`` makes of the scored runs: paste NAME.md of ``reproduce NAME -o DIR``."""
    pytest.importorskip("torch")
    from autosam_edge_training.reproduce.render import as_markdown
    from autosam_edge_training.reproduce.specs import table_spec
    from autosam_edge_training.reproduce.tables import build_table

    made = as_markdown(build_table(table_spec(exhibit), ROOT / "benchmarks" / "results" / "runs"))
    assert made.split("\n", 2)[2] in (ROOT / "docs" / "reproduction.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *[f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")]])
def test_links_lead_somewhere(page):
    """Each relative link of a page names a file of the project."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text())
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_the_decision_records_are_numbered():
    """One number each, and the title carries it."""
    for number, page in enumerate(sorted((ROOT / "docs" / "adr").glob("*.md")), start=1):
        assert page.name.startswith(f"{number:04d}-")
        assert page.read_text().startswith(f"# {number}. ")
