"""The real scan for a site, and a server of a folder without headers of isolation."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autosam_edge_test_support import SHARED_DATA

SCAN = SHARED_DATA / "tcga-ov-abdomen"


class SiteHandler(http.server.SimpleHTTPRequestHandler):
    """Files of a site, in silence."""

    def guess_type(self, path: object) -> str:
        """Modules must be of a type of JavaScript, which not every system knows."""
        return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(str(path))

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing: every request would be a line."""


@contextmanager
def serving(folder: Path, handler: type[SiteHandler] = SiteHandler) -> Iterator[str]:
    """Address of the folder while the block runs."""
    handle = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
