"""What the tests of a batch share."""

from __future__ import annotations

import pytest

from autosam_edge.cli import main


@pytest.fixture
def command(monkeypatch, capsys):
    """Run ``autosam-edge batch``; returns the exit code, and what was said on stdout and on stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["autosam-edge", "batch", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, *capsys.readouterr()

    return run
