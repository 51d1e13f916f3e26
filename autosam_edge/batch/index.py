"""The index of the scans below some folders: each header is read once and kept in SQLite."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.batch.job import Fault, Job
from autosam_edge.ct_grid import MIN_SLICES
from autosam_edge.dicom.find import INPUTS_OF_THEIR_OWN, not_read
from autosam_edge.dicom.header import malformed, silenced
from autosam_edge.dicom.image_kinds import ct_images
from autosam_edge.dicom.parse import Allowance, read_header
from autosam_edge.error_codes import (
    BATCH_IN_USE,
    DISK_FULL,
    INPUT_UNREADABLE,
    OUTPUT_NOT_WRITABLE,
    PATH_MISSING,
)
from autosam_edge.errors import InputError
from autosam_edge.formats.companion import companion_status
from autosam_edge.formats.label_image import is_own_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TABLES = """
CREATE TABLE IF NOT EXISTS file (
    path BLOB PRIMARY KEY,   -- bytes, as names need not be UTF-8
    folder BLOB NOT NULL,
    size INTEGER NOT NULL,   -- of a volume in two files a text: sizes and times of both
    mtime_ns INTEGER NOT NULL, -- of a volume in two files that of the newer one
    scan TEXT,               -- id of the scan that it belongs to
    dicom INTEGER NOT NULL,  -- whether it is a DICOM file
    slices INTEGER NOT NULL, -- CT images in it
    fault TEXT,              -- JSON of the error, if it cannot be read
    look INTEGER NOT NULL    -- number of the last update that saw it
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS file_by_scan ON file (scan);
"""
ID_LETTERS = 16
_COMMIT_EVERY = 500  # files; a killed update loses no more than these


@dataclass(frozen=True)
class Place:
    """The folder of a service, which may be moved: ids and stamps are made of where it lay first.

    Args:
        now: Where it lies.
        first: Where it lay when the service began with it.
    """

    now: str = ""
    first: str = ""

    @property
    def moved(self) -> bool:
        """Whether it lies elsewhere now."""
        return self.now != self.first

    def name(self, path: str) -> str:
        """Path of which the id and the stamp of a scan are made."""
        inside = self.moved and (path == self.now or path.startswith(self.now + os.sep))
        return self.first + path.removeprefix(self.now) if inside else path


NOT_MOVED = Place()


@contextmanager
def opened_index(path: Path, place: Place = NOT_MOVED) -> Iterator[Index]:
    """The index in a file for a block; see :class:`Index`.

    Raises:
        BatchError: Another process writes it (AE-BATCH-003).
        OutputError: It is damaged or cannot be written (AE-OUTPUT-001), or the disk is full (-003).
    """
    try:
        with closing(Index(path, place)) as index:
            yield index
    except sqlite3.Error as error:  # told apart by its text, as Python 3.10 gives no code
        if "locked" in str(error):
            raise BATCH_IN_USE("another process indexes the inputs of this batch.") from error
        if "full" in str(error):
            raise DISK_FULL("the disk or the quota is full.") from error
        raise OUTPUT_NOT_WRITABLE(
            f"{path.name} in the output folder is damaged or cannot be written ({type(error).__name__}).",
            remedy=f"Check the disk and the permissions, or remove {path.name}; it is then made again.",
        ) from error


class Index:
    """The scans below some folders.

    Args:
        path: SQLite file; made when absent. It holds paths, which may name patients, and nothing else of a
            header but a hash of the SeriesInstanceUID.
        place: Folder of a service that may be moved.
    """

    def __init__(self, path: Path, place: Place = NOT_MOVED) -> None:
        self._place = place
        try:
            self._db = _opened(path)
        except sqlite3.OperationalError:  # locked, or the disk
            raise
        except sqlite3.DatabaseError:  # damaged; all that it holds is in the headers
            path.unlink()
            self._db = _opened(path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def update(self, inputs: Sequence[Path]) -> None:
        """Look at every file; opened are new and changed ones, those with an error, ``.mhd`` and ``.nhdr``.

        Args:
            inputs: Folders, and files that are scans by themselves.

        Raises:
            InputError: An input is absent (AE-INPUT-001) or cannot be read (AE-INPUT-003).
        """
        look = 1 + (self._db.execute("SELECT MAX(look) FROM file").fetchone()[0] or 0)
        count = 0
        with silenced():
            for root in inputs:
                real_root = os.path.realpath(root)
                for path, entry in _files(root):
                    count += 1
                    self._look_at(path, entry, real_root, look, f"file {count}")
                    if count % _COMMIT_EVERY == 0:
                        self._db.commit()
        self._db.execute("DELETE FROM file WHERE look < ?", (look,))
        self._db.commit()

    def _look_at(
        self, path: Path, entry: os.DirEntry[str] | None, real_root: str, look: int, name: str
    ) -> None:
        key, is_folder, fault = os.fsencode(path), False, None
        stamp: tuple[int | str, int] = (0, 0)
        found: tuple[str | None, bool, int] = (None, False, 0)
        try:
            stamp, is_folder = _stamp_of(path, name)
            # What was wrong may be right without a change of the file, such as its permissions; and what is
            # no scan in a folder is one that is given by its name.
            known = (
                "SELECT size, mtime_ns FROM file WHERE path = ? AND fault IS NULL AND (? OR scan NOT NULL)"
            )
            if self._db.execute(known, (key, entry is not None)).fetchone() == stamp:
                self._db.execute("UPDATE file SET look = ? WHERE path = ?", (look, key))
                return
            if is_folder:
                raise INPUT_UNREADABLE(f"{name} is a folder that cannot be read.")
            if entry is None or not not_read(entry, real_root, name):
                found = _described(path, name, self._place.name(str(path)), is_input=entry is None)
        except InputError as error:
            if _is_gone(path):
                return  # it was moved or removed while this looked
            fault = json.dumps(astuple(Fault.of(error)))
        row = (key, os.fsencode(path if is_folder else path.parent), *stamp, *found, fault, look)
        self._db.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def jobs(self) -> Iterator[Job]:
        """The scans in the order of their ids.

        Series of CT images that have fewer than three slices, such as bolus tracking, are marked as short. A
        file that cannot be read may be a slice of any scan in its folder: each of these carries the error. A
        folder with such a file and no scan is a job too, so that nothing is missing without a word.
        """
        rows = self._db.execute(
            "SELECT folder, MIN(fault), MAX(mtime_ns) FROM file WHERE fault NOT NULL GROUP BY folder"
        ).fetchall()
        faults = {os.fsdecode(folder): Fault(*json.loads(fault)) for folder, fault, _ in rows}
        newest_fault_s = {os.fsdecode(folder): newest / 1e9 for folder, _, newest in rows}
        blamed: set[str] = set()
        scans = self._db.execute(
            "SELECT scan, MAX(dicom), SUM(slices) FROM file WHERE scan NOT NULL GROUP BY scan"
        )
        for scan, dicom, slices in scans.fetchall():
            if dicom and not slices:
                continue
            short = bool(dicom) and slices < MIN_SLICES
            found = self._db.execute(
                "SELECT path, folder, size, mtime_ns FROM file WHERE scan = ? ORDER BY path", (scan,)
            ).fetchall()
            files = [(os.fsdecode(path), os.fsdecode(folder), *stamp) for path, folder, *stamp in found]
            folders = {folder for _, folder, _, _ in files}
            fault = next((faults[folder] for folder in folders & faults.keys()), None) if dicom else None
            blamed |= folders if fault and not short else set()
            # The message of an error numbers the files, so that it may change when others come.
            named = files
            if self._place.moved:
                named = [(*map(self._place.name, file[:2]), *file[2:]) for file in files]
            stamp = short_hash(repr((named, fault and fault.code)))
            newest_s = max(file[3] for file in files) / 1e9
            yield Job(scan, tuple(file[0] for file in files), bool(dicom), newest_s, stamp, fault, short)
        for folder in sorted(faults.keys() - blamed):
            fault = faults[folder]
            newest_s, stamp = newest_fault_s[folder], short_hash(repr(fault.code))
            scan = short_hash(self._place.name(folder))
            yield Job(scan, (), dicom=True, newest_s=newest_s, stamp=stamp, fault=fault)


def _opened(path: Path) -> sqlite3.Connection:
    with suppress(OSError):  # SQLite tells why it cannot be made
        # SQLite would make it for its owner alone to write, whatever the umask is.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o666))
    database = sqlite3.connect(path)
    try:
        database.executescript(_TABLES)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _files(root: Path) -> Iterator[tuple[Path, os.DirEntry[str] | None]]:
    """Every file below a root, in the order of the names, with its entry; links are given, not followed.

    A folder that cannot be read is given like a file. One that vanishes is passed over.
    """
    if stat.S_ISREG(mode_of_input(root)):
        yield root.resolve(), None
        return
    pending = [top := str(root.resolve())]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            folders = {entry for entry in entries if entry.is_dir(follow_symlinks=False)}
        except OSError as error:
            if folder == top:
                raise INPUT_UNREADABLE(f"an input cannot be read ({type(error).__name__}).") from error
            yield Path(folder), None
            continue
        pending += [entry.path for entry in reversed(entries) if entry in folders]
        yield from ((Path(entry.path), entry) for entry in entries if entry not in folders)


def mode_of_input(root: Path, what: str = "an input of the batch") -> int:
    """The mode of an input, which tells whether it is a folder.

    Args:
        what: What the input is, for the message.

    Raises:
        InputError: It does not exist (AE-INPUT-001), or that cannot be seen (AE-INPUT-003).
    """
    try:
        return root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: NUL in the name
        raise PATH_MISSING(f"{what} does not exist.") from error
    except OSError as error:
        raise INPUT_UNREADABLE(f"{what} cannot be read ({type(error).__name__}).") from error


def _stamp_of(path: Path, name: str) -> tuple[tuple[int | str, int], bool]:
    """Size and time of a file, or of both files of a volume in two; whether it is a folder."""
    try:
        status = path.lstat()
    except OSError as error:
        raise INPUT_UNREADABLE(f"{name} cannot be read ({type(error).__name__}).") from error
    stamp = (status.st_size, status.st_mtime_ns)
    if stat.S_ISREG(status.st_mode) and (other := companion_status(path)):
        both = (*stamp, other.st_size, other.st_mtime_ns)
        return (repr(both), max(both[1], both[3])), False
    return stamp, stat.S_ISDIR(status.st_mode)


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def _described(path: Path, name: str, own: str, *, is_input: bool) -> tuple[str | None, bool, int]:
    """Id of the scan that a file belongs to, whether it is DICOM, and its number of CT images.

    Args:
        own: Text of which the id of a file that is a scan by itself is made.
        is_input: Whether the file itself was given, so that it is a scan whatever it is.
    """
    kind = path.name.lower()
    if kind.endswith(tuple(INPUTS_OF_THEIR_OWN)):
        if not is_input and not kind.endswith(".zip") and is_own_result(path):
            return None, False, 0
        return short_hash(own), False, 0
    header = read_header(path, name, Allowance())
    if header is None:
        return short_hash(own) if is_input else None, False, 0
    images, _ = ct_images([header])
    uid = header.raw("SeriesInstanceUID")
    if not uid:
        if images:
            raise malformed("SeriesInstanceUID", name, "one UID")
        return None, True, 0
    return short_hash(uid), True, header.frames if images else 0


def short_hash(text: str) -> str:
    """First 16 letters of the SHA-256: 10 million scans share none but with a chance of 1 in 300,000."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:ID_LETTERS]
