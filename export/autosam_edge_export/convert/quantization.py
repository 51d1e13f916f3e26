"""Static int8: the input range of each layer, the layers that become int8, and those that stay float.

The calibration tiles are drawn from scans, most from where the student finds organs. The sensitivity of a
layer is the change of the labels on half of these tiles when only this layer is quantized. The most sensitive
layers stay float, as few as keep the Dice of every organ on all tiles.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autosam_edge.engines.engine import Engine
from autosam_edge.measurements import dice
from autosam_edge.model import Model
from autosam_edge.session import Session
from autosam_edge.volume import Volume
from autosam_edge_export.error_codes import INT8_NOT_POSSIBLE

Tiles = Sequence[npt.NDArray[np.float32]]
Convolution = nn.Conv3d | nn.ConvTranspose3d

# Smallest Dice on the calibration tiles; the tolerances on whole scans of other patients are a little lower.
WORST_ORGAN, MEAN_ORGAN = 0.99, 0.9975
# Smaller weights, and those of layers with few channels, which work on the finer grids, save little in eight
# bits and make most of the error (docs/adr/0011-quantization.md).
_MIN_VALUES, _MIN_CHANNELS = 120_000, 96
_OUTLIERS = 1e-4  # share of an input's values that a range may clip at each end
_SMALLEST_ORGAN = 50  # voxels in the calibration tiles; with fewer, Dice says nothing about a layer


def should_quantize(shape: Sequence[int], channel_axis: int) -> bool:
    """Whether a weight is large and deep enough to be stored in eight bits or less."""
    return math.prod(shape) > _MIN_VALUES and shape[channel_axis] >= _MIN_CHANNELS


@dataclass(frozen=True)
class Range:
    """The values of a layer's input that uint8 covers.

    Args:
        low: Smallest value, at most 0, so that zero padding is exact.
        high: Largest value, at least 0.
    """

    low: float
    high: float

    @property
    def scale(self) -> float:
        """Step between two values of uint8."""
        return max(self.high - self.low, 1e-6) / 255.0

    @property
    def zero_point(self) -> int:
        """The uint8 that stands for 0."""
        return round(-self.low / self.scale)


@dataclass(frozen=True)
class Sensitivity:
    """Dice of the labels against the float student's when one layer alone is quantized."""

    layer: str
    mean_dice: float
    worst_dice: float
    worst_organ: str


@dataclass(frozen=True)
class QuantizationPlan:
    """The layers of a student that become int8.

    Args:
        ranges: Input range by layer, for the layers that are quantized.
        kept_float: Names of the layers that stay float, most sensitive first.
    """

    ranges: Mapping[str, Range]
    kept_float: tuple[str, ...]
    sensitivities: tuple[Sensitivity, ...]
    tiles: int
    tiles_sha256: str = ""


