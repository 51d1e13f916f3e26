"""JSON Schema (draft 2020-12) of a frozen dataclass; run this file to write ``row.schema.json``."""

from __future__ import annotations

import inspect
import json
import re
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from autosam_edge_benchmarks.rows.row import BenchRow

SCHEMA_FILE = Path(__file__).with_name("row.schema.json")
_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)


def row_schema() -> str:
    """The schema of a row as the text of its file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "autosam-edge bench row"}
    text = json.dumps({**schema, **_schema(BenchRow)}, indent=1)
    for innermost in (r"\[\n[^{}\[\]]*\]", r"\{\n[^{}]*\}"):
        text = re.sub(innermost, lambda part: " ".join(part.group().split()), text)
    return text + "\n"


def _schema(hint: Any) -> dict[str, Any]:  # noqa: ANN401  a type
    origin, parts = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _object(hint)
    if origin in (Union, types.UnionType):
        if all(part in _SCALARS for part in parts):
            return {"type": [_SCALARS[part] for part in parts]}
        return {"anyOf": [_schema(part) for part in parts]}
    if origin is Literal:
        return {"enum": list(parts)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(parts[1])}
    if origin is tuple and parts[-1] is Ellipsis:
        return {"type": "array", "items": _schema(parts[0])}
    if origin is tuple:
        exact = {"minItems": len(parts), "maxItems": len(parts)}
        return {"type": "array", "prefixItems": [_schema(part) for part in parts], **exact}
    return {"type": _SCALARS[hint]}


def _object(kind: Any) -> dict[str, Any]:  # noqa: ANN401  a dataclass
    hints, text = get_type_hints(kind), inspect.cleandoc(kind.__doc__)
    told = {name: " ".join(words.split()) for name, words in _ARGUMENT.findall(text.partition("Args:")[2])}
    properties = {
        field.name: {
            **({"description": told[field.name]} if field.name in told else {}),
            **_schema(hints[field.name]),
        }
        for field in fields(kind)
    }
    return {
        "type": "object",
        "description": text.partition("\n")[0],
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(row_schema())
