"""Latency, memory and quality, measured by commands that write what they saw and where."""
