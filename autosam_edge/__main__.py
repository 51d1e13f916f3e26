"""``python -m autosam_edge``: the command line; ``torchrun -m autosam_edge train ...`` runs it in several processes."""

from autosam_edge.cli import main

main()
