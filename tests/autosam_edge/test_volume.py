"""A volume and a segmentation cannot be written through, and leave the caller's array alone."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard

from autosam_edge.error_codes import VOLUME_NOT_FINITE
from autosam_edge.errors import InputError
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.phantom import Phantom
from autosam_edge.volume import Segmentation, Source, Volume

GRID = Grid.axis_aligned((2, 3, 4), (3.0, 1.0, 1.0))


def made(kind: str, array: np.ndarray) -> np.ndarray:
    """The array that a volume, a segmentation or a phantom holds."""
    if kind == "volume":
        return Volume(array, GRID).hu
    if kind == "phantom":
        return Phantom(Volume(np.zeros(GRID.shape, np.int16), GRID), array).labels
    return Segmentation(array, GRID, BTCV_LABELS).labels


@pytest.mark.parametrize(
    ("kind", "dtype"), [("volume", np.int16), ("segmentation", np.uint8), ("phantom", np.uint8)]
)
def test_the_value_is_read_only_and_the_callers_array_is_not(kind: str, dtype: type) -> None:
    """A view without a copy: writing to the value fails, writing to one's own array does not."""
    array = np.zeros(GRID.shape, dtype)
    held = made(kind, array)
    with pytest.raises(ValueError, match="read-only"):
        held[0, 0, 0] = 1
    array[0, 0, 0] = 1
    assert array.flags.writeable
    assert np.shares_memory(held, array)


@hazard("Pixel values", "a `Volume` made in Python that holds NaN or infinity", VOLUME_NOT_FINITE)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    """They are found before the inference, and the engine is not blamed."""
    hu = np.zeros(GRID.shape, np.float32)
    Volume(hu, GRID)
    hu[1, 2, 3] = value
    with pytest.raises(InputError, match="AE-INPUT-014"):
        Volume(hu, GRID)


def test_slices_of_a_scan_keep_their_place():
    """Slice 2 of the part is slice 5 of the scan, at the same place in the patient."""
    hu = np.arange(8 * 2 * 2, dtype=np.int16).reshape(8, 2, 2)
    affine = np.array([[0, 0, 2, 5], [0, 1, 0, 6], [-3, 0, 0, 7], [0, 0, 0, 1]], np.float64)
    scan = Volume(hu, Grid(hu.shape, affine))
    part = scan.slices(3, 7)
    np.testing.assert_array_equal(part.hu[2], scan.hu[5])
    np.testing.assert_allclose(part.grid.affine @ [2, 1, 1, 1], scan.grid.affine @ [5, 1, 1, 1])


@pytest.mark.parametrize("part", [(-5, 20), (-5, -1), (0, -3), (6, 100)])
def test_slices_are_counted_as_python_counts(part):
    """A negative number counts from the end, and a part ends with the scan."""
    hu = np.arange(8 * 2 * 2, dtype=np.int16).reshape(8, 2, 2)
    source = Source("dicom", files=tuple(Path(name) for name in "abcdefgh"))
    scan = Volume(hu, Grid.axis_aligned(hu.shape, (3, 1, 1)), source)
    start, *_, last = range(8)[slice(*part)]
    counted, plain = scan.slices(*part), scan.slices(start, last + 1)
    np.testing.assert_array_equal(counted.hu, hu[slice(*part)])
    np.testing.assert_array_equal(counted.grid.affine, plain.grid.affine)
    assert counted.source.files == plain.source.files == source.files[slice(*part)]


@pytest.mark.parametrize("part", [(5, 5), (6, 2), (-1, 0), (8, 20)])
def test_a_part_without_slices_is_refused(part):
    with pytest.raises(ValueError, match="at least one voxel"):
        Volume(np.zeros((8, 2, 2), np.int16), Grid.axis_aligned((8, 2, 2), (3, 1, 1))).slices(*part)


@pytest.mark.parametrize(
    ("made", "dtype", "message"),
    [
        (Volume, np.int16, r"the HU are a masked array, .*hu\.filled\(-1024\)"),
        (Segmentation, np.uint8, r"the labels are a masked array, .*labels\.filled\(0\)"),
    ],
)
def test_a_masked_array_is_refused(made, dtype, message):
    """Its mask would be passed over in silence."""
    with pytest.raises(ValueError, match=message):
        made(np.ma.masked_less(np.zeros(GRID.shape, dtype), 1), GRID, ())


@pytest.mark.parametrize("made", [Volume, Segmentation])
def test_only_an_array_on_a_grid_is_taken(made):
    """A list has no type, and an affine no shape."""
    with pytest.raises(TypeError, match=r"the (HU|labels) are a list, expected a NumPy array"):
        made([[[0]]], GRID, ())
    with pytest.raises(TypeError, match=r"the grid of the (HU|labels) is a ndarray, expected a Grid"):
        made(np.zeros(GRID.shape, np.uint8), np.eye(4), ())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_and_a_pickle_are_read_only_too(copied):
    """NumPy makes the arrays of both writable."""
    volume = copied(Volume(np.zeros(GRID.shape, np.int16), GRID))
    labels = copied(Segmentation(np.zeros(GRID.shape, np.uint8), GRID, BTCV_LABELS))
    for array in (volume.hu, volume.grid.affine, labels.labels, labels.grid.affine, copied(GRID).affine):
        assert not array.flags.writeable
    assert volume.grid.same_as(GRID)


def test_values_are_shown_on_one_line():
    """What they are, without their voxels and without their files."""
    source = Source("nifti", "ab" * 32, files=(Path("name of a patient"),))
    volume = Volume(np.zeros(GRID.shape, np.int16), GRID, source)
    labels = Segmentation(np.zeros(GRID.shape, np.uint8), GRID, BTCV_LABELS)
    voxels = "2 x 3 x 4 voxels of 3 x 1 x 1 mm"
    assert repr(GRID) == f"<Grid: {voxels}>"
    assert repr(volume) == f"<Volume: {voxels}, int16, source nifti>"
    assert repr(labels) == f"<Segmentation: {voxels}, table of 13 organs, verdict none>"


@pytest.mark.parametrize(
    ("kind", "names", "kept"), [("dicom", "abcefgh", "cef"), ("dicom", "a", ""), ("nifti", "a", "a")]
)
def test_slices_of_a_scan_have_their_own_source(kind, names, kept):
    """Slice 3 of 8 is filled; frames of one file have none of their own."""
    files, stamps = tuple(Path(name) for name in names), tuple((ord(name), 0) for name in names)
    source = Source(kind, files=files, stamps=stamps, filled=(3,))
    part = Volume(np.zeros((8, 2, 2), np.int16), Grid.axis_aligned((8, 2, 2), (1, 1, 1)), source).slices(2, 6)
    assert part.source.filled == (1,)
    assert part.source.files == tuple(Path(name) for name in kept)
    assert part.source.stamps == tuple((ord(name), 0) for name in kept)
