"""The paper's tables and figures with our values, which are computed from the files of scored runs."""
