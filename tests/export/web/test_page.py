"""The page in headless Chromium, with a stand-in for Python and the network: what a person sees."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from autosam_edge_test_web import serving

from autosam_edge.strict_json import build
from autosam_edge_benchmarks.rows.row import BenchRow
from autosam_edge_export.web.icons import icons

HERE = Path(__file__).parent
WIDTHS = ("360", "390", "820", "1280", "820-light", "1280-light")
"""Widths of the window in pixels, dark unless light is told."""

BLOCKED_MS = 100
"""No task of the page's own thread may take longer during a run."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, node_modules: Path) -> Path:
    """The page with the stand-in as an export would lay it out."""
    site = tmp_path_factory.mktemp("site")
    for entry in (importlib.resources.files("autosam_edge_export.web") / "site").iterdir():
        (site / entry.name).write_bytes(entry.read_bytes())
    (site / "autosam-edge.mjs").write_bytes((HERE / "mock.mjs").read_bytes())
    (site / "service-worker.js").write_bytes((HERE / "mock_service_worker.js").read_bytes())
    viewer = node_modules / "@niivue/niivue/dist/niivue.umd.js"
    for name, content in {**icons(), "vendor/viewer/niivue.umd.js": viewer.read_bytes()}.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    return site


@pytest.fixture(scope="session")
def url(site: Path) -> Iterator[str]:
    """Address of the page on a server without headers of isolation."""
    with serving(site) as address:
        yield address


@pytest.fixture(scope="session")
def drives(url: str, node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What the page showed at each width; screenshots stand in pytest's temporary folder."""
    shots = tmp_path_factory.mktemp("screenshots")
    chromium = str(shutil.which("chromium"))
    done = subprocess.run(
        ["node", str(HERE / "drive_page.mjs"), url, str(shots), chromium, *WIDTHS],
        cwd=node_modules.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: list[dict[str, object]] = json.loads(done.stdout)
    assert len(seen) == len(WIDTHS)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param("axe", id="no serious or critical fault for axe"),
        pytest.param("small", id="every control is 44 px or larger"),
        pytest.param("wide", id="nothing is wider than the window"),
        pytest.param("hidden", id="the statement of research use is in view"),
        pytest.param("errors", id="no error, nor anything that the security policy refuses"),
        pytest.param("foreign", id="no request to another host"),
    ],
)
def test_the_page_has_no_fault(drives: list[dict[str, object]], faults: str) -> None:
    """At every width and in every view."""
    assert [seen[faults] for seen in drives] == [[]] * len(drives)


@pytest.mark.slow
def test_a_run_never_blocks_the_page(drives: list[dict[str, object]]) -> None:
    """From the choice of a scan to the slices of its result, by the clock and by the thread's own time.

    On a busy machine the clock also counts other programs: then it is right at one width at least.
    """
    longest = [max(seen["blocked_ms"], default=0.0) for seen in drives]  # type: ignore[call-overload]
    assert min(longest) <= BLOCKED_MS
    assert max(seen["busy_ms"] for seen in drives) <= BLOCKED_MS  # type: ignore[type-var, operator]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("ready", "Runs on the processor, 1 thread; the test tile gave the right result"),
        ("failure", "AE-DICOM-002"),
        ("failure", "The input holds no CT image, only 3 x MR image."),
        ("failure", "Give a CT series."),
        ("gap", "or let “Fill the gap” fill the gap by interpolation."),
        ("gap", "Choose another scan\nFill the gap"),
        ("cancelled", "Cancelled. Nothing was kept."),
        ("place", "Crosshair: Liver, 100 HU"),
        ("spleen", "Crosshair: Spleen, 110 HU"),
        ("above", "Crosshair: no organ, 20 HU"),
        ("second", "Crosshair: Liver, 100 HU"),
        ("download", "segmentation."),
        ("title", "Result"),
    ],
)
def test_the_page_tells(drives: list[dict[str, object]], where: str, text: str) -> None:
    """What stands in the view at every width; `above` was reached by keys."""
    assert all(text in seen["texts"][where] for seen in drives)  # type: ignore[index]


@pytest.mark.slow
def test_a_finger_moves_the_crosshair(drives: list[dict[str, object]]) -> None:
    """On phones and tablets, to the air beside the body."""
    tapped = [seen["texts"]["tapped"] for seen in drives if seen["width"] < 1000]  # type: ignore[index, operator]
    assert tapped == ["Crosshair: no organ, \N{MINUS SIGN}1000 HU"] * 4


@pytest.mark.slow
def test_3d_is_offered_where_a_gpu_draws(drives: list[dict[str, object]]) -> None:
    """At one width, where the software GPU gives itself another name; elsewhere the slices are all."""
    assert [seen["texts"].get("3d") for seen in drives] == [  # type: ignore[attr-defined]
        "View\nAll\nAxial\nCoronal\nSagittal\n3D" if width == "1280" else None for width in WIDTHS
    ]


@pytest.mark.slow
def test_the_page_is_isolated_after_the_first_visit(drives: list[dict[str, object]], url: str) -> None:
    """The service worker adds the headers that the server lacks; the address tells nothing of the scan."""
    assert all(seen["isolated"] for seen in drives)
    assert {seen["texts"]["address"] for seen in drives} == {url}  # type: ignore[index]


@pytest.mark.slow
def test_the_measurement_is_saved(drives: list[dict[str, object]]) -> None:
    """bench.html: a row that the schema of `bench` takes, with every sample."""
    row = build(BenchRow, drives[0]["bench"], "row")
    assert row.tile_latency is not None
    assert (row.tile_latency.n, row.tile_latency.p50, row.tile_latency.p90) == (20, 22, None)
    assert (row.measured_with, row.device.name, row.validity.word) == ("browser", None, "not repeated")
    assert set(row.end_to_end[0].stages_s) == {"read", "network", "measure", "write", "view"}
    assert row.memory.peak_mb["python"] == 400
