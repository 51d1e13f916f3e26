"""Results in a folder: all or none, foreign files stay, and every refusal has a code."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from autosam_edge_test_ct import lenient_writing, write_enhanced  # noqa: F401  used by every test
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import write_small_series

from autosam_edge.errors import OutputError
from autosam_edge.formats import nifti
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.measurements import organ_statistics
from autosam_edge.output_formats import DEFAULT_FORMATS, FILE_NAMES
from autosam_edge.read_scan import read
from autosam_edge.report import preview
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.volume import Provenance, Segmentation, Source, Volume
from autosam_edge.warning_codes import THICK_SLICES
from autosam_edge.write_results import check_writable, write

SHAPE = (4, 20, 24)
NOT_DICOM = {"nifti", "json", "csv", "preview"}


@pytest.fixture
def volume() -> Volume:
    """A scan that did not come from DICOM."""
    hu = np.random.default_rng(0).integers(-200, 200, SHAPE).astype(np.int16)
    return Volume(hu, Grid.axis_aligned(SHAPE, (3.0, 1.0, 1.0)))


@pytest.fixture
def segmentation(volume: Volume) -> Segmentation:
    """A liver of 200 voxels inside, and a provenance."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 5:15, 5:15] = 6
    return Segmentation(
        labels,
        volume.grid,
        BTCV_LABELS,
        Provenance(version="1.2.3", model="student", model_sha256="ab" * 32),
        {},
        (THICK_SLICES("Slices are thick."),),
    )


