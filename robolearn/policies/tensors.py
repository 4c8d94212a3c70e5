"""Between the NumPy arrays of an observation and the tensors of a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robolearn.errors import SpecError
from robolearn.policies.policy import TrainablePolicy
from robolearn.specs import InterfaceSpec
from robolearn.types import ActionChunk, Observation


def observation_tensors(spec: InterfaceSpec, observation: Observation, device: torch.device) -> dict[str, Tensor]:
    """What the spec shows, with a batch axis of 1. Raises SpecError where a field is missing or does not fit."""
    batch = {}
    for name, field in spec.shown.items():
        if name not in observation:
            raise SpecError(f"the policy needs {name!r}, the observation has {', '.join(observation) or 'nothing'}")
        value = np.require(field.check(name, observation[name]), requirements=("C", "W"))  # a message's is read-only
        batch[name] = torch.from_numpy(value)[None].to(device)
    return batch


def action_chunk(spec: InterfaceSpec, actions: Tensor, stamp_ns: int) -> ActionChunk:
    """Actions (K, A) in the units of the action spec as a chunk within its limits."""
    values = actions.cpu().numpy()
    if spec.action.low is not None and spec.action.high is not None:
        values = values.clip(np.asarray(spec.action.low, np.float32), np.asarray(spec.action.high, np.float32))
    return ActionChunk(values, stamp_ns, stamp_ns, round(1e9 / spec.control_hz))


def answer_chunks(
    policy: TrainablePolicy, observations: Sequence[Observation], stamps_ns: Sequence[int]
) -> list[ActionChunk]:
    """The chunks of a policy whose `best` gives actions (B, K, A), of several observations in one batch."""
    device = next(iter(policy.state_dict().values())).device
    rows = [observation_tensors(policy.spec, observation, device) for observation in observations]
    batch = {name: torch.cat([row[name] for row in rows]) for name in policy.spec.observation}
    actions = policy.best(batch)
    return [action_chunk(policy.spec, a, stamp_ns) for a, stamp_ns in zip(actions, stamps_ns, strict=True)]
