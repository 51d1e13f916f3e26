"""What each artifact of a bundle costs on this machine, beside what it was proven to be at export."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.engines.choose import load_engine, rank_artifacts
from autosam_edge.verify import read_golden
from autosam_edge_benchmarks.machine import new_report
from autosam_edge_export.measure import measure_cost, time_tiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.bundle import Bundle


def measure_artifacts(bundle: Bundle, *, rounds: int = 7, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Load time and memory of every usable artifact in a process of its own; time of the golden tile, taking turns.

    Args:
        bundle: A folder.
        rounds: Turns; medians are reported.
        say: Called with one line per artifact.
    """
    report = new_report("artifacts")
    usable = [choice.artifact for choice in rank_artifacts(bundle.manifest) if choice.usable]
    tile = read_golden(bundle, "tile")["hu"].astype(np.float32)
    costs = {}
    for artifact in usable:
        say(artifact.name)
        costs[artifact.name] = measure_cost(bundle.path / artifact.path, artifact.target, artifact.precision, bundle.manifest.input.patch)
    tile_ms = time_tiles({artifact.name: load_engine(bundle, artifact) for artifact in usable}, tile, rounds)
    parity = {f"{entry['target']}/{entry['precision']}": entry for entry in json.loads(bundle.read("parity.json"))}
    first = bundle.manifest.artifacts[0].name
    return {
        **report,
        "model": bundle.manifest.name,
        "student": bundle.manifest.provenance["student"],
        "patch": list(bundle.manifest.input.patch),
        "compared_on": [record["volume"] for record in parity[first]["volumes"]],
        "artifacts": [
            {
                "name": artifact.name,
                "megabytes": round((bundle.path / artifact.path).stat().st_size / 1e6, 2),
                **costs[artifact.name].__dict__,
                "tile_ms": tile_ms[artifact.name],
                "relative_time": round(tile_ms[artifact.name] / tile_ms[first], 3),
                **{key: parity[artifact.name][key] for key in ("worst_organ", "organ_dice", "mean_dice", "worst_case_dice", "agreement")},
                **{key: parity[artifact.name][key] for key in ("logit_error", "logit_rms", "tolerance")},
            }
            for artifact in usable
        ],
    }
