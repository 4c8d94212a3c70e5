"""Flow matching on a toy that is done in two ways: a point at the origin goes left or right, as often."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robolearn.algorithms.bc import BC, BCConfig
from robolearn.algorithms.flow import Flow, FlowConfig
from robolearn.networks.chunks import held
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.chunking import ChunkPolicyConfig
from robolearn.policies.flow import FlowPolicyConfig
from robolearn.specs import InterfaceSpec, RobotSpec

ROBOT = RobotSpec("point", ("x",), (-1.0,), (1.0,), (1.0,))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 10.0)
STATISTICS = {
    "proprio": FieldStatistics((0.0,) * 2, (0.5,) * 2, (-1.0,) * 2, (1.0,) * 2),
    "action": FieldStatistics((0.0,), (0.5,), (-1.0,), (1.0,)),
}
STEPS = 4  # of a chunk
FAR = 0.8


def demonstrated(size: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    side = torch.randint(0, 2, (size, 1, 1), generator=generator) * 2.0 - 1.0
    path = torch.linspace(0.25, 1.0, STEPS)[None, :, None] * FAR
    proprio = 0.02 * torch.randn(size, 2, generator=generator)
    return {"proprio": proprio, "action": side * path, "action_mask": torch.ones(size, STEPS, dtype=torch.bool)}


def last_step(policy: object, seed: int) -> float:
    policy.reset(seed)  # type: ignore[attr-defined]
    return float(policy.act({"proprio": np.zeros(2, np.float32)}, 0).actions[-1, 0])  # type: ignore[attr-defined]


def test_a_flow_goes_one_way_or_the_other_where_cloning_stays_between() -> None:
    shape = FlowPolicyConfig(STEPS, hidden_sizes=(64, 64))
    flow = Flow(SPEC, STATISTICS, FlowConfig(policy=shape, steps=400, draws=4, learning_rate=3e-3), seed=0)
    mse = BC(
        SPEC,
        STATISTICS,
        BCConfig(policy=ChunkPolicyConfig(STEPS, hidden_sizes=(64, 64)), loss="mse", steps=100),
        seed=0,
    )
    for i in range(400):
        flow.update(demonstrated(64, i))
        if i % 4 == 0:
            mse.update(demonstrated(64, i))
    ends = [last_step(flow.policy(), seed) for seed in range(20)]
    assert sum(abs(abs(end) - FAR) < 0.2 for end in ends) >= 18, ends
    assert 4 <= sum(end > 0 for end in ends) <= 16, ends
    assert abs(last_step(mse.policy(), 0)) < 0.3


def test_an_episode_keeps_to_its_way() -> None:
    policy = Flow(SPEC, STATISTICS, FlowConfig(), seed=0).policy()
    first, other = last_step(policy, 1), last_step(policy, 2)
    assert first != other
    observation = {"proprio": np.zeros(2, np.float32)}
    policy.reset(1)
    alone = [policy.act(observation, stamp).actions for stamp in (0, 1)]
    together = policy.act_many([observation, observation], [0, 1])
    for actions, chunk in zip(alone, together, strict=True):
        np.testing.assert_allclose(actions, chunk.actions, atol=1e-6)
    assert float(alone[1][-1, 0]) == first


def test_weights_decide_what_is_learned() -> None:
    batch = demonstrated(256, 0)
    weight = (batch["action"][:, -1, 0] < 0).float()
    flow = Flow(SPEC, STATISTICS, FlowConfig(policy=FlowPolicyConfig(STEPS, hidden_sizes=(64,)), steps=200), seed=0)
    for _ in range(200):
        flow.update({**batch, "weight": weight})
    assert all(last_step(flow.policy(), seed) < -0.4 for seed in range(10))


def test_what_is_hidden_is_replaced_by_what_came_before() -> None:
    chunk = torch.arange(8.0).view(2, 4, 1)
    mask = torch.tensor([[True, True, False, False], [False, True, False, True]])
    answer = held(chunk, mask, torch.tensor([[9.0], [9.0]]))
    assert answer[..., 0].tolist() == [[0, 1, 1, 1], [9, 5, 5, 7]]