def tree(folder: Path) -> set[str]:
    """Names below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_writes_all_that_fits_the_source(volume, segmentation, tmp_path: Path) -> None:
    """Input that is not DICOM gives every format but the DICOM SEG, and nothing else lies around."""
    timings = {"statistics": 1e9}  # of an earlier scan
    paths = write(volume, segmentation, tmp_path / "a" / "b" / "out", timings_s=timings)
    assert set(paths) == NOT_DICOM
    assert all(path.stat().st_size > 0 for path in paths.values())
    assert tree(tmp_path) == {"a", "a/b", "a/b/out"} | {f"a/b/out/{FILE_NAMES[name]}" for name in NOT_DICOM}
    assert list(timings) == ["statistics", *paths]
    assert max(timings.values()) < 1e9


def test_statistics_say_the_same_in_both_forms(volume, segmentation, tmp_path: Path) -> None:
    """200 voxels of 3 mm3 are 0.6 ml in JSON and CSV; JSON has what is needed to trust it."""
    segmentation = dataclasses.replace(segmentation, expected_dice={"liver": 0.87654})
    paths = write(volume, segmentation, str(tmp_path / "out"), formats=("json", "csv"))
    content = json.loads(paths["json"].read_text())
    with paths["csv"].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    liver = content["organs"][5]
    assert (liver["name"], liver["voxels"], liver["ml"]) == ("liver", 200, pytest.approx(0.6))
    assert (rows[5]["name"], float(rows[5]["ml"]), rows[5]["touches_border"]) == ("liver", 0.6, "false")
    assert (content["organs"][0]["mean_hu"], rows[0]["mean_hu"]) == (None, "")
    assert (liver["expected_dice"], rows[5]["expected_dice"]) == (0.87654, "0.877")
    assert (content["organs"][0]["expected_dice"], rows[0]["expected_dice"]) == (None, "")
    assert content["research_use"].startswith("Research use only")
    assert all(row["research_use"].startswith("Research use only") for row in rows)
    assert rows[0]["model_sha256"] == "ab" * 32
    assert content["warnings"] == [
        {"code": "AE-WARN-040", "severity": "caution", "message": "Slices are thick.", "organ": None}
    ]
    assert content["provenance"] == segmentation.provenance.as_dict()
    assert content["spacing_dhw_mm"] == [3.0, 1.0, 1.0]


def test_each_line_of_the_csv_has_the_codes_of_its_organ_and_of_the_scan(
    volume, segmentation, tmp_path: Path
) -> None:
    """The most severe first, each once; an organ without a warning has an empty cell."""
    warnings = (
        ScanWarning("AE-WARN-101", "info", "One.", "liver"),
        ScanWarning("AE-WARN-100", "doubtful", "Two.", "liver"),
        ScanWarning("AE-WARN-100", "doubtful", "Two again.", "liver"),
        *segmentation.warnings,
    )
    path = write(
        volume, dataclasses.replace(segmentation, warnings=warnings), tmp_path / "out", formats=("csv",)
    )["csv"]
    with path.open(newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert rows["liver"]["warnings"] == "AE-WARN-100 AE-WARN-101"
    assert rows["spleen"]["warnings"] == ""
    assert {row["scan_warnings"] for row in rows.values()} == {"AE-WARN-040"}


def test_statistics_of_the_caller_are_used(volume, segmentation, tmp_path: Path) -> None:
    """What was measured once is not measured again."""
    statistics = organ_statistics(volume, segmentation)
    timings: dict[str, float] = {}
    given = write(volume, segmentation, tmp_path / "given", statistics=statistics, timings_s=timings)
    assert "statistics" not in timings
    assert given["csv"].read_bytes() == write(volume, segmentation, tmp_path / "own")["csv"].read_bytes()


def test_labels_of_another_scan_are_refused(volume, segmentation, tmp_path: Path) -> None:
    """Its grid, or its hash where both are known; one that nobody knows says nothing."""
    scan = dataclasses.replace(volume, source=Source("nifti", "ab" * 32))
    made_by = dataclasses.replace(segmentation.provenance, input_hash="cd" * 32)
    other = dataclasses.replace(segmentation, provenance=made_by)
    with pytest.raises(ValueError, match="begins with cdcdcdcd, expected abababab of .*that was segmented"):
        write(scan, other, tmp_path / "out")
    moved = Grid.axis_aligned(SHAPE, (3.0, 1.0, 1.0), origin_mm=(1.0, 0.0, 0.0))
    statistics = organ_statistics(volume, segmentation)
    with pytest.raises(ValueError, match="volume and segmentation differ in the place"):
        write(volume, dataclasses.replace(segmentation, grid=moved), tmp_path / "out", statistics=statistics)
    with pytest.raises(TypeError, match="the scan is a Segmentation, expected a Volume"):
        write(segmentation, volume, tmp_path / "out")
    assert tree(tmp_path) == set()
    assert write(scan, segmentation, tmp_path / "out", formats=["json"])
    assert write(volume, other, tmp_path / "out", formats=["json"])


@pytest.mark.parametrize("measured", [False, True])
def test_a_value_without_a_name_is_refused(volume, segmentation, tmp_path: Path, measured) -> None:
    """Also beside organs that have one, and with statistics of the caller; fewer statistics are no fault."""
    labels = segmentation.labels.copy()
    labels[0, 0, 0], labels[3, 2, 2] = 77, 14
    odd = dataclasses.replace(segmentation, labels=labels)
    statistics = organ_statistics(volume, odd) if measured else None
    with pytest.raises(ValueError, match="the labels hold 14, 77, expected 0 and values of the table"):
        write(volume, odd, tmp_path / "out", statistics=statistics)
    assert tree(tmp_path) == set()
    assert write(volume, segmentation, tmp_path / "out", formats=["json"], statistics=())


def test_same_input_gives_identical_bytes(volume, segmentation, tmp_path: Path) -> None:
    """Two runs cannot be told apart."""
    one, two = (write(volume, segmentation, tmp_path / name) for name in ("one", "two"))
    assert all(one[name].read_bytes() == two[name].read_bytes() for name in one)


def test_foreign_files_stay_and_ours_are_replaced(volume, segmentation, tmp_path: Path) -> None:
    """An existing folder keeps what is not ours; an old result is not left beside a new one."""
    out = tmp_path / "out"
    (out / "notes").mkdir(parents=True)
    (out / "notes" / "mine.txt").write_text("keep")
    (out / "statistics.csv").write_text("old")
    write(volume, segmentation, out)
    assert (out / "notes" / "mine.txt").read_text() == "keep"
    assert (out / "statistics.csv").read_text().startswith("label,name")
    assert not [name for name in tree(out) if "partial" in name or "before" in name]


@hazard("Results", "the folder holds results of an earlier run", "all of them go, also of other formats")
def test_no_result_of_an_earlier_run_stays(volume, segmentation, tmp_path: Path) -> None:
    """Otherwise the folder could show two scans."""
    write(volume, segmentation, tmp_path / "out", formats=("nifti", "json"))
    write(volume, segmentation, tmp_path / "out", formats=("csv",))
    assert tree(tmp_path / "out") == {"statistics.csv"}


def test_stale_seg_goes_when_no_organ_is_found(volume, segmentation, tmp_path: Path) -> None:
    """A DICOM SEG of an earlier run cannot be taken for one of this run."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "segmentation.dcm").write_bytes(b"old")
    scan = Volume(volume.hu, volume.grid, Source("dicom", "", (tmp_path / "series" / "1.dcm",)))
    empty = Segmentation(np.zeros(SHAPE, np.uint8), volume.grid, BTCV_LABELS)
    assert set(write(scan, empty, out)) == NOT_DICOM
    assert not (out / "segmentation.dcm").exists()


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "AE-OUTPUT-003"), (errno.EROFS, "AE-OUTPUT-001")]
)
def test_failing_writer_leaves_nothing(
    existing: bool, number: int, code: str, volume, segmentation, tmp_path: Path, monkeypatch
) -> None:
    """A disk that fills up in the middle leaves the folder as it was before."""
    out = tmp_path / "a" / "out"
    if existing:
        out.mkdir(parents=True)
        (out / "statistics.csv").write_text("old")
    before = tree(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(preview, "draw_preview", fail)
    with pytest.raises(OutputError) as caught:
        write(volume, segmentation, out)
    assert caught.value.code == code
    assert tree(tmp_path) == before
    if existing:
        assert (out / "statistics.csv").read_text() == "old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_cancelled_run_leaves_nothing(
    error: type[BaseException], volume, segmentation, tmp_path: Path, monkeypatch
) -> None:
    """Ctrl-C and faults of our own clean up as well."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(nifti, "write_nifti", fail)
    with pytest.raises(error):
        write(volume, segmentation, tmp_path / "a" / "out")
    assert tree(tmp_path) == set()


def test_failing_rename_brings_the_old_files_back(volume, segmentation, tmp_path: Path, monkeypatch) -> None:
    """Half old and half new is never what stays."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("segmentation.nii.gz", "preview.png"):
        (out / name).write_text("old")
    replace = Path.replace

    def fail_at_preview(self: Path, target: Path) -> Path:
        if self.name == "preview.png" and target.parent == out and self.parent.name == "new":
            raise PermissionError(errno.EACCES, "busy")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_preview)
    with pytest.raises(OutputError, match="AE-OUTPUT-001"):
        write(volume, segmentation, out)
    assert tree(out) == {"segmentation.nii.gz", "preview.png"}
    assert {path.read_text() for path in out.iterdir()} == {"old"}


