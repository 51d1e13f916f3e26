"""How tables look."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

# A pipe has no width of its own, and a table squeezed to 80 columns is no table.
_PIPE_WIDTH = 140


def new_table(title: str) -> Table:
    """An empty table with a title."""
    return Table(
        title=Text(title, style="italic"), title_justify="left", box=SIMPLE_HEAD
    )  # a bracket in a Text is no markup


def show(table: Table) -> None:
    """Print a table on stdout, as wide as the terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)
