"""Locks between processes, also of several users in one folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from autosam_edge_test_support import run_python

from autosam_edge.system.file_lock import LockedError, lock_now, waiting_lock

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act as another user"
)
AS_ANOTHER = """
import os, sys
from pathlib import Path
import autosam_edge.write_results
from autosam_edge.batch.index import mode_of_input
from autosam_edge.errors import InputError
from autosam_edge.system.file_lock import LockedError, lock_now, waiting_lock
os.setegid(65534); os.seteuid(65534)
path = Path(sys.argv[1])
"""


@pytest.fixture
def shared():
    """A folder in which every user may write, such as /tmp; not tmp_path, whose parents are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


def of_another(code: str, path: object) -> str:
    """What a program of another user prints."""
    done = run_python("-c", AS_ANOTHER + code, path)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_root
def test_the_lock_of_another_user_is_waited_for(shared):
    """His file may not be written; it is locked all the same, and free when he lets go or was killed."""
    path = shared / "lock"
    told = "\ntry: lock_now(path); print('free')\nexcept LockedError: print('held')"
    handle, _ = lock_now(path)
    path.chmod(0o644)
    assert of_another(told, path) == "held"
    os.close(handle)
    assert of_another(told, path) == "free"
    path.chmod(0o600)
    assert of_another(told, path) == "held"


@needs_root
def test_a_folder_that_may_not_be_written_is_no_lock(shared):
    """Where no lock file is, the folder is at fault."""
    shared.chmod(0o755)
    told = "\ntry: lock_now(path)\nexcept PermissionError as error: print(error.errno)"
    assert of_another(told, shared / "lock") == "13"


@needs_root
def test_an_input_that_may_not_be_read_is_no_fault_of_the_output(shared):
    """A private folder of another user: the output is not blamed, and the input is unreadable."""
    private = shared / "private"
    (private / "scan").mkdir(parents=True)
    private.chmod(0o700)
    told = (
        "\nautosam_edge.write_results.check_writable(path.parents[1] / 'out', input_path=path)"
        "\ntry: mode_of_input(path, 'the input folder')\nexcept InputError as error: print(error.code)"
    )
    assert of_another(told, private / "scan") == "AE-INPUT-003"


def test_a_lock_is_held_for_the_block(tmp_path):
    """Nobody else gets it, and the file is gone at the end."""
    path = tmp_path / "lock"
    with waiting_lock(path, seconds=1), pytest.raises(LockedError):
        lock_now(path)
    assert not path.exists()
