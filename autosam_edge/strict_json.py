"""JSON text to frozen dataclasses: the fields of the class are the schema, and nothing else is accepted."""

from __future__ import annotations

import json
import math
import re
import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_hints = cache(get_type_hints)
# Control characters but for the tabulator and the line feed, and surrogates.
_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_NAMES: dict[object, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    type(None): "null",
}


def parse_json(text: bytes) -> object:
    """Decode JSON text.

    Args:
        text: JSON, UTF-8.

    Returns:
        Objects as dicts, arrays as lists.

    Raises:
        ValueError: The text is not JSON, holds a number that is not finite or a whole number beyond 64 bits,
            a text with control characters, names a key twice, or nests too deeply.
    """
    try:
        raw = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_whole,
            parse_float=_finite,
        )
        _check_texts(raw)
        return raw
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def build(kind: type[_T], raw: object, where: str, *, other_keys: bool = False) -> _T:
    """Build a dataclass from decoded JSON.

    Arrays become tuples, and whole numbers become floats where the field is a float.

    Args:
        kind: Dataclass whose fields are text, numbers, booleans, literals, tuples, dicts with text keys,
            ``object``, or dataclasses of such fields.
        raw: Result of :func:`parse_json`, or a part of it.
        where: Name of the value for messages, such as ``manifest.json``.
        other_keys: Whether keys that are no field are passed over; they are refused by default.

    Raises:
        ValueError: A key is unknown, one without a default is missing, a value has another type, or the class
            refuses the values.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Point:
        ...     x: float
        ...     y: float
        >>> build(Point, parse_json(b'{"x": 1, "y": 2.5}'), "point")
        Point(x=1.0, y=2.5)
    """
    return _Reader(other_keys).instance(kind, raw, where)


def build_list(kind: type[_T], raw: object, where: str, *, other_keys: bool = False) -> list[_T]:
    """Build a dataclass from each object of an array; see :func:`build`.

    Args:
        kind: Dataclass of the elements.
        raw: Result of :func:`parse_json`, or a part of it.
        where: Name of the value for messages.
        other_keys: Whether keys that are no field are passed over.

    Raises:
        ValueError: The value is not an array, or see :func:`build`.
    """
    if not isinstance(raw, list):
        raise _wrong(where, raw, "an array")
    reader = _Reader(other_keys)
    return [reader.instance(kind, item, f"{where}[{index}]") for index, item in enumerate(raw)]


@dataclass(frozen=True)
class _Reader:
    """Turns decoded JSON into values of declared types, at every depth.

    Args:
        other_keys: Whether keys that are no field are passed over.
    """

    other_keys: bool

    def instance(self, kind: type[_T], raw: object, where: str) -> _T:
        if not isinstance(raw, dict):
            raise _wrong(where, raw, "an object")
        hints = _hints(cast("Any", kind))
        defaults = {field.name: field.default for field in fields(cast("Any", kind))}
        if not self.other_keys and (unknown := sorted(set(raw) - set(defaults))):
            raise ValueError(f"{where} has the unknown key {unknown[0]!r}")
        if missing := [name for name, default in defaults.items() if default is MISSING and name not in raw]:
            raise ValueError(f"{where} lacks the key {missing[0]!r}")
        values = {
            name: self.value(hints[name], raw[name], f"{where}.{name}") for name in defaults if name in raw
        }
        return kind(**values)

    def value(self, hint: Any, raw: object, where: str) -> object:  # noqa: ANN401
        origin, parts = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            if raw is None and type(None) in parts:
                return None
            # A field's type has no other union than `X | None`.
            (hint,) = (part for part in parts if part is not type(None))
            return self.value(hint, raw, where)
        if is_dataclass(hint):
            return self.instance(cast("type[object]", hint), raw, where)
        if origin is tuple:
            return self._tuple(parts, raw, where)
        if origin is dict:
            if not isinstance(raw, dict):
                raise _wrong(where, raw, "an object")
            return {key: self.value(parts[1], item, f"{where}.{key}") for key, item in raw.items()}
        if origin is Literal:
            if raw not in parts or isinstance(raw, bool):
                raise _wrong(where, raw, " or ".join(map(repr, parts)))
            return raw
        return _scalar(hint, raw, where)

    def _tuple(self, parts: tuple[Any, ...], raw: object, where: str) -> tuple[object, ...]:
        if not isinstance(raw, list):
            raise _wrong(where, raw, "an array")
        hints = [parts[0]] * len(raw) if parts[-1] is Ellipsis else parts
        if len(hints) != len(raw):
            raise ValueError(f"{where} has {len(raw)} elements, expected {len(hints)}")
        return tuple(
            self.value(hint, item, f"{where}[{index}]")
            for index, (hint, item) in enumerate(zip(hints, raw, strict=True))
        )


def _scalar(hint: Any, raw: object, where: str) -> object:  # noqa: ANN401
    if hint is object:
        return raw
    whole = isinstance(raw, int) and not isinstance(raw, bool)
    if hint is float and (whole or isinstance(raw, float)):
        return float(cast("float", raw))
    if (hint is int and whole) or (hint in (str, bool) and isinstance(raw, hint)):
        return raw
    raise _wrong(where, raw, _NAMES[hint])


def _wrong(where: str, raw: object, expected: str) -> ValueError:
    return ValueError(f"{where} is {_shown(raw)}, expected {expected}")


def _shown(raw: object) -> str:
    """A value for a message: short ones as they are, arrays and objects by their kind."""
    if isinstance(raw, dict):
        return "an object"
    if isinstance(raw, list):
        return "an array"
    return "null" if raw is None else repr(raw)[:40]


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise ValueError(f"it holds the number {digits[:20]}..., which is too large")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"it holds the number {digits[:20]}, which is too large")
    return value


def _check_texts(raw: object) -> None:
    """Refuse control characters, and halves of characters, which no file or terminal takes."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            _check_texts(key)
            _check_texts(value)
    elif isinstance(raw, list):
        for value in raw:
            _check_texts(value)
    elif isinstance(raw, str) and _NOT_TEXT.search(raw):
        raise ValueError("a text holds control characters")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"it holds {name}, which is no JSON number")
