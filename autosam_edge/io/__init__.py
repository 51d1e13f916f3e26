"""Scans in, results out; third parties live in the leaves and are loaded when they are used."""
