"""``autosam-edge contract``."""

from __future__ import annotations

import os
from typing import Annotated, get_args

import typer

from autosam_edge.batch.contracts import Contract, detect, result_name, run_contract
from autosam_edge.batch.job import Settings
from autosam_edge.cli import options
from autosam_edge.error_codes import SCANS_FAILED
from autosam_edge.read_scan import input_path


def contract(
    source: Annotated[str | None, typer.Argument(metavar="IN", help="Input folder.")] = None,
    out: Annotated[str | None, typer.Argument(metavar="OUT", help="Output folder.")] = None,
    name: Annotated[
        Contract | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help=f"Contract of the caller: {', '.join(get_args(Contract))}. Default: the one that is found.",
        ),
    ] = None,
    socket: Annotated[
        str, typer.Option("--socket", help="Name of the output image's socket, for Grand-Challenge.")
    ] = "abdominal-organ-segmentation",
    bundle: options.BundleOption = None,
    engine: options.Engine = None,
    max_memory: options.MaxMemory = None,
) -> None:
    """Segment as a hospital router or a challenge calls a container.

    A contract says where the caller puts scans and takes results: docs/containers.md.
    """
    if (source is None) != (out is None):
        raise typer.BadParameter("give both folders, or none", param_hint="IN OUT")
    found = None if source is not None and name is not None else detect(os.environ)
    if source is None or out is None:
        if found is None:
            raise typer.BadParameter(
                "give both folders: no contract of a caller was found", param_hint="IN OUT"
            )
        folders = found[1:]
    else:
        folders = input_path(source), options.folder(out)
    chosen = name or (found[0] if found else "folder")
    settings = Settings(bundle=bundle, engine=engine, max_memory_mb=max_memory)
    outcome = run_contract(chosen, *folders, settings, socket=socket)
    print(outcome.in_words)
    if outcome.failed:
        raise SCANS_FAILED(
            f"{outcome.failed} of {len(outcome.scans)} scans failed.",
            remedy=f"{result_name(chosen)} names the code and the remedy of each.",
        )
