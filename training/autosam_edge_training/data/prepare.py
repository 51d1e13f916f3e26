"""``data prepare``: resample a data set to the model's grid; the folder appears whole or not at all."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import nibabel as nib
import numpy as np

from autosam_edge.errors import InputError
from autosam_edge.formats.label_image import require_same_grid
from autosam_edge.formats.nifti import read_array, read_nifti, write_nifti
from autosam_edge.formats.nifti_header import lps_affine, ras_affine
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.model import require_spacing
from autosam_edge.phantom import make_phantom
from autosam_edge.system.atomic_files import refuse_occupied, staged_folder
from autosam_edge.volume import Segmentation
from autosam_edge_training.choices import Split, Targets
from autosam_edge_training.data.case import BTCV_INTENSITY, UNKNOWN, Case, Intensity, prepare_case
from autosam_edge_training.data.layouts import BTCV_NAMES, Listing, Pair
from autosam_edge_training.data.manifest import SPLITS, Cases, Entry, Manifest, hash_file
from autosam_edge_training.data.prepared import FILE_NAME, MANIFEST_NAME, Arrays, Prepared

Spacing = tuple[float, float, float]
# Phantoms of the training mix have seeds from 1000 on, the demonstration has 7.
_FIRST_PHANTOM = 500


def prepare_dataset(
    listing: Listing,
    out: Path,
    *,
    spacing_mm: Spacing = (3.0, 3.0, 3.0),
    targets: Targets = "occupancy",
    log: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Prepared:
    """Bring every case of a data set to the model's grid.

    One case is in memory at a time. A run that fails or is stopped leaves nothing. A folder that already
    holds the same data, made in the same way, is taken as it is.

    Args:
        listing: Result of a layout of :data:`~autosam_edge_training.data.layouts.LAYOUTS`.
        spacing_mm: Spacing of the model's voxels along (D, H, W), mm, each from 0.1 to 20.

    Raises:
        ValueError: The spacing is out of this range.
        InputError: A file is missing or damaged, labels are out of range, image and label lie on different
            grids, a case is there twice, or nothing is left to train on.
        OutputError: The folder holds something else or cannot be written.
    """
    require_spacing("spacing_mm", spacing_mm)
    if not (out / FILE_NAME).is_file():
        refuse_occupied(out)  # before an hour of hashing, not after it
    total = 2 * sum(len(pairs) for pairs in listing.splits.values())
    counter = itertools.count(1)

    def on_step() -> None:
        progress(next(counter), total)

    manifest = make_manifest(listing, on_step)
    for warning in manifest.warnings:
        log(f"note: {warning}")
    wanted = _describe(manifest, out, listing.intensity, spacing_mm, targets)
    if (out / FILE_NAME).is_file():
        existing = Prepared.read(out)
        if existing.settings() == wanted.settings():
            log(f"{out.name} already holds these data, made in this way: taken as it is.")
            return existing
    with staged_folder(out) as stage:
        complete = _fill(manifest, dataclasses.replace(wanted, folder=stage), on_step, home=out)
    if complete:
        log(f"note: {_certain_background(complete)}")
    return Prepared.read(out)


def make_manifest(listing: Listing, on_step: Callable[[], None] = lambda: None) -> Manifest:
    """Hash every file of a listing and hold image and label against each other, headers only.

    Raises:
        InputError: See :func:`prepare_dataset`.
    """
    splits: dict[Split, tuple[Entry, ...]] = {}
    for split in SPLITS:
        entries = []
        for pair in listing.splits.get(split, ()):
            image, label, label_sha256 = pair.image.relative_to(listing.root), None, None
            with _naming(pair.name):
                digest, grid = hash_file(pair.image), _grid(pair.image)
                if pair.label is not None:
                    label, label_sha256 = pair.label.relative_to(listing.root), hash_file(pair.label)
                    require_same_grid(grid, _grid(pair.label), "image and label")
            entries.append(Entry(pair.name, image, label, digest, label_sha256, grid.spacing_mm, pair.known))
            on_step()
        splits[split] = tuple(entries)
    return Manifest(listing.dataset, listing.labels, listing.root, **splits, warnings=listing.warnings)


def _grid(path: Path) -> Grid:
    """Where a NIfTI file lies, from its header alone."""
    try:
        image = nib.load(path)
        d, h, w = image.shape[2::-1]
        return Grid((d, h, w), lps_affine(image.affine))
    except Exception:  # whatever is wrong with the file, the reader has a typed error for it
        return read_array(path)[1]


def _describe(
    manifest: Manifest, folder: Path, intensity: Intensity, spacing_mm: Spacing, targets: Targets
) -> Prepared:
    """A prepared folder that has no arrays yet."""
    names = {split: tuple(entry.name for entry in manifest.split(split)) for split in SPLITS}
    return Prepared(
        folder,
        manifest.dataset,
        manifest.labels,
        spacing_mm,
        intensity,
        targets,
        split=MappingProxyType(names),
        arrays=MappingProxyType({}),
        manifest_sha256=manifest.sha256,
        sha256="",
    )


def _fill(
    manifest: Manifest, wanted: Prepared, on_step: Callable[[], None], home: Path | None = None
) -> list[str]:
    """Write every case, the manifest and the description; refuse two cases with the same image.

    ``home`` is the folder that the written one becomes, None if the root of the manifest moves with it.

    Returns:
        The cases that are labeled in part and in which no voxel counts as "not known".
    """
    complete = []
    arrays: dict[str, Arrays] = {}
    cases = Cases()
    for split, entry in ((part, entry) for part in SPLITS for entry in manifest.entries(part)):
        case = prepare_entry(entry, wanted)
        hashes = {}
        for kind, array in (("image", case.image), ("target", case.target)):
            path = wanted.folder / f"{entry.name}.{kind}.npy"
            with path.open("wb") as file:
                # To a file itself, NumPy writes in C, and its error does not say that the disk is full.
                np.lib.format.write_array(SimpleNamespace(write=file.write), array, allow_pickle=False)
            hashes[kind] = hash_file(path)
        cases.add(entry.name, hashes["image"], f"case {entry.name} of {split}")
        arrays[entry.name] = Arrays(case.shape, hashes["image"], hashes["target"], entry.known)
        if not case.possible.all() and not case.share_in(case.classes, case.whole).any():
            complete.append(entry.name)
        on_step()
    manifest.write(wanted.folder / MANIFEST_NAME, folder=home)
    dataclasses.replace(wanted, arrays=MappingProxyType(arrays)).write()
    return complete


def _certain_background(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
    return (
        f"no voxel of case {', '.join(cases[:3])}{more} counts as not known ({UNKNOWN}): organs that `known` "
        "does not list count as absent where they have no label. If nobody labeled them there, write "
        f"{UNKNOWN} in place of 0 and prepare the data again."
    )


@contextmanager
def _naming(case: str) -> Iterator[None]:
    """Say in an error of the block which case it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(error.code, f"case {case}: {error.message}", remedy=error.remedy) from error


