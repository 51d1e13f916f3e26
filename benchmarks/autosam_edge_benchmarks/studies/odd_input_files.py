"""Inputs that ask for much memory: bombs, false sizes, and scans that are merely large."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np
import numpy.typing as npt
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from autosam_edge_benchmarks.fuzz.dicom_seeds import put_into_groups

Maker = Callable[[Path, float], Path]
"""Writes one input below a folder, ``scale`` (0 to 1) times as large as the full one; returns its path."""

_SIDE = 512
_MIB = 1 << 20
_ITEM, _UNDEFINED = b"\xfe\xff\x00\xe0", 0xFFFFFFFF
_SPACE = (
    "space: left-posterior-superior\nspace directions: (0.7,0,0) (0,0.7,0) (0,0,1)\nspace origin: (0,0,0)\n"
)


def _body() -> npt.NDArray[np.int16]:
    """(H, W) HU of one slice: an ellipse of soft tissue in air, with noise."""
    y, x = np.ogrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    tissue = (y / 0.6) ** 2 + (x / 0.8) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 15, (_SIDE, _SIDE))
    return np.asarray(np.where(tissue, 40 + noise, -1000), dtype=np.int16)


def _write_voxels(file: IO[bytes] | gzip.GzipFile, dtype: str, slices: int) -> None:
    plane = _body().astype(dtype).tobytes()
    for _ in range(slices):
        file.write(plane)


def _nifti_header(shape: tuple[int, int, int], dtype: str) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(np.diag([-0.7, -0.7, 1.0, 1.0]), code=1)
    header.set_qform(np.diag([-0.7, -0.7, 1.0, 1.0]), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + bytes(4)


def _zeros(file: IO[bytes] | gzip.GzipFile, size: int) -> None:
    """One MiB is written at once."""
    for _ in range(size // _MIB):
        file.write(bytes(_MIB))


def _nifti_float64(folder: Path, scale: float) -> Path:
    slices = round(300 * scale)
    path = folder / "scan.nii"
    with path.open("wb") as file:
        file.write(_nifti_header((_SIDE, _SIDE, slices), "<f8"))
        _write_voxels(file, "<f8", slices)
    return path


def _nifti_gzip_bomb(folder: Path, scale: float) -> Path:
    path = folder / "scan.nii.gz"
    header = gzip.compress(_nifti_header((_SIDE, _SIDE, 300), "<i2"))
    path.write_bytes(header + gzip.compress(bytes(64 * _MIB)) * round(128 * scale))
    return path


def _nifti_long_extension(folder: Path, scale: float) -> Path:
    """2 GB between header and voxels, as zeros in gzip."""
    path = folder / "scan.nii.gz"
    size = round(2047 * scale) * _MIB
    header = bytearray(_nifti_header((_SIDE, _SIDE, 40), "<i2"))
    header[108:112] = struct.pack("<f", 352 + size)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        _zeros(file, size)
        _write_voxels(file, "<i2", 40)
    return path


def _nrrd_int64(folder: Path, scale: float) -> Path:
    slices = round(300 * scale)
    path = folder / "scan.nrrd"
    sizes = f"{_SIDE} {_SIDE} {slices}"
    header = (
        f"NRRD0005\ntype: int64\ndimension: 3\nsizes: {sizes}\nencoding: gzip\nendian: little\n{_SPACE}\n"
    )
    with path.open("wb") as file:
        file.write(header.encode())
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as stream:
            _write_voxels(stream, "<i8", slices)
    return path


def _nrrd_long_number(folder: Path, scale: float) -> Path:
    """Numbers in ASCII of which one has a million digits: an array of texts is as wide as its longest."""
    path = folder / "scan.nrrd"
    header = f"NRRD0005\ntype: short\ndimension: 3\nsizes: 128 128 64\nencoding: ascii\n{_SPACE}\n"
    count = 128 * 128 * 64
    path.write_bytes(header.encode() + b"0" * round(1e6 * scale) + b"7\n" + b"40 " * (count - 1))
    return path


def _metaimage_float64(folder: Path, scale: float) -> Path:
    """Compressed, and CompressedDataSize lies."""
    slices = round(300 * scale)
    path = folder / "scan.mha"
    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = True\nCompressedDataSize = 4294967295\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
        f"Offset = 0 0 0\nElementSpacing = 0.7 0.7 1\nDimSize = {_SIDE} {_SIDE} {slices}\n"
        f"ElementType = MET_DOUBLE\nElementDataFile = LOCAL\n"
    )
    deflate, plane = zlib.compressobj(1), _body().astype("<f8").tobytes()
    with path.open("wb") as file:
        file.write(header.encode())
        for _ in range(slices):
            file.write(deflate.compress(plane))
        file.write(deflate.flush())
    return path


def _slice(number: int, syntax: str = ExplicitVRLittleEndian, pixels: bytes | None = None) -> Dataset:
    ds, root = Dataset(), "1.2.826.0.1.3680043.10.1"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPClassUID = syntax, CTImageStorage
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{root}.4.{number + 1}"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.Modality, ds.ImageType, ds.PatientID = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "none"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{root}.1", f"{root}.2", f"{root}.3"
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, number]
    ds.PixelSpacing, ds.Rows, ds.Columns = [0.7, 0.7], _SIDE, _SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PixelData = _body().tobytes() if pixels is None else pixels
    ds["PixelData"].VR = "OW"
    return ds


def _save(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path


def _series(folder: Path, count: int, change: Callable[[Dataset], None] = lambda _: None) -> Path:
    series = folder / "series"
    series.mkdir()
    ds = _slice(10_000)
    change(ds)
    content = _save(ds, series / "00000.dcm").read_bytes()
    for number in range(count):
        of_slice = content.replace(b".4.10001", f".4.{10_001 + number}".encode())
        of_slice = of_slice.replace(b"\\10000", f"\\{10_000 + number}".encode())
        (series / f"{number:05d}.dcm").write_bytes(of_slice)
    return series


def _many_slices(folder: Path, scale: float) -> Path:
    return _series(folder, round(2000 * scale))


def _slices_with_long_texts(folder: Path, scale: float) -> Path:
    """15,000 headers of 60 kB, nearly all of it in an element that is read."""

    def lengthen(ds: Dataset) -> None:
        text = "contrast" * 7000  # of which pydicom would warn
        ds.add(DataElement("ContrastBolusAgent", "LO", text, validation_mode=IGNORE))
        ds.Rows = ds.Columns = 8
        ds.PixelData = ds.PixelData[:128]

    return _series(folder, round(15_000 * scale), lengthen)


def _slices_with_private_elements(folder: Path, scale: float) -> Path:
    def lengthen(ds: Dataset) -> None:
        ds.private_block(0x0009, "AUTOSAM EDGE", create=True).add_new(
            1, "OB", bytes(round(30 * _MIB * scale))
        )

    return _series(folder, 60, lengthen)


def _sheet(folder: Path, _: float) -> Path:
    """Three slices of 65,535 x 65,535 pixels in files with holes."""

    def enlarge(ds: Dataset) -> None:
        ds.Rows = ds.Columns = 65535

    series = _series(folder, 3, enlarge)
    for path in series.iterdir():
        with path.open("r+b") as file:
            file.truncate(2 * 65535 * 65535)
    return series


def _compressed_slices(folder: Path, syntax: str, frame: bytes, hole: int = 0) -> Path:
    """Three slices of one fragment; ``hole`` zeros follow the frame in it."""
    series = folder / "series"
    series.mkdir()
    for number in range(3):
        path = series / f"{number}.dcm"
        ds = _slice(number, syntax)
        del ds.PixelData
        _save(ds, path)
        with path.open("ab") as file:
            file.write(b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<I", _UNDEFINED) + _ITEM + bytes(4))
            file.write(_ITEM + struct.pack("<I", len(frame) + hole) + frame)
            file.seek(hole, 1)
            file.write(b"\xfe\xff\xdd\xe0" + bytes(4))
    return series


def _rle_bomb(folder: Path, scale: float) -> Path:
    """Fragments of 3 GB whose runs would unpack to 64 times as much."""
    return _compressed_slices(
        folder, RLELossless, struct.pack("<16I", 2, 64, 128, *[0] * 13), round(3072 * scale) * _MIB
    )


def _jpeg_ls_bomb(folder: Path, _: float) -> Path:
    """A frame whose header names 65,535 x 65,535 pixels."""
    frame = b"\xff\xd8\xff\xf7\0\x0b" + struct.pack(">BHHB", 16, 65535, 65535, 1) + b"\x01\x11\0"
    return _compressed_slices(
        folder, JPEGLSLossless, frame + b"\xff\xda\0\x08\x01\x01\0\0\0\0" + b"\0\xff\xd9"
    )


def _deflate_bomb(folder: Path, scale: float) -> Path:
    """A deflated file whose group length is false and whose UID is longer than 1 KiB."""
    series = folder / "series"
    series.mkdir()
    for number in range(3):
        path = series / f"{number}.dcm"
        _save(_slice(number), path)
        ds = path.read_bytes()
        start = ds.index(b"\x08\0\x08\0CS")
        uid = DeflatedExplicitVRLittleEndian.encode()
        uid += bytes(len(uid) % 2)
        long_uid = b"\x02\0\x03\0UI" + struct.pack("<H", 2000) + b"1" * 2000
        meta = b"\x02\0\0\0UL\4\0" + struct.pack("<I", 20) + long_uid
        meta += b"\x02\0\x10\0UI" + struct.pack("<H", len(uid)) + uid
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        elements = deflate.compress(ds[start:]) + deflate.flush(zlib.Z_FULL_FLUSH)
        zeros = deflate.compress(bytes(_MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
        with path.open("wb") as file:
            file.write(bytes(128) + b"DICM" + meta + elements + zeros * round(4096 * scale))
            file.write(deflate.flush())
    return series


def _deep_sequence(folder: Path, scale: float) -> Path:
    """A sequence within a sequence, 100,000 deep, in each of 60 slices."""
    depth = round(100_000 * scale)
    opening = b"\x28\0\0\x30SQ\0\0" + struct.pack("<I", _UNDEFINED) + _ITEM + struct.pack("<I", _UNDEFINED)
    series = _series(folder, 60)
    for path in series.iterdir():
        content = path.read_bytes()
        at = content.index(b"\xe0\x7f\x10\0OW")
        closing = (b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)) * depth
        path.write_bytes(content[:at] + opening * depth + closing + content[at:])
    return series


def _zip_bomb(folder: Path, scale: float) -> Path:
    path = folder / "scan.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("scan.dcm", "w", force_zip64=True) as file,
    ):
        _zeros(file, round(8192 * scale) * _MIB)
    return path


def _zip_of_many_entries(folder: Path, scale: float) -> Path:
    """Two million entries, written as their directory alone."""
    path = folder / "scan.zip"
    count = round(2_000_000 * scale)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    with path.open("wb") as file:
        file.write(local)
        for number in range(count):
            name = f"{number:08d}".encode()
            file.write(
                struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0)
            )
            file.write(name)
        size = count * 54
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, size, len(local), 0))
    return path


def _enhanced(folder: Path, frames: int, extra: Callable[[Dataset, int], None], pixels: bytes) -> Path:
    ds = _slice(0, pixels=pixels)
    ds.PixelSpacing, ds.Rows, ds.Columns = [2.8, 2.8], 128, 128
    put_into_groups(ds, [[0, 0, number] for number in range(frames)], extra)
    return _save(ds, folder / "scan.dcm")


def _enhanced_long_header(folder: Path, scale: float) -> Path:
    """2,000 frames, each with 30 kB of private elements: a header of 60 MB."""
    private = bytes(round(30_000 * scale))

    def lengthen(group: Dataset, _: int) -> None:
        group.private_block(0x0021, "AUTOSAM EDGE", create=True).add_new(1, "OB", private)

    frames = round(2000 * scale)
    return _enhanced(folder, frames, lengthen, _body()[::4, ::4].tobytes() * frames)


def _enhanced_many_items(folder: Path, scale: float) -> Path:
    """Frames of many empty items: each takes a thousand times its 8 bytes once it is parsed."""
    items = [Dataset() for _ in range(round(1500 * scale))]
    for item in items:
        item.is_undefined_length_sequence_item = True  # others are parsed when they are used

    def lengthen(group: Dataset, _: int) -> None:
        group.DerivationImageSequence = items
        group["DerivationImageSequence"].is_undefined_length = True
        group.is_undefined_length_sequence_item = True

    return _enhanced(folder, 1000, lengthen, _body()[::4, ::4].tobytes() * 1000)


ODD_INPUTS: dict[str, Maker] = {
    "DICOM, RLE fragments of 3 GB": _rle_bomb,
    "DICOM, JPEG-LS header of 65,535 x 65,535": _jpeg_ls_bomb,
    "DICOM, deflated, inflates to 4 GB": _deflate_bomb,
    "DICOM, sequences 100,000 deep": _deep_sequence,
    "DICOM, sheets of 65,535 x 65,535": _sheet,
    "zip that inflates to 8 GB": _zip_bomb,
    "zip of two million entries": _zip_of_many_entries,
    "Enhanced CT with 1.5 million items": _enhanced_many_items,
    "NIfTI whose gzip inflates to 8 GB": _nifti_gzip_bomb,
    "NIfTI with an extension of 2 GB": _nifti_long_extension,
    "NRRD with a number of a million digits": _nrrd_long_number,
    "NRRD of int64, 512 x 512 x 300": _nrrd_int64,
    "NIfTI of float64, 512 x 512 x 300": _nifti_float64,
    "MetaImage of float64, compressed, 512 x 512 x 300": _metaimage_float64,
    "DICOM, private elements of 30 MB in 60 slices": _slices_with_private_elements,
    "DICOM, 2,000 slices of 512 x 512": _many_slices,
    "DICOM, 15,000 headers of 60 kB": _slices_with_long_texts,
    "Enhanced CT with a header of 60 MB": _enhanced_long_header,
}
"""Maker of each input, by the name that the result shows."""
