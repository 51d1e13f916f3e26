"""Stored pixels come back bit for bit, or the file is refused, in every transfer syntax."""

from __future__ import annotations

import importlib.util
import zlib
from typing import Any

import numpy as np
import pydicom
import pytest
from autosam_edge_test_encoders import DEFLATED_FRAMES, LOSSLESS, compress, encoded, file_of
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import codes, refusal
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from autosam_edge.dicom.decoder import FrameDecoder
from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import DICOM_DAMAGED, PIXEL_FORMAT_INVALID, TRANSFER_SYNTAX_UNSUPPORTED
from autosam_edge.warning_codes import EXCESS_BYTES, LOSSY_COMPRESSION, TRANSFER_SYNTAX_WRONG

VALUES = "Pixel values"
JPEG_XL = "1.2.840.10008.1.2.4.110"
SIZE = (5, 64, 48)  # JPEG 2000 wants 32 pixels a side


@pytest.fixture
def big(ct_folder: Any) -> Any:
    """A series with noise, so that a cut or damaged stream has something to lose."""
    ct = ct_folder("compressed", SIZE)
    ct.hu = (ct.hu + np.random.default_rng(0).integers(-20, 20, SIZE)).astype(np.int16)
    return ct


def write_compressed(ct: Any, syntax: str, change: Any = None, **options: Any) -> None:
    """Write the series; ``change`` makes another stream of the last slice's."""
    for d in range(5):
        image = ct.image(d)
        if change is not None and d == 4:
            pixels = np.frombuffer(image.PixelData, "<u2").reshape(image.Rows, image.Columns)
            compress(image, syntax, frames=[bytes(change(bytearray(encoded(pixels, syntax, **options))))])
        else:
            compress(image, syntax, **options)
        write(ct, image, f"im{d}")


def write(ct: Any, image: Any, name: str) -> None:
    (ct.path / name).write_bytes(file_of(image, declared=image.file_meta.TransferSyntaxUID))


@hazard(VALUES, "RLE, JPEG Lossless, JPEG-LS, JPEG 2000, HTJ2K or deflated frames", "read, bit for bit")
@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("signed", [0, 1])
def test_lossless_compression_is_bit_exact(big: Any, syntax: str, signed: int) -> None:
    """Each compressed series equals its uncompressed twin."""
    for d in range(5):
        stored = big.hu[d] + (0 if signed else 1024)
        image = big.image(
            d, PixelRepresentation=signed, RescaleIntercept=0 if signed else -1024, BitsStored=16, HighBit=15
        )
        image.PixelData = stored.astype("<i2").tobytes()
        write(big, compress(image, syntax), str(d))
    volume = read_dicom(big.path)
    np.testing.assert_array_equal(volume.hu, big.hu)
    assert volume.warnings == ()


@pytest.mark.parametrize("syntax", [*LOSSLESS, DeflatedExplicitVRLittleEndian])
def test_real_slices_are_bit_exact_in_every_lossless_syntax(ct: Any, tcga_series: Any, syntax: str) -> None:
    """Three slices of a patient, with all the noise that a scanner makes."""
    files = sorted(tcga_series.glob("*.dcm"))
    images = [pydicom.dcmread(file) for file in files]
    images = sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))[80:83]
    expected = [image.pixel_array.astype(np.int16) for image in images]
    for index, image in enumerate(images):
        if syntax == DeflatedExplicitVRLittleEndian:
            image.file_meta.TransferSyntaxUID = syntax
        else:
            compress(image, syntax)
        if syntax == DEFLATED_FRAMES:
            write(ct, image, f"{index}")
        else:
            image.save_as(ct.path / f"{index}")
    hu = read_dicom(ct.path).hu
    np.testing.assert_array_equal(hu, np.where(np.array(expected) < -1500, -1024, expected))


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [12, 16])
def test_every_predictor_of_jpeg_lossless_is_bit_exact(big: Any, predictor: int, bits: int) -> None:
    """The proof that all bits were used knows every predictor and precision."""
    write_compressed(big, JPEGLossless, predictor=predictor, bits=bits)
    np.testing.assert_array_equal(read_dicom(big.path).hu, big.hu)


