"""A bundle is read as it was written, or refused with a code."""

from __future__ import annotations

import json
import zipfile

import pytest
from autosam_edge_test_support import manifest_dict, write_bundle

from autosam_edge.bundle import Bundle, Manifest, open_bundle
from autosam_edge.errors import BundleError


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path


def test_a_folder_and_a_zip_read_the_same(bundle_folder, tmp_path):
    """The same manifest, the same bytes, the same identity."""
    folder, archive = Bundle(bundle_folder), Bundle(zipped(bundle_folder, tmp_path / "z.edge"))
    assert folder.manifest == archive.manifest
    assert folder.read("onnx/fp32.onnx") == archive.read("onnx/fp32.onnx") == b"not a model"
    assert folder.manifest_sha256 == archive.manifest_sha256


def test_one_flipped_byte_is_found(bundle_folder):
    """AE-BUNDLE-004, whichever byte."""
    (bundle_folder / "onnx" / "fp32.onnx").write_bytes(b"not a modem")
    with pytest.raises(BundleError, match="AE-BUNDLE-004"):
        Bundle(bundle_folder).read("onnx/fp32.onnx")
    with pytest.raises(BundleError, match="AE-BUNDLE-004"):
        Bundle(bundle_folder).verify()


def test_absent_paths_and_other_files_are_refused(tmp_path):
    """AE-BUNDLE-001 for nothing, AE-BUNDLE-002 for what is no bundle."""
    with pytest.raises(BundleError, match="AE-BUNDLE-001"):
        open_bundle(tmp_path / "none.edge")
    (tmp_path / "empty.edge").mkdir()
    (tmp_path / "text.edge").write_text("hello")
    for name in ("empty.edge", "text.edge"):
        with pytest.raises(BundleError, match="AE-BUNDLE-002"):
            Bundle(tmp_path / name)


def contract(**changes):
    return {**manifest_dict()["input"], **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"extra": 1},
        {"input": contract(spacing_mm=[0, 3, 3])},
        {"input": contract(window_hu=[275, -125])},
        {"input": contract(overlap=1.0)},
        {"input": contract(patch=[16, 16])},
        {"input": contract(modality="MR")},
        {"input": contract(colour="red")},
        {"input": None},
        {"labels": [{"value": 1}]},
        {"labels": "liver"},
        {"files": {}},
        {"artifacts": [{"target": "onnx"}]},
    ],
)
def test_a_manifest_that_breaks_the_schema_is_refused(changes):
    """Unknown keys, missing keys, other types and impossible numbers: AE-BUNDLE-003."""
    with pytest.raises(BundleError, match="AE-BUNDLE-003"):
        Manifest.parse(json.dumps(manifest_dict(**changes)).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"null"])
def test_a_manifest_that_is_not_an_object_is_refused(text):
    """AE-BUNDLE-003, never a bare JSON error."""
    with pytest.raises(BundleError, match="AE-BUNDLE-003"):
        Manifest.parse(text)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\b"])
def test_a_manifest_cannot_name_files_outside_the_bundle(tmp_path, name):
    """Path traversal is refused before the file system is asked."""
    folder = write_bundle(tmp_path / "t.edge", files={**manifest_dict()["files"], name: "0" * 64})
    with pytest.raises(BundleError, match="AE-BUNDLE-003"):
        Bundle(folder).read(name)


def test_a_link_out_of_the_bundle_is_not_followed(tmp_path):
    """A symbolic link to a file elsewhere is not part of the bundle."""
    (tmp_path / "secret").write_bytes(b"s")
    folder = write_bundle(tmp_path / "t.edge", files={**manifest_dict()["files"], "link": "0" * 64})
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="AE-BUNDLE-002"):
        Bundle(folder).read("link")
