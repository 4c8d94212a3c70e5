"""Learning algorithms, one readable file each."""

from __future__ import annotations

from robolearn.algorithms.algorithm import Algorithm, AlgorithmClass
from robolearn.algorithms.bc import BC
from robolearn.algorithms.sac import SAC
from robolearn.errors import UnknownNameError

ALGORITHMS: dict[str, AlgorithmClass] = {
    "bc": BC,
    "sac": SAC,
}
"""Every algorithm by name. Its config class is `config_type`."""

__all__ = ["ALGORITHMS", "Algorithm", "AlgorithmClass", "algorithm_class"]


def algorithm_class(name: str) -> AlgorithmClass:
    """The class of that name. Raises UnknownNameError with the near misses."""
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
