"""Whatever stands in manifest.json, golden.json and parity.json: it is used, or refused with a code."""

from __future__ import annotations

import copy
import functools
import json
import os
import zipfile

import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import artifact_dict, manifest_dict, write_bundle

from autosam_edge.bundle import Bundle, default_bundle_path
from autosam_edge.engines.selection import rank_artifacts
from autosam_edge.error_codes import BUNDLE_INCOMPLETE, MANIFEST_INVALID
from autosam_edge.errors import BundleError
from autosam_edge.golden import GOLDEN, read_golden_rules, read_golden_scan, read_golden_tile
from autosam_edge.parity import MAX_LOGIT_RMS, PARITY, read_parity
from autosam_edge.session import open_session

AREA = "Model bundles"
DEFAULT = default_bundle_path()
FILES = {
    "manifest.json": json.loads((DEFAULT / "manifest.json").read_text()),
    GOLDEN: json.loads((DEFAULT / GOLDEN).read_text()),
    PARITY: [
        {
            "target": entry["target"],
            "precision": entry["precision"],
            "tolerance": {"logit_rms": entry["tolerance"]["logit_rms"]},
        }
        for entry in json.loads((DEFAULT / PARITY).read_text())
    ],
}
VALUES = [
    *(None, True, False, -1, 0, 1, -0.5, 1e-300, 1e300, -1e300, 2**63, 10**25),
    *("", "x", "\x00", "\ud800", "../x", "x" * 2000),
    *([], [[]], [None], [0] * 100, [-1, -1, -1], {}, {"x": 1}),
    *(float("nan"), float("inf"), float("-inf")),
]


def places(value, path=()):
    """Every value in a document, by its path.

    Of an array, and of an object that is a list by name (of organs, of files): the first and the last.
    """
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    items = list(items)
    if isinstance(value, list) or (len(items) > 6 and len({type(item) for _, item in items}) == 1):
        items = items[:: max(1, len(items) - 1)]
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(document, path, value):
    """The document with another value at the path."""
    if not path:
        return value
    made = copy.copy(document)
    made[path[0]] = replaced(document[path[0]], path[1:], value)
    return made


def removed(document, path):
    made = copy.copy(document)
    if path[1:]:
        made[path[0]] = removed(document[path[0]], path[1:])
    else:
        del made[path[0]]
    return made


READ: dict[str, bytes] = {}  # files of the package's bundle


class InMemory(Bundle):
    """The bundle of the package with one other file, whose hash is right."""

    def __init__(self, name, document):
        self.put(name, document)
        super().__init__(DEFAULT)

    def put(self, name, document):
        """Set the other file."""
        self._other, self._text = name, json.dumps(document).encode()

    def _raw(self, name, max_bytes):
        return self._text if name == self._other else super()._raw(name, max_bytes)

    def read(self, name, max_bytes=2**31):
        if name != self._other and name not in READ:
            READ[name] = super().read(name)
        return self._text if name == self._other else READ[name]


@functools.cache
def opened():
    return InMemory("manifest.json", FILES["manifest.json"])


def use(name, document):
    """All that the runtime does with the file before it computes; True if it was accepted."""
    try:
        _use(name, document)
    except BundleError as error:
        refusal = error
    else:
        return True
    assert refusal.code in ("AE-BUNDLE-002", "AE-BUNDLE-003"), refusal
    assert "\n" not in str(refusal)
    assert len(str(refusal)) < 1000
    return False


def _use(name, document):
    if name == "manifest.json":
        bundle = InMemory(name, document)
        assert bundle.model.classes > 1
        assert len(rank_artifacts(bundle.manifest)) == len(bundle.manifest.artifacts)
        for artifact in bundle.manifest.artifacts:
            if artifact.path in bundle.manifest.files:
                bundle.working_set_mb(artifact)
        return
    bundle = opened()
    bundle.put(name, document)
    for read in (read_golden_scan, read_golden_tile) if name == GOLDEN else (read_parity,):
        read(bundle)


