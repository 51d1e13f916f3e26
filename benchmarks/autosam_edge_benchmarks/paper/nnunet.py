"""The raw data set of nnU-Net v2, which trains in its own environment; ``evaluate`` reads its predictions.

Source: MIC-DKFZ/nnUNet, documentation/dataset_format.md and manual_data_splits.md.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

from autosam_edge.error_codes import LABEL_VALUE_INVALID
from autosam_edge.formats.nifti import read_array
from autosam_edge.system.atomic_files import staged_folder
from autosam_edge_benchmarks.error_codes import NNUNET_NUMBER_INVALID
from autosam_edge_training.data import SPLITS, Entry, Manifest
from autosam_edge_training.data.case import UNKNOWN

_ENDING = ".nii.gz"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SCORES = "benchmarks/results/runs/nnunet"
_DATASET_IDS = {"btcv": 501, "amos": 502}  # numbers below 500 are those of public data sets


def dataset_folder(name: str, dataset_id: int | None = None) -> str:
    """Return the folder name of a data set, such as ``Dataset501_BTCV``.

    Args:
        dataset_id: Number from 1 to 999; None for 501 (BTCV), 502 (AMOS) or 503 (any other).

    Raises:
        TrainingError: The number is not from 1 to 999, or the name has other characters than letters, digits,
            '.', '_' and '-' (AE-TRAIN-024).
    """
    number = _DATASET_IDS.get(name, 503) if dataset_id is None else dataset_id
    if not 1 <= number <= 999 or not _NAME.fullmatch(name):
        raise NNUNET_NUMBER_INVALID(
            f"nnU-Net cannot have a data set of the number {number} and the name {name}; the number must be "
            f"from 1 to 999, and the name must have letters, digits, '.', '_' and '-' only."
        )
    return f"Dataset{number:03d}_{name.upper()}"


def write_nnunet(manifest: Manifest, out: Path, *, dataset_id: int | None = None, copy: bool = False) -> Path:
    """Write the raw data set of nnU-Net v2.

    Training and validation cases go to ``imagesTr`` and ``labelsTr``, test cases to ``imagesTs`` without
    their labels. If there is a validation split, ``splits_final.json`` has one fold that excludes it from
    the training.

    Args:
        out: Folder that nnU-Net calls ``nnUNet_raw``; it is created if absent.
        dataset_id: Number from 1 to 999; None for the default of :func:`dataset_folder`.
        copy: True to copy the files, False to write symbolic links.

    Raises:
        TrainingError: nnU-Net cannot have a data set of this number or name (AE-TRAIN-024).
        OutputError: The folder is not empty, or cannot be written (AE-OUTPUT-001 to -003).
        InputError: A file of the manifest is missing, or a training case has no labels (AE-DATA-002) or
            voxels that nobody labeled (AE-DATA-003).
    """
    target = out / dataset_folder(manifest.dataset, dataset_id)
    training, validation, test = (manifest.entries(split) for split in SPLITS)
    with staged_folder(target) as stage:
        for folder in ("imagesTr", "labelsTr", "imagesTs"):
            (stage / folder).mkdir()
        for entry in (*training, *validation):
            _require_labels_everywhere(entry)
            _place(entry.image, stage / "imagesTr" / f"{entry.name}_0000{_ENDING}", copy=copy)
            _place(entry.label_file, stage / "labelsTr" / f"{entry.name}{_ENDING}", copy=copy)
        for entry in test:
            _place(entry.image, stage / "imagesTs" / f"{entry.name}_0000{_ENDING}", copy=copy)
        _write_json(stage / "dataset.json", _description(manifest, len(training) + len(validation)))
        if validation:
            _write_json(stage / "splits_final.json", [{"train": _names(training), "val": _names(validation)}])
    return target


def _require_labels_everywhere(entry: Entry) -> None:
    """Refuse voxels that nobody labeled: nnU-Net would take their value for a class."""
    if entry.known is not None and (read_array(entry.label_file)[0] == UNKNOWN).any():
        raise LABEL_VALUE_INVALID(
            f"case {entry.name} is labeled in part, which nnU-Net does not take.",
            remedy="Leave the case out.",
        )


def _description(manifest: Manifest, cases: int) -> dict[str, object]:
    return {
        "channel_names": {"0": "CT"},  # nnU-Net chooses its normalization by this name
        "labels": {name: value for value, name in enumerate(manifest.labels)},
        "numTraining": cases,
        "file_ending": _ENDING,
    }


def _names(entries: list[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def _place(source: Path, target: Path, *, copy: bool) -> None:
    """Link or copy a file; compress it if it is not, because nnU-Net expects one file ending for all."""
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
    """Return the commands that train nnU-Net in its own environment and score its predictions here.

    Args:
        folder: Folder that :func:`write_nnunet` returned. Without a validation split the fold is ``all``:
            nnU-Net then trains on every training case, as our recipes do.
    """
    number = int(folder.name[7:10])
    held_out = (folder / "splits_final.json").is_file()
    data = f"-d {number} -c 3d_fullres"
    fold = "0" if held_out else "all"
    folders = "nnUNet_preprocessed=nnunet/preprocessed nnUNet_results=nnunet/results"
    scored = "--predictions nnunet/predictions --method nnunet"
    raw, splits, images = (
        shlex.quote(str(path.resolve()))
        for path in (folder.parent, folder / "splits_final.json", folder / "imagesTs")
    )
    split = f"cp {splits} $nnUNet_preprocessed/{folder.name}/"
    lines = [
        f"export nnUNet_raw={raw} {folders}",
        f"nnUNetv2_plan_and_preprocess {data} --verify_dataset_integrity",
        *([split] if held_out else []),
        f"nnUNetv2_train {number} 3d_fullres {fold}",
        f"nnUNetv2_predict -i {images} -o nnunet/predictions {data} -f {fold}",
        "# and here, with PREPARED the folder of `data prepare`",
        f"autosam-edge evaluate {scored} --data PREPARED -o {_SCORES}",
        f"autosam-edge baseline record {_SCORES} --network nnunet-3d-fullres --data PREPARED",
    ]
    return "\n".join(lines)
