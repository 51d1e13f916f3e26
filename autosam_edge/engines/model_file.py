"""What a model's file may hold, checked in its bytes before a runtime sees it.

The SHA-256 in the manifest covers the files of an artifact. So nothing outside of them may be loaded, and no
operator may loop without end or call code of somebody else. The format is told by the content.

- ONNX: every field of the messages in onnx.proto that is not listed here is refused, among them functions,
  graphs inside nodes, and data in other files.
- Core ML: the three files of a package with one ML program. What the program holds is not looked into.
- ExecuTorch: the signature of a program. What it holds is not looked into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from autosam_edge.error_codes import MODEL_FILE_REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Format = Literal["ONNX", "Core ML", "ExecuTorch"]
# Arithmetic; layers; activations; arrangement; number formats.
_NAMES = """
Abs Add Cast Clip Div Erf Exp Identity Max Min Mul Neg Pow Reciprocal Sqrt Sub
Attention AveragePool BatchNormalization Conv ConvTranspose Gemm GlobalAveragePool GroupNormalization
InstanceNormalization LayerNormalization MatMul MaxPool ReduceMax ReduceMean ReduceSum Resize
Elu Gelu HardSigmoid HardSwish LeakyRelu PRelu Relu Sigmoid Softmax Softplus Tanh
Concat Constant DepthToSpace Expand Flatten Gather Pad Reshape Shape Slice SpaceToDepth Split Squeeze
Transpose Unsqueeze
DequantizeLinear QuantizeLinear
"""
OPERATORS = frozenset(_NAMES.split())
"""Operators of ONNX that a model may use: none repeats, branches, or holds a graph of its own."""

# Fields that a message may have, by their numbers in onnx.proto and Core ML's Model.proto. The value names
# the message in the field or what its value must be; empty: anything.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {**dict.fromkeys((1, 2, 3, 4, 5, 6, 14), ""), 7: "graph", 8: "operator set"},
    "operator set": {1: "domain", 2: ""},
    "graph": {**dict.fromkeys((2, 10, 11, 12, 13, 16), ""), 1: "node", 5: "tensor"},
    "node": {**dict.fromkeys((1, 2, 3, 6, 9), ""), 4: "operator", 5: "attribute", 7: "domain"},
    "attribute": {**dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 13, 20), ""), 5: "tensor"},
    "tensor": {**dict.fromkeys((1, 2, 4, 5, 7, 8, 9, 12, 16), ""), 14: "location"},
    "Core ML model": {1: "", 2: "", 502: ""},  # version, description, ML program
}
_MAX_FIELDS = 1_000_000
_CORE_ML_FILES = {
    "Manifest.json",
    "Data/com.apple.CoreML/model.mlmodel",
    "Data/com.apple.CoreML/weights/weight.bin",
}
# Signatures at byte 4 of formats that runtimes of ONNX read too: ONNX Runtime's own, and TensorFlow Lite.
_OTHER_FORMATS = (b"ORTM", b"TFL3")
_EXECUTORCH = b"ET12"


def check_model_file(file_format: Format, model: Mapping[str, bytes]) -> None:
    """Refuse a model that is not of its format, or that holds what none may hold.

    Args:
        model: Content of the artifact's files by name; a single file has the name ``""``.

    Raises:
        BundleError: The model is refused (AE-BUNDLE-007).
    """
    try:
        if file_format == "Core ML":
            if not set(model) <= _CORE_ML_FILES:
                raise ValueError("it holds other files than those of a package")
            _walk("Core ML model", memoryview(model.get("Data/com.apple.CoreML/model.mlmodel", b"")), [0])
            return
        if set(model) != {""}:
            raise ValueError("it is a folder")
        start = model[""][:8]
        if file_format == "ExecuTorch":
            if start[4:] != _EXECUTORCH:
                raise ValueError("it has another signature")
            return
        if start[:1] != b"\x08" or start[4:] in _OTHER_FORMATS:  # every writer puts ir_version first
            raise ValueError("it has another signature")
        _walk("model", memoryview(model[""]), [0])
    except ValueError as error:
        raise MODEL_FILE_REFUSED(
            f"the file of the model is no allowed {file_format} model: {error}."
        ) from error


def _walk(message: str, data: memoryview, count: list[int]) -> None:
    """Check a message and those in it.

    Args:
        message: Kind of message, a key of ``_FIELDS``.
        data: Its bytes.
        count: Number of fields so far, in one element.

    Raises:
        ValueError: A field is not allowed, or the bytes are no such message.
    """
    for number, value in _read_fields(data):
        count[0] += 1
        if count[0] > _MAX_FIELDS:
            raise ValueError("it has too many parts")
        kind = _FIELDS[message].get(number)
        if kind is None:
            raise ValueError(f"{message} has the field {number}, which is not allowed")
        if kind == "location":
            if value != 0:
                raise ValueError("it has data outside of the file")
        elif kind:
            if isinstance(value, int):
                raise ValueError(f"{message} has a number in place of {kind}")
            _check_text(kind, bytes(value)) if kind in ("operator", "domain") else _walk(kind, value, count)


def _check_text(kind: str, value: bytes) -> None:
    text = value[:40].decode("ascii", "replace")
    if text not in (OPERATORS if kind == "operator" else ("", "ai.onnx")):
        raise ValueError(f"the {kind} {text!r} is not allowed")


def _read_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message of Protocol Buffers; a value of fixed width as bytes."""
    place = 0
    while place < len(data):
        tag, place = _read_number(data, place)
        wire = tag & 7
        if wire == 0:
            value, place = _read_number(data, place)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, place = _read_number(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("its encoding is damaged")
        if size > len(data) - place:
            raise ValueError("it ends too early")
        yield tag >> 3, data[place : place + size]
        place += size


def _read_number(data: memoryview, place: int) -> tuple[int, int]:
    """A number of variable length, and the place after it."""
    number = 0
    for shift, byte in enumerate(data[place : place + 10]):
        number |= (byte & 127) << (7 * shift)
        if byte < 128:
            return number, place + shift + 1
    raise ValueError("its encoding is damaged")
