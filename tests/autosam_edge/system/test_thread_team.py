"""Threads that share work do all of it once, wait for each other, and pass errors on."""

from __future__ import annotations

import signal
import threading
import time
from threading import get_ident

import pytest

from autosam_edge.system.thread_team import ThreadTeam


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 96])
def test_the_parts_of_a_range_are_the_range(threads, count):
    """Nothing is left out or done twice, however few there are."""
    done = []
    ThreadTeam(threads).divide(lambda first, last: done.extend(range(first, last)), 7, 7 + count)
    assert sorted(done) == list(range(7, 7 + count))


def test_a_team_of_one_starts_no_thread():
    """A browser has none to start."""
    seen = set()
    ThreadTeam(1).run(*[lambda: seen.add(get_ident())] * 3)
    assert seen == {get_ident()}


def test_the_calling_thread_only_waits():
    """An interrupt, which lands there, would break an import for which another task waits without end."""
    seen = set()
    ThreadTeam(2).run(*[lambda: seen.add(get_ident())] * 2)
    assert get_ident() not in seen


def test_an_interrupt_comes_when_all_have_ended():
    """What the caller removes then, such as a folder, no task is still filling."""
    ended = []

    def end_later():
        time.sleep(0.05)  # until the caller waits
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        ThreadTeam(2).run(end_later, lambda: None)
    assert ended


@pytest.mark.parametrize("own", [False, True])
def test_an_error_comes_when_all_have_ended(own):
    """Of the last task, and of another one: the other task ends first."""
    ended = []

    def fail():
        raise ValueError("of a task")

    def end_later():
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(ValueError, match="of a task"):
        ThreadTeam(2).run(*((end_later, fail) if own else (fail, end_later)))
    assert ended
