"""Settings of every test."""

from hypothesis import settings

# The first example pays for imports, and the machines of CI are noisy: no deadline per example.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
