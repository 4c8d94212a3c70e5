"""Policies as a robot or twin runs them, by the path of a checkpoint or the address of a server."""

from __future__ import annotations

from pathlib import Path

from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.policy import Policy
from robolearn.serving.client import RemotePolicy, open_policy


def open_robot_policy(place: str, device: str = "cpu", task_id: str = "") -> Policy:
    """The policy there, which sees what a robot publishes and answers with joint targets. task_id: what it is to do,
    where it was taught several tasks. Raises CheckpointError, ServingError or SpecError."""
    policy = open_policy(place, device)
    if isinstance(policy, RemotePolicy):
        return policy
    from robolearn.envs.tool_policy import robot_policy  # which needs the twin

    return robot_policy(policy, read_config(Path(place))["provenance"], task_id)
