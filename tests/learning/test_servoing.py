"""The shortest proof that each way of cloning learns to look: a point follows a mark that only its camera shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robolearn.algorithms import ALGORITHMS
from robolearn.algorithms.act import ACTConfig
from robolearn.algorithms.bc import BCConfig
from robolearn.algorithms.flow import FlowConfig
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.act import ACTPolicyConfig
from robolearn.policies.chunking import ChunkPolicyConfig
from robolearn.policies.flow import FlowPolicyConfig
from robolearn.serving.loop import ControlLoop
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec

SIZE = 32
ROBOT = RobotSpec("point", ("x", "y"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_top": image_spec(SIZE, SIZE)}, ROBOT.action_spec, 10.0)
CHUNK_STEPS = 4
LOOKS: dict[str, Any] = {"chunk_steps": CHUNK_STEPS, "encoder_channels": (8, 16)}
LEARNS: dict[str, Any] = {"batch_size": 32, "warmup_steps": 20, "max_shift_px": 0}
CONFIGS: dict[str, Any] = {
    "bc": BCConfig(policy=ChunkPolicyConfig(**LOOKS, hidden_sizes=(64,)), steps=250, learning_rate=3e-3, **LEARNS),
    "act": ACTConfig(policy=ACTPolicyConfig(**LOOKS, width=32), steps=300, learning_rate=2e-3, **LEARNS),
    "flow": FlowConfig(
        policy=FlowPolicyConfig(**LOOKS, hidden_sizes=(64, 64)), steps=800, learning_rate=3e-3, **LEARNS
    ),
}
STEP = 0.15  # of the expert, towards the mark


def picture(mark: NDArray[np.float64]) -> NDArray[np.uint8]:
    image = np.full((SIZE, SIZE, 3), 60, np.uint8)
    column, row = ((mark + 1) / 2 * (SIZE - 5)).astype(int)
    image[row : row + 5, column : column + 5] = (220, 40, 40)
    return image


def expert(position: NDArray[np.float64], mark: NDArray[np.float64]) -> NDArray[np.float32]:
    chunk = []
    for _ in range(CHUNK_STEPS):
        position = position + np.clip(mark - position, -STEP, STEP)
        chunk.append(position)
    return np.float32(chunk)


def proprio(position: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.float32([*position, 0.0, 0.0])


def dataset(size: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    positions, marks = rng.uniform(-0.9, 0.9, (2, size, 2))
    return {
        "proprio": torch.from_numpy(np.stack([proprio(p) for p in positions])),
        "image_top": torch.from_numpy(np.stack([picture(m) for m in marks])),
        "action": torch.from_numpy(np.stack([expert(p, m) for p, m in zip(positions, marks, strict=True)])),
        "action_mask": torch.ones(size, CHUNK_STEPS, dtype=torch.bool),
    }


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["bc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("act", "flow"))])
def test_a_cloned_policy_follows_what_it_sees(name: str) -> None:
    rng, config = np.random.default_rng(0), CONFIGS[name]
    data = dataset(600, rng)
    wide = FieldStatistics((0.0,) * 4, (0.5,) * 4, (-1.0,) * 4, (1.0,) * 4)
    learner = ALGORITHMS[name](SPEC, {"proprio": wide, "action": wide.select([0, 1])}, config, seed=0)
    assert np.median(misses(learner.policy(), np.random.default_rng(1))) > 0.2
    for _ in range(config.steps):
        rows = torch.from_numpy(rng.integers(0, 600, config.batch_size))
        learner.update({name: value[rows] for name, value in data.items()})
    missed = misses(learner.policy(), rng)
    assert np.median(missed) < 0.06, missed  # a pixel is 0.07
    assert max(missed) < 0.2, missed


def misses(policy: Any, rng: np.random.Generator) -> list[float]:
    """Distances from the mark after two seconds."""
    loop = ControlLoop(policy.eval(), execute_steps=2)
    missed = []
    for _ in range(10):
        position, mark = rng.uniform(-0.9, 0.9, (2, 2))
        loop.reset()
        for tick in range(20):
            observation = {"proprio": proprio(position), "image_top": picture(mark)}
            position = loop.step(observation, tick * 100_000_000).action.astype(np.float64)
        missed.append(float(np.abs(position - mark).max()))
    policy.train()
    return missed