def prepare_entry(entry: Entry, wanted: Prepared) -> Case:
    """Read a case, the image as the runtime reads it, and bring it to the model's grid.

    Args:
        wanted: Data set whose grid, window and kind of targets the case gets.

    Raises:
        InputError: A file is damaged, the two lie on different grids (AE-NIFTI-*), or a label lies outside
            of the classes (AE-DATA-003).
    """
    with _naming(entry.name):
        volume = read_nifti(entry.image)
        if entry.label:
            labels, grid = read_array(entry.label)
        else:
            labels, grid = np.full(volume.shape, UNKNOWN, dtype=np.uint8), volume.grid
        require_same_grid(volume.grid, grid, "image and label")
        return prepare_case(
            entry.name,
            volume.hu,
            labels,
            grid,
            spacing_mm=wanted.spacing_mm,
            intensity=wanted.intensity,
            classes=wanted.classes,
            targets=wanted.targets,
            known=entry.known,
        )


def phantom_case(
    seed: int, *, spacing_mm: Spacing, intensity: Intensity = BTCV_INTENSITY, targets: Targets = "occupancy"
) -> Case:
    """A prepared phantom: synthetic, with truth known in closed form and BTCV's 14 classes."""
    phantom = make_phantom(seed)
    return prepare_case(
        f"phantom-{seed}",
        phantom.volume.hu,
        phantom.labels,
        phantom.volume.grid,
        spacing_mm=spacing_mm,
        intensity=intensity,
        targets=targets,
    )


def prepare_phantoms(
    out: Path,
    *,
    training: int = 2,
    validation: int = 1,
    test: int = 1,
    spacing_mm: Spacing = (3.0, 3.0, 3.0),
    targets: Targets = "occupancy",
    scan_spacing_mm: Spacing = (5.0, 3.0, 3.0),
) -> Path:
    """Prepare a folder of phantoms, with their NIfTI files in ``OUT/scans``; needs no data.

    Args:
        scan_spacing_mm: Voxel spacing of the scans (D, H, W), mm; coarse, so that a smoke run takes seconds.

    Raises:
        OutputError: It holds something or cannot be written.
    """
    counts: dict[Split, int] = {"training": training, "validation": validation, "test": test}
    seeds = itertools.count(_FIRST_PHANTOM)
    with staged_folder(out) as stage:
        splits = {
            split: tuple(_write_phantom(next(seeds), stage / "scans", scan_spacing_mm) for _ in range(count))
            for split, count in counts.items()
        }
        listing = Listing("phantoms", stage / "scans", BTCV_NAMES, BTCV_INTENSITY, splits)
        manifest = make_manifest(listing)
        _fill(manifest, _describe(manifest, stage, listing.intensity, spacing_mm, targets), lambda: None)
    return out


def prepare_smoke_phantoms(out: Path) -> Path:
    """Prepare coarse phantoms for a smoke run, which spends most of its time on scores of surfaces."""
    return prepare_phantoms(out, scan_spacing_mm=(8.0, 6.0, 6.0), spacing_mm=(6.0, 6.0, 6.0))


def _write_phantom(seed: int, folder: Path, spacing_mm: Spacing) -> Pair:
    """A phantom's scan (int16) and truth as NIfTI files."""
    phantom = make_phantom(seed, spacing_mm=spacing_mm)
    folder.mkdir(exist_ok=True)
    image, label = folder / f"phantom-{seed}.nii.gz", folder / f"phantom-{seed}-label.nii.gz"
    # (D, H, W) -> (x, y, z)
    scan = nib.Nifti1Image(phantom.volume.hu.T, ras_affine(phantom.volume.grid.affine))
    scan.header.set_xyzt_units("mm", "sec")
    nib.save(scan, image)
    write_nifti(Segmentation(phantom.labels, phantom.volume.grid, BTCV_LABELS), label)
    return Pair(f"phantom-{seed}", image, label)
