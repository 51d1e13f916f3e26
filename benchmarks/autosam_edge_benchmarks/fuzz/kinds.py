"""The kinds of fuzzed inputs: what makes one, and what reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from autosam_edge.bundle import open_bundle
from autosam_edge.golden import read_golden_tile
from autosam_edge.parity import read_parity
from autosam_edge.read_scan import read
from autosam_edge.session import open_session
from autosam_edge.verify import check_around_network
from autosam_edge_benchmarks.fuzz import bundle_seeds, dicom_seeds, volume_seeds
from autosam_edge_benchmarks.fuzz.dicom_seeds import Files

SECRETS = (*dicom_seeds.NAME.split("^"), dicom_seeds.PATIENT_ID)
"""Patient data in the inputs, which no message may quote."""


class WrongResult(Exception):  # noqa: N818  what a reader returned
    """A reader returned what no volume may be."""


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Args:
        change: Function that makes an input, by a generator of random numbers.
        load: Function that reads an input, by the path of its first file or folder.
    """

    change: Callable[[Random], Files]
    load: Callable[[Path], object]

    def make(self, name: str, number: int) -> Files:
        """Input ``number`` of the kind with this name; always the same."""
        return self.change(Random(f"{name}:{number}"))  # noqa: S311  no secrets


def read_volume(path: Path) -> None:
    """Read a volume, and look at what came out.

    Raises:
        WrongResult: Its shape, its positions or its values are not those of a volume, or a warning quotes the
            patient.
    """
    volume = read(path)
    if volume.hu.shape != volume.grid.shape or not np.isfinite(volume.grid.affine).all():
        raise WrongResult("the grid does not fit the voxels")
    if not np.isfinite(volume.hu).all():
        raise WrongResult("HU that are not finite")
    if any(secret in str(warning.message) for warning in volume.warnings for secret in SECRETS):
        raise WrongResult("a warning quotes the patient")


def load_model(path: Path) -> None:
    """Open a bundle, compare all hashes and load its model; no tile but the one of the trial runs."""
    bundle = open_bundle(path)
    bundle.verify()
    open_session(bundle, threads=1)


def load_manifest(path: Path) -> None:
    """Open a bundle, run every step around the network, and load its model."""
    check_around_network(open_bundle(path))
    load_model(path)


def load_golden(path: Path) -> None:
    """Read the golden files, and run every step around the network on them."""
    bundle = open_bundle(path)
    check_around_network(bundle)
    read_golden_tile(bundle)


def load_parity(path: Path) -> None:
    """Read the tolerances of a bundle."""
    read_parity(open_bundle(path))


_LOADERS = {"manifest": load_manifest, "golden": load_golden, "parity": load_parity}
KINDS: dict[str, Kind] = {
    **{name: Kind(change, read_volume) for name, change in dicom_seeds.CHANGES.items()},
    **{name: Kind(change, read_volume) for name, change in volume_seeds.CHANGES.items()},
    **{name: Kind(change, _LOADERS.get(name, load_model)) for name, change in bundle_seeds.CHANGES.items()},
}
"""Every kind by its name."""
