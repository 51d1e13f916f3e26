"""Changes of bytes, of numbers in text, and of JSON; every one is drawn from the generator that is given."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from random import Random
from typing import cast

INTEGERS = (0, 1, -1, 2, 3, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1,
            2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
FLOATS = (float("nan"), float("inf"), float("-inf"), -0.0, 0.0, -1.0, 0.5, 1e-45, 1e30, -1e30, 3e38, 1e308)
TEXTS = (
    *(str(number).encode() for number in INTEGERS),
    *(b"nan", b"inf", b"-inf", b"1e999", b"1e-400", b"-1e38", b"1.5", b"-0"),
    *(b"", b" ", b"\0", b"0x10", b"1_0"),
    *(b"1\\2", b"--1", b"+", b".", b"1,5", b"\xff\xfe", b"\xd9\xa1", b"9" * 30, b"9" * 5000, b"a" * 70),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def several(change: Callable[[bytes, Random], bytes], data: bytes, draw: Random) -> bytes:
    """One to three changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = change(data, draw)
    return data


def integer_bytes(draw: Random, size: int) -> bytes:
    """A number that readers tend to get wrong, in a width of ``size`` bytes and either order."""
    return (draw.choice(INTEGERS) % (1 << 8 * size)).to_bytes(size, draw.choice(("little", "big")))


def float_bytes(draw: Random) -> bytes:
    """A number that is not finite, very large or very small, as 4 or 8 bytes."""
    value, order = draw.choice(FLOATS), draw.choice("<>")
    if draw.random() < 0.5 and not 3.4e38 < abs(value) < float("inf"):
        return struct.pack(f"{order}f", value)
    return struct.pack(f"{order}d", value)


def put(new: bytes, data: bytes, at: int) -> bytes:
    """The data with other bytes from a place on."""
    return data[:at] + new + data[at + len(new) :]


def exchange(data: bytes, first: tuple[int, int], second: tuple[int, int]) -> bytes:
    """The data with two parts, from start to end, in each other's place; as it is where they overlap."""
    (a, b), (c, d) = sorted((first, second))
    return data if c < b else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def change_bytes(data: bytes, draw: Random) -> bytes:
    """Flip, replace, remove, repeat, exchange, insert, cut, or put a number."""
    if not data:
        return bytes(draw.randrange(9))
    return draw.choice(_CHANGES)(data, draw)


