"""An exported site in headless Chromium: a real scan through a file input, without a network.

Slow. Needs node, Debian's chromium and, for the real scan, ../shared/data/tcga-ov-abdomen.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autosam_edge import open_bundle, open_session, read
from autosam_edge.machine import describe_machine
from autosam_edge.phantom import make_phantom
from autosam_edge_export.web.site import write_site
from autosam_edge_export.web.third_party import ThirdParty, pinned_files

pytestmark = pytest.mark.slow

SCAN = Path(__file__).parents[4] / "shared" / "data" / "tcga-ov-abdomen"
SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
Found = dict[str, Any]


@pytest.fixture(scope="session")
def node_modules(pytestconfig: pytest.Config) -> Path:
    """The folder of NODE_MODULES, or one with playwright-core and onnxruntime-web in pytest's cache."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    if named := os.environ.get("NODE_MODULES"):
        return Path(named)
    folder = Path(pytestconfig.cache.mkdir("web-node"))
    packages = ["playwright-core@1.65.1", "onnxruntime-web@1.30.0"]
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    if subprocess.run(command, cwd=folder, check=False).returncode:
        pytest.skip("npm cannot install playwright-core")
    return folder / "node_modules"


def drive(site: Path, node_modules: Path, **asked: object) -> Found:
    """What happened in the browser."""
    script = Path(__file__).with_name("browser.mjs")
    command = ["node", str(script), json.dumps({"site": str(site), **asked})]
    environment = {**os.environ, "NODE_MODULES": str(node_modules)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: Found = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def offline(exported, node_modules, tmp_path_factory) -> Found:
    """The real scan on a host without headers, after its server has ended."""
    if not SCAN.is_dir():
        pytest.skip("the real scan is not here")
    out = tmp_path_factory.mktemp("out")
    scans = [{"folder": str(SCAN), "out": str(out)}]
    found = drive(exported, node_modules, offline=True, open={"threads": 2}, scans=scans)
    if name := os.environ.get("AUTOSAM_EDGE_WEB_RESULT"):
        Path(name).write_text(json.dumps(measured(found), indent=1) + "\n")
    return {**found, "out": out}


def measured(found: Found) -> Found:
    """The figures of a run for ``benchmarks/results/web.json``, with the machine."""
    (scan,) = found["scans"]
    return {
        "machine": describe_machine(),
        "browser": found["browser"],
        "scan": {"shape_dhw": scan["shape"], "spacing_dhw_mm": scan["spacing_mm"]},
        "threads": found["start"]["about"]["threads"],
        "start_s": round(found["start"]["start_s"], 1),
        "start_ms": found["start"]["about"]["start_ms"],
        "scan_s": round(scan["seconds"], 1),
        "timings_s": {stage: round(seconds, 2) for stage, seconds in scan["timings_s"].items()},
        "longest_task_ms": scan["longest_task_ms"],
        "memory_mb": scan["memory"],
        "stored_mb": round(found["cache_mb"], 1),
        "result_bytes": {name: entry["size"] for name, entry in scan["files"].items()},
    }


def test_the_first_visit_keeps_the_site(offline):
    """The host sends no headers: the service worker isolates the page, after one reload."""
    assert (offline["first_visit_isolated"], offline["isolated"]) == (False, True)
    assert offline["start"]["about"]["threads"] == 2
    assert offline["start"]["about"]["refused"] == []
    assert offline["cache_mb"] <= 45
    assert (offline["failed"], offline["foreign"]) == ([], [])


def test_the_real_scan_is_labeled_as_on_this_machine(offline):
    """At most 100 of its 42 million voxels differ, and every result is there."""
    (scan,) = offline["scans"]
    assert set(scan["files"]) >= {
        "segmentation.nii.gz",
        "segmentation.dcm",
        "statistics.json",
        "statistics.csv",
    }
    here = open_session(engine="onnx", precision="fp32").segment(read(SCAN))
    there = np.asarray(nib.load(offline["out"] / "segmentation.nii.gz").dataobj).T
    assert np.count_nonzero(here.labels != there) <= 100


def test_the_page_stays_fluent_and_small(offline):
    """No task of its own thread takes 100 ms; both heaps together 700 MB."""
    (scan,) = offline["scans"]
    assert scan["longest_task_ms"] < 100
    assert sum(scan["memory"].values()) <= 700
    stages = list(dict.fromkeys(step[0] for step in scan["progress"]))
    assert stages == ["read", "network", "measure", "write", "view"]
    fractions = [step[3] for step in scan["progress"]]
    assert fractions == sorted(fractions)


def test_a_host_without_headers_runs_one_thread(exported, node_modules, offline):
    """Before the service worker is there; with the same labels."""
    found = drive(exported, node_modules, scans=[{"folder": str(SCAN)}])
    assert not found["start"]["isolated"]
    assert found["start"]["about"]["threads"] == 1
    assert found["scans"][0]["labels_sha256"] == offline["scans"][0]["labels_sha256"]


def test_a_provider_that_is_silently_wrong_is_refused_by_name(exported, node_modules, tmp_path):
    """The default build of onnxruntime-web computes the 3D graph wrong on WebGPU; wasm takes its place."""
    site = tmp_path / "site"
    shutil.copytree(exported, site)
    library = site / "vendor" / "onnxruntime-web"
    for name in ("ort.min.mjs", "ort-wasm-simd-threaded.jsep.mjs", "ort-wasm-simd-threaded.jsep.wasm"):
        shutil.copy(node_modules / "onnxruntime-web" / "dist" / name, library)
    listed = json.loads((site / "site.json").read_text())
    wrong = {**listed["providers"]["wasm"], "library": "vendor/onnxruntime-web/ort.min.mjs"}
    listed["providers"]["webgpu"] = wrong
    (site / "site.json").write_text(json.dumps(listed))
    about = drive(site, node_modules, open={"provider": "webgpu"}, flags=SOFTWARE_GPU)["start"]["about"]
    assert about["provider"] == "wasm"
    assert [(entry["provider"], entry["code"]) for entry in about["refused"]] == [("webgpu", "AE-ENGINE-007")]
    assert "logits differ by" in about["refused"][0]["message"]


def test_every_pinned_file_is_found_at_one_of_its_sources(tmp_path):
    """Those for WebGPU too, which the site of the default bundle leaves out."""
    with ThirdParty(cache=tmp_path, download=True) as third_party:
        for file in pinned_files():
            assert len(third_party.read(file)) == file.size


def test_the_graph_for_webgpu_runs_on_the_gpu_as_a_whole(node_modules, tmp_path):
    """On a software GPU, with tiles of 32 voxels; the session has no processor to fall back to."""
    export = pytest.importorskip("autosam_edge_export.export", reason="needs torch")
    out = tmp_path / "small.edge"
    scan = make_phantom(1, spacing_mm=(6.0, 6.0, 6.0), shape=(16, 40, 40)).volume
    targets = ("onnx", "onnx-2d")
    export.export_bundle(None, out, targets=targets, patch=(32, 32, 32), volumes={"phantom": scan})
    named = os.environ.get("AUTOSAM_EDGE_WEB_CACHE")
    with ThirdParty(cache=Path(named) if named else None, download=True) as third_party:
        write_site(open_bundle(out), tmp_path / "site", third_party)
    asked = {"open": {"provider": "webgpu"}, "flags": SOFTWARE_GPU}
    found = drive(tmp_path / "site", node_modules, verify=True, **asked)
    about = found["start"]["about"]
    assert (about["provider"], about["refused"]) == ("webgpu", [])
    assert found["checks"][-1]["name"] == "onnx-2d/fp32 with webgpu"
    assert found["checks"][-1]["figures"]["logit_rms"] <= 1e-4
