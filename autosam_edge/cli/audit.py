"""``autosam-edge audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autosam_edge.audit import verify
from autosam_edge.error_codes import AUDIT_BROKEN

app = typer.Typer(help="Check the record of what ran.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep ``verify`` a word of its own; Typer would drop it while it is the only command."""


@app.command("verify")
def verify_record(
    record: Annotated[
        Path, typer.Argument(help="File of the record, audit.jsonl.", exists=True, dir_okay=False)
    ],
    head: Annotated[
        str | None,
        typer.Option("--head", help="Hash of the last line as it was noted; then nothing may be missing."),
    ] = None,
) -> None:
    """Check that no line of the record was changed, taken out or put in, and show its head."""
    chain = verify(record)
    if head is not None and head.strip().lower() != chain.head:
        raise AUDIT_BROKEN("the last line of the record is not the one that was noted.")
    print(f"{chain.entries} lines, head {chain.head}")
