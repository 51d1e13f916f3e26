"""Core ML packages equal the student and store the stated number of bits; an interpreter runs them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from autosam_edge_test_mil import MODEL, WEIGHTS, ct
from autosam_edge_test_networks import with_tables
from autosam_edge_test_students import METADATA, forms_of, logits_in_torch, random_tile, spread
from autosam_edge_test_support import PLACES_HERE
from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging, SwinUNETR
from safetensors.numpy import load_file
from torch import nn

from autosam_edge.bundle import Bundle
from autosam_edge.errors import BundleError, EngineError, ExportError, MissingExtraError
from autosam_edge.phantom import make_phantom
from autosam_edge.verify import verify_bundle
from autosam_edge_export.convert import to_coreml as coreml_tools
from autosam_edge_export.convert.to_coreml import saved_files, to_coreml
from autosam_edge_export.export import as_table, export_bundle, make_interpreters
from autosam_edge_export.mil import Interpreter, read_package
from autosam_edge_export.targets import TARGETS
from autosam_edge_training.networks.pocketnet import PocketNet
from autosam_edge_training.networks.students import parameter_count

SIDES = {"pocketnet": (32, 32, 32), "stage": (32, 32, 32), "swin": (64, 32, 32)}
# By precision: how far logits may lie from the student's, root mean square as a share of the logits' own
# spread.
SPREAD = {"fp32": 1e-5, "fp16": 5e-3, "int8-weights": 1e-2, "palette6": 3e-2, "palette4": 0.15}


pytestmark = pytest.mark.usefixtures("one_thread")


def pocketnet():
    """Two of its weights are large enough for fewer bits."""
    torch.manual_seed(0)
    return PocketNet(classes=4, widths=(8, 16, 128)).eval()


def swin():
    """One block that shifts its windows, three that do not; tables that matter."""
    torch.manual_seed(0)
    return with_tables(SwinUNETR(1, 4, feature_size=12, depths=(2, 1, 1, 1)).eval())


def stage():
    """The first stage of a Swin transformer between two convolutions; the second block shifts its windows."""
    torch.manual_seed(0)
    layer = BasicLayer(12, 2, 3, (7, 7, 7), [0.0, 0.0], qkv_bias=True, downsample=PatchMerging)
    begin, end = nn.Conv3d(1, 12, 2, stride=2), nn.ConvTranspose3d(24, 4, 4, stride=4)
    return with_tables(nn.Sequential(begin, layer, end).eval())


class Student:
    """A network, its forms, a tile and the logits of it in torch."""

    def __init__(self, name):
        self.net = {"pocketnet": pocketnet, "stage": stage, "swin": swin}[name]()
        self.forms = forms_of(self.net, SIDES[name])
        self.tile = random_tile(SIDES[name])
        self.logits = logits_in_torch(self.net, self.tile)
        self._made = {}

    def made(self, target, precision):
        """The artifact, converted once."""
        if (target, precision) not in self._made:
            self._made[target, precision] = TARGETS[target].convert(self.forms, precision)
        return self._made[target, precision]

    def package(self, target, precision):
        """Its files."""
        return self.made(target, precision).files

    def spread(self, target, precision):
        """Of the interpreted logits around the student's."""
        return spread(
            TARGETS[target].make_interpreter(self.package(target, precision)).run(self.tile), self.logits
        )


@pytest.fixture(scope="module")
def pocket():
    return Student("pocketnet")


@pytest.fixture(scope="module")
def windows():
    return Student("stage")


def size(files):
    return sum(len(content) for content in files.values())


def assert_fewer_bits_are_smaller_and_close(student, target):
    """Every precision within its tolerance, and none as exact or as large as the one before."""
    sizes = [size(student.package(target, precision)) for precision in SPREAD]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    spreads = [student.spread(target, precision) for precision in SPREAD]
    for precision, found in zip(SPREAD, spreads, strict=True):
        assert found <= SPREAD[precision], precision
    assert spreads == sorted(spreads)
    assert len(set(spreads)) == len(spreads)


