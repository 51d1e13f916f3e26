"""Label the organs of a CT scan on the device at hand, offline and without torch.

Research use only. Not a medical device; not for diagnosis or treatment.

Example:
    >>> import autosam_edge
    >>> volume = autosam_edge.read("scan/")  # doctest: +SKIP
    >>> segmentation = autosam_edge.open_session().segment(volume)  # doctest: +SKIP
    >>> autosam_edge.write(volume, segmentation, "out/")  # doctest: +SKIP
"""

import importlib

TYPE_CHECKING = False  # that of `typing` takes 10 ms, in which Ctrl-C would print a traceback
if TYPE_CHECKING:
    from autosam_edge.bundle import Bundle, open_bundle
    from autosam_edge.errors import AutosamEdgeError
    from autosam_edge.geometry import Grid
    from autosam_edge.measurements import organ_statistics
    from autosam_edge.read_scan import read
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.session import Session, open_session
    from autosam_edge.version import __version__
    from autosam_edge.volume import Label, Segmentation, Volume
    from autosam_edge.write_results import write

__all__ = [
    "AutosamEdgeError",
    "Bundle",
    "Grid",
    "Label",
    "ScanWarning",
    "Segmentation",
    "Session",
    "Volume",
    "__version__",
    "open_bundle",
    "open_session",
    "organ_statistics",
    "read",
    "write",
]
# Loaded at first use: the command line must be ready for Ctrl-C before NumPy is loaded.
_MODULES = {
    "AutosamEdgeError": "errors",
    "Bundle": "bundle",
    "Grid": "geometry",
    "Label": "volume",
    "ScanWarning": "scan_warning",
    "Segmentation": "volume",
    "Session": "session",
    "Volume": "volume",
    "__version__": "version",
    "open_bundle": "bundle",
    "open_session": "session",
    "organ_statistics": "measurements",
    "read": "read_scan",
    "write": "write_results",
}


if not TYPE_CHECKING:  # else a type checker takes every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'autosam_edge' has no attribute {name!r}")
        found: object = getattr(importlib.import_module(f"autosam_edge.{_MODULES[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return list(__all__)
