"""The one strict reader: values from a file into a dataclass, every key known, every value checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

T = TypeVar("T")
JsonObject = dict[str, Any]
"""An object of a JSON or YAML file, with whatever keys it has."""

# Settings of a checked dataclass: frozen, no unknown key, no infinity.
STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_TOO_LARGE = 2**63
__all__ = ["STRICT", "JsonObject", "as_dict", "checked_dataclass", "parse_json", "parse_values"]


def parse_values(kind: type[T], values: object) -> T:
    """Check values against a dataclass; a number may be text, as YAML reads 1e-3.

    Args:
        kind: Dataclass made with ``checked_dataclass(config=STRICT)``; its fields may be such dataclasses.

    Raises:
        ValueError: A key is unknown, missing or wrong; each is named.
    """
    try:
        found = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise ValueError(_faults(error)) from error
    _check_numbers(values, as_dict(found))
    return found


def parse_json(kind: type[T], text: bytes | str) -> T:
    """Check a JSON text against a dataclass; see :func:`parse_values`. Here a number must be a number.

    Raises:
        ValueError: The text is not JSON, or a key is unknown, missing or wrong; each is named.
    """
    try:
        found = TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(_faults(error)) from error
    plain = as_dict(found)
    _check_numbers(plain, plain)
    return found


def as_dict(value: object) -> JsonObject:
    """A checked dataclass in the types of JSON."""
    plain: JsonObject = TypeAdapter(type(value)).dump_python(value, mode="json")
    return plain


def _check_numbers(given: object, found: object, where: str = "the file") -> None:
    """Refuse true or false for a number, and a whole number beyond 64 bits; pydantic takes both."""
    pairs: Iterable[tuple[object, object, object]] = ()
    if isinstance(given, dict) and isinstance(found, dict):
        pairs = ((key, given[key], found[key]) for key in given if key in found)
    elif isinstance(given, list | tuple) and isinstance(found, list):
        pairs = zip(range(len(found)), given, found, strict=True)
    for key, value, checked in pairs:
        _check_numbers(value, checked, f"{key}" if where == "the file" else f"{where}.{key}")
    if isinstance(given, bool) and not isinstance(found, bool):
        raise ValueError(f"{where}: it is {given}, expected a number")
    if isinstance(found, int) and not -_TOO_LARGE <= found < _TOO_LARGE:
        raise ValueError(f"{where}: the number is too large, expected one of 64 bits")


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
        for fault in error.errors()
    )
