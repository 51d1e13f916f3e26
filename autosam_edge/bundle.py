"""The model bundle: a folder or a zip (``*.edge``) that describes itself. The runtime loads nothing else.

::

    manifest.json    schema version, input contract, labels, artifacts, SHA-256 of every file that is read
    onnx/fp32.onnx   artifacts, one per target and precision; two targets may share a file, and an artifact
                     of Core ML is a folder
    golden/          a small scan, a tile of it, and the expected result of each step
    parity.json      difference of each artifact from the trained student
    MODEL_CARD.md    training data, accuracy and known failures

Nothing is extracted and nothing is unpickled: files are read into memory and compared with the manifest's
SHA-256 before use.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from autosam_edge.error_codes import BUNDLE_ALTERED, BUNDLE_INCOMPLETE, BUNDLE_MISSING, MANIFEST_INVALID
from autosam_edge.model import InputContract, Model
from autosam_edge.platform import LZMAError
from autosam_edge.plausibility.thresholds import Thresholds
from autosam_edge.strict_json import build, parse_json
from autosam_edge.volume import Label

SCHEMA_VERSION = 3  # 3: what the network sees beyond the ends of a scan, and decision weights
MANIFEST = "manifest.json"
STUDENT_FILE = "student.safetensors"
"""Trained weights, from which an export starts; no engine reads them."""
MAX_FILE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Postprocess:
    """Changes to the labels after the network.

    Args:
        one_part: Names of the organs that are one connected object in the body. Of several parts, the one of
            which the network is most certain is kept.
        decision_weights: Factor of an organ's probability before the largest is taken, by the organ's name; 1
            for an organ that is not named.
    """

    one_part: tuple[str, ...]
    decision_weights: dict[str, float]


@dataclass(frozen=True)
class Artifact:
    """One converted form of the student.

    Args:
        target: Runtime that runs it, such as ``onnx`` or ``coreml``.
        precision: Number format, such as ``fp32`` or ``int8``.
        path: Path of the file or folder inside the bundle.
        proof: Kind of comparison with the student at export: ``executed`` by its runtime, or
            ``interpreted`` operator by operator where the runtime was missing.
        worst_organ_dice: Smallest Dice of an organ against the trained student on the comparison scans, 0 to
            1.
        working_set_mb: Memory of the engine with the weights and one tile, measured at export, MB; None if
            the artifact was not executed.
        relative_time: Time of a tile divided by that of the first executed artifact of the bundle, measured
            in one run at export; None if the artifact was not executed.
    """

    target: str
    precision: str
    path: str
    proof: Literal["executed", "interpreted"]
    worst_organ_dice: float
    working_set_mb: float | None
    relative_time: float | None

    @property
    def name(self) -> str:
        """``target/precision``."""
        return f"{self.target}/{self.precision}"


@dataclass(frozen=True)
class Manifest:
    """The parsed ``manifest.json``.

    Args:
        schema_version: Version of the layout, see ``SCHEMA_VERSION``.
        name: Model name, such as ``pocketnet-btcv-3mm``.
        version: Model version.
        license: License of the weights.
        intended_use: Research-use statement.
        training_data: One sentence on the data that the weights were trained on.
        input: Input contract of the network.
        postprocess: Changes to the labels after the network.
        plausibility: Limits of the plausibility check with the numbers behind them; None checks nothing.
        labels: Label table.
        artifacts: Converted forms of the student.
        files: SHA-256 of every file that is read, by its path; without the manifest itself. Other files of
            the bundle, such as ``*.etrecord`` for developers, are never read.
        provenance: Student, hash of the checkpoint, exporter and versions of its packages.
    """

    schema_version: int
    name: str
    version: str
    license: str
    intended_use: str
    training_data: str
    input: InputContract
    postprocess: Postprocess
    plausibility: Thresholds | None
    labels: tuple[Label, ...]
    artifacts: tuple[Artifact, ...]
    files: dict[str, str]
    provenance: dict[str, object]

    def files_of(self, path: str) -> dict[str, str]:
        """SHA-256 of an artifact's file, named ``""``, or of a folder's files by their path."""
        if path in self.files:
            return {"": self.files[path]}
        return {
            name.removeprefix(f"{path}/"): digest
            for name, digest in self.files.items()
            if name.startswith(f"{path}/")
        }

    def sha256_of(self, path: str) -> str:
        """One SHA-256 for an artifact: that of its file, or of the list of a folder's files and hashes."""
        files = self.files_of(path)
        listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
        return files.get("") or hashlib.sha256(listed.encode()).hexdigest()

    def model(self, sha256: str) -> Model:
        """The model that this manifest describes.

        Args:
            sha256: SHA-256 of the manifest, hexadecimal.

        Raises:
            ValueError: See :class:`~autosam_edge.model.Model`.
        """
        rules = self.postprocess
        return Model(
            self.input,
            self.labels,
            rules.one_part,
            self.name,
            self.version,
            self.license,
            sha256,
            rules.decision_weights,
            self.plausibility,
        )

    @classmethod
    def parse(cls, text: bytes) -> Manifest:
        """Read and check a manifest; unknown and missing keys are refused.

        Raises:
            BundleError: AE-BUNDLE-003 with the key at fault.
        """
        try:
            raw = parse_json(text)
            version = raw.get("schema_version") if isinstance(raw, dict) else None
            if isinstance(version, int) and 0 < version < SCHEMA_VERSION:
                raise MANIFEST_INVALID(
                    f"the bundle has the schema version {version}, this runtime reads {SCHEMA_VERSION}.",
                    remedy="Export it again: autosam-edge export --checkpoint BUNDLE/student.safetensors.",
                )
            if version != SCHEMA_VERSION:
                raise ValueError(f"schema_version is {version!r}, this runtime reads {SCHEMA_VERSION}")
            manifest = build(cls, raw, "manifest")
            if outside := [name for name in manifest.files if not _inside(name)]:
                raise ValueError(f"files names {outside[0]!r}, which is no plain path inside the bundle")
            # A model refuses labels and one-part rules that do not fit each other.
            manifest.model(hashlib.sha256(text).hexdigest())
            for artifact in manifest.artifacts:
                if not manifest.files_of(artifact.path):
                    raise ValueError(f"artifact {artifact.path} has no hash in files")
            return manifest
        except ValueError as error:
            raise MANIFEST_INVALID(f"manifest.json is not valid: {error}.") from error


