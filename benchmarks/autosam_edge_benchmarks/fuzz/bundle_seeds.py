"""A small bundle with a network of a few operators, and how its files are changed."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import numpy as np

from autosam_edge.bundle import default_bundle_path
from autosam_edge.engines.model_file import OPERATORS
from autosam_edge.golden import GOLDEN
from autosam_edge.manifest import MANIFEST
from autosam_edge.parity import PARITY
from autosam_edge_benchmarks.fuzz.dicom_seeds import Files
from autosam_edge_benchmarks.fuzz.mutations import (
    INTEGERS,
    change_bytes,
    change_json,
    float_bytes,
    integer_bytes,
    put,
    several,
)
from autosam_edge_benchmarks.fuzz.volume_seeds import change_archive, zip_of

ONNX = "onnx/fp32.onnx"
_ORGANS, _SIDE = 2, 16
_FLOAT, _INT64 = 1, 7  # types of TensorProto
_OTHER_OPERATORS = ("Loop", "If", "Scan", "Where", "Range", "Tile", "RandomNormal")

Message = list[tuple[int, Any]]
"""Fields of a message of Protocol Buffers: number, and a number, bytes or a message."""


def _message(fields: Message) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(_number(number << 3) + _number(value % (1 << 64)))
        else:
            content = _message(value) if isinstance(value, list) else value
            parts.append(_number(number << 3 | 2) + _number(len(content)) + content)
    return b"".join(parts)


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _tensor(name: str, dims: tuple[int, ...], values: bytes, kind: int = _FLOAT) -> tuple[int, Message]:
    return 5, [*((1, side) for side in dims), (2, kind), (8, name.encode()), (9, values)]


def _node(operator: str, inputs: str, output: str, **attributes: int | list[int]) -> tuple[int, Message]:
    fields: Message = [(1, name.encode()) for name in inputs.split()] + [(2, output.encode())]
    fields += [(4, operator.encode())]
    for name, value in attributes.items():
        kind: Message = [(3, value), (20, 2)]
        if isinstance(value, list):
            kind = [*((8, one) for one in value), (20, 7)]
        fields.append((5, [(1, name.encode()), *kind]))
    return 1, fields


def _interface(field: int, name: str, channels: int) -> tuple[int, Message]:
    dims: Message = [(1, [(1, side)]) for side in (1, channels, _SIDE, _SIDE, _SIDE)]
    return field, [(1, name.encode()), (2, [(1, [(1, _FLOAT), (2, dims)])])]


def _model() -> Message:
    """Operators of which each has numbers that can ask for much: sizes, steps, pads, shapes, axes."""
    classes = _ORGANS + 1
    small = (1, 2, _SIDE // 2, _SIDE // 2, _SIDE // 2)
    graph: Message = [
        _node("Conv", "image_hu weights", "a", kernel_shape=[3, 3, 3], pads=[1] * 6, strides=[2] * 3),
        _node("Reshape", "a shape", "b"),
        _node("Relu", "b", "c"),
        _node("ConvTranspose", "c back", "d", kernel_shape=[2, 2, 2], strides=[2] * 3),
        _node("Pad", "d pads", "e"),
        _node("Expand", "e wide", "f"),
        _node("Softmax", "f", "logits", axis=1),
        (2, b"net"),
        _tensor("weights", (2, 1, 3, 3, 3), np.full(54, 0.01, "<f4").tobytes()),
        _tensor("back", (2, classes, 2, 2, 2), np.full(16 * classes, 0.1, "<f4").tobytes()),
        _tensor("shape", (5,), struct.pack("<5q", *small), _INT64),
        _tensor("pads", (10,), bytes(80), _INT64),
        _tensor("wide", (5,), struct.pack("<5q", 1, classes, _SIDE, _SIDE, _SIDE), _INT64),
        _interface(11, "image_hu", 1),
        _interface(12, "logits", classes),
    ]
    return [(1, 8), (2, b"fuzz"), (7, graph), (8, [(1, b""), (2, 17)])]


def _arrays() -> tuple[dict[str, Any], Files]:
    """``golden.json`` and its arrays; they are well formed, their values need not be right."""
    classes, patch = _ORGANS + 1, (_SIDE,) * 3
    hu = (np.arange(5 * 8 * 9, dtype="<i2") - 90).reshape(5, 8, 9)
    tile = np.zeros(patch, "<i2")
    sampled = np.zeros((classes, 4, 4, 4), "<f4")
    parts: dict[str, dict[str, Any]] = {
        "scan": {
            "hu": hu,
            "affine": np.diag([3.0, 3.0, 3.0, 1.0]).tolist(),
            "stride": 2,
            "model_hu": hu[::2, ::2, ::2].astype("<f4"),
            "labels": np.zeros(hu.shape, "|u1"),
            "short_slices": [1, 3],
            "short_labels": np.zeros((2, 8, 9), "|u1"),
            "centers_hu": [-125.0, 75.0, 275.0],
            "width_hu": 25.0,
            "reach_rows": 2,
        },
        "ends": {
            "patch": list(patch),
            "short_hu": hu,
            "short_tile": tile,
            "long_hu": tile,
            "long_tile": tile,
        },
        "decision": {"probabilities": sampled, "labels": np.zeros((4, 4, 4), "|u1")},
        "tile": {"hu": tile, "stride": 4, "logits": sampled},
    }
    files: Files = {}
    for part, entries in parts.items():
        for key, value in entries.items():
            if isinstance(value, np.ndarray):
                name = f"golden/{part}_{key}"
                files[name] = np.ascontiguousarray(value).tobytes()
                entries[key] = {"file": name, "dtype": value.dtype.str, "shape": list(value.shape)}
    return parts, files


@cache
def _bundle() -> tuple[dict[str, Any], Files]:
    """Manifest without hashes, and the other files; nobody changes them."""
    golden, files = _arrays()
    artifact = {"target": "onnx", "precision": "fp32"}
    files[GOLDEN] = json.dumps(golden).encode()
    files[PARITY] = json.dumps([{**artifact, "tolerance": {"logit_rms": 0.001}}]).encode()
    files[ONNX] = _message(_model())
    manifest = json.loads((default_bundle_path() / MANIFEST).read_text())
    manifest["labels"] = manifest["labels"][:_ORGANS]
    manifest["postprocess"] = {
        "one_part": [manifest["labels"][0]["name"]],
        "decision_weights": {manifest["labels"][1]["name"]: 2.0},
    }
    offsets = manifest["confidence"]["offsets"]
    manifest["confidence"]["offsets"] = {
        label["name"]: offsets[label["name"]] for label in manifest["labels"]
    }
    manifest["input"] |= {"patch": [_SIDE] * 3, "spacing_mm": [3.0] * 3, "overlap": 0.25}
    measured = {"proof": "executed", "worst_organ_dice": 1.0, "working_set_mb": 50.0, "relative_time": 1.0}
    manifest["artifacts"] = [{**artifact, "path": ONNX, **measured}]
    manifest["provenance"] = {"student": "none"}
    return manifest, files


def bundle_with(changed: Files) -> Files:
    """The small bundle with other files, whose hashes the manifest has."""
    manifest, files = _bundle()
    files_now = {**files, **changed}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files_now.items()}
    return {MANIFEST: json.dumps({**manifest, "files": hashes}).encode(), **files_now}


def _in_folder(files: Files) -> Files:
    return {f"in.edge/{name}": data for name, data in files.items()}


def _with_changed(name: str, change: Callable[[bytes, Random], bytes], draw: Random) -> Files:
    """The bundle with one file changed; the manifest has the hash of what it holds then."""
    return _in_folder(bundle_with({name: several(change, _bundle()[1][name], draw)}))


def change_manifest(draw: Random) -> Files:
    """Values and structure of the manifest."""
    files = bundle_with({})
    files[MANIFEST] = several(change_json, files[MANIFEST], draw)
    return _in_folder(files)


def change_golden(draw: Random) -> Files:
    """``golden.json``, or an array."""
    if draw.random() < 0.75:
        return _with_changed(GOLDEN, change_json, draw)
    arrays = [name for name in _bundle()[1] if name.startswith("golden/") and name != GOLDEN]
    return _with_changed(draw.choice(arrays), change_bytes, draw)


def change_parity(draw: Random) -> Files:
    """Values and structure of ``parity.json``."""
    return _with_changed(PARITY, change_json, draw)


def change_onnx(draw: Random) -> Files:
    """Fields and values of the model, or its bytes."""
    if draw.random() < 0.3:
        return _with_changed(ONNX, change_bytes, draw)
    model = _model()
    for _ in range(draw.choice((1, 1, 2, 3))):
        _change_field(model, draw)
    return _in_folder(bundle_with({ONNX: _message(model)}))


def change_bundle_zip(draw: Random) -> Files:
    """A bundle in one file: the archive is changed."""
    return {"in.edge": several(change_archive, zip_of(bundle_with({})), draw)}


def _fields(message: Message) -> list[tuple[Message, int]]:
    """Every field of a message and of those in it, as its message and its index there."""
    found = []
    for index, (_, value) in enumerate(message):
        found.append((message, index))
        if isinstance(value, list):
            found += _fields(value)
    return found


def _change_field(model: Message, draw: Random) -> None:
    spots = _fields(model)
    if not spots:
        return
    message, index = draw.choice(spots)
    number, value = message[index]
    other, at = draw.choice(spots)
    action = draw.randrange(8)
    if action == 0:
        del message[index]
    elif action == 1:
        message.insert(index, message[index])
    elif action == 2:
        message[index] = (number, other[at][1] if not isinstance(other[at][1], list) else b"")
    elif action == 3:
        message[index] = (draw.choice((*range(1, 22), 2**28)), value)
    elif isinstance(value, int):
        message[index] = (number, draw.choice(INTEGERS))
    elif isinstance(value, bytes):
        message[index] = (number, _other_bytes(value, draw))
    else:
        message.append((draw.randrange(1, 22), draw.choice((1, b"x", integer_bytes(draw, 8)))))


def _other_bytes(value: bytes, draw: Random) -> bytes:
    if value.decode("latin-1") in OPERATORS:
        return draw.choice((*sorted(OPERATORS), *_OTHER_OPERATORS)).encode()
    at = 8 * draw.randrange(max(1, len(value) // 8))
    new = draw.choice(
        (integer_bytes(draw, 8), struct.pack("<q", draw.choice((2, 64, 4096))), float_bytes(draw))
    )
    return draw.choice((put(new, value, at), change_bytes(value, draw)))


CHANGES: dict[str, Callable[[Random], Files]] = {
    "manifest": change_manifest,
    "golden": change_golden,
    "parity": change_parity,
    "onnx": change_onnx,
    "bundle-zip": change_bundle_zip,
}
"""What makes one input of each kind."""
