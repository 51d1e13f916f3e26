"""What several commands ask in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def one_of(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a value that is none of the choices; ``what`` is the option or argument."""
    known = tuple(choices)
    if value not in known:
        raise typer.BadParameter(f"expected {', '.join(known)}", param_hint=what)


def named_paths(option: str, texts: Sequence[str], *, folders: bool = False) -> dict[str, Path]:
    """The paths of an option that is given as NAME=PATH, once per name."""
    kind = "folder" if folders else "file"
    found: dict[str, Path] = {}
    for text in texts:
        name, _, place = text.partition("=")
        path = Path(place)
        if not name or not (path.is_dir() if folders else path.is_file()):
            raise typer.BadParameter(
                f"expected NAME={kind.upper()} with a {kind} that exists, not {text}", param_hint=option
            )
        if name in found:
            raise typer.BadParameter(f"two are named {name}", param_hint=option)
        found[name] = path
    return found
