"""Damaged inputs by the thousand, and what the readers make of them."""
