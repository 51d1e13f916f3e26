"""The commands for many scans; one module, so that the command line loads them only when they are called."""

import typer

from autosam_edge.cli import audit, batch, contract, node

app = typer.Typer(rich_markup_mode="markdown")
app.command("batch")(batch.batch)
app.command("watch")(node.watch_folder)
app.command("serve")(node.serve)
app.command("contract")(contract.contract)
app.add_typer(audit.app, name="audit")
