"""Small CT series in DICOM, one for each transfer syntax that the reader takes, and how they are changed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from io import BytesIO
from random import Random

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from autosam_edge_benchmarks.fuzz.elements import Encoding, change_element
from autosam_edge_benchmarks.fuzz.mutations import change_bytes, several

Files = dict[str, bytes]
"""Content of the files of an input by their path below its folder."""
NAME, PATIENT_ID = "Mustermann^Erika", "SECRET-4711"
SLICES, ROWS, COLUMNS = 4, 12, 10
_ROOT = "1.2.826.0.1.3680043.10.2"
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
SYNTAXES: dict[str, tuple[str, ...]] = {
    "dicom-implicit": (ImplicitVRLittleEndian,),
    "dicom-explicit": (ExplicitVRLittleEndian,),
    "dicom-big-endian": (ExplicitVRBigEndian,),
    "dicom-deflated": (DeflatedExplicitVRLittleEndian,),
    "dicom-deflated-frames": (_DEFLATED_FRAMES,),
    "dicom-rle": (RLELossless,),
    "dicom-jpeg": (JPEGExtended12Bit,),
    "dicom-jpeg-lossless": (JPEGLosslessSV1,),
    "dicom-jpeg-ls": (JPEGLSLossless, JPEGLSNearLossless),
    "dicom-jpeg-2000": (JPEG2000Lossless, JPEG2000),
    "dicom-htj2k": (HTJ2KLossless, HTJ2K),
}
"""Transfer syntaxes of each kind of series."""


def pixels(number: int) -> npt.NDArray[np.uint16]:
    """(12, 10) stored values of a slice, 0 to 1200."""
    y, x = np.indices((ROWS, COLUMNS))
    return np.asarray(24 + 10 * (y * 7 % 11) + 90 * x + number, dtype=np.uint16)


def _frame(values: npt.NDArray[np.uint16], syntax: str) -> bytes:
    import imagecodecs

    if syntax == _DEFLATED_FRAMES:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflate.compress(values.astype("<u2").tobytes()) + deflate.flush()
    if syntax == RLELossless:
        return bytes(RLELosslessEncoder.encode(
            values, rows=ROWS, columns=COLUMNS, samples_per_pixel=1, number_of_frames=1, bits_allocated=16,
            bits_stored=16, pixel_representation=0, photometric_interpretation="MONOCHROME2",
        ))  # fmt: skip
    if syntax == JPEGExtended12Bit:
        return bytes(imagecodecs.jpeg8_encode(values, level=95, bitspersample=12))
    if syntax == JPEGLosslessSV1:
        return bytes(imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=16))
    if syntax in (JPEGLSLossless, JPEGLSNearLossless):
        return bytes(imagecodecs.jpegls_encode(values, level=2 * (syntax == JPEGLSNearLossless)))
    if syntax in (JPEG2000Lossless, JPEG2000):
        whole = syntax == JPEG2000Lossless
        return bytes(
            imagecodecs.jpeg2k_encode(values, level=0 if whole else 85, reversible=whole, codecformat="j2k")
        )
    return bytes(imagecodecs.htj2k_encode(values, reversible=True))


def image(number: int, syntax: str) -> Dataset:
    """Slice ``number`` as a data set."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPClassUID = syntax, CTImageStorage
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{_ROOT}.4.{number + 1}"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.ImplementationClassUID = f"{_ROOT}.9"
    ds.PatientName, ds.PatientID = NAME, PATIENT_ID
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesNumber, ds.InstanceNumber = 7, number + 1
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{_ROOT}.1", f"{_ROOT}.2"
    ds.FrameOfReferenceUID, ds.SliceThickness = f"{_ROOT}.3", 3
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -20, 3 * number]
    ds.PixelSpacing, ds.Rows, ds.Columns = [0.5, 0.75], ROWS, COLUMNS
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
    ds.WindowCenter, ds.WindowWidth, ds.KVP = 40, 400, 120
    return ds


def _fill(ds: Dataset, frames: list[npt.NDArray[np.uint16]], syntax: str) -> Dataset:
    if syntax in SYNTAXES["dicom-implicit"] + SYNTAXES["dicom-explicit"] + SYNTAXES["dicom-deflated"]:
        ds.PixelData = b"".join(frame.astype("<u2").tobytes() for frame in frames)
    elif syntax == ExplicitVRBigEndian:
        ds.PixelData = b"".join(frame.astype(">u2").tobytes() for frame in frames)
    else:
        coded = [_frame(frame, syntax) for frame in frames]
        ds.PixelData = encapsulate([one + bytes(len(one) % 2) for one in coded])
        ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB" if syntax in COMPRESSED else "OW"
    return ds


