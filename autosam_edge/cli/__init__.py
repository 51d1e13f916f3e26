"""The command line: a thin skin over the API. Data on stdout, progress on stderr, errors in one line with code and remedy.

Exit codes: 0 done, 1 internal error, 2 wrong usage, and for each kind of error the code in
:mod:`autosam_edge.errors`.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import typer

from autosam_edge import __version__
from autosam_edge.cli import (
    baseline,
    bench,
    data,
    evaluate,
    export,
    info,
    montage,
    reproduce,
    segment,
    training,
    verify,
)
from autosam_edge.error_codes import CANCELLED, OUT_OF_MEMORY
from autosam_edge.errors import AutosamEdgeError, CancelledError
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(
    name="autosam-edge",
    help=f"Label the organs of a CT scan on this device, offline.\n\n{RESEARCH_USE}",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("demo")(segment.demo)
app.command("montage")(montage.montage)
app.command("info")(info.info)
app.command("verify")(verify.verify)
app.command("export")(export.export)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(evaluate.compare)
app.add_typer(data.app, name="data")
app.add_typer(training.train_app, name="train")
app.command("distill")(training.distill)
app.command("score")(training.score)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(baseline.app, name="baseline")
app.add_typer(bench.app, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"autosam-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Show the version and leave.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Options of every command; the version's callback does its own work."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of ``autosam-edge``."""
    signal.signal(signal.SIGTERM, _stop)  # a killed run cleans up like a cancelled one
    try:
        code = app(standalone_mode=False)
    except AutosamEdgeError as error:
        _fail(error)
    except KeyboardInterrupt:
        _fail(_cancelled())
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except MemoryError:
        _fail(OUT_OF_MEMORY("the device ran out of memory."))
    except Exception as error:
        if hasattr(error, "show") and hasattr(
            error, "exit_code"
        ):  # click's usage errors, whichever copy of click raises them
            error.show()
            sys.exit(error.exit_code)
        if type(error).__name__ == "Abort":
            _fail(_cancelled())
        if os.environ.get("AUTOSAM_EDGE_TRACEBACK"):
            raise
        # No message of a foreign error is shown: it may quote a tag's value.
        line = f"AE-INTERNAL-001: unexpected {type(error).__name__}. Remedy: set AUTOSAM_EDGE_TRACEBACK=1 and report what it shows."
        print(f"error {line}", file=sys.stderr)
        sys.exit(1)
    if code == CancelledError.exit_code:  # typer turns Ctrl-C into this code and says nothing
        _fail(_cancelled())
    sys.exit(code if isinstance(code, int) else 0)


def _cancelled() -> AutosamEdgeError:
    return CANCELLED("stopped on request; no unfinished result was left.")


def _fail(error: AutosamEdgeError) -> None:
    print(f"error {error}", file=sys.stderr)
    sys.exit(error.exit_code)
