"""The log of the node."""

from __future__ import annotations

import sys
from datetime import datetime, timezone


def log(event: str, **facts: object) -> None:
    """One line on stderr, without patient data."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    print(now, event, *(f"{key}={value}" for key, value in facts.items()), file=sys.stderr, flush=True)