@hazard(VALUES, "frames in one fragment each, with or without an offset table", "read")
@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_frames_are_found(ct_folder: Any, table: bool, syntax: str) -> None:
    """Frames of an Enhanced CT object, in shuffled order."""
    ct, order = ct_folder("enhanced", SIZE), [3, 0, 4, 1, 2]
    frames = [encoded((ct.hu[d] + 1024).astype(np.uint16), syntax) for d in order]
    ct.save(compress(ct.enhanced(order), syntax, frames=frames, table=table), "enhanced")
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


@hazard(VALUES, "a frame in several fragments", "read")
def test_fragments_of_one_frame_are_joined(big: Any) -> None:
    """A stream may be cut into fragments anywhere."""
    for d in range(5):
        image = compress(big.image(d), JPEGLSLossless)
        (frame,) = pydicom.encaps.generate_frames(image.PixelData, number_of_frames=1)
        image.PixelData = pydicom.encaps.encapsulate([frame], fragments_per_frame=3, has_bot=d % 2 == 0)
        big.save(image, str(d))
    np.testing.assert_array_equal(read_dicom(big.path).hu, big.hu)


def cut(stream: bytearray) -> bytearray:
    return stream[: len(stream) * 2 // 3]


def cut_but_for_its_end_mark(stream: bytearray) -> bytearray:
    return stream[: len(stream) * 2 // 3] + b"\xff\xd9"


@hazard(VALUES, "a file of compressed pixels whose last bytes are lost", DICOM_DAMAGED)
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_cut_compressed_file_is_named(big: Any, syntax: str) -> None:
    """The fragments must reach their end mark."""
    write_compressed(big, syntax)
    path = big.path / "im4"
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(big.path).code == "AE-DICOM-005"


def zeroed(stream: bytearray) -> bytearray:
    at = len(stream) // 2
    stream[at : at + 60] = bytes(60)
    return stream


@hazard(VALUES, "a compressed image that is cut, with or without its end mark", DICOM_DAMAGED)
@pytest.mark.parametrize("syntax", [*LOSSLESS, JPEGExtended12Bit, JPEGLSNearLossless])
@pytest.mark.parametrize("change", [cut, cut_but_for_its_end_mark])
def test_cut_stream_is_refused(big: Any, syntax: str, change: Any) -> None:
    """No decoder fills in what is lost."""
    write_compressed(big, syntax, change)
    assert refusal(big.path).code == "AE-DICOM-005"


@hazard(
    VALUES, "bytes in the middle of a JPEG-LS, JPEG Lossless, RLE or deflated frame are lost", DICOM_DAMAGED
)
@pytest.mark.parametrize("syntax", [RLELossless, DEFLATED_FRAMES, JPEGLossless, JPEGLSLossless])
def test_damaged_stream_is_refused(big: Any, syntax: str) -> None:
    """The decoded pixels must take exactly the bits that the stream holds."""
    write_compressed(big, syntax, zeroed)
    assert refusal(big.path).code == "AE-DICOM-005"


@hazard(
    VALUES, "a compressed image whose own size is not Rows x Columns, such as 65535 x 65535", DICOM_DAMAGED
)
@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless])
def test_size_in_the_stream_is_compared_before_it_is_decoded(
    big: Any, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder would allocate 8 GB, and some do not come back."""
    pytest.importorskip("imagecodecs")

    def huge(stream: bytearray) -> bytearray:
        wide = syntax in (JPEG2000Lossless, HTJ2KLossless)
        rows, columns = (SIZE[1], SIZE[2]) if not wide else (SIZE[2], SIZE[1])
        old = b"".join(side.to_bytes(4 if wide else 2, "big") for side in (rows, columns))
        assert old in stream[:60]
        return stream.replace(old, (65535).to_bytes(4 if wide else 2, "big") * 2, 1)

    decoded = []
    monkeypatch.setattr(FrameDecoder, "start", lambda _, data, header: decoded.append(header.shape))
    write_compressed(big, syntax, huge)
    for d in range(4):
        big.save(big.image(d), f"im{d}")
    error = refusal(big.path)
    assert error.code == "AE-DICOM-005"
    assert "65535 x 65535 pixels" in error.message
    assert decoded == []


@hazard(VALUES, "an RLE or deflated frame that grows beyond Rows x Columns", DICOM_DAMAGED)
def test_inflation_ends_at_the_size_of_the_image(big: Any) -> None:
    """1 GB of zeros in a megabyte is not unpacked."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(200)) + deflater.flush()
    write_compressed(big, DEFLATED_FRAMES, lambda stream: bomb)
    assert "does not fit Rows x Columns" in refusal(big.path).message
    write_compressed(big, RLELossless, lambda stream: stream[:64] + b"\x81\x00" * 3000)
    assert refusal(big.path).code == "AE-DICOM-005"


@hazard(VALUES, "a transfer syntax that names another coding than the data's", DICOM_DAMAGED)
def test_another_coding_than_the_file_names_is_told(big: Any) -> None:
    """The message says what the data are."""
    write_compressed(big, JPEGLSLossless)
    for path in big.path.iterdir():
        path.write_bytes(path.read_bytes().replace(JPEGLSLossless.encode(), JPEG2000Lossless.encode()))
    error = refusal(big.path)
    assert error.code == "AE-DICOM-005"
    assert "names the transfer syntax JPEG 2000" in error.message
    assert "its pixel data are JPEG-LS" in error.message


@hazard(VALUES, "the file names explicit VR but is implicit, or the reverse", TRANSFER_SYNTAX_WRONG)
@pytest.mark.parametrize("implicit", [True, False])
def test_the_other_native_syntax_is_read_with_a_warning(ct: Any, implicit: bool) -> None:
    """The bytes tell which of the two it is."""
    for d in range(5):
        declared = ExplicitVRLittleEndian if implicit else ImplicitVRLittleEndian
        (ct.path / f"im{d}").write_bytes(file_of(ct.image(d), implicit=implicit, declared=declared))
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == [TRANSFER_SYNTAX_WRONG.code]
    assert "5 files" in volume.warnings[0].message


@hazard(
    VALUES, "the file names a compressed syntax, but its pixels are not compressed", TRANSFER_SYNTAX_WRONG
)
def test_uncompressed_pixels_under_a_compressed_syntax_are_read(ct: Any) -> None:
    """They have exactly the size of Rows x Columns, so there is no doubt; otherwise there is."""
    for d in range(5):
        (ct.path / f"im{d}").write_bytes(file_of(ct.image(d), implicit=False, declared=RLELossless))
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)
    assert codes(read_dicom(ct.path)) == [TRANSFER_SYNTAX_WRONG.code]
    image = ct.image(4, PixelData=bytes(200))
    (ct.path / "im4").write_bytes(file_of(image, implicit=False, declared=RLELossless))
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-005"
    assert "RLE Lossless, but its pixel data have a length" in error.message


