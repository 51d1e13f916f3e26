"""Networks under test: with parameters that matter, what runs in them, how far their results lie apart."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("pydantic")
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autosam_edge.plausibility.expected_dice import Confidence
from autosam_edge_training.data import BTCV_INTENSITY
from autosam_edge_training.data.layouts import BTCV_NAMES
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata
from autosam_edge_training.networks.input_spec import NetworkInput

CONFIDENCE = Confidence(1.0, 1.0, {"toe": 0.0}, 0.5, 1, 0.0, 0.0, 0.0, ("one",))
"""A map to the expected Dice of one organ, the toe."""
BTCV = NetworkInput((3.0, 3.0, 3.0), BTCV_INTENSITY, BTCV_NAMES, "btcv")


def checkpoint_metadata(student="pocketnet", *, classes=14, **changes):
    """Metadata of a network's file; with other than 14 classes the labels have made-up names."""
    names = BTCV_NAMES if classes == 14 else ("background", *(f"organ{value}" for value in range(1, classes)))
    values = {
        "arguments": {},
        "input": NetworkInput(BTCV.spacing_mm, BTCV.intensity, names, "btcv"),
        "config": {"sampling": {"patch": [32, 32, 32]}},
        "steps": 3,
        "datasets": {"btcv": ("1", "2")},
        "data_sha256": "0" * 64,
        "commit": "",
    }
    return CheckpointMetadata(student, **{**values, **changes})


def triples(low, high):
    """Three numbers, drawn one by one."""
    return st.tuples(*[st.integers(low, high)] * 3)


class Recorder(TorchDispatchMode):
    """Notes the name and the output shapes of every operator that runs."""

    def __init__(self):
        super().__init__()
        self.outputs = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.outputs += [(func.overloadpacket.__name__, tuple(tensor.shape)) for tensor in tensors]
        return result


def record(module, x):
    """The module's result, and (operator, output shape) of all that ran."""
    with torch.no_grad(), Recorder() as recorder:
        y = module(x)
    return y, recorder.outputs


def highest_rank(operators):
    return max(len(shape) for _, shape in operators)


def convolution_shapes(operators):
    return [shape for name, shape in operators if "convolution" in name]


def planes_of(x):
    """(1, C, D, H, W) -> (D, C, H, W) and back, with a batch of 1."""
    return x[0].transpose(0, 1) if x.ndim == 5 else x.transpose(0, 1)[None]


def furthest(a, b):
    """Largest absolute difference of two tensors of one shape."""
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def with_tables(module, generator=None):
    """The module with position biases that matter: at birth a table is next to nothing."""
    for name, parameter in module.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.normal_(parameter, std=0.5, generator=generator)
    return module


def stirred(module):
    """Eval mode, with tables, norms and biases that matter: at birth a norm is the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in with_tables(module, generator).parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()
