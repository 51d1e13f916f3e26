"""A bundle exists only if every artifact in it is the student."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from autosam_edge_test_networks import CONFIDENCE, checkpoint_metadata
from autosam_edge_test_support import write_bundle

from autosam_edge.bundle import Bundle
from autosam_edge.engines.load import load_engine
from autosam_edge.engines.selection import engine_class
from autosam_edge.errors import BundleError, EngineError, ExportError, OutputError
from autosam_edge.parity import MAX_LOGIT_RMS
from autosam_edge.session import open_session
from autosam_edge.strict_json import build_list, parse_json
from autosam_edge.verify import VerificationError, verify_bundle
from autosam_edge_export import bundle_writer
from autosam_edge_export import export as export_module
from autosam_edge_export.bundle_writer import Description
from autosam_edge_export.convert import to_onnx
from autosam_edge_export.export import as_table, delegation_lines, export_bundle, make_interpreters
from autosam_edge_export.proof.cost import _reason
from autosam_edge_export.proof.parity_report import ParityEntry, as_json, as_markdown
from autosam_edge_export.proof.tolerances import TOLERANCES, Tolerance
from autosam_edge_export.targets import wanted_artifacts
from autosam_edge_training.data import BTCV_INTENSITY, Intensity
from autosam_edge_training.networks.hu_input import TorchEngine
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.pocketnet import PocketNet
from autosam_edge_training.networks.students import save_student

HAS_BF16 = importlib.util.find_spec("openvino") is not None and engine_class("openvino").has_instructions(
    "bf16"
)
LENIENT = {
    key: most if key[1] == "fp32" else Tolerance(0.0, 0.0, 0.0, 1e3) for key, most in TOLERANCES.items()
}
PRECISIONS = ("fp32", "fp16", "int8-weights", "int8", *["bf16"] * HAS_BF16)


pytestmark = pytest.mark.usefixtures("small_students")


@pytest.fixture(scope="module", autouse=True)
def lenient_runtime():
    """Random weights lose their accuracy in fewer bits, so the runtime's own limit is lifted too."""
    limits = {precision: most if precision == "fp32" else 1e3 for precision, most in MAX_LOGIT_RMS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autosam_edge.parity.MAX_LOGIT_RMS", limits)
        yield


@pytest.fixture(scope="module")
def exported(lenient_runtime, small_students, checkpoint, volumes, tmp_path_factory):
    """Every artifact of both targets; int8 may differ, as random weights lose their accuracy in int8."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autosam_edge_export.proof.parity.TOLERANCES", LENIENT)
        report = export_bundle(
            checkpoint,
            folder / "s.edge",
            targets=("onnx", "openvino"),
            precisions=PRECISIONS,
            patch=(32, 32, 32),
            volumes=volumes,
            calibration=volumes,
        )
    return folder / "s.edge", report


@pytest.fixture(scope="module")
def for_devices(small_students, checkpoint, volumes, tmp_path_factory):
    """Three runtimes, of which this machine has two; what it lacks is interpreted, on two tiles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("coremltools")
        pytest.importorskip("executorch")
    folder = tmp_path_factory.mktemp("devices")
    with pytest.MonkeyPatch.context() as patch:
        for place in ("autosam_edge_export.export", "autosam_edge.engines.selection"):
            patch.setattr(
                f"{place}.why_missing", lambda target: "no Core ML here" if target == "coreml" else None
            )
        options = {"targets": ("executorch", "coreml", "onnx"), "patch": (32, 32, 32), "interpreted_tiles": 2}
        report = export_bundle(checkpoint, folder / "s.edge", volumes=volumes, calibration=volumes, **options)
        yield folder / "s.edge", report


def test_an_export_is_a_verified_bundle_that_the_runtime_runs(exported, volumes):
    """Every pair of target and precision that exists, each with its figures, and labels from each."""
    path, report = exported
    names = [entry["name"] for entry in report["artifacts"]]
    assert names == [
        "onnx/fp32",
        "onnx/fp16",
        "onnx/int8-weights",
        "onnx/int8",
        "openvino/fp32",
        *["openvino/bf16"] * HAS_BF16,
        "openvino/int8",
    ]
    bundle = Bundle(path)
    assert {check.name for check in verify_bundle(bundle)} >= {
        "files",
        "resampling",
        "labels without the network",
        *names,
    }
    for artifact in bundle.manifest.artifacts:
        assert artifact.working_set_mb > 0
        assert artifact.relative_time > 0
        session = open_session(bundle, engine=artifact.target, precision=artifact.precision)
        assert session.segment(volumes["phantom"]).labels.shape == volumes["phantom"].shape
    exact = [entry for entry in report["artifacts"] if entry["precision"] == "fp32"]
    assert min(dice for entry in exact for dice in entry["organ_dice"].values()) >= 0.999
    assert [row["artifact"] for row in as_table(report)] == ["student in torch", *names]


def test_the_bundle_describes_what_the_student_was_trained_for(small_students, volumes, tmp_path):
    """Another grid, window, scale and labels than BTCV's: in the manifest and in the artifact's graph."""
    student = PocketNet(classes=4, widths=(8, 8)).eval()
    told = NetworkInput(
        (5.0, 2.0, 2.0),
        Intensity((-991.0, 362.0), 50.0, 141.0),
        ("background", "liver", "prostate", "toe"),
        "amos",
    )
    metadata = checkpoint_metadata("monai:Own", input=told, datasets={"amos": ("1", "2"), "flare": ()})
    save_student(tmp_path / "a.safetensors", student, metadata)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "autosam_edge_training.networks.students.build_student",
            lambda *_, **__: PocketNet(classes=4, widths=(8, 8)),
        )
        export_bundle(
            tmp_path / "a.safetensors",
            tmp_path / "a.edge",
            patch=(32, 32, 32),
            volumes=volumes,
            description=Description(version="7", decision_weights={"toe": 2.5}, confidence=CONFIDENCE),
        )
    bundle = Bundle(tmp_path / "a.edge")
    assert bundle.manifest.name == "monai-Own-5x2x2mm"
    assert bundle.model.class_weights == (1.0, 1.0, 1.0, 2.5)
    assert (bundle.manifest.version, bundle.manifest.input.rows_beyond_ends) == ("7", 8)
    assert (bundle.manifest.input.spacing_mm, bundle.manifest.input.window_hu) == (
        (5.0, 2.0, 2.0),
        (-991.0, 362.0),
    )
    assert [(label.value, label.name) for label in bundle.manifest.labels] == [
        (1, "liver"),
        (2, "prostate"),
        (3, "toe"),
    ]
    assert all(
        label.snomed_code for label in bundle.manifest.labels
    )  # DICOM SEG has no segment without a code
    assert bundle.manifest.postprocess.one_part == ("liver",)
    assert bundle.manifest.confidence == CONFIDENCE
    assert "AMOS and FLARE" in bundle.manifest.license
    assert bundle.manifest.training_data == "2 cases of AMOS, a teacher that was trained on FLARE"
    tile = np.random.default_rng(0).uniform(-1200, 600, (32, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = student(torch.from_numpy((np.clip(tile, -991, 362) - 50) / 141)[None, None])[0].numpy()
    found = load_engine(bundle, bundle.manifest.artifacts[0]).run(tile)
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std())


def test_btcvs_terms_go_with_all_that_was_learned_from_it(small_students, tmp_path):
    """From a teacher, the weights that a run started from, or others that they were averaged with."""
    metadata = checkpoint_metadata(datasets={"mine": ("1",), "btcv": ()})
    save_student(tmp_path / "a.safetensors", PocketNet(classes=14, widths=(8, 8)), metadata)
    student = bundle_writer.LoadedStudent(tmp_path / "a.safetensors", Description())
    assert student.license == bundle_writer.BTCV_LICENSE


def test_openvino_reads_onnxs_files(exported):
    """Three artifacts, or two where there is no bfloat16; no file of their own."""
    manifest = Bundle(exported[0]).manifest
    paths = {artifact.name: artifact.path for artifact in manifest.artifacts}
    assert paths.get("openvino/bf16", paths["onnx/fp32"]) == paths["openvino/fp32"] == paths["onnx/fp32"]
    assert paths["openvino/int8"] == paths["onnx/int8"]
    assert sum(name.endswith(".onnx") for name in manifest.files) == 4


def test_the_parity_report_names_every_organ(exported):
    """``parity.json`` for programs, ``parity.md`` for people; the manifest names the calibration of int8."""
    bundle = Bundle(exported[0])
    entries = build_list(ParityEntry, parse_json(bundle.read("parity.json")), "parity.json")
    assert as_json(entries).encode() == bundle.read("parity.json")
    organs = [label.name for label in bundle.manifest.labels]
    assert as_markdown(entries, organs).encode() == bundle.read("parity.md")
    for organ in json.loads(bundle.read("parity.json"))[0]["volumes"][0]["organs"]:
        assert {"dice", "hd95_mm", "ml", "ml_difference", "percent"} <= set(organ)
        assert organ["organ"].encode() in bundle.read("parity.md")
    quantization = bundle.manifest.provenance["quantization"]
    assert len(quantization["calibration"]["sha256"]) == 64
    assert len(quantization["sensitivity"]) == 10  # every convolution that runs


def test_a_bundle_for_several_devices_says_how_each_artifact_was_proven(for_devices):
    """Executed or interpreted: in manifest, report and table; what was not executed has no time or memory."""
    path, report = for_devices
    bundle = Bundle(path)
    proofs = {"onnx/fp32": "executed", "executorch/fp32": "executed", "coreml/fp32": "interpreted"}
    assert {artifact.name: artifact.proof for artifact in bundle.manifest.artifacts} == proofs
    assert {entry["name"]: entry["proof"] for entry in report["artifacts"]} == proofs
    assert bundle.manifest.artifacts[0].name == "onnx/fp32"
    rows = {row["artifact"]: row for row in as_table(report)}
    costly = ("load s", "ms a tile", "time", "peak MB")
    assert rows["onnx/fp32"]["time"] == "1.00 x"
    assert [rows["coreml/fp32"][heading] for heading in costly] == [""] * 4
    assert all(rows["executorch/fp32"][heading] for heading in costly)
    assert all(row["MB"] for row in rows.values())
    for artifact in bundle.manifest.artifacts:
        assert artifact.worst_organ_dice >= 0.999
        assert (
            (artifact.working_set_mb is None)
            == (artifact.relative_time is None)
            == (artifact.proof == "interpreted")
        )
    unmeasured = [
        entry["target"] for entry in json.loads(bundle.read("parity.json")) if entry["cost"] is None
    ]
    assert unmeasured == ["coreml"]
    assert [line.split(":")[0] for line in delegation_lines(report)] == ["executorch/fp32"]


def test_a_bundle_for_several_devices_verifies(for_devices):
    """With what stands in for Core ML; without it that artifact is skipped."""
    bundle = Bundle(for_devices[0])
    found = make_interpreters(bundle.manifest.artifacts, bundle.read_artifact)
    assert list(found) == ["coreml/fp32"]
    assert {check.verdict for check in verify_bundle(bundle, interpreters=found)} == {"passed"}
    verdicts = {check.name: check.verdict for check in verify_bundle(bundle)}
    assert [name for name, verdict in verdicts.items() if verdict == "skipped"] == ["coreml/fp32"]


def test_interpreted_artifacts_are_compared_on_tiles_and_say_so(for_devices):
    """The others saw the whole volume."""
    path, report = for_devices
    tiles = {entry["name"]: [record["tiles"] for record in entry["volumes"]] for entry in report["artifacts"]}
    assert tiles == {"onnx/fp32": [None], "executorch/fp32": [None], "coreml/fp32": [2]}
    said = {chapter.splitlines()[0]: chapter for chapter in (path / "parity.md").read_text().split("## ")}
    assert "Dice: mean over 2 tiles of phantom." in said["coreml/fp32"]
    assert "Dice: mean over phantom." in said["executorch/fp32"]


def test_what_is_for_developers_stands_beside_and_is_no_part(for_devices):
    """The record of ExecuTorch's tools: there, and not listed."""
    path, _ = for_devices
    assert (path / "executorch" / "fp32.etrecord").stat().st_size > 1000
    files = Bundle(path).manifest.files
    assert "executorch/fp32.pte" in files
    assert not [name for name in files if name.endswith(".etrecord")]


@pytest.mark.parametrize("name", ["onnx/fp32.onnx", "golden/tile_hu.i16", "parity.json"])
def test_one_flipped_byte_is_found(exported, tmp_path, name):
    """By loading, by `verify`: the code of a damaged file."""
    shutil.copytree(exported[0], tmp_path / "s.edge")
    data = bytearray((tmp_path / "s.edge" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "s.edge" / name).write_bytes(bytes(data))
    with pytest.raises(BundleError, match="AE-BUNDLE-004"):
        verify_bundle(Bundle(tmp_path / "s.edge"))
    if name.endswith(".onnx"):
        with pytest.raises(BundleError, match="AE-BUNDLE-004"):
            open_session(tmp_path / "s.edge", engine="onnx", precision="fp32")


def test_verify_fails_where_the_device_computes_something_else(exported, monkeypatch):
    """An engine whose logits drift, and a resampling that is off: the error names the check and holds all."""
    bundle = Bundle(exported[0])
    monkeypatch.setattr(
        "autosam_edge.engines.onnx_engine.OnnxEngine.run",
        lambda self, tile: np.ones((14, 32, 32, 32), np.float32),
    )
    with pytest.raises(VerificationError, match=r"AE-ENGINE-007: onnx/.* does not give") as caught:
        verify_bundle(bundle)
    verdicts = {check.name: check.verdict for check in caught.value.checks}
    assert verdicts["onnx/fp32"] == "failed"
    assert verdicts["openvino/fp32"] == verdicts["resampling"] == "passed"


@pytest.mark.parametrize(
    ("step", "check"),
    [("on_model_grid", "resampling"), ("first_tile", "scan ends"), ("decide", "decision weights")],
)
def test_verify_fails_where_the_pipeline_is_another(exported, monkeypatch, step, check):
    """A step that gives other values is named, whatever the network."""
    honest = export_module.verify_bundle.__globals__[step]
    monkeypatch.setattr(f"autosam_edge.verify.{step}", lambda *given: honest(*given) + 1)
    with pytest.raises(EngineError, match=check):
        verify_bundle(Bundle(exported[0]))


def test_a_second_export_replaces_the_bundle_and_nothing_else(checkpoint, volumes, tmp_path):
    """A bundle gives way to its successor; a folder that is no bundle does not."""
    write_bundle(tmp_path / "s.edge", {"golden/golden.json": b"{}"}, artifacts=[])
    export_bundle(checkpoint, tmp_path / "s.edge", patch=(32, 32, 64), volumes=volumes, calibration=volumes)
    bundle = Bundle(tmp_path / "s.edge")
    bundle.verify()
    assert bundle.manifest.input.patch == (32, 32, 64)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("{}")  # a prepared data set and a web page have one too
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="AE-OUTPUT-002"):
        export_bundle(checkpoint, tmp_path / "mine", patch=(32, 32, 32), volumes=volumes, calibration=volumes)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "s.edge"]


