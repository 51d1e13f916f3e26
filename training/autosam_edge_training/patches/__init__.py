"""Training patches: which part of which case, and its augmentation."""
