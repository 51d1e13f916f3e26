"""Networks that are built here and not taken from a library."""