@hazard(VALUES, "the file names an uncompressed syntax, but its pixels are compressed", DICOM_DAMAGED)
def test_compressed_pixels_under_a_native_syntax_are_told(ct: Any) -> None:
    """Which coding it is, only the syntax could tell."""
    ct.write()
    image = compress(ct.image(4), RLELossless)
    for undefined in (True, False):
        image["PixelData"].is_undefined_length = undefined
        (ct.path / "im095").write_bytes(file_of(image, declared=ExplicitVRLittleEndian))
        error = refusal(ct.path)
        assert error.code == "AE-DICOM-005"
        assert "in fragments" in error.message


@hazard(VALUES, "bytes behind the last pixel, within its element", EXCESS_BYTES)
@pytest.mark.parametrize("extra", [b"\0", b"\0\0", bytes(96), b"\1" * 1000, bytes(4096)])
def test_excess_padding_is_accepted_with_a_warning(ct: Any, extra: bytes) -> None:
    """PS3.5 8.1.1 lets writers pad and readers ignore."""
    for d in range(5):
        image = ct.image(d)
        image.PixelData += extra
        ct.save(image, str(d))
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == [EXCESS_BYTES.code]


@hazard(VALUES, "bytes behind the last element of the file", EXCESS_BYTES)
@pytest.mark.parametrize("extra", [b"\0", b"garbage of some bytes", bytes(4096)])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_trailing_bytes_are_reported(ct: Any, extra: bytes, syntax: str) -> None:
    """They may be the start of something that was lost."""
    ct.write()
    path = ct.path / "im097"
    if syntax == RLELossless:
        ct.save(compress(ct.image(2), syntax), path.name)
    path.write_bytes(path.read_bytes() + extra)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert [(w.code, w.message[:6]) for w in volume.warnings] == [(EXCESS_BYTES.code, "1 file")]


