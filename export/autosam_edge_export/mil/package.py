"""Reads a Core ML ``mlprogram`` package: its program, and its constants as they are stored.

The schema is coremltools' (``mlmodel/format/MIL.proto``), the weight file's layout is MIL blob storage
version 2 (``mlmodel/src/MILBlob/Blob/StorageFormat.hpp`` of github.com/apple/coremltools): a header of 64
bytes, then records of 64 bytes, each with a sentinel, the data type, and the size and offset of the data.
Values of less than a byte are packed from the least significant bit on, and their record counts the bits that
are left over.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from autosam_edge.errors import AutosamEdgeError
from autosam_edge_export.convert.quiet import quiet
from autosam_edge_export.error_codes import COREML_DAMAGED

Constant = npt.NDArray[np.generic] | str

_HEADER = struct.Struct("<II56x")  # number of records, version
_RECORD = struct.Struct("<IIQQQ32x")  # sentinel, data type, bytes, offset, bits left over
_SENTINEL = 0xDEADBEEF


@dataclass(frozen=True)
class _StoredType:
    """A data type: its name, the bits of a value, and its number in the weight file (0 if it has none)."""

    name: str
    bits: int
    code: int = 0

    @property
    def array(self) -> np.dtype[Any]:
        """What holds the values here."""
        return np.dtype(self.name if self.bits >= 8 else self.name.rstrip("12346") + "8")


# By the number of MIL.proto's DataType.
_TYPES = {
    1: _StoredType("bool", 8),
    10: _StoredType("float16", 16, 1),
    11: _StoredType("float32", 32, 2),
    21: _StoredType("int8", 8, 4),
    22: _StoredType("int16", 16, 6),
    23: _StoredType("int32", 32, 14),
    25: _StoredType("int4", 4, 8),
    31: _StoredType("uint8", 8, 3),
    32: _StoredType("uint16", 16, 7),
    33: _StoredType("uint32", 32, 15),
    35: _StoredType("uint4", 4, 11),
    36: _StoredType("uint2", 2, 10),
    37: _StoredType("uint1", 1, 9),
    38: _StoredType("uint6", 6, 13),
    39: _StoredType("uint3", 3, 12),
}
_STRING = 2


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the program: its name, its type (``float16``, ``int32``, ...) and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One step of the program.

    Args:
        inputs: Names of the arguments by parameter; several if the parameter is a tuple.
    """

    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class MilProgram:
    """The function ``main`` of a package.

    Args:
        spec_version: Version of the model's format: 8 for iOS 17, 9 for iOS 18.
        metadata: Metadata that the converter and the export wrote into the model.
        operations: Operations in their order, without ``const``.
        constants: Constants by name: arrays as they are stored, and strings.
    """

    spec_version: int
    metadata: Mapping[str, str]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operations: tuple[Operation, ...]
    constants: Mapping[str, Constant]


def damaged(what: str) -> AutosamEdgeError:
    """The error for a package that cannot be read rightly."""
    return COREML_DAMAGED(f"the Core ML package is damaged: {what}.")


def read_package(files: Mapping[str, bytes]) -> MilProgram:
    """Read a package.

    Args:
        files: Contents by the path in the ``.mlpackage`` folder.

    Returns:
        Its program; arrays are views of ``files``.

    Raises:
        ExportError: A file is missing, is no ML program, or its weights do not fit what the program says of
            them (AE-EXPORT-009).
    """
    path = _model_path(files)
    model = _parse(_file(files, path))
    functions = model.mlProgram.functions
    if model.WhichOneof("Type") != "mlProgram" or set(functions) != {"main"}:
        raise damaged("it is no ML program with the one function main")
    main = functions["main"]
    if main.opset not in main.block_specializations:
        raise damaged(f"the function has no block for its opset {main.opset}")
    block = main.block_specializations[main.opset]
    constants: dict[str, Constant] = {}
    operations = []
    for proto in block.operations:
        if proto.type == "const":
            constants[proto.outputs[0].name] = _constant(proto.attributes["val"], files, path)
        else:
            operations.append(_operation(proto, constants, files, path))
    inputs = tuple(_tensor_info(entry) for entry in main.inputs)
    made = {info.name: info for operation in operations for info in operation.outputs}
    if absent := [name for name in block.outputs if name not in made]:
        raise damaged(f"no operation makes the output {absent[0]}")
    outputs = tuple(made[name] for name in block.outputs)
    metadata = dict(model.description.metadata.userDefined)
    return MilProgram(model.specificationVersion, metadata, inputs, outputs, tuple(operations), constants)


