"""Timings, and when they are not to be trusted."""

from __future__ import annotations

import os

import pytest

from autosam_edge.system import clock
from autosam_edge.system.clock import CpuWatch, doubt, time_in_turns


def test_work_takes_turns_after_one_run_that_is_not_counted():
    """Two rounds of two works; the median is of the counted ones."""
    seen = []
    timing = time_in_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 2)
    assert "".join(seen) == "ababab"
    assert [len(samples) for samples in timing.samples_ms.values()] == [2, 2]
    assert timing.median_ms("a") == pytest.approx(sum(timing.samples_ms["a"]) / 2)


def stat_file(folder, busy_s, idle_s=0):
    ticks = [round(seconds * os.sysconf("SC_CLK_TCK")) for seconds in (busy_s, 0, 0, idle_s, 0, 0, 0, 0)]
    (folder / "stat").write_text(f"cpu  {' '.join(map(str, ticks))} 0 0\ncpu0 1\n")


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="Linux")
@pytest.mark.parametrize(("busy_s", "own_s", "others"), [(2, 0, 1.0), (2, 2, 0.0), (3, 1, 1.0), (0, 0, 0.0)])
def test_what_others_take_is_all_less_our_own(busy_s, own_s, others, tmp_path, monkeypatch):
    """Two seconds by the clock; idle time does not count."""
    own, now = [0.0], [0.0]
    monkeypatch.setattr(clock, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(clock.os, "times", lambda: os.times_result((own[0], 0.0, 0.0, 0.0, 0.0)))
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    stat_file(tmp_path, 100)
    watch = CpuWatch()
    stat_file(tmp_path, 100 + busy_s, idle_s=7)
    own[0], now[0] = own_s, 2.0
    assert watch.others_cores() == others


def test_where_the_system_does_not_tell_nothing_is_said(tmp_path, monkeypatch):
    """None, and no doubt that nothing is behind."""
    monkeypatch.setattr(clock, "_STAT", tmp_path / "none")
    assert CpuWatch().others_cores() is None
    assert doubt(None) == ""


@pytest.mark.parametrize(("others", "trusted"), [(0.0, True), (0.2, True), (0.3, False)])
def test_a_tenth_of_the_cores_is_the_limit(others, trusted, monkeypatch):
    """Two cores."""
    monkeypatch.setattr(clock.os, "cpu_count", lambda: 2)
    assert (doubt(others) == "") is trusted
    assert trusted or "other programs used 0.3 of 2 cores" in doubt(others)
