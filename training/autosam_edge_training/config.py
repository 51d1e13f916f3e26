"""Recipes as files: YAML into a frozen dataclass, every key known, every value checked."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from autosam_edge_training.error_codes import RECIPE_INVALID
from autosam_edge_training.strict import as_dict, parse_values

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the first of the two would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        if twice := [key for place, key in enumerate(keys) if key in keys[:place]]:
            raise yaml.constructor.ConstructorError(problem=f"the key {twice[0]} stands there twice")
        return super().construct_mapping(node, deep)


def read_config(kind: type[T], path: Path) -> T:
    """Read a recipe.

    Raises:
        TrainingError: AE-TRAIN-001, naming each key that is unknown, missing or wrong.
    """
    try:
        values = _Loader(path.read_bytes()).get_single_data()
    except (OSError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise RECIPE_INVALID(f"the recipe {path.name} cannot be read: {why}.") from error
    return parse_config(kind, values)


def parse_config(kind: type[T], values: object) -> T:
    """Check the values of a recipe's file; see :func:`read_config`."""
    try:
        return parse_values(kind, values)
    except ValueError as error:
        raise RECIPE_INVALID(f"the recipe is not valid: {error}.", remedy="Correct these keys.") from error


def with_changes(config: T, **changes: object) -> T:
    """A recipe with some values changed, checked like a file.

    Raises:
        TrainingError: AE-TRAIN-001.
    """
    return parse_config(type(config), {**as_dict(config), **changes})
