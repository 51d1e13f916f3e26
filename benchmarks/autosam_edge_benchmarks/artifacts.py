"""Measurements of a bundle: cost of the student and of each artifact on this machine.

The results of the comparison at export are reported with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from autosam_edge.bundle import Bundle
from autosam_edge.engines.engine import Engine
from autosam_edge.engines.load import load_engine
from autosam_edge.engines.selection import rank_artifacts
from autosam_edge.golden import read_golden_tile
from autosam_edge.manifest import Artifact
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_export.bundle_writer import STUDENT_FILE
from autosam_edge_export.proof.cost import measure_cost, time_tiles
from autosam_edge_export.proof.parity_report import read_entries
from autosam_edge_training.networks.hu_input import TorchEngine
from autosam_edge_training.networks.students import load_student

_PROVEN = (
    *("proof", "megabytes", "facts", "worst_organ", "organ_dice", "mean_dice", "worst_case_dice"),
    *("agreement", "logit_error", "logit_rms", "tolerance"),
)


def measure_artifacts(
    bundle: Bundle, *, rounds: int = 7, log: Callable[[str], None] = lambda _: None
) -> Result:
    """Measure the student in torch and every artifact that runs here.

    Load time and memory are measured in a new process for each artifact. The golden tile is timed in turns.
    An artifact that does not run here is reported with its size and its comparison at export only.
    """
    result = new_result("artifacts")
    ranked = rank_artifacts(bundle.manifest)
    usable = [choice.artifact for choice in ranked if choice.usable]
    tile = read_golden_tile(bundle).hu
    costs = _measure_costs(bundle, usable, log)
    weights = bundle.path / STUDENT_FILE
    module, facts = load_student(weights)
    student = TorchEngine(module, facts.input.intensity)
    engines: dict[str, Engine] = {"torch": student}
    engines |= {artifact.name: load_engine(bundle, artifact) for artifact in usable}
    tile_ms = time_tiles(engines, tile, rounds)
    parity = {entry.name: entry for entry in read_entries(bundle.read("parity.json"))}
    reference = next(
        (artifact.name for artifact in bundle.manifest.artifacts if artifact.name in tile_ms), "torch"
    )
    times = {
        name: {"tile_ms": milliseconds, "relative_time": round(milliseconds / tile_ms[reference], 3)}
        for name, milliseconds in tile_ms.items()
    }
    return {
        **result,
        "model": bundle.manifest.name,
        "student": bundle.manifest.provenance["student"],
        "patch": list(bundle.manifest.input.patch),
        "compared_on": [record.volume for record in next(iter(parity.values())).volumes],
        "torch": {"megabytes": round(weights.stat().st_size / 1e6, 2), **times["torch"]},
        "artifacts": [
            {
                "name": artifact.name,
                "tiles": [record.tiles for record in parity[artifact.name].volumes],
                **costs.get(artifact.name, {}),
                **times.get(artifact.name, {}),
                **{key: dataclasses.asdict(parity[artifact.name])[key] for key in _PROVEN},
            }
            for artifact in (choice.artifact for choice in ranked)
        ],
    }


def _measure_costs(
    bundle: Bundle, artifacts: Sequence[Artifact], log: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    costs = {}
    for artifact in artifacts:
        log(artifact.name)
        path, patch = bundle.path / artifact.path, bundle.manifest.input.patch
        costs[artifact.name] = dataclasses.asdict(
            measure_cost(path, artifact.target, artifact.precision, patch)
        )
    return costs
