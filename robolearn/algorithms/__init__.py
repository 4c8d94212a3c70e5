"""Learning algorithms, one readable file each."""

from __future__ import annotations

from robolearn.algorithms.act import ACT
from robolearn.algorithms.algorithm import Algorithm, AlgorithmClass
from robolearn.algorithms.bc import BC
from robolearn.algorithms.calql import CalQL
from robolearn.algorithms.cql import CQL
from robolearn.algorithms.dsac import DSAC
from robolearn.algorithms.flow import Flow
from robolearn.algorithms.hiql import HIQL
from robolearn.algorithms.iql import IQL
from robolearn.algorithms.rlpd import RLPD
from robolearn.algorithms.sac import SAC
from robolearn.algorithms.state_bc import StateBC
from robolearn.algorithms.td3_bc import TD3BC
from robolearn.errors import UnknownNameError

ALGORITHMS: dict[str, AlgorithmClass] = {
    "act": ACT,
    "bc": BC,
    "calql": CalQL,
    "cql": CQL,
    "dsac": DSAC,
    "flow": Flow,
    "hiql": HIQL,
    "iql": IQL,
    "rlpd": RLPD,
    "sac": SAC,
    "state_bc": StateBC,
    "td3_bc": TD3BC,
}
"""Every algorithm by name. Its config class is `config_type`."""

__all__ = ["ALGORITHMS", "Algorithm", "AlgorithmClass", "algorithm_class"]


def algorithm_class(name: str) -> AlgorithmClass:
    """The class of that name. Raises UnknownNameError with the near misses."""
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
