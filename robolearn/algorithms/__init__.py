"""Learning algorithms, one readable file each."""

from __future__ import annotations

from robolearn.algorithms.algorithm import Algorithm
from robolearn.algorithms.bc import BC
from robolearn.errors import UnknownNameError

ALGORITHMS: dict[str, type[BC]] = {"bc": BC}
"""Every algorithm by name. Its config class is `config_type`."""

__all__ = ["ALGORITHMS", "Algorithm", "algorithm_class"]


def algorithm_class(name: str) -> type[BC]:
    """The class of that name. Raises UnknownNameError with the near misses."""
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
