"""A bundle is read as it was written, or refused with a code."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from autosam_edge_test_support import (
    MODEL,
    artifact_dict,
    hashes,
    manifest_dict,
    parse_manifest,
    write_bundle,
    zipped,
)

from autosam_edge.bundle import STUDENT_FILE, Bundle, open_bundle, read_files
from autosam_edge.errors import BundleError
from autosam_edge.manifest import SCHEMA_VERSION, Manifest

PACKAGE = "coreml/fp16.mlpackage"
IN_PACKAGE = {"Manifest.json": b"{}", "Data/weights/weight.bin": b"weights"}
FOLDERS = {
    **MODEL,
    **{f"{PACKAGE}/{name}": content for name, content in IN_PACKAGE.items()},
    f"{PACKAGE}2/Manifest.json": b"another",  # its name begins like the package's
}
ARTIFACTS = [artifact_dict(), artifact_dict("coreml/fp16", path=PACKAGE)]


def test_a_folder_and_a_zip_read_the_same(bundle_folder, tmp_path):
    """The same manifest, the same bytes, the same identity."""
    folder, archive = Bundle(bundle_folder), Bundle(zipped(bundle_folder, tmp_path / "z.edge"))
    assert folder.manifest == archive.manifest
    assert folder.read("onnx/fp32.onnx") == archive.read("onnx/fp32.onnx") == b"not a model"
    assert folder.manifest_sha256 == archive.manifest_sha256


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_no_complete_bundle(bundle_folder, tmp_path, method):
    """Wherever the byte flips in a compressed member: AE-BUNDLE-002, or the hash tells.

    Never an error of zlib's or lzma's.
    """
    (bundle_folder / "onnx" / "fp32.onnx").write_bytes(b"not a model" * 100)
    archive = zipped(bundle_folder, tmp_path / "z.edge", method)
    content = archive.read_bytes()
    for place in range(0, len(content), 7):
        archive.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            Bundle(archive).verify()
        except BundleError as error:
            assert error.code in ("AE-BUNDLE-002", "AE-BUNDLE-003", "AE-BUNDLE-004")  # noqa: PT017  a byte that means nothing may flip


def test_a_zip_with_a_name_that_is_no_utf8_is_no_bundle(bundle_folder, tmp_path):
    """AE-BUNDLE-002, even if the manifest does not list the member: the zip's directory cannot be read."""
    (bundle_folder / "é.txt").write_text("notes")
    archive = zipped(bundle_folder, tmp_path / "z.edge")
    Bundle(archive).verify()
    head, _, tail = archive.read_bytes().rpartition("é".encode())
    archive.write_bytes(head + b"\xff\xff" + tail)
    with pytest.raises(BundleError, match="AE-BUNDLE-002"):
        Bundle(archive)


def test_the_identity_is_of_the_manifest_that_was_read(bundle_folder):
    """An app that updates the bundle meanwhile changes nothing about what ran."""
    bundle = Bundle(bundle_folder)
    before = bundle.manifest_sha256
    (bundle_folder / "manifest.json").unlink()
    assert (
        bundle.manifest_sha256 == before == hashlib.sha256(json.dumps(manifest_dict()).encode()).hexdigest()
    )


def test_the_students_weights_may_be_absent(tmp_path):
    """No engine reads them: they may be missing, in a folder and in a zip, but not be altered."""
    folder = write_bundle(tmp_path / "b.edge", {**MODEL, STUDENT_FILE: b"weights"})
    (folder / STUDENT_FILE).write_bytes(b"others")
    for path in (folder, zipped(folder, tmp_path / "altered.edge")):
        with pytest.raises(BundleError, match="AE-BUNDLE-004"):
            Bundle(path).verify()
    (folder / STUDENT_FILE).unlink()
    for path in (folder, zipped(folder, tmp_path / "without.edge")):
        Bundle(path).verify()
        with pytest.raises(BundleError, match="AE-BUNDLE-002"):
            Bundle(path).read(STUDENT_FILE)


