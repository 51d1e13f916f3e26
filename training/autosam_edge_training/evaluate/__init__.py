"""Evaluation: one evaluator for every method, and the test of whether one is better than another."""

from autosam_edge_training.evaluate.evaluator import (
    evaluate_method,
    evaluate_predictions,
    from_files,
    split_entries,
)
from autosam_edge_training.evaluate.report import as_markdown, report, summarize, write_results
from autosam_edge_training.evaluate.scores import (
    ABSENT_ORGAN_RULES,
    COLUMNS,
    METRICS,
    Metric,
    Score,
    as_csv,
    cropped_pair,
    read_csv,
    score_masks,
    surface_dice,
)
from autosam_edge_training.evaluate.significance import (
    UNITS,
    compare_methods,
    comparison_csv,
    comparison_markdown,
    holm,
    signed_rank,
)

__all__ = [
    "ABSENT_ORGAN_RULES",
    "COLUMNS",
    "METRICS",
    "UNITS",
    "Metric",
    "Score",
    "as_csv",
    "as_markdown",
    "compare_methods",
    "comparison_csv",
    "comparison_markdown",
    "cropped_pair",
    "evaluate_method",
    "evaluate_predictions",
    "from_files",
    "holm",
    "read_csv",
    "report",
    "score_masks",
    "signed_rank",
    "split_entries",
    "summarize",
    "surface_dice",
    "write_results",
]