@hazard(VALUES, "Data Set Trailing Padding or private elements behind the pixels", "read")
def test_elements_behind_the_pixels_are_no_garbage(ct: Any) -> None:
    """The standard allows them."""
    for d in range(5):
        image = ct.image(d)
        image.private_block(0x7FE1, "TEST", create=True).add_new(1, "OB", b"\1\2")
        image.DataSetTrailingPadding = bytes(100)
        ct.save(image, str(d))
    assert codes(read_dicom(ct.path)) == []


@hazard(VALUES, "a second image behind the pixels of a one-frame file", PIXEL_FORMAT_INVALID)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("frames", [None, 1])
def test_second_frame_is_never_ignored(big: Any, syntax: str, frames: int | None) -> None:
    """NumberOfFrames is absent or 1, the pixels are those of two frames."""
    for d in range(5):
        image = big.image(d, **({} if frames is None else {"NumberOfFrames": frames}))
        if syntax == ExplicitVRLittleEndian:
            image.PixelData *= 2
        else:
            pixels = np.frombuffer(image.PixelData, "<u2").reshape(SIZE[1:])
            compress(image, syntax, frames=[encoded(pixels, syntax)] * 2, table=False)
        big.save(image, str(d))
    error = refusal(big.path)
    assert error.code == "AE-DICOM-009"
    assert "NumberOfFrames" in error.message


@hazard(VALUES, "a stream with loss, which no attribute tells", LOSSY_COMPRESSION)
@pytest.mark.parametrize(
    ("syntax", "loss"),
    [
        (JPEGLSNearLossless, 2),
        (JPEGLSLossless, 2),  # the syntax says that it is lossless
        (JPEG2000, 1),
        (JPEG2000Lossless, 1),
        (JPEG2000, 0),  # may be cut to a rate
        (HTJ2K, 0),
        (JPEGExtended12Bit, 1),
    ],
)
def test_loss_is_seen_without_the_attribute(big: Any, syntax: str, loss: int) -> None:
    """The syntax or the stream itself tells."""
    write_compressed(big, syntax, loss=loss)
    volume = read_dicom(big.path)
    assert codes(volume) == [LOSSY_COMPRESSION.code]
    assert "5 slices" in volume.warnings[0].message
    assert np.abs(volume.hu - big.hu).max() < 40


@hazard(VALUES, "JPEG 2000 that may lose, with LossyImageCompression 00 and a reversible stream", "read")
def test_reversible_stream_that_is_declared_lossless_is_lossless(big: Any) -> None:
    """Transfer syntax 1.2.840.10008.1.2.4.91 holds both kinds."""
    for d in range(5):
        big.save(compress(big.image(d, LossyImageCompression="00"), JPEG2000), str(d))
    volume = read_dicom(big.path)
    np.testing.assert_array_equal(volume.hu, big.hu)
    assert volume.warnings == ()


@hazard(VALUES, "JPEG XL, or another syntax that no extra decodes", TRANSFER_SYNTAX_UNSUPPORTED)
@pytest.mark.parametrize("syntax", [JPEG_XL, "1.2.840.10008.1.2.4.102", "1.2.3.4"])
def test_remedy_for_an_unknown_syntax_names_no_extra(ct: Any, syntax: str) -> None:
    """Installing something would not help."""
    for d in range(5):
        write(ct, compress(ct.image(d), syntax, frames=[b"\xff\x0a" + bytes(50)]), str(d))
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-010"
    assert syntax in error.message
    assert "install" not in error.remedy
    assert "uncompressed" in error.remedy


@hazard(VALUES, "a compressed syntax without the extra that decodes it", TRANSFER_SYNTAX_UNSUPPORTED)
def test_remedy_for_a_missing_decoder_names_the_extra(big: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """RLE needs no extra."""
    write_compressed(big, JPEGLSLossless)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "imagecodecs" else find(name)
    )
    error = refusal(big.path)
    assert error.code == "AE-DICOM-010"
    assert "autosam-edge[dicom]" in error.remedy
    write_compressed(big, RLELossless)
    np.testing.assert_array_equal(read_dicom(big.path).hu, big.hu)
