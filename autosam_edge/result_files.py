"""The file of each format of a result.

Modules are loaded when they are used: highdicom alone takes half a second.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.labels import are_abdominal
from autosam_edge.output_formats import FILE_NAMES, SEG_FORMATS

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.output_formats import Format
    from autosam_edge.volume import Segmentation, Volume


class Results:
    """What the files of a run are made from.

    Args:
        volume: The scan that was segmented.
        segmentation: Labels on the scan's grid.
        statistics: One entry per organ of the table.
        pseudonymize: Whether a pseudonym stands in the place of the patient in the DICOM results.
    """

    def __init__(
        self,
        volume: Volume,
        segmentation: Segmentation,
        statistics: tuple[OrganStatistics, ...],
        *,
        pseudonymize: bool,
    ) -> None:
        self._volume, self._segmentation, self._statistics = volume, segmentation, statistics
        self._pseudonymize = pseudonymize

    @property
    def found(self) -> bool:
        """Whether any organ was found on a slice that the scan holds; filled slices have no image."""
        filled = set(self._segmentation.filled)
        if not filled:
            return any(organ.voxels for organ in self._statistics)
        return any(plane.any() for d, plane in enumerate(self._segmentation.labels) if d not in filled)

    @cached_property
    def _page(self) -> Image:
        from autosam_edge.report.preview import draw_preview

        return draw_preview(self._volume, self._segmentation, self._statistics)

    def write(self, name: Format, path: Path) -> None:
        """Write the file of one format; a structured report refers to the DICOM SEG in its folder."""
        labels, statistics, files = self._segmentation, self._statistics, self._volume.source.files
        pseudonymize = self._pseudonymize
        match name:
            case "nifti":
                from autosam_edge.formats.nifti import write_nifti

                write_nifti(labels, path)
            case "metaimage":
                from autosam_edge.formats.metaimage import write_metaimage

                write_metaimage(labels, path)
            case "json":
                from autosam_edge.report.statistics_files import write_statistics_json

                write_statistics_json(labels, statistics, path)
            case "csv":
                from autosam_edge.report.statistics_files import write_statistics_csv

                write_statistics_csv(labels, statistics, path)
            case "preview":
                from autosam_edge.report.drawing import as_png

                path.write_bytes(as_png(self._page, labels.provenance.version))
            case "dicom-seg":
                from autosam_edge.dicom.segmentation import write_dicom_seg

                write_dicom_seg(labels, files, path, pseudonymize=pseudonymize)
            case "dicom-seg-labelmap":
                from autosam_edge.dicom.labelmap import write_dicom_labelmap

                write_dicom_labelmap(labels, files, path, pseudonymize=pseudonymize)
            case "dicom-sr":
                from autosam_edge.dicom.structured_report import write_dicom_sr

                found = (path.with_name(FILE_NAMES[seg]) for seg in SEG_FORMATS)
                seg = next((file for file in found if file.exists()), None)
                write_dicom_sr(labels, statistics, files, path, seg=seg, pseudonymize=pseudonymize)
            case "secondary-capture":
                from autosam_edge.dicom.secondary_capture import write_secondary_capture

                page = np.asarray(self._page)
                write_secondary_capture(
                    page,
                    labels.provenance,
                    files,
                    path,
                    abdominal=are_abdominal(labels.table),
                    pseudonymize=pseudonymize,
                )
