"""Threads that share work do all of it once, wait for each other, and pass errors on."""

from __future__ import annotations

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


@pytest.mark.parametrize("own", [False, True])
def test_an_error_comes_when_all_have_ended(own):
    """Of the calling thread's task, and of a helper's: the other task ends first."""
    ended = []

    def fail():
        raise ValueError("of a task")

    def end_later():
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(ValueError, match="of a task"):
        ThreadTeam(2).run(*((end_later, fail) if own else (fail, end_later)))
    assert ended
