"""The scorecard of a bundle: what the student and each artifact cost on this machine, beside what each was proven to be at export."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.engines.selection import load_engine, rank_artifacts
from autosam_edge.verify import read_golden
from autosam_edge_benchmarks.result_header import new_report
from autosam_edge_export.export import STUDENT_FILE
from autosam_edge_export.proof.cost import measure_cost, time_tiles
from autosam_edge_training.networks.hu_input import TorchEngine
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.students import load_student

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.bundle import Bundle

_PROVEN = (
    *(
        "proof",
        "megabytes",
        "facts",
        "worst_organ",
        "organ_dice",
        "mean_dice",
        "worst_case_dice",
        "agreement",
    ),
    *("logit_error", "logit_rms", "tolerance"),
)


def measure_artifacts(
    bundle: Bundle, *, rounds: int = 7, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Load time and memory of every artifact that runs here, in a process of its own; time of the golden tile, taking turns.

    The student in torch comes first. Artifacts that do not run here have their size and their proof only.

    Args:
        bundle: A folder.
        rounds: Turns; medians are reported.
        say: Called with one line per artifact.
    """
    report = new_report("artifacts")
    ranked = rank_artifacts(bundle.manifest)
    usable = [choice.artifact for choice in ranked if choice.usable]
    tile = read_golden(bundle, "tile")["hu"].astype(np.float32)
    costs: dict[str, dict[str, float]] = {}
    for artifact in usable:
        say(artifact.name)
        cost = measure_cost(
            bundle.path / artifact.path, artifact.target, artifact.precision, bundle.manifest.input.patch
        )
        costs[artifact.name] = dataclasses.asdict(cost)
    weights = bundle.path / STUDENT_FILE
    module, facts = load_student(weights)
    student = TorchEngine(module, NetworkInput.read(facts).intensity)
    engines = {artifact.name: load_engine(bundle, artifact) for artifact in usable}
    tile_ms = time_tiles({"torch": student, **engines}, tile, rounds)
    parity = {
        f"{entry['target']}/{entry['precision']}": entry for entry in json.loads(bundle.read("parity.json"))
    }
    reference = next(
        (artifact.name for artifact in bundle.manifest.artifacts if artifact.name in tile_ms), "torch"
    )
    times = {
        name: {"tile_ms": milliseconds, "relative_time": round(milliseconds / tile_ms[reference], 3)}
        for name, milliseconds in tile_ms.items()
    }
    return {
        **report,
        "model": bundle.manifest.name,
        "student": bundle.manifest.provenance["student"],
        "patch": list(bundle.manifest.input.patch),
        "compared_on": [record["volume"] for record in next(iter(parity.values()))["volumes"]],
        "torch": {"megabytes": round(weights.stat().st_size / 1e6, 2), **times["torch"]},
        "artifacts": [
            {
                "name": artifact.name,
                "tiles": [record["tiles"] for record in parity[artifact.name]["volumes"]],
                **costs.get(artifact.name, {}),
                **times.get(artifact.name, {}),
                **{key: parity[artifact.name][key] for key in _PROVEN},
            }
            for artifact in (choice.artifact for choice in ranked)
        ],
    }
