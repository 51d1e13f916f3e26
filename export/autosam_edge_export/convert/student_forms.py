"""One export's student and the forms of it that several targets share; each is made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from autosam_edge.errors import first_line
from autosam_edge_export.convert.quantization import QuantizationPlan, plan_quantization
from autosam_edge_export.convert.quiet import quiet
from autosam_edge_export.convert.to_onnx import quantize_inputs, store_half, store_int8, to_onnx
from autosam_edge_export.edge import EdgeOptions, edge_form
from autosam_edge_export.error_codes import OPERATOR_UNSUPPORTED
from autosam_edge_training.networks.hu_input import DeviceForm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from autosam_edge.model import InputContract
    from autosam_edge_export.convert.quantization import Tiles
    from autosam_edge_training.data import Intensity


class Job:
    """What is exported.

    Args:
        student: In eval mode, on the CPU.
        contract: The input contract.
        intensity: How HU become what the student sees.
        organs: Names of the classes after the background.
        metadata: For formats that carry some.
        draw_tiles: Makes the calibration tiles when a precision needs them.
        say: Called with one line per stage.
    """

    def __init__(
        self,
        student: nn.Module,
        contract: InputContract,
        intensity: Intensity,
        organs: Sequence[str],
        metadata: Mapping[str, str],
        draw_tiles: Callable[[], Tiles],
        say: Callable[[str], None],
    ) -> None:
        self.student, self.contract, self.intensity, self.organs, self.metadata = (
            student,
            contract,
            intensity,
            organs,
            metadata,
        )
        self._draw_tiles, self.say = draw_tiles, say
        self.plan: QuantizationPlan | None = (
            None  # what int8 does to this student, once an artifact needed it
        )
        self._programs: dict[EdgeOptions, torch.export.ExportedProgram] = {}
        self._onnx: dict[tuple[EdgeOptions, str], bytes] = {}

    def program(self, options: EdgeOptions) -> torch.export.ExportedProgram:
        """The device form of the student's edge form with static shapes: (1, 1, D, H, W) HU -> logits.

        Raises:
            ExportError: The student cannot be traced so (AE-EXPORT-007).
        """
        if options not in self._programs:
            patch = self.contract.patch
            try:
                form = DeviceForm(edge_form(self.student, options), self.intensity).eval()
                with torch.no_grad(), quiet():
                    self._programs[options] = torch.export.export(form, (torch.zeros(1, 1, *patch),))
            except (
                Exception
            ) as error:  # the edge form raises ValueError, torch.export whatever the network did
                raise OPERATOR_UNSUPPORTED(
                    f"this student cannot be traced at {'x'.join(map(str, patch))}: {first_line(error)}."
                ) from error
        return self._programs[options]

    def onnx(self, options: EdgeOptions, precision: str) -> bytes:
        """The ONNX model: ``fp32``, ``fp16`` (storage), ``int8-weights`` (storage) or ``int8`` (weights and inputs of convolutions)."""
        key = options, precision
        if key not in self._onnx:
            if precision == "fp32":
                self.say("converting to ONNX")
                self._onnx[key] = to_onnx(self.program(options), self.metadata)
            else:
                wide = self.onnx(options, "fp32")
                if precision == "fp16":
                    self._onnx[key] = store_half(wide)
                elif precision == "int8-weights":
                    self._onnx[key] = store_int8(wide)
                else:
                    ranges = {
                        f"{layer}.weight": values for layer, values in self.quantization().ranges.items()
                    }
                    self._onnx[key] = store_int8(quantize_inputs(wide, ranges), always=ranges)
        return self._onnx[key]

    def quantization(self) -> QuantizationPlan:
        """Which convolutions bear eight bits, whatever the target.

        Raises:
            ExportError: The calibration tiles show no organ, or no convolution bears them (AE-EXPORT-012).
        """
        if self.plan is None:
            form = DeviceForm(edge_form(self.student, EdgeOptions(attention="fused")), self.intensity).eval()
            self.say("drawing calibration tiles")
            self.plan = plan_quantization(form, self._draw_tiles(), self.organs, say=self.say)
        return self.plan
