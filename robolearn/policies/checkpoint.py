"""Checkpoints of policies: a model directory, enough for a policy server and nothing more.

config.json holds kind, config, spec, statistics and provenance (how it was trained).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robolearn import __version__
from robolearn.errors import CheckpointError, SpecError, UnknownNameError
from robolearn.networks.devices import usable_device
from robolearn.networks.model_directory import (
    CONFIG_FILE,
    config_from_json,
    read_weights,
    unfit_weights,
    write_model,
)
from robolearn.networks.normalizer import FieldStatistics
from robolearn.plugins import Table
from robolearn.policies.act import ACTPolicy
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.chunking import ChunkPolicy
from robolearn.policies.flow import FlowPolicy
from robolearn.policies.gaussian import GaussianPolicy
from robolearn.policies.hierarchical import HierarchicalPolicy
from robolearn.policies.policy import TrainablePolicy
from robolearn.specs import InterfaceSpec

POLICIES: Table[Any] = Table(
    "robolearn.policies",
    "policy kind",
    {
        "act": ACTPolicy,
        "chunking": ChunkPolicy,
        "flow": FlowPolicy,
        "gaussian": GaussianPolicy,
        "hierarchical": HierarchicalPolicy,
    },
    owed=("config_type", "reset", "act", "best", "state_dict", "load_state_dict"),
)
"""Every policy class that a checkpoint can hold, by kind."""


def kind_of(policy: TrainablePolicy) -> str:
    """The name in POLICIES of a policy's class. Raises SpecError where it has none."""
    for kind, policy_class in POLICIES.items():
        if type(policy) is policy_class:
            return kind
    raise SpecError(
        f"no checkpoint can hold a policy of the class {type(policy).__name__}; add it to the entry points "
        f"{POLICIES.group} of its package, see docs/plugins.md"
    )


def save_policy(policy: TrainablePolicy, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write the policy to the directory `path`; a checkpoint there is replaced whole or not at all."""
    config = {
        "kind": kind_of(policy),
        "config": asdict(policy.config),
        "spec": policy.spec.to_json(),
        "statistics": {name: field.to_json() for name, field in policy.statistics.items()},
        "provenance": dict(provenance or {}),
    }
    write_model(path, config, policy.state_dict())


def load_policy(path: Path, device: str = "cpu", interface: InterfaceSpec | None = None) -> TrainablePolicy:
    """The policy in the directory `path`, ready to act.

    With `interface`, the environment or robot it is meant for, raises SpecError unless the two fit. Raises
    CheckpointError when `path` is no checkpoint, is damaged, or was written by another format, UnknownNameError for a
    kind that is not known, and SpecError for a device that is not there.
    """
    place = usable_device(device)
    config = read_config(path)
    if config["kind"] not in POLICIES:
        raise UnknownNameError("policy kind", str(config["kind"]), POLICIES)
    policy_class = POLICIES[config["kind"]]
    try:
        spec = InterfaceSpec.from_json(config["spec"])
        statistics = {name: FieldStatistics.from_json(field) for name, field in config["statistics"].items()}
        policy = policy_class(spec, statistics, config_from_json(policy_class.config_type, config["config"]))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        version = config.get("robolearn_version", "an unknown version")
        raise CheckpointError(
            f"checkpoint {path}: {CONFIG_FILE} of robolearn {version} does not fit robolearn {__version__} ({error})"
        ) from error
    if interface is not None:
        policy.spec.require(interface, f"checkpoint {path}", "the robot")
    weights = read_weights(path)
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        raise unfit_weights(path, error) from error
    return policy.to(place).eval()
