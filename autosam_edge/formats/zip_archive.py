"""Unpack a zip of DICOM files into a private folder; sizes and paths of the archive are not trusted."""

from __future__ import annotations

import errno
import io
import shutil
import stat
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from autosam_edge.error_codes import INPUT_UNREADABLE, ZIP_DAMAGED, ZIP_TOO_LARGE, ZIP_UNSAFE
from autosam_edge.errors import AutosamEdgeError

if TYPE_CHECKING:
    from typing import IO

MAX_ENTRIES = 20_000
MAX_BYTES = 8 << 30  # the largest volume that is read, four times
MAX_RATIO = 100  # CT deflates two- to tenfold, a bomb a thousandfold
_FREE_BYTES = 64 << 20  # below this size the ratio does not matter
_CHUNK = 1 << 20
_MAX_DIRECTORY_BYTES = 4 << 20  # 20,000 entries with long names
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)  # LZMA may ask for gigabytes


class UnpackedZip:
    """The files of a zip archive in a temporary folder that is removed with this object, or when Python ends.

    Args:
        path: The archive.

    Raises:
        InputError: An entry is unsafe (AE-INPUT-006), the archive is larger than reasonable (AE-INPUT-007),
            it is damaged, encrypted or of an unknown method (AE-INPUT-008), or it cannot be read or stored
            (AE-INPUT-003).
    """

    root: Path

    def __init__(self, path: Path) -> None:
        try:
            self.root = Path(tempfile.mkdtemp(prefix="autosam-edge-"))
        except OSError as error:
            raise _not_unpacked(error) from error
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.root, ignore_errors=True)
        try:
            _unpack(path, self.root)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the folder now."""
        self._finalizer()


class _Archive(io.FileIO):
    """The file of an archive. Its directory is read at once, and takes ten times its length in memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise _too_large(f"a directory of {size} bytes, expected at most {_MAX_DIRECTORY_BYTES}")
        return super().read(size)


def _unpack(path: Path, root: Path) -> None:
    try:
        with _Archive(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                raise _too_large(f"{len(entries)} entries, expected at most {MAX_ENTRIES}")
            targets = [_target(entry, root) for entry in entries]
            files = [target for target in targets if target is not None]
            if len({str(file).casefold() for file in files}) != len(files):
                raise _unsafe("two entries of one name")
            total = 0
            budget = min(MAX_BYTES, max(_FREE_BYTES, MAX_RATIO * path.stat().st_size))
            for entry, target in zip(entries, targets, strict=True):
                if target is not None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(entry) as source, target.open("xb") as sink:
                        total += _copy(source, sink, budget - total)
    except (
        zipfile.BadZipFile,
        zlib.error,
        UnicodeDecodeError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise _damaged(error) from error
    except OSError as error:
        if error.errno in (
            None,
            errno.EINVAL,
        ):  # bz2's only error, and a jump to before the start of the file
            raise _damaged(error) from error
        raise _not_unpacked(error) from error


def _target(entry: zipfile.ZipInfo, root: Path) -> Path | None:
    """Where an entry goes, None for a folder."""
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or ".." in parts or ":" in name or any(ord(letter) < 32 for letter in name):
        raise _unsafe("an entry whose path leads out of the archive")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _unsafe("an entry that is a link or a device")
    if entry.is_dir() or not parts:
        return None
    if entry.compress_type not in _METHODS:
        raise ZIP_DAMAGED("the zip archive is compressed by another method than deflate or bzip2.")
    return root.joinpath(*parts)


def _copy(source: IO[bytes], sink: IO[bytes], budget: int) -> int:
    """Copy and count the bytes that really come out, as sizes in the archive's directory can lie."""
    copied = 0
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > budget:
            raise _too_large(f"contents of more than {MAX_BYTES >> 30} GiB or {MAX_RATIO} times its own size")
        sink.write(chunk)
    return copied


def _damaged(error: Exception) -> AutosamEdgeError:
    return ZIP_DAMAGED(
        f"the zip archive is damaged, encrypted or of an unknown method ({type(error).__name__})."
    )


def _not_unpacked(error: OSError) -> AutosamEdgeError:
    return INPUT_UNREADABLE(
        f"the zip archive cannot be unpacked ({type(error).__name__}).",
        remedy="Check permissions and space of the temporary folder (TMPDIR), or give the unpacked folder.",
    )


def _unsafe(what: str) -> AutosamEdgeError:
    return ZIP_UNSAFE(f"the zip archive holds {what}.")


def _too_large(what: str) -> AutosamEdgeError:
    return ZIP_TOO_LARGE(f"the zip archive has {what}.")
