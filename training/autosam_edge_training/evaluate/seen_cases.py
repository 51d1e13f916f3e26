"""Cases of a split that a network was trained on, by the metadata of its weights."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

from autosam_edge.bundle import STUDENT_FILE, Bundle
from autosam_edge.error_codes import BUNDLE_ALTERED
from autosam_edge.errors import BundleError
from autosam_edge_training.data import Prepared, Split
from autosam_edge_training.error_codes import CASES_SEEN
from autosam_edge_training.evaluate.evaluator import split_entries
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata, read_header


def refuse_seen(name: str, metadata: CheckpointMetadata, prepared: Prepared, split: Split) -> None:
    """Refuse cases that a network was trained on, by name, of a data set of any name.

    The names are all that a network's file tells, and one scan may lie in two data sets.

    Args:
        name: The network in the message, such as ``the network of run7``.

    Raises:
        TrainingError: It was (AE-TRAIN-028).
    """
    for dataset, cases in _seen(metadata, prepared, split):
        remedy = (
            "Score cases that it has not seen. If these are other scans, give the cases of one data set "
            "other names, prepare it again and train again."
        )
        raise CASES_SEEN(
            f"{_sentence(name, dataset, cases, prepared, split)}.",
            remedy=None if dataset == prepared.dataset else remedy,
        )


def seen_by_bundles(
    bundles: Iterable[Bundle | None], prepared: Prepared, split: Split, *, log: Callable[[str], None]
) -> list[str]:
    """Names of the cases that the models of a run were trained on, with a warning for each model.

    A bundle whose weights are absent, or tell nothing, has seen no case that is known here.

    Args:
        bundles: What :func:`~autosam_edge.bundle.open_bundles` gives.

    Raises:
        BundleError: The weights were altered (AE-BUNDLE-004).
    """
    names: set[str] = set()
    for bundle in filter(None, bundles):
        try:
            _, header = read_header(io.BytesIO(bundle.read(STUDENT_FILE)))
            metadata = CheckpointMetadata.parse(header.get("__metadata__", {}))
        except BundleError as error:
            if error.code == BUNDLE_ALTERED.code:
                raise
            continue
        except (ValueError, OverflowError, AttributeError):
            continue
        for dataset, cases in _seen(metadata, prepared, split):
            sentence = _sentence(f"the model {bundle.model.name}", dataset, cases, prepared, split)
            which = "these" if dataset == prepared.dataset else "these, if they are the same scans,"
            log(f"warning: {sentence}. It is better on {which} than on new scans.")
            names.update(cases)
    return sorted(names)


def _seen(metadata: CheckpointMetadata, prepared: Prepared, split: Split) -> list[tuple[str, list[str]]]:
    """Data sets of the training and their cases that are in the split by name, the split's own data first."""
    names = {entry.name for entry in split_entries(prepared, split)}
    own_first = sorted(metadata.datasets.items(), key=lambda item: item[0] != prepared.dataset)
    return [(dataset, sorted(names & {*cases})) for dataset, cases in own_first if names & {*cases}]


def _sentence(name: str, dataset: str, cases: list[str], prepared: Prepared, split: Split) -> str:
    start = f"{name} was trained on {', '.join(cases)} of the"
    if dataset == prepared.dataset:
        return f"{start} {split} split"
    return (
        f"{start} data set {dataset}, and cases of these names are in the {split} split of {prepared.dataset}"
    )
