"""What the one-part rule does to the Dice of each organ, with and without, on labelled cases."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.bundle import Bundle, Postprocess
from autosam_edge.io.nifti import read_array, read_nifti
from autosam_edge.metrics import dice
from autosam_edge.session import open_session
from autosam_edge_benchmarks.machine import new_report
from autosam_edge_training.data import cases_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def measure_one_part(path: Path, data: Path, split: str, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Dice per organ, mean over cases, with every organ kept in one part and with none.

    Args:
        path: Bundle.
        data: Folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
        split: ``validation`` or ``training``; never the test cases, since the rule is chosen by it.
        say: Called with one line per variant.
    """
    report = new_report("one part")
    names = [label.name for label in Bundle(path).manifest.labels]
    means: dict[str, dict[str, float]] = {}
    for variant, organs in (("as_found", ()), ("one_part", tuple(names))):
        bundle = Bundle(path)
        bundle.manifest = dataclasses.replace(bundle.manifest, postprocess=Postprocess(organs))
        session = open_session(bundle)
        scores = np.full((0, len(names)), np.nan)
        for _, image, label in cases_of(data, split):
            found, (truth, _) = session.segment(read_nifti(image)).labels, read_array(label)
            values = [organ.value for organ in bundle.manifest.labels]
            row = [dice(found == value, truth == value) if (truth == value).any() else float("nan") for value in values]
            scores = np.vstack([scores, row])
        means[variant] = dict(zip(names, np.nanmean(scores, axis=0).tolist(), strict=True))
        say(f"{variant}: mean Dice {np.mean(list(means[variant].values())):.4f}")
    return {
        **report,
        "model": bundle.manifest.name,
        "data": f"BTCV {split}",
        "dice": means,
        "harmless": [name for name in names if means["one_part"][name] >= means["as_found"][name] - 1e-3],
    }