def test_one_flipped_byte_is_found(bundle_folder):
    """AE-BUNDLE-004, whichever byte."""
    (bundle_folder / "onnx" / "fp32.onnx").write_bytes(b"not a modem")
    with pytest.raises(BundleError, match="AE-BUNDLE-004"):
        Bundle(bundle_folder).read("onnx/fp32.onnx")
    with pytest.raises(BundleError, match="AE-BUNDLE-004"):
        Bundle(bundle_folder).verify()


@pytest.fixture
def with_package(tmp_path):
    return write_bundle(tmp_path / "package.edge", FOLDERS, artifacts=ARTIFACTS)


def test_an_artifact_may_be_a_folder(with_package, tmp_path):
    """Its files by their path in it, nothing of its neighbor.

    The same from a zip and straight from the disk.
    """
    for bundle in (Bundle(with_package), Bundle(zipped(with_package, tmp_path / "z.edge"))):
        bundle.verify()
        assert bundle.read_artifact(PACKAGE) == IN_PACKAGE
        assert bundle.read_artifact("onnx/fp32.onnx") == {"": b"not a model"}
    assert read_files(with_package / PACKAGE) == IN_PACKAGE
    assert read_files(with_package / "onnx" / "fp32.onnx") == {"": b"not a model"}


@pytest.mark.parametrize("name", IN_PACKAGE)
def test_one_altered_file_of_a_folder_is_found(with_package, name):
    """AE-BUNDLE-004, with the file's name."""
    (with_package / PACKAGE / name).write_bytes(b"altered")
    for read in (Bundle(with_package).verify, lambda: Bundle(with_package).read_artifact(PACKAGE)):
        with pytest.raises(BundleError, match=f"AE-BUNDLE-004: {PACKAGE}/{name} "):
            read()


def test_a_folder_lacks_no_file(with_package):
    """One that the manifest lists and the disk does not have: AE-BUNDLE-002."""
    (with_package / PACKAGE / "Manifest.json").unlink()
    with pytest.raises(BundleError, match="AE-BUNDLE-002"):
        Bundle(with_package).read_artifact(PACKAGE)


def identity(contents, path="p"):
    """The hash of an artifact with these files."""
    files = hashes({f"{path}/{name}" if name else path: content for name, content in contents.items()})
    return parse_manifest(files=files, artifacts=[artifact_dict(path=path)]).sha256_of(path)


def test_the_hash_of_a_folder_is_that_of_its_content():
    """Whatever the order and the place.

    Another name, other bytes, swapped bytes and one file more each give another.
    """
    whole = identity(IN_PACKAGE)
    assert (
        identity(dict(reversed(IN_PACKAGE.items()))) == identity(IN_PACKAGE, "elsewhere/q.mlpackage") == whole
    )
    names, contents = list(IN_PACKAGE), list(IN_PACKAGE.values())
    others = [
        {"Renamed.json": contents[0], names[1]: contents[1]},
        {names[0]: b"[]", names[1]: contents[1]},
        dict(zip(names, reversed(contents), strict=True)),
        {**IN_PACKAGE, "more": b""},
        {names[0]: contents[0]},
    ]
    assert len({whole, *map(identity, others)}) == 1 + len(others)


def test_the_hash_of_a_file_is_its_own():
    """What the provenance stamp says can be checked with sha256sum."""
    assert identity({"": b"not a model"}) == hashes(MODEL)["onnx/fp32.onnx"]


def test_absent_paths_and_other_files_are_refused(tmp_path):
    """AE-BUNDLE-001 for nothing, AE-BUNDLE-002 for what is no bundle."""
    with pytest.raises(BundleError, match="AE-BUNDLE-001"):
        Bundle(tmp_path / ("a" * 300))
    with pytest.raises(BundleError, match=r"AE-BUNDLE-002: \. is not a complete bundle"):
        Bundle(Path())
    with pytest.raises(BundleError, match="AE-BUNDLE-001: the path of the bundle is an empty text"):
        open_bundle("")
    with pytest.raises(BundleError, match="AE-BUNDLE-011: .* the name 'slow', expected fast or standard"):
        open_bundle(tier="slow")
    with pytest.raises(BundleError, match="AE-BUNDLE-001"):
        open_bundle(tmp_path / "none.edge")
    (tmp_path / "empty.edge").mkdir()
    (tmp_path / "text.edge").write_text("hello")
    for name in ("empty.edge", "text.edge"):
        with pytest.raises(BundleError, match="AE-BUNDLE-002"):
            Bundle(tmp_path / name)


