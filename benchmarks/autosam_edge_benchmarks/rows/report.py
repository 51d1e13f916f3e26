"""Stored rows as one web page without scripts or other files, and as a table for a page in Markdown."""

from __future__ import annotations

import dataclasses
import html
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autosam_edge.system.atomic_files import write_files
from autosam_edge.volume import RESEARCH_USE
from autosam_edge_benchmarks.error_codes import PAGE_UNMARKED, ROW_INVALID
from autosam_edge_benchmarks.peers import table as peers_table
from autosam_edge_benchmarks.result_header import Result
from autosam_edge_benchmarks.rows.row import BenchRow, Device, read_row
from autosam_edge_benchmarks.rows.table import COLUMNS, REST, cells, notes, stages, where_time_goes

BEGIN, END = "<!-- bench -->\n", "<!-- end of bench -->\n"
_SIZE = (4.8, 3.9)  # inches; readable on a phone too
_COLORS = ("#1f6fb2", "#c2571a", "#2c8a57", "#7a4fa3", "#a8324a", "#66707c")
_STAGE_COLORS = ("#1f6fb2", "#c2571a", "#2c8a57", "#7a4fa3", "#a8324a", "#d0a215", "#4fa3a5", "#8c6d5a")
_STYLE = """
:root { color-scheme: light; font-family: system-ui, sans-serif; color: #1b2430; background: #fff; }
body { max-width: 72rem; margin: 0 auto; padding: 1rem; line-height: 1.5; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; } h2 { font-size: 1.1rem; margin: 1.5rem 0 0.5rem; }
.research, .note { color: #4a5563; font-size: 0.9rem; }
.doubt { background: #fff3d6; border-left: 4px solid #c2571a; padding: 0.5rem 0.75rem; }
.scroll { overflow-x: auto; background: linear-gradient(#fff, #fff) right / 1rem 100% no-repeat local,
  linear-gradient(to left, #66707c80, #66707c00) right / 1rem 100% no-repeat; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.35rem 0.6rem; border-bottom: 1px solid #d5dae1; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .device td { text-align: left; } .device td { white-space: normal; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; } svg { width: 100%; height: auto; overflow: visible; }
figcaption { font-weight: 600; }
"""


def write_report(folder: Path, out: Path, markdown: Path | None = None, peers: Path | None = None) -> int:
    """Draw every row of a folder.

    Args:
        folder: Folder of rows, with folders of other machines inside it.
        out: HTML file.
        markdown: Page whose part between ``BEGIN`` and ``END`` is replaced by the table; None for none.
        peers: Result of ``bench peers``; None for none.

    Returns:
        Number of rows.

    Raises:
        BenchError: A file is no row, or there is none (AE-BENCH-003), or the page lacks a mark (-007).
    """
    rows = read_rows(folder)
    compared = _read_peers(peers) if peers is not None else None
    contents = {out: page(rows, compared).encode()}
    if markdown is not None:
        try:
            before, begin, rest = markdown.read_text(encoding="utf-8").partition(BEGIN)
        except ValueError as error:
            raise PAGE_UNMARKED(f"{markdown.name} is no UTF-8 text.", remedy="Save it as UTF-8.") from error
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise PAGE_UNMARKED(f"{markdown.name} lacks {BEGIN.strip()} or, below it, {END.strip()}.")
        contents[markdown] = (before + BEGIN + as_markdown(rows, compared) + END + after).encode()
    write_files(contents)
    return len(rows)


