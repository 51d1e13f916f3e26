"""The forms of one student that several targets share; each is made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from torch import nn

from autosam_edge.errors import first_line
from autosam_edge.model import InputContract
from autosam_edge_export.convert.quantization import QuantizationPlan, Tiles, plan_quantization
from autosam_edge_export.convert.quiet import quiet
from autosam_edge_export.convert.to_onnx import quantize_inputs, store_half, store_int8, to_onnx
from autosam_edge_export.edge import IN_ONNX, EdgeOptions, edge_form
from autosam_edge_export.error_codes import OPERATOR_UNSUPPORTED
from autosam_edge_training.data import Intensity
from autosam_edge_training.networks.hu_input import DeviceForm


class StudentForms:
    """A student as programs, ONNX models and a quantization plan, made on demand and kept.

    Args:
        metadata: Metadata for file formats that have room for some.
        draw_tiles: Function that returns the calibration tiles; called if the plan is asked for.
    """

    def __init__(
        self,
        student: nn.Module,
        contract: InputContract,
        intensity: Intensity,
        organs: Sequence[str],
        metadata: Mapping[str, str],
        draw_tiles: Callable[[], Tiles],
        log: Callable[[str], None],
    ) -> None:
        self.student, self.contract, self.intensity = student, contract, intensity
        self.organs, self.metadata, self.log = organs, metadata, log
        self._draw_tiles = draw_tiles
        self._programs: dict[EdgeOptions, torch.export.ExportedProgram] = {}
        self._onnx: dict[tuple[EdgeOptions, str], bytes] = {}

    def program(self, options: EdgeOptions) -> torch.export.ExportedProgram:
        """The traced edge form with static shapes: (1, 1, D, H, W) HU -> logits (1, C, D, H, W).

        Raises:
            ExportError: The student cannot be traced with this patch (AE-EXPORT-007).
        """
        if options not in self._programs:
            patch = self.contract.patch
            try:
                form = self._with_hu_input(options)
                with torch.no_grad(), quiet():
                    self._programs[options] = torch.export.export(form, (torch.zeros(1, 1, *patch),))
            except Exception as error:  # torch.export passes on whatever the network raises
                reason = first_line(error).rstrip(".")
                raise OPERATOR_UNSUPPORTED(
                    f"this student cannot be traced at {'x'.join(map(str, patch))}: {reason}."
                ) from error
        return self._programs[options]

    def onnx(self, options: EdgeOptions, precision: str) -> bytes:
        """The ONNX model.

        Args:
            precision: ``fp32``; ``fp16`` or ``int8-weights``, which store weights in fewer bits; or ``int8``,
                which quantizes weights and inputs of convolutions.
        """
        key = options, precision
        if key not in self._onnx:
            self._onnx[key] = self._make_onnx(options, precision)
        return self._onnx[key]

    def _make_onnx(self, options: EdgeOptions, precision: str) -> bytes:
        if precision == "fp32":
            self.log("converting to ONNX")
            return to_onnx(self.program(options), self.metadata)
        exact = self.onnx(options, "fp32")
        if precision == "fp16":
            return store_half(exact)
        if precision == "int8-weights":
            return store_int8(exact)
        ranges = {f"{layer}.weight": values for layer, values in self.quantization.ranges.items()}
        return store_int8(quantize_inputs(exact, ranges), always=ranges)

    @cached_property
    def quantization(self) -> QuantizationPlan:
        """The convolutions that become int8, for every target.

        Raises:
            ExportError: The calibration tiles show no organ, or no convolution keeps its accuracy in int8
                (AE-EXPORT-012).
        """
        form = self._with_hu_input(IN_ONNX)
        self.log("drawing calibration tiles")
        return plan_quantization(form, self._draw_tiles(), self.organs, log=self.log)

    def _with_hu_input(self, options: EdgeOptions) -> DeviceForm:
        return DeviceForm(edge_form(self.student, options), self.intensity).eval()
