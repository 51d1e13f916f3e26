"""The file of each format of a result.

Modules are loaded when they are used: highdicom alone takes half a second.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.output_formats import FILE_NAMES, SEG_FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL.Image import Image

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.output_formats import Format
    from autosam_edge.volume import Segmentation, Volume


def result_files(
    volume: Volume, segmentation: Segmentation, statistics: tuple[OrganStatistics, ...], *, pseudonymize: bool
) -> dict[Format, Callable[[Path], None]]:
    """What makes the file of each format, called with its path.

    Args:
        volume: The scan that was segmented.
        segmentation: Labels on the scan's grid.
        statistics: One entry per organ of the table.
        pseudonymize: Whether a pseudonym stands in the place of the patient in the DICOM results.
    """

    @cache
    def page() -> Image:
        from autosam_edge.report.preview import draw_preview

        return draw_preview(volume, segmentation, statistics)

    def nifti(path: Path) -> None:
        from autosam_edge.formats.nifti import write_nifti

        write_nifti(segmentation, path)

    def dicom_seg(path: Path) -> None:
        from autosam_edge.dicom.segmentation import write_dicom_seg

        write_dicom_seg(segmentation, volume.source.files, path, pseudonymize=pseudonymize)

    def dicom_seg_labelmap(path: Path) -> None:
        from autosam_edge.dicom.labelmap import write_dicom_labelmap

        write_dicom_labelmap(segmentation, volume.source.files, path, pseudonymize=pseudonymize)

    def dicom_sr(path: Path) -> None:
        from autosam_edge.dicom.structured_report import write_dicom_sr

        # The folder is new, so what is in it is of this run.
        segs = [file for name in SEG_FORMATS if (file := path.with_name(FILE_NAMES[name])).exists()]
        write_dicom_sr(
            segmentation,
            statistics,
            volume.source.files,
            path,
            seg=segs[0] if segs else None,
            pseudonymize=pseudonymize,
        )

    def secondary_capture(path: Path) -> None:
        from autosam_edge.dicom.secondary_capture import write_secondary_capture

        write_secondary_capture(
            np.asarray(page()), segmentation.provenance, volume.source.files, path, pseudonymize=pseudonymize
        )

    def preview(path: Path) -> None:
        from autosam_edge.report.drawing import as_png

        path.write_bytes(as_png(page(), segmentation.provenance.version))

    def json(path: Path) -> None:
        from autosam_edge.report.statistics_files import write_statistics_json

        write_statistics_json(segmentation, statistics, path)

    def csv(path: Path) -> None:
        from autosam_edge.report.statistics_files import write_statistics_csv

        write_statistics_csv(segmentation, statistics, path)

    return {
        "nifti": nifti,
        "dicom-seg": dicom_seg,
        "dicom-seg-labelmap": dicom_seg_labelmap,
        "dicom-sr": dicom_sr,
        "secondary-capture": secondary_capture,
        "json": json,
        "csv": csv,
        "preview": preview,
    }
