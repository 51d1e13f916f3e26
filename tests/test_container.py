"""The steps of the Containerfile in a clean root, as no container runtime is at hand where the tests run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from autosam_edge_test_ct import CtFolder

ROOT = Path(__file__).parents[1]
LIMIT_MB = 450
PYTHON_IMAGE_MB = 125  # python:3.13-slim, unpacked; the base image cannot be had here

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What the first stage of the Containerfile installs."""
    place = tmp_path_factory.mktemp("image") / "autosam-edge"
    [steps] = re.findall(r"^RUN (.*?[^\\])$", (ROOT / "Containerfile").read_text(), re.MULTILINE | re.DOTALL)
    steps = steps.replace("/opt/autosam-edge", str(place)).replace("/source", str(ROOT))
    subprocess.run(["sh", "-euxc", re.sub("^python ", f"{sys.executable} ", steps)], check=True)
    return place


def test_the_image_stays_small(installed):
    size_mb = sum(path.lstat().st_size for path in installed.rglob("*") if path.is_file()) / 1e6
    assert size_mb + PYTHON_IMAGE_MB < LIMIT_MB
    assert not list(installed.glob("lib/python*/site-packages/torch"))


def test_a_scan_is_segmented_without_network_and_rights_under_a_read_only_root(installed, tmp_path):
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        pytest.skip("bubblewrap (Debian's package) is not installed")
    source, out = tmp_path / "in", tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    CtFolder(source / "scan").write()
    (source / "settings.json").write_text('{"accept_implausible": true}')
    base = Path(sys.base_prefix)
    root = [
        flag for part in ("usr", "lib", "lib64", "bin") if Path("/", part).exists() for flag in _shown(part)
    ]
    command = [bubblewrap, *root, "--ro-bind", base, base, "--ro-bind", installed, installed]
    command += ["--ro-bind", source, "/in", "--bind", out, "/out", "--proc", "/proc", "--dev", "/dev"]
    command += [
        "--unshare-all",
        "--uid",
        "65534",
        "--gid",
        "65534",
        "--clearenv",
        "--setenv",
        "HOME",
        "/nonexistent",
    ]
    run = subprocess.run(
        [*command, installed / "bin" / "autosam-edge", "contract"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert {"result.json", "segmentation.nii.gz", "statistics.json"} <= {path.name for path in out.iterdir()}
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def _shown(part):
    path = Path("/", part)
    return ["--symlink", path.readlink(), path] if path.is_symlink() else ["--ro-bind", path, path]
