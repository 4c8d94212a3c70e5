"""Learning algorithms, one readable file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robolearn.errors import UnknownNameError
from robolearn.plugins import Table

if TYPE_CHECKING:
    from robolearn.algorithms.algorithm import AlgorithmClass

ALGORITHMS: Table[AlgorithmClass] = Table(
    "robolearn.algorithms",
    "algorithm",
    {
        "act": "robolearn.algorithms.act:ACT",
        "bc": "robolearn.algorithms.bc:BC",
        "calql": "robolearn.algorithms.calql:CalQL",
        "cql": "robolearn.algorithms.cql:CQL",
        "dsac": "robolearn.algorithms.dsac:DSAC",
        "flow": "robolearn.algorithms.flow:Flow",
        "hiql": "robolearn.algorithms.hiql:HIQL",
        "iql": "robolearn.algorithms.iql:IQL",
        "rlpd": "robolearn.algorithms.rlpd:RLPD",
        "sac": "robolearn.algorithms.sac:SAC",
        "state_bc": "robolearn.algorithms.state_bc:StateBC",
        "td3_bc": "robolearn.algorithms.td3_bc:TD3BC",
    },
    owed=("config_type", "learns_from", "metrics", "update", "validate", "policy", "state_dict", "load_state_dict"),
)
"""Every algorithm by name. Its config class is `config_type`. A file is imported when its class is asked for: it brings
torch, without which a wrong name is told."""


def require_algorithm(name: str) -> None:
    """Raises UnknownNameError with the near misses."""
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)


def algorithm_class(name: str) -> AlgorithmClass:
    """The class of that name. Raises UnknownNameError with the near misses."""
    require_algorithm(name)
    return ALGORITHMS[name]