def _inside(name: str) -> bool:
    """Whether a path of a manifest stays inside the bundle on every system."""
    path = PurePosixPath(name)
    return (
        path.as_posix() == name
        and not path.is_absolute()
        and ".." not in path.parts
        and not set(name) & set("\\:")
    )


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
        if not path.exists():
            raise BUNDLE_MISSING(f"there is no bundle named {path.name}, expected a folder or a .edge file.")
        text = self._raw(MANIFEST)
        self.manifest_text = text
        self.manifest = Manifest.parse(text)
        # The manifest holds the hashes of all other files, so its own hash identifies the model.
        self.manifest_sha256 = hashlib.sha256(text).hexdigest()

    @property
    def model(self) -> Model:
        """The model that this bundle holds."""
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
            raise BUNDLE_ALTERED(f"{name} was altered or damaged: its SHA-256 differs from the manifest.")
        return data

    def read_artifact(self, path: str) -> dict[str, bytes]:
        """An artifact as :func:`read_files` gives it, verified.

        Raises:
            BundleError: See :meth:`read`.
        """
        return {name: self.read(f"{path}/{name}" if name else path) for name in self.manifest.files_of(path)}

    def verify(self) -> None:
        """Read every file once and compare hashes.

        The student's weights may be absent: only an export reads them, and the wheel leaves them out.

        Raises:
            BundleError: See :meth:`read`.
        """
        for name in self.manifest.files:
            if name != STUDENT_FILE or self._holds(name):
                self.read(name)

    def _holds(self, name: str) -> bool:
        if self.path.is_dir():
            return (self.path / name).exists()
        with zipfile.ZipFile(self.path) as archive:
            return name in archive.namelist()

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
            LZMAError,
            zlib.error,
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise BUNDLE_INCOMPLETE(
                f"{self.path.name} is not a complete bundle: {name} cannot be read ({type(error).__name__})."
            ) from error


def default_bundle_path() -> Path:
    """Path of the bundle of the package."""
    return Path(__file__).parent / "bundles" / "default.edge"


def open_bundle(path: str | Path | None = None) -> Bundle:
    """Open a bundle.

    Args:
        path: Folder or ``.edge`` zip; None opens the bundle of the package.

    Raises:
        BundleError: See :class:`Bundle`.
    """
    return Bundle(default_bundle_path() if path is None else Path(path))
