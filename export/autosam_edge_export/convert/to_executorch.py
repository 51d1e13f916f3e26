"""Lowering to ExecuTorch: the ``.pte`` file and the parts that its delegates take."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autosam_edge_export.convert.quiet import quiet

_BOOKKEEPING = ("getitem", "executorch_call_delegate", "alloc")


@dataclass(frozen=True)
class Delegation:
    """The share of a program that its delegates take.

    Args:
        node_share: Share of the operators, 0 to 1.
        work_share: Share of the multiplications in convolutions and matrix products, 0 to 1.
        left: Number of uses in the program of each operator that no delegate takes.
    """

    delegates: int
    node_share: float
    work_share: float
    left: dict[str, int]


@dataclass(frozen=True)
class Lowered:
    """A program for ExecuTorch.

    Args:
        pte: Content of the ``.pte`` file.
        record: Content of its ``.etrecord``, for ExecuTorch's developer tools.
        delegation: The share of the program that its delegates take.
    """

    pte: bytes
    record: bytes
    delegation: Delegation


def lower(program: torch.export.ExportedProgram, partitioners: list[Any]) -> Lowered:
    """Give the parts of a program to delegates, in the order of the partitioners, and serialize it."""
    with quiet():
        from executorch.devtools import generate_etrecord
        from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower

        edge = to_edge_transform_and_lower(program, partitioner=partitioners)
        delegation = delegated(edge.exported_program().graph_module)
        lowered = edge.to_executorch(ExecutorchBackendConfig(extract_delegate_segments=True))
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "etrecord"
            generate_etrecord(str(record), edge, lowered)
            return Lowered(bytes(lowered.buffer), record.read_bytes(), delegation)


def delegated(graph_module: torch.fx.GraphModule) -> Delegation:
    """The share of a lowered program that its delegates take."""
    inside, outside, delegates = [], [], 0
    for node in graph_module.graph.nodes:
        if node.op == "get_attr" and hasattr(getattr(graph_module, node.target), "original_module"):
            delegates += 1
            inside += _operators(getattr(graph_module, node.target).original_module.graph.nodes)
        elif node.op == "call_function":
            outside += _operators([node])
    left = Counter(_name(node) for node in outside)
    done, undone = (sum(_multiplications(node) for node in nodes) for nodes in (inside, outside))
    return Delegation(
        delegates,
        node_share=len(inside) / max(1, len(inside) + len(outside)),
        work_share=done / max(1, done + undone),
        left=dict(sorted(left.items())),
    )


def _operators(nodes: Iterable[torch.fx.Node]) -> list[torch.fx.Node]:
    """The nodes that compute something."""
    return [
        node
        for node in nodes
        if node.op == "call_function" and node.name.rstrip("_0123456789") not in _BOOKKEEPING
    ]


def _name(node: torch.fx.Node) -> str:
    """``aten.bmm.default``, in torch's dialect and in ExecuTorch's."""
    return str(
        node.target
        if isinstance(node.target, torch._ops.OpOverload)
        else getattr(node.target, "_op", node.target)
    )


def _multiplications(node: torch.fx.Node) -> int:
    """Of a convolution or a matrix product; of anything else 0."""
    name = _name(node).split(".")[1]
    if not name.startswith("conv") and name not in ("linear", "addmm", "mm", "bmm", "matmul"):
        return 0
    out, first, second = (value.meta["val"].shape for value in (node, *node.all_input_nodes[:2]))
    if name.startswith("conv"):
        transposed = name.startswith("conv_transpose") or (name == "convolution" and bool(node.args[6]))
        return int(math.prod(first if transposed else out) * math.prod(second[1:]))
    return int(math.prod(out) * (second if name == "addmm" else first)[-1])
