"""Ed25519 signatures (RFC 8032) of a bundle's manifest, which holds the hashes of all other files.

Needs the extra ``[sign]``. The signature is the 64 bytes that OpenSSL writes and checks as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from autosam_edge.error_codes import EXTRA_MISSING, KEY_INVALID, SIGNATURE_INVALID

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
except ModuleNotFoundError as error:
    raise EXTRA_MISSING(
        "a signature needs cryptography, which is not installed.", remedy="pip install 'autosam-edge[sign]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MAX_KEY_BYTES = 16_384


def sign(manifest: bytes, key: Path) -> bytes:
    """Sign a manifest.

    Args:
        manifest: Bytes of ``manifest.json``.
        key: PEM file of an Ed25519 private key without a password.

    Returns:
        The signature, 64 bytes.

    Raises:
        BundleError: The file holds no such key (AE-BUNDLE-009).
    """
    private = _loaded(key, partial(load_pem_private_key, password=None))
    if not isinstance(private, Ed25519PrivateKey):
        raise _no_key(key, "private")
    return private.sign(manifest)


def require_signed(manifest: bytes, signature: bytes | None, key: Path) -> None:
    """Refuse a manifest that the owner of a key did not sign.

    Args:
        manifest: Bytes of ``manifest.json``.
        signature: Its signature; None if there is none.
        key: PEM file of an Ed25519 public key.

    Raises:
        BundleError: The file holds no such key (AE-BUNDLE-009), or the signature is missing or of another
            manifest or key (AE-BUNDLE-008).
    """
    public = _loaded(key, load_pem_public_key)
    if not isinstance(public, Ed25519PublicKey):
        raise _no_key(key, "public")
    if signature is None:
        raise SIGNATURE_INVALID("the bundle is not signed.")
    try:
        public.verify(signature, manifest)
    except InvalidSignature as error:
        raise SIGNATURE_INVALID(
            f"the bundle's signature does not fit its manifest and {key.name}."
        ) from error


def _loaded(key: Path, load: Callable[[bytes], object]) -> object:
    """What a PEM file holds; None if it is no key, or one that needs a password."""
    try:
        with key.open("rb") as file:
            return load(file.read(_MAX_KEY_BYTES))
    except OSError as error:
        raise KEY_INVALID(f"{key.name} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        return None


def _no_key(key: Path, kind: str) -> Exception:
    return KEY_INVALID(f"{key.name} holds no Ed25519 {kind} key in PEM without a password.")