def test_a_conversion_that_changes_the_network_is_refused(checkpoint, volumes, tmp_path, monkeypatch):
    """Weights altered on the way: AE-EXPORT-003, and no bundle."""

    def dishonest(program, metadata):
        for parameter in program.state_dict.values():
            parameter.data.mul_(1.1)
        return to_onnx.to_onnx(program, metadata)

    monkeypatch.setattr("autosam_edge_export.convert.student_forms.to_onnx", dishonest)
    with pytest.raises(ExportError, match="AE-EXPORT-003"):
        export_bundle(
            checkpoint, tmp_path / "s.edge", patch=(32, 32, 32), volumes=volumes, calibration=volumes
        )
    assert list(tmp_path.iterdir()) == []


def test_a_package_under_another_name_has_a_version():
    """``onnxruntime-gpu`` brings the module ``onnxruntime``: the module tells."""
    with pytest.MonkeyPatch.context() as patch:

        def missing(name):
            raise bundle_writer.PackageNotFoundError(name)

        patch.setattr(bundle_writer, "version", missing)
        assert bundle_writer._version("onnxruntime") == importlib.import_module("onnxruntime").__version__


def test_the_torch_engine_is_the_student():
    """The reference that artifacts are held against returns the module's own logits."""
    net = PocketNet(classes=3, widths=(8, 8)).eval()
    tile = np.random.default_rng(0).uniform(-200, 300, (16, 16, 16)).astype(np.float32)
    with torch.no_grad():
        expected = net(((torch.from_numpy(tile).clamp(-125, 275) + 125) / 400)[None, None])[0]
    np.testing.assert_allclose(TorchEngine(net, BTCV_INTENSITY).run(tile), expected.numpy(), atol=1e-5)


