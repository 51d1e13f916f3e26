"""highdicom's table of the attributes of all DICOM modules, parsed only as far as highdicom asks.

highdicom 0.28 has it as 22 MB of JSON, and parses all of it for the first object that it makes. That takes
half a second and 65 MB, and as much time again when the program ends. A segmentation of CT images needs a
thirtieth of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

_KEY = '\n  "'  # a key of the outermost object, in JSON that is indented by two spaces


class ModuleTable(Mapping[str, list[Any]]):
    """The values of one indented JSON object, each parsed when it is asked for.

    Args:
        text: The JSON text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: dict[str, int] = {}
        self._parsed: dict[str, list[Any]] = {}
        end = 0
        while (begin := text.find(_KEY, end)) >= 0:
            begin += len(_KEY)
            end = text.index('"', begin)
            self._starts[text[begin:end]] = end + len('": ')

    def __getitem__(self, key: str) -> list[Any]:
        if key not in self._parsed:
            self._parsed[key], _ = json.JSONDecoder().raw_decode(self._text, self._starts[key])
        return self._parsed[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._starts)

    def __len__(self) -> int:
        return len(self._starts)


def parse_on_demand() -> None:
    """Give highdicom a :class:`ModuleTable`, which it keeps; leave a release of another build alone."""
    try:
        from highdicom import _standard_utils as tables

        plain, read = tables.json, tables.get_module_attribute_map
    except (ImportError, AttributeError):  # up to 0.27 the table is Python code
        return
    tables.json = SimpleNamespace(loads=_load)
    try:
        read()
    finally:
        tables.json = plain


def _load(text: str) -> Mapping[str, list[Any]]:
    table: Mapping[str, list[Any]] = ModuleTable(text) if _KEY in text else json.loads(text)
    return table
