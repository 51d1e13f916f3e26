"""The model bundle: a folder or a zip (``*.edge``) that describes itself. The runtime loads nothing else.

::

    manifest.json    schema version, input contract, labels, artifacts, SHA-256 of every file that is read
    onnx/fp32.onnx   artifacts, one per target and precision; two targets may share a file, and an artifact
                     of Core ML is a folder
    golden/          a small scan, a tile of it, and the expected result of each step
    parity.json      difference of each artifact from the trained student
    manifest.json.sig  signature of the manifest; optional
    MODEL_CARD.md    training data, accuracy and known failures

Nothing is extracted and nothing is unpickled: files are read into memory and compared with the manifest's
SHA-256 before use.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from autosam_edge.error_codes import (
    BUNDLE_ALTERED,
    BUNDLE_AND_TIER,
    BUNDLE_INCOMPLETE,
    BUNDLE_MISSING,
    MANIFEST_INVALID,
    TIER_MISSING,
)
from autosam_edge.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from autosam_edge.system.atomic_files import staged_file, write_file
from autosam_edge.system.platform import LZMAError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autosam_edge.manifest import Artifact
    from autosam_edge.model import Model

Tier = Literal["fast", "standard"]
"""A bundle of the package. ``standard`` labels the organs that ``fast`` finds."""
DEFAULT_TIER: Tier = "fast"
SIGNATURE = "manifest.json.sig"
"""Ed25519 signature of the manifest; optional."""
_MAX_SIGNATURE_BYTES = 64
STUDENT_FILE = "student.safetensors"
"""Trained weights, from which an export starts; no engine reads them."""
MAX_FILE_BYTES = 2 * 1024**3
_MAX_NAME = 255  # characters of a path that an error shows
_WITHOUT_MANIFEST = {
    KeyError: "In the zip of a bundle the manifest lies at the top: zip the content of the folder, not the "
    "folder.",
    zipfile.BadZipFile: "Give the folder that holds manifest.json, or a .edge file; if this is one, get it "
    "again from its source.",
}
"""What to do where a file that was given as a bundle shows no manifest."""


def read_files(path: Path) -> dict[str, bytes]:
    """Read an artifact from the disk: a file under the name ``""``, or a folder's files by their path."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


