"""The frames of a DICOM SEG, written one after the other instead of being held.

highdicom builds Python objects for every frame (13 organs on 160 slices: about a thousand frames) and holds
all pixels more than once. Here it builds a tiny sketch with one marked voxel per slice, so that the library
itself describes every slice and every segment; the real frames are put together from the sketch's own encoded
parts and go straight to the file. A test shows that the file is, byte for byte, highdicom's.
"""

from __future__ import annotations

import io
import struct
from importlib.metadata import version
from typing import IO, TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from autosam_edge.error_codes import INTERNAL_ERROR
from autosam_edge.output_formats import WITHOUT_DICOM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from autosam_edge.errors import AutosamEdgeError

_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)
_PER_FRAME = struct.pack("<HH", 0x5200, 0x9230) + b"SQ\0\0"
_GROUPS = ("DerivationImageSequence", "FrameContentSequence", "PlanePositionSequence")
_SEGMENT = "SegmentIdentificationSequence"
PIXEL_DATA = struct.pack("<HH", 0x7FE0, 0x0010) + b"OB\0\0"


def organ_slices(
    labels: npt.NDArray[np.uint8], order: npt.NDArray[np.intp], values: list[int]
) -> npt.NDArray[np.bool_]:
    """Which organ is on which slice.

    Args:
        order: (frames,) the slice of the labels that each source frame shows.
        values: Label value of each segment, segment 1 first.

    Returns:
        (segments, frames) bool.
    """
    present = [(labels[index] == value).any() for value in values for index in order]
    return np.array(present, dtype=np.bool_).reshape(len(values), len(order))


