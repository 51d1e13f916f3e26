"""Proof that an artifact computes what the student computes, and what it costs."""
