"""Whose the seeds of episodes are: what is judged was never demonstrated."""

EVALUATION_SEED = 1_000_000
"""From which evaluations count up; demonstrations count up from 0."""
