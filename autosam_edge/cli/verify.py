"""``autosam-edge verify``."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autosam_edge.bundle import open_bundle
from autosam_edge.cli.extras import needs
from autosam_edge.cli.options import AsJson, BundleArgument, Threads, TierOption
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.system.clock import doubt
from autosam_edge.verify import Check, VerificationError, verify_bundle

if TYPE_CHECKING:
    from autosam_edge.bundle import Bundle
    from autosam_edge.engines.engine import Engine


def verify(
    bundle: BundleArgument = None,
    tier: TierOption = None,
    threads: Threads = None,
    interpret: Annotated[
        bool,
        typer.Option(
            "--interpret",
            help="Interpret artifacts that no engine here runs, such as Core ML; needs `[export]`.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that the bundle gives the same results on this device as at its export."""
    opened = open_bundle(bundle, tier=tier)
    stages = Stages()
    interpreters = _interpreters(opened) if interpret else {}
    try:
        checks = verify_bundle(opened, threads=threads, interpreters=interpreters, on_message=stages.log)
    except VerificationError as error:
        _show(opened, error.checks, as_json=as_json)
        raise
    _show(opened, checks, as_json=as_json)


def _interpreters(bundle: Bundle) -> dict[str, Engine]:
    """Engine that interprets an artifact, for each artifact that no engine of this device runs."""
    with needs("export"):
        from autosam_edge_export.export import make_interpreters
    found: dict[str, Engine] = make_interpreters(bundle.manifest.artifacts, bundle.read_artifact)
    return found


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    """The figures with null for those that are not finite, which JSON does not have."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _show(bundle: Bundle, checks: list[Check], *, as_json: bool) -> None:
    reason = doubt(max((check.figures.get("others_cores", 0.0) for check in checks), default=None))
    if as_json:
        found = [{**dataclasses.asdict(check), "figures": _finite(check.figures)} for check in checks]
        model = {"model": bundle.manifest.name, "model_sha256": bundle.manifest_sha256}
        print(json.dumps({**model, "doubt_of_times": reason, "checks": found}))
        return
    words = ("check", "verdict")
    table = new_table(
        bundle.manifest.name, *words, "load s", "ms per tile", "result", words=words, folded=("result",)
    )
    colors = {"passed": "green", "failed": "red", "skipped": "yellow"}
    for check in checks:
        load, tile = check.figures.get("load_s"), check.figures.get("tile_ms")
        cells = (f"{load:.2f}" if load is not None else "", f"{tile:.0f}" if tile is not None else "")
        table.add_row(
            check.name, f"[{colors[check.verdict]}]{check.verdict}[/]", *cells, escape(check.detail)
        )
    show(table)
    if reason:
        print(reason)
