"""``autosam-edge watch`` and ``autosam-edge serve``."""

from __future__ import annotations

import errno
import os
import signal
import socket
import ssl
import time
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

import typer

from autosam_edge.batch.batch import Batch, Selection
from autosam_edge.batch.job import Settings
from autosam_edge.cli import options
from autosam_edge.cli.extras import needs
from autosam_edge.node.log import log
from autosam_edge.node.status import Counts, StatusServer
from autosam_edge.node.watch import watch
from autosam_edge.output_formats import DICOM_FORMATS
from autosam_edge.read_scan import input_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from autosam_edge.bundle import Tier
    from autosam_edge.node.inbox import Inbox
    from autosam_edge.node.receiver import Listener
    from autosam_edge.node.sender import Archive

Settle = Annotated[
    float,
    typer.Option(
        "--settle",
        min=0,
        help="Seconds for which the command must see the files of a scan unchanged; then it is complete.",
    ),
]
StatusPort = Annotated[
    int | None,
    typer.Option(
        "--status-port", min=1, max=65535, help="Port of this computer for /health and /metrics (Prometheus)."
    ),
]
_OF_WATCH = ("segmented", "failed", "passed_over")
_MIN_TOKEN = 16
_ANY_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL
_GRACE_S = 3  # for requests that run when the service is stopped; a client may follow a job for ever


Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on which series arrive (C-STORE).")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for every network.")]
Title = Annotated[str, typer.Option("--aet", help="Application entity title of this node.")]
Callers = Annotated[
    list[str] | None,
    typer.Option("--allow-aet", metavar="TITLE", help="Title that may send. Default: every title."),
]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-peer",
        metavar="ADDRESS",
        help="IP address, or network such as 10.0.0.0/24, that may send. Default: every one.",
    ),
]
SendTo = Annotated[
    str | None,
    typer.Option(
        "--send-to",
        metavar="ARCHIVE",
        help="Archive that gets the DICOM results: TITLE@HOST:PORT for C-STORE, or the http(s) address "
        "of a DICOMweb service.",
    ),
]
Certificate = Annotated[
    Path | None, typer.Option("--tls-cert", help="Certificate (PEM); with it the node speaks TLS only.")
]
Key = Annotated[Path | None, typer.Option("--tls-key", help="Key of the certificate (PEM).")]
Authorities = Annotated[
    Path | None,
    typer.Option("--tls-ca", help="Authorities (PEM) of which each sender must have a certificate."),
]
MinFree = Annotated[
    float, typer.Option("--min-free", min=0, help="Free space on the disk below which files are refused, MB.")
]
MaxWaiting = Annotated[
    int,
    typer.Option(
        "--max-waiting",
        min=1,
        help="Number of waiting studies, without interrupted ones, above which files are refused.",
    ),
]
Http = Annotated[
    int | None,
    typer.Option(
        "--http",
        min=1,
        max=65535,
        help="Port of an HTTP service for apps, in place of C-STORE: a zip of a series in, results out. "
        "Each request bears the token of the variable AUTOSAM_EDGE_TOKEN.",
    ),
]
MaxUpload = Annotated[
    float, typer.Option("--max-upload", min=1, help="Largest scan that the HTTP service takes, MB.")
]


def watch_folder(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Folder into which scans come.")],
    out: options.Out,
    settle: Settle = 60,
    status_port: StatusPort = None,
    bundle: options.BundleOption = None,
    tier: options.TierOption = None,
    engine: options.Engine = None,
    max_memory: options.MaxMemory = None,
    formats: options.Formats = None,
    pseudonymize: options.Pseudonymize = False,
) -> None:
    """Label each scan that comes into a folder, until the command is stopped."""
    settings = _settings(bundle, tier, engine, max_memory, formats, pseudonymize=pseudonymize)
    counts = Counts(*_OF_WATCH)
    _check_status_port(status_port)
    batch = Batch([input_path(source)], out, settings, Selection(settle_s=settle))
    with ExitStack() as stack:
        stack.enter_context(batch.folder.serving())
        _serve_status(stack, status_port, counts, dict)
        watch(batch, _stop_event(), counts=counts)


