"""Memory figures are this program's own."""

from __future__ import annotations

import math
from functools import partial

import pytest
from autosam_edge_test_support import run_python

from autosam_edge.errors import BudgetError
from autosam_edge.system.memory import MemoryBudget, require_room

_AN_ARRAY_OF_64_MB = """
import numpy as np
from autosam_edge.system.memory import peak_mb, resident_mb
before = resident_mb()
array = np.ones(8 * 1024**2)
grown = resident_mb()
del array
print(before, grown, peak_mb())
"""


def test_an_array_of_64_mb_shows():
    """Resident memory grows by the array, and the peak keeps it after it is gone.

    In a new process: in this one the array may take the room of what earlier tests have freed.
    """
    done = run_python("-c", _AN_ARRAY_OF_64_MB, check=True)
    before, grown, peak = map(float, done.stdout.split())
    assert 60 < grown - before < 80
    assert peak >= grown - 1


@pytest.mark.parametrize("limit_mb", [math.nan, 0, -5, "2000", True, 10**400])
def test_a_limit_that_limits_nothing_is_refused(limit_mb):
    for use in (partial(MemoryBudget, 1.0), partial(require_room, 1.0)):
        with pytest.raises(ValueError, match="`max_memory_mb` is .*, expected a finite number of MB above 0"):
            use(limit_mb)


def test_a_budget_holds_up_to_its_limit():
    """The limit itself fits, more does not, and the error names what would.

    Without a limit everything fits.
    """
    budget = MemoryBudget(100.0, 500.0)
    budget.require(500.0)
    with pytest.raises(BudgetError, match="AE-MEMORY-001.* about 501 MB, the limit is 500 MB") as caught:
        budget.require(500.2)
    assert "501" in caught.value.remedy
    MemoryBudget(None).require(1e9)
