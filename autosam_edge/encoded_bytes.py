"""The bytes of voxels behind a compression, or behind numbers in ASCII; no more than is asked for."""

from __future__ import annotations

import bz2
import zlib
from typing import IO, Any, Literal, Protocol

import numpy as np

Encoding = Literal["raw", "zlib", "bzip2", "deflate", "text"]
"""How bytes are stored: ``zlib`` may be gzip, ``deflate`` has no header, ``text`` is numbers in ASCII."""

GZIP_MAGIC = b"\x1f\x8b"
READ_BYTES = 1 << 18
# Of a gzip of many members, as bgzip and pigz write; each costs a copy of what was read from the file.
_FREE_MEMBERS, _LEAST_MEMBER_BYTES = 64, 1024
_LONGEST_NUMBER = 64  # letters; an array of texts is as wide as its longest


class Bytes(Protocol):
    """What gives the bytes of voxels: an open file, or one of the classes below."""

    def read(self, count: int, /) -> bytes:
        """The next bytes; fewer than ``count`` only at the end."""
        ...


class DamagedError(Exception):
    """The encoded voxels break the rules of their encoding."""


class Inflated:
    """The bytes of a zlib, gzip (of one or several members), deflate or bzip2 stream, as many as asked for.

    Args:
        file: The compressed file, at the start of the stream.
        encoding: ``zlib``, ``deflate`` or ``bzip2``.

    Attributes:
        trailing: Number of bytes after the end of the stream that belong to no stream; zeros do not count.
    """

    def __init__(self, file: IO[bytes], encoding: Encoding) -> None:
        self._file, self._encoding = file, encoding
        self._stream = self._new()
        self._waiting = b""  # read from the file, not yet taken by the stream
        self._ended = self._encoding == "deflate"
        self._members = self._given = 0
        self.trailing = 0

    @property
    def complete(self) -> bool:
        """Whether the stream reached its end, where its checksum was right."""
        return bool(self._stream.eof)

    def _new(self) -> Any:  # noqa: ANN401  the two decompressors of the standard library share no type
        if self._encoding == "bzip2":
            return bz2.BZ2Decompressor()
        # 32 tells zlib to find out whether the stream is zlib or gzip.
        return zlib.decompressobj(-zlib.MAX_WBITS if self._encoding == "deflate" else 32 + zlib.MAX_WBITS)

    def read(self, count: int, /) -> bytes:
        """The next ``count`` bytes, fewer at the end.

        Raises:
            DamagedError: The stream is damaged.
        """
        parts = []
        while count and not (self._stream.eof and not self._next_member()):
            wants = getattr(self._stream, "needs_input", True)  # bzip2 keeps what it was given
            given = self._waiting or (self._file.read(READ_BYTES) if wants else b"")
            try:
                part = self._stream.decompress(given, count)
            except (zlib.error, OSError, EOFError) as error:
                raise DamagedError from error
            self._waiting = getattr(self._stream, "unconsumed_tail", b"")
            if not part and not given and wants:
                break  # it ends early
            parts.append(part)
            count -= len(part)
            self._given += len(part)
        return b"".join(parts)

    def _next_member(self) -> bool:
        """Whether another gzip or bzip2 stream follows the one that has ended."""
        if self._ended:
            return False
        rest = self._stream.unused_data.lstrip(b"\0")
        while len(rest) < len(GZIP_MAGIC) and (more := self._file.read(READ_BYTES)):
            rest = (rest + more).lstrip(b"\0")
        if rest.startswith(b"BZ" if self._encoding == "bzip2" else GZIP_MAGIC):
            self._members += 1
            if self._members > _FREE_MEMBERS + self._given // _LEAST_MEMBER_BYTES:
                raise DamagedError
            self._stream, self._waiting = self._new(), rest
            return True
        self._ended = True
        place = self._file.tell()
        self.trailing = len(rest) + self._file.seek(0, 2) - place
        return False


class Text:
    """Numbers in ASCII as the bytes of their type.

    Args:
        file: The file, at the first number.
        dtype: Type of a voxel.
    """

    def __init__(self, file: IO[bytes], dtype: np.dtype[Any]) -> None:
        self._file, self._dtype = file, dtype
        self._words: list[bytes] = []
        self._cut = b""  # the start of a number that the next piece of the file goes on with

    def read(self, count: int, /) -> bytes:
        """The bytes of the next ``count / itemsize`` numbers, fewer at the end.

        Raises:
            DamagedError: A word is no number of this type.
        """
        wanted = count // self._dtype.itemsize
        while len(self._words) < wanted and (text := self._file.read(READ_BYTES)):
            self._words += (self._cut + text).split()
            self._cut = self._words.pop() if self._words and not text[-1:].isspace() else b""
            if len(self._cut) > _LONGEST_NUMBER:
                raise DamagedError
        if self._cut and len(self._words) < wanted:
            self._words.append(self._cut)
            self._cut = b""
        words, self._words = self._words[:wanted], self._words[wanted:]
        if max(map(len, words), default=0) > _LONGEST_NUMBER:
            raise DamagedError
        try:
            exact = np.array(words, dtype=bytes).astype(np.float64 if self._dtype.kind == "f" else np.int64)
            stored = exact.astype(self._dtype)
        except (ValueError, OverflowError) as error:
            raise DamagedError from error
        if self._dtype.kind != "f" and not np.array_equal(stored, exact):
            raise DamagedError
        return stored.tobytes()
