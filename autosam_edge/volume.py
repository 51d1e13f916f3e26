"""A CT volume and a segmentation of it: values on a grid, with where they came from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from autosam_edge.error_codes import VOLUME_NOT_FINITE
from autosam_edge.geometry import Grid, Shape, restore_read_only
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.verdict import Plausibility, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis or treatment."


_Scalar = TypeVar("_Scalar", bound=np.generic)


def read_only(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """A view that cannot be written through; the caller's array stays as it is."""
    view = array.view()
    view.setflags(write=False)
    return view


@dataclass(frozen=True)
class Source:
    """Origin of a volume, without patient data.

    Args:
        kind: ``dicom``, ``nifti``, ``nrrd``, ``metaimage`` or ``array``.
        series_hash: SHA-256 of the series UID for DICOM, of the voxel values otherwise; hexadecimal, empty
            when unknown.
        files: The files of the volume: in slice order, one for a multi-frame object, header and voxels of a
            pair. DICOM SEG refers to them. Never printed.
        folder: The folder that was searched for the volume, None when a file was read; no result may go
            there. Never printed.
        stamps: Size in bytes and time of modification in ns of each of ``files`` when it was read; empty for
            other kinds than DICOM.
        identifier_fault: What is wrong with the identifiers of the DICOM images, as a phrase without their
            values; empty if nothing is. With a fault no DICOM result can refer to the images.
        frame_of_reference_fault: What is wrong with their frame of reference, as a phrase; empty if nothing
            is. With a fault no DICOM SEG can be placed.
        filled: Slices that no file shows: they were missing and are interpolated.
    """

    kind: str = "array"
    series_hash: str = ""
    files: tuple[Path, ...] = field(default=(), repr=False)
    folder: Path | None = field(default=None, repr=False)
    stamps: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    identifier_fault: str = ""
    frame_of_reference_fault: str = ""
    filled: tuple[int, ...] = ()

    def of_slices(self, start: int, stop: int, depth: int) -> Source:
        """The origin of a part of the slices of a volume, see :meth:`Volume.slices`."""
        filled = tuple(d - start for d in self.filled if start <= d < stop)
        if self.kind != "dicom":
            return replace(self, filled=filled)
        shown = [d for d in range(depth) if d not in self.filled]
        kept = [start <= d < stop and len(shown) == len(self.files) for d in shown]
        files, stamps = compress(self.files, kept), compress(self.stamps, kept)
        return replace(self, filled=filled, files=tuple(files), stamps=tuple(stamps))


def _require_parts(what: str, array: object, grid: object, filled: str) -> None:
    """Refuse what is no plain array on a grid; ``what`` and ``filled`` are words of the message."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"the {what} are a {type(array).__name__}, expected a NumPy array")
    if not isinstance(grid, Grid):
        raise TypeError(f"the grid of the {what} is a {type(grid).__name__}, expected a Grid")
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"the {what} are a masked array, expected values alone, such as {filled}")


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """A CT volume in Hounsfield units.

    Args:
        hu: (D, H, W) int16, int32 or float32, HU. The volume keeps a read-only view of it and copies nothing.
        grid: Grid of the voxels in patient space.
        source: Origin of the values.
        warnings: Corrections and findings of the reader.

    Raises:
        TypeError: The values are no NumPy array, or the grid is no Grid.
        ValueError: The array does not fit the grid, has another type, or is a masked array.
        InputError: A value is NaN or infinite (AE-INPUT-014).
    """

    hu: npt.NDArray[Any]
    grid: Grid
    source: Source = field(default_factory=Source)
    warnings: tuple[ScanWarning, ...] = ()

    def __post_init__(self) -> None:
        _require_parts("HU", self.hu, self.grid, "hu.filled(-1024)")
        if self.hu.shape != self.grid.shape:
            raise ValueError(f"the array has shape {self.hu.shape}, expected {self.grid.shape} of the grid")
        if self.hu.dtype not in (np.int16, np.int32, np.float32):
            raise ValueError(f"the HU are {self.hu.dtype}, expected int16, int32 or float32")
        # Slice by slice: a mask of the whole scan takes memory.
        if self.hu.dtype == np.float32 and not all(np.isfinite(plane).all() for plane in self.hu):
            raise VOLUME_NOT_FINITE("the values of the volume hold NaN or infinity, expected HU.")
        object.__setattr__(self, "hu", read_only(self.hu))

    __setstate__ = restore_read_only

    def __repr__(self) -> str:
        return f"<Volume: {self.grid.in_words}, {self.hu.dtype}, source {self.source.kind}>"

    @property
    def shape(self) -> Shape:
        """Voxels along (D, H, W)."""
        return self.grid.shape

    def slices(self, start: int, stop: int) -> Volume:
        """A part of the scan, as if the other slices had not been taken.

        Its source names the files of these slices alone. Frames of a multi-frame DICOM object have no files
        of their own, so that no DICOM result can be written of a part of it.

        Args:
            start: First slice of the part, along the first axis of ``hu``; a negative number counts from the
                end, as everywhere in Python.
            stop: Slice after the last.

        Raises:
            ValueError: The part holds no slice.
        """
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        hu = np.ascontiguousarray(self.hu[start:stop])
        affine = self.grid.affine.copy()
        affine[:3, 3] += start * affine[:3, 0]
        source = self.source.of_slices(start, stop, self.shape[0])
        return Volume(hu, Grid((len(hu), *self.shape[1:]), affine), source, self.warnings)


@dataclass(frozen=True)
class Label:
    """One organ in a label table.

    Args:
        value: 1 to 255; 0 is the background.
        name: TotalSegmentator's name, such as ``kidney_left``.
        snomed_code: SNOMED CT code of the structure, such as ``64033007``.
        snomed_meaning: Its meaning, such as ``Kidney``.
        laterality: ``left``, ``right`` or empty.
        color: Display color, sRGB, 0 to 255.
    """

    value: int
    name: str
    snomed_code: str
    snomed_meaning: str
    laterality: str
    color: tuple[int, int, int]

    @property
    def title(self) -> str:
        """The name as a person writes it: ``Left kidney``."""
        words = self.name.replace("_", " ")
        if self.laterality:
            words = f"{self.laterality} {words.removesuffix(self.laterality).strip()}"
        return words[:1].upper() + words[1:]


def in_sentence(title: str) -> str:
    """An organ's title inside a sentence: ``left kidney``, but ``IVC`` and ``A+ artery`` as they are."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