class _Collector:
    """Stores the tiles that a session runs and the share of organ voxels in each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.description = engine.description
        self.tiles: list[npt.NDArray[np.int16]] = []
        self.foreground: list[float] = []

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        logits = self._engine.run(tile)
        self.tiles.append(np.rint(tile).astype(np.int16))
        self.foreground.append(float((logits.argmax(axis=0) > 0).mean()))
        return logits


def draw_tiles(model: Model, student: Engine, volumes: Mapping[str, Volume], count: int) -> Tiles:
    """Draw calibration tiles without repetition, in proportion to the share of organ voxels in them.

    Returns:
        Tiles (D, H, W) float32, whole HU.
    """
    collector = _Collector(student)
    for volume in volumes.values():
        Session(model, collector).segment(volume)
    share = np.asarray(collector.foreground) + 1e-3
    chosen = np.random.default_rng(0).choice(
        len(share), size=min(count, len(share)), replace=False, p=share / share.sum()
    )
    return [collector.tiles[i].astype(np.float32) for i in sorted(chosen)]


def plan_quantization(
    form: nn.Module, tiles: Tiles, organs: Sequence[str], *, log: Callable[[str], None] = lambda _: None
) -> QuantizationPlan:
    """Measure ranges and sensitivities and decide which convolutions are quantized.

    Args:
        form: Module that maps (1, 1, D, H, W) HU to logits; its convolutions are the layers.
        tiles: Result of :func:`draw_tiles`.

    Raises:
        ExportError: The tiles show no organ, or no convolution keeps its accuracy in int8 (AE-EXPORT-012).
    """
    inputs = [torch.from_numpy(tile)[None, None] for tile in tiles]
    with torch.inference_mode():
        ranges, expected = _observe(form, inputs)
    if not any((np.stack(expected) == value).sum() >= _SMALLEST_ORGAN for value in range(1, len(organs) + 1)):
        raise INT8_NOT_POSSIBLE(
            "the student finds no organ in the calibration tiles, so the accuracy of int8 cannot be measured."
        )
    convolutions = _convolutions(form)
    layers = {name: convolutions[name] for name in ranges}

    def judge(names: Sequence[str], every: int = 1) -> tuple[float, float, str]:
        with torch.inference_mode(), _quantized(layers, {name: ranges[name] for name in names}):
            found = [form(x)[0].argmax(dim=0).numpy() for x in inputs[::every]]
        return _agreement(found, expected[::every], organs)

    sensitivities = []
    for number, name in enumerate(layers, start=1):
        log(f"sensitivity of layer {number} of {len(layers)}")
        mean, worst, organ = judge([name], every=2)
        sensitivities.append(Sensitivity(name, mean, worst, organ))
    sensitivities.sort(key=lambda entry: (entry.worst_dice, entry.mean_dice))
    order = [entry.layer for entry in sensitivities]

    def holds(count: int) -> bool:
        log(f"all layers but the {count} most sensitive together")
        mean, worst, _ = judge(order[count:])
        return mean >= MEAN_ORGAN and worst >= WORST_ORGAN

    fewest, most = 0, len(order)  # with no layer quantized everything holds
    while fewest < most:
        # In most cases only few layers stay float, so the search starts low.
        middle = (fewest + most) // (4 if fewest == 0 else 2)
        fewest, most = (fewest, middle) if holds(middle) else (middle + 1, most)
    kept = order[:fewest]
    digest = hashlib.sha256(b"".join(tile.astype("<i2").tobytes() for tile in tiles)).hexdigest()
    left = {name: ranges[name] for name in layers if name not in kept}
    if not left:
        raise INT8_NOT_POSSIBLE(
            "no convolution of this student keeps its accuracy in int8 on the calibration tiles.",
            remedy="Leave int8 out of `precisions`.",
        )
    return QuantizationPlan(left, tuple(kept), tuple(sensitivities), len(tiles), digest)


def _convolutions(form: nn.Module) -> dict[str, Convolution]:
    return {
        name: module
        for name, module in form.named_modules()
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d))
    }


def _observe(
    form: nn.Module, inputs: Sequence[Tensor]
) -> tuple[dict[str, Range], list[npt.NDArray[np.int64]]]:
    """Input range of every convolution that runs, over all tiles, and the labels of each tile."""
    seen: dict[str, list[tuple[float, float]]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            values = arguments[0].flatten()
            rank = max(1, round(values.numel() * _OUTLIERS))
            ends = values.kthvalue(rank).values, values.kthvalue(values.numel() - rank + 1).values
            seen.setdefault(name, []).append((float(ends[0]), float(ends[1])))

        return hook

    handles = [module.register_forward_pre_hook(watch(name)) for name, module in _convolutions(form).items()]
    labels = [form(x)[0].argmax(dim=0).numpy() for x in inputs]
    for handle in handles:
        handle.remove()
    return {
        name: Range(min(0.0, *(low for low, _ in ends)), max(0.0, *(high for _, high in ends)))
        for name, ends in seen.items()
    }, labels


@contextmanager
def _quantized(layers: Mapping[str, Convolution], ranges: Mapping[str, Range]) -> Iterator[None]:
    """Round the inputs and weights of layers to int8, as a quantized model does."""
    handles, weights = [], {}
    for name, values in ranges.items():

        def hook(_module: nn.Module, arguments: tuple[Tensor, ...], values: Range = values) -> Tensor:
            return torch.fake_quantize_per_tensor_affine(
                arguments[0], values.scale, values.zero_point, 0, 255
            )

        layer = layers[name]
        weights[name] = layer.weight.data
        axis = 1 if isinstance(layer, nn.ConvTranspose3d) else 0
        scale = layer.weight.data.abs().amax(dim=[i for i in range(5) if i != axis]).clamp_min(1e-12) / 127.0
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        layer.weight.data = torch.fake_quantize_per_channel_affine(
            layer.weight.data, scale, zeros, axis, -127, 127
        )
        handles.append(layer.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, weight in weights.items():
            layers[name].weight.data = weight


def _agreement(
    found: Sequence[npt.NDArray[np.int64]], expected: Sequence[npt.NDArray[np.int64]], organs: Sequence[str]
) -> tuple[float, float, str]:
    """Mean Dice, worst Dice, and name of the worst organ, over all tiles together."""
    a, b = np.stack(found), np.stack(expected)
    scores = [
        (dice(a == value, b == value), name)
        for value, name in enumerate(organs, start=1)
        if (b == value).sum() >= _SMALLEST_ORGAN
    ]
    if not scores:  # every second tile may show none
        return 1.0, 1.0, ""
    worst, name = min(scores)
    return float(np.mean([score for score, _ in scores])), worst, name
