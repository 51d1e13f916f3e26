"""Score a finished run: its network behind the runtime's own session, held against the truth on the scans' grid.

The pipeline is the one that a device runs (resampling, tiles, blending, restoration), so that a teacher, a
student and an exported artifact differ in nothing but the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autosam_edge import __version__
from autosam_edge.atomic_files import refuse_occupied, staged_folder
from autosam_edge.formats.nifti import read_nifti, write_nifti
from autosam_edge.label_table import label_table
from autosam_edge.model import InputContract, Model
from autosam_edge.session import Session
from autosam_edge_training.data import Prepared
from autosam_edge_training.error_codes import CASES_SEEN
from autosam_edge_training.evaluate.evaluator import evaluate_session, split_entries
from autosam_edge_training.evaluate.report import write_results
from autosam_edge_training.evaluate.scored_runs import RunFacts, write_facts
from autosam_edge_training.networks.checkpoint import (
    network_sha256,
    open_network,
    require_same_input,
    teacher_name,
)
from autosam_edge_training.networks.hu_input import TorchEngine
from autosam_edge_training.recipe_parts.run_folder import read_run_config
from autosam_edge_training.recipe_parts.setup import STUDENT_WEIGHTS, TEACHER_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from autosam_edge_training.data import Split

OVERLAP = 0.5  # the paper's (teacher.md 5.6)


class _On(nn.Module):
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
    """The runtime's session around a network in torch, on a GPU where there is one; nothing happens to the labels after it.

    Args:
        network: (1, 1, D, H, W) normalized to logits.
        prepared: What it was trained on: grid, window and labels.
        name: Name of the model.
        patch: Tile (D, H, W), voxels.
        overlap: Share of a tile that its neighbor covers again, from 0 to below 1.
    """
    contract = InputContract(
        modality="CT",
        axes="DHW",
        unit="HU",
        spacing_mm=prepared.spacing_mm,
        window_hu=prepared.intensity.window_hu,
        resampling="antialiased-linear",
        patch=patch,
        overlap=overlap,
        blend="gaussian",
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    engine = TorchEngine(_On(network, device), prepared.intensity)
    return Session(Model(contract, label_table(prepared.labels), (), name, __version__), engine)


def score_run(
    run: Path,
    data: Path,
    out: Path,
    *,
    split: Split = "test",
    sam: Path | None = None,
    overlap: float = OVERLAP,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Score the network of a finished run and write what ``reproduce`` reads: ``run.json``, ``cases.csv``, ``summary.json``.

    Args:
        run: Folder that ``train`` or ``distill`` wrote.
        data: Folder that ``data prepare`` wrote.
        out: Folder to make; it appears whole or not at all.
        split: Cases to score.
        sam: The SAM file, where a teacher was trained on one.
        overlap: Of neighboring tiles.
        say: Called with one line per case.

    Returns:
        ``out``.

    Raises:
        InputError: The data cannot be used (AE-DATA-*).
        TrainingError: The run is none or is not finished (AE-TRAIN-003, -007), or it was trained on another
            grid (-008) or on these cases (-028).
        OutputError: ``out`` holds something or cannot be written.
    """
    refuse_occupied(out)  # before an hour of scoring, not after it
    prepared = Prepared.read(data)
    record = read_run_config(run)
    network, patch = _network_of(run, record, prepared, split, sam)
    facts = _facts(record, network, prepared, network_sha256(_weights(run, record)))
    session = network_session(network, prepared, name=facts.network, patch=patch, overlap=overlap)
    scores, summary = evaluate_session(session, prepared, split, method=facts.method, say=say)
    with staged_folder(out) as stage:
        write_results(stage, scores, summary)
        write_facts(facts, stage)
    return out


def predict_run(
    run: Path,
    data: Path,
    out: Path,
    *,
    split: Split = "test",
    sam: Path | None = None,
    overlap: float = OVERLAP,
) -> Path:
    """Write the labels that the network of a finished run gives, ``CASE.nii.gz`` on each scan's own grid; see :func:`score_run`."""
    prepared = Prepared.read(data)
    record = read_run_config(run)
    network, patch = _network_of(run, record, prepared, split, sam)
    session = network_session(network, prepared, name=record["recipe"], patch=patch, overlap=overlap)
    with staged_folder(out) as stage:
        for entry in split_entries(prepared, split):
            write_nifti(session.segment(read_nifti(entry.image)), stage / f"{entry.name}.nii.gz")
    return out


def _network_of(
    run: Path, record: dict[str, Any], prepared: Prepared, split: Split, sam: Path | None
) -> tuple[nn.Module, tuple[int, int, int]]:
    network, facts = open_network(_weights(run, record), sam=sam)
    require_same_input(facts, prepared, f"the network of {run.name}")
    seen = set(facts.get("cases", "").split(",")) & {entry.name for entry in split_entries(prepared, split)}
    if seen and split != "training":
        raise CASES_SEEN(
            f"the network of {run.name} was trained on {', '.join(sorted(seen))} of the {split} split."
        )
    depth, height, width = record["config"]["sampling"]["patch"]
    return network, (depth, height, width)


def _weights(run: Path, record: dict[str, Any]) -> Path:
    return run / (TEACHER_WEIGHTS if record["recipe"] == "teacher" else STUDENT_WEIGHTS)


def _facts(record: dict[str, Any], network: nn.Module, prepared: Prepared, weights_sha256: str) -> RunFacts:
    """What ``run.json`` tells of a run of ours."""
    config, recipe = record["config"], record["recipe"]
    distilled = recipe == "distill"
    taught = distilled and config["weight"] < 1.0  # at lambda 1 the teacher's term is nothing
    return RunFacts(
        method=recipe,
        network=teacher_name(config["network"]["vit"], prompts=True)
        if recipe == "teacher"
        else config["student"],
        dataset=prepared.dataset,
        weight=config["weight"] if distilled else None,
        reduction=config["reduction"] if taught else None,
        teacher=record["teacher_network"] if taught else None,
        apg=config["network"]["apg"]["enabled"] if recipe == "teacher" else None,
        seed=config["seed"],
        steps=config["schedule"]["steps"],
        trainable_parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        total_parameters=sum(p.numel() for p in network.parameters()),
        spacing_mm=prepared.spacing_mm,
        machine=record["machine"],
        commit=record["commit"],
        data_sha256=prepared.manifest_sha256,
        smoke=config["smoke"],
        weights_sha256=weights_sha256,
    )
