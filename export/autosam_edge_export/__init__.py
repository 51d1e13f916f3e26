"""From a trained student to a bundle that the runtime loads: converted, compared, described. Start at ``export``."""
