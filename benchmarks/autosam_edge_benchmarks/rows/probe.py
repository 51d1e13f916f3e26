"""One artifact in a process of its own: loads, tiles, memory and placement.

``python -m autosam_edge_benchmarks.rows.probe BUNDLE ARTIFACT THREADS SAMPLES SECONDS`` prints a JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from autosam_edge.bundle import Bundle
from autosam_edge.engines.artifact_engine import ArtifactEngine
from autosam_edge.engines.selection import engine_class, make_engine
from autosam_edge.golden import read_golden_tile
from autosam_edge.system.memory import peak_mb
from autosam_edge_benchmarks.rows.energy import joules, used

WARM_UPS = 2


@dataclass(frozen=True)
class TimedTiles:
    """What one process saw.

    Args:
        load_s: Time until the artifact was ready, s; the runtime's package was imported before.
        warm_load_s: The same once more in the same process, s.
        samples_ms: Time of each tile, ms.
        peak_mb: Peak resident memory of the process with one loaded artifact, MB.
        joules: Energy of the timed tiles, J.
        engine: Package of the runtime.
        engine_version: Its version.
        provider_asked: Unit that was asked for.
        provider: Unit that ran the network.
        operators: Number of operators by unit or number format; None where the engine does not tell.
    """

    load_s: float
    warm_load_s: float
    samples_ms: tuple[float, ...]
    peak_mb: float
    joules: float | None
    engine: str
    engine_version: str
    provider_asked: str
    provider: str
    operators: dict[str, int] | None


def run_tiles(bundle: Bundle, name: str, threads: int, samples: int, seconds: float) -> TimedTiles:
    """Load an artifact and run the golden tile.

    Args:
        name: Name of the artifact, such as ``openvino/bf16``.
        samples: Least number of timed tiles.
        seconds: Least time of all timed tiles, s.
    """
    artifact = bundle.manifest.artifact(name)
    tile = read_golden_tile(bundle).hu
    engine_class(artifact.target)

    def load() -> tuple[ArtifactEngine, float]:
        started = time.perf_counter()
        files = bundle.read_artifact(artifact.path)
        made = make_engine(artifact.target, files, sha256="", precision=artifact.precision, threads=threads)
        return made, time.perf_counter() - started

    engine, load_s = load()
    for _ in range(WARM_UPS):
        engine.run(tile)
    taken: list[float] = []
    before, end = joules(), time.perf_counter() + seconds
    while len(taken) < samples or time.perf_counter() < end:
        started = time.perf_counter()
        engine.run(tile)
        taken.append(round(1000.0 * (time.perf_counter() - started), 3))
    after, peak = joules(), peak_mb()
    asked, provider, operators = _placement(engine)
    told = engine.description
    return TimedTiles(
        load_s=round(load_s, 4),
        warm_load_s=round(load()[1], 4),
        samples_ms=tuple(taken),
        peak_mb=round(peak, 1),
        joules=used(before, after),
        engine=told["name"],
        engine_version=told["version"],
        provider_asked=asked,
        provider=provider,
        operators=operators,
    )


def _placement(engine: ArtifactEngine) -> tuple[str, str, dict[str, int] | None]:
    """Unit asked for, unit got, and operators by number format, from the runtime behind an engine."""
    if session := getattr(engine, "_session", None):  # ONNX Runtime
        return "CPUExecutionProvider", ", ".join(session.get_providers()), None
    if request := getattr(engine, "_request", None):  # OpenVINO
        compiled = request.get_compiled_model()
        nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        formats = Counter(str(info["runtimePrecision"].astype(str)) for info in nodes)
        return "CPU", ", ".join(compiled.get_property("EXECUTION_DEVICES")), dict(formats)
    return "CPU", "CPU", None


if __name__ == "__main__":
    bundle_path, artifact_name, thread_count, sample_count, least_s = sys.argv[1:]
    seen = run_tiles(
        Bundle(Path(bundle_path)), artifact_name, int(thread_count), int(sample_count), float(least_s)
    )
    print(json.dumps(asdict(seen)))
