"""Label Map Segmentation out (PS3.3 A.51, C.8.20; Supplement 243): one frame a slice, one number an organ.

It holds the same voxels as the DICOM SEG in about a hundredth of the size, for readers that know it. The
whole object is deflated (PS3.5 A.5): RLE would take five times the space, as it codes each row of a frame for
itself, and dcmqi and 3D Slicer, which build on DCMTK, refuse a segmentation in JPEG-LS.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from autosam_edge.dicom.header import silenced
from autosam_edge.dicom.segmentation import build, seg_content
from autosam_edge.dicom.segmentation_frames import PIXEL_DATA, encoded, frame_numbers, shown_frame, sketch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

    from autosam_edge.dicom.segmentation import SegContent
    from autosam_edge.volume import Segmentation


def write_dicom_labelmap(
    segmentation: Segmentation, source_files: Sequence[Path], path: Path, *, pseudonymize: bool = False
) -> None:
    """Write one Label Map Segmentation; the Segment Number of an organ is its label value.

    Parameters and errors are those of :func:`~autosam_edge.dicom.segmentation.write_dicom_seg`.

    Source:
        DICOM PS3.3 C.8.20.2 (Segmentation Image), PS3.5 A.5 (deflated transfer syntax).
    """
    with silenced():
        content = seg_content(segmentation, source_files, "LABELMAP", pseudonymize=pseudonymize)
        values = [label.value for label in content.organs]
        dataset = build(content, sketch(content.present, values), values)
        del dataset.PixelData
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        with path.open("wb") as stream:
            stream.write(b"\0" * 128 + b"DICM")
            write_file_meta_info(stream, dataset.file_meta)
            for block in _deflated(dataset, content):
                stream.write(block)
            stream.write(b"\0" * (stream.tell() % 2))  # a deflated data set has an even length


def _deflated(dataset: Dataset, content: SegContent) -> Iterator[bytes]:
    """The data set and, as Pixel Data, the frames that it describes, deflated one after the other."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    yield deflate.compress(encoded(dataset))
    labels = content.segmentation.labels
    numbers = frame_numbers(content.stand_ins)
    shown = [content.order[shown_frame(item, numbers)] for item in dataset.PerFrameFunctionalGroupsSequence]
    size = len(shown) * labels[0].size
    yield deflate.compress(PIXEL_DATA + struct.pack("<I", size + size % 2))
    for index in shown:
        yield deflate.compress(np.ascontiguousarray(labels[index]).data)
    yield deflate.compress(b"\0" * (size % 2))
    yield deflate.flush()
