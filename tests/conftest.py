"""Settings of every test."""

import pytest
from hypothesis import settings

# The first example pays for imports, and the machines of CI are noisy: no deadline per example.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


@pytest.fixture(scope="module")
def one_thread():
    """The same number of threads for every run that is compared; tiny tensors need only one."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
