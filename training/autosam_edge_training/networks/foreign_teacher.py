"""The teacher probabilities of any tool: what nnU-Net, TotalSegmentator or another program wrote.

The folder of a foreign teacher holds, for each training case, one of

- ``CASE.npz`` with an array ``probabilities`` (C, D, H, W): nnU-Net v2 with ``--save_probabilities``, whose
  labels, ``CASE.nii.gz``, may lie beside it;
- ``CASE.nii.gz``, a label image;
- a folder ``CASE`` with a mask for each organ, ``liver.nii.gz`` and so on: TotalSegmentator.

All lie on the grid of the scan. ``CASE`` is the name of the case or of its image. For the first two,
``dataset.json`` in the folder names the classes, as nnU-Net (``{"liver": 1}``) or the Decathlon
(``{"1": "liver"}``) writes it. Organs are matched by name. An organ that the teacher does not know is taken
from the labels of the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autosam_edge.formats.label_image import as_labels, require_same_grid
from autosam_edge.formats.nifti import read_array
from autosam_edge.geometry import Grid
from autosam_edge.pipeline.resample import Resampler
from autosam_edge_training.data import Entry, Prepared, SoftLabels
from autosam_edge_training.error_codes import FOREIGN_TEACHER_INVALID
from autosam_edge_training.networks.foreign_files import class_names, distinct_names, mask_files, source_of
from autosam_edge_training.networks.teacher_cache import Parts, digest_of_cases, fill_cache

Share = npt.NDArray[np.float32]

_KEYS = ("probabilities", "softmax")


def cache_foreign_teacher(
    folder: Path, parts: Parts, out: Path, *, on_step: Callable[[int, int], None] = lambda _done, _total: None
) -> Path:
    """Bring what a foreign teacher wrote to the model's grid and cache it for training.

    Args:
        out: Folder of the cache; made if it is not there. Each file appears whole or not at all.

    Raises:
        TrainingError: A case has no file of the teacher or two, the classes are not named or one is named
            twice, the cache is the teacher's folder, no organ is known to both, or an organ is known neither
            to the teacher nor to the labels of a case (AE-TRAIN-029).
        InputError: A file is damaged (AE-NIFTI-*) or lies on another grid than its scan (AE-NIFTI-005).
    """
    if out.resolve() == folder.resolve():
        raise FOREIGN_TEACHER_INVALID(
            f"{folder.name} is the folder of the teacher and of the cache.", remedy="Give another `cache`."
        )
    sources = {
        entry.image: source_of(folder, entry)
        for prepared, split in parts
        for entry in prepared.manifest.entries(split)
    }
    names = class_names(folder) if any(not path.is_dir() for path in sources.values()) else {}

    def ask(prepared: Prepared, entry: Entry) -> SoftLabels:
        return SoftLabels.of(
            _on_model_grid(entry, sources[entry.image], names, prepared), prepared.spacing_mm
        )

    return fill_cache(out, parts, digest_of_cases([folder]), ask, on_step)


def _on_model_grid(entry: Entry, path: Path, names: dict[str, int], prepared: Prepared) -> Share:
    """Probabilities (C, D, H, W) on the model's grid."""
    scan_grid = read_array(entry.image)[1]
    to_model = Resampler.of_scan(scan_grid, prepared.spacing_mm, (0.0, 1.0))
    case = prepared.case(entry.name)
    result = np.zeros((prepared.classes, *case.shape), dtype=np.float32)
    known = set()
    for name, share in _shares(path, names, scan_grid):
        if name in prepared.labels[1:]:
            value = prepared.labels.index(name)
            canonical = scan_grid.orientation.to_canonical(share)
            result[value] = to_model.whole(canonical)
            known.add(value)
    if not known:
        raise FOREIGN_TEACHER_INVALID(f"{path.name} and {prepared.dataset} have no organ in common.")
    labeled = set(range(1, prepared.classes)) if case.known is None else set(case.known)
    if unknown := sorted(set(range(1, prepared.classes)) - known - labeled):
        organs = ", ".join(prepared.labels[value] for value in unknown)
        raise FOREIGN_TEACHER_INVALID(f"case {entry.name}: neither {path.name} nor the labels know {organs}.")
    labels = {value: case.share_in(value, case.whole) for value in set(range(1, prepared.classes)) - known}
    # The labels are certain: the teacher's organs share what they leave.
    left = 1.0 - sum(labels.values(), np.zeros(case.shape, dtype=np.float32))
    taught = result.sum(axis=0)
    result *= np.minimum(1.0, left / np.maximum(taught, 1e-6))
    for value, share in labels.items():
        result[value] = share
    return result


def _shares(path: Path, names: dict[str, int], grid: Grid) -> Iterator[tuple[str, Share]]:
    """Name and probability (D, H, W) of each class of a case, on the grid of the scan."""
    if path.is_dir():
        files = mask_files(path)
        known = distinct_names((file.name.removesuffix(".nii.gz") for file in files), path.name)
        for name, file in zip(known, files, strict=True):
            mask, own = read_array(file)
            require_same_grid(grid, own, f"{path.name}/{file.name} and its scan")
            yield name, (mask > 0).astype(np.float32)
    elif path.suffix == ".npz":
        probabilities = _read_npz(path)
        if probabilities.shape[1:] != grid.shape:
            raise FOREIGN_TEACHER_INVALID(
                f"{path.name} holds {probabilities.shape[1:]} voxels, the scan has {grid.shape}."
            )
        for name, value in names.items():
            if value >= len(probabilities):
                raise FOREIGN_TEACHER_INVALID(
                    f"{path.name} holds {len(probabilities)} classes, dataset.json numbers {value}."
                )
            yield name, np.clip(probabilities[value].astype(np.float32), 0.0, 1.0)
    else:
        values, own = read_array(path)
        require_same_grid(grid, own, f"{path.name} and its scan")
        labels = as_labels(values, 256)
        for name, value in names.items():
            yield name, (labels == value).astype(np.float32)


def _read_npz(path: Path) -> npt.NDArray[np.floating]:
    """The array of probabilities; pickled content is refused."""
    try:
        with np.load(path, allow_pickle=False) as content:
            key = next(key for key in _KEYS if key in content.files)
            array = content[key]
    except MemoryError:
        raise
    except Exception as error:  # NumPy raises whatever its readers raise on a damaged file
        raise FOREIGN_TEACHER_INVALID(
            f"{path.name} holds no array of probabilities ({type(error).__name__})."
        ) from error
    if array.ndim != 4 or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise FOREIGN_TEACHER_INVALID(
            f"{path.name} holds {array.dtype} {array.shape}, expected finite probabilities (C, D, H, W)."
        )
    return np.asarray(array)
