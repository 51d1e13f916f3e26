"""The one strict reader: values from a file into a dataclass, every key known, every value checked."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

T = TypeVar("T")
JsonObject = dict[str, Any]
"""An object of a JSON or YAML file, with whatever keys it has."""

# Settings of a checked dataclass: frozen, no unknown key, no infinity.
STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
__all__ = ["STRICT", "JsonObject", "as_dict", "checked_dataclass", "parse_json", "parse_values"]


def parse_values(kind: type[T], values: object) -> T:
    """Check values against a dataclass; a number may be text, as YAML reads 1e-3.

    Args:
        kind: Dataclass made with ``checked_dataclass(config=STRICT)``; its fields may be such dataclasses.

    Raises:
        ValueError: A key is unknown, missing or wrong; each is named.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise ValueError(_faults(error)) from error


def parse_json(kind: type[T], text: bytes | str) -> T:
    """Check a JSON text against a dataclass; see :func:`parse_values`. Here a number must be a number.

    Raises:
        ValueError: The text is not JSON, or a key is unknown, missing or wrong; each is named.
    """
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(_faults(error)) from error


def as_dict(value: object) -> JsonObject:
    """A checked dataclass in the types of JSON."""
    plain: JsonObject = TypeAdapter(type(value)).dump_python(value, mode="json")
    return plain


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
        for fault in error.errors()
    )
