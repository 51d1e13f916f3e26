"""The command line: data on stdout, progress on stderr, each error in one line with its code and remedy.

Exit codes: 0 done, 1 internal error, 2 wrong usage, 128 + n stopped by signal n, 141 nobody reads the report,
and for each kind of error the code in :mod:`autosam_edge.errors`. Once files are in their place the run is a
success, whatever happens to its report.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

import typer

from autosam_edge import __version__
from autosam_edge.cli import bundle, demo, info, montage, segment, verify
from autosam_edge.cli.extras import LazyCommand, RootGroup
from autosam_edge.engines.telemetry import set_variables
from autosam_edge.error_codes import DISK_FULL, INTERNAL_ERROR, OUT_OF_MEMORY, REPORT_NOT_PRINTED
from autosam_edge.errors import AutosamEdgeError, CancelledError
from autosam_edge.system.atomic_files import FULL, anything_published, errno_of
from autosam_edge.system.standard_streams import stdout_error
from autosam_edge.system.stop_signals import MESSAGE, exit_code, is_told, run_begins, run_ends
from autosam_edge.volume import RESEARCH_USE
from autosam_edge.wording import with_options

_BROKEN_PIPE = 141  # what a shell shows for a program that SIGPIPE ends
_SEGMENT, _MANY, _EXPORT, _TRAIN, _EVALUATE = (
    "Segment a scan",
    "Segment many scans",
    "Export and verify",
    "Train",
    "Evaluate and reproduce",
)


def _lazy(module: str, extra: str, panel: str, **summaries: str) -> tuple[LazyCommand, ...]:
    """Commands of another module by name, with the first sentence of their help."""
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
            "autosam_edge.cli.many",
            "node",
            _MANY,
            batch="Label the organs of many CT scans: a folder for each, one table, one page.",
            watch="Label each scan that comes into a folder, until the command is stopped.",
            serve="Run a DICOM node: receive CT series, label their organs, send the results to an archive.",
            contract="Segment as a hospital router or a challenge calls a container.",
            audit="Check the record of what ran.",
        ),
        *_lazy(
            "autosam_edge_export.cli",
            "export",
            _EXPORT,
            export="Export a trained student network as a bundle; compare each artifact with it, by organ.",
        ),
        *_lazy(
            "autosam_edge_training.cli",
            "train",
            _TRAIN,
            data="Prepare a data set for training and evaluation.",
            train="Train a teacher or a student.",
            distill="Distill a teacher into a student.",
            **{"fit-decision-weights": "Fit how much each organ's probability counts, on validation cases."},
        ),
        *_lazy(
            "autosam_edge_training.cli",
            "train",
            _EVALUATE,
            score="Score a finished run: Dice and NSD through the pipeline of the runtime.",
            evaluate="Score a bundle, or predictions of any tool, on labeled scans.",
            compare="Test whether our method is better than others.",
        ),
        *_lazy(
            "autosam_edge_benchmarks.cli",
            "train",
            _EVALUATE,
            reproduce="Show the paper's values beside ours; `n/a` where no run was scored.",
            baseline="Run the methods that the paper compares with.",
        ),
        *_lazy(
            "autosam_edge_benchmarks.cli",
            "bench",
            _EVALUATE,
            bench="Measure time and memory of every artifact on this machine; a busy machine is refused.",
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
app.add_typer(bundle.app, name="bundle", rich_help_panel=_EXPORT)


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


def main() -> None:
    """Run the command of ``sys.argv`` and exit; :mod:`autosam_edge.__main__` has seen to signals."""
    run_begins()
    try:
        set_variables()
        code = app(prog_name="autosam-edge", standalone_mode=False)
        lost = stdout_error()
        run_ends()
    except BaseException as error:  # Typer's Exit and Ctrl-C too: each ends the process with its own code
        run_ends()
        if stopped := exit_code():  # whatever the signal's KeyboardInterrupt has become on its way
            _stopped(stopped)
        _leave(error)
    if code == CancelledError.exit_code:  # Typer turns Ctrl-C into this code and says nothing
        _stopped(exit_code() or code)
    if lost:
        _report_lost(lost)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(error: BaseException) -> NoReturn:
    """End the process as an exception tells."""
    if isinstance(error, AutosamEdgeError):
        _fail(error)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        _stopped(CancelledError.exit_code)
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, typer.Exit):
        sys.exit(error.exit_code)
    if isinstance(error, MemoryError):
        _fail(OUT_OF_MEMORY("the device ran out of memory."))
    # Errors of usage, of click or of the copy of click in Typer.
    if hasattr(error, "show") and hasattr(error, "exit_code"):
        # Some versions of Typer put these words before the reason why a choice is refused.
        vars(error)["message"] = str(getattr(error, "message", "")).replace("Value error, ", "")
        error.show()
        sys.exit(error.exit_code)
    if isinstance(error, OSError) and errno_of(error) in FULL:
        _fail(DISK_FULL("the disk or the quota is full."))
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        _fail(INTERNAL_ERROR("too many files are open.", remedy="Raise the limit, such as `ulimit -n 1024`."))
    if os.environ.get("AUTOSAM_EDGE_TRACEBACK"):
        raise error
    # The message of a foreign error is not shown: it may quote the value of a tag.
    _fail(
        INTERNAL_ERROR(
            f"unexpected {type(error).__name__}.",
            remedy="Set AUTOSAM_EDGE_TRACEBACK=1 and report what it shows.",
        )
    )


def _report_lost(error: OSError) -> None:
    """What follows when stdout fails: files on the disk are a success, and a report alone is not."""
    if anything_published():
        print("The report could not be printed; the files are written.", file=sys.stderr)
    elif isinstance(error, BrokenPipeError):
        sys.exit(_BROKEN_PIPE)
    else:
        _fail(REPORT_NOT_PRINTED(f"the report cannot be printed ({type(error).__name__})."))


def _stopped(code: int) -> NoReturn:
    if is_told(code - 128):
        print(MESSAGE, file=sys.stderr)
    # Python notes an interrupt inside `exec`, which dataclasses call, and `python -m` then ends with 130. The
    # next `exec` clears the note.
    exec("")  # noqa: S102
    sys.exit(code)


def _fail(error: AutosamEdgeError) -> NoReturn:
    print(f"error {with_options(str(error))}", file=sys.stderr)
    sys.exit(error.exit_code)
