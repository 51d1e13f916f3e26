"""Fuzzed inputs: a short run that must find nothing, and proof that the harness sees what must not be."""

from __future__ import annotations

import pytest
from autosam_edge_test_planted import PLANTED
from hypothesis import given
from hypothesis import strategies as st

from autosam_edge_benchmarks.fuzz.kinds import KINDS
from autosam_edge_benchmarks.fuzz.run import FAILURES, again, fuzz

pytest.importorskip("imagecodecs")


def test_a_thousand_inputs():
    """Each is read, or refused with a code; none hangs or fills the memory. Some of each kind are read."""
    result = fuzz(1000, jobs=1)
    assert result["failures"] == []
    assert result["counts"]["inputs"] >= 1000
    assert [name for name, row in result["kinds"].items() if not (row["read"] and row["refused"])] == []


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**40))
def test_the_same_number_gives_the_same_input(name, number):
    """So that what failed can be made again."""
    assert KINDS[name].make(name, number) == KINDS[name].make(name, number)


@pytest.mark.slow
def test_what_is_planted_is_seen():
    """An untyped exception with its place, a hang, too much memory, the end of the process; each once."""
    result = fuzz(7, kinds={"planted": PLANTED}, hung_s=6.0, large_mb=1000.0)
    assert [failure["result"] for failure in result["failures"]] == [
        "untyped", "hung", "large", "died", "wrong", "wrong"
    ]  # fmt: skip
    place = result["failures"][0]["place"]
    assert place.startswith("autosam_edge_test_planted.py:")
    assert place.endswith(" KeyError")
    assert result["counts"]["read"] == 1
    assert all(result["counts"][name] for name in FAILURES)


def test_again_makes_one_input(tmp_path):
    """Its files, result and place."""
    result, place = again("planted:0", tmp_path, {"planted": PLANTED})
    assert (result, place.rpartition(" ")[2]) == ("untyped", "KeyError")
    assert (tmp_path / "number").read_bytes() == b"0"
    with pytest.raises(ValueError, match="expected KIND:NUMBER"):
        again("planted", None, {"planted": PLANTED})


def test_a_run_goes_on():
    """Where it ended, so that two runs in a row are one; a run of other kinds is refused."""
    kinds = {"parity": KINDS["parity"]}
    first, whole = fuzz(20, kinds=kinds), fuzz(50, kinds=kinds)
    both = fuzz(30, earlier=first, kinds=kinds)
    assert both["counts"] == whole["counts"]
    assert both["kinds"]["parity"]["codes"] == whole["kinds"]["parity"]["codes"]
    assert (both["first"], both["end"], both["counts"]["inputs"]) == (0, 50, 50)
    with pytest.raises(ValueError, match="has other kinds"):
        fuzz(30, earlier=first, kinds={"manifest": KINDS["parity"]})
