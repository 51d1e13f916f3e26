"""The last line of a program that failed."""

import pytest

from autosam_edge_benchmarks.last_line import last_line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no message"),
        ("Traceback:\n  line\nValueError: too large\n", "ValueError: too large"),
        ("autosam_edge.errors.EngineError: AE-ENGINE-009: 5 threads.\n", "AE-ENGINE-009: 5 threads."),
    ],
)
def test_the_last_line_starts_with_the_code_of_an_own_error(text, told):
    """Its Python class is no help to a reader."""
    assert last_line(text) == told
