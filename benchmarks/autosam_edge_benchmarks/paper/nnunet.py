"""nnU-Net v2 through its own files: we write its raw data set, it trains in its own environment, and ``evaluate`` reads its NIfTI.

Source: MIC-DKFZ/nnUNet, documentation/dataset_format.md and manual_data_splits.md.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from autosam_edge.atomic_files import staged_folder
from autosam_edge_benchmarks.error_codes import NNUNET_NUMBER_INVALID
from autosam_edge_training.data import SPLITS

if TYPE_CHECKING:
    from pathlib import Path

    from autosam_edge_training.data import Entry, Manifest

_ENDING = ".nii.gz"
_NAME = re.compile(r"[A-Za-z0-9]+")
_RESULTS = "benchmarks/results/runs/nnunet"
_DATASET_IDS = {"btcv": 501, "amos": 502}  # 1 to 999, and below 500 lie those that are handed around


def dataset_folder(name: str, dataset_id: int | None = None) -> str:
    """``Dataset501_BTCV`` for ``btcv``; data sets that we do not know get 503 unless told.

    Raises:
        TrainingError: The number has more than three digits, or the name other signs than letters and digits
            (AE-TRAIN-024).
    """
    number = _DATASET_IDS.get(name, 503) if dataset_id is None else dataset_id
    if not 1 <= number <= 999 or not _NAME.fullmatch(name):
        raise NNUNET_NUMBER_INVALID(
            f"nnU-Net has no data set number {number} named {name}: it wants 1 to 999, and letters and digits."
        )
    return f"Dataset{number:03d}_{name.upper()}"


def write_nnunet(manifest: Manifest, out: Path, *, dataset_id: int | None = None, copy: bool = False) -> Path:
    """Write the raw data set of nnU-Net v2.

    Training and validation cases go to ``imagesTr`` and ``labelsTr``, test cases to ``imagesTs`` without
    their labels, so that nothing of the truth lies where a prediction is made. With a validation split,
    ``splits_final.json`` has one fold that holds it out.

    Args:
        manifest: The cases.
        out: Folder that nnU-Net calls ``nnUNet_raw``; made when absent.
        dataset_id: 1 to 999; None for ours.
        copy: Copy the files; otherwise they are symbolic links, which nnU-Net follows.

    Returns:
        Folder of the data set.

    Raises:
        TrainingError: nnU-Net has no such data set (AE-TRAIN-024).
        OutputError: The folder holds something already, or cannot be written (AE-OUTPUT-001 to -003).
        InputError: A file of the manifest is missing (AE-DATA-002).
    """
    target = out / dataset_folder(manifest.dataset, dataset_id)
    training, validation, test = (manifest.entries(split) for split in SPLITS)
    with staged_folder(target) as stage:
        for folder in ("imagesTr", "labelsTr", "imagesTs"):
            (stage / folder).mkdir()
        for entry in (*training, *validation):
            _place(entry.image, stage / "imagesTr" / f"{entry.name}_0000{_ENDING}", copy=copy)
            _place(entry.label, stage / "labelsTr" / f"{entry.name}{_ENDING}", copy=copy)
        for entry in test:
            _place(entry.image, stage / "imagesTs" / f"{entry.name}_0000{_ENDING}", copy=copy)
        _write_json(stage / "dataset.json", _description(manifest, len(training) + len(validation)))
        if validation:
            _write_json(stage / "splits_final.json", [{"train": _names(training), "val": _names(validation)}])
    return target


def _description(manifest: Manifest, cases: int) -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT"},  # nnU-Net chooses its normalization by this name
        "labels": {name: value for value, name in enumerate(manifest.labels)},
        "numTraining": cases,
        "file_ending": _ENDING,
    }


def _names(entries: list[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def _place(source: Path, target: Path, *, copy: bool) -> None:
    """Link or copy a file; one that is not compressed is, for nnU-Net wants one ending for all."""
    if not source.name.endswith(_ENDING):
        with source.open("rb") as raw, gzip.open(target, "wb", compresslevel=1) as packed:
            shutil.copyfileobj(raw, packed)
    elif copy:
        shutil.copyfile(source, target)
    else:
        target.symlink_to(source.resolve())


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def nnunet_commands(folder: Path) -> str:
    """What to run in an environment with ``nnunetv2``, and how to score the outcome here.

    Without a validation split the fold is ``all``: nnU-Net then trains on every training case, as our recipes
    do.
    """
    number = int(folder.name[7:10])
    held_out = (folder / "splits_final.json").is_file()
    fold = "0" if held_out else "all"
    lines = [
        f"export nnUNet_raw={folder.parent.resolve()} nnUNet_preprocessed=nnunet/preprocessed nnUNet_results=nnunet/results",
        f"nnUNetv2_plan_and_preprocess -d {number} -c 3d_fullres --verify_dataset_integrity",
        *(
            [f"cp {folder.resolve()}/splits_final.json $nnUNet_preprocessed/{folder.name}/"]
            if held_out
            else []
        ),
        f"nnUNetv2_train {number} 3d_fullres {fold}",
        f"nnUNetv2_predict -i {folder.resolve()}/imagesTs -o nnunet/predictions -d {number} -c 3d_fullres -f {fold}",
        "# and here, with PREPARED the folder of `data prepare`",
        f"autosam-edge evaluate --predictions nnunet/predictions --method nnunet --data PREPARED -o {_RESULTS}",
        f"autosam-edge baseline record {_RESULTS} --network nnunet-3d-fullres --data PREPARED",
    ]
    return "\n".join(lines)
