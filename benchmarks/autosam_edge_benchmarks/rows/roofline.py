"""One tile against the peaks of this machine, operator by operator.

``python -m autosam_edge_benchmarks.rows.roofline BUNDLE ARTIFACT THREADS SCAN`` prints a JSON object; for an
empty SCAN no tiles are counted.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autosam_edge.bundle import Bundle
from autosam_edge.engines.selection import make_engine
from autosam_edge.engines.telemetry import telemetry_off
from autosam_edge.golden import read_golden_tile
from autosam_edge.pipeline.run import TileRun
from autosam_edge.read_scan import read
from autosam_edge.system.clock import time_in_turns
from autosam_edge_benchmarks.rows.figures import OperatorCost, Roofline
from autosam_edge_benchmarks.rows.onnx_work import Work, matrix_product, operator_work

with telemetry_off("onnxruntime"):
    import onnxruntime as ort

_SIDE, _RUNS, _TILES = 1536, 7, 5  # side of the matrices; runs of each; tiles of a profile
_COPY_MB = 256
# Names that the runtimes give to operators of the graph.
_KINDS = {
    **dict.fromkeys(("FusedConv", "Convolution", "GroupConvolution", "NhwcFusedConv"), "Conv"),
    **dict.fromkeys(("Deconvolution", "ConvolutionBackpropData"), "ConvTranspose"),
    "MVN": "InstanceNormalization",
    "Concatenation": "Concat",
    "StridedSlice": "Slice",
    "FullyConnected": "MatMul",
}
_WORKING = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Attention", "MatMulInteger", "ConvInteger"}


@dataclass(frozen=True)
class Peaks:
    """What this machine does at most with a number of threads.

    Args:
        fp32_gflops: Float32 matrix product, billions of operations per second.
        bf16_gflops: The same in bfloat16; None where no runtime here computes it.
        int8_gops: The same with 8-bit integers; None where no runtime here computes it.
        copy_gb_s: Copy of memory, read and written bytes, GB/s.
    """

    fp32_gflops: float
    bf16_gflops: float | None
    int8_gops: float | None
    copy_gb_s: float

    def gflops(self, precision: str) -> float:
        """Peak for the arithmetic of a number format."""
        own = {"bf16": self.bf16_gflops, "int8": self.int8_gops}.get(precision)
        return own or self.fp32_gflops


def measure_peaks(threads: int) -> Peaks:
    """Measure matrix products in the runtimes that are installed, and a copy; the best of some runs.

    Args:
        threads: Number of threads.
    """
    operations, model = 2.0 * _SIDE**3 / 1e9, matrix_product(_SIDE, integer=False)
    values = np.random.default_rng(1).uniform(0, 100, (_SIDE, _SIDE)).astype(np.float32)
    floats = [_in_onnx(model, values, threads)]
    has_openvino, bf16 = importlib.util.find_spec("openvino") is not None, None
    if has_openvino:
        floats.append(_in_openvino(model, values, threads, "f32"))
        bf16 = _in_openvino(model, values, threads, "bf16")
    integers = _in_onnx(matrix_product(_SIDE, integer=True), values.astype(np.uint8), threads)
    parts = [np.zeros(_COPY_MB * 2**18 // threads, np.float32) for _ in range(2 * threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(np.copyto, parts[:threads], parts[threads:]))

        copied_s = _best_s(copy)
    moved_gb = sum(part.nbytes for part in parts) / 1e9
    return Peaks(
        fp32_gflops=round(operations / min(floats), 1),
        bf16_gflops=None if bf16 is None else round(operations / bf16, 1),
        int8_gops=round(operations / integers, 1),
        copy_gb_s=round(moved_gb / copied_s, 1),
    )


def compare(
    work: Sequence[Work], profile: Mapping[str, float], peaks: Peaks, precision: str, tile_ms: float
) -> Roofline:
    """Set the profile of a tile against the floor of each operator.

    Args:
        work: Every operator of the graph.
        profile: Time by the runtime's name of the kind of operator, ms.
        precision: Number format of the artifact; OpenVINO keeps a bfloat16 one's values in two bytes.
        tile_ms: Time of a tile without a profile, ms.
    """
    halved = 0.5 if precision == "bf16" else 1.0
    measured: dict[str, float] = defaultdict(float)
    for kind, milliseconds in profile.items():
        measured[_KINDS.get(kind, kind)] += milliseconds
    grouped: dict[str, list[Work]] = defaultdict(list)
    for operator in work:
        grouped[operator.kind].append(operator)

    def floor_ms(operator: Work) -> float:
        peak = peaks.gflops(precision if operator.kind in _WORKING else "fp32")
        arithmetic_ms = operator.flop / peak / 1e6 if operator.kind in _WORKING else 0.0
        return max(arithmetic_ms, halved * operator.bytes / peaks.copy_gb_s / 1e6)

    costs = [
        OperatorCost(
            kind=kind,
            count=len(grouped[kind]),
            gflop=round(sum(operator.flop for operator in grouped[kind]) / 1e9, 3),
            megabytes=round(halved * sum(operator.bytes for operator in grouped[kind]) / 1e6, 2),
            floor_ms=round(sum(map(floor_ms, grouped[kind]), 0.0), 2),
            measured_ms=round(measured[kind], 2) if kind in measured else None,
        )
        for kind in dict.fromkeys((*grouped, *measured))
    ]
    costs.sort(key=lambda cost: -(cost.measured_ms or 0.0))
    floor = sum(cost.floor_ms for cost in costs)
    return Roofline(
        **asdict(peaks),
        tiles=None,
        gflop=round(sum(cost.gflop for cost in costs), 2),
        megabytes=round(sum(cost.megabytes for cost in costs), 1),
        floor_ms=round(floor, 1),
        ratio=round(tile_ms / floor, 2),
        operators=tuple(costs),
    )


def profile_onnx(model: bytes, tile: npt.NDArray[np.float32], threads: int) -> dict[str, float]:
    """Time of each kind of operator in one tile in ONNX Runtime, ms."""
    with tempfile.TemporaryDirectory() as folder:
        session = _onnx_session(model, threads, profile=str(Path(folder) / "profile"))
        for _ in range(_TILES):
            session.run(None, {session.get_inputs()[0].name: tile[None, None]})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"] / 1000.0 / _TILES
    return dict(times)


def profile_openvino(
    model: bytes, tile: npt.NDArray[np.float32], threads: int, arithmetic: str
) -> dict[str, float]:
    """Time of each kind of operator in one tile in OpenVINO, ms."""
    request = _openvino_request(model, threads, arithmetic)
    times: dict[str, float] = defaultdict(float)
    for _ in range(_TILES):
        request.infer({0: tile[None, None]})
        for node in request.profiling_info:
            times[node.node_type] += node.real_time.total_seconds() * 1000.0 / _TILES
    return {kind: milliseconds for kind, milliseconds in times.items() if milliseconds}


def _onnx_session(model: bytes, threads: int, profile: str = "") -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # as the engine
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _openvino_request(model: bytes, threads: int, arithmetic: str) -> Any:  # noqa: ANN401  of openvino
    from autosam_edge.engines.openvino_engine import openvino_core

    settings = {"INFERENCE_PRECISION_HINT": arithmetic, "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    settings["PERFORMANCE_HINT"] = "LATENCY"
    core = openvino_core()
    return core.compile_model(core.read_model(io.BytesIO(model)), "CPU", settings).create_infer_request()


def _in_onnx(model: bytes, values: npt.NDArray[np.generic], threads: int) -> float:
    session = _onnx_session(model, threads)
    return _best_s(lambda: session.run(None, {"a": values}))


def _in_openvino(model: bytes, values: npt.NDArray[np.float32], threads: int, arithmetic: str) -> float:
    request = _openvino_request(model, threads, arithmetic)
    return _best_s(lambda: request.infer({0: values}))


def _best_s(run: Callable[[], object]) -> float:
    return min(time_in_turns({"": run}, _RUNS).samples_ms[""]) / 1000.0


def main(bundle: Bundle, name: str, threads: int, scan: str) -> Roofline:
    """Compare one artifact; OpenVINO and ONNX Runtime tell the time of their operators, others do not."""
    artifact = bundle.manifest.artifact(name)
    files, tile = bundle.read_artifact(artifact.path), read_golden_tile(bundle).hu
    engine = make_engine(artifact.target, files, sha256="", precision=artifact.precision, threads=threads)
    tile_ms = time_in_turns({"tile": lambda: engine.run(tile)}, _TILES).median_ms("tile")
    model = files[""]
    if artifact.target == "openvino":
        arithmetic = {"bf16": "bf16"}.get(artifact.precision, "f32")
        profile = profile_openvino(model, tile, threads, arithmetic)
    else:
        profile = profile_onnx(model, tile, threads)
    found = compare(list(operator_work(model)), profile, measure_peaks(threads), artifact.precision, tile_ms)
    tiles = TileRun(bundle.model, read(scan)).tiles if scan else None
    return replace(found, tiles=tiles)


if __name__ == "__main__":
    print(json.dumps(asdict(main(Bundle(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]), sys.argv[4]))))
