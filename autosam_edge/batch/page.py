"""The page of a batch: every scan with its picture and volumes; it opens without a network."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from itertools import groupby
from string import Template
from typing import TYPE_CHECKING

from autosam_edge.batch.folder import PREVIEW
from autosam_edge.system.atomic_files import write_file
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autosam_edge.batch.folder import BatchFolder
    from autosam_edge.batch.table import Row


def write_page(rows: Sequence[Row], folder: BatchFolder, summary: str) -> None:
    """Write ``index.html``: one row for each scan, sortable by every column.

    Args:
        rows: Rows of the table of the batch.
        summary: One sentence about the batch.
    """
    organs = list(dict.fromkeys(row.title for row in rows if row.title))
    heads = ("scan", "picture", "state", "what to know", *(f"{title}, ml" for title in organs))
    lines = []
    for _, of_scan in groupby(rows, key=lambda row: row.scan):
        group = list(of_scan)
        first, volumes = group[0], {row.title: row.ml for row in group}
        warnings = (first.scan_warnings or "", *(row.warnings or "" for row in group))
        codes = " ".join(dict.fromkeys(" ".join(warnings).split()))
        state = first.verdict or first.state
        known = " ".join(word for word in (first.code, first.message, first.remedy, codes) if word)
        cells = [
            f"<td><code>{first.scan}</code>{f'<br>{escape(first.path)}' if first.path else ''}</td>",
            f"<td>{_picture(folder.scans / first.scan) if first.state == 'done' else ''}</td>",
            f'<td class="{state}">{state}</td>',
            f"<td>{escape(known)}</td>",
            *(f"<td>{'' if volumes.get(t) is None else f'{volumes[t]:.1f}'}</td>" for t in organs),
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    page = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title="Segmented scans",
        summary=escape(summary),
        research_use=RESEARCH_USE,
        heads="".join(f'<th scope="col"><button>{escape(head)}</button></th>' for head in heads),
        rows="\n".join(lines),
    )
    write_file(page.encode(), folder.root / "index.html")


def _picture(folder: Path) -> str:
    """The preview of a scan as a link to it in full size, where there is one."""
    if not (folder / PREVIEW).exists():
        return ""
    path = f"scans/{folder.name}/{PREVIEW}"
    return f'<a href="{path}"><img src="{path}" alt="Preview of scan {folder.name}" loading="lazy"></a>'
