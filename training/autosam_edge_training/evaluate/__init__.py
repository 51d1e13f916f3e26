"""Evaluation: one evaluator for every method, and the test of whether one is better than another."""
