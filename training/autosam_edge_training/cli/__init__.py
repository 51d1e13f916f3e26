"""The commands of this package: training, fitting of decision weights, and evaluation.

The modules with torch are imported in the commands, after wrong usage was refused.
"""

import typer

from autosam_edge_training.cli import data, evaluate, train

app = typer.Typer(rich_markup_mode="markdown")
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.command("distill")(train.distill)
app.command("score")(evaluate.score)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(evaluate.compare)
app.command("fit-decision-weights")(evaluate.fit_decision_weights)
