"""Whose the seeds of episodes are: what is judged was never demonstrated, nor chosen by."""

EVALUATION_SEED = 1_000_000
"""From which evaluations count up; demonstrations count up from 0."""

SELECTION_SEED = 2_000_000
"""From which a training in a task counts up to judge its policies, of which it keeps the best, and so do a sweep and
`reward write`."""
