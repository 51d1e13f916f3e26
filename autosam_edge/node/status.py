"""The state of the node for monitoring: ``/health`` and ``/metrics`` (Prometheus), on this computer only."""

from __future__ import annotations

import json
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Counts:
    """Numbers of events since the start, counted by several threads.

    Args:
        events: Events that may come, whose numbers begin at 0.

    Attributes:
        waiting_code: Code of the error over which the service waits; None while it works.
    """

    def __init__(self, *events: str) -> None:
        self._counter, self._lock = Counter(dict.fromkeys(events, 0)), Lock()
        self.waiting_code: str | None = None

    def add(self, event: str) -> None:
        """Count one event."""
        with self._lock:
            self._counter[event] += 1

    def all(self) -> dict[str, int]:
        """The numbers by event."""
        with self._lock:
            return dict(sorted(self._counter.items()))


class StatusServer:
    """The service, in a thread of its own.

    Args:
        port: TCP port of 127.0.0.1; 0 takes a free one.
        counts: Events that are counted.
        gauges: Function that gives the numbers of the moment by name.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, port: int, counts: Counts, gauges: Callable[[], dict[str, int]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, code, status = self.path.partition("?")[0].rstrip("/"), counts.waiting_code, 200
                if path == "/health":
                    state = {"state": "waiting", "code": code} if code else {"state": "ok"}
                    kind, body = "application/json", json.dumps({**state, **gauges(), **counts.all()})
                    status = 503 if code else 200
                elif path == "/metrics":
                    lines = [
                        f"# TYPE autosam_edge_{k}_total counter\nautosam_edge_{k}_total {v}"
                        for k, v in counts.all().items()
                    ]
                    lines += [
                        f"# TYPE autosam_edge_{k} gauge\nautosam_edge_{k} {v}"
                        for k, v in {"waiting": int(code is not None), **gauges()}.items()
                    ]
                    kind, body = "text/plain; version=0.0.4", "\n".join(lines) + "\n"
                else:
                    self.send_error(404)
                    return
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_args: object) -> None:
                """Write no line for each request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """The port."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """End the service."""
        self._server.shutdown()
        self._server.server_close()
