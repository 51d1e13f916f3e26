"""The command line as a module: ``python -m autosam_edge``, or ``torchrun -m autosam_edge train student``."""

from autosam_edge.cli import main

main()
