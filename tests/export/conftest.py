"""What several test files of the export room share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def one_thread():
    """On small tensors threads wait for each other, for seconds where the cores are shared."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
