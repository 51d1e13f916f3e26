"""A row of a benchmark for tests, with every part."""

from __future__ import annotations

import dataclasses

from autosam_edge_benchmarks.rows.figures import (
    Energy,
    Memory,
    OperatorCost,
    Roofline,
    Scan,
    Sustained,
    TileLatency,
)
from autosam_edge_benchmarks.rows.row import (
    Accuracy,
    BenchRow,
    Device,
    Install,
    Load,
    Measured,
    Placement,
    Validity,
)

DEVICE = Device(
    **dict.fromkeys((field.name for field in dataclasses.fields(Device)), None)
    | {"processor": "Processor", "cores": 2, "versions": {"python": "3.11"}}
)


def make_row(precision="fp32", threads=1, p50=100.0, dice=0.77, word="quiet"):
    """Two scans; a tile takes ``p50`` ms, the first scan 40 times that."""
    seconds = 0.04 * p50
    stages = {
        "read": 0.3 * seconds,
        "segment": 0.5 * seconds,
        "network": 0.4 * seconds,
        "write": 0.1 * seconds,
    }
    scans = [
        Scan(
            "phantom",
            (n, 512, 512),
            (2.0, 0.8, 0.8),
            n > 160,
            seconds * n / 160,
            (seconds,),
            stages,
            600.0 + n,
        )
        for n in (160, 320)
    ]
    return BenchRow(
        format="autosam-edge bench",
        schema_version=1,
        measured_with="python",
        date="2026-11-28",
        device=DEVICE,
        artifact=Measured(
            "0.1", "model", "1", "a" * 64, "b" * 64, "onnx", precision, "executed", (96,) * 3, 14.7
        ),
        placement=Placement("onnxruntime", "1.32", "CPU", "CPU", threads, {"f32": 3}, ()),
        load=Load(0.5, 0.2, 0.1, None),
        tile_latency=TileLatency.of([[p50 - 1, p50, p50 + 1]] * 3, 2),
        end_to_end=tuple(scans),
        sustained=Sustained.of([p50] * 30 + [1.2 * p50] * 10),
        memory=Memory({"tiles": 250.0, "scan of 160 slices": 760.0}, "as the system counts"),
        energy=Energy(None, None, "this system does not tell it"),
        install=Install(300.0, 15.0),
        accuracy=Accuracy(dice, "btcv test", 6, 0.9999, "gallbladder", 0.998),
        roofline=Roofline(
            90.0,
            None,
            300.0,
            20.0,
            12,
            50.0,
            900.0,
            50.0,
            2.0,
            (OperatorCost("Conv", 2, 50.0, 9.0, 40.0, 80.0),),
        ),
        validity={
            "quiet": Validity(False, True, ()),
            "noisy": Validity(True, True, ("Other programs use 2.0 of 2 cores.",)),
            "unstable": Validity(False, False, ("The repeats of tiles lie more than 5 % apart.",)),
            "not repeated": Validity(False, None, ()),
        }[word],
    )
