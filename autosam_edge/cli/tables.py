"""How tables and lines look on stdout."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

# A pipe has no width of its own, and a table squeezed to 80 columns is no table.
_PIPE_WIDTH = 140
_ENDLESS = 10_000


def new_table(
    title: str, *columns: str, words: Collection[str] | None = None, folded: Collection[str] = ()
) -> Table:
    """An empty table with a title, which is no markup.

    Args:
        words: Columns of words, to the left; the others hold numbers. The first one alone if None.
        folded: Columns that may take several lines.
    """
    table = Table(
        title=Text(title, style="italic"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # two spaces between columns, so that most tables fit into 80 characters
        pad_edge=False,
    )
    for column in columns:
        left = column in (columns[:1] if words is None else words)
        table.add_column(
            column,
            justify="left" if left or column in folded else "right",
            no_wrap=left and column not in folded,
            overflow="fold",
        )
    return table


def show_facts(facts: Mapping[str, str]) -> None:
    """Print facts below each other, with their names in a column of their own, and an empty line."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")  # a hash is longer than some terminals are wide
    for name, fact in facts.items():
        table.add_row(name, Text(fact))
    new_console().print(table, "", sep="\n")


def new_console() -> Console:
    """Stdout, as wide as the terminal; 140 columns where it is a file or a pipe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def show(table: Table) -> None:
    """Print a table on stdout; on a terminal that is too narrow for its longest words, cell by cell."""
    console = new_console()
    if console.width >= table.__rich_measure__(console, console.options.update(width=_ENDLESS)).minimum:
        console.print(table)
        return
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for column, cell in zip(table.columns, row, strict=True):
            console.print(f"{column.header}:", cell)
        console.print()