@hazard(AREA, "a value of the manifest, the golden vectors or the parity file is not valid", MANIFEST_INVALID)
@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_any_value_anywhere_is_used_or_refused(name, share):
    """Wrong types, negative, huge, NaN, infinite, empty: each in each place, or in every fourth one."""
    assert use(name, FILES[name])
    refused = 0
    for number, path in enumerate(places(FILES[name])):
        values = VALUES[number % share :: share]
        refused += sum(not use(name, replaced(FILES[name], path, value)) for value in values)
    assert refused > 100 / share


@pytest.mark.parametrize("name", FILES)
def test_a_missing_key_is_refused(name):
    """At every depth, but for what the schema does not fix, and what a bundle may do without."""
    optional = (("confidence",), ("plausibility", "abdomen_organs"))
    for path in places(FILES[name]):
        free = path[:1] in (("provenance",), ("files",)) or "decision_weights" in path[:-1]
        free = free or path in optional or "offsets" in path[:-1]
        if path and isinstance(path[-1], str) and not free:
            assert not use(name, removed(FILES[name], path)), path


@pytest.mark.parametrize("name", ["manifest.json", GOLDEN])
def test_an_extra_key_is_refused(name):
    """At every depth, but for what the schema does not fix."""
    for path in places(FILES[name]):
        value = FILES[name]
        for key in path:
            value = value[key]
        if isinstance(value, dict) and path[:1] not in (("provenance",), ("files",)):
            assert not use(name, replaced(FILES[name], path, {**value, "more": 1})), path


def contract(**changes):
    return {"input": {**manifest_dict()["input"], **changes}}


def label(**changes):
    first, *others = manifest_dict()["labels"]
    return {"labels": [{**first, **changes}, *others]}


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": ""}, {"name": "x" * 101}, {"name": "a\nb"}, {"version": "a\\b"}, {"license": "x" * 4001}),
        *({"labels": []}, {"files": {"a": "0"}}),
        *(contract(overlap=value) for value in (-0.1, 0.91, 1.0)),
        *(contract(patch=value) for value in ([512] * 3, [16, 16, -16], [16, 16, 16.5], [8] * 3, [1e9] * 3)),
        *(contract(window_hu=value) for value in ([0, 0], [-1e9, 1e9], [float("nan"), 1])),
        *(contract(spacing_mm=value) for value in ([0, 3, 3], [3, 3, -3], [3, 3, 1e9])),
        *(label(name=value) for value in ("", "../x", "kidney_right", "x" * 65, "a\nb")),
        *(label(color=value) for value in ([0, 0, 256], [0, 0, -1], [0, 0])),
        *(label(laterality="both"), label(snomed_code="1' OR 1"), label(snomed_meaning="x" * 65)),
        *(
            {"artifacts": [artifact_dict(**{key: value})]}
            for key, values in {
                "working_set_mb": (-1.0, 0.0, 0.05, 1e6),  # a tile and its logits take 0.066 MB
                "relative_time": (-1.0, 0.0, 1e4),
                "worst_organ_dice": (-0.1, 1.1),
                "target": ("", "../x", "ONNX"),
                "precision": ("", "fp32/x"),
            }.items()
            for value in values
        ),
        {"artifacts": [artifact_dict(), artifact_dict()]},
        *(
            {"postprocess": {"one_part": [], "decision_weights": {"spleen": value}}}
            for value in (-1.0, 0.0, 1e-3, 101.0)
        ),
    ],
    ids=str,
)
def test_numbers_and_names_out_of_range_are_refused(changes):
    """AE-BUNDLE-003 names the value."""
    document = manifest_dict(**changes)
    for key in changes:
        assert document[key] == changes[key] or changes[key] != changes[key]
    assert not use("manifest.json", document)


@hazard(
    AREA, "the manifest names less memory for an artifact than its weights and a tile take", MANIFEST_INVALID
)
def test_a_working_set_below_the_weights_is_refused(tmp_path):
    """A limit of memory that a lie passes would be none."""
    contents = {"onnx/fp32.onnx": bytes(3_000_000)}
    bundle = Bundle(
        write_bundle(tmp_path / "b.edge", contents, artifacts=[artifact_dict(working_set_mb=2.9)])
    )
    with pytest.raises(BundleError, match="AE-BUNDLE-003: .* its weights and one tile alone take 3 MB"):
        open_session(bundle, max_memory_mb=500)


