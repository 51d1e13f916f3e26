"""The steps of one artifact and number of threads become one row."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from autosam_edge.bundle import Bundle
from autosam_edge.manifest import Artifact
from autosam_edge.system.clock import doubt
from autosam_edge.version import __version__
from autosam_edge_benchmarks.rows import energy
from autosam_edge_benchmarks.rows.figures import Energy, Memory, Scan, Sustained, TileLatency, within
from autosam_edge_benchmarks.rows.plan import PHANTOM_SHAPE, Done, Plan
from autosam_edge_benchmarks.rows.probe import WARM_UPS, TimedTiles
from autosam_edge_benchmarks.rows.row import (
    FORMAT,
    SCHEMA_VERSION,
    BenchRow,
    Device,
    Load,
    Measured,
    Placement,
    Validity,
)
from autosam_edge_benchmarks.rows.sizes import accuracy, install_size
from autosam_edge_benchmarks.rows.whole_scan import MEMORY_METHOD, series_files


def make_row(plan: Plan, artifact: Artifact, device: Device, done: Sequence[Done]) -> BenchRow:
    """Summarize the steps of one artifact and number of threads."""
    repeats, sustained = _tiles(done, "tiles"), _tiles(done, "sustained")
    scans = tuple(_scan(plan, done, str(count)) for count in plan.slices)
    first, latency = repeats[0], TileLatency.of([run.samples_ms for run in repeats], WARM_UPS)
    return BenchRow(
        format=FORMAT,
        schema_version=SCHEMA_VERSION,
        measured_with="python",
        date=max(found.date for found in done),
        device=device,
        artifact=measured(plan.bundle, artifact),
        placement=Placement(
            engine=first.engine,
            engine_version=first.engine_version,
            provider_asked=first.provider_asked,
            provider=first.provider,
            threads=done[0].step.threads,
            operators=first.operators,
            fallbacks=(),
        ),
        load=Load(
            first_s=first.load_s,
            cold_process_s=statistics.median(run.load_s for run in repeats),
            warm_s=statistics.median(run.warm_load_s for run in repeats),
            stages_s=None,
        ),
        tile_latency=latency,
        end_to_end=scans,
        sustained=Sustained.of(sustained[0].samples_ms) if sustained else None,
        memory=Memory(
            {
                "tiles": max(run.peak_mb for run in repeats),
                **{f"scan of {scan.shape[0]} slices": scan.peak_mb for scan in scans},
            },
            MEMORY_METHOD,
        ),
        energy=_energy(plan, done, repeats),
        install=install_size(plan.bundle.path, first.engine),
        accuracy=accuracy(plan.bundle, artifact, first.engine, plan.scored),
        roofline=next((found.roofline for found in done if found.roofline), None),
        validity=_validity(latency, scans, done),
    )


def measured(bundle: Bundle, artifact: Artifact) -> Measured:
    """What a row tells of an artifact."""
    manifest = bundle.manifest
    size = sum(map(len, bundle.read_artifact(artifact.path).values()))
    return Measured(
        software=__version__,
        model=manifest.name,
        model_version=manifest.version,
        model_sha256=bundle.manifest_sha256,
        sha256=manifest.sha256_of(artifact.path),
        form=artifact.target,
        precision=artifact.precision,
        proof=artifact.proof,
        tile=manifest.input.patch,
        megabytes=round(size / 1e6, 2),
    )


def _tiles(done: Sequence[Done], what: str) -> list[TimedTiles]:
    return [found.tiles for found in done if found.tiles is not None and found.step.what == what]


def _energy(plan: Plan, done: Sequence[Done], repeats: Sequence[TimedTiles]) -> Energy:
    first = str(plan.slices[0]) if plan.slices else ""
    tiles = [run.joules / len(run.samples_ms) for run in repeats if run.joules is not None]
    scans = [found.scan.joules for found in done if found.scan and found.step.what == first]
    known = [joules for joules in scans if joules is not None]
    return Energy(
        joules_per_tile=statistics.median(tiles) if tiles else None,
        joules_per_scan=statistics.median(known) if known else None,
        method=energy.METHOD if tiles else energy.UNKNOWN,
    )


def _scan(plan: Plan, done: Sequence[Done], what: str) -> Scan:
    runs = [found.scan for found in done if found.scan is not None and found.step.what == what]
    length = PHANTOM_SHAPE[0] if plan.scan is None else len(series_files(plan.scan))
    return Scan(
        scan="phantom" if plan.scan is None else "CT",
        shape=runs[0].shape,
        spacing_mm=runs[0].spacing_mm,
        repeated=runs[0].shape[0] > length,
        total_s=statistics.median(run.wall_s for run in runs),
        samples_s=tuple(run.wall_s for run in runs),
        stages_s={
            stage: statistics.median(run.stages_s[stage] for run in runs) for stage in runs[0].stages_s
        },
        peak_mb=max(run.peak_mb for run in runs),
    )


def _validity(latency: TileLatency, scans: Sequence[Scan], done: Sequence[Done]) -> Validity:
    disturbed = max((found.others_cores or 0.0 for found in done), default=0.0)
    reasons = dict.fromkeys(reason for found in done for reason in found.reasons)
    noise = [*reasons, *([doubt(disturbed)] if doubt(disturbed) else [])]
    repeated = {"tiles": latency.repeat_p50, **{f"{s.shape[0]} slices": s.samples_s for s in scans}}
    verdicts = {name: within(medians) for name, medians in repeated.items()}
    unstable = [
        f"The repeats of {name} lie more than 5 % apart." for name, same in verdicts.items() if same is False
    ]
    known = [verdict for verdict in verdicts.values() if verdict is not None]
    stable = all(known) if len(known) == len(verdicts) else False if unstable else None
    return Validity(bool(noise), stable, (*noise, *unstable))
