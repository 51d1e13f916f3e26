"""The command line, as ``autosam-edge``, ``python -m autosam_edge`` or ``torchrun -m autosam_edge train``."""

from autosam_edge.system.stop_signals import catch_signals


def main() -> None:
    """Entry point of ``autosam-edge``: signals and streams first, as loading the commands takes a while."""
    catch_signals()
    from autosam_edge.system.collector import end_without_collection
    from autosam_edge.system.standard_streams import guard_streams

    end_without_collection()
    guard_streams()
    from autosam_edge import cli

    cli.main()


if __name__ == "__main__":
    main()
