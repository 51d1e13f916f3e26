"""The C-STORE service of the node: CT images of known senders, written to the inbox."""

from __future__ import annotations

import logging
import socket
import ssl
import uuid
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from threading import Event, Timer
from typing import TYPE_CHECKING, cast

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import

from autosam_edge.dicom.header import CT_IMAGES, raw_of
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.node.log import PeerLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.events import Event as AssociationEvent
    from pynetdicom.pdu_primitives import A_ASSOCIATE
    from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

    from autosam_edge.node.inbox import Inbox

# PS3.4 table B.2-1 and PS3.7 annex C.
_SUCCESS, _NO_RESOURCES, _NOT_THE_CLASS, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
_TIMEOUT_S = 30
_HANDSHAKE_S = 10
_MAX_PDU_BYTES = 1 << 20  # a sender is told 16,382 bytes; a request with all its contexts is longer
_MAX_RECEIVING_BYTES = 2 << 30  # of images that have not arrived whole, all associations together
_MAX_ASSOCIATIONS = 250  # silent strangers take a place until the handshake's time is over


@dataclass(frozen=True)
class Listener:
    """Where the node listens, and to whom.

    Args:
        port: TCP port; 0 takes a free one.
        host: Address of the interface.
        title: Application entity title of the node.
        callers: Titles that may send; empty for all.
        peers: Networks of computers that may send; empty for all.
        tls: TLS context; None speaks plain DICOM.
    """

    port: int
    host: str = "127.0.0.1"
    title: str = "AUTOSAM_EDGE"
    callers: tuple[str, ...] = ()
    peers: tuple[IPv4Network | IPv6Network, ...] = ()
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class _LateHandshake:
    """A TLS context whose handshakes take place in the threads of the associations, not where it listens."""

    context: ssl.SSLContext

    def wrap_socket(self, connection: socket.socket, *, server_side: bool) -> ssl.SSLSocket:
        return self.context.wrap_socket(connection, server_side, do_handshake_on_connect=False)