def test_results_have_the_usual_permissions(volume, segmentation, tmp_path: Path) -> None:
    """Colleagues can read the folder as far as the umask allows, not only its owner."""
    write(volume, segmentation, tmp_path / "out", formats=("csv",))
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Neither the path itself nor a parent may be a file, and none of our names a folder."""
    (tmp_path / "file").write_text("")
    (tmp_path / "out" / "preview.png").mkdir(parents=True)
    for path in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / "out"):
        with pytest.raises(OutputError, match="AE-OUTPUT-002"):
            check_writable(path)


def test_output_inside_the_input_is_refused(tmp_path: Path) -> None:
    """Results among the slices would be read by the next run; also by way of a symbolic link."""
    series = tmp_path / "series"
    series.mkdir()
    (tmp_path / "link").symlink_to(series)
    source = Source("dicom", "", (series / "deep" / "1.dcm",), folder=series)
    for path in (series, series / "out", tmp_path / "link" / "out", series / ".." / "series" / "x"):
        with pytest.raises(OutputError, match="AE-OUTPUT-004"):
            check_writable(path, source=source)
        with pytest.raises(OutputError, match="AE-OUTPUT-004"):
            check_writable(path, input_path=series)
    assert "dicom-seg" in check_writable(tmp_path / "series2", source=source)


def test_one_file_as_input_may_have_its_output_beside_it(tmp_path: Path) -> None:
    """A NIfTI file, or an Enhanced CT, is not a folder that is searched."""
    for kind, name in (("nifti", "scan.nii.gz"), ("dicom", "scan.dcm")):
        file = tmp_path / name
        file.write_bytes(b"")
        for out in (tmp_path, tmp_path / "out"):
            check_writable(out, source=Source(kind, "", (file,)), input_path=file, formats=("nifti",))
    assert tree(tmp_path) == {"scan.nii.gz", "scan.dcm"}


def test_a_source_says_what_was_searched_and_shows_nothing(tmp_path: Path) -> None:
    """The folder of a series, nothing for one file; a name of a folder or file is often the patient's."""
    write_small_series(tmp_path / "Doe" / "scan")
    source = read(tmp_path / "Doe").source
    assert source.folder == tmp_path / "Doe"
    assert "Doe" not in repr(source)
    multi = write_enhanced(source.files, tmp_path / "Doe" / "multi.dcm")
    assert read(multi).source.folder is None