@pytest.mark.slow
def test_every_precision_is_the_student_in_its_size(pocket):
    """Float32, float16, int8 weights, six bits, four bits: each smaller and a little further off."""
    assert_fewer_bits_are_smaller_and_close(pocket, "coreml")
    sizes = {precision: size(pocket.package("coreml", precision)) for precision in SPREAD}
    assert sizes["fp16"] < 0.55 * sizes["fp32"]
    assert sizes["palette4"] < 0.4 * sizes["fp16"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["coreml", "coreml-ios18"])
def test_every_precision_of_a_transformer_is_the_student_in_its_size(target):
    """As above; palettes of millions of weights take their time."""
    assert_fewer_bits_are_smaller_and_close(Student("swin"), target)


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        pytest.param("coreml-2d", "fp16", marks=pytest.mark.slow),
        ("coreml-ios18", "fp16"),
        ("coreml-ios18", "palette4"),
    ],
)
def test_other_packages_are_the_student(pocket, target, precision):
    """On planes, and with iOS 18's storage."""
    assert pocket.spread(target, precision) <= SPREAD[precision]


@pytest.mark.slow
def test_a_transformer_is_the_student(windows):
    """Windows, shifts, bias, merging; no tensor of a rank over 5."""
    assert windows.spread("coreml", "fp16") <= SPREAD["fp16"]
    program = Interpreter(windows.package("coreml", "fp16"))
    assert program.max_rank == 5
    assert program.operators["softmax"] > 0


@pytest.mark.slow
def test_the_position_bias_stays_a_gather(windows):
    """The tables are stored, not the biases gathered from them, each of which takes many times as much."""
    files = windows.package("coreml", "fp16")
    assert Interpreter(files).operators["gather"] >= 1
    gathered = 3 * windows.net[1].blocks[0].attn.relative_position_index.numel()
    assert len(files[WEIGHTS]) <= 2 * (parameter_count(windows.net) + 0.02 * gathered)