def test_imitated_bfloat16_is_proven_but_not_timed(checkpoint, volumes, tmp_path, monkeypatch):
    """Its labels are those of bfloat16; its time says nothing about processors that have it."""
    engine = pytest.importorskip("autosam_edge.engines.openvino_engine").OpenVinoEngine
    if not (HAS_BF16 or "avx512f" in Path("/proc/cpuinfo").read_text()):
        pytest.skip("OpenVINO imitates bfloat16 only on processors with AVX-512")
    monkeypatch.setattr(engine, "has_instructions", lambda precision: precision != "bf16")
    monkeypatch.setattr("autosam_edge_export.proof.parity.TOLERANCES", LENIENT)
    bundle = tmp_path / "s.edge"
    wanted = {"targets": ("openvino",), "precisions": ("bf16", "fp32"), "patch": (32, 32, 32)}
    export_bundle(checkpoint, bundle, volumes=volumes, **wanted)
    timed, imitated = Bundle(bundle).manifest.artifacts
    assert (imitated.precision, imitated.proof, imitated.relative_time) == ("bf16", "imitated", None)
    assert imitated.working_set_mb > 0
    assert timed.relative_time == 1.0  # by itself: an imitation is no measure


def test_why_a_probe_ended_is_one_sentence():
    """The error's own words without its name and remedy, the signal, or all that there is."""
    ended = functools.partial(subprocess.CompletedProcess, [], stdout="")
    line = "autosam_edge.errors.EngineError: AE-ENGINE-002: the model is no ONNX. Remedy: Get it again."
    assert _reason(ended(1, stderr=f"Traceback\n{line}\n")) == "AE-ENGINE-002: the model is no ONNX."
    assert "signal 9" in _reason(ended(-9, stderr=""))
    assert _reason(ended(1, stderr="Killed\n")) == "Killed"


@pytest.mark.parametrize(
    ("targets", "precisions", "names"),
    [
        (("coreml",), ("int8",), ["coreml/int8-weights"]),
        (
            ("executorch", "coreml", "onnx"),
            ("int8",),
            ["executorch/int8", "coreml/int8-weights", "onnx/int8"],
        ),
        (("coreml-2d",), ("int8", "int8-weights"), ["coreml-2d/int8-weights"]),
        (("onnx",), ("int8", "int8-weights"), ["onnx/int8-weights", "onnx/int8"]),
        (("coreml", "onnx"), ("fp32", "palette4"), ["onnx/fp32", "coreml/fp32", "coreml/palette4"]),
        (("executorch-coreml", "openvino"), ("fp16", "bf16"), ["executorch-coreml/fp16", "openvino/bf16"]),
    ],
)
def test_targets_and_precisions_make_artifacts(targets, precisions, names):
    """Every pair that exists; int8 means int8-weights without int8 arithmetic; the reference comes first."""
    assert [
        f"{target.name}/{precision}" for target, precision in wanted_artifacts(targets, precisions)
    ] == names
