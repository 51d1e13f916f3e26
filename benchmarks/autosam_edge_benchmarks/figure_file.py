"""Write a figure of matplotlib to a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from autosam_edge.atomic_files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file without date and version, so that the same input gives the same bytes.

    Args:
        figure: Figure to write.
        path: PNG file; it is written whole or not at all.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    write_file(content.getvalue(), path)
