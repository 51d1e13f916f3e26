"""A Core ML package is read as it is stored, or refused."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from autosam_edge_test_mil import MODEL, WEIGHTS, bits, build, mb
from coremltools.proto import Model_pb2

from autosam_edge.errors import ExportError
from autosam_edge_export.mil import Interpreter, read_package
from autosam_edge_export.mil.package import unpack_bits

RANDOM = np.random.default_rng(0)
SINGLE = RANDOM.normal(size=(3, 5)).astype(np.float32)
HALF = RANDOM.normal(size=(3, 5)).astype(np.float16)
EIGHT = RANDOM.integers(-128, 128, (3, 5)).astype(np.int8)
PACKED = RANDOM.integers(0, 256, 12).astype(np.uint8)
TABLE = RANDOM.normal(size=64).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Adds four constants to its input: single, half, eight bits and six bits."""

    def program(x):
        eight = mb.constexpr_affine_dequantize(
            quantized_data=EIGHT, zero_point=np.int8(0), scale=np.float32(0.5), axis=np.int32(0)
        )
        six = mb.constexpr_lut_to_dense(indices=PACKED, lut=TABLE, shape=np.uint32([3, 5]))
        for constant in (SINGLE, mb.cast(x=mb.const(val=HALF), dtype="fp32"), eight, six):
            x = mb.add(x=x, y=constant)
        return x

    return build(program, (3, 5), tmp_path_factory.mktemp("mil"))


def test_constants_are_read_as_they_are_stored(files):
    """Every one in its type, and the facts of the program."""
    program = read_package(files)
    arrays = [value for value in program.constants.values() if isinstance(value, np.ndarray)]
    for expected in (SINGLE, HALF, EIGHT, PACKED, TABLE):
        assert any(array.dtype == expected.dtype and np.array_equal(array, expected) for array in arrays)
    assert program.spec_version == 8
    assert program.metadata["license"] == "none"
    assert [(info.dtype, info.shape) for info in (*program.inputs, *program.outputs)] == [
        ("float32", (3, 5))
    ] * 2
    assert {operation.type for operation in program.operations} >= {
        "add",
        "constexpr_affine_dequantize",
        "constexpr_lut_to_dense",
    }


def test_the_sum_is_that_of_the_constants(files):
    """Six bits are taken from the least significant on: three bytes hold four values."""
    whole = int.from_bytes(PACKED.tobytes(), "little")
    six = TABLE[[(whole >> (6 * i)) & 63 for i in range(15)]].reshape(3, 5)
    found = Interpreter(files).run(torch.zeros(3, 5)).numpy()
    np.testing.assert_allclose(found, SINGLE + HALF.astype(np.float32) + EIGHT * 0.5 + six, rtol=1e-5)


def records(weights):
    """By data type the offset of a record and where its data start."""
    found, offset = {}, 64
    for _ in range(struct.unpack_from("<I", weights)[0]):
        _, code, size, start = struct.unpack_from("<IIQQ", weights, offset)
        found[code] = (offset, start)
        offset = (start + size + 63) // 64 * 64
    return found


@pytest.mark.parametrize("code", [1, 2, 3, 4], ids=["half", "single", "uint8", "int8"])
def test_one_byte_of_a_weight_changes_the_result(files, code):
    """In whatever type it is stored."""
    weights = bytearray(files[WEIGHTS])
    weights[records(weights)[code][1] + 1] ^= 0x14
    before, after = (
        Interpreter({**files, WEIGHTS: bytes(data)}).run(torch.zeros(3, 5))
        for data in (files[WEIGHTS], weights)
    )
    assert 1 <= int((before != after).sum()) <= 2


@pytest.mark.parametrize(
    ("place", "layout", "value", "words"),
    [
        (0, "<I", 0xDEADBEEE, "has no sentinel"),
        (4, "<I", 1, "is of the type 1, not float32"),
        (8, "<Q", 56, "56 bytes do not hold the shape"),
        (8, "<Q", 1 << 40, "points outside"),
        (16, "<Q", 1 << 40, "points outside"),
    ],
)
def test_a_damaged_record_is_refused(files, place, layout, value, words):
    """Sentinel, type, size and offset."""
    weights = bytearray(files[WEIGHTS])
    struct.pack_into(layout, weights, records(weights)[2][0] + place, value)
    with pytest.raises(ExportError, match=f"AE-EXPORT-009: .*{words}"):
        read_package({**files, WEIGHTS: bytes(weights)})


def test_a_weight_file_of_another_version_is_refused(files):
    """The second number of its header."""
    weights = bytearray(files[WEIGHTS])
    struct.pack_into("<I", weights, 4, 1)
    with pytest.raises(ExportError, match="AE-EXPORT-009: .*not of version 2"):
        read_package({**files, WEIGHTS: bytes(weights)})