@hazard(AREA, "the parity file allows an artifact to differ more than this package allows", MANIFEST_INVALID)
@pytest.mark.parametrize("rms", [0.0, -1.0, 1.01 * MAX_LOGIT_RMS["fp32"], 1e300])
def test_a_tolerance_of_its_own_is_refused(rms):
    """Whoever writes the bundle does not decide how close is close enough."""
    assert not use(PARITY, [{**entry, "tolerance": {"logit_rms": rms}} for entry in FILES[PARITY]])


@pytest.mark.parametrize(
    "path_and_value",
    [
        (("scan", "stride"), 9),
        (("scan", "width_hu"), 0),
        (("scan", "reach_rows"), 65),
        (("scan", "affine"), [[3, 1, 0, 0], [0, 3, 0, 0], [0, 0, 6, 0], [0, 0, 0, 1]]),  # sheared
        (("scan", "affine"), [[3, 0, 0, 0], [0, 3, 0, 0], [0, 30, 6, 0], [0, 0, 0, 1]]),  # tilted
        (("scan", "affine", 1, 1), 65535.0),  # ten thousand tiles
        (("scan", "short_slices"), [31, 26]),
        (("scan", "short_slices"), [0, 57]),
        (("scan", "centers_hu"), [0.0] * 13),
        (("scan", "affine"), [[1e6 * (row == column) for column in range(4)] for row in range(4)]),
        (("scan", "affine", 0, 2), -2.4e4),
        (("scan", "hu", "dtype"), "<f4"),
        (("scan", "labels", "shape"), [56, 56, 71]),
        (("scan", "hu", "shape"), [56, 56, 72, 1]),
        (("tile", "stride"), 96),
        (("tile", "hu", "shape"), [96, 96, 95]),
        (("tile", "logits", "shape"), [14, 20, 20, 19]),
        (("tile", "logits", "file"), "manifest.json"),
    ],
    ids=str,
)
def test_golden_vectors_that_do_not_fit_are_refused(path_and_value):
    """Shapes, types and numbers against each other and against the manifest."""
    assert not use(GOLDEN, replaced(FILES[GOLDEN], *path_and_value))


@pytest.mark.parametrize(
    ("name", "byte", "read", "message"),
    [
        ("tile_logits.f32", b"\xff", read_golden_tile, "not finite"),
        ("ends_short_hu.i16", b"\xfb", read_golden_rules, "a voxel of"),  # -1029 HU: air alone
    ],
)
def test_golden_values_that_prove_nothing_are_refused(tmp_path, name, byte, read, message):
    """They would make every comparison false or true, or show the network no tile."""
    contents = {
        name: (DEFAULT / name).read_bytes() for name in FILES["manifest.json"]["files"] if "golden" in name
    }
    contents[f"golden/{name}"] = byte * len(contents[f"golden/{name}"])
    changes = {key: FILES["manifest.json"][key] for key in ("input", "labels")}
    bundle = Bundle(write_bundle(tmp_path / "b.edge", contents, artifacts=[], **changes))
    with pytest.raises(BundleError, match=f"AE-BUNDLE-003.*{message}"):
        read(bundle)


@hazard(AREA, "manifest.json, parity.json or golden.json is larger than any real one", BUNDLE_INCOMPLETE)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_beyond_its_limit_is_not_read(tmp_path, name, packed):
    """A sparse file of 8 GB, and one that a zip makes of a few bytes."""
    folder = write_bundle(tmp_path / "b.edge", {GOLDEN: b"{}", PARITY: b"[]"}, artifacts=[])
    path = folder
    if packed:
        path = tmp_path / "z.edge"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in folder.rglob("*.json"):
                large = file.relative_to(folder).as_posix() == name
                archive.writestr(
                    file.relative_to(folder).as_posix(), bytes(40 << 20) if large else file.read_bytes()
                )
    else:
        os.truncate(folder / name, 8 << 30)
    read = read_parity if name == PARITY else read_golden_tile
    with pytest.raises(BundleError, match="AE-BUNDLE-002.*more than the [0-9]* allowed"):
        read(Bundle(path))