def _read_peers(path: Path) -> Result:
    """A result of ``bench peers`` that a table can show."""
    try:
        result: Result = json.loads(path.read_bytes())
        peers_table.title(result)
        list(map(peers_table.cells, result["tools"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ROW_INVALID(
            f"{path.name} is no result of `bench peers` ({type(error).__name__}).",
            remedy="Give the file that `autosam-edge bench peers -o` wrote.",
        ) from error
    return result


def read_rows(folder: Path) -> list[BenchRow]:
    """Every row of a folder, then of the folders in it, then of those below; each in the order of names."""
    paths = sorted(folder.rglob("*.json"), key=lambda path: (len(path.parts), path))
    if not paths:
        raise ROW_INVALID("the folder holds no row of a benchmark.")
    rows = [read_row(path) for path in paths]
    return _told_apart(rows, [path.relative_to(folder).with_suffix("") for path in paths])


def _told_apart(rows: Sequence[BenchRow], places: Sequence[Path]) -> list[BenchRow]:
    """The rows; the machines of two that would read the same are named after their folders or files."""
    alike: dict[tuple[str, str, str], list[Path]] = {}
    for row, place in zip(rows, places, strict=True):
        alike.setdefault((_words(row.device), _model(row), row.name), []).append(place)
    told: set[tuple[str, Path]] = set()
    for (machine, *_), mine in alike.items():
        if len(mine) > 1:
            one_each = len({place.parent for place in mine}) == len(mine)
            told |= {(machine, place.parent if one_each else place) for place in mine}
    found = []
    for row, place in zip(rows, places, strict=True):
        machine = _words(row.device)
        by = next((by for by in (place, place.parent) if by.name and (machine, by) in told), None)
        name = row.device.name if by is None else ", ".join(filter(None, (row.device.name, by.as_posix())))
        found.append(dataclasses.replace(row, device=dataclasses.replace(row.device, name=name)))
    return found


def as_markdown(rows: Sequence[BenchRow], peers: Result | None = None) -> str:
    """One table for each section, with its notes, and one of other tools."""
    parts = []
    for title, mine in _sections(rows):
        table = _markdown_table(COLUMNS, map(cells, mine))
        told = "\n".join(f"- {note}" for note in (*notes(mine), *where_time_goes(mine)))
        parts.append(f"### {title}\n\n{_words(mine[0].device)}:\n\n{table}\n\n{told}\n")
    if peers is not None:
        table = _markdown_table(peers_table.COLUMNS, map(peers_table.cells, peers["tools"]))
        parts.append(f"### Other tools\n\n{peers_table.title(peers)}:\n\n{table}\n")
    return "\n" + "\n".join(parts) + "\n"


def _markdown_table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ("---",) * len(columns), *lines))


def page(rows: Sequence[BenchRow], peers: Result | None = None) -> str:
    """The whole page."""
    doubtful = [row.name for row in rows if row.timing not in ("quiet", "correct, not timed")]
    doubt = (
        f'<p class="doubt">Not to be quoted: {len(doubtful)} of {len(rows)} rows are not quiet and stable; '
        "the last column says why.</p>"
        if doubtful
        else ""
    )
    sections = "".join(_section(title, mine) for title, mine in _sections(rows))
    if peers is not None:
        table = _table(peers_table.COLUMNS, map(peers_table.cells, peers["tools"]))
        sections += f"<h2>Other tools</h2><p>{html.escape(peers_table.title(peers))}.</p>{table}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Benchmark of autosam-edge</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Benchmark of autosam-edge</h1>
<p class="research">{html.escape(RESEARCH_USE)}</p>
{doubt}
{sections}
</body>
</html>
"""


def _section(title: str, rows: Sequence[BenchRow]) -> str:
    device = rows[0].device
    told = "".join(
        f'<tr><th scope="row">{name.replace("_", " ")}</th><td>{html.escape(_value(value))}</td></tr>'
        for name, value in vars(device).items()
    )
    details = _list(where_time_goes(rows))
    folded = f"<details><summary>Where the time goes</summary>{details}</details>\n" if details else ""
    drawn = "".join(
        f"<figure><figcaption>{name}</figcaption>{_svg(figure, name)}</figure>"
        for name, figure in _figures(rows)
    )
    return f"""<h2>{html.escape(title)}</h2>
<p>{html.escape(_words(device))}</p>
{_table(COLUMNS, map(cells, rows))}
{_list(notes(rows))}
<div class="figures">{drawn}</div>
{folded}<details><summary>The machine</summary>
<table class="device"><tbody>{told}</tbody></table></details>
"""


def _list(sentences: Iterable[str]) -> str:
    """A list of sentences; nothing if there are none."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="note">{items}</ul>' if items else ""


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines
    )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _figures(rows: Sequence[BenchRow]) -> Iterator[tuple[str, Figure]]:
    """Title and figure of each kind for which there are values; a row has one color in all of them."""
    colors = {row.name: _COLORS[number % len(_COLORS)] for number, row in enumerate(rows)}
    tiles = [
        (row, row.tile_latency.p50, peak)
        for row in rows
        if row.tile_latency is not None and (peak := row.memory.peak_mb.get("tiles")) is not None
    ]
    if tiles:
        drawn = _points(tiles, colors, "median time of a tile, ms", "peak memory, MB")
        yield "Time of a tile and memory", drawn
    scored = [
        (row, row.end_to_end[0].total_s, dice)
        for row in rows
        if row.end_to_end and (dice := row.accuracy.mean_dice) is not None
    ]
    if scored:
        data = scored[0][0].accuracy.data
        yield "Dice and time of a scan", _points(scored, colors, "whole scan, s", f"mean Dice, {data}")
    whole = [row for row in rows if row.end_to_end]
    if whole:
        yield f"Stages of a scan of {whole[0].end_to_end[0].shape[0]} slices", _stages(whole)
    steady = [row for row in rows if row.sustained is not None]
    if steady:
        yield "Tiles without a pause", _sustained(steady, colors)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e9ee", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _points(
    points: Sequence[tuple[BenchRow, float, float]], colors: Mapping[str, str], x: str, y: str
) -> Figure:
    figure, axes = _axes()
    for row, right, up in points:
        axes.scatter(right, up, s=60, color=colors[row.name], label=row.name)
    axes.set(xlabel=x, ylabel=y)
    axes.set_xlim(0, 1.15 * max(right for _, right, _ in points))
    lowest, highest = min(up for *_, up in points), max(up for *_, up in points)
    axes.set_ylim(lowest - 0.05 * highest, 1.05 * highest)  # a small difference looks small
    _legend(figure)
    return figure