def altered(files, change):
    model = Model_pb2.Model.FromString(files[MODEL])
    change(model.mlProgram.functions["main"], model)
    return {**files, MODEL: model.SerializeToString()}


def stored(main):
    """The constants of a program that stand in the weight file."""
    operations = main.block_specializations[main.opset].operations
    constants = [operation.attributes["val"] for operation in operations if operation.type == "const"]
    return [value for value in constants if value.HasField("blobFileValue")]


def test_a_record_of_six_bits_says_what_is_left_over(files):
    """The 60 bytes of the constant, read as 80 values of six bits, or as 79 with six bits left over."""

    def narrow(count):
        def change(main, model):
            offset, _ = records(files[WEIGHTS])[2]
            value = next(value for value in stored(main) if value.blobFileValue.offset == offset)
            value.type.tensorType.dataType = 38
            del value.type.tensorType.dimensions[1]
            value.type.tensorType.dimensions[0].constant.size = count

        return altered(files, change)

    weights = bytearray(files[WEIGHTS])
    offset, start = records(weights)[2]
    whole = int.from_bytes(weights[start : start + 60], "little")
    for count, left_over in ((80, 0), (79, 6)):
        struct.pack_into("<I", weights, offset + 4, 13)
        struct.pack_into("<Q", weights, offset + 24, left_over)
        program = read_package({**narrow(count), WEIGHTS: bytes(weights)})
        expected = [(whole >> (6 * i)) & 63 for i in range(count)]
        assert any(
            np.array_equal(value, expected)
            for value in program.constants.values()
            if isinstance(value, np.ndarray)
        )
    with pytest.raises(ExportError, match="AE-EXPORT-009: .*leaves 6 bits over"):
        read_package({**narrow(80), WEIGHTS: bytes(weights)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda main, _: setattr(stored(main)[0].blobFileValue, "offset", 65), "can be at the offset 65"),
        (lambda main, _: setattr(stored(main)[0].blobFileValue, "offset", 1 << 40), "no record can be at"),
        (
            lambda main, _: setattr(stored(main)[0].blobFileValue, "fileName", "@model_path/weights/b.bin"),
            "it has no .*b.bin",
        ),
        (lambda main, _: setattr(stored(main)[0].type.tensorType, "dataType", 24), "data type 24"),
        (lambda main, model: setattr(main, "opset", "CoreML1"), "no block for its opset"),
        (lambda main, model: model.mlProgram.functions["second"].CopyFrom(main), "one function main"),
        (
            lambda main, model: main.block_specializations[main.opset].outputs.append("nothing"),
            "makes the output nothing",
        ),
        (
            lambda main, model: main.inputs[0].type.tensorType.dimensions[0].unknown.SetInParent(),
            "no fixed shape",
        ),
    ],
)
def test_a_damaged_program_is_refused(files, change, words):
    """With what is wrong."""
    with pytest.raises(ExportError, match=f"AE-EXPORT-009: .*{words}"):
        read_package(altered(files, change))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("Manifest.json", b"{}", "names no model"),
        ("Manifest.json", b"nonsense", "names no model"),
        (MODEL, b"\xff\xff", "no protobuf message"),
        (MODEL, b"", "no ML program"),
        (WEIGHTS, b"", "not of version 2"),
    ],
)
def test_a_damaged_file_is_refused(files, name, data, words):
    """Or one that is missing."""
    with pytest.raises(ExportError, match=f"AE-EXPORT-009: .*{words}"):
        read_package({**files, name: data})
    with pytest.raises(ExportError, match=f"AE-EXPORT-009: .*it has no {name}"):
        read_package({key: value for key, value in files.items() if key != name})


def test_the_manifest_says_where_the_model_is(files):
    """Also in another folder, with its weights beside it."""
    manifest = json.loads(files["Manifest.json"])
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "elsewhere/model.mlmodel"
    moved = {"Manifest.json": json.dumps(manifest).encode(), "Data/elsewhere/model.mlmodel": files[MODEL]}
    moved["Data/elsewhere/weights/weight.bin"] = files[WEIGHTS]
    assert torch.equal(Interpreter(moved).run(torch.zeros(3, 5)), Interpreter(files).run(torch.zeros(3, 5)))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6])
def test_values_of_a_few_bits_are_packed_from_the_least_significant_on(width):
    """Whatever is left over; too few bytes are refused."""
    expected = RANDOM.integers(0, 2**width, 13)
    packed = bits(expected, width)
    np.testing.assert_array_equal(unpack_bits(packed, width, 13), expected)
    with pytest.raises(ExportError, match="AE-EXPORT-009: .*do not hold"):
        unpack_bits(packed[:-1], width, 13)
