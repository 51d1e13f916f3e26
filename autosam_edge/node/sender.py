"""Results on their way to an archive: by C-STORE or STOW-RS, tried again until they are there."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pydicom
from pynetdicom import AE
from pynetdicom.presentation import build_context
from pynetdicom.status import code_to_category

from autosam_edge.node.log import log
from autosam_edge.system.atomic_files import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_SENT = "sent.json"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0
_TIMEOUT_S = 30
_LOGIN = "AUTOSAM_EDGE_ARCHIVE_USER", "AUTOSAM_EDGE_ARCHIVE_PASSWORD"
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
        title: Application entity title of the archive.
        login: User and password for the DICOMweb service; None if it asks for none.
    """

    url: str | None = None
    host: str = ""
    port: int = 0
    title: str = ""
    login: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> Archive:
        """Read ``TITLE@HOST:PORT`` or the ``http(s)://`` address of a DICOMweb service.

        Args:
            environment: Environment variables, of which two hold user and password of a DICOMweb service.

        Raises:
            ValueError: The text is neither, or it holds a user; or only one of the two variables is set.
        """
        variables = " and ".join(_LOGIN)
        user, password = ((environment or {}).get(name) for name in _LOGIN)
        if text.startswith(("http://", "https://")):
            if "@" in text.partition("?")[0]:
                raise ValueError(
                    "the address holds a user or a password, which each user of this computer can see; "
                    f"leave them out and set the variables {variables}"
                )
            if bool(user) != bool(password):
                raise ValueError(f"only one of the variables {variables} is set; set both or none")
            return cls(url=text.rstrip("/"), login=(user, password) if user and password else None)
        if user or password:
            raise ValueError(f"the variables {variables} are for a DICOMweb address; unset them")
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
            title: Application entity title of the node.

        Raises:
            NotSentError: The archive cannot be reached or did not take them all.
        """
        datasets = [pydicom.dcmread(path) for path in files]
        if self.url is not None:
            from dicomweb_client.api import DICOMwebClient
            from dicomweb_client.session_utils import create_session
            from requests.auth import HTTPBasicAuth

            try:
                session = create_session()
                if self.login:
                    session.auth = HTTPBasicAuth(*map(str.encode, self.login))  # RFC 7617: UTF-8
                client = DICOMwebClient(self.url, session)
                # Its own retries would keep the node from work; the outbox tries again.
                client.set_http_retry_params(retry=False)
                stored = client.store_instances(datasets)
            except Exception as error:  # of requests and of the client: the network, TLS, HTTP
                status = getattr(getattr(error, "response", None), "status_code", None)
                raise NotSentError(f"HTTP {status}" if status else type(error).__name__) from None
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
                    raise NotSentError("no answer" if code is None else f"status {code:04X}")
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
        title: Application entity title of the node.
        count: Function that is called with ``sent`` or ``not_sent`` for each scan.

    Attributes:
        unsent: Number of scans whose results the archive had not taken at the last look.
    """

    def __init__(self, scans: Path, archive: Archive, title: str, count: Callable[[str], None]) -> None:
        self._scans, self._archive, self._title, self._count = scans, archive, title, count
        # When a scan is tried again, the pause after that, and why it was not sent, logged when that changes.
        self._next: dict[str, tuple[float, float, str]] = {}
        self.unsent = 0

    def send_due(self) -> None:
        """Send what is due; what does not arrive is tried again after a pause that doubles."""
        now = time.monotonic()
        unsent = [
            (folder, files)
            for folder in sorted(self._scans.iterdir())
            if not (folder / _SENT).exists() and (files := sorted(folder.glob("*.dcm")))
        ]
        self.unsent = len(unsent)
        for folder, files in unsent:
            again, pause, reason = self._next.get(folder.name, (0.0, _FIRST_PAUSE_S, ""))
            if again > now:
                continue
            try:
                self._archive.send(files, self._title)
            except NotSentError as error:
                if str(error) != reason:
                    log("not_sent", scan=folder.name, reason=error)
                again, longer = time.monotonic() + pause, min(2 * pause, _LONGEST_PAUSE_S)
                self._next[folder.name] = again, longer, str(error)
                self._count("not_sent")
            else:
                write_file(json.dumps([path.name for path in files]).encode(), folder / _SENT)
                self._next.pop(folder.name, None)
                self._count("sent")
                self.unsent -= 1