class Constants(nn.Module):
    """Adds constants to an image: a large gather from a table, a small product and a transposed matrix."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(127, generator=generator))
        self.register_buffer("place", torch.arange(64, dtype=torch.int32))
        self.small = nn.Parameter(torch.randn(64, generator=generator))
        self.matrix = nn.Parameter(torch.randn(64, 64, generator=generator))

    def forward(self, x):
        index = self.place[:, None] - self.place[None, :] + 63
        gathered = torch.index_select(self.table, 0, index.reshape(-1)).reshape(64, 64)
        return (x + gathered) * (self.small.softmax(-1) * 2.0) + self.matrix.t()


def folded():
    module = Constants().eval()
    files = saved_files(
        to_coreml(
            torch.export.export(module, (torch.zeros(1, 1, 1, 64, 64),)),
            METADATA,
            deployment="iOS17",
            precision="fp32",
        )
    )
    x = torch.randn(1, 1, 1, 64, 64)
    with torch.no_grad():
        np.testing.assert_allclose(Interpreter(files).run(x).numpy(), module(x).numpy(), atol=1e-5)
    return Interpreter(files).operators, len(files[WEIGHTS])


@pytest.mark.slow
def test_constants_are_folded_unless_they_grow(monkeypatch):
    """The gather is not folded; the product and the matrix, no larger than their inputs, are."""
    honest = coreml_tools._should_fold
    operators, stored = folded()
    assert operators["gather"] == 1
    assert (operators["softmax"], operators["transpose"], operators["mul"]) == (0, 0, 1)
    assert stored < 1.2 * 4 * 64 * 64
    monkeypatch.setattr(
        coreml_tools,
        "_should_fold",
        lambda operation: all(out.can_be_folded_to_const() for out in operation.outputs),
    )
    operators, everything = folded()
    assert operators["gather"] == 0
    assert everything > 1.9 * stored
    monkeypatch.setattr(
        coreml_tools,
        "_should_fold",
        lambda operation: operation.op_type not in ("softmax", "mul") and honest(operation),
    )
    operators, _ = folded()
    assert (operators["softmax"], operators["mul"]) == (1, 2)


@pytest.mark.parametrize("target", ["coreml", "coreml-2d", "coreml-ios18"])
def test_a_package_takes_and_gives_float32(pocket, target):
    """Whatever it computes in, so that apps need no other type; and it says for which system it is."""
    program = Interpreter(pocket.package(target, "fp16"))
    assert [(info.name, info.dtype, info.shape) for info in (*program.inputs, *program.outputs)] == [
        ("image_hu", "float32", (1, 1, 32, 32, 32)),
        ("logits", "float32", (1, 4, 32, 32, 32)),
    ]
    assert program.operators["cast"] == 2
    assert program.max_rank == 5
    assert program.spec_version == (9 if target == "coreml-ios18" else 8)
    assert METADATA.items() <= program.metadata.items()
    made = pocket.made(target, "fp16")
    assert (made.facts["specification"], made.path) == (program.spec_version, f"{target}/fp16.mlpackage")


def convolution_ranks(files):
    operations = [
        operation
        for operation in read_package(files).operations
        if operation.type in ("conv", "conv_transpose")
    ]
    return {len(info.shape) for operation in operations for info in operation.outputs}


def test_convolutions_are_2d_where_that_is_asked(pocket):
    """All of them, also the transposed ones; else all are 3D."""
    assert convolution_ranks(pocket.package("coreml-2d", "fp16")) == {4}
    assert convolution_ranks(pocket.package("coreml", "fp16")) == {5}


def test_no_file_names_this_machine(pocket, windows):
    """Neither the repository's path nor the home folder's nor the place of a package."""
    places = [*PLACES_HERE, "coremltools_"]
    packages = [
        pocket.package("coreml", "fp32"),
        pocket.package("coreml-2d", "fp16"),
        windows.package("coreml", "fp16"),
    ]
    for files in packages:
        assert set(files) == {"Manifest.json", MODEL, WEIGHTS}
        for name, content in files.items():
            assert not [place for place in places if place.encode() in content], name


@pytest.fixture(scope="module")
def exported(small_students, checkpoint, tmp_path_factory):
    """A bundle that this machine cannot execute, compared on one tile."""
    path = tmp_path_factory.mktemp("coreml") / "s.edge"
    volumes = {"phantom": make_phantom(1, spacing_mm=(6.0, 6.0, 6.0), shape=(16, 16, 16)).volume}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autosam_edge_export.export.why_missing", lambda target: "no Core ML here")
        patch.setattr("autosam_edge.engines.selection.why_missing", lambda target: "no Core ML here")
        options = {
            "targets": ("coreml",),
            "patch": (32, 32, 32),
            "volumes": volumes,
            "calibration": volumes,
            "interpreted_tiles": 1,
        }
        report = export_bundle(checkpoint, path, **options)
        yield path, report


def test_a_package_says_what_an_app_must_know(exported):
    """Labels, spacing, window, license and which checkpoint it is."""
    bundle = Bundle(exported[0])
    manifest = bundle.manifest
    said = Interpreter(bundle.read_artifact("coreml/fp32.mlpackage")).metadata
    assert said["labels"].split(",") == ["background", *(label.name for label in manifest.labels)]
    assert said["spacing_mm"] == "3,3,3"
    assert said["window_hu"] == "-125,275"
    assert said["license"] == manifest.license
    assert said["checkpoint_sha256"] == manifest.provenance["checkpoint_sha256"]
    assert said["checkpoint_sha256"] == hashlib.sha256(bundle.read("student.safetensors")).hexdigest()
    assert manifest.provenance["versions"]["coremltools"] == ct.__version__


def test_a_bundle_without_anything_to_execute_is_proven_by_interpreting(exported):
    """No time, no memory, and a row that says so."""
    path, report = exported
    bundle = Bundle(path)
    (artifact,) = bundle.manifest.artifacts
    assert (artifact.proof, artifact.working_set_mb, artifact.relative_time) == ("interpreted", None, None)
    assert artifact.worst_organ_dice >= 0.999
    row = as_table(report)[-1]
    assert row["artifact"] == "coreml/fp32"
    assert [row[heading] for heading in ("load s", "ms a tile", "time", "peak MB")] == [""] * 4
    checks = {
        check.name: check
        for check in verify_bundle(
            bundle, interpreters=make_interpreters(bundle.manifest.artifacts, bundle.read_artifact)
        )
    }
    assert checks["coreml/fp32"].verdict == "passed"
    assert checks["coreml/fp32"].detail.startswith("interpreted, not executed")
    assert {check.name: check.verdict for check in verify_bundle(bundle)}["coreml/fp32"] == "skipped"


def test_one_altered_weight_is_found(exported, tmp_path):
    """By its hash, and by what is computed if somebody made the hash right."""
    folder = tmp_path / "s.edge"
    shutil.copytree(exported[0], folder)
    file = folder / "coreml" / "fp32.mlpackage" / WEIGHTS
    weights = bytearray(file.read_bytes())
    seen = load_file(folder / "student.safetensors")["head.project.weight"][
        ..., 0, 0, 0
    ].flatten()  # golden logits are every fourth
    largest = seen[np.abs(seen).argmax()]
    assert weights.count(largest.tobytes()) == 1
    place = weights.index(largest.tobytes())
    weights[place : place + 4] = (2 * largest).tobytes()
    file.write_bytes(bytes(weights))
    with pytest.raises(BundleError, match="AE-BUNDLE-004: coreml/fp32.mlpackage/.*weight.bin"):
        verify_bundle(Bundle(folder))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][f"coreml/fp32.mlpackage/{WEIGHTS}"] = hashlib.sha256(weights).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bundle = Bundle(folder)
    with pytest.raises(EngineError, match="AE-ENGINE-007: coreml/fp32 does not give"):
        verify_bundle(bundle, interpreters=make_interpreters(bundle.manifest.artifacts, bundle.read_artifact))


@pytest.mark.parametrize("target", ["coreml", "executorch-coreml"])
def test_packages_that_do_not_fit_are_found_before_anything_is_loaded(tmp_path, monkeypatch, target):
    """The trial fails, with both versions, though there is not even a checkpoint."""

    def broken(*_, **__):
        raise TypeError("only length-1 arrays can be converted to Python scalars")

    monkeypatch.setattr(ct, "convert", broken)
    honest = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: honest("torch") if name == "executorch" else honest(name)
    )
    with pytest.raises(
        ExportError, match=f"AE-EXPORT-010: coremltools {ct.__version__} .*numpy {np.__version__}.*TypeError"
    ):
        export_bundle(tmp_path / "nowhere", tmp_path / "s.edge", targets=(target,), precisions=("fp16",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "precision", "package", "extra"),
    [
        ("coreml", "fp16", "coremltools", "coreml"),
        ("executorch", "int8", "torchao", "executorch"),
        ("executorch-coreml", "fp16", "coremltools", "executorch"),
    ],
)
def test_a_missing_package_names_its_extra(tmp_path, monkeypatch, target, precision, package, extra):
    """Before the checkpoint is looked at."""
    honest = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else honest("torch")
    )
    with pytest.raises(
        MissingExtraError,
        match=rf"AE-EXTRA-001: {target} needs {package}.*pip install 'autosam-edge\[{extra}\]'",
    ):
        export_bundle(tmp_path / "nowhere", tmp_path / "s.edge", targets=(target,), precisions=(precision,))
    assert list(tmp_path.iterdir()) == []
