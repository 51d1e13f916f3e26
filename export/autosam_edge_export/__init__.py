"""From a trained student to a bundle that the runtime loads: converted, compared, described."""

from autosam_edge_export.export import export_bundle

__all__ = ["export_bundle"]
