"""Small volumes in NIfTI, NRRD, MetaImage and zip, and how they are changed."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
import zlib
from functools import cache
from random import Random

import nibabel as nib
import numpy as np
from pydicom.uid import ExplicitVRLittleEndian

from autosam_edge_benchmarks.fuzz.dicom_seeds import (
    COLUMNS,
    ROWS,
    SLICES,
    Files,
    change_series,
    pixels,
    series,
)
from autosam_edge_benchmarks.fuzz.mutations import (
    change_bytes,
    change_lines,
    change_number,
    change_start,
    integer_bytes,
    put,
    several,
)

_SIGNATURES = re.compile(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)")
_NAMES = ("../out.dcm", "/etc/out.dcm", "in/../../out.dcm", "a" * 300, "C:\\out.dcm", "con", "a\0b", "in/",
          "", "\u00ed", "d/" * 200 + "a", "..")  # fmt: skip


def _values(dtype: str) -> bytes:
    hu = np.stack([pixels(number) for number in range(SLICES)]).astype(np.int32) - 1024
    return hu.astype(dtype).tobytes()


@cache
def _nifti(dtype: str, version: int, *, pair: bool = False) -> tuple[bytes, bytes]:
    """Header and voxels."""
    header = nib.Nifti2Header() if version == 2 else nib.Nifti1Header()
    header = header.as_byteswapped(dtype[0]) if dtype[0] != header.endianness else header
    header.set_data_shape((COLUMNS, ROWS, SLICES))
    header.set_data_dtype(np.dtype(dtype))
    header.set_xyzt_units("mm", "sec")
    affine = np.diag([-0.75, -0.5, 3.0, 1.0])
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    size = 540 if version == 2 else 348
    header["vox_offset"] = 0 if pair else size + 4
    header["magic"] = (b"ni" if pair else b"n+") + (b"2" if version == 2 else b"1")
    if version == 2:
        header["eol_check"] = (13, 10, 26, 10)
    return bytes(header.binaryblock) + bytes(4), _values(dtype)


def _changed_nifti(header: bytes, voxels: bytes, draw: Random) -> tuple[bytes, bytes]:
    if draw.random() < 0.75:
        return several(change_start, header, draw), voxels
    if draw.random() < 0.5:
        return header, several(change_bytes, voxels, draw)
    return several(change_bytes, header, draw), voxels


def change_nifti(draw: Random) -> Files:
    """One file, not compressed."""
    seed = _nifti(draw.choice(("<i2", ">i2", "<f4", "<f8", "<u1", "<i4")), draw.choice((1, 1, 2)))
    return {"scan.nii": b"".join(_changed_nifti(*seed, draw))}


def change_nifti_gzip(draw: Random) -> Files:
    """One file in gzip: mostly changed inside of it."""
    content = b"".join(_nifti("<i2", 1))
    inside = draw.random() < 0.6
    if inside:
        content = b"".join(_changed_nifti(*_nifti("<i2", 1), draw))
    zipped = gzip.compress(content, 1, mtime=0)
    if not inside:
        zipped = draw.choice((several(change_bytes, zipped, draw), zipped + zipped, zipped + b"\0" * 9))
    return {"scan.nii.gz": zipped}


def change_nifti_pair(draw: Random) -> Files:
    """Header and voxels in two files."""
    header, voxels = _nifti("<i2", draw.choice((1, 2)), pair=True)
    header, voxels = _changed_nifti(header, voxels, draw)
    files = {"scan.hdr": header, "scan.img": voxels}
    if draw.random() < 0.05:
        del files["scan.img"]
    if draw.random() < 0.1:
        files = {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in files.items()}
    return files


def _ascii() -> bytes:
    return b" ".join(str(value).encode() for value in np.frombuffer(_values("<i2"), "<i2").tolist()) + b"\n"


def _changed_text(header: bytes, voxels: bytes, draw: Random) -> tuple[bytes, bytes]:
    """Mostly the lines of a header are changed, else the voxels."""
    chance = draw.random()
    if chance < 0.75:
        return several(change_lines, header, draw), voxels
    if chance < 0.85:
        return several(draw.choice((change_bytes, change_number)), header, draw), voxels
    return header, several(draw.choice((change_bytes, change_number)), voxels, draw)


def change_nrrd(draw: Random) -> Files:
    """NRRD in one file or in two, raw, as text, or compressed."""
    encoding = draw.choice(("raw", "gzip", "ascii"))
    raw = _values("<i2")
    voxels = {"raw": raw, "gzip": gzip.compress(raw, 1, mtime=0), "ascii": _ascii()}[encoding]
    header = (
        f"NRRD0005\n# a comment\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {COLUMNS} {ROWS} {SLICES}\nspace directions: (0.75,0,0) (0,0.5,0) (0,0,3)\n"
        f"kinds: domain domain domain\nendian: little\nencoding: {encoding}\nspace origin: (-10,-20,0)\n"
    ).encode()
    detached = draw.random() < 0.25
    if detached:
        header += b"data file: scan.raw\n"
    header, voxels = _changed_text(header + b"\n" * (not detached), voxels, draw)
    return {"scan.nhdr": header, "scan.raw": voxels} if detached else {"scan.nrrd": header + voxels}


def change_metaimage(draw: Random) -> Files:
    """MetaImage in one file or in two, raw or compressed."""
    compressed, detached = draw.random() < 0.4, draw.random() < 0.25
    voxels = zlib.compress(_values("<i2")) if compressed else _values("<i2")
    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = {compressed}\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -10 -20 0\n"
        f"CenterOfRotation = 0 0 0\nElementSpacing = 0.75 0.5 3\nDimSize = {COLUMNS} {ROWS} {SLICES}\n"
        f"ElementType = MET_SHORT\nElementDataFile = {'scan.raw' if detached else 'LOCAL'}\n"
    ).encode()
    header, voxels = _changed_text(header, voxels, draw)
    return {"scan.mhd": header, "scan.raw": voxels} if detached else {"scan.mha": header + voxels}


def change_zip(draw: Random) -> Files:
    """A DICOM series in a zip: the archive is changed, or the names or files in it."""
    inside = draw.random() < 0.3
    files = change_series("dicom-explicit", draw) if inside else dict(series(ExplicitVRLittleEndian))
    if not inside and draw.random() < 0.3:
        name = draw.choice(list(files))
        files[draw.choice(_NAMES)] = files.pop(name)
    content = zip_of(files, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    return {"scan.zip": content if inside else several(change_archive, content, draw)}


def zip_of(files: Files, method: int = zipfile.ZIP_STORED) -> bytes:
    """Files as a zip archive, the same bytes each time."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name or "x"), data, method)
    return content.getvalue()


def change_archive(data: bytes, draw: Random) -> bytes:
    """Change a record of a zip archive, or any bytes."""
    found = [match.start() for match in _SIGNATURES.finditer(data)]
    if not found or draw.random() < 0.3:
        return change_bytes(data, draw)
    # Local headers, entries of the directory, its end: the numbers of each, and the name behind them.
    at = draw.choice(found) + 2 * draw.randrange(2, 30)
    new = draw.choice(
        (integer_bytes(draw, 2), integer_bytes(draw, 4), struct.pack("<H", draw.randrange(100)))
    )
    return put(new, data, at)


CHANGES = {
    "nifti": change_nifti,
    "nifti-gzip": change_nifti_gzip,
    "nifti-pair": change_nifti_pair,
    "nrrd": change_nrrd,
    "metaimage": change_metaimage,
    "zip": change_zip,
}
"""What makes one input of each kind."""
