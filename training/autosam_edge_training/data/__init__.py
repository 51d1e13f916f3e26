"""Data sets: lists of cases, bringing them to the model's grid, and reading them from there."""

from autosam_edge_training.choices import Split
from autosam_edge_training.data.case import AMOS_INTENSITY, BTCV_INTENSITY, Case, Intensity, prepare_case
from autosam_edge_training.data.layouts import AMOS_NAMES, BTCV_NAMES, BTCV_VALIDATION, LAYOUTS, Listing, Pair
from autosam_edge_training.data.manifest import SPLITS, Entry, Manifest
from autosam_edge_training.data.negatives import negative_case
from autosam_edge_training.data.prepare import (
    make_manifest,
    phantom_case,
    prepare_dataset,
    prepare_entry,
    prepare_phantoms,
    prepare_smoke_phantoms,
)
from autosam_edge_training.data.prepared import Prepared
from autosam_edge_training.data.soft_labels import SoftLabels

__all__ = [
    "AMOS_INTENSITY",
    "AMOS_NAMES",
    "BTCV_INTENSITY",
    "BTCV_NAMES",
    "BTCV_VALIDATION",
    "LAYOUTS",
    "SPLITS",
    "Case",
    "Entry",
    "Intensity",
    "Listing",
    "Manifest",
    "Pair",
    "Prepared",
    "SoftLabels",
    "Split",
    "make_manifest",
    "negative_case",
    "phantom_case",
    "prepare_case",
    "prepare_dataset",
    "prepare_entry",
    "prepare_phantoms",
    "prepare_smoke_phantoms",
]
