"""Commands of the other packages, imported when they are called, and the error if an extra is missing."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer.main
from typer.core import TyperCommand, TyperGroup

from autosam_edge.error_codes import CHECKOUT_NEEDED, EXTRA_MISSING, OUTPUT_UNNAMED

if TYPE_CHECKING:
    from collections.abc import Iterator

# Left out of the wheel: it compares with files of results that only the project's source holds.
PAPER = "autosam_edge_benchmarks.paper"


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Name the extra if an import in this block finds a package missing.

    Args:
        extra: Extra of the distribution that brings the packages, such as ``export``.

    Raises:
        MissingExtraError: A third-party package is not installed (AE-EXTRA-001), or the module is not in the
            wheel (AE-EXTRA-002). A missing module of our own is a fault of ours and is raised as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name == PAPER:
            raise CHECKOUT_NEEDED(
                "the paper's tables and baselines are not part of the installed package."
            ) from error
        missing = (error.name or "").split(".")[0]
        if missing.startswith("autosam_edge"):
            raise
        raise EXTRA_MISSING(
            f"this command needs {missing}, which is not installed.",
            remedy=f"pip install 'autosam-edge[{extra}]'",
        ) from error


class LazyCommand(TyperCommand):
    """A command, or a group of commands, of another package; its module is imported when it is called.

    Args:
        summary: First sentence of its help, shown in the list of commands.
        module: Module with the Typer ``app`` that holds the command.
        extra: Extra of the distribution that brings what the command imports.
    """

    def __init__(self, name: str, summary: str, *, panel: str, module: str, extra: str) -> None:
        super().__init__(name, help=summary, rich_help_panel=panel)
        self.module, self.extra = module, extra

    def load(self) -> Any:  # noqa: ANN401  a Command of click, or of the copy of click in some Typers
        """The command itself."""
        if not self.module.startswith("autosam_edge."):
            _keep_home_clean()
        with needs(self.extra):
            app = importlib.import_module(self.module).app
        return typer.main.get_group(app).commands[str(self.name)]

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Any = None,  # noqa: ANN401
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Parse the arguments with the options of the command itself."""
        return self.load().make_context(info_name, args, parent, **extra)


def _keep_home_clean() -> None:
    """Give matplotlib, which MONAI imports, a temporary folder for its list of fonts in place of the home."""
    if "MPLCONFIGDIR" not in os.environ:
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["MPLCONFIGDIR"] = folder


class RootGroup(TyperGroup):
    """The commands of the runtime, then those of the other packages."""

    lazy: tuple[LazyCommand, ...] = ()

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.commands.update({str(command.name): command for command in self.lazy})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Refuse an option with an empty text, as of a variable that is not set: it would be the path `.`.

        The reader of `--format` refuses it itself, and names what there is.
        """
        options = args[: args.index("--")] if "--" in args else args
        for option, text in zip(options, [*options[1:], None], strict=True):
            name, equals, value = option.partition("=")
            if name.startswith("-") and name != "--format" and not (value if equals else text != ""):
                if name in ("-o", "--out"):
                    raise OUTPUT_UNNAMED("the output path is an empty text, expected a path.")
                raise typer.BadParameter(
                    "expected a value or nothing after it, found an empty text", param_hint=name
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run a command; a package that it does not find is a matter of its extra."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError:
            command = self.commands.get(ctx.invoked_subcommand)
            if isinstance(command, LazyCommand):
                with needs(command.extra):
                    raise
            raise
