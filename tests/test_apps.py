"""docs/apps.md shows the programs as they are and is true of the model."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from autosam_edge_test_mistakes import MISTAKES

from autosam_edge import verify
from autosam_edge.bundle import default_bundle_path, open_bundle
from autosam_edge.engines.onnx_engine import ort
from autosam_edge.engines.selection import EQUAL_DICE
from autosam_edge.manifest import SCHEMA_VERSION
from autosam_edge.model import InputContract

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "apps.md").read_text()
PROGRAMS = {"kotlin": "Check.kt", "swift": "Check.swift", "js": "check.mjs", "cpp": "check.cpp"}


def program(language):
    return (ROOT / "examples" / "apps" / PROGRAMS[language]).read_text()


@pytest.mark.parametrize("language", PROGRAMS)
def test_what_the_page_shows_is_in_the_program(language):
    """Loading and running are shown, each fence stands literally in the program, and the page links to it."""
    fences = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(fences) == 2
    assert [fence for fence in fences if fence not in program(language)] == []
    assert f"(../examples/apps/{PROGRAMS[language]})" in PAGE


def test_the_page_shows_no_other_code():
    """A fence in another language would escape the comparison."""
    assert set(re.findall(r"^```(\w+)$", PAGE, flags=re.MULTILINE)) == {*PROGRAMS, "text"}


def test_the_interface_is_the_models():
    """Names, types and sides of input and output in page and programs are those of the default model."""
    session = ort.InferenceSession(
        default_bundle_path() / "onnx" / "fp32.onnx", providers=["CPUExecutionProvider"]
    )
    (hu,), (logits,) = session.get_inputs(), session.get_outputs()
    assert f"input | `{hu.name}`, float32 [1, 1, D, H, W]" in PAGE
    assert f"output | `{logits.name}`, float32 [1, C, D, H, W]" in PAGE
    assert hu.type == logits.type == "tensor(float)"
    manifest = open_bundle().manifest
    assert hu.shape == [1, 1, *manifest.input.patch]
    assert logits.shape == [1, 1 + len(manifest.labels), *manifest.input.patch]
    assert [
        language
        for language in PROGRAMS
        if not (hu.name in program(language) and logits.name in program(language))
    ] == []


def test_the_opset_is_the_exporters():
    """The page names the opset of an export; the default bundle has that one or a lower one."""
    onnx = pytest.importorskip("onnx")
    opset = int(re.search(r"ONNX, opset (\d+)", PAGE)[1])
    exporter = (ROOT / "export" / "autosam_edge_export" / "convert" / "to_onnx.py").read_text()
    assert opset == int(re.search(r"^OPSET = (\d+)", exporter, flags=re.MULTILINE)[1])
    model = onnx.load(default_bundle_path() / "onnx" / "fp32.onnx")
    assert all(entry.version <= opset for entry in model.opset_import if entry.domain == "")


def test_the_oldest_runtime_is_pyprojects():
    """The page and every program ask for the ONNX Runtime that the package asks for."""
    oldest = re.search(r'"onnxruntime>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert f"ONNX Runtime {oldest} or newer" in PAGE
    assert [language for language in PROGRAMS if oldest not in program(language)] == []


def test_the_contract_and_the_thresholds_are_the_runtimes():
    """Every key of the input contract is explained; the limits are those of `verify` and of the selection."""
    assert [field.name for field in fields(InputContract) if f"`{field.name}`" not in PAGE] == []
    assert f"within {verify._MODEL_HU} HU" in PAGE
    assert f"At least {verify._LABEL_AGREEMENT} of the voxels" in PAGE
    assert f"Under {EQUAL_DICE} for the worst organ" in PAGE


@pytest.mark.parametrize("mistake", ["air beyond the ends", "no rows beyond the ends", "no decision weights"])
def test_a_mistake_shows_in_the_golden_labels(mistake):
    """Where an app leaves a rule out, more than 5 % of the default bundle's golden labels differ."""
    golden, model = verify.read_golden_scan(open_bundle()), open_bundle().model
    labels = MISTAKES[mistake](model, golden.formula, golden.volume)
    assert (labels != golden.labels).mean() > 0.05
    assert "more than 5 % of `labels` change" in PAGE


# A network whose logit of class c is c times the voxel, plus what its "model file" says.
STUB = """
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export class InferenceSession {
  static async create(bytes) {
    const plus = Number(new TextDecoder().decode(bytes));
    return Object.assign(new InferenceSession(), { plus });
  }
  async run({ image_hu: { data } }) {
    const logits = Array.from({ length: 3 }, (_, c) => Array.from(data, (hu) => c * hu + this.plus)).flat();
    return { logits: new Tensor('float32', Float32Array.from(logits), []) };
  }
  async release() {}
}
"""


