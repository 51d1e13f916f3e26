"""What a program that failed said last."""

import re


def last_line(text: str) -> str:
    """The last line of a standard error, which names the reason as a rule."""
    last = (text.strip().splitlines() or ["no message"])[-1].strip()
    return re.sub(r"^autosam_edge\.errors\.\w+: ", "", last)  # the code says it
