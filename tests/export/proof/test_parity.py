"""What counts as equal to the student: figures against tolerances, whole volumes and some tiles."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from autosam_edge_test_support import make_model

from autosam_edge.errors import EngineError, ExportError
from autosam_edge.geometry import Grid
from autosam_edge.strict_json import build_list, parse_json
from autosam_edge.volume import Source, Volume
from autosam_edge_export.proof.parity import MadeArtifact, compare, hausdorff_95, require, summarize
from autosam_edge_export.proof.parity_report import (
    OrganRecord,
    ParityEntry,
    VolumeRecord,
    as_json,
    as_markdown,
)


def organ(name="liver", dice=1.0):
    return OrganRecord(name, dice, hd95_mm=0.0, ml=1.0, ml_difference=0.0, percent=0.0)


def artifact(precision, target="onnx", proof="executed"):
    return MadeArtifact(target, precision, "path", proof)


def record(*organs, agreement=1.0, logit_rms=0.0):
    return VolumeRecord("v", None, agreement, 0.0, logit_rms, organs)


def test_nothing_found_proves_nothing():
    """A student that labels no voxel passes no parity."""
    with pytest.raises(ExportError, match="AE-EXPORT-004"):
        require([summarize(artifact("fp32"), [record()])])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (record(organ(), organ("pancreas", 0.9)), "pancreas has Dice 0.9000 .0.900 in the worst volume."),
        (record(organ(), agreement=0.9), "agree in 0.900000"),
        (record(organ(), logit_rms=0.5), "differ by 5.0e-01"),
    ],
)
def test_one_bad_figure_fails_the_export_by_name(bad, words):
    """All others may be perfect, and so may the other artifacts."""
    entries = [
        summarize(artifact("fp32"), [record(organ())]),
        summarize(artifact("fp16"), [record(organ()), bad]),
    ]
    assert entries[0].failures == ()
    with pytest.raises(ExportError, match=f"AE-EXPORT-003.*onnx/fp16: .*{words}"):
        require(entries)


@pytest.mark.parametrize(
    ("precision", "told"),
    [
        ("int8", "Leave the precision out, or give more scans in `calibration`"),
        ("fp16", "Leave the precision out, or report"),
        ("int8-weights", "Leave the precision out, or report"),
        ("fp32", "Train the student further"),
    ],
)
def test_the_remedy_fits_the_precision(precision, told):
    """Only int8 is calibrated."""
    with pytest.raises(ExportError) as error:
        require([summarize(artifact(precision), [record(organ(dice=0.5))])])
    assert error.value.remedy.startswith(told)


def test_an_organs_dice_is_its_mean_over_the_volumes():
    """And the worst single case stands beside it."""
    entry = summarize(
        artifact("int8"), [record(organ(dice=1.0)), record(organ(dice=0.98), organ("aorta", 0.995))]
    )
    assert entry.organ_dice == {"liver": pytest.approx(0.99), "aorta": pytest.approx(0.995)}
    assert entry.worst_organ == "liver"
    assert entry.worst_case_dice == 0.98


def test_the_hausdorff_distance_is_in_mm():
    """A cube moved by two voxels of 3 mm; equal masks are 0."""
    a = np.zeros((20, 20, 20), dtype=bool)
    a[5:15, 5:15, 5:15] = True
    assert hausdorff_95(a, a, (3.0, 1.0, 1.0)) == 0.0
    assert hausdorff_95(a, np.roll(a, 2, axis=0), (3.0, 1.0, 1.0)) == pytest.approx(6.0)


class Organs:
    """Labels voxels above 0 HU as 1 and counts them in each tile; ``wrong`` picks tiles with wrong labels."""

    def __init__(self, wrong=lambda voxels: False):
        self.description = {"name": "organs", "version": "", "precision": "", "threads": "", "sha256": ""}
        self.wrong, self.seen = wrong, []

    def run(self, tile):
        voxels = int((tile > 0).sum())
        self.seen.append(voxels)
        organ = np.where(tile > 0, 5.0, -5.0).astype(np.float32)
        return np.stack(
            [np.zeros_like(tile), -organ if self.wrong(voxels) else organ, np.full_like(tile, -9.0)]
        )


@pytest.fixture
def slabs():
    """A model with tiles of 16 voxels, and a volume with ever more organ along its first axis."""
    hu = np.full((80, 16, 16), -1000, dtype=np.int16)
    for depth in range(80):
        hu[depth, : depth // 5] = 100
    volume = Volume(hu, Grid.axis_aligned(hu.shape, (3.0, 3.0, 3.0)), Source("array"))
    return make_model(), volume


@pytest.fixture
def compared(slabs, tmp_path):
    """A function that compares engines with a student on the volume."""
    model, volume = slabs

    def run(student, on_tiles, **engines):
        volumes = {"v": volume}
        records = compare(
            model, engines, student, volumes, scratch=tmp_path, log=lambda line: None, on_tiles=on_tiles
        )
        assert not list(tmp_path.iterdir())
        return {name: record for name, (record,) in records.items()}

    return run


def test_some_tiles_are_those_with_most_organ(compared):
    """An artifact on two tiles sees the two richest; the student and the other artifact see all."""
    student, whole, some = Organs(), Organs(), Organs()
    records = compared(student, {"some": 2}, whole=whole, some=some)
    assert whole.seen == student.seen
    assert len(student.seen) > 3
    assert sorted(some.seen) == sorted(student.seen)[-2:]
    assert (records["whole"].tiles, records["some"].tiles) == (None, 2)
    assert records["some"].agreement == 1.0
    entry = summarize(artifact("fp32", "coreml", "interpreted"), [records["some"]])
    assert (entry.proof, entry.failures) == ("interpreted", ())
    page = as_markdown([entry], ["spleen", "toe"])
    assert "Dice: mean over 2 tiles of v." in page
    assert "Found in no comparison scan, so not compared: toe." in page
    assert build_list(ParityEntry, parse_json(as_json([entry]).encode()), "parity.json") == [entry]


def test_a_wrong_tile_among_some_is_found(compared):
    """In labels and logits; one that was not looked at is not."""
    student = Organs()
    compared(student, {})
    for voxels, seen in ((max(student.seen), True), (min(student.seen), False)):
        engine = Organs(lambda found, voxels=voxels: found == voxels)
        record = compared(Organs(), {"a": 2}, a=engine)["a"]
        assert (record.agreement < 0.9) == seen
        assert (record.logit_error == 10.0) == seen
        assert bool(summarize(artifact("fp16", "coreml"), [record]).failures) == seen


@pytest.mark.parametrize("tiles", [{}, {"a": 2}])
def test_logits_that_are_no_numbers_are_not_equal(compared, tiles):
    """A NaN passes every comparison and its argmax is the background: it has to fail by itself."""

    class Broken(Organs):
        def run(self, tile):
            logits = super().run(tile)
            logits[:, tile < 0] = np.where(np.arange(3)[:, None] == 0, np.nan, -np.inf)
            return logits

    if not tiles:
        with pytest.raises(EngineError, match="AE-ENGINE-005"):
            compared(Organs(), tiles, a=Broken())
        return
    record = compared(Organs(), tiles, a=Broken())["a"]
    assert record.agreement == 1.0
    assert summarize(artifact("palette4", "coreml"), [record]).failures == (
        "logits differ by inf (root mean square), allowed 1.0",
    )


def test_more_tiles_than_there_are_is_all_of_them(compared):
    """The record says how many it was."""
    student = Organs()
    assert compared(student, {"a": 99}, a=Organs())["a"].tiles == len(student.seen)