_OF_DICOM = {
    "port", "title", "callers", "peers", "send_to", "certificate", "key", "authorities", "settle", "min_free",
    "max_waiting", "status_port",
}  # fmt: skip


def serve(
    context: typer.Context,
    out: options.Out,
    port: Port = 11112,
    host: Host = "127.0.0.1",
    title: Title = "AUTOSAM_EDGE",
    callers: Callers = None,
    peers: Peers = None,
    send_to: SendTo = None,
    certificate: Certificate = None,
    key: Key = None,
    authorities: Authorities = None,
    settle: Settle = 30,
    min_free: MinFree = 2000,
    max_waiting: MaxWaiting = 50,
    status_port: StatusPort = None,
    http: Http = None,
    max_upload: MaxUpload = 2000,
    bundle: options.BundleOption = None,
    tier: options.TierOption = None,
    engine: options.Engine = None,
    max_memory: options.MaxMemory = None,
    formats: options.Formats = None,
    pseudonymize: options.Pseudonymize = False,
) -> None:
    """Run a DICOM node: receive CT series, label their organs, send the results to an archive."""
    settings = _settings(bundle, tier, engine, max_memory, formats, pseudonymize=pseudonymize)
    if http is not None:
        options.refuse_given(context, _OF_DICOM, "has no effect with --http")
        _serve_http(out, settings, host, http, max_upload)
        return
    options.refuse_given(context, {"max_upload"}, "has no effect without --http")
    with needs("node"):
        from autosam_edge.node.inbox import Inbox
        from autosam_edge.node.receiver import Listener
        from autosam_edge.node.sender import Archive, check_title
    with _naming("--aet"):
        check_title(title)
    with _naming("--allow-aet"):
        for caller in callers or ():
            check_title(caller)
    with _naming("--allow-peer"):
        networks = tuple(map(ip_network, peers or ()))
    with _naming("--send-to"):
        archive = None if send_to is None else Archive.parse(send_to, os.environ)
        if archive and settings.formats and not set(settings.formats) & set(DICOM_FORMATS):
            raise ValueError("there is nothing to send: --format names no DICOM format")
    tls = _tls(certificate, key, authorities)
    with _listening("--port", host, port):
        _check_status_port(status_port)
    inbox = Inbox(out, settle_s=settle, min_free_mb=min_free, max_studies=max_waiting)
    listener = Listener(port, host, title, tuple(callers or ()), networks, tls)
    batch = Batch([inbox.complete], out / "results", settings, movable=True)
    _serve_dicom(batch, inbox, listener, archive, status_port)


def _serve_dicom(
    batch: Batch, inbox: Inbox, listener: Listener, archive: Archive | None, status_port: int | None
) -> None:
    """Receive in threads, segment and send in this one, until the command is stopped."""
    from autosam_edge.node.receiver import Receiver
    from autosam_edge.node.sender import Outbox

    def gauges() -> dict[str, int]:
        unsent = {} if outbox is None else {"unsent_scans": outbox.unsent}
        return {"waiting_studies": inbox.waiting, "interrupted_studies": inbox.interrupted, **unsent}

    sent = () if archive is None else ("sent", "not_sent")
    counts, stop = Counts(*_OF_WATCH, "received", "refused", "rejected", *sent), _stop_event()
    outbox = None if archive is None else Outbox(batch.folder.scans, archive, listener.title, counts.add)
    with ExitStack() as stack:
        stack.enter_context(batch.folder.serving())
        receiver = Receiver(inbox, listener, counts.add)
        stack.callback(receiver.close)
        _serve_status(stack, status_port, counts, gauges)
        log("listening", port=receiver.port)
        watch(batch, stop, counts=counts, inbox=inbox, outbox=outbox)


