"""One scan of a batch, as data that can be sent to another process or computer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from autosam_edge.bundle import open_bundles
from autosam_edge.error_codes import INTERNAL_ERROR, OUT_OF_MEMORY
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.read_choices import ReadChoices

if TYPE_CHECKING:
    from pathlib import Path

    from autosam_edge.bundle import Tier
    from autosam_edge.output_formats import Format


@dataclass(frozen=True)
class Fault:
    """An error that was met, as data.

    Args:
        code: Code, such as ``AE-DICOM-005``.
        message: What was found and what was expected.
        remedy: What a person can do.
    """

    code: str
    message: str
    remedy: str

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """The error as data; of a foreign one only its type, as its message may quote a patient."""
        if isinstance(error, AutosamEdgeError):
            return cls(error.code, error.message, error.remedy)
        if isinstance(error, MemoryError):
            return cls.of(OUT_OF_MEMORY("the device ran out of memory."))
        return cls.of(INTERNAL_ERROR(f"unexpected {type(error).__name__}."))


@dataclass(frozen=True)
class Job:
    """One scan to segment.

    Args:
        id: First 16 letters of the SHA-256 of the SeriesInstanceUID, or of the path of a file that is a scan
            by itself, in a service of where it lay first. The same scan has the same id in every run.
        files: Paths of the files of a DICOM series, or of the one file. Never printed.
        dicom: Whether the files are those of a DICOM series.
        newest_s: Time of the last change of a file, seconds since 1970.
        stamp: Hash of the names, sizes and times of the files: another stamp means another content.
        fault: Error of a file that may belong to this scan, so that it cannot be segmented.
        short: Whether it is a series of fewer than three slices, which is no scan.
    """

    id: str
    files: tuple[str, ...]
    dicom: bool
    newest_s: float
    stamp: str
    fault: Fault | None = None
    short: bool = False


@dataclass(frozen=True)
class Settings:
    """What all scans of a batch share.

    Args:
        bundle: Path of the model bundle; None is a bundle of the package.
        tier: Tier of the package; None is ``fast``.
        engine: Inference engine; None is the best one.
        precision: Number format of the artifact; None is the best one.
        threads: Number of threads of one worker; None is every core.
        max_memory_mb: Memory limit of one worker, MB; None sets no limit.
        formats: Formats to write besides the statistics; None for the default ones.
        choices: Decisions of a person about doubtful scans.
        accept_implausible: Whether implausible labels are written, with a warning.
        pseudonymize: Whether the DICOM results hold a pseudonym in place of the patient.
    """

    bundle: Path | None = None
    tier: Tier | None = None
    engine: str | None = None
    precision: str | None = None
    threads: int | None = None
    max_memory_mb: float | None = None
    formats: tuple[Format, ...] | None = None
    choices: ReadChoices = field(default_factory=ReadChoices)
    accept_implausible: bool = False
    pseudonymize: bool = False

    def of_results(self) -> dict[str, object]:
        """What decides the bytes of the results, as JSON types; a bundle counts by its content.

        Raises:
            BundleError: A bundle cannot be opened, see :func:`autosam_edge.bundle.open_bundles`.
        """
        rest = asdict(self)
        for key in ("bundle", "threads", "max_memory_mb", "tier"):
            del rest[key]
        bundle, coarse = open_bundles(self.bundle, self.tier)
        return {
            "model_sha256": bundle.manifest_sha256,
            "coarse_sha256": coarse and coarse.manifest_sha256,
            **rest,
            "formats": self.formats and sorted(set(self.formats)),
        }