class Receiver:
    """The running service.

    Args:
        inbox: Where the files go.
        listener: Where it listens, and to whom.
        count: Function that is called with ``received``, ``refused`` or ``rejected`` for each file or
            association.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, inbox: Inbox, listener: Listener, count: Callable[[str], None]) -> None:
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # its records name patients
        self._inbox, self._listener, self._count = inbox, listener, count
        self._log = PeerLog()
        self._ids: dict[int, str] = {}
        self._receiving: dict[int, int] = {}  # bytes of the message that each association is sending
        entity = AE(ae_title=listener.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(listener.callers)
        entity.maximum_associations = _MAX_ASSOCIATIONS
        entity.acse_timeout = _HANDSHAKE_S
        entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        for kind in sorted(CT_IMAGES):
            entity.add_supported_context(kind, list(AllTransferSyntaxes))
        entity.add_supported_context(Verification)
        server = entity.start_server(
            (listener.host, listener.port),
            block=False,
            ssl_context=cast("ssl.SSLContext", listener.tls and _LateHandshake(listener.tls)),
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._connected),
                (evt.EVT_ACCEPTED, self._accepted),
                (evt.EVT_C_ECHO, self._echo),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_RELEASED, lambda event: self._ended(event, released=True)),
                (evt.EVT_CONN_CLOSE, lambda event: self._ended(event, released=False)),
                (evt.EVT_REJECTED, self._rejected),
            ],
        )
        assert server is not None  # block=False
        server.verify_request = self._is_peer  # type: ignore[assignment]  # the hook of socketserver
        self._server: ThreadedAssociationServer = server

    @property
    def port(self) -> int:
        """The port."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """End the service; running associations are aborted."""
        self._server.shutdown()

    def _is_peer(self, _request: object, address: tuple[str, int]) -> bool:
        given = ip_address(address[0])
        mapped = getattr(given, "ipv4_mapped", None) or given  # where one socket serves IPv4 and IPv6
        peers = self._listener.peers
        known = not peers or any(given in network or mapped in network for network in peers)
        if not known:
            self._count("rejected")
            self._log(address[0], "rejected", reason="address not in --allow-peer", address=address[0])
        return known

    def _rejected(self, event: AssociationEvent) -> None:
        self._count("rejected")
        request, listener = cast("A_ASSOCIATE", event.assoc.requestor.primitive), self._listener
        caller = request.calling_ae_title
        if request.called_ae_title != listener.title.strip():
            reason = "called title is not --aet"
        elif listener.callers and caller not in {title.strip() for title in listener.callers}:
            reason = "calling title not in --allow-aet"
        else:
            reason = "too many associations"
        self._log(str(event.assoc.requestor.address), "rejected", reason=reason, calling=ascii(caller))

    def _connected(self, event: AssociationEvent) -> None:
        """End a connection that is no association in time, or that sends more than the node can hold."""
        association = event.assoc
        stream = cast("AssociationSocket", association.dul.socket)
        read, refused, begun = stream.recv, Event(), Event()

        def read_part_of_pdu(count: int) -> bytearray:
            if count > _MAX_PDU_BYTES or refused.is_set():
                raise OSError  # pynetdicom closes the connection
            if id(association) in self._ids:
                begun.set()
                self._receiving[id(association)] = self._receiving.get(id(association), 0) + count
            if sum(list(self._receiving.values())) > _MAX_RECEIVING_BYTES:
                refused.set()
                self._count("refused")
                raise OSError
            try:
                return read(count)  # the first one makes the handshake
            except ssl.SSLError as error:
                if not begun.is_set():
                    self._count("rejected")
                    reason = f"TLS: {error.reason or type(error).__name__}".replace("_", " ")
                    address = event.address[0]  # type: ignore[attr-defined]  # as of each such event
                    self._log(address, "rejected", reason=reason, address=address)
                raise

        stream.recv = read_part_of_pdu  # type: ignore[assignment]  # this one connection

        def end() -> None:
            connection = stream.socket
            if id(association) not in self._ids and connection is not None:
                with suppress(OSError):  # it has ended by itself
                    connection.shutdown(socket.SHUT_RDWR)

        timer = Timer(_HANDSHAKE_S, end)
        timer.daemon = True
        timer.start()

    def _accepted(self, event: AssociationEvent) -> None:
        self._ids[id(event.assoc)] = association = uuid.uuid4().hex
        self._inbox.begin(association)

    def _ended(self, event: AssociationEvent, *, released: bool) -> None:
        self._receiving.pop(id(event.assoc), None)
        association = self._ids.pop(id(event.assoc), None)
        if association is not None:
            self._inbox.end(association, released=released)

    def _echo(self, event: AssociationEvent) -> int:
        self._receiving.pop(id(event.assoc), None)
        return _SUCCESS

    def _store(self, event: AssociationEvent) -> int:
        """Store one image; the status says to the sender why it was not stored."""
        status = self._stored(event)
        self._receiving.pop(id(event.assoc), None)
        self._count("received" if status == _SUCCESS else "refused")
        return status

    def _stored(self, event: AssociationEvent) -> int:
        if not self._inbox.has_room():
            return _NO_RESOURCES
        try:
            dataset = event.dataset
            study, instance = raw_of(dataset, "StudyInstanceUID"), raw_of(dataset, "SOPInstanceUID")
            kind = raw_of(dataset, "SOPClassUID")
        except Exception:  # pydicom raises many kinds for bytes that are no data set
            return _NOT_UNDERSTOOD
        request = cast("C_STORE", event.request)
        if (kind, instance) != (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID):
            return _NOT_THE_CLASS
        if not study:
            return _NOT_UNDERSTOOD
        try:
            self._inbox.take(self._ids[id(event.assoc)], study, instance, event.encoded_dataset())
        except (AutosamEdgeError, OSError, KeyError):  # no id: the association has ended meanwhile
            return _NO_RESOURCES
        return _SUCCESS
