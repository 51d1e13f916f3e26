"""Recipes as files: YAML into a frozen dataclass, every key known, every value checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from autosam_edge_training.error_codes import RECIPE_INVALID

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

# What a dataclass of a recipe is made with: frozen, no key that it does not know, no infinity. A number may
# be text: to YAML 1e-3 is.
STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
__all__ = ["STRICT", "as_dict", "checked_dataclass", "parse_config", "read_config", "with_changes"]


def read_config(kind: type[T], path: Path) -> T:
    """Read a recipe.

    Args:
        kind: A dataclass made with ``checked_dataclass(config=STRICT)``; its fields may be such dataclasses.
        path: YAML.

    Raises:
        TrainingError: AE-TRAIN-001, naming each key that is unknown, missing or wrong.
    """
    try:
        values = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise RECIPE_INVALID(f"the recipe {path.name} cannot be read: {why}.") from error
    return parse_config(kind, values)


def parse_config(kind: type[T], values: object) -> T:
    """Check what a recipe's file holds; see :func:`read_config`."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg'].lower()}"
            for fault in error.errors()
        )
        raise RECIPE_INVALID(f"the recipe is not valid: {faults}.", remedy="Correct these keys.") from error


def with_changes(config: T, **changes: object) -> T:
    """A recipe with other values, checked like a file's.

    Raises:
        TrainingError: AE-TRAIN-001.
    """
    return parse_config(type(config), {**as_dict(config), **changes})


def as_dict(config: Any) -> dict[str, Any]:  # noqa: ANN401  any checked dataclass
    """A recipe as JSON's types, for the run's record."""
    plain: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return plain
