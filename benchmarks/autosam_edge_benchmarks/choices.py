"""Values that options and parameters take, without heavy imports, so that the command line starts fast."""

from typing import Literal

Exhibit = Literal["table1", "table2", "table3", "table4", "figure1", "figure3", "figure4"]
"""Table or figure of the paper."""

Dataset = Literal["btcv", "amos"]
"""Data set of the paper."""

FleetPart = Literal["one-worker", "two-workers", "dask", "shell-loop", "kills", "tiny"]
"""Part of the study of many scans."""
