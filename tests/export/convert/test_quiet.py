"""Converters are silent while they work, and only then."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest
from autosam_edge_test_support import run_python

from autosam_edge_export.convert.quiet import quiet


def test_nothing_is_said_inside_and_everything_after(capsys, caplog):
    """Warnings, log lines below an error, the standard error stream; an error is logged all the same."""
    before = sys.stderr, logging.root.manager.disable, warnings.filters[:]
    log = logging.getLogger("converter")
    with quiet():
        warnings.warn("untested version", stacklevel=1)
        log.warning("hidden")
        log.error("shown")
        print("progress", file=sys.stderr)
    assert (sys.stderr, logging.root.manager.disable, warnings.filters[:]) == before
    log.warning("heard again")
    print("seen again", file=sys.stderr)
    assert [record.getMessage() for record in caplog.records] == ["shown", "heard again"]
    assert capsys.readouterr().err == "seen again\n"
    with pytest.warns(UserWarning, match="once more"):
        warnings.warn("once more", stacklevel=1)


def test_a_level_that_was_set_before_comes_back():
    """Logging that another disabled stays disabled, and an inner block leaves the outer one quiet."""
    logging.disable(logging.INFO)
    try:
        with quiet():
            with quiet():
                pass
            assert logging.root.manager.disable == logging.WARNING
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(logging.NOTSET)


def test_what_goes_wrong_is_raised():
    """As it was, with everything put back."""
    before = sys.stderr, logging.root.manager.disable
    with pytest.raises(ZeroDivisionError), quiet():
        _ = 1 / 0
    assert (sys.stderr, logging.root.manager.disable) == before


@pytest.mark.slow
def test_reading_a_package_back_says_nothing():
    """Coremltools loads ExecuTorch and torchao where they are installed, and each has something to say."""
    pytest.importorskip("coremltools")
    code = "from autosam_edge_export.mil.package import _parse; _parse(b'')"
    finished = run_python("-c", code, check=True)
    assert (finished.stdout, finished.stderr) == ("", "")
