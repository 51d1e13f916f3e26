"""The command line: data on stdout, progress on stderr, each error in one line with its code and remedy.

Exit codes: 0 done, 1 internal error, 2 wrong usage, and for each kind of error the code in
:mod:`autosam_edge.errors`.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING

import typer

from autosam_edge import __version__
from autosam_edge.atomic_files import FULL
from autosam_edge.cli import demo, info, montage, segment, verify
from autosam_edge.cli.extras import LazyCommand, RootGroup
from autosam_edge.cli.wording import with_options
from autosam_edge.engines.telemetry import set_variables
from autosam_edge.error_codes import CANCELLED, DISK_FULL, INTERNAL_ERROR, OUT_OF_MEMORY
from autosam_edge.errors import AutosamEdgeError, CancelledError
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from types import FrameType

_SEGMENT, _EXPORT, _TRAIN, _EVALUATE = (
    "Segment a scan",
    "Export and verify",
    "Train",
    "Evaluate and reproduce",
)


def _lazy(package: str, extra: str, panel: str, **summaries: str) -> tuple[LazyCommand, ...]:
    """Commands of another package by name, with the first sentence of their help."""
    module = f"{package}.cli"
    return tuple(
        LazyCommand(name, summary, panel=panel, module=module, extra=extra)
        for name, summary in summaries.items()
    )


class _Commands(RootGroup):
    lazy = (
        LazyCommand(
            "doctor",
            "Check this installation: which engines work, what is missing, what does not fit together.",
            panel=_SEGMENT,
            module="autosam_edge.cli.doctor",
            extra="dev",
        ),
        *_lazy(
            "autosam_edge_export",
            "export",
            _EXPORT,
            export="Export a student as a bundle, and compare every artifact with it, organ by organ.",
        ),
        *_lazy(
            "autosam_edge_training",
            "train",
            _TRAIN,
            data="Prepare a data set for training and evaluation.",
            train="Train a teacher or a student.",
            distill="Distill a teacher into a student.",
            **{"fit-decision-weights": "Fit how much each organ's probability counts, on validation cases."},
        ),
        *_lazy(
            "autosam_edge_training",
            "train",
            _EVALUATE,
            score="Score a finished run: Dice and NSD through the pipeline of the runtime.",
            evaluate="Score a bundle, or predictions of any tool, on labeled scans.",
            compare="Test whether our method is better than others.",
        ),
        *_lazy(
            "autosam_edge_benchmarks",
            "train",
            _EVALUATE,
            reproduce="Show the paper's values beside ours; `n/a` where no run was scored.",
            baseline="Run the methods that the paper compares with.",
        ),
        *_lazy(
            "autosam_edge_benchmarks", "bench", _EVALUATE, bench="Measure latency and memory on this machine."
        ),
    )


app = typer.Typer(
    cls=_Commands,
    name="autosam-edge",
    help=f"Label the organs of a CT scan on this device, offline.\n\n{RESEARCH_USE}",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment", rich_help_panel=_SEGMENT)(segment.segment)
app.command("demo", rich_help_panel=_SEGMENT)(demo.demo)
app.command("montage", rich_help_panel=_SEGMENT)(montage.montage)
app.command("info", rich_help_panel=_SEGMENT)(info.info)
app.command("verify", rich_help_panel=_EXPORT)(verify.verify)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"autosam-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Options of every command; the callback of ``--version`` prints it."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of ``autosam-edge``."""
    signal.signal(signal.SIGTERM, _stop)  # a terminated run cleans up like an interrupted one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot print must not end a run whose results are written.
            stream.reconfigure(errors="backslashreplace")
    try:
        set_variables()
        code = app(prog_name="autosam-edge", standalone_mode=False)
    except AutosamEdgeError as error:
        _fail(error)
    except KeyboardInterrupt:
        _fail(_cancelled())
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except MemoryError:
        _fail(OUT_OF_MEMORY("the device ran out of memory."))
    except Exception as error:
        # Errors of usage, of click or of the copy of click in Typer.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            # Some versions of Typer put these words before the reason why a choice is refused.
            vars(error)["message"] = str(getattr(error, "message", "")).replace("Value error, ", "")
            error.show()
            sys.exit(error.exit_code)
        if type(error).__name__ == "Abort":
            _fail(_cancelled())
        if isinstance(error, OSError) and error.errno in FULL:  # such as that of stdout
            _fail(DISK_FULL("the disk or the quota is full."))
        if os.environ.get("AUTOSAM_EDGE_TRACEBACK"):
            raise
        # The message of a foreign error is not shown: it may quote the value of a tag.
        _fail(
            INTERNAL_ERROR(
                f"unexpected {type(error).__name__}.",
                remedy="set AUTOSAM_EDGE_TRACEBACK=1 and report what it shows.",
            )
        )
    if code == CancelledError.exit_code:  # Typer turns Ctrl-C into this code and says nothing
        _fail(_cancelled())
    sys.exit(code if isinstance(code, int) else 0)


def _cancelled() -> AutosamEdgeError:
    return CANCELLED("stopped on request; no unfinished result was left.")


def _fail(error: AutosamEdgeError) -> None:
    print(f"error {with_options(str(error))}", file=sys.stderr)
    sys.exit(error.exit_code)
