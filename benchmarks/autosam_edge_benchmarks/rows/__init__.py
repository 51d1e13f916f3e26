"""``bench``: one row of measured values for each artifact, engine and number of threads."""
