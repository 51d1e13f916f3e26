"""JSON becomes the declared dataclass, or an error names the value at fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from autosam_edge.strict_json import build, build_list, parse_json


@dataclass(frozen=True)
class Part:
    """One element of a whole."""

    size: float
    kind: Literal["large", "small"]


@dataclass(frozen=True)
class Whole:
    """Every kind of field."""

    name: str
    count: int
    corner: tuple[float, float]
    parts: tuple[Part, ...]
    limit: float | None
    sums: dict[str, str]


TEXT = (
    b'{"name": "a", "count": 2, "corner": [1, 2.5], "parts": [{"size": 3, "kind": "small"}],'
    b' "limit": null, "sums": {"f": "0a"}}'
)


def test_build_gives_the_declared_types():
    """Arrays become tuples, whole numbers floats, objects dataclasses."""
    found = build(Whole, parse_json(TEXT), "w")
    assert found == Whole("a", 2, (1.0, 2.5), (Part(3.0, "small"),), None, {"f": "0a"})
    assert isinstance(found.parts[0].size, float)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"name": "a"', b'"name": 1', "w.name is 1, expected text"),
        (b'"name": "a", ', b"", "w lacks the key 'name'"),
        (b'"name": "a"', b'"name": "a", "nam": 1', "w has the unknown key 'nam'"),
        (b'"count": 2', b'"count": true', "w.count is True, expected a whole number"),
        (b'"count": 2', b'"count": 2.0', "w.count is 2.0, expected a whole number"),
        (b"[1, 2.5]", b"[1]", "w.corner has 1 elements, expected 2"),
        (b"[1, 2.5]", b"7", "w.corner is 7, expected an array"),
        (b"2.5", b"1e999", "it holds the number 1e999, which is too large"),
        (b"2.5", b"9" * 400, r"it holds the number 9{20}\.\.\., which is too large"),
        (b'"count": 2', b'"count": ' + b"9" * 21, r"it holds the number 9{20}\.\.\., which is too large"),
        (b'"name": "a"', b'"name": "\\u0000"', "a text holds control characters"),
        (b'"name": "a"', b'"name": "\\ud800"', "a text holds control characters"),
        (b'"0a"', b'"\\u001b[2J"', "a text holds control characters"),
        (b'"small"', b'"tiny"', r"w.parts\[0\].kind is 'tiny', expected 'large' or 'small'"),
        (b'{"size": 3, "kind": "small"}', b"3", r"w.parts\[0\] is 3, expected an object"),
        (b'"0a"', b"null", "w.sums.f is null, expected text"),
        (b'{"f": "0a"}', b"[]", "w.sums is an array, expected an object"),
    ],
)
def test_build_names_the_value_at_fault(old, new, message):
    """With its place, what it is and what was expected."""
    assert TEXT.count(old) == 1
    with pytest.raises(ValueError, match=f"^{message}$"):
        build(Whole, parse_json(TEXT.replace(old, new)), "w")


def test_other_keys_are_passed_over_only_on_request():
    """At every depth; the declared keys stay required."""
    raw = parse_json(b'[{"size": 1, "kind": "large", "more": {}}]')
    assert build_list(Part, raw, "p", other_keys=True) == [Part(1.0, "large")]
    with pytest.raises(ValueError, match=r"^p\[0\] has the unknown key 'more'$"):
        build_list(Part, raw, "p")
    with pytest.raises(ValueError, match="^p is an object, expected an array$"):
        build_list(Part, {}, "p")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000 + b"]" * 100_000]
)
def test_parse_json_refuses_with_a_value_error(text):
    """No JSON, no UTF-8, NaN, a key twice, and depth: no other class of error leaves the reader."""
    with pytest.raises(ValueError):
        parse_json(text)