# All but the first four kinds.
COMPRESSED = frozenset(str(uid) for kind in list(SYNTAXES)[4:] for uid in SYNTAXES[kind])


def _saved(ds: Dataset) -> bytes:
    content, syntax = BytesIO(), ds.file_meta.TransferSyntaxUID
    if syntax == _DEFLATED_FRAMES:  # pydicom does not write it; this UID is as long
        ds.file_meta.TransferSyntaxUID = JPEG2000
    ds.save_as(content, enforce_file_format=True)
    written = ds.file_meta.TransferSyntaxUID.encode()
    return content.getvalue().replace(written, syntax.encode().ljust(len(written), b"\0"), 1)


@cache
def series(syntax: str) -> tuple[tuple[str, bytes], ...]:
    """Files of a series of 4 slices of 12 x 10 pixels."""
    return tuple(
        (f"in/{number}.dcm", _saved(_fill(image(number, syntax), [pixels(number)], syntax)))
        for number in range(SLICES)
    )


def put_into_groups(
    ds: Dataset, positions_mm: Sequence[Sequence[float]], change: Callable[[Dataset, int], None]
) -> None:
    """Make an Enhanced CT of a slice: its spacing, orientation and rescaling are those of every frame.

    Args:
        positions_mm: Position (x, y, z) of each frame, mm.
        change: Function that gets the groups of each frame and its number, from 0, and may add to them.
    """
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(positions_mm)
    shared, measures, orientation, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, orientation.ImageOrientationPatient = ds.PixelSpacing, ds.ImageOrientationPatient
    rescale.RescaleSlope, rescale.RescaleIntercept = ds.RescaleSlope, ds.RescaleIntercept
    rescale.RescaleType = "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [rescale]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number, position_mm in enumerate(positions_mm):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = list(position_mm)
        group.PlanePositionSequence = [position]
        change(group, number)
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del ds[keyword]


@cache
def enhanced(syntax: str) -> bytes:
    """An Enhanced CT file of 4 frames."""
    ds = image(0, syntax)

    def add_content(group: Dataset, number: int) -> None:
        content = Dataset()
        content.StackID, content.InStackPositionNumber = "1", number + 1
        content.DimensionIndexValues = [1, number + 1]
        group.FrameContentSequence = [content]

    put_into_groups(ds, [[-10, -20, 3 * number] for number in range(SLICES)], add_content)
    del ds.RescaleSlope, ds.RescaleIntercept
    return _saved(_fill(ds, [pixels(number) for number in range(SLICES)], syntax))


def _changed_file(data: bytes, syntax: str, draw: Random) -> bytes:
    if syntax == DeflatedExplicitVRLittleEndian and draw.random() < 0.7:
        start = 144 + int.from_bytes(data[140:144], "little")
        inflated = data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)
        changed = _changed_file(inflated, ExplicitVRLittleEndian, draw)
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return changed[:start] + deflate.compress(changed[start:]) + deflate.flush()
    if draw.random() < 0.25:
        return several(change_bytes, data, draw)
    encoding = Encoding(syntax != ImplicitVRLittleEndian, ">" if syntax == ExplicitVRBigEndian else "<")
    return several(lambda content, draw: change_element(content, encoding, draw), data, draw)


def change_series(kind: str, draw: Random) -> Files:
    """A series of one kind in which one file, or every file in the same way, is changed."""
    syntax = draw.choice(SYNTAXES[kind])
    files, seed = dict(series(syntax)), draw.getrandbits(64)
    every = draw.random() < 0.45
    for name in list(files) if every else [draw.choice(list(files))]:
        one = type(draw)(seed)
        if one.random() < 0.06 and not every:
            _change_listing(files, name, one)
        else:
            files[name] = _changed_file(files[name], syntax, one)
    return files


def _change_listing(files: Files, name: str, draw: Random) -> None:
    """Leave a file out, empty it, write it twice, or put one of another kind in its place."""
    action = draw.randrange(4)
    content = files.pop(name)
    if action == 1:
        files[name] = b""
    elif action == 2:
        files |= {name: content, "in/again.dcm": content}
    elif action == 3:
        files[name] = dict(series(draw.choice(SYNTAXES[draw.choice(list(SYNTAXES))])))[name]


def change_enhanced(draw: Random) -> Files:
    """An Enhanced CT file that is changed."""
    syntax = draw.choice((ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless))
    return {"in/scan.dcm": _changed_file(enhanced(syntax), syntax, draw)}


CHANGES: dict[str, Callable[[Random], Files]] = {
    **{kind: partial(change_series, kind) for kind in SYNTAXES},
    "dicom-enhanced": change_enhanced,
}
"""What makes one input of each kind."""
