"""Write a figure of matplotlib to a file."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from autosam_edge.atomic_files import write_file


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file without date and version, so that the same input gives the same bytes.

    Args:
        path: PNG file; it is written whole or not at all.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    write_file(content.getvalue(), path)