class Bundle:
    """An opened bundle. Files are verified when they are read.

    Args:
        path: Folder or ``.edge`` zip.

    Raises:
        BundleError: Not there (AE-BUNDLE-001), not a bundle (AE-BUNDLE-002), or its manifest is not valid
            (AE-BUNDLE-003).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = path.name or "."
        if not os.path.exists(path):  # noqa: PTH110  Path.exists raises for a name that is too long
            raise BUNDLE_MISSING(
                f"there is no bundle named {path.name[:_MAX_NAME]}, expected a folder or a .edge file."
            )
        self.manifest_text = text = self._raw(MANIFEST, MAX_MANIFEST_BYTES)
        self.manifest = Manifest.parse(text)
        # The manifest holds the hashes of all other files, so its own hash identifies the model.
        self.manifest_sha256 = hashlib.sha256(text).hexdigest()

    @property
    def model(self) -> Model:
        """The model that this bundle holds."""
        return self.manifest.model(self.manifest_sha256)

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Bytes of a file in the bundle, verified.

        Args:
            name: Path of the file inside the bundle.
            max_bytes: Largest size; a larger file is refused before it is read.

        Raises:
            BundleError: The file is not listed or too large (AE-BUNDLE-002) or its hash is wrong
                (AE-BUNDLE-004).
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise BUNDLE_INCOMPLETE(f"the manifest does not list {name[:_MAX_NAME]}.")
        data = self._raw(name, max_bytes)
        if hashlib.sha256(data).hexdigest() != expected:
            raise BUNDLE_ALTERED(f"{name} was altered or damaged: its SHA-256 differs from the manifest.")
        return data

    def read_artifact(self, path: str) -> dict[str, bytes]:
        """An artifact as :func:`read_files` gives it, verified.

        Raises:
            BundleError: See :meth:`read`.
        """
        return {name: self.read(file) for name, file in self._paths_of(path).items()}

    def _paths_of(self, path: str) -> dict[str, str]:
        """Paths of an artifact's files inside the bundle, by their name in it."""
        return {name: f"{path}/{name}" if name else path for name in self.manifest.files_of(path)}

    def working_set_mb(self, artifact: Artifact) -> float:
        """Memory of the engine with the weights and one tile, MB; 0 if it was not measured at export.

        Raises:
            BundleError: The manifest names less than the weights and a tile take (AE-BUNDLE-003).
        """
        if artifact.working_set_mb is None:
            return 0.0
        stored = sum(map(self._size, self._paths_of(artifact.path).values()))
        least = stored / 1e6 + self.manifest.tile_mb
        if artifact.working_set_mb < least:
            raise MANIFEST_INVALID(
                f"the manifest says that {artifact.name} needs {artifact.working_set_mb:g} MB; "
                f"its weights and one tile alone take {least:.0f} MB."
            )
        return artifact.working_set_mb

    def verify(self) -> None:
        """Read every file once and compare hashes.

        The student's weights may be absent: only an export reads them, and the wheel leaves them out.

        Raises:
            BundleError: See :meth:`read`.
        """
        for name in self.manifest.files:
            if name != STUDENT_FILE or self._holds(name):
                self.read(name)

    def sign(self, key: Path) -> None:
        """Verify every file, and put a signature of the manifest into the bundle, in place of an older one.

        Args:
            key: PEM file of an Ed25519 private key.

        Raises:
            BundleError: See :meth:`read` and :func:`autosam_edge.signature.sign`.
            MissingExtraError: The extra ``[sign]`` is not installed (AE-EXTRA-001).
            OutputError: The bundle cannot be written.
        """
        from autosam_edge.signature import sign

        self.verify()
        signature = sign(self.manifest_text, key)
        if self.path.is_dir():
            write_file(signature, self.path / SIGNATURE)
            return
        with (
            staged_file(self.path.resolve()) as made,
            zipfile.ZipFile(self.path) as old,
            zipfile.ZipFile(made, "w") as new,
        ):
            for member in old.infolist():
                if member.filename != SIGNATURE:
                    new.writestr(member, old.read(member))
            new.writestr(SIGNATURE, signature)

    def require_signature(self, key: Path) -> None:
        """Refuse the bundle unless the owner of a key signed its manifest.

        Args:
            key: PEM file of an Ed25519 public key.

        Raises:
            BundleError: See :func:`autosam_edge.signature.require_signed`.
            MissingExtraError: The extra ``[sign]`` is not installed (AE-EXTRA-001).
        """
        from autosam_edge.signature import require_signed

        signature = self._raw(SIGNATURE, _MAX_SIGNATURE_BYTES) if self._holds(SIGNATURE) else None
        require_signed(self.manifest_text, signature, key)

    def _holds(self, name: str) -> bool:
        if self.path.is_dir():
            return (self.path / name).exists()
        with self._complete(name), zipfile.ZipFile(self.path) as archive:
            return name in archive.namelist()

    def _raw(self, name: str, max_bytes: int) -> bytes:
        """Bytes of a member, unverified."""
        if (size := self._size(name)) > max_bytes:
            raise BUNDLE_INCOMPLETE(
                f"{name} in {self._name} has {size} bytes, more than the {max_bytes} allowed."
            )
        with self._complete(name):
            if self.path.is_dir():
                return (self.path / name).read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(name)  # at most the size that it states

    def _size(self, name: str) -> int:
        """Size of a member as it is stored or stated, bytes."""
        with self._complete(name):
            if not self.path.is_dir():
                with zipfile.ZipFile(self.path) as archive:
                    return archive.getinfo(name).file_size
            file = self.path / name
            if not file.resolve().is_relative_to(self.path.resolve()) or not file.is_file():
                raise FileNotFoundError(name)
            return file.stat().st_size

    @contextmanager
    def _complete(self, name: str) -> Iterator[None]:
        """Turn every error of reading a member into the bundle's."""
        try:
            yield
        except (
            OSError,
            KeyError,
            EOFError,
            UnicodeDecodeError,
            LZMAError,
            zlib.error,
            zipfile.BadZipFile,
            RuntimeError,
        ) as error:
            raise BUNDLE_INCOMPLETE(
                f"{self._name} is not a complete bundle: {name} cannot be read ({type(error).__name__}).",
                remedy=_WITHOUT_MANIFEST.get(type(error)) if name == MANIFEST else None,
            ) from error


