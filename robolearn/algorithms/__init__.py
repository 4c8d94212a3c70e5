"""Learning algorithms, one readable file each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from robolearn.errors import UnknownNameError

if TYPE_CHECKING:
    from robolearn.algorithms.algorithm import AlgorithmClass

_CLASSES = {
    "act": "ACT",
    "bc": "BC",
    "calql": "CalQL",
    "cql": "CQL",
    "dsac": "DSAC",
    "flow": "Flow",
    "hiql": "HIQL",
    "iql": "IQL",
    "rlpd": "RLPD",
    "sac": "SAC",
    "state_bc": "StateBC",
    "td3_bc": "TD3BC",
}


class _Algorithms(Mapping[str, "AlgorithmClass"]):
    """Imports a file when its class is asked for: they bring torch, without which a wrong name is told."""

    def __getitem__(self, name: str) -> AlgorithmClass:
        return getattr(import_module(f"{__name__}.{name}"), _CLASSES[name])

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


ALGORITHMS = _Algorithms()
"""Every algorithm by name, which is that of its file. Its config class is `config_type`."""


def require_algorithm(name: str) -> None:
    """Raises UnknownNameError with the near misses."""
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)


def algorithm_class(name: str) -> AlgorithmClass:
    """The class of that name. Raises UnknownNameError with the near misses."""
    require_algorithm(name)
    return ALGORITHMS[name]
