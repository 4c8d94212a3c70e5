"""Whose the seeds of episodes are: what is judged was never demonstrated, nor chosen by."""

EVALUATION_SEED = 1_000_000
"""From which evaluations count up; demonstrations count up from 0."""

SELECTION_SEED = 2_000_000
"""From which a training in a task and practice count up to judge their policies, of which they keep the best, and so do
a sweep and `reward write`."""