def test_a_zip_of_the_folder_and_a_file_of_a_bundle_are_refused_with_what_to_give(bundle_folder, tmp_path):
    """As a file manager makes it, and as a person may choose it."""
    folder = shutil.make_archive(str(tmp_path / "folder"), "zip", tmp_path, bundle_folder.name)
    with pytest.raises(BundleError, match="AE-BUNDLE-002.*zip the content of the folder, not the folder"):
        open_bundle(folder)
    for name in ("manifest.json", "onnx/fp32.onnx"):
        with pytest.raises(BundleError, match=r"AE-BUNDLE-002.*Give the folder that holds manifest\.json"):
            Bundle(bundle_folder / name)


def contract(**changes):
    return {**manifest_dict()["input"], **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": SCHEMA_VERSION - 1},
        {"schema_version": SCHEMA_VERSION + 1},
        {"extra": 1},
        {"input": contract(spacing_mm=[0, 3, 3])},
        {"input": contract(window_hu=[275, -125])},
        {"input": contract(overlap=1.0)},
        {"input": contract(patch=[16, 16])},
        {"input": contract(modality="MR")},
        {"input": contract(colour="red")},
        {"input": contract(rows_beyond_ends=-1)},
        {"input": contract(rows_beyond_ends=65)},
        {"postprocess": {"one_part": []}},
        {"postprocess": {"one_part": [], "decision_weights": {"spleen": 1e9}}},
        {"postprocess": {"one_part": [], "decision_weights": {"liver": 2.0}}},
        {"plausibility": {"confidence": 0.5}},
        {"input": None},
        {"labels": [{"value": 1}]},
        {"labels": "liver"},
        {"files": {}},
        {"artifacts": [{"target": "onnx"}]},
        {"artifacts": [artifact_dict(proof="guessed")]},
        {"artifacts": [artifact_dict(proof=None)]},
        {"artifacts": [artifact_dict(path="onnx")], "files": {"onnx2/fp32.onnx": "0" * 64}},
    ],
)
def test_a_manifest_that_breaks_the_schema_is_refused(changes):
    """Unknown keys, missing keys, other types and impossible numbers: AE-BUNDLE-003."""
    with pytest.raises(BundleError, match="AE-BUNDLE-003"):
        parse_manifest(**changes)


@pytest.mark.parametrize(
    ("version", "remedy"), [(2, r"student\.safetensors"), (4, "Install a newer autosam-edge")]
)
def test_a_bundle_of_another_schema_is_refused_with_what_reads_it(version, remedy):
    """An older one is exported again, for a newer one the runtime is too old; nothing is guessed."""
    with pytest.raises(BundleError, match=rf"schema version {version}, this runtime reads 3\..*{remedy}"):
        parse_manifest(schema_version=version)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 200_000])
def test_a_manifest_that_is_not_an_object_is_refused(text):
    """AE-BUNDLE-003, never a bare JSON error."""
    with pytest.raises(BundleError, match="AE-BUNDLE-003"):
        Manifest.parse(text)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "..\\b", "a//etc/passwd", "a/./b", "C:b"]
)
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


def test_a_zip_that_was_moved_while_it_was_open_is_no_complete_bundle(bundle_folder, tmp_path):
    """AE-BUNDLE-002 where a member that may be absent is looked for."""
    archive = zipped(bundle_folder, tmp_path / "z.edge")
    bundle = Bundle(archive)
    archive.rename(tmp_path / "elsewhere.edge")
    with pytest.raises(BundleError, match="AE-BUNDLE-002"):
        bundle._holds(STUDENT_FILE)
