"""The registry of the operators' functions: by name, with their signatures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from torch import Tensor

from autosam_edge.errors import AutosamEdgeError
from autosam_edge_export.error_codes import MIL_UNSUPPORTED


@dataclass(frozen=True)
class Operator:
    """An operator that the interpreter knows.

    Args:
        required: Names of the parameters without a default.
        moves: True if the operator only moves values, so that it takes them as they are stored.
    """

    function: Callable[..., Tensor | list[Tensor]]
    hints: dict[str, object]
    required: frozenset[str]
    moves: bool


OPERATORS: dict[str, Operator] = {}


def register(
    name: str,
    function: Callable[..., Any],
    hints: dict[str, object],
    *,
    required: frozenset[str] | None = None,
    moves: bool = False,
) -> None:
    """Put a function into :data:`OPERATORS`; by default every parameter is required."""
    OPERATORS[name] = Operator(function, hints, frozenset(hints) if required is None else required, moves)


def operator(name: str, *, moves: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into :data:`OPERATORS` under an operator's name."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function)
        del hints["return"]
        optional = len(function.__defaults__ or ())
        register(name, function, hints, required=frozenset(list(hints)[: len(hints) - optional]), moves=moves)
        return function

    return decorate


def refused(what: str) -> AutosamEdgeError:
    """The error for what the interpreter does not implement."""
    return MIL_UNSUPPORTED(f"the Core ML program cannot be checked: {what}.")
