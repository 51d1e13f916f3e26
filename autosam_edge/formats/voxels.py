"""The voxels of a file, read piece by piece in bounded memory; a size in a header is never trusted."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from autosam_edge.ct_grid import MAX_VOXELS
from autosam_edge.encoded_bytes import GZIP_MAGIC, READ_BYTES, Bytes, DamagedError, Encoding, Inflated, Text
from autosam_edge.error_codes import INPUT_UNREADABLE, VOLUME_TOO_LARGE
from autosam_edge.warning_codes import BYTES_AFTER_VOXELS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from autosam_edge.errors import AutosamEdgeError, ErrorCode
    from autosam_edge.geometry import Shape
    from autosam_edge.scan_warning import ScanWarning

VoxelEncoding = Encoding | Literal["hex"]
"""How voxels are stored; ``hex`` is two digits for each byte, as NRRD has it."""

_MAX_DEFLATE_RATIO = 1100  # deflate cannot do more than 1032:1
_MAX_SKIPPED_BYTES = 256 << 20  # of a compressed stream; what stands before voxels is kB
_PIECE_VOXELS = 1 << 20
_LEAST_EXCESS_BYTES = 1 << 20
_COPY_AGAIN = "Copy the file again or convert the scan anew; nothing is filled in for lost data."


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file that is open for reading.

    Raises:
        InputError: It cannot be read (AE-INPUT-003).
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise INPUT_UNREADABLE(f"the input cannot be read ({type(error).__name__}).") from error


def read_start(path: Path, count: int) -> tuple[bytes, bool]:
    """The first bytes of a file, inflated if it is gzip, and whether it is gzip.

    Args:
        count: Number of bytes; fewer come from a file that is shorter or damaged.
    """
    with opened(path) as file:
        start = file.read(count)
        if not start.startswith(GZIP_MAGIC):
            return start, False
        file.seek(0)
        try:
            return Inflated(file, "zlib").read(count), True
        except DamagedError:
            return b"", True


@dataclass(frozen=True)
class StoredVoxels:
    """Where and how the voxels of a volume are stored.

    Args:
        dtype: Type of a stored voxel, with its byte order.
        shape: Voxels along (D, H, W); W varies fastest in the file.
        damaged: Error code for a file that does not hold what its header says.
        encoding: How the voxels are stored.
        start: Place in the file where they start, or their compressed stream, bytes.
        skip: Bytes before the voxels that the compressed stream holds.
        slope: Factor from a stored value to the value that is meant.
        intercept: Term that is added then.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: Shape
    damaged: ErrorCode
    encoding: VoxelEncoding = "raw"
    start: int = 0
    skip: int = 0
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def count(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def is_scaled(self) -> bool:
        """Whether slope and intercept change the values; they scale integers and floats, no other types."""
        return (self.slope, self.intercept) != (1.0, 0.0) and self.dtype.kind in "iuf"

    def meant(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The values that stored ones stand for, in the same shape: float64 if scaled, else as they are."""
        return stored * np.float64(self.slope) + self.intercept if self.is_scaled else stored

    def require_size(self) -> None:
        """Refuse, before anything is allocated, voxels that are too many or that the file cannot hold.

        Raises:
            InputError: More than 2**30 voxels (AE-INPUT-013), or the error for a damaged file.
        """
        if self.count > MAX_VOXELS:
            raise VOLUME_TOO_LARGE(f"the header tells of {self.count} voxels, expected at most {MAX_VOXELS}.")
        if min(self.shape) < 1:
            raise self.damaged(f"the header tells of {' x '.join(map(str, self.shape))} voxels.")
        if self.skip > _MAX_SKIPPED_BYTES:
            raise self.damaged(
                f"the header tells of {self.skip} bytes before the voxels, "
                f"expected at most {_MAX_SKIPPED_BYTES}."
            )
        with opened(self.path) as file:
            stored = max(0, file.seek(0, 2) - self.start)
        needed = self.count * self.dtype.itemsize
        most = {"zlib": stored * _MAX_DEFLATE_RATIO, "text": stored * self.dtype.itemsize, "hex": stored // 2}
        if self.encoding != "bzip2" and most.get(self.encoding, stored) < needed:
            raise self.damaged(
                f"the file ends early: the header tells of {needed} bytes of voxels, "
                f"the file holds {stored}{'' if self.encoding == 'raw' else ' compressed'}.",
                remedy=_COPY_AGAIN,
            )

    def pieces(self, notes: list[ScanWarning]) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Stored values in the order of the file, with their place in the flattened (D, H, W) array.

        Args:
            notes: List that receives a warning if the file holds more than the voxels.

        Raises:
            InputError: The file ends early, is damaged, or holds twice what its header tells of.
        """
        with opened(self.path) as file:
            file.seek(self.start)
            source = self._decoder(file)
            try:
                self._pass_over(source, self.skip)
                for first in range(0, self.count, _PIECE_VOXELS):
                    place = slice(first, min(first + _PIECE_VOXELS, self.count))
                    wanted = (place.stop - place.start) * self.dtype.itemsize
                    piece = source.read(wanted)
                    if len(piece) < wanted:
                        raise self._ends_early(first * self.dtype.itemsize + len(piece))
                    yield place, np.frombuffer(piece, self.dtype)
                # The end of a compressed stream holds its checksum, so it is always read.
                notes += self._excess(source)
            except DamagedError as error:
                what = {"text": "numbers in ASCII", "hex": "hexadecimal digits"}.get(
                    self.encoding, "compressed voxels"
                )
                raise self.damaged(f"the {what} are damaged.", remedy=_COPY_AGAIN) from error

    def _decoder(self, file: IO[bytes]) -> Bytes:
        if self.encoding == "raw":
            return file
        if self.encoding == "hex":
            return _Hexadecimal(file)
        return Text(file, self.dtype) if self.encoding == "text" else Inflated(file, self.encoding)

    def _pass_over(self, source: Bytes, count: int) -> None:
        while count:
            passed = len(source.read(min(count, READ_BYTES)))
            if not passed:
                raise self._ends_early(0)
            count -= passed

    def _excess(self, source: Bytes) -> list[ScanWarning]:
        """A warning about bytes after the voxels; as much again is refused."""
        needed = self.count * self.dtype.itemsize
        excess = 0
        while piece := source.read(READ_BYTES):
            excess += len(piece)
            if excess > max(needed, _LEAST_EXCESS_BYTES):
                raise self.damaged(
                    f"the file holds more than twice the {needed} bytes of voxels that its header tells of.",
                    remedy="Convert the scan anew, as one 3D volume.",
                )
        if isinstance(source, Inflated):
            if not source.complete:
                raise self.damaged("the compressed voxels end without their checksum.", remedy=_COPY_AGAIN)
            excess += source.trailing
        if not excess:
            return []
        return [BYTES_AFTER_VOXELS(f"The file holds {excess} bytes after its voxels, which were not read.")]

    def _ends_early(self, found: int) -> AutosamEdgeError:
        return self.damaged(
            f"the file ends early: the header tells of {self.count * self.dtype.itemsize} bytes of voxels, "
            f"the file holds {found}.",
            remedy=_COPY_AGAIN,
        )


class _Hexadecimal:
    """The bytes that pairs of hexadecimal digits stand for; white space does not count.

    Args:
        file: The file, at the first digit.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digits = b""

    def read(self, count: int, /) -> bytes:
        """The next ``count`` bytes, fewer at the end.

        Raises:
            DamagedError: Something else than a digit, or half a byte.
        """
        parts = [self._digits]
        waiting = len(self._digits)
        while waiting < 2 * count and (text := self._file.read(READ_BYTES)):
            parts.append(b"".join(text.split()))
            waiting += len(parts[-1])
        digits = b"".join(parts)
        self._digits = digits[2 * count :]
        try:
            return bytes.fromhex(digits[: 2 * count].decode("ascii"))
        except ValueError as error:  # UnicodeDecodeError is one
            raise DamagedError from error


def read_values(voxels: StoredVoxels) -> npt.NDArray[Any]:
    """All voxels, (D, H, W), in their own type; float64 if they are scaled.

    Args:
        voxels: The voxels; their size was checked before.

    Raises:
        InputError: The error for a damaged file.
    """
    values = np.empty(voxels.shape, np.float64 if voxels.is_scaled else voxels.dtype.newbyteorder("="))
    flat = values.reshape(-1)
    for place, piece in voxels.pieces([]):
        flat[place] = voxels.meant(piece)
    return values
