"""Score a finished run: its network in the runtime's own session, against the labels on the scans' grid.

The pipeline is the runtime's (resampling, tiles, blending, restoration), so that a teacher, a student and
an exported artifact differ only in the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autosam_edge import __version__
from autosam_edge.bundle import STUDENT_FILE
from autosam_edge.error_codes import OUTPUT_OCCUPIED
from autosam_edge.labels import label_table
from autosam_edge.model import Model
from autosam_edge.session import Session
from autosam_edge.system.atomic_files import refuse_occupied, staged_folder
from autosam_edge_training.data import Prepared, Split
from autosam_edge_training.evaluate.evaluator import evaluate_method
from autosam_edge_training.evaluate.report import write_results
from autosam_edge_training.evaluate.scored_runs import RunFacts, write_facts
from autosam_edge_training.evaluate.seen_cases import refuse_seen
from autosam_edge_training.networks.checkpoint import (
    network_name,
    network_sha256,
    open_network,
    require_same_input,
)
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata
from autosam_edge_training.networks.hu_input import TorchEngine
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.students import parameter_count
from autosam_edge_training.recipe_parts.run_folder import TEACHER_FILE, RunRecord, read_run_record
from autosam_edge_training.strict import JsonObject

OVERLAP = 0.5  # of neighboring tiles, as in the paper; docs/adr/0016-recipes.md


class OnDevice(nn.Module):
    """A network on a device, between tensors on the CPU."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network, self.device = network.to(device), device

    def forward(self, image: Tensor) -> Tensor:
        """(1, 1, D, H, W) to logits."""
        logits: Tensor = self.network(image.to(self.device))
        return logits.float().cpu()


def network_session(
    network: nn.Module, prepared: Prepared, *, name: str, patch: tuple[int, int, int], overlap: float
) -> Session:
    """The runtime's session around a network in torch, on a GPU if there is one; without post-processing.

    Args:
        network: (1, 1, D, H, W) normalized to logits.
    """
    contract = NetworkInput.of(prepared).contract(patch, overlap)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    engine = TorchEngine(OnDevice(network, device), prepared.intensity)
    return Session(Model(contract, label_table(prepared.labels), (), name, __version__), engine)


def score_run(
    run: Path,
    data: Path,
    out: Path,
    *,
    split: Split = "test",
    sam: Path | None = None,
    overlap: float = OVERLAP,
    labels: Path | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Score the network of a finished run: ``run.json``, ``cases.csv``, ``summary.json`` for ``reproduce``.

    Args:
        run: Folder that ``train`` or ``distill`` wrote.
        out: Folder to make; it appears whole or not at all.
        labels: Folder to make for the labels, ``CASE.nii.gz`` on the grids of the scans; None keeps none.

    Raises:
        InputError: The data cannot be used (AE-DATA-*).
        TrainingError: The run is none or is not finished (AE-TRAIN-003, -007), or it was trained on another
            grid (-008) or on these cases (-028).
        OutputError: A folder holds something or cannot be written.
    """
    for folder in filter(None, (out, labels)):
        refuse_occupied(folder)  # before an hour of scoring, not after it
    if labels and (out.resolve() in (labels.resolve(), *labels.resolve().parents)):
        raise OUTPUT_OCCUPIED(
            f"the folder of the labels, {labels.name}, lies in that of the scores.",
            remedy="Give `labels` another folder.",
        )
    prepared = Prepared.read(data)
    scored = _open_run(run, prepared, split, sam)
    record = _run_facts(scored, prepared)
    session = network_session(
        scored.network, prepared, name=record.network, patch=scored.metadata.patch, overlap=overlap
    )
    with staged_folder(out) as stage, staged_folder(labels) if labels else nullcontext() as kept:
        scores, summary = evaluate_method(
            session, prepared, split, method=record.method, labels=kept, log=log
        )
        write_results(stage, scores, summary)
        write_facts(record, stage)
    return out


@dataclass(frozen=True)
class _FinishedRun:
    """A finished run with its network."""

    record: RunRecord
    network: nn.Module
    metadata: CheckpointMetadata
    weights_sha256: str


def _open_run(run: Path, prepared: Prepared, split: Split, sam: Path | None) -> _FinishedRun:
    """Open the network of a run, unless it has seen the cases of the split."""
    record = read_run_record(run)
    weights = run / (TEACHER_FILE if record.recipe == "teacher" else STUDENT_FILE)
    network, metadata = open_network(weights, sam=sam)
    require_same_input(metadata, prepared, f"the network of {run.name}")
    if split != "training":
        refuse_seen(f"the network of {run.name}", metadata, prepared, split)
    return _FinishedRun(record, network, metadata, network_sha256(weights))


def _run_facts(run: _FinishedRun, prepared: Prepared) -> RunFacts:
    """The content of ``run.json``."""
    config, teacher = run.metadata.config, run.metadata.teacher
    taught = teacher is not None and teacher.weight < 1.0  # with lambda 1 the teacher has no influence
    return RunFacts(
        method=run.record.recipe,
        network=network_name(run.metadata),
        dataset=prepared.dataset,
        weight=teacher.weight if teacher else None,
        reduction=config["reduction"] if taught else None,
        teacher=teacher.network if teacher and taught else None,
        apg=run.metadata.arguments["apg"]["enabled"] if run.record.recipe == "teacher" else None,
        seed=config["seed"],
        steps=run.metadata.steps,
        trainable_parameters=sum(p.numel() for p in run.network.parameters() if p.requires_grad),
        total_parameters=parameter_count(run.network),
        spacing_mm=prepared.spacing_mm,
        machine=run.record.machine,
        commit=run.record.commit,
        data_sha256=prepared.manifest_sha256,
        smoke=config["smoke"] or prepared.dataset == "phantoms",
        weights_sha256=run.weights_sha256,
        recipe_sha256=_recipe_sha256(config, run.record),
    )


def _recipe_sha256(config: JsonObject, record: RunRecord) -> str:
    """SHA-256 of a recipe and the further data, without the seed: runs with the same one may be averaged."""
    rest = {key: value for key, value in config.items() if key != "seed"}
    rest |= {"extra_data": record.extra_data_sha256, "init": record.init_sha256 is not None}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