@dataclass(frozen=True)
class Provenance:
    """What made a segmentation; every file that is written carries it. No patient data.

    A text is empty where the value is not known.

    Args:
        software: Name of the software.
        version: Version of the software.
        model: Name of the model.
        model_version: Version of the model.
        model_sha256: SHA-256 of the bundle's manifest, hexadecimal.
        artifact_sha256: SHA-256 of the artifact that ran, hexadecimal.
        engine: Name of the inference engine.
        engine_version: Version of the inference engine.
        precision: Number format of the artifact, such as ``fp32``.
        threads: Number of threads of the engine, or ``all``.
        parameters: Settings of the run and counts of its tiles; JSON types only.
        input_hash: SHA-256 that identifies the scan, see :attr:`Source.series_hash`.
        license: License of the weights.
        research_use: Research-use statement.
    """

    software: str = "autosam-edge"
    version: str = ""
    model: str = ""
    model_version: str = ""
    model_sha256: str = ""
    artifact_sha256: str = ""
    engine: str = ""
    engine_version: str = ""
    precision: str = ""
    threads: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    input_hash: str = ""
    license: str = ""
    research_use: str = RESEARCH_USE

    @property
    def software_and_version(self) -> str:
        """Both on one line, such as ``autosam-edge 1.2.3``."""
        return f"{self.software} {self.version}".strip()

    def as_dict(self) -> dict[str, object]:
        """The fields by name, in the order above, as JSON types."""
        return asdict(self)


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """Labels on the input's own grid.

    Args:
        labels: (D, H, W) uint8; 0 is the background, ``table`` names the other values. The segmentation keeps
            a read-only view of it and copies nothing.
        grid: The grid of the input, unchanged.
        table: Organs that the model knows.
        provenance: Software, model, engine and settings that made the labels.
        timings_s: Seconds by stage.
        warnings: Findings of the reader and of the run that a user should know.
        filled: Slices that no image of the scan shows, see :attr:`Source.filled`; DICOM objects leave them
            out.
        plausibility: Verdict on the labels and the values behind it; None if the model has no thresholds, so
            that nothing was checked.
        expected_dice: Dice that each organ is expected to have against a person's labels, 0 to 1, by the
            organ's name; empty if the model has no confidence.

    Raises:
        TypeError: The labels are no NumPy array, or the grid is no Grid.
        ValueError: The labels do not fit the grid, have another type, or are a masked array.
    """

    labels: npt.NDArray[np.uint8]
    grid: Grid
    table: tuple[Label, ...]
    provenance: Provenance = field(default_factory=Provenance)
    timings_s: dict[str, float] = field(default_factory=dict)
    warnings: tuple[ScanWarning, ...] = ()
    filled: tuple[int, ...] = ()
    plausibility: Plausibility | None = None
    expected_dice: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_parts("labels", self.labels, self.grid, "labels.filled(0)")
        if self.labels.shape != self.grid.shape or self.labels.dtype != np.uint8:
            raise ValueError(
                f"labels are {self.labels.dtype} {self.labels.shape}, expected uint8 {self.grid.shape}"
            )
        object.__setattr__(self, "labels", read_only(self.labels))

    __setstate__ = restore_read_only

    def __repr__(self) -> str:
        organs, verdict = len(self.table), self.verdict or "none"
        return f"<Segmentation: {self.grid.in_words}, table of {organs} organs, verdict {verdict}>"

    @property
    def verdict(self) -> Verdict | None:
        """``plausible``, ``doubtful`` or ``implausible``; None if nothing was checked."""
        return self.plausibility.verdict if self.plausibility else None


def require_volume(value: object) -> None:
    """Refuse what is no volume, such as an array or a path.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, Volume):
        raise TypeError(
            f"the scan is a {type(value).__name__}, expected a Volume, such as autosam_edge.read gives"
        )


def require_same_grid(volume: Volume, segmentation: Segmentation) -> None:
    """Refuse labels that do not lie on the scan's own grid.

    Raises:
        TypeError: One of the two is something else.
        ValueError: Their voxels differ in number or place.
    """
    require_volume(volume)
    if not isinstance(segmentation, Segmentation):
        raise TypeError(
            f"the labels are a {type(segmentation).__name__}, expected a Segmentation, such as "
            "Session.segment gives"
        )
    if not volume.grid.same_as(segmentation.grid):
        same_shape = volume.shape == segmentation.grid.shape
        differs = "place, direction or size of their voxels" if same_shape else "shape"
        found, expected = (
            f"{grid.in_words}, the first at ({', '.join(f'{mm:.6g}' for mm in grid.affine[:3, 3])}) mm"
            for grid in (segmentation.grid, volume.grid)
        )
        raise ValueError(
            f"volume and segmentation differ in the {differs}: the segmentation has {found}, expected "
            f"{expected}; give the volume that was segmented"
        )