@pytest.fixture
def tiny(tmp_path):
    """A folder with check.mjs, a stub of onnxruntime-web, and a bundle for a network that adds 0."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    stub = tmp_path / "node_modules" / "onnxruntime-web"
    stub.mkdir(parents=True)
    (stub / "package.json").write_text(
        '{"name": "onnxruntime-web", "type": "module", "exports": "./index.js"}'
    )
    (stub / "index.js").write_text(STUB)
    shutil.copy(ROOT / "examples" / "apps" / "check.mjs", tmp_path)
    hu = (np.arange(4 * 6 * 8, dtype="<i2") - 90).reshape(
        4, 6, 8
    )  # three different sides: a swapped axis would show
    logits = np.stack([c * hu[::2, ::2, ::2] for c in range(3)]).astype("<f4")
    described = {"stride": 2}
    written = {}
    for name, array in {"hu": hu, "logits": logits}.items():
        written[f"golden/tile_{name}"] = array.tobytes()
        described[name] = {
            "file": f"golden/tile_{name}",
            "dtype": array.dtype.str,
            "shape": list(array.shape),
        }
    artifact = {"target": "onnx", "precision": "fp32"}
    default = default_bundle_path()
    rules = json.loads((default / "golden" / "golden.json").read_text())
    rules = {name: rules[name] for name in ("ends", "decision")}
    for array in (value for part in rules.values() for value in part.values() if "file" in value):
        written[array["file"]] = (default / array["file"]).read_bytes()
    written["golden/golden.json"] = json.dumps({"tile": described, **rules}).encode()
    written["parity.json"] = json.dumps([{**artifact, "tolerance": {"logit_rms": 1.0}}]).encode()
    written["onnx/fp32.onnx"] = b"0.5"
    contract = json.loads((default / "manifest.json").read_text())
    contract = {key: contract[key] for key in ("schema_version", "input", "labels", "postprocess")}
    manifest = {**contract, "artifacts": [{**artifact, "path": "onnx/fp32.onnx"}]}
    return tmp_path, written, manifest


def run_tiny(tiny, precision="fp32", **changes):
    """Write the bundle with its hashes, then what was changed behind their back, and run check.mjs."""
    folder, written, manifest = tiny
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in written.items()}
    written = {**written, "manifest.json": json.dumps({**manifest, "files": hashes}).encode(), **changes}
    for name, data in written.items():
        (folder / "model.edge" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model.edge" / name).write_bytes(data)
    return run_check(folder, folder / "model.edge", precision)


def run_check(folder, *arguments, program="check.mjs"):
    command = ["node", program, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_javascript_program_measures_the_difference(tiny):
    """A network that adds 0.5 to every logit differs by 0.5 and keeps every label."""
    finished = run_tiny(tiny)
    assert finished.returncode == 0, finished.stderr
    assert "onnx/fp32: logits differ by 5.0e-1 (root mean square), allowed 1" in finished.stdout
    assert "1.00000 of the labels agree" in finished.stdout


def test_the_javascript_program_fails_beyond_the_tolerance(tiny):
    """A network that adds 1.5 where 1 is allowed ends with an exit code of 1."""
    tiny[1]["onnx/fp32.onnx"] = b"1.5"
    finished = run_tiny(tiny)
    assert finished.returncode == 1
    assert finished.stdout.strip().endswith("failed")


@pytest.mark.parametrize(
    ("part", "change", "found"),
    [
        ("input", {}, "scan ends: 0 values differ; decision weights: 0 labels differ: passed"),
        ("input", {"rows_beyond_ends": 0}, r"scan ends: [1-9]\d* values differ; decision weights: 0 "),
        ("input", {"overlap": 0.5}, r"scan ends: [1-9]\d* values differ; decision weights: 0 "),
        ("input", {"window_hu": [-200.0, 275.0]}, r"scan ends: [1-9]\d* values differ; decision weights: 0 "),
        ("postprocess", {"decision_weights": {}}, r"scan ends: 0 values differ; decision weights: [1-9]\d* "),
        ("postprocess", {"decision_weights": {}}, r"labels differ \(no weights in this bundle\): failed"),
    ],
)
def test_the_javascript_program_checks_both_rules(tiny, part, change, found):
    """A program with other rules than the bundle's ends with an exit code of 1."""
    tiny[2][part] |= change
    finished = run_tiny(tiny)
    assert re.search(found, finished.stdout), finished.stdout + finished.stderr
    assert finished.returncode == (1 if change else 0)


@pytest.mark.parametrize("language", PROGRAMS)
def test_every_program_has_both_rules(language):
    """And reads their arrays; the ones that cannot be run here at least name them."""
    text = program(language)
    names = ("short", "long", "_tile", "probabilities", "decision_weights", "rows_beyond_ends", "window_hu")
    assert [name for name in names if name not in text] == []
    assert len(re.findall(r"(?:fun|func|function|static std::vector<\w+>) (?:firstTile|decide)\b", text)) == 2


@pytest.mark.parametrize(
    "name",
    ["onnx/fp32.onnx", "golden/tile_hu", "golden/ends_long_tile.i16", "golden/golden.json", "parity.json"],
)
def test_the_javascript_program_refuses_an_altered_file(tiny, name):
    """A file that is not the manifest's stops the program, whichever it is."""
    finished = run_tiny(tiny, **{name: tiny[1][name] + b" "})
    assert finished.returncode == 1
    assert f"{name} was altered or damaged" in finished.stderr


