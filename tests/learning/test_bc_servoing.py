"""The shortest proof that cloning learns to look: a point follows a mark that only its camera shows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.algorithms.bc import BC, BCConfig
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.chunking import ChunkPolicyConfig
from robolearn.serving.loop import ControlLoop
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec

SIZE = 32
ROBOT = RobotSpec("point", ("x", "y"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_top": image_spec(SIZE, SIZE)}, ROBOT.action_spec, 10.0)
CONFIG = BCConfig(
    policy=ChunkPolicyConfig(chunk_steps=4, encoder_channels=(8, 16), hidden_sizes=(64,)),
    steps=250,
    batch_size=32,
    learning_rate=3e-3,
    warmup_steps=20,
    max_shift_px=0,
)
STEP = 0.15  # of the expert, towards the mark


def picture(mark: NDArray[np.float64]) -> NDArray[np.uint8]:
    image = np.full((SIZE, SIZE, 3), 60, np.uint8)
    column, row = ((mark + 1) / 2 * (SIZE - 5)).astype(int)
    image[row : row + 5, column : column + 5] = (220, 40, 40)
    return image


def expert(position: NDArray[np.float64], mark: NDArray[np.float64]) -> NDArray[np.float32]:
    chunk = []
    for _ in range(CONFIG.policy.chunk_steps):
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
        "action_mask": torch.ones(size, CONFIG.policy.chunk_steps, dtype=torch.bool),
    }


def test_a_cloned_policy_follows_what_it_sees() -> None:
    rng = np.random.default_rng(0)
    data = dataset(600, rng)
    wide = FieldStatistics((0.0,) * 4, (0.5,) * 4, (-1.0,) * 4, (1.0,) * 4)
    bc = BC(SPEC, {"proprio": wide, "action": wide.select([0, 1])}, CONFIG, seed=0)
    for _ in range(CONFIG.steps):
        rows = torch.from_numpy(rng.integers(0, 600, CONFIG.batch_size))
        bc.update({name: value[rows] for name, value in data.items()})

    loop = ControlLoop(bc.policy().eval(), execute_steps=2)
    misses = []
    for _ in range(10):
        position, mark = rng.uniform(-0.9, 0.9, (2, 2))
        loop.reset()
        for tick in range(20):
            observation = {"proprio": proprio(position), "image_top": picture(mark)}
            position = loop.step(observation, tick * 100_000_000).action.astype(np.float64)
        misses.append(float(np.abs(position - mark).max()))
    assert np.median(misses) < 0.06, misses  # a pixel is 0.07
    assert max(misses) < 0.2, misses
