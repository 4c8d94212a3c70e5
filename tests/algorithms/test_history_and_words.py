"""Policies of chunks on toys that cannot be done without the words of the task, or without what was seen before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robolearn.algorithms import ALGORITHMS
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.instruction import embed
from robolearn.serving.loop import ControlLoop
from robolearn.specs import INSTRUCTION, InterfaceSpec, RobotSpec

ROBOT = RobotSpec("point", ("x",), (-1.0,), (1.0,), (1.0,))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 10.0)
STATISTICS = {
    "proprio": FieldStatistics((0.0,) * 2, (0.3,) * 2, (-1.0,) * 2, (1.0,) * 2),
    "action": FieldStatistics((0.0,), (0.6,), (-1.0,), (1.0,)),
}
FAR, PERIOD_NS = 0.6, 10**8
WORDS = ("go to the left", "go to the right")
SMALL: dict[str, dict[str, Any]] = {
    "act": {"width": 16, "heads": 2, "layers": 1},
    "bc": {"hidden_sizes": (32,)},
    "flow": {"hidden_sizes": (32,), "flow_steps": 4},
}
STEPS = {"act": 60, "bc": 60, "flow": 150}


def trained(name: str, batch: Any, **looks: Any) -> Any:
    """The policy after a short training on batches of a seed."""
    made = ALGORITHMS[name]
    shape = type(made.config_type().policy)(2, **SMALL[name], **looks)
    config = made.config_type(policy=shape, steps=STEPS[name], learning_rate=1e-2, warmup_steps=5)
    learner: Any = made(SPEC, STATISTICS, config, seed=0)
    for seed in range(STEPS[name]):
        learner.update(batch(learner.policy().spec, torch.Generator().manual_seed(seed)))
    return learner.policy()


def chunks(observation: dict[str, Tensor], side: Tensor) -> dict[str, Tensor]:
    action = (side * FAR)[:, None, None].expand(-1, 2, 1)
    return {**observation, "action": action, "action_mask": torch.ones(len(side), 2, dtype=torch.bool)}


def told(spec: InterfaceSpec, generator: torch.Generator) -> dict[str, Tensor]:
    which = torch.randint(0, 2, (32,), generator=generator)
    batch = {"proprio": 0.02 * torch.randn(32, 2, generator=generator)}
    if INSTRUCTION in spec.observation:
        vectors = np.stack([embed(text, spec.observation[INSTRUCTION]) for text in WORDS])
        batch[INSTRUCTION] = torch.from_numpy(vectors)[which]
    return chunks(batch, 2.0 * which - 1.0)


def moved(spec: InterfaceSpec, generator: torch.Generator) -> dict[str, Tensor]:
    """It goes on the way that it moves, which its position alone does not tell."""
    side = 2.0 * torch.randint(0, 2, (32,), generator=generator) - 1.0
    now = 0.3 * torch.randn(32, generator=generator)
    past = torch.stack([now - 0.3 * side, now], dim=1)
    proprio = torch.stack([past, torch.zeros_like(past)], dim=-1)
    return chunks({"proprio": proprio if spec.observation_steps == 2 else proprio[:, 1]}, side)


def answer(policy: Any, positions: tuple[float, ...], words: str = "") -> float:
    """The first action of the chunk that follows these positions, one a tick, by the loop that every robot has."""
    loop = ControlLoop(policy, 1, words)
    loop.reset(0)
    action = 0.0
    for tick, x in enumerate(positions):
        action = float(loop.step({"proprio": np.float32([x, 0.0])}, tick * PERIOD_NS).action[0])
    return action


@pytest.mark.parametrize("name", sorted(SMALL))
def test_words_tell_what_to_do(name: str) -> None:
    policy = trained(name, told, instruction="words")
    left, right = (answer(policy, (0.0,), words) for words in WORDS)
    assert left < -0.4
    assert right > 0.4
    if name == "bc":
        deaf = trained(name, told)
        assert answer(deaf, (0.0,), WORDS[0]) == answer(deaf, (0.0,), WORDS[1])


@pytest.mark.parametrize("name", sorted(SMALL))
def test_what_was_seen_before_tells_what_to_do(name: str) -> None:
    policy = trained(name, moved, observation_steps=2)
    assert answer(policy, (0.5, 0.1, -0.2)) < -0.3  # from the right
    assert answer(policy, (0.5, -0.5, -0.2)) > 0.3  # to the same place from the left
