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
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from autosam_edge.error_codes import INPUT_UNREADABLE, ZIP_DAMAGED, ZIP_TOO_LARGE, ZIP_UNSAFE
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.platform import LZMAError

if sys.platform == "win32":
    from pathlib import WindowsPath as _Path
else:
    from pathlib import PosixPath as _Path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

MAX_ENTRIES = 20_000
MAX_BYTES = 8 << 30  # the largest volume that is read, four times
MAX_RATIO = 100  # CT deflates two- to tenfold, a bomb a thousandfold
_FREE_BYTES = 64 << 20  # below this size the ratio does not matter
_IN_MEMORY_BYTES = 64 << 20  # a larger entry is inflated into a file without a name
_CHUNK = 1 << 20
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    UnicodeDecodeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


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


class _Archive:
    """An archive, and how much of it was inflated; the largest of several readings of an entry counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._budget = min(MAX_BYTES, max(_FREE_BYTES, MAX_RATIO * path.stat().st_size))
        self._inflated: dict[str, int] = {}

    def inflate(self, entry: zipfile.ZipInfo) -> IO[bytes]:
        """The content of an entry, at its start."""
        others = sum(size for name, size in self._inflated.items() if name != entry.filename)
        with _explained():
            sink: IO[bytes] = (
                io.BytesIO() if entry.file_size <= _IN_MEMORY_BYTES else tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
            )
        try:
            with _explained(), zipfile.ZipFile(self.path) as archive, archive.open(entry) as source:
                self._inflated[entry.filename] = _copy(source, sink, self._budget - others)
        except BaseException:
            sink.close()
            raise
        sink.seek(0)
        return sink


def files_of_zip(path: Path) -> list[ZippedFile]:
    """The files of a zip archive, in the order of their names.

    Args:
        path: The archive.

    Raises:
        InputError: An entry is unsafe (AE-INPUT-006), there are too many (AE-INPUT-007), the archive is
            damaged, encrypted or of an unknown method (AE-INPUT-008), or it cannot be read (AE-INPUT-003).
    """
    with _explained(), zipfile.ZipFile(path) as opened:
        entries = opened.infolist()
        archive = _Archive(path)
    if len(entries) > MAX_ENTRIES:
        raise _too_large(f"{len(entries)} entries, expected at most {MAX_ENTRIES}")
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
    if name.startswith("/") or ".." in parts or ":" in name or any(ord(letter) < 32 for letter in name):
        raise _unsafe("an entry whose path leads out of the archive")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _unsafe("an entry that is a link or a device")
    return () if entry.is_dir() else parts


def _copy(source: IO[bytes], sink: IO[bytes], budget: int) -> int:
    """Copy and count the bytes that really come out, as sizes in the archive's directory can lie."""
    copied = 0
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > budget:
            raise _too_large(f"contents of more than {MAX_BYTES >> 30} GiB or {MAX_RATIO} times its own size")
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
