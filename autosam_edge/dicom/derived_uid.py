"""UIDs that are derived from what they name."""

from __future__ import annotations

import hashlib

from pydicom.uid import UID


def derived_uid(*parts: str) -> UID:
    """A UID under 2.25 from the SHA-256 of its parts, so the same parts always give the same UID.

    Args:
        parts: Texts that say what the UID names; two different objects must not share them.

    Source:
        PS3.5 B.2 (UIDs from a UUID), RFC 9562 (UUID of version 8).
    """
    value = int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:16], "big")
    value = value & ~(0xF << 76) | (8 << 76)
    value = value & ~(0x3 << 62) | (2 << 62)
    return UID(f"2.25.{value}")