def change_start(data: bytes, draw: Random) -> bytes:
    """Put a number at an even place among the first 352 bytes, the header of a NIfTI file."""
    at = 2 * draw.randrange(max(1, min(352, len(data)) // 2))
    new = float_bytes(draw) if draw.random() < 0.4 else integer_bytes(draw, draw.choice((1, 2, 4, 8)))
    return put(new, data, at)


def change_number(data: bytes, draw: Random) -> bytes:
    """Replace a number that is written as text."""
    found = [*_NUMBER.finditer(data[:8192])]
    if not found:
        return change_bytes(data, draw)
    one = draw.choice(found)
    return data[: one.start()] + draw.choice(TEXTS) + data[one.end() :]


def change_lines(data: bytes, draw: Random) -> bytes:
    """Change a line of a header of text: leave it out, repeat it, exchange it, or change its value."""
    lines = data[:4096].split(b"\n")
    at, other = draw.randrange(min(len(lines), 16)), draw.randrange(min(len(lines), 16))
    mark = b"=" if b"=" in lines[at] else b":"
    key, _, value = lines[at].partition(mark)
    new = {
        0: [],
        1: [lines[at], lines[at]],
        2: [lines[at], lines[other]],
        3: [key + mark + b" " + lines[other].partition(mark)[2].strip()],
        4: [key + mark + b" " + draw.choice(TEXTS)],
        5: [change_number(lines[at], draw)],
        6: [key + mark + value + b" " + draw.choice(TEXTS)],
        7: [change_bytes(lines[at], draw)],
    }[draw.randrange(8)]
    return b"\n".join([*lines[:at], *new, *lines[at + 1 :]]) + data[4096:]


def _spot(data: bytes, draw: Random) -> tuple[int, int]:
    """Start and end of a part, mostly a short one."""
    start = draw.randrange(len(data))
    return start, min(len(data), start + draw.choice((1, 2, 4, 8, 16, 64, 256)))


def _flip(data: bytes, draw: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _replace(data: bytes, draw: Random) -> bytes:
    start, end = _spot(data, draw)
    size = end - start
    return data[:start] + draw.choice((bytes(size), b"\xff" * size, draw.randbytes(size))) + data[end:]


def _remove(data: bytes, draw: Random) -> bytes:
    start, end = _spot(data, draw)
    return data[:start] + data[end:]


def _repeat(data: bytes, draw: Random) -> bytes:
    start, end = _spot(data, draw)
    return data[:end] + data[start:end] * draw.choice((1, 1, 2, 50)) + data[end:]


def _exchange(data: bytes, draw: Random) -> bytes:
    return exchange(data, _spot(data, draw), _spot(data, draw))


def _insert(data: bytes, draw: Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.choice((1, 2, 4, 100))) + data[at:]


def _cut(data: bytes, draw: Random) -> bytes:
    return data[: draw.choice((draw.randrange(len(data)), max(0, len(data) - draw.randrange(1, 9))))]


def _put_integer(data: bytes, draw: Random) -> bytes:
    size, at = draw.choice((1, 2, 4, 8)), draw.randrange(len(data))
    return put(integer_bytes(draw, size), data, at)


def _put_float(data: bytes, draw: Random) -> bytes:
    return put(float_bytes(draw), data, draw.randrange(len(data)))


_CHANGES = (_flip, _flip, _replace, _remove, _repeat, _exchange, _insert, _cut, _put_integer, _put_integer,
            _put_float, change_number)  # fmt: skip


def change_json(text: bytes, draw: Random) -> bytes:
    """Change the structure of JSON, or now and then its text."""
    if draw.random() < 0.15:
        return change_bytes(text, draw)
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return change_bytes(text, draw)
    holder: list[object] = [tree]
    spots = [*_spots(holder)]
    parent, key = draw.choice(spots)
    _change_value(parent, key, draw, spots)
    try:
        changed = json.dumps(holder[0] if holder else None)
    except (ValueError, RecursionError):  # it holds itself
        return text
    if draw.random() < 0.05:
        changed = changed.replace("}", ', "a": 1, "a": 2}', 1).replace("{,", "{")
    return changed.encode("utf-8", "surrogatepass")


_Parent = dict[str, object] | list[object]


def _spots(holder: _Parent, depth: int = 0) -> list[tuple[_Parent, str | int]]:
    """Every place of a tree, as its parent and the key or index there."""
    found: list[tuple[_Parent, str | int]] = []
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    for key in cast("list[str | int]", keys):
        found.append((holder, key))
        value = holder[key]  # type: ignore[index]  # the key is one of the holder's
        if isinstance(value, dict | list) and depth < 20:
            found += _spots(cast("_Parent", value), depth + 1)
    return found


def _change_value(
    parent: _Parent, key: str | int, draw: Random, spots: list[tuple[_Parent, str | int]]
) -> None:
    value = parent[key]  # type: ignore[index]
    action = draw.randrange(8)
    if action == 0:
        del parent[key]  # type: ignore[arg-type]
        return
    if action == 1 and isinstance(parent, dict):
        parent[draw.choice((f"{key}x", "", str(key).upper(), "\ud800"))] = parent.pop(str(key))
        return
    if action == 2:
        other, at = draw.choice(spots)
        value = json.loads(json.dumps(other[at]))  # type: ignore[index]
    elif action == 3 and isinstance(value, list) and value:
        value = draw.choice((value[:-1], value * 2, [*value, value[0]], value[::-1], value * 300))
    elif action == 4 and isinstance(value, int | float) and not isinstance(value, bool):
        value = draw.choice((-value, value * 1e6, value / 3, float(value), str(value), value + 1))
    elif action == 5 and isinstance(value, str):
        value = draw.choice(
            (value[:-1], value.upper(), value + "\0", value * 500, f"../{value}", value[::-1])
        )
    else:
        value = _any_value(draw)
    parent[key] = value  # type: ignore[index]


def _any_value(draw: Random) -> object:
    deep: object = 0
    if draw.random() < 0.05:
        for _ in range(draw.choice((30, 300))):
            deep = [deep]
        return deep
    return draw.choice(_VALUES)


_VALUES: tuple[object, ...] = (None, True, False, "", "a", "\ud800", "\x1b[2J", "x" * 5000, [], {}, [[]],
                               {"a": 1}, [None], *INTEGERS, *FLOATS)  # fmt: skip
