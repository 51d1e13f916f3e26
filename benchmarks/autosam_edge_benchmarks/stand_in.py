"""The command line with a formula in the place of the network: everything but the inference is real.

``python -m autosam_edge_benchmarks.stand_in segment SCAN -o OUT`` takes about a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.system.stop_signals import catch_signals

if TYPE_CHECKING:  # signals are caught before anything that takes time to load
    from autosam_edge.session import Session


def main() -> None:
    """Run ``sys.argv`` like :func:`autosam_edge.__main__.main`."""
    catch_signals()
    from autosam_edge import __main__ as program
    from autosam_edge.cli import segment

    vars(segment)["open_session"] = stand_in_session
    program.main()


def stand_in_session(*_: object, **__: object) -> Session:
    """A session that calls water the first organ and bone the second, on a grid of 6 mm."""
    from autosam_edge.engines.fake_engine import ThresholdEngine
    from autosam_edge.labels import BTCV_LABELS
    from autosam_edge.model import InputContract, Model
    from autosam_edge.session import Session as StandIn

    contract = InputContract(
        modality="CT",
        axes="DHW",
        unit="HU",
        spacing_mm=(6.0, 6.0, 6.0),
        window_hu=(-125.0, 275.0),
        resampling="antialiased-linear",
        patch=(32, 32, 32),
        overlap=0.25,
        blend="gaussian",
        rows_beyond_ends=0,
    )
    model = Model(contract, BTCV_LABELS[:2], (), "stand-in", "1")
    return StandIn(model, ThresholdEngine((-125.0, 40.0, 200.0)))


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # A worker of `batch`, which imports the main module of its parent by this name.
    from autosam_edge.batch import scan

    vars(scan)["open_session"] = stand_in_session
