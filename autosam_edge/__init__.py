"""Label the organs of a CT scan on the device at hand, offline and without torch.

Research use only. Not a medical device; not for diagnosis or treatment.

Example:
    >>> import autosam_edge
    >>> volume = autosam_edge.read("scan/")  # doctest: +SKIP
    >>> segmentation = autosam_edge.open_session().segment(volume)  # doctest: +SKIP
    >>> autosam_edge.write(volume, segmentation, "out/")  # doctest: +SKIP
"""

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
