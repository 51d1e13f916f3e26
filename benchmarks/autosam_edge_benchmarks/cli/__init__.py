"""The commands of this package: ``bench``, ``reproduce`` and ``baseline``.

Modules that an extra brings are imported in the commands, after wrong usage was refused.
"""

import typer

from autosam_edge_benchmarks.cli import baseline, bench, reproduce

app = typer.Typer(rich_markup_mode="markdown")
app.command("reproduce")(reproduce.reproduce)
app.add_typer(baseline.app, name="baseline")
app.add_typer(bench.app, name="bench")
