"""Results on their way to an archive: by C-STORE or STOW-RS, tried again until they are there."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pydicom
from pynetdicom import AE
from pynetdicom.presentation import build_context
from pynetdicom.status import code_to_category

from autosam_edge.system.atomic_files import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_SENT = "sent.json"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0
_TIMEOUT_S = 30
_THERE = 0x0111  # "duplicate SOP Instance" (PS3.7 annex C): an earlier attempt reached the archive


class NotSentError(Exception):
    """The archive did not take the files; they are sent again later."""


def check_title(text: str) -> None:
    """Refuse what is no application entity title (PS3.5 section 6.2).

    Raises:
        ValueError: It is none.
    """
    if not (text.isascii() and text.isprintable() and "\\" not in text and text.strip() and len(text) <= 16):
        raise ValueError("expected a title of 1 to 16 ASCII characters, not blank and without a backslash")


@dataclass(frozen=True)
class Archive:
    """Where results go.

    Args:
        url: Address of a DICOMweb service for STOW-RS; None for C-STORE.
        host: Address of the archive's computer.
        port: TCP port.
        title: Application entity title of the archive.
    """

    url: str | None = None
    host: str = ""
    port: int = 0
    title: str = ""

    @classmethod
    def parse(cls, text: str) -> Archive:
        """Read ``TITLE@HOST:PORT`` or the ``http(s)://`` address of a DICOMweb service.

        Raises:
            ValueError: The text is neither.
        """
        if text.startswith(("http://", "https://")):
            return cls(url=text.rstrip("/"))
        title, _, place = text.partition("@")
        host, _, port = place.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")  # of an IPv6 address
        if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise ValueError("expected TITLE@HOST:PORT or http(s)://HOST/PATH")
        check_title(title)
        return cls(host=host, port=int(port), title=title)

    def send(self, files: Sequence[Path], title: str) -> None:
        """Send files.

        Args:
            files: DICOM files.
            title: Application entity title of the node.

        Raises:
            NotSentError: The archive cannot be reached or did not take them all.
        """
        datasets = [pydicom.dcmread(path) for path in files]
        if self.url is not None:
            from dicomweb_client.api import DICOMwebClient

            try:
                client = DICOMwebClient(self.url)
                # Its own retries would keep the node from work; the outbox tries again.
                client.set_http_retry_params(retry=False)
                stored = client.store_instances(datasets)
            except Exception as error:  # of requests and of the client: the network, TLS, HTTP
                raise NotSentError(type(error).__name__) from None
            if stored.get("FailedSOPSequence"):  # with HTTP 202 (PS3.18 section 10.5.3)
                raise NotSentError("refused")
            return
        entity = AE(ae_title=title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        contexts = [
            build_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID) for dataset in datasets
        ]
        try:
            association = entity.associate(self.host, self.port, contexts=contexts, ae_title=self.title)
        except OSError as error:  # as when the name of the computer cannot be resolved
            raise NotSentError(type(error).__name__) from None
        if not association.is_established:
            raise NotSentError("no association")
        try:
            for dataset in datasets:
                status = association.send_c_store(dataset)
                code = status.get("Status")
                if code != _THERE and (code is None or code_to_category(code) not in ("Success", "Warning")):
                    raise NotSentError("refused")
        except ValueError:
            raise NotSentError("the archive does not take a kind of the results") from None
        except RuntimeError:
            raise NotSentError("the archive has ended the association") from None
        finally:
            association.release()


class Outbox:
    """The results that an archive must get.

    Args:
        scans: Folder with a folder for each scan.
        archive: Where they go.
        title: Application entity title of the node.
        count: Function that is called with ``sent`` or ``not_sent`` for each scan.
    """

    def __init__(self, scans: Path, archive: Archive, title: str, count: Callable[[str], None]) -> None:
        self._scans, self._archive, self._title, self._count = scans, archive, title, count
        # When a scan is tried again, and the pause after that.
        self._next: dict[str, tuple[float, float]] = {}

    def send_due(self) -> None:
        """Send what is due; what does not arrive is tried again after a pause that doubles."""
        now = time.monotonic()
        for folder in sorted(self._scans.iterdir()):
            again, pause = self._next.get(folder.name, (0.0, _FIRST_PAUSE_S))
            if again > now or (folder / _SENT).exists() or not (files := sorted(folder.glob("*.dcm"))):
                continue
            try:
                self._archive.send(files, self._title)
            except NotSentError:
                self._next[folder.name] = time.monotonic() + pause, min(2 * pause, _LONGEST_PAUSE_S)
                self._count("not_sent")
            else:
                write_file(json.dumps([path.name for path in files]).encode(), folder / _SENT)
                self._next.pop(folder.name, None)
                self._count("sent")