def _model_path(files: Mapping[str, bytes]) -> PurePosixPath:
    """The model's path, by the manifest."""
    try:
        manifest = json.loads(_file(files, PurePosixPath("Manifest.json")))
        return PurePosixPath("Data", manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged("Manifest.json names no model") from error


def _file(files: Mapping[str, bytes], path: PurePosixPath) -> bytes:
    if str(path) not in files:
        raise damaged(f"it has no {path}")
    return files[str(path)]


def _parse(data: bytes) -> Any:  # noqa: ANN401 - coremltools ships no types
    """The model's protobuf message."""
    with quiet():  # importing coremltools loads half of the converters that are installed
        from coremltools.proto import Model_pb2
        from google.protobuf.message import DecodeError
    try:
        return Model_pb2.Model.FromString(data)
    except DecodeError as error:
        raise damaged("the model is no protobuf message of Core ML") from error


def _operation(
    proto: Any,  # noqa: ANN401
    constants: dict[str, Constant],
    files: Mapping[str, bytes],
    path: PurePosixPath,
) -> Operation:
    """An operation; values that it carries itself become constants with names of their own."""
    outputs = tuple(_tensor_info(entry) for entry in proto.outputs)
    inputs: dict[str, tuple[str, ...]] = {}
    carried: dict[str, object] = {}
    for parameter, argument in proto.inputs.items():
        names = [
            binding.name or f"{outputs[0].name}:{parameter}:{i}"
            for i, binding in enumerate(argument.arguments)
        ]
        carried |= {
            name: binding.value
            for name, binding in zip(names, argument.arguments, strict=True)
            if not binding.name
        }
        inputs[parameter] = tuple(names)
    for parameter, value in proto.attributes.items():
        if parameter != "name":
            inputs[parameter] = (f"{outputs[0].name}:{parameter}",)
            carried[inputs[parameter][0]] = value
    constants |= {name: _constant(value, files, path) for name, value in carried.items()}
    return Operation(proto.type, inputs, outputs)


def _tensor_info(proto: Any) -> TensorInfo:  # noqa: ANN401
    kind = proto.type.tensorType
    return TensorInfo(proto.name, _stored_type(kind.dataType).name, _shape(kind))


def _stored_type(number: int) -> _StoredType:
    if number not in _TYPES:
        raise damaged(f"it has tensors of the data type {number}, which is not known")
    return _TYPES[number]


def _shape(kind: Any) -> tuple[int, ...]:  # noqa: ANN401
    if any(dimension.WhichOneof("dimension") != "constant" for dimension in kind.dimensions):
        raise damaged("a tensor has no fixed shape")
    return tuple(int(dimension.constant.size) for dimension in kind.dimensions)


def _constant(value: Any, files: Mapping[str, bytes], path: PurePosixPath) -> Constant:  # noqa: ANN401
    """A constant from the program itself or from the weight file."""
    kind = value.type.tensorType
    if value.WhichOneof("value") == "blobFileValue":
        place = PurePosixPath(value.blobFileValue.fileName)
        data = _file(files, path.parent.joinpath(*place.parts[1:]))  # the first part is @model_path
        return _read_weight(data, value.blobFileValue.offset, _stored_type(kind.dataType), _shape(kind))
    tensor = value.immediateValue.tensor
    field = tensor.WhichOneof("value")
    if field is None:
        raise damaged("a constant is no tensor")
    values = getattr(tensor, field).values
    if kind.dataType == _STRING:
        return str(values[0])
    stored, shape = _stored_type(kind.dataType), _shape(kind)
    if field == "bytes":
        return _decode(values, stored, shape)
    if len(values) != math.prod(shape):
        raise damaged(f"a constant of the shape {shape} has {len(values)} values")
    return np.array(values, dtype=stored.array).reshape(shape)


def _read_weight(
    data: bytes, offset: int, stored: _StoredType, shape: tuple[int, ...]
) -> npt.NDArray[np.generic]:
    """One entry of the weight file, whose record is at ``offset``."""
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[1] != 2:
        raise damaged("the weight file is not of version 2")
    if offset % _RECORD.size or offset + _RECORD.size > len(data):
        raise damaged(f"no record can be at the offset {offset} of the weight file")
    sentinel, code, size, start, left_over = _RECORD.unpack_from(data, offset)
    if sentinel != _SENTINEL:
        raise damaged(f"the record at the offset {offset} of the weight file has no sentinel")
    if code != stored.code:
        raise damaged(
            f"the record at the offset {offset} of the weight file is of the type {code}, not {stored.name}"
        )
    if start + size > len(data):
        raise damaged(f"the record at the offset {offset} of the weight file points outside of it")
    if stored.bits < 8 and left_over != size * 8 - math.prod(shape) * stored.bits:
        raise damaged(f"the record at the offset {offset} of the weight file leaves {left_over} bits over")
    return _decode(data[start : start + size], stored, shape)


def _decode(data: bytes, stored: _StoredType, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """Values from their bytes, which must be as many as the shape needs."""
    count = math.prod(shape)
    if len(data) != (count * stored.bits + 7) // 8:
        raise damaged(f"{len(data)} bytes do not hold the shape {shape} in {stored.name}")
    if stored.bits >= 8:
        return np.frombuffer(data, dtype=stored.array).reshape(shape)
    values = unpack_bits(np.frombuffer(data, dtype=np.uint8), stored.bits, count)
    if stored.array == np.int8:
        signed = values.astype(np.int8)
        return np.where(signed < 1 << (stored.bits - 1), signed, signed - (1 << stored.bits)).reshape(shape)
    return values.reshape(shape)


def unpack_bits(packed: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """``count`` unsigned values of ``bits`` bits, 8 at most, packed from the least significant bit on.

    Raises:
        ExportError: There are fewer (AE-EXPORT-009).
    """
    if packed.size * 8 < count * bits:
        raise damaged(f"{packed.size} bytes do not hold {count} values of {bits} bits")
    split = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    values = np.zeros(count, dtype=np.uint8)
    for bit in range(bits):
        values |= split[:, bit] << np.uint8(bit)
    return values
