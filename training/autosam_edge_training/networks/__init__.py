"""The networks that are trained, their checkpoints, and what a checkpoint says of its input."""
