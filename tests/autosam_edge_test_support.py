"""Builders that several test files use."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autosam_edge.dicom.read import read_dicom
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.errors import AutosamEdgeError, ErrorCode, InputError
from autosam_edge.geometry import Orientation
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.manifest import SCHEMA_VERSION, Manifest
from autosam_edge.model import InputContract, Model
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.plausibility.thresholds import Limit, Measured, SignLimits, Threshold, Thresholds
from autosam_edge.volume import RESEARCH_USE

SECRETS = ("Mustermann", "Erika", "SECRET", "4711")  # what the test series hold as patient data
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"
PLACES_HERE = (
    str(Path(__file__).parents[1]),
    str(Path.home()),
    "site-packages",
)  # what no exported file may name

ORIENTATIONS = [
    Orientation((p[0], p[1], p[2]), (f[0], f[1], f[2]))
    for p in itertools.permutations(range(3))
    for f in itertools.product((False, True), repeat=3)
]
"""All 48 orders of an array; the first is the canonical one."""

NOT_MEASURED = (Measured(1, *5 * (0.0,)),) * 2
LIMITS = Thresholds(
    confidence=Threshold(0.87, 0.84, *NOT_MEASURED),
    surest_organ=Threshold(0.8, 0.8, *NOT_MEASURED),
    share_below_fat=Threshold(0.03, 0.015, *NOT_MEASURED),
    abdomen_ml=Threshold(100.0, 50.0, *NOT_MEASURED),
    impossible_values=Limit(0.5, *NOT_MEASURED),
    smallest_liver_ml=Limit(250.0, *NOT_MEASURED),
    largest_liver_ml=Limit(5500.0, *NOT_MEASURED),
    signs=SignLimits(*(Limit(limit, *NOT_MEASURED) for limit in (10.0, 40.0, 0.45, 30.0, 0.35, 0.018))),
    scans=("one", "two"),
    abdomen_organs=Limit(3.0, *NOT_MEASURED),
)

MODEL = {"onnx/fp32.onnx": b"not a model"}
NEVER_EXECUTED = {"proof": "interpreted", "working_set_mb": None, "relative_time": None}


def artifact_dict(name="onnx/fp32", **changes):
    """An artifact that was executed and is equal to the student; ``changes`` replace keys."""
    target, precision = name.split("/")
    artifact = {
        "target": target,
        "precision": precision,
        "path": "onnx/fp32.onnx",
        "proof": "executed",
        "worst_organ_dice": 1.0,
        "working_set_mb": 1.0,
        "relative_time": 1.0,
    }
    return {**artifact, **changes}


def manifest_dict(**changes):
    """A valid manifest with two organs; ``changes`` replace top-level keys."""
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": "test-model",
        "version": "1",
        "license": "none",
        "intended_use": RESEARCH_USE,
        "training_data": "nothing",
        "input": {
            "modality": "CT",
            "axes": "DHW",
            "unit": "HU",
            "spacing_mm": [3.0, 3.0, 3.0],
            "window_hu": [-125.0, 275.0],
            "resampling": "antialiased-linear",
            "patch": [16, 16, 16],
            "overlap": 0.5,
            "blend": "gaussian",
            "rows_beyond_ends": 8,
        },
        "postprocess": {"one_part": [], "decision_weights": {}},
        "plausibility": None,
        "labels": [dataclasses.asdict(label) for label in BTCV_LABELS[:2]],
        "artifacts": [artifact_dict()],
        "files": hashes(MODEL),
        "provenance": {},
    }
    manifest.update(changes)
    return manifest


def parse_manifest(**changes: Any) -> Manifest:
    """Parse :func:`manifest_dict`."""
    return Manifest.parse(json.dumps(manifest_dict(**changes)).encode())


def make_model(one_part=(), **changes):
    """A model in memory with the input, but for ``changes``, and the organs of :func:`manifest_dict`."""
    contract = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in manifest_dict()["input"].items()
    }
    return Model(InputContract(**{**contract, **changes}), BTCV_LABELS[:2], one_part, "test-model", "1")


def hashes(contents: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def write_bundle(folder, contents: Mapping[str, bytes] = MODEL, **changes):
    """Write a bundle folder with these files and :func:`manifest_dict`."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest_dict(**{"files": hashes(contents), **changes})))
    return folder


def zipped(folder: Path, path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    """Pack the files of a folder; their names begin in it."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path


def write_small_series(folder: Path, shape: tuple[int, int, int] = (6, 8, 8)) -> list[Path]:
    """Write a DICOM series of a few slices of few pixels; the files in their order."""
    return write_dicom_series(make_phantom(1, spacing_mm=(8.0, 8.0, 8.0), shape=shape).volume, folder, seed=1)


class RecordingEngine(ThresholdEngine):
    """A formula of the HU that keeps the tiles it was asked for."""

    def __init__(self, centers_hu: tuple[float, ...]) -> None:
        super().__init__(centers_hu)
        self.tiles: list[Any] = []

    def run(self, tile: Any) -> Any:
        """See ``ThresholdEngine``."""
        self.tiles.append(tile.copy())
        return super().run(tile)


def refusal(root: Path, **options: Any) -> InputError:
    """The error that reading raises; it is one line and names no patient."""
    with pytest.raises(InputError) as caught:
        read_dicom(root, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert not [secret for secret in SECRETS if secret in text]
    assert str(root) not in text
    return caught.value


@contextmanager
def refused(code: str, match: str | None = None) -> Iterator[pytest.ExceptionInfo[AutosamEdgeError]]:
    """The block raises the error of this code; it is one line and names no folder of the machine."""
    with pytest.raises(ErrorCode(code, "", "").kind, match=match) as caught:
        yield caught
    text = str(caught.value)
    assert caught.value.code == code
    assert "\n" not in text
    assert tempfile.gettempdir() not in text


def run_python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, such as with ``-c`` and a program."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, **{"capture_output": True, "text": True, "check": False, **options})


def run_command(
    *arguments: object, module: str = "autosam_edge", **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command line, or that of another module, in a process of its own."""
    return run_python("-m", module, *arguments, **options)


def wait_until(condition: Callable[[], Any], seconds: float = 60, so_far: Callable[[], object] = str) -> Any:
    """What the condition gives once it is true; fail, with what there is so far, if it is not so in time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"it did not happen in time {so_far()}"
        time.sleep(0.05)
    return found


def unframed(text: str) -> str:
    """An error of wrong usage in one line, without the frame that the command line draws."""
    return " ".join(text.replace("│", " ").split())


def codes(volume: Any) -> list[str]:
    """The codes of a volume's warnings; none names a patient."""
    for warning in volume.warnings:
        assert not [secret for secret in SECRETS if secret in warning.message]
    return [warning.code for warning in volume.warnings]