@pytest.mark.parametrize("name", ["tile_hu", "tile_logits", "ends_short_tile.i16", "decision_labels.u8"])
@pytest.mark.parametrize("size", [0, 101])
def test_the_javascript_program_refuses_an_array_of_another_size(tiny, name, size):
    """An array that is empty or cut, with its hash, is not compared as far as it reaches."""
    tiny[1][f"golden/{name}"] = tiny[1][f"golden/{name}"][:size]
    finished = run_tiny(tiny)
    message = f"error: golden/{name} has another size than its shape\n"
    assert (finished.returncode, finished.stderr) == (1, message)


@pytest.mark.parametrize("language", PROGRAMS)
def test_every_program_refuses_an_array_of_another_size(language):
    """Also those that cannot be run here."""
    assert "has another size than its shape" in program(language)


def test_the_javascript_program_reads_bytes_that_share_their_memory(tiny):
    """Node keeps small files in one block of memory: the numbers of each are those of its own part."""
    run_tiny(tiny)
    (tiny[0] / "shared.mjs").write_text(
        "import { readFileSync } from 'node:fs';\n"
        "import { check } from './check.mjs';\n"
        "const read = (name) => Buffer.from(readFileSync(`model.edge/${name}`));\n"
        "if (read('golden/decision_labels.u8').buffer.byteLength === 256) throw new Error('not shared');\n"
        "const { wrongHu, wrongLabels, passed } = await check(read, 'fp32');\n"
        "console.log(wrongHu, wrongLabels, passed);\n"
    )
    finished = run_check(tiny[0], program="shared.mjs")
    assert (finished.stdout, finished.stderr) == ("0 0 true\n", "")


@pytest.mark.parametrize("program", ["mine.mjs", "linked.mjs"])
def test_the_javascript_program_runs_under_another_name(tiny, program):
    """A copy and a link; a module that imports it runs nothing."""
    run_tiny(tiny)
    (tiny[0] / "check.mjs").rename(tiny[0] / "mine.mjs")
    (tiny[0] / "linked.mjs").symlink_to("mine.mjs")
    (tiny[0] / "check.mjs").write_text("import './mine.mjs';")
    assert run_check(tiny[0], "model.edge", program=program).stdout.strip().endswith("passed")
    imported = run_check(tiny[0], "model.edge")
    assert (imported.returncode, imported.stdout, imported.stderr) == (0, "", "")


def test_the_javascript_program_names_a_precision_that_the_bundle_lacks(tiny):
    """In place of an error of the language."""
    finished = run_tiny(tiny, "fp16")
    assert (finished.returncode, finished.stderr) == (1, "error: the bundle holds no onnx/fp16\n")


def test_the_javascript_program_without_a_bundle_tells_its_usage(tiny):
    """In one line, with the exit code of the other programs."""
    finished = run_check(tiny[0])
    assert (finished.returncode, finished.stderr) == (1, "error: usage: node check.mjs BUNDLE [PRECISION]\n")


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples" / "apps").iterdir()))
def test_every_program_names_an_artifact_that_the_bundle_lacks(name):
    """Also those that cannot be run here."""
    text = (ROOT / "examples" / "apps" / name).read_text()
    assert re.search(r"the bundle holds no (onnx|executorch|\\\(target\))/", text)


def test_the_javascript_program_refuses_another_schema(tiny):
    """A manifest of another schema version is not guessed at."""
    tiny[2]["schema_version"] = SCHEMA_VERSION + 1
    finished = run_tiny(tiny)
    assert finished.returncode == 1
    assert f"schema_version is {SCHEMA_VERSION + 1}, this program reads {SCHEMA_VERSION}" in finished.stderr


@pytest.mark.parametrize("language", PROGRAMS)
def test_every_program_reads_the_runtimes_schema(language):
    """The number that it compares with and the one in its message."""
    text = program(language)
    assert re.findall(r"schema_version\"?\)? [!=]==? (\d+)", text) == [str(SCHEMA_VERSION)]
    assert re.findall(r"this program reads (?:schema_version )?(\d+)", text) == [str(SCHEMA_VERSION)]


def test_the_page_names_the_runtimes_schema():
    """The page of the apps says which bundles the programs read."""
    assert re.findall(r"bundle of schema (\d+)", PAGE) == [str(SCHEMA_VERSION)]


@pytest.mark.slow
def test_the_javascript_program_passes_on_the_default_bundle(tmp_path):
    """ONNX Runtime Web gives the golden logits of the default bundle within parity.json's tolerance."""
    modules = Path(os.environ.get("NODE_MODULES", ROOT / "node_modules"))
    if shutil.which("node") is None or not (modules / "onnxruntime-web").is_dir():
        pytest.skip("needs node, and NODE_MODULES naming a folder into which npm installed onnxruntime-web")
    (tmp_path / "node_modules").symlink_to(modules.resolve())
    shutil.copy(ROOT / "examples" / "apps" / "check.mjs", tmp_path)
    finished = run_check(tmp_path, default_bundle_path(), "fp32")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip().endswith("passed")