def sketch(present: npt.NDArray[np.bool_], numbers: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Mark each slice that holds an organ, and each segment, with at least one voxel.

    Args:
        present: (segments, frames) bool; each segment is on at least one frame.
        numbers: Segment Number of each segment.

    Returns:
        (frames, 1, segments) uint8 segment numbers, 0 for none: the smallest possible matrix.
    """
    segments, frames = present.shape
    pixels = np.zeros((frames, 1, segments), dtype=np.uint8)
    first_segment = present.argmax(axis=0)
    for segment in range(segments):
        marked = present[segment] & (first_segment == segment)
        marked[int(present[segment].argmax())] = True
        pixels[marked, 0, segment] = numbers[segment]
    return pixels


def save_with_frames(
    dataset: Dataset,
    sources: Sequence[Dataset],
    labels: npt.NDArray[np.uint8],
    order: npt.NDArray[np.intp],
    values: list[int],
    present: npt.NDArray[np.bool_],
    *,
    stream: IO[bytes],
) -> None:
    """Save the object with the real frames instead of the sketch's, by segment, then by position.

    Args:
        dataset: Object that highdicom built from :func:`sketch`, Explicit VR Little Endian; its frames are
            removed.
        sources: Headers of the series from which highdicom built the object.
        order: (frames,) slice of the labels that each source frame shows.
        values: Label value of each segment, segment 1 first.
        present: (segments, frames) bool, result of :func:`organ_slices`.
        stream: Empty binary file.

    Raises:
        AutosamEdgeError: The installed highdicom lays the object out differently (AE-INTERNAL-001).

    Source:
        PS3.3 C.7.6.16 (functional groups), PS3.5 7.5 (items), 8.1.1 (the bits of a frame follow those of the
        last without a gap).
    """
    parts = _Parts(dataset.PerFrameFunctionalGroupsSequence, sources)
    frames = [(s, f) for s in range(len(values)) for f in parts.by_position if present[s, f]]
    del dataset.PerFrameFunctionalGroupsSequence
    del dataset.PixelData
    dataset.NumberOfFrames = len(frames)
    dataset.save_as(stream, enforce_file_format=True)

    # DICOM orders elements by tag. (5200,9230) and (7FE0,0010) come after all others, so the file is complete
    # up to here, and the two elements are appended by hand: tag and VR, 4 bytes of length, then the value. An
    # item of a sequence is its tag (FFFE,E000), 4 bytes of length, then its encoded elements.
    items = io.BytesIO()
    for segment, frame in frames:
        item = parts.item(segment + 1, frame)
        items.write(_ITEM + struct.pack("<I", len(item)) + item)
    stream.write(_PER_FRAME + struct.pack("<I", items.tell()) + items.getvalue())
    size = -(-len(frames) * labels[0].size // 8)  # bits of all frames in bytes, rounded up
    stream.write(PIXEL_DATA + struct.pack("<I", size + size % 2))
    for block in _packed(labels[order[frame]].reshape(-1) == values[segment] for segment, frame in frames):
        stream.write(block)
    stream.write(b"\0" * (size % 2))  # a value has an even length


def _packed(frames: Iterator[npt.NDArray[np.bool_]]) -> Iterator[bytes]:
    """Pack frames, one bit per pixel, lowest bit first; two frames may share a byte."""
    rest = np.zeros(0, dtype=np.bool_)
    for frame in frames:
        bits = np.concatenate([rest, frame]) if len(rest) else frame
        whole = len(bits) // 8 * 8
        yield np.packbits(bits[:whole], bitorder="little").tobytes()
        rest = bits[whole:]
    yield np.packbits(rest, bitorder="little").tobytes()


def frame_numbers(sources: Sequence[Dataset]) -> dict[str, int]:
    """The index of each source image, by its SOP Instance UID.

    Args:
        sources: Headers of the series from which highdicom built an object.
    """
    return {str(source.SOPInstanceUID): index for index, source in enumerate(sources)}


def shown_frame(item: Dataset, numbers: dict[str, int]) -> int:
    """The index of the source frame that a frame of the object shows.

    Args:
        item: Functional groups of the frame.
        numbers: Result of :func:`frame_numbers`.

    Raises:
        AutosamEdgeError: The installed highdicom names no source frame (AE-INTERNAL-001).
    """
    if "DerivationImageSequence" not in item:
        raise layout_changed("the functional groups of a frame")
    reference = item.DerivationImageSequence[0].SourceImageSequence[0]
    shown = reference.get("ReferencedFrameNumber")
    return numbers[str(reference.ReferencedSOPInstanceUID)] if shown is None else int(shown) - 1


class _Parts:
    """The encoded functional groups of a sketch, split by what they depend on.

    An item of the sketch is, in tag order: the source image (slice), the dimension index values (segment and
    slice), the plane position (slice), the segment number (segment). The items of the real frames are put
    together from these parts.
    """

    def __init__(self, items: Sequence[Dataset], sources: Sequence[Dataset]) -> None:
        numbers = frame_numbers(sources)
        self._of_slice: dict[int, tuple[bytes, bytes, int]] = {}
        self._of_segment: dict[int, bytes] = {}
        for item in items:
            if any(keyword not in item for keyword in _GROUPS):
                raise layout_changed("the functional groups of a frame")
            frame = shown_frame(item, numbers)
            segment, position = (int(value) for value in item.FrameContentSequence[0].DimensionIndexValues)
            before, content, between = (_element(item, keyword) for keyword in _GROUPS)
            # The item is put together again from these parts, so it must hold them and nothing else.
            if {element.keyword for element in item} - {*_GROUPS, _SEGMENT} or not content.endswith(
                struct.pack("<II", segment, position)
            ):
                raise layout_changed("the functional groups of a frame")
            # Dimension Index Values (two unsigned longs) are the last 8 bytes of their group.
            self._of_slice[frame] = (before + content[:-8], between, position)
            # If there is only one segment, highdicom writes its number once, into the shared groups.
            self._of_segment[segment] = _element(item, _SEGMENT) if _SEGMENT in item else b""
        self.by_position = sorted(self._of_slice, key=lambda frame: self._of_slice[frame][2])

    def item(self, segment: int, frame: int) -> bytes:
        """The encoded item of one frame of the result."""
        before, between, position = self._of_slice[frame]
        return before + struct.pack("<II", segment, position) + between + self._of_segment[segment]


def layout_changed(what: str) -> AutosamEdgeError:
    """The error for a release of highdicom that writes another layout; the scan is not at fault.

    Args:
        what: Part of the object that differs.
    """
    found = version("highdicom")
    return INTERNAL_ERROR(
        f"highdicom {found} lays out {what} of a DICOM SEG differently than autosam-edge expects.",
        remedy=f"Install a version of highdicom that autosam-edge allows, or {WITHOUT_DICOM}.",
    )


def encoded(dataset: Dataset) -> bytes:
    """A data set in Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def _element(item: Dataset, keyword: str) -> bytes:
    """One element of a data set, encoded."""
    holder = Dataset()
    holder.add(item[keyword])
    return encoded(holder)