def _stages(rows: Sequence[BenchRow]) -> Figure:
    figure, axes = _axes()
    left = [0.0] * len(rows)
    times = [stages(row.end_to_end[0]) for row in rows]
    names = dict.fromkeys(name for leaves in times for name in leaves if name != REST)
    for number, stage in enumerate((*names, REST)):
        widths = [leaves.get(stage, 0.0) for leaves in times]
        color = _STAGE_COLORS[number % len(_STAGE_COLORS)]
        axes.barh([row.name for row in rows], widths, left=left, color=color, label=stage)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, 1.05 * max(left))
    axes.set_xlabel("seconds from the input to the files")
    _legend(figure, columns=3)
    return figure


def _sustained(rows: Sequence[BenchRow], colors: Mapping[str, str]) -> Figure:
    figure, axes = _axes()
    for row in rows:
        assert row.sustained is not None
        seconds, milliseconds = zip(*row.sustained.curve, strict=True)
        axes.plot(seconds, milliseconds, color=colors[row.name], label=row.name)
    axes.set(xlabel="seconds since the start", ylabel="median time of a tile, ms")
    axes.set_ylim(bottom=0)
    _legend(figure)
    return figure


def _legend(figure: Figure, columns: int = 2) -> None:
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _svg(figure: Figure, title: str) -> str:
    drawn = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _sections(rows: Sequence[BenchRow]) -> list[tuple[str, list[BenchRow]]]:
    """Title and rows of one machine, model, scans and scored data, in their order, those without times last.

    What changes from row to row, such as the load, makes no other machine; a row without Dice fits any data.
    """
    found: dict[tuple[object, ...], list[BenchRow]] = {}
    for row in rows:
        scans = tuple((scan.scan, scan.shape, scan.repeated) for scan in row.end_to_end)
        found.setdefault((_words(row.device), _model(row), scans), []).append(row)
    sections = []
    for same in sorted(found.values(), key=lambda same: same[0].tile_latency is None):
        first, *others = dict.fromkeys(row.accuracy.data for row in same if row.accuracy.data) or [None]
        for data in (first, *others):
            title = _model(same[0]) + (f", Dice on {data}" if others else "")
            sections.append((title, [row for row in same if (row.accuracy.data or first) == data]))
    twice = Counter((_words(mine[0].device), title) for title, mine in sections)
    return [
        (title + _scans_in_words(mine[0]) if twice[_words(mine[0].device), title] > 1 else title, mine)
        for title, mine in sections
    ]


def _scans_in_words(row: BenchRow) -> str:
    slices = " and ".join(str(scan.shape[0]) for scan in row.end_to_end)
    return f", scans of {slices} slices" if slices else ", tiles only"


def _words(device: Device) -> str:
    memory = None if device.memory_gb is None else f"{device.memory_gb:g} GB"
    cores = None if device.cores is None else f"{device.cores} core{'s' * (device.cores != 1)}"
    parts = (device.name, device.processor, cores, memory, device.os_build or device.browser)
    return ", ".join(part for part in parts if part)


def _model(row: BenchRow) -> str:
    """The model of a row with its version."""
    return " ".join(part for part in (row.artifact.model, row.artifact.model_version) if part)


def _value(value: object) -> str:
    if value is None:
        return "not known"
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
