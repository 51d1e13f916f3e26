"""What a program that failed said last."""


def last_line(text: str) -> str:
    """The last line of a standard error, which names the reason as a rule."""
    return (text.strip().splitlines() or ["no message"])[-1].strip()