def bundles_of_package() -> dict[Tier, Path]:
    """Paths of the bundles that this installation holds, by tier."""
    folder = Path(__file__).parent / "bundles"
    paths: dict[Tier, Path] = {tier: folder / f"{tier}.edge" for tier in get_args(Tier)}
    return {tier: path for tier, path in paths.items() if path.exists()}


def default_bundle_path() -> Path:
    """Path of the bundle of the package that runs where none is named."""
    return bundles_of_package()[DEFAULT_TIER]


def open_bundles(
    bundle: str | Path | Bundle | None = None, tier: Tier | None = None
) -> tuple[Bundle, Bundle | None]:
    """Open the bundle of a run, and the one that finds the organs before it.

    Args:
        bundle: Folder, ``.edge`` zip or opened bundle; None opens a bundle of the package.
        tier: Tier of the package; None opens ``fast``.

    Returns:
        The bundle, and the coarse one; None where the first runs alone.

    Raises:
        BundleError: See :class:`Bundle`; a bundle and a tier were given (AE-BUNDLE-010), or this installation
            does not hold the tier (AE-BUNDLE-011).
    """
    if bundle is not None:
        if tier is not None:
            raise BUNDLE_AND_TIER(f"a bundle and the tier {tier} were given, expected one of them.")
        if bundle == "":
            raise BUNDLE_MISSING(
                "the path of the bundle is an empty text.",
                remedy="Name a folder or a .edge file; the working directory is `.`.",
            )
        return bundle if isinstance(bundle, Bundle) else Bundle(Path(bundle)), None
    held = bundles_of_package()
    wanted = DEFAULT_TIER if tier is None else tier
    if wanted not in get_args(Tier):
        raise TIER_MISSING(
            f"no tier has the name {wanted!r}, expected {' or '.join(get_args(Tier))}.",
            remedy="Give one of these names as `tier`, or leave `tier` out.",
        )
    if wanted not in held:
        raise TIER_MISSING(
            f"this installation holds no model of the tier {wanted}, it holds {', '.join(held) or 'none'}."
        )
    coarse = held.get("fast") if wanted == "standard" else None
    return Bundle(held[wanted]), Bundle(coarse) if coarse else None


def open_bundle(
    path: str | Path | None = None, *, tier: Tier | None = None, require_signature: str | Path | None = None
) -> Bundle:
    """Open a bundle.

    Args:
        path: Folder or ``.edge`` zip; None opens a bundle of the package.
        tier: Tier of the package, ``fast`` or ``standard``; None opens ``fast``.
        require_signature: PEM file of an Ed25519 public key whose owner must have signed the bundle; None
            asks for no signature.

    Raises:
        BundleError: See :func:`open_bundles` and :meth:`Bundle.require_signature`.
        MissingExtraError: A signature is required, and the extra ``[sign]`` is not installed (AE-EXTRA-001).
    """
    bundle, _ = open_bundles(path, tier)
    if require_signature is not None:
        bundle.require_signature(Path(require_signature))
    return bundle
