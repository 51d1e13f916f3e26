"""An interpreter for the Core ML ``mlprogram`` in a saved package.

Every operator is computed in float32 from its inputs as they are stored. Its result is rounded to the type
that the program declares: a float16 program has float16 storage with float32 accumulation, and an overflow
becomes infinite. Constants that are stored in fewer bits are converted once, by the definition of their
operator, and rounded to the declared type. Integers stay integers. A device may accumulate in float16 or in
another order, so this proves the package and not the arithmetic of a device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor

from autosam_edge_export.mil import compute_ops, layout_ops  # noqa: F401  they fill the registry
from autosam_edge_export.mil.package import Operation, TensorInfo, damaged, read_package
from autosam_edge_export.mil.registry import OPERATORS, Operator, refused

Value = Tensor | str


class Interpreter:
    """The program of a package.

    Attributes:
        inputs, outputs: Name, type and shape; one each.
        operators: Number of uses of each operator, without ``const``.
        max_rank: The largest of an input or of what is computed from it; constants are not counted.
        spec_version: Version of the model's format: 8 for iOS 17, 9 for iOS 18.
        metadata: Metadata that the converter and the export wrote into the model.

    Args:
        files: Files of the package by their path in it.

    Raises:
        ExportError: The package is damaged (AE-EXPORT-009), or has operators or parameters that are not
            implemented (AE-EXPORT-008).
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        program = read_package(files)
        self.inputs, self.outputs = program.inputs, program.outputs
        self.spec_version, self.metadata = program.spec_version, program.metadata
        self.operators = Counter(operation.type for operation in program.operations)
        if missing := sorted(set(self.operators) - set(OPERATORS)):
            raise refused(f"there is no operator {', '.join(missing)}")
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise refused(f"it has {len(self.inputs)} inputs and {len(self.outputs)} outputs, not one each")
        self._constants: dict[str, Value] = {
            name: value if isinstance(value, str) else torch.from_numpy(value.copy())
            for name, value in program.constants.items()
        }
        self._operations: list[Operation] = []
        known = {self.inputs[0].name, *self._constants}
        for operation in program.operations:
            _check(operation, self._constants, known)
            known.update(info.name for info in operation.outputs)
            if operation.type.startswith("constexpr_"):
                self._constants |= _evaluate(operation, self._constants)
            else:
                self._operations.append(operation)
        computed = [info for operation in self._operations for info in operation.outputs]
        self.max_rank = max(len(info.shape) for info in (*self.inputs, *computed))
        self._freed = self._last_uses()

    def _last_uses(self) -> list[list[str]]:
        """By operation the names that nothing needs after it."""
        last = {self.inputs[0].name: 0}
        for index, operation in enumerate(self._operations):
            last |= {info.name: index for info in operation.outputs}
            last |= {name: index for names in operation.inputs.values() for name in names if name in last}
        del last[self.outputs[0].name]
        freed: list[list[str]] = [[] for _ in self._operations]
        for name, index in last.items():
            freed[index].append(name)
        return freed

    def run(self, image: Tensor) -> Tensor:
        """Evaluate the program.

        Raises:
            ValueError: The image has another shape.
            ExportError: A result is not of the declared shape (AE-EXPORT-009), or an operator is asked for
                what it does not implement (AE-EXPORT-008).
        """
        (source,), (result,) = self.inputs, self.outputs
        if tuple(image.shape) != source.shape:
            raise ValueError(f"the program takes the shape {source.shape}, not {tuple(image.shape)}")
        values = {**self._constants, source.name: image.to(getattr(torch, source.dtype))}
        with torch.inference_mode():
            for operation, freed in zip(self._operations, self._freed, strict=True):
                values |= _evaluate(operation, values)
                for name in freed:
                    del values[name]
            return _tensor(values[result.name]).float()


def _check(operation: Operation, constants: Mapping[str, Value], known: set[str]) -> None:
    """Refuse what an operator's function does not take."""
    operator = OPERATORS[operation.type]
    if lacking := operator.required - set(operation.inputs):
        raise refused(f"{operation.type} has no {', '.join(sorted(lacking))}")
    for parameter, names in operation.inputs.items():
        hint = operator.hints.get(parameter)
        if hint is None or (len(names) != 1 and hint != list[Tensor]):
            raise refused(f"{operation.type} has the parameter {parameter} with {len(names)} values")
        if unknown := [name for name in names if name not in known]:
            raise damaged(f"{operation.type} uses {unknown[0]} before it is made")
        if get_origin(hint) is Literal and _python(constants.get(names[0])) not in get_args(hint):
            raise refused(f"{operation.type} has {parameter} = {_python(constants.get(names[0]))}")


def _evaluate(operation: Operation, values: Mapping[str, Value]) -> dict[str, Value]:
    """What an operation makes, by name, rounded to the declared types."""
    operator = OPERATORS[operation.type]
    arguments = {
        key: _argument(operator, key, [values[name] for name in names])
        for key, names in operation.inputs.items()
    }
    made = operator.function(**arguments)
    results = made if isinstance(made, list) else [made]
    if len(results) != len(operation.outputs):
        raise damaged(f"{operation.type} has {len(operation.outputs)} outputs but makes {len(results)}")
    return {
        info.name: _rounded(operation, info, result)
        for info, result in zip(operation.outputs, results, strict=True)
    }


def _argument(operator: Operator, parameter: str, values: list[Value]) -> Any:  # noqa: ANN401
    """Tensors, widened to float32 if the operator computes with them, or a Python value."""
    hint = operator.hints[parameter]
    if hint == list[Tensor]:
        return [_tensor(value) for value in values]
    if hint not in (Tensor, Tensor | None):
        return _python(values[0])
    tensor = _tensor(values[0])
    return tensor.float() if tensor.dtype == torch.float16 and not operator.moves else tensor


def _tensor(value: Value) -> Tensor:
    if isinstance(value, str):
        raise damaged("text stands where a tensor must")
    return value


def _python(value: Value | None) -> Any:  # noqa: ANN401
    return value.tolist() if isinstance(value, Tensor) else value


def _rounded(operation: Operation, info: TensorInfo, result: Tensor) -> Tensor:
    if tuple(result.shape) != info.shape:
        raise damaged(
            f"{operation.type} declares the shape {info.shape} for {info.name}, "
            f"but its result has {tuple(result.shape)}"
        )
    return result.to(getattr(torch, info.dtype))
