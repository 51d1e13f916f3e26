"""The files of a zip of DICOM, read without unpacking it; sizes and paths of the archive are not trusted."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import tempfile
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from autosam_edge.error_codes import INPUT_UNREADABLE, ZIP_DAMAGED, ZIP_TOO_LARGE, ZIP_UNSAFE
from autosam_edge.errors import AutosamEdgeError

if sys.platform == "win32":
    from pathlib import WindowsPath as _Path
else:
    from pathlib import PosixPath as _Path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_ENTRIES = 20_000
MAX_BYTES = 8 << 30  # the largest volume that is read, four times
MAX_RATIO = 100  # CT deflates two- to tenfold, a bomb a thousandfold
_EXPANDS = f"contents of more than {MAX_BYTES >> 30} GiB or {MAX_RATIO} times its own size"
_FREE_BYTES = 64 << 20  # below this size the ratio does not matter
_IN_MEMORY_BYTES = 64 << 20  # a larger entry is inflated into a file without a name
_CHUNK = 1 << 20
_MAX_DIRECTORY_BYTES = 4 << 20  # 20,000 entries with long names
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)  # LZMA may ask for gigabytes
_DAMAGED = (zipfile.BadZipFile, zlib.error, UnicodeDecodeError, EOFError, NotImplementedError, RuntimeError)


class ZippedFile(_Path):
    """An entry of a zip as a file that can be read; its path names the archive and the entry.

    It is inflated anew for each reading, into memory or into a temporary file that the system removes when it
    is closed, also when the process is killed. No file of a patient is left on the disk.
    """

    archive: _Archive
    entry: zipfile.ZipInfo

    def open(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        """The content, for reading of bytes.

        Raises:
            InputError: The archive is larger than reasonable (AE-INPUT-007), damaged (-008), or cannot be
                read (-003).
        """
        return self.archive.inflate(self.entry)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002  as that of Path
        """A regular file of the entry's size, and of the time of the archive."""
        found = self.archive.path.stat()
        times = {"st_mtime_ns": found.st_mtime_ns}
        return os.stat_result((*found[:6], self.entry.file_size, *found[7:10]), times)


class _Capped(io.FileIO):
    """The file of an archive. Its directory is read at once, and takes ten times its length in memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise _too_large(f"a directory of {size} bytes, expected at most {_MAX_DIRECTORY_BYTES}")
        return super().read(size)


class _Archive:
    """An open archive, and how much of it was inflated; an entry counts once."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, _Capped(path)
        self._rest = min(MAX_BYTES, max(_FREE_BYTES, MAX_RATIO * path.stat().st_size))
        self._inflated: dict[str, int] = {}
        self._zip = zipfile.ZipFile(self._file)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def entries(self) -> list[zipfile.ZipInfo]:
        """All entries."""
        found = self._zip.infolist()
        if len(found) > MAX_ENTRIES:
            raise _too_large(f"{len(found)} entries, expected at most {MAX_ENTRIES}")
        if sum(entry.file_size for entry in found) > self._rest:
            raise _too_large(_EXPANDS)
        return found

    def inflate(self, entry: zipfile.ZipInfo) -> IO[bytes]:
        """The content of an entry, at its start."""
        self._rest += self._inflated.pop(entry.filename, 0)
        with ExitStack() as stack, _explained():
            small = entry.file_size <= _IN_MEMORY_BYTES
            make: Callable[[], IO[bytes]] = io.BytesIO if small else tempfile.TemporaryFile
            sink = stack.enter_context(make())
            with self._zip.open(entry) as source:
                self._inflated[entry.filename] = _copy(source, sink, self._rest)
            self._rest -= self._inflated[entry.filename]
            sink.seek(0)
            stack.pop_all()
        return sink


def files_of_zip(path: Path) -> list[ZippedFile]:
    """The files of a zip archive, in the order of their names.

    Raises:
        InputError: An entry is unsafe (AE-INPUT-006), there are too many (AE-INPUT-007), the archive is
            damaged, encrypted or of an unknown method (AE-INPUT-008), or it cannot be read (AE-INPUT-003).
    """
    with _explained():
        archive = _Archive(path)
        entries = archive.entries()
    files = []
    for entry in entries:
        parts = _parts(entry)
        if parts:
            file = ZippedFile(path.joinpath(*parts))
            file.archive, file.entry = archive, entry
            files.append(file)
    if len({str(file).casefold() for file in files}) != len(files):
        raise _unsafe("two entries of one name")
    return sorted(files)


def _parts(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    """The path of an entry, empty for a folder."""
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if not name:
        raise ZIP_DAMAGED("the zip archive is damaged: it holds an entry without a name.")
    if name.startswith("/") or ".." in parts or ":" in name or any(ord(letter) < 32 for letter in name):
        raise _unsafe("an entry whose path leads out of the archive")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _unsafe("an entry that is a link or a device")
    if entry.is_dir() or not parts:
        return ()
    if entry.compress_type not in _METHODS:
        raise ZIP_DAMAGED("the zip archive is compressed by another method than deflate or bzip2.")
    return parts


def _copy(source: IO[bytes], sink: IO[bytes], budget: int) -> int:
    """Copy and count the bytes that really come out, as sizes in the archive's directory can lie."""
    copied = 0
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > budget:
            raise _too_large(_EXPANDS)
        sink.write(chunk)
    return copied


@contextmanager
def _explained() -> Iterator[None]:
    """Convert what zipfile and its decoders raise."""
    try:
        yield
    except AutosamEdgeError:
        raise
    except (*_DAMAGED, OSError) as error:
        # An error of the disk has a number; that of bz2 has none, and a jump to before the start is EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise INPUT_UNREADABLE(
                f"the zip archive cannot be read ({type(error).__name__}).",
                remedy="Check the permissions of the archive, and permissions and space of the temporary "
                "folder (TMPDIR), or give the unpacked folder.",
            ) from error
        what = f"damaged, encrypted or of an unknown method ({type(error).__name__})"
        raise ZIP_DAMAGED(f"the zip archive is {what}.") from error


def _unsafe(what: str) -> AutosamEdgeError:
    return ZIP_UNSAFE(f"the zip archive holds {what}.")


def _too_large(what: str) -> AutosamEdgeError:
    return ZIP_TOO_LARGE(f"the zip archive has {what}.")
