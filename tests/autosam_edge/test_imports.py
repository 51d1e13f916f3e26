"""What must be absent: torch in the runtime, names nobody promised, packages nobody expects."""

from __future__ import annotations

import ast
import sys
import zipfile
from pathlib import Path

import pytest
from autosam_edge_test_support import run_python, write_small_series
from typer.testing import CliRunner

import autosam_edge
import autosam_edge_benchmarks
from autosam_edge.bundle import Bundle, bundles_of_package
from autosam_edge.cli import app
from autosam_edge.cli.extras import PAPER
from autosam_edge.errors import MissingExtraError

ROOT = Path(__file__).parents[2]
FORBIDDEN = (
    "torch",
    "torchao",
    "monai",
    "onnx",
    "coremltools",
    "executorch",
    "scipy",
    "pandas",
    "matplotlib",
)


def printed_by(code, **options):
    """What a fresh interpreter prints."""
    return run_python("-c", code, check=True, **options).stdout.strip()


ASK_FOR_ENGINES = (
    "from autosam_edge.engines.selection import ENGINES, why_missing; [*map(why_missing, ENGINES)]"
)


@pytest.mark.parametrize(
    ("statements", "absent"),
    [
        (f"import autosam_edge, autosam_edge.cli; {ASK_FOR_ENGINES}", FORBIDDEN),
        ("import autosam_edge.cli", ("highdicom", "onnxruntime", "nibabel", "nrrd")),
        ("import autosam_edge.read_scan", ("pydicom", "nibabel", "nrrd")),
    ],
    ids=["no torch in the runtime", "--version and --help stay quick", "readers are loaded when needed"],
)
def test_an_import_loads_nothing_that_it_does_not_need(statements, absent):
    """A fresh interpreter holds none of the heavy packages, also after it was asked which engines it has."""
    code = f"import sys; {statements}; print([m for m in {absent} if m in sys.modules])"
    assert printed_by(code) == "[]"


def test_the_checks_before_the_inference_load_no_highdicom(tmp_path):
    """Its modules would take memory while the network runs."""
    write_small_series(tmp_path / "scan")
    code = (
        "import sys, autosam_edge; from autosam_edge.write_results import check_writable; "
        "source = autosam_edge.read('scan').source; "
        "print(check_writable('out', source=source)[1], [m for m in ('highdicom',) if m in sys.modules])"
    )
    assert printed_by(code, cwd=tmp_path) == "dicom-seg []"


def test_the_facade_exports_what_all_names_and_nothing_else():
    """A fresh import lists the names of ``__all__``, and has each of them when it is asked for."""
    code = (
        "import autosam_edge; names = dir(autosam_edge); "
        "[getattr(autosam_edge, name) for name in names]; print(names)"
    )
    assert printed_by(code) == str(autosam_edge.__all__)
    assert autosam_edge.__all__ == sorted(autosam_edge.__all__)
    assert {"open_session", "read", "write"} < set(autosam_edge.__all__)


def test_a_type_checker_knows_every_name_of_the_facade_and_no_other():
    """It takes every name for one of ours where it sees ``__getattr__``."""
    tree = ast.parse(Path(autosam_edge.__file__).read_text())
    (hidden,) = [node for node in tree.body if "def __getattr__" in ast.unparse(node)]
    assert isinstance(hidden, ast.If)
    assert ast.unparse(hidden.test) == "not TYPE_CHECKING"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this source tree, unpacked."""
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    (file,) = builder.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_puts_four_packages_at_the_top(wheel):
    """No package named ``export`` or ``training`` reaches site-packages."""
    assert {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")} == {
        "autosam_edge",
        "autosam_edge_export",
        "autosam_edge_training",
        "autosam_edge_benchmarks",
    }


def test_the_wheel_leaves_out_what_only_a_checkout_uses(wheel):
    """The tables of the paper and the students' weights; its bundles are verified all the same, and typed."""
    assert not (wheel / PAPER.replace(".", "/")).exists()
    assert not list(wheel.rglob("*.safetensors"))
    for bundle in bundles_of_package().values():
        Bundle(wheel / "autosam_edge" / "bundles" / bundle.name).verify()
    assert next(wheel.parent.glob("*.whl")).stat().st_size < 45e6  # what a tablet loads
    assert (wheel / "autosam_edge" / "py.typed").is_file()


def test_the_papers_tables_need_a_checkout(tmp_path, monkeypatch):
    """The wheel leaves them out, and there the command says what to do."""
    (source,) = map(Path, autosam_edge_benchmarks.__path__)
    for entry in source.iterdir():
        if entry.name != "paper":
            (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.setattr(autosam_edge_benchmarks, "__path__", [str(tmp_path)])  # as in site-packages
    for name in [name for name in sys.modules if name.startswith(PAPER)]:
        monkeypatch.delitem(sys.modules, name)
    for command in (["reproduce", "table1"], ["baseline", "nnunet", "--data", str(tmp_path), "-o", "raw"]):
        with pytest.raises(MissingExtraError, match="AE-EXTRA-002.*pip install -e"):
            CliRunner().invoke(app, command, catch_exceptions=False)