def _serve_http(out: Path, settings: Settings, host: str, port: int, max_mb: float) -> None:
    """Serve in a thread and segment in this one, until the command is stopped."""
    token = os.environ.get("AUTOSAM_EDGE_TOKEN", "")
    if len(token) < _MIN_TOKEN:
        raise typer.BadParameter(
            f"set the variable AUTOSAM_EDGE_TOKEN to a secret of {_MIN_TOKEN} characters or more",
            param_hint="--http",
        )
    with needs("http"):
        import uvicorn

        from autosam_edge.node.web import Jobs, Progress, make_app
    with _listening("--http", host, port) as listening, ExitStack() as stack:
        inbox = out / "received"
        inbox.mkdir(parents=True, exist_ok=True)
        batch, progress = Batch([inbox], out / "results", settings, movable=True), Progress()
        stack.enter_context(batch.folder.serving())
        app = make_app(Jobs(batch, inbox, progress, max_mb), token=token)
        service = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_S)
        )
        stop = _stop_event()

        def run() -> None:
            try:
                service.run([listening])
            finally:
                stop.set()

        thread = Thread(target=run)
        thread.start()
        try:
            # A job that has ended as failed stays failed: its client no longer follows it.
            watch(batch, stop, counts=Counts(), on_tile=progress, on_wait=progress.clear, retry=frozenset())
        finally:
            service.should_exit = True
            thread.join()


def _settings(
    bundle: Path | None,
    tier: Tier | None,
    engine: options.EngineName | None,
    max_memory: float | None,
    formats: list[str] | None,
    *,
    pseudonymize: bool,
) -> Settings:
    settings = Settings(
        bundle=bundle,
        tier=tier,
        engine=engine,
        max_memory_mb=max_memory,
        formats=options.chosen_formats(formats),
        pseudonymize=pseudonymize,
    )
    settings.of_results()  # a wrong bundle is refused before a folder is made
    return settings


@contextmanager
def _naming(option: str) -> Iterator[None]:
    """Name the option whose value, or whose file, is refused in the block."""
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"cannot be loaded ({type(error).__name__})", param_hint=option) from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _listening(option: str, host: str, port: int) -> socket.socket:
    """A socket that listens; a host or a port that cannot be opened is refused."""
    try:
        family, _, _, _, address = min(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))  # IPv4 first
        return socket.create_server(address, family=family)
    except OSError as error:
        is_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        what, hint = (host, "--host") if is_host else (f"port {port}", option)
        reason = str(error.strerror).partition(" (")[0]
        raise typer.BadParameter(f"{what} cannot be opened ({reason})", param_hint=hint) from None


def _check_status_port(port: int | None) -> None:
    if port is not None:
        _listening("--status-port", "127.0.0.1", port).close()


def _serve_status(
    stack: ExitStack, port: int | None, counts: Counts, gauges: Callable[[], dict[str, int]]
) -> None:
    """Serve the state of the node until the stack ends, if a port was given."""
    if port is not None:
        stack.callback(StatusServer(port, counts, gauges).close)


def _stop_event() -> Event:
    """An event that SIGTERM and Ctrl-C set: the scan in hand is finished first."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop


def _tls(certificate: Path | None, key: Path | None, authorities: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key or authorities:
            raise typer.BadParameter("is missing: without it the node speaks no TLS", param_hint="--tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with _naming("--tls-cert"):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certificate)
    with _naming("--tls-key" if key else "--tls-cert"):
        context.load_cert_chain(certificate, key, _no_pass_phrase)
    end = _end_of(certificate, context)
    if end and ssl.cert_time_to_seconds(end) < time.time():
        raise typer.BadParameter(f"expired on {end}; give a valid one", param_hint="--tls-cert")
    if authorities is not None:
        with _naming("--tls-ca"):
            context.load_verify_locations(authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_pass_phrase() -> str:
    raise ValueError("the key has a pass phrase; give one without")


def _end_of(certificate: Path, context: ssl.SSLContext) -> str | None:
    """End of the time for which a certificate is valid, from a handshake in memory; None if that fails.

    Python's ssl decodes only the certificate of the other side of a connection, once it is trusted.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _ANY_TIME
    trusting.load_verify_locations(certificate)
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    node, sender = context.wrap_bio(here, there, server_side=True), trusting.wrap_bio(there, here)
    with suppress(ssl.SSLError, ValueError):
        for side in (sender, node, sender, node, sender):  # TLS 1.2 needs all of them
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        return str((sender.getpeercert() or {}).get("notAfter", "")) or None
    return None
