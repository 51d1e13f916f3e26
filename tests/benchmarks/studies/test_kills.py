"""Killed runs: the short form of `bench kills`, and that it sees what must not be."""

from __future__ import annotations

import json
import sys

import pytest
from autosam_edge_test_support import RESULTS

from autosam_edge.errors import BenchError
from autosam_edge_benchmarks.studies.kills import SCENES, SIGNALS, measure_kills, state_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
RUNS = {"a": {"preview.png": b"a", "statistics.json": b"a"}, "b": {"preview.png": b"b"}}


def test_stored_result():
    """200 kills, of every kind."""
    result = json.loads((RESULTS / "kills.json").read_text())
    groups = {f"every step, {scene}" for scene in SCENES} | {f"random moment, {name}" for name in SIGNALS}
    assert set(result["groups"]) == groups
    assert result["kills"] == sum(sum(found.values()) for found in result["groups"].values()) >= 200


@pytest.mark.slow
def test_every_third_step_of_the_renames():
    """In a new folder, over an older result, and with two processes."""
    result = measure_kills(0, steps=range(2, 60, 3))
    assert set(result["groups"]) == {
        f"every step, {scene}" for scene in ("new folder", "older result", "two processes")
    }
    assert set(result["groups"]["every step, new folder"]) <= {"none", "own"}
    assert {"older", "own"} <= set(result["groups"]["every step, older result"])


@pytest.mark.slow
def test_every_step_and_some_random_moments():
    """All of it, with eight runs of the command line."""
    assert measure_kills(8)["kills"] > 100


@pytest.mark.parametrize(
    ("files", "state"),
    [({}, "none"), (RUNS["a"], "a"), (RUNS["b"], "b"), ({"statistics.json": b"a"}, "a part"),
     ({"preview.png": b"b", "statistics.json": b"a"}, "a mixture")],
)  # fmt: skip
def test_a_mixture_or_a_part_is_seen(files, state, tmp_path):
    """A folder is as one run left it, or the study fails."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    if state in ("none", *RUNS):
        assert state_of(tmp_path, RUNS) == state
        return
    with pytest.raises(BenchError, match=f"AE-BENCH-009.*{state}"):
        state_of(tmp_path, RUNS)
