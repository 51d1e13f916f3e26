"""Studies that arrive file by file, on the disk, so that nothing is lost when the node is killed."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from autosam_edge.batch.index import short_hash
from autosam_edge.system.atomic_files import write_file

if TYPE_CHECKING:
    from pathlib import Path

_OPEN = ".open-"  # start of the name of a mark: an association that has not ended well


class Inbox:
    """A folder for each study that arrives, and the folder of the complete ones.

    An association marks each study to which it sends, and removes its marks when it is released. A study with
    a mark is not complete: the association runs, was aborted, or ended with the node. The sender then sends
    the study again, and the marks of ended associations go with the first one that is released.

    Args:
        root: Folder of both.
        settle_s: Seconds without a file after which a study is complete.
        min_free_mb: Space on the disk below which nothing is taken, MB.
        max_studies: Number of waiting studies, without the interrupted ones, above which nothing is taken.
    """

    def __init__(self, root: Path, *, settle_s: float, min_free_mb: float, max_studies: int) -> None:
        self.complete, self._arriving = root / "received", root / "incoming"
        for folder in (self.complete, self._arriving):
            folder.mkdir(parents=True, exist_ok=True)
        self._settle_s, self._min_free_mb, self._max_studies = settle_s, min_free_mb, max_studies
        self._running: set[str] = set()
        # Monotonic time of the first look at each study as it is now: a file may be dated into the future.
        self._since: dict[tuple[str, float, int], float] = {}
        self._interrupted = self._without_sender()

    @property
    def waiting(self) -> int:
        """Number of studies that are not complete."""
        return sum(1 for _ in self._arriving.iterdir())

    @property
    def interrupted(self) -> int:
        """Number of studies whose association ended without a release, and that no other one sends again."""
        return len(self._interrupted)

    def has_room(self) -> bool:
        """Whether another file may be taken."""
        free_mb = shutil.disk_usage(self._arriving).free / 1e6
        waiting = {folder.name for folder in self._arriving.iterdir()} - self._interrupted
        return free_mb > self._min_free_mb and len(waiting) <= self._max_studies

    def begin(self, association: str) -> None:
        """Note an association, by an id of letters and digits."""
        self._running.add(association)

    def take(self, association: str, study_uid: str, instance_uid: str, content: bytes) -> None:
        """Store one file; the same file again changes nothing.

        Args:
            association: Id of the association that sent it.
            instance_uid: SOPInstanceUID.
            content: The file, with preamble and file meta information.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        study, name = short_hash(study_uid), f"{short_hash(instance_uid)}.dcm"
        folder = self._arriving / study
        folder.mkdir(exist_ok=True)
        (folder / f"{_OPEN}{association}").touch()
        self._interrupted.discard(study)
        known = (folder / name, self.complete / study / name)
        if not any(path.exists() and path.read_bytes() == content for path in known):
            write_file(content, folder / name)

    def end(self, association: str, *, released: bool) -> None:
        """Note the end of an association.

        Args:
            released: Whether it ended by a release, after the sender sent all that it wanted.
        """
        self._running.discard(association)
        if released:
            marks = self._marks()
            own = {mark.parent for mark in marks if mark.name == f"{_OPEN}{association}"}
            for mark in marks:
                if mark.parent in own and mark.name.removeprefix(_OPEN) not in self._running:
                    mark.unlink(missing_ok=True)
        self._interrupted = self._without_sender()

    def collect(self) -> int:
        """Move the complete studies; return their number."""
        count, now, since = 0, time.monotonic(), self._since
        self._since = {}
        for folder in self._arriving.iterdir():
            files = list(folder.iterdir())
            if any(path.name.startswith(_OPEN) for path in files):
                continue
            try:
                newest = max(path.stat().st_mtime for path in (folder, *files))
            except FileNotFoundError:  # an association goes on with it
                continue
            look = folder.name, newest, len(files)
            self._since[look] = since.get(look, now)
            if now - self._since[look] < self._settle_s:
                continue
            target = self.complete / folder.name
            target.mkdir(exist_ok=True)
            for path in files:
                path.replace(target / path.name)
            with suppress(OSError):  # another file of the study has come meanwhile
                folder.rmdir()
            count += 1
        return count

    def _without_sender(self) -> set[str]:
        """Names of the studies whose marks are all of ended associations."""
        marks = self._marks()
        sent = {mark.parent for mark in marks if mark.name.removeprefix(_OPEN) in self._running}
        return {mark.parent.name for mark in marks if mark.parent not in sent}

    def _marks(self) -> list[Path]:
        """The marks of associations in all studies."""
        found: list[Path] = []
        for folder in self._arriving.iterdir():
            with suppress(FileNotFoundError):  # `collect` has moved the study meanwhile
                found += folder.glob(f"{_OPEN}*")
        return found