def test_an_enhanced_file_may_have_its_results_beside_it(tmp_path: Path) -> None:
    """One file was read, so its folder is as good as any other."""
    files = write_small_series(tmp_path / "series")
    (tmp_path / "out").mkdir()
    scan = read(write_enhanced(files, tmp_path / "out" / "scan.dcm"))
    labels = np.zeros(scan.shape, np.uint8)
    labels[2, 2:5, 1:6] = 6
    write(scan, Segmentation(labels, scan.grid, BTCV_LABELS), tmp_path / "out")
    assert tree(tmp_path / "out") == {"scan.dcm", *(FILE_NAMES[name] for name in DEFAULT_FORMATS)}


@pytest.mark.parametrize(("kind", "name"), [("nifti", "segmentation.nii.gz"), ("dicom", "segmentation.dcm")])
def test_the_input_is_never_replaced_by_a_result(kind: str, name: str, tmp_path: Path) -> None:
    """A scan with the name of a result cannot have its results beside it, of whatever format."""
    file = tmp_path / name
    file.write_bytes(b"")
    for arguments in ({"source": Source(kind, "", (file,))}, {"input_path": file}):
        with pytest.raises(OutputError, match="AE-OUTPUT-002"):
            check_writable(tmp_path, formats=("json",), **arguments)
        check_writable(tmp_path / "out", formats=("nifti",), **arguments)


def test_full_disk_is_found_before_the_run(tmp_path: Path, monkeypatch) -> None:
    """Too little space is said before minutes of inference, not after."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(OutputError, match="AE-OUTPUT-003"):
        check_writable(tmp_path / "out")


def test_read_only_place_is_refused(tmp_path: Path, monkeypatch) -> None:
    """A probe that cannot be made means that results cannot either."""

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="AE-OUTPUT-001"):
        check_writable(tmp_path / "out")


def test_asking_for_a_seg_of_nifti_is_refused(volume, segmentation, tmp_path: Path) -> None:
    """Asked and impossible: refused, before anything is written."""
    with pytest.raises(OutputError, match="AE-OUTPUT-005"):
        write(volume, segmentation, tmp_path / "out", formats=("dicom-seg", "csv"))
    assert tree(tmp_path) == set()


def test_a_seg_alone_of_no_organ_is_refused(volume, segmentation, tmp_path: Path) -> None:
    """Nothing could be written, and an empty folder is no result."""
    scan = Volume(volume.hu, volume.grid, Source("dicom", "", (tmp_path / "series" / "1.dcm",)))
    empty = Segmentation(np.zeros(SHAPE, np.uint8), volume.grid, BTCV_LABELS)
    with pytest.raises(OutputError, match="AE-OUTPUT-005"):
        write(scan, empty, tmp_path / "out", formats=("dicom-seg",))
    assert tree(tmp_path) == set()


def test_formats_may_come_from_a_generator_and_not_as_a_text(volume, segmentation, tmp_path: Path) -> None:
    """A generator is read once; the letters of a text are no formats."""
    names = (name for name in ("csv", "nifti"))
    assert set(write(volume, segmentation, tmp_path / "out", formats=names)) == {"csv", "nifti"}
    for check in (partial(write, volume, segmentation), check_writable):
        with pytest.raises(ValueError, match=r"`formats` is the text 'nifti', .* \['nifti'\]"):
            check(tmp_path / "other", formats="nifti")


@pytest.mark.parametrize("formats", [(), ("png",), (1,)])
def test_unknown_formats_are_refused(formats: tuple[str, ...], volume, segmentation, tmp_path: Path) -> None:
    """A mistyped format does not become an empty folder."""
    with pytest.raises(ValueError, match="`formats` are .*, expected some of nifti"):
        write(volume, segmentation, tmp_path / "out", formats=formats)
    assert tree(tmp_path) == set()
