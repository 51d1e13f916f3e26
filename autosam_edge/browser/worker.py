"""The Python side of the web worker: files of a page become labels, measurements and files of results.

JavaScript mounts the files as a folder, runs the network and shows the results; everything between is done
here. The engine is awaited, so no thread has to wait. Answers are JSON: ``{"value": ...}``, or ``{"error":
...}`` with code, message, remedy and exit code.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from autosam_edge.browser.answers import answered, answered_later, organs_for_page
from autosam_edge.browser.view import MOST_VOXELS, lay_out, lay_out_view
from autosam_edge.bundle import Bundle, open_bundle
from autosam_edge.dicom.find import find_dicom_files, walk
from autosam_edge.dicom.header import silenced
from autosam_edge.dicom.series import series_choices
from autosam_edge.engines.model_file import check_model_file
from autosam_edge.error_codes import CANCELLED, ENGINE_FAILED
from autosam_edge.golden import read_golden_tile
from autosam_edge.measurements import organ_statistics
from autosam_edge.parity import read_parity
from autosam_edge.phantom import make_phantom
from autosam_edge.pipeline.run import TileRun
from autosam_edge.plausibility.refusal import require_plausible
from autosam_edge.read_scan import read
from autosam_edge.scan_warning import most_severe_first
from autosam_edge.verify import Check, check_around_network, check_tile, require_passed
from autosam_edge.version import __version__
from autosam_edge.volume import RESEARCH_USE
from autosam_edge.warning_codes import PREVIEW_LEFT_OUT
from autosam_edge.write_results import warnings_of_outputs, write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy.typing as npt

    from autosam_edge.volume import Segmentation, Volume

    Report = Callable[[str, int, int], bool]

_HEADERS = (".hdr", ".hdr.gz", ".mhd", ".nhdr")


class AwaitedEngine(Protocol):
    """The network in JavaScript."""

    description: str
    """JSON of :attr:`autosam_edge.engines.engine.Engine.description`."""

    def run(self, tile: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]) -> Awaitable[object]:
        """Run the network on a (D, H, W) tile of HU and fill in its (C, D, H, W) logits."""
        ...


class Worker:
    """One model, and the scan that is worked on.

    Args:
        bundle: Folder with the manifest, the golden vectors and the artifacts that the site holds.

    Attributes:
        arrays: What the page takes after a run, as contiguous arrays: ``labels``, and those of
            :func:`~autosam_edge.browser.view.lay_out_view`.
    """

    def __init__(self, bundle: str) -> None:
        self._bundle: Bundle = open_bundle(bundle)
        self._model = self._bundle.model
        self.arrays: dict[str, npt.NDArray[Any]] = {}

    @answered
    def about(self) -> dict[str, object]:
        """Software, model and labels."""
        manifest = self._bundle.manifest
        labels = [
            {"label": label.value, "name": label.name, "title": label.title, "color": list(label.color)}
            for label in manifest.labels
        ]
        return {
            "software": f"autosam-edge {__version__}",
            "model": manifest.name,
            "model_version": manifest.version,
            "license": manifest.license,
            "research_use": RESEARCH_USE,
            "labels": labels,
        }

    @answered
    def artifact(self, name: str) -> dict[str, str]:
        """Path, precision and hash of an artifact, after its file was compared with the hash.

        Args:
            name: ``target/precision``.
        """
        artifact = self._bundle.manifest.artifact(name)
        check_model_file("ONNX", self._bundle.read_artifact(artifact.path))
        sha256 = self._bundle.manifest.sha256_of(artifact.path)
        return {"path": artifact.path, "precision": artifact.precision, "sha256": sha256}

    @answered_later
    async def prove(self, name: str, title: str, engine: AwaitedEngine) -> dict[str, object]:
        """Run the golden tile; refuse a provider that computes something else.

        Args:
            name: Artifact that the engine runs, ``target/precision``.
            title: Name of the provider for the message, such as ``webgpu``.
            engine: The network in JavaScript.
        """
        check = await self._check_tile(name, title, engine)
        require_passed([check])
        return asdict(check)

    @answered_later
    async def verify(self, name: str, title: str, engine: AwaitedEngine) -> list[dict[str, object]]:
        """Every check of the model on this device; the arguments are those of :meth:`prove`."""
        present = [path for path in self._bundle.manifest.files if (self._bundle.path / path).exists()]
        for path in present:
            self._bundle.read(path)
        checks = [Check("files", "passed", f"{len(present)} hashes are correct", {})]
        checks += check_around_network(self._bundle)
        checks.append(await self._check_tile(name, title, engine))
        require_passed(checks)
        return [asdict(check) for check in checks]

    @answered_later
    async def time_tiles(self, count: int, engine: AwaitedEngine) -> list[float]:
        """Milliseconds of each of ``count`` runs on the golden tile, after one that is not counted."""
        tile, logits = np.ascontiguousarray(read_golden_tile(self._bundle).hu), self._room_for_logits()
        times = []
        for _ in range(count + 1):
            started = time.perf_counter()
            await _run(engine, tile, logits)
            times.append((time.perf_counter() - started) * 1e3)
        return times[1:]

    @answered
    def demo(self) -> None:
        """Lay out the demonstration scan, a phantom, as the image of a view."""
        volume = make_phantom().volume
        self.arrays = lay_out("view_image", volume.hu, volume.grid)

    @answered
    def list_series(self, folder: str) -> list[dict[str, object]]:
        """The CT series of the mounted files; none where a file of another kind is given."""
        given = _given(Path(folder))
        with silenced():
            found = find_dicom_files(given)
            if given.is_file() and not found.headers:
                return []
            return [asdict(choice) for choice in series_choices(found)]

    @answered_later
    async def segment(
        self, folder: str, out: str, request: str, engine: AwaitedEngine, report: Report
    ) -> dict[str, object]:
        """Label the mounted scan; files go into ``out``, arrays into :attr:`arrays`.

        Args:
            folder: Folder of the mounted files.
            out: Folder for the files of results, new.
            request: JSON object with ``series``, ``view_voxels`` (most voxels of the view, which a viewer
                holds several times over) and the decisions of a person.
            engine: The network in JavaScript.
            report: Function that is called with stage, steps done and steps in all, and returns whether the
                run was cancelled.
        """
        asked: dict[str, Any] = json.loads(request)
        decisions = {name: asked.pop(name, False) for name in ("accept_implausible", "pseudonymize")}
        view_voxels = asked.pop("view_voxels", MOST_VOXELS)
        timings: dict[str, float] = {}
        started = time.perf_counter()

        def lap(stage: str, following: str) -> None:
            nonlocal started
            now = time.perf_counter()
            timings[stage], started = now - started, now
            _tell(report, following, 0, 1)

        _tell(report, "read", 0, 1)
        volume = read(_given(Path(folder)), **asked)
        lap("read", "network")
        segmentation = await self._label(volume, engine, report)
        lap("segment", "measure")
        if not decisions["accept_implausible"]:
            require_plausible(segmentation)
        statistics = organ_statistics(volume, segmentation)
        organs = organs_for_page(segmentation, statistics)
        lap("measure", "write")
        write(volume, segmentation, out, statistics=statistics, **decisions)
        lap("write", "view")
        view, arrays = lay_out_view(volume, segmentation, organs, view_voxels)
        self.arrays = {"labels": segmentation.labels, **arrays}
        timings["view"] = time.perf_counter() - started
        # The page's own view takes the place of the preview.
        told = (*segmentation.warnings, *warnings_of_outputs(volume.source))
        warnings = [w for w in dict.fromkeys(told) if w.code != PREVIEW_LEFT_OUT.code]
        return {
            "shape": list(volume.shape),
            "spacing_mm": list(volume.grid.spacing_mm),
            "affine_lps_mm": volume.grid.affine.tolist(),
            "view": view,
            "organs": organs,
            "warnings": [w.as_dict() for w in most_severe_first(warnings)],
            "verdict": segmentation.verdict,
            "timings_s": {**timings, **segmentation.timings_s},
        }

    def clear(self) -> None:
        """Let go of the scan."""
        self.arrays.clear()

    async def _check_tile(self, name: str, title: str, engine: AwaitedEngine) -> Check:
        golden = read_golden_tile(self._bundle)
        logits = self._room_for_logits()
        started = time.perf_counter()
        await _run(engine, np.ascontiguousarray(golden.hu), logits)
        seconds = time.perf_counter() - started
        allowed = read_parity(self._bundle).allowed_rms[name]
        check = check_tile(self._bundle.manifest.artifact(name), golden, logits, allowed)
        figures = {key: value if np.isfinite(value) else -1.0 for key, value in check.figures.items()}
        return Check(
            f"{name} with {title}", check.verdict, check.detail, {**figures, "tile_ms": seconds * 1e3}
        )

    def _room_for_logits(self) -> npt.NDArray[np.float32]:
        return np.empty((self._model.classes, *self._model.input.patch), dtype=np.float32)

    async def _label(self, volume: Volume, engine: AwaitedEngine, report: Report) -> Segmentation:
        run = TileRun(self._model, volume)
        # WebAssembly memory grows by a fifth at a time and never shrinks. Asked for in one piece, which is
        # given back at once, it grows by what the run needs and a tenth for the gaps between its arrays.
        np.empty(int(1.1 * run.arrays_mb * 2**20), dtype=np.uint8)
        steps = run.steps(
            json.loads(engine.description), progress=lambda done, total: _tell(report, "network", done, total)
        )
        logits = self._room_for_logits()
        try:
            tile = next(steps)
            while True:
                await _run(engine, tile, logits)
                tile = steps.send(logits)
        except StopIteration as finished:
            segmentation: Segmentation = finished.value
            return segmentation


async def _run(engine: AwaitedEngine, tile: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]) -> None:
    try:
        await engine.run(tile.reshape(-1), logits.reshape(-1))
    except Exception as error:  # whatever JavaScript throws
        raise ENGINE_FAILED(f"ONNX Runtime Web failed on a tile of shape {tile.shape}.") from error


def _tell(report: Report, stage: str, done: int, total: int) -> None:
    if report(stage, done, total):
        raise CANCELLED("stopped on request; no unfinished result was left.", remedy="Start it again.")


def _given(folder: Path) -> Path:
    """What a person chose: one file, the header of a pair, or a folder of DICOM files."""
    files = [Path(entry.path) for entry in walk(folder)]
    headers = [file for file in files if file.name.lower().endswith(_HEADERS)]
    if len(files) == 1:
        return files[0]
    return headers[0] if len(files) == 2 and len(headers) == 1 else folder
