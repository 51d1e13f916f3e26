"""A record of what ran: one line of JSON for each run, each with the hash of the line before it.

A line that is changed, taken out or put in breaks the chain, and :func:`verify` names it. Lines that are
taken from the end break nothing: keep the last hash, the head, in another place, and compare. No line holds
patient data: a scan is the SHA-256 of its SeriesInstanceUID or of its voxels.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from autosam_edge.error_codes import AUDIT_BROKEN
from autosam_edge.strict_json import parse_json
from autosam_edge.system.atomic_files import explained
from autosam_edge.system.file_hash import file_digest
from autosam_edge.system.file_lock import waiting_lock
from autosam_edge.system.staging import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from autosam_edge.volume import Segmentation

_FIRST = "0" * 64  # in place of the hash of a line before the first
_TAIL_BYTES = 1 << 16  # more than a line


@dataclass(frozen=True)
class Chain:
    """A record whose chain holds.

    Args:
        entries: Number of lines.
        head: Hash of the last line, hexadecimal; it covers all lines.
    """

    entries: int
    head: str


def append_run(record: Path, segmentation: Segmentation, files: Iterable[Path]) -> None:
    """Add a run to a record, before its results take their place.

    Args:
        record: File of the record; made when absent.
        segmentation: What the run found.
        files: The files of the results.

    Raises:
        AuditError: The last line is damaged (AE-AUDIT-001).
        OutputError: The record cannot be written (AE-OUTPUT-001), the disk is full (-003), or another process
            blocks it (-007).
    """
    provenance = segmentation.provenance
    append(
        record,
        {
            "input": provenance.input_hash,
            "software": provenance.software_and_version,
            "model_sha256": provenance.model_sha256,
            "artifact_sha256": provenance.artifact_sha256,
            "engine": f"{provenance.engine} {provenance.engine_version}",
            "verdict": segmentation.verdict,
            "warnings": sorted({warning.code for warning in segmentation.warnings}),
            "files": {file.name: file_digest(file) for file in sorted(files)},
        },
    )


def append(record: Path, event: Mapping[str, object]) -> None:
    """Add one line; processes that write at the same time wait for each other.

    Args:
        record: File of the record; made when absent.
        event: What happened, as JSON types, without patient data.

    Raises:
        AuditError: The last line is damaged (AE-AUDIT-001).
        OutputError: The record cannot be written (AE-OUTPUT-001), the disk is full (-003), or another process
            blocks it (-007).
    """
    with (
        explained("the record of what ran"),
        waiting_lock(record.with_name(f"{record.name}.lock"), seconds=WAIT_S),
        record.open("a+b", buffering=0) as file,
    ):
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        before = _FIRST
        if tail := file.read():
            before = _checked(tail.rstrip(b"\n").rpartition(b"\n")[2], None, "the last line")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = {"before": before, "time": now, **event}
        line = (json.dumps({**entry, "hash": _hash(entry)}) + "\n").encode()
        if tail and not tail.endswith(b"\n"):  # as an editor may leave it
            line = b"\n" + line
        try:
            while line:  # a disk that fills up takes a part
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(size)  # nothing could be added behind a part of a line
            raise


def verify(record: Path) -> Chain:
    """Check every line of a record and the chain that they form.

    Args:
        record: File of the record.

    Returns:
        The number of lines and the head.

    Raises:
        AuditError: A line was changed, taken out or put in (AE-AUDIT-001); the message names the first such.
        OSError: The record cannot be read.
    """
    head, count = _FIRST, 0
    with record.open("rb") as file:
        for count, line in enumerate(file, 1):
            head = _checked(line.rstrip(b"\n"), head, f"line {count}")
    return Chain(count, head)


def _checked(line: bytes, before: str | None, name: str) -> str:
    """The hash of a line that holds; ``before`` is the hash of the line before it, None if not known."""
    try:
        entry = parse_json(line)
        if not isinstance(entry, dict):
            raise ValueError
        found = entry.pop("hash", None)
        whole = found == _hash(entry) and before in (None, entry.get("before"))
    except ValueError:
        whole = False
    if not whole:
        raise AUDIT_BROKEN(f"{name} of the record does not follow from the lines before it.")
    return str(found)


def _hash(entry: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
