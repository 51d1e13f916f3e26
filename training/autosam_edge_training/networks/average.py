"""The weighted mean of the weights of students that were trained on from each other.

A training that starts from other weights gains on what it shows and loses on what it does not show. Between
the first and the last weights lie networks that keep most of the gain and lose less. Source: Wortsman et al.,
Robust fine-tuning of zero-shot models, CVPR 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import inf
from pathlib import Path

from autosam_edge_training.error_codes import NETWORKS_DIFFER
from autosam_edge_training.networks.checkpoint import network_sha256, open_network, read_metadata
from autosam_edge_training.networks.checkpoint_metadata import AUTOSAM, CheckpointMetadata, join_datasets
from autosam_edge_training.networks.students import save_student


def average_students(path: Path, students: Sequence[Path], shares: Sequence[float]) -> CheckpointMetadata:
    """Write the weighted mean of the weights of students.

    The result counts as trained on the cases of all of them. Its recipe and its steps are those of the first;
    ``averaged`` in its recipe names the files.

    Args:
        path: File to write.
        students: Two or more ``student.safetensors`` of one network, label table, spacing and window.
        shares: Share of each student; they are divided by their sum.

    Returns:
        The metadata of the result.

    Raises:
        ValueError: There are fewer than two students, or not one share above 0 for each.
        TrainingError: A file holds no trained network (AE-TRAIN-007), or the students differ (AE-TRAIN-030).
    """
    if len(students) < 2 or len(shares) != len(students) or not all(0.0 < share < inf for share in shares):
        raise ValueError(
            f"{len(students)} students and the shares {list(shares)}, expected one above 0 for each"
        )
    known = [read_metadata(file) for file in students]
    first = known[0]
    for file, metadata in zip(students, known, strict=True):
        _require_same_network(file, metadata, students[0], first)
    averaged = [
        {"sha256": network_sha256(file), "share": round(share / sum(shares), 6), "steps": metadata.steps}
        for file, share, metadata in zip(students, shares, known, strict=True)
    ]
    result = dataclasses.replace(
        first,
        datasets=join_datasets(metadata.datasets for metadata in known),
        config={**first.config, "averaged": averaged},
    )
    networks = [open_network(file)[0] for file in students]
    states = [network.state_dict() for network in networks]
    mean = {}
    for name, own in states[0].items():
        total = sum(share * state[name].double() for share, state in zip(shares, states, strict=True))
        mean[name] = (total / sum(shares)).to(own.dtype)
    networks[0].load_state_dict(mean)
    save_student(path, networks[0], result)
    return result


def _require_same_network(
    file: Path, metadata: CheckpointMetadata, first_file: Path, first: CheckpointMetadata
) -> None:
    differences = first.input.differs_in(metadata.input)
    if metadata.student != first.student or metadata.arguments != first.arguments:
        differences = ["network", *differences]
    if AUTOSAM in (metadata.student, first.student):
        differences = ["kind (a teacher)"]
    if differences:
        raise NETWORKS_DIFFER(
            f"{file.name} in {file.parent.name} and {first_file.name} in {first_file.parent.name} differ in "
            f"{', '.join(differences)}."
        )
