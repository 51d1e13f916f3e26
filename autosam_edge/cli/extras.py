"""The one door to the parts of the distribution that an extra brings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from autosam_edge.error_codes import CHECKOUT_NEEDED, EXTRA_MISSING

if TYPE_CHECKING:
    from types import ModuleType


# Left out of the wheel: it compares with files of results that only the project's source holds.
PAPER = "autosam_edge_benchmarks.paper"


def load_room(module: str, extra: str) -> ModuleType:
    """Import a module of another room.

    Args:
        module: Such as ``autosam_edge_export.export``.
        extra: The extra that brings what it needs.

    Raises:
        MissingExtraError: A third party is not installed (AE-EXTRA-001), or the module is not in the wheel
            (AE-EXTRA-002). An error in our own code is raised as it is.
    """
    try:
        return importlib.import_module(module)
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
