"""Write docs/cli.md from the commands: run ``python tests/autosam_edge_test_cli_page.py`` after a change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
INTRODUCTION = """# Commands

This page repeats `autosam-edge COMMAND --help`. It is generated; a test compares it with the program.

Results go to stdout, progress and errors to stderr. Every error is one line with a code, what is wrong and
what to do ([errors.md](errors.md)); the exit code names the kind of error. A command that fails leaves no
output behind.

`pip install .` installs what `segment`, `demo`, `montage`, `info`, `verify`, `doctor`, `batch`, `watch`,
`contract`, `audit verify` and `export --target web` need. Other commands need an extra, and say which one if
it is missing:

| extra | adds |
|---|---|
| `[dicom]` | decoders for JPEG, JPEG-LS and JPEG 2000 |
| `[openvino]` | the faster inference engine for x86 processors |
| `[sign]` | signatures of bundles |
| `[node]`, `[http]` | `serve`, `serve --http` |
| `[dask]`, `[table]` | `batch --scheduler`; the table of `batch` as Parquet too |
| `[coreml]`, `[executorch]` | these export targets and their engines |
| `[export]` | `export` |
| `[train]` | `data`, `train`, `distill`, `fit-decision-weights`, `score`, `evaluate`, `compare`, \
`reproduce`, `baseline` |
| `[sam2d]` | `baseline sam-point` |
| `[bench]` | `bench`; `bench --roofline` needs `[export]` too, `bench report` `[train]`, all others `[dev]` |
| `[dev]` | all of them but `[sam2d]`, and the tools for tests and checks |
"""


_SHOWN = (str, int, float, type(PAGE))  # not the bool of a switch


def cli_page() -> str:
    """The whole page: one section per command, in the order of ``autosam-edge --help``."""
    from autosam_edge.cli import app

    return "\n".join([INTRODUCTION, *_sections(typer.main.get_command(app), "autosam-edge")])


def _sections(command: Any, name: str) -> Iterator[str]:
    if hasattr(command, "load"):
        command = command.load()
    if subcommands := getattr(command, "commands", None):
        if command.invoke_without_command:
            yield from _section(command, name)
        for word, subcommand in subcommands.items():
            yield from _sections(subcommand, f"{name} {word}")
        return
    yield from _section(command, name)


def _section(command: Any, name: str) -> Iterator[str]:
    shown = [parameter for parameter in command.params if not parameter.hidden]
    arguments = [_names(parameter) for parameter in shown if _is_argument(parameter)]
    yield " ".join([f"## {name}", *arguments]) + f"\n\n{_one_line(command.help)}\n"
    yield "| option | meaning |\n|---|---|"
    yield from (f"| `{_names(parameter)}` | {_meaning(parameter)} |" for parameter in shown)
    yield ""


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _names(parameter: Any) -> str:
    if _is_argument(parameter):
        return parameter.metavar or parameter.name.upper()
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return f"{names} {parameter.metavar}" if parameter.metavar else names


def _meaning(parameter: Any) -> str:
    words = [_one_line(parameter.help)]
    choices = [f"`{choice}`" for choice in _choices(parameter.type_descriptor.annotation)]
    if choices and (_is_argument(parameter) or not parameter.metavar):  # otherwise the words name them
        words.append(f"One of {', '.join(choices)}.")
    if parameter.required and not _is_argument(parameter):
        words.append("Required.")
    elif type(parameter.default) in _SHOWN and parameter.show_default:
        words.append(f"Default: `{parameter.default}`.")
    return " ".join(words)


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(choice for part in get_args(annotation) for choice in _choices(part))


def _one_line(words: str | None) -> str:
    return " ".join((words or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(cli_page())
