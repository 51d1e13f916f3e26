"""The frames of a DICOM SEG, written one after the other instead of being held.

highdicom builds Python objects for every frame (13 organs on 160 slices: about a thousand frames) and holds
all pixels more than once. Here it builds a tiny sketch with one marked voxel per slice, so that the library
itself describes every slice and every segment; the real frames are put together from the sketch's own encoded
parts and go straight to the file. A test shows that the file is, byte for byte, highdicom's.
"""

from __future__ import annotations

import io
import struct
from typing import IO, TYPE_CHECKING

import numpy as np
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from pydicom.dataelem import DataElement

_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)
_PER_FRAME = struct.pack("<HH", 0x5200, 0x9230) + b"SQ\0\0"
_PIXEL_DATA = struct.pack("<HH", 0x7FE0, 0x0010) + b"OB\0\0"


def organ_slices(
    labels: npt.NDArray[np.uint8], order: npt.NDArray[np.intp], values: list[int]
) -> npt.NDArray[np.bool_]:
    """Which organ is on which slice.

    Args:
        labels: (D, H, W).
        order: (frames,) the slice of the labels that each source frame shows.
        values: Label value of each segment, segment 1 first.

    Returns:
        (segments, frames) bool.
    """
    present = np.zeros((len(values), len(order)), dtype=np.bool_)
    for frame, index in enumerate(order):
        seen = np.bincount(labels[index].reshape(-1), minlength=256) > 0
        present[:, frame] = seen[values]
    return present


def sketch(present: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Segment numbers with at least one voxel on each slice that holds an organ, and at least one voxel of each segment.

    Args:
        present: (segments, frames) bool; each segment is somewhere.

    Returns:
        (frames, 1, segments) uint8: a matrix that is as small as can be.
    """
    segments, frames = present.shape
    pixels = np.zeros((frames, 1, segments), dtype=np.uint8)
    first_segment = present.argmax(axis=0)
    for segment in range(segments):
        marked = present[segment] & (first_segment == segment)
        marked[int(present[segment].argmax())] = True
        pixels[marked, 0, segment] = segment + 1
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
    """Save the object with the real frames in place of the sketch's, in highdicom's order: by segment, then by position.

    Args:
        dataset: What highdicom built from :func:`sketch`, Explicit VR Little Endian; its frames are taken
            out.
        sources: What highdicom built it from.
        labels: (D, H, W).
        order: See :func:`organ_slices`.
        values: See :func:`organ_slices`.
        present: See :func:`organ_slices`.
        stream: Empty binary file.

    Source: PS3.3 C.7.6.16 (functional groups), PS3.5 7.5 (items), 8.1.1 (the bits of a frame follow those of
    the last without a gap).
    """
    parts = _Parts(dataset.PerFrameFunctionalGroupsSequence, sources)
    frames = [(s, f) for s in range(len(values)) for f in parts.by_position if present[s, f]]
    del dataset.PerFrameFunctionalGroupsSequence
    del dataset.PixelData
    dataset.NumberOfFrames = len(frames)
    # Texts that stand there as the bytes of the source stay so: otherwise pydicom decodes them, to encode
    # them for another file.
    dataset.set_original_encoding(False, True, convert_encodings(dataset.get("SpecificCharacterSet")))
    dataset.save_as(stream, enforce_file_format=True)

    # Both elements come after all others in tag order, so they are appended.
    items = io.BytesIO()
    for segment, frame in frames:
        item = parts.item(segment + 1, frame)
        items.write(_ITEM + struct.pack("<I", len(item)) + item)
    stream.write(_PER_FRAME + struct.pack("<I", items.tell()) + items.getvalue())
    size = -(-len(frames) * labels[0].size // 8)
    stream.write(_PIXEL_DATA + struct.pack("<I", size + size % 2))
    for block in _packed(labels[order[frame]].reshape(-1) == values[segment] for segment, frame in frames):
        stream.write(block)
    stream.write(b"\0" * (size % 2))


def _packed(frames: Iterator[npt.NDArray[np.bool_]]) -> Iterator[bytes]:
    """One bit per pixel, the first in the lowest bit; a frame may end inside a byte, and the next one goes on there."""
    rest = np.zeros(0, dtype=np.bool_)
    for frame in frames:
        bits = np.concatenate([rest, frame]) if len(rest) else frame
        whole = len(bits) // 8 * 8
        yield np.packbits(bits[:whole], bitorder="little").tobytes()
        rest = bits[whole:]
    yield np.packbits(rest, bitorder="little").tobytes()


class _Parts:
    """The encoded functional groups of a sketch: what a slice decides, what a segment decides, and the index of both."""

    def __init__(self, items: Sequence[Dataset], sources: Sequence[Dataset]) -> None:
        numbers = {str(source.SOPInstanceUID): index for index, source in enumerate(sources)}
        self._of_slice: dict[int, tuple[bytes, bytes, int]] = {}
        self._of_segment: dict[int, bytes] = {}
        for item in items:
            reference = item.DerivationImageSequence[0].SourceImageSequence[0]
            shown = reference.get("ReferencedFrameNumber")
            frame = numbers[str(reference.ReferencedSOPInstanceUID)] if shown is None else int(shown) - 1
            segment, position = (int(value) for value in item.FrameContentSequence[0].DimensionIndexValues)
            before, content, between = (_encoded(item[keyword]) for keyword in _GROUPS)
            own = item.get(
                "SegmentIdentificationSequence"
            )  # of an only segment highdicom writes it once, into the shared groups
            # Dimension Index Values (two UL) is the only thing in its group, and the last 8 bytes of it.
            self._of_slice[frame] = (before + content[:-8], between, position)
            self._of_segment[segment] = (
                _encoded(item["SegmentIdentificationSequence"]) if own is not None else b""
            )
        self.by_position = sorted(self._of_slice, key=lambda frame: self._of_slice[frame][2])

    def item(self, segment: int, frame: int) -> bytes:
        """The encoded item of one frame of the result."""
        before, between, position = self._of_slice[frame]
        return before + struct.pack("<II", segment, position) + between + self._of_segment[segment]


_GROUPS = ("DerivationImageSequence", "FrameContentSequence", "PlanePositionSequence")


def _encoded(element: DataElement) -> bytes:
    """An element in Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    holder = Dataset()
    holder.add(element)
    write_dataset(buffer, holder)
    return bytes(buffer.getvalue())
