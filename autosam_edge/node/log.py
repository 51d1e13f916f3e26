"""The log of the node."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timezone
from threading import Lock

_FEW, _EVERY_S, _MOST_PEERS = 5, 60.0, 1000


def log(event: str, **facts: object) -> None:
    """One line on stderr, without patient data."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    print(now, event, *(f"{key}={value}" for key, value in facts.items()), file=sys.stderr, flush=True)


class PeerLog:
    """Lines about peers that may come without end: a few of each peer and reason, then at most one a minute.

    Such a line tells with ``more=`` how many came since the last one. Several threads may log.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        # Of each peer and reason: lines, events since the last of them, and its time.
        self._peers: dict[tuple[str, object], tuple[int, int, float]] = {}

    def __call__(self, peer: str, event: str, **facts: object) -> None:
        """Log an event, or count it."""
        now, key = time.monotonic(), (peer, facts.get("reason"))
        with self._lock:
            lines, more, last = self._peers.pop(key, (0, 0, now))
            if silent := lines >= _FEW and now - last < _EVERY_S:
                self._peers[key] = lines, more + 1, last
            else:
                self._peers[key] = lines + 1, 0, now
            if len(self._peers) > _MOST_PEERS:
                del self._peers[next(iter(self._peers))]
        if not silent:
            log(event, **facts, **({"more": more} if more else {}))
