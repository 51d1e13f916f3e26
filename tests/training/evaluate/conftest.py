"""Scored runs, made by hand."""

from __future__ import annotations

from autosam_edge_test_runs import write_run  # noqa: F401  a fixture
