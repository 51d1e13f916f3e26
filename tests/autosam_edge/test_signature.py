"""A bundle is signed with a private key, and used only if it is signed where a public key asks for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile

import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import run_command, write_bundle, zipped

from autosam_edge.bundle import SIGNATURE, Bundle, open_bundle
from autosam_edge.error_codes import KEY_INVALID, SIGNATURE_INVALID
from autosam_edge.errors import BundleError, MissingExtraError
from autosam_edge.session import open_session

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

AREA = "Model bundles"


def write_keys(folder, name, private, password=None):
    """A pair of keys as OpenSSL writes it."""
    closed = pem.BestAvailableEncryption(password) if password else pem.NoEncryption()
    private_pem = private.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, closed)
    public_pem = private.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pem").write_bytes(private_pem)
    (folder / f"{name}.pub.pem").write_bytes(public_pem)


@pytest.fixture
def keys(tmp_path):
    """Ours, another's, one with a password, one of another kind, and a file without a key."""
    folder = tmp_path / "keys"
    folder.mkdir()
    write_keys(folder, "ours", Ed25519PrivateKey.generate())
    write_keys(folder, "other", Ed25519PrivateKey.generate())
    write_keys(folder, "closed", Ed25519PrivateKey.generate(), b"password")
    write_keys(folder, "curve", generate_private_key(SECP256R1()))
    (folder / "text.pem").write_text("no key")
    return folder


@pytest.fixture(params=["folder", "zip"])
def path(request, tmp_path):
    folder = write_bundle(tmp_path / "b.edge")
    return folder if request.param == "folder" else zipped(folder, tmp_path / "z.edge")


def test_a_signed_bundle_opens_with_the_public_key(path, keys):
    """A second signature takes the place of the first; the content and its identity stay."""
    before = Bundle(path).manifest_sha256
    Bundle(path).sign(keys / "other.pem")
    Bundle(path).sign(keys / "ours.pem")
    bundle = open_bundle(path, require_signature=keys / "ours.pub.pem")
    bundle.verify()
    assert bundle.manifest_sha256 == before
    with pytest.raises(BundleError, match="AE-BUNDLE-008"):
        open_bundle(path, require_signature=keys / "other.pub.pem")


def alter(path, name, content):
    """Replace a file of a bundle."""
    if path.is_dir():
        (path / name).write_bytes(content)
        return
    with zipfile.ZipFile(path) as archive:
        files = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in {**files, name: content}.items():
            archive.writestr(member, data)


def test_a_link_to_a_bundle_stays_a_link(path, keys):
    """The bundle behind it is signed."""
    link = path.with_name("link.edge")
    link.symlink_to(path)
    Bundle(link).sign(keys / "ours.pem")
    assert link.is_symlink()
    open_bundle(path, require_signature=keys / "ours.pub.pem")


@hazard(AREA, "a signature is asked for, and the bundle has none or another's", SIGNATURE_INVALID)
@pytest.mark.parametrize("signature", [None, b"", bytes(64), b"\xff" * 64])
def test_a_bundle_without_a_right_signature_is_refused(path, keys, signature):
    """AE-BUNDLE-008, from every door, whatever stands in the file."""
    if signature is not None:
        alter(path, SIGNATURE, signature)
    for refused in (
        lambda: open_bundle(path, require_signature=keys / "ours.pub.pem"),
        lambda: open_session(path, require_signature=str(keys / "ours.pub.pem")),
        lambda: open_session(Bundle(path), require_signature=keys / "ours.pub.pem"),
    ):
        with pytest.raises(BundleError, match="AE-BUNDLE-008"):
            refused()


@hazard(AREA, "the manifest of a signed bundle is altered", SIGNATURE_INVALID)
def test_a_change_of_the_manifest_breaks_the_signature(path, keys):
    """One space more, which means nothing, is enough; so no hash in it can change."""
    Bundle(path).sign(keys / "ours.pem")
    text = Bundle(path)._raw("manifest.json", 1 << 20)
    alter(path, "manifest.json", text + b" ")
    with pytest.raises(BundleError, match="AE-BUNDLE-008"):
        open_bundle(path, require_signature=keys / "ours.pub.pem")


def test_a_change_of_another_file_breaks_its_hash(path, keys):
    """The signature covers the manifest, and the manifest every file; an altered bundle is not signed."""
    Bundle(path).sign(keys / "ours.pem")
    alter(path, "onnx/fp32.onnx", b"not a modem")
    bundle = open_bundle(path, require_signature=keys / "ours.pub.pem")
    for read in (bundle.verify, lambda: bundle.sign(keys / "ours.pem")):
        with pytest.raises(BundleError, match="AE-BUNDLE-004"):
            read()


@hazard(AREA, "a key is of another kind, has a password, or is none", KEY_INVALID)
@pytest.mark.parametrize("name", ["ours.pub.pem", "closed.pem", "curve.pem", "text.pem", "absent.pem"])
def test_what_is_no_private_key_does_not_sign(path, keys, name):
    """AE-BUNDLE-009, and no signature is left."""
    with pytest.raises(BundleError, match="AE-BUNDLE-009"):
        Bundle(path).sign(keys / name)
    assert not Bundle(path)._holds(SIGNATURE)


@pytest.mark.parametrize("name", ["ours.pem", "curve.pub.pem", "text.pem", "absent.pem"])
def test_what_is_no_public_key_checks_nothing(path, keys, name):
    """AE-BUNDLE-009."""
    Bundle(path).sign(keys / "ours.pem")
    with pytest.raises(BundleError, match="AE-BUNDLE-009"):
        open_bundle(path, require_signature=keys / name)


def test_without_the_extra_nothing_is_accepted(path, keys, monkeypatch):
    """AE-EXTRA-001 names the extra; a required signature is never passed over."""
    Bundle(path).sign(keys / "ours.pem")
    monkeypatch.delitem(sys.modules, "autosam_edge.signature")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(MissingExtraError, match=r"AE-EXTRA-001.*autosam-edge\[sign\]"):
        open_bundle(path, require_signature=keys / "ours.pub.pem")


def test_the_commands_sign_and_verify(tmp_path, keys):
    """Exit codes, one JSON object, and the same answer from OpenSSL."""
    folder = write_bundle(tmp_path / "b.edge")
    assert run_command("bundle", "verify", folder, "--key", keys / "ours.pub.pem").returncode == 4
    assert run_command("bundle", "sign", folder, "--key", keys / "ours.pem").returncode == 0
    found = run_command("bundle", "verify", folder, "--key", keys / "ours.pub.pem", "--json")
    assert json.loads(found.stdout) == {"model": "test-model", "model_sha256": Bundle(folder).manifest_sha256}
    if openssl := shutil.which("openssl"):
        command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(keys / "ours.pub.pem"), "-rawin"]
        files = ["-in", str(folder / "manifest.json"), "-sigfile", str(folder / SIGNATURE)]
        assert subprocess.run([*command, *files], capture_output=True, check=False).returncode == 0
