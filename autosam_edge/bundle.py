"""The model bundle: a folder or a zip (``*.edge``) that says what it is, and the only thing the runtime loads.

::

    manifest.json      schema version, input contract, label table, artifacts, hashes of every file that is
    used onnx/fp32.onnx     artifacts, one per target and precision; two targets may share a file, and Core
    ML's are folders golden/            a small scan, a tile of it, and what must come out at each step
    parity.json        how close each artifact is to the trained student
    MODEL_CARD.md      what it was trained on, how well it does, where it fails

Nothing is extracted and nothing is unpickled: files are read into memory and compared with the manifest's
SHA-256 before use.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from autosam_edge.error_codes import BUNDLE_ALTERED, BUNDLE_INCOMPLETE, BUNDLE_MISSING, MANIFEST_INVALID
from autosam_edge.model import InputContract, Model
from autosam_edge.volume import Label

SCHEMA_VERSION = 2  # 2: how an artifact was proven, and artifacts that are folders
MANIFEST = "manifest.json"
MAX_FILE_BYTES = 2 * 1024**3
_REPLACE = "Get the bundle again from where it came, or export it anew."
_T = TypeVar("_T")


@dataclass(frozen=True)
class Postprocess:
    """What happens to the labels after the network.

    Args:
        one_part: Names of the organs that are one object in the body: of several parts the surest is kept.
    """

    one_part: tuple[str, ...]


@dataclass(frozen=True)
class Artifact:
    """One converted form of the student.

    Args:
        target: The runtime it is for, such as ``onnx`` or ``coreml``.
        precision: Number format, such as ``fp32`` or ``int8``.
        path: Inside the bundle; of a file or of a folder.
        proof: How it was compared at export: ``executed`` by its runtime, or ``interpreted`` where there was
            none.
        worst_organ_dice: Against the trained student on the comparison scans, measured at export.
        working_set_mb: Memory that the engine takes, weights and one tile, measured at export, MB; None if it
            was not executed.
        relative_time: Time of a tile as a share of the bundle's first executed artifact's, in one run at
            export; None likewise.
    """

    target: str
    precision: str
    path: str
    proof: str
    worst_organ_dice: float
    working_set_mb: float | None
    relative_time: float | None

    def __post_init__(self) -> None:
        if self.proof not in ("executed", "interpreted"):
            raise ValueError(
                f"artifacts.proof is {self.proof!r}, this runtime knows 'executed' and 'interpreted'"
            )

    @property
    def name(self) -> str:
        """``target/precision``."""
        return f"{self.target}/{self.precision}"


@dataclass(frozen=True)
class Manifest:
    """The parsed ``manifest.json``.

    Args:
        schema_version: Of this layout.
        name: Model name, such as ``pocketnet-btcv-3mm``.
        version: Model version.
        license: Of the weights.
        intended_use: The research-use statement.
        training_data: What the weights were trained on.
        input: The input contract.
        postprocess: What happens to the labels.
        labels: The label table.
        artifacts: Converted forms.
        files: SHA-256 of every file that is used, but the manifest; what is not listed (``*.etrecord``, for
            developers) is never read.
        provenance: Student, checkpoint hash, exporter and its versions.
    """

    schema_version: int
    name: str
    version: str
    license: str
    intended_use: str
    training_data: str
    input: InputContract
    postprocess: Postprocess
    labels: tuple[Label, ...]
    artifacts: tuple[Artifact, ...]
    files: dict[str, str]
    provenance: dict[str, Any]

    def files_of(self, path: str) -> dict[str, str]:
        """SHA-256 of an artifact's file, under the name ``""``, or of a folder's files by their path in it."""
        if path in self.files:
            return {"": self.files[path]}
        return {
            name.removeprefix(f"{path}/"): digest
            for name, digest in self.files.items()
            if name.startswith(f"{path}/")
        }

    def sha256_of(self, path: str) -> str:
        """One hash for an artifact: its file's, or that of the list of a folder's files and their hashes."""
        files = self.files_of(path)
        listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
        return files.get("") or hashlib.sha256(listed.encode()).hexdigest()

    def model(self, sha256: str) -> Model:
        """What a session needs of this manifest.

        Args:
            sha256: Hash of the manifest, hexadecimal.

        Raises:
            ValueError: See :class:`~autosam_edge.model.Model`.
        """
        return Model(
            self.input, self.labels, self.postprocess.one_part, self.name, self.version, self.license, sha256
        )

    @classmethod
    def parse(cls, text: bytes) -> Manifest:
        """Read and check a manifest; unknown and missing keys are refused.

        Raises:
            BundleError: AE-BUNDLE-003 with the key at fault.
        """
        try:
            raw = json.loads(text)
            if not isinstance(raw, dict) or raw.get("schema_version") != SCHEMA_VERSION:
                found = raw.get("schema_version") if isinstance(raw, dict) else None
                raise ValueError(f"schema_version is {found!r}, this runtime reads {SCHEMA_VERSION}")
            raw["input"] = _strict(InputContract, raw.get("input"), "input")
            raw["postprocess"] = _strict(Postprocess, raw.get("postprocess"), "postprocess")
            raw["labels"] = tuple(_strict(Label, entry, "labels") for entry in raw.get("labels", ()))
            raw["artifacts"] = tuple(
                _strict(Artifact, entry, "artifacts") for entry in raw.get("artifacts", ())
            )
            manifest = _strict(cls, raw, "manifest")
            if outside := [name for name in manifest.files if not _inside(name)]:
                raise ValueError(f"files names {outside[0]!r}, which is no plain path inside the bundle")
            manifest.model(
                hashlib.sha256(text).hexdigest()
            )  # refuses labels and one-part rules that do not fit
            for artifact in manifest.artifacts:
                if not manifest.files_of(artifact.path):
                    raise ValueError(f"artifact {artifact.path} has no hash in files")
            return manifest
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise MANIFEST_INVALID(f"manifest.json is not valid: {error}.", remedy=_REPLACE) from error


def _inside(name: str) -> bool:
    """Whether a name from a manifest stays inside the bundle, in the one way to write it, on every system."""
    path = PurePosixPath(name)
    return (
        path.as_posix() == name
        and not path.is_absolute()
        and ".." not in path.parts
        and not set(name) & set("\\:")
    )


def read_files(path: Path) -> dict[str, bytes]:
    """An artifact on the disk: a file under the name ``""``, or a folder's files by their path in it."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def _strict(kind: type[_T], raw: Any, where: str) -> _T:  # noqa: ANN401  JSON is untyped
    """Build a dataclass from a JSON object that has exactly its fields; lists become tuples."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is missing or not an object")
    expected = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(raw) - expected):
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}")
    if missing := sorted(expected - set(raw)):
        raise ValueError(f"{where} lacks the key {missing[0]!r}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()})


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
        if not path.exists():
            raise BUNDLE_MISSING(f"there is no bundle named {path.name}.")
        text = self._raw(MANIFEST)
        self.manifest = Manifest.parse(text)
        self.manifest_sha256 = hashlib.sha256(
            text
        ).hexdigest()  # of everything, as it holds the hash of the rest: the model's identity

    @property
    def model(self) -> Model:
        """What a session needs of this bundle."""
        return self.manifest.model(self.manifest_sha256)

    def read(self, name: str) -> bytes:
        """Bytes of a file in the bundle, verified.

        Raises:
            BundleError: The file is not listed (AE-BUNDLE-002) or its hash is wrong (AE-BUNDLE-004).
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise BUNDLE_INCOMPLETE(f"the manifest does not list {name}.")
        data = self._raw(name)
        if hashlib.sha256(data).hexdigest() != expected:
            raise BUNDLE_ALTERED(f"{name} was altered or damaged: its SHA-256 is not the manifest's.")
        return data

    def read_artifact(self, path: str) -> dict[str, bytes]:
        """An artifact as :func:`read_files` gives it, verified.

        Raises:
            BundleError: See :meth:`read`.
        """
        return {name: self.read(f"{path}/{name}" if name else path) for name in self.manifest.files_of(path)}

    def verify(self) -> None:
        """Read every file once and compare hashes.

        Raises:
            BundleError: See :meth:`read`.
        """
        for name in self.manifest.files:
            self.read(name)

    def _raw(self, name: str) -> bytes:
        """Bytes of a member, unverified."""
        try:
            if self.path.is_dir():
                file = self.path / name
                if not file.resolve().is_relative_to(self.path.resolve()) or not file.is_file():
                    raise FileNotFoundError(name)
                return file.read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                if archive.getinfo(name).file_size > MAX_FILE_BYTES:
                    raise zipfile.BadZipFile("a member is too large")
                return archive.read(name)
        except (
            OSError,
            KeyError,
            EOFError,
            UnicodeDecodeError,
            lzma.LZMAError,
            zlib.error,
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise BUNDLE_INCOMPLETE(
                f"{self.path.name} is not a complete bundle: {name} cannot be read ({type(error).__name__})."
            ) from error


def default_bundle_path() -> Path:
    """The bundle that travels with the package."""
    return Path(__file__).parent / "bundles" / "default.edge"


def open_bundle(path: str | Path | None = None) -> Bundle:
    """Open a bundle, or the one that travels with the package.

    Raises:
        BundleError: See :class:`Bundle`.
    """
    return Bundle(default_bundle_path() if path is None else Path(path))
