from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from robolearn.envs.gym_env import GymVectorEnv
from robolearn.errors import SpecError, UnknownNameError


def test_a_row_is_what_gymnasium_gives() -> None:
    envs, alone = GymVectorEnv("gym:Pendulum-v1", 3), gymnasium.make("Pendulum-v1")
    assert envs.interface.control_hz == 20.0
    assert (envs.interface.action.low, envs.interface.action.high) == ((-2.0,), (2.0,))
    observation, _ = envs.reset(seed=[3, 4, 5])
    np.testing.assert_array_equal(observation["state"][1], alone.reset(seed=4)[0])
    for step in range(200):
        action = np.full((3, 1), np.sin(step), np.float32)
        observation, reward, _, truncated, _ = envs.step(action)
        state, value, _, _, _ = alone.step(action[1])
        np.testing.assert_allclose(observation["state"][1], state, rtol=1e-5, atol=1e-6)
        assert reward[1] == pytest.approx(value)
    assert truncated.all()
    with pytest.raises(SpecError, match="environment 0 has ended"):
        envs.step(action)
    kept = observation["state"].copy()
    again, _ = envs.reset(seed=[9, 9, 9], options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(again["state"][[0, 2]], kept[[0, 2]])
    np.testing.assert_array_equal(again["state"][1], alone.reset(seed=9)[0])
    with pytest.raises(SpecError, match="environment 0 has ended"):
        envs.step(action)
    envs.reset()
    envs.step(action)
    for bad, words in (
        (np.zeros((3, 2), np.float32), r"\(3, 2\), expected \(3, 1\)"),
        (np.full((3, 1), np.nan), "not finite"),
        (None, "actions are object"),
    ):
        with pytest.raises(SpecError, match=words):
            envs.step(bad)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="made without pictures"):
        envs.render()
    envs.close()


def test_it_can_be_seen() -> None:
    envs = GymVectorEnv("gym:Reacher-v5", 2, image_size=(24, 32))
    first = envs.reset(seed=[0, 1])[0]["image_render"]
    assert first.shape == (2, 24, 32, 3)
    assert first.dtype == np.uint8
    assert first.std() > 1
    for _ in range(5):
        moved = envs.step(np.ones((2, 2), np.float32))[0]["image_render"]
    assert (moved != first).any()
    envs.close()


@pytest.mark.parametrize(
    ("task", "error", "words"),
    [
        ("gym:Pendulum-v9", UnknownNameError, "did you mean"),
        ("gym:CartPole-v1", SpecError, "wanted vectors of numbers"),
        ("gym:Blackjack-v1", SpecError, "wanted vectors of numbers"),
        ("gym:LunarLander-v3", SpecError, "cannot be made here"),
    ],
)
def test_what_it_cannot_be_is_told_in_one_line(task: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        GymVectorEnv(task, 1)
    assert "\n" not in str(caught.value)
