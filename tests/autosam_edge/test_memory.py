"""Memory figures are this program's own."""

from __future__ import annotations

import numpy as np

from autosam_edge.memory import peak_mb, resident_mb


def test_an_array_of_64_mb_shows():
    """Resident memory grows by the array and the peak keeps it after it is gone."""
    before = resident_mb()
    array = np.ones(8 * 1024**2)
    grown = resident_mb()
    assert 60 < grown - before < 80
    del array
    assert peak_mb() >= grown - 1
