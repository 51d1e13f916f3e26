"""Export of a trained student to a bundle that the runtime loads; the entry point is ``export``."""
