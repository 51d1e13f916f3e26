"""``autosam-edge demo``."""

from __future__ import annotations

import contextlib
import filecmp
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.bundle import open_bundle
from autosam_edge.cli.options import AsJson, BundleOption, Out, Threads
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.report import run, show_report
from autosam_edge.error_codes import OUTPUT_OCCUPIED
from autosam_edge.measurements import dice
from autosam_edge.read_scan import read
from autosam_edge.session import open_session
from autosam_edge.system.collector import collector_off
from autosam_edge.warning_codes import SYNTHETIC_SCAN
from autosam_edge.write_results import check_writable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autosam_edge.volume import Volume

SEED = 7  # not among the seeds that training uses, which are 1000 and more


@collector_off()
def demo(out: Out, bundle: BundleOption = None, threads: Threads = None, as_json: AsJson = False) -> None:
    """Make a synthetic CT scan, label it, and compare the labels with the truth."""
    from autosam_edge.phantom import ORGANS, make_phantom

    stages = Stages()
    check_writable(out)
    scan = out / "scan"
    if scan.exists() and not scan.is_dir():
        raise OUTPUT_OCCUPIED("the output folder has a file named scan; `demo` needs a folder.")
    chosen = open_bundle(bundle)  # a wrong bundle is refused before the scan is made
    with stages.stage("phantom"):
        phantom = make_phantom(SEED)
    with demo_series(scan, phantom.volume):
        with stages.stage("read"):
            volume = read(scan)
        report = run(volume, out, stages, partial(open_session, chosen, threads=threads))
    found = report.segmentation
    overlaps = {
        organ.name: dice(found.labels == organ.label, phantom.labels == ORGANS.index(organ.name) + 1)
        for organ in report.organs
        if organ.name in ORGANS  # by name: the model and the phantom number organs differently
    }
    synthetic = SYNTHETIC_SCAN(
        "This scan is synthetic, and synthetic scans were a small part of the training: "
        "the result shows how the tool works, not how accurate it is."
    )
    found = replace(found, warnings=(*found.warnings, synthetic))
    show_report(replace(report, segmentation=found, dice_against_truth=overlaps), as_json=as_json)


@contextlib.contextmanager
def demo_series(folder: Path, volume: Volume) -> Iterator[None]:
    """Write the scan as a DICOM series, and remove it if the block fails or is interrupted.

    A series that an earlier demonstration wrote is used as it is; any other content of the folder is refused,
    since it may be somebody's scan.
    """
    from autosam_edge.phantom.series import write_dicom_series

    if folder.exists() and any(folder.iterdir()):
        with tempfile.TemporaryDirectory() as other:
            names = sorted(path.name for path in write_dicom_series(volume, Path(other), seed=SEED))
            found = sorted(path.name for path in folder.iterdir())
            if found != names or filecmp.cmpfiles(folder, other, names, shallow=False)[0] != names:
                raise OUTPUT_OCCUPIED(
                    f"the output folder has a folder named {folder.name} that `demo` did not write."
                )
        yield
        return
    try:
        write_dicom_series(volume, folder, seed=SEED)
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # the folder above held something before
            folder.parent.rmdir()
        raise
