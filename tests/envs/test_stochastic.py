from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.stochastic import STORI, Disturber, Stochasticity
from robolearn.errors import SpecError

CAMERAS = {"front": (24, 24)}


def episode(
    kind: Stochasticity, seed: int = 0, steps: int = 25
) -> tuple[list[dict[str, np.ndarray]], list[np.ndarray]]:
    """What is seen and what is sent while somebody waves the arm about."""
    env = RobotEnv("lift-v1", CAMERAS, privileged=True, stochasticity=kind)
    observation, info = env.reset(seed=seed)
    start = info["action_sent"]
    seen, sent = [observation], []
    for k in range(steps):
        action = start + np.float32(0.1) * np.sin(np.arange(6, dtype=np.float32) + 0.3 * k)
        observation, _, _, _, info = env.step(action.astype(np.float32))
        seen.append(observation)
        sent.append(info["action_sent"])
    env.close()
    return seen, sent


@cache
def undisturbed() -> tuple[list[dict[str, np.ndarray]], list[np.ndarray]]:
    return episode(STORI["none"])


def differs(a: list[dict[str, np.ndarray]], b: list[dict[str, np.ndarray]], name: str) -> bool:
    return any(not np.array_equal(x[name], y[name]) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", [name for name in STORI if name != "none"])
def test_each_kind_disturbs_what_it_says_and_a_seed_fixes_it(name: str) -> None:
    kind = replace(STORI[name], event=0.3) if name == "random events" else STORI[name]  # rare ones, more often
    plain, plain_sent = undisturbed()
    seen, sent = episode(kind)
    again, _ = episode(kind)
    assert not any(differs(seen, again, field) for field in seen[0])
    actions = any(not np.array_equal(a, b) for a, b in zip(sent, plain_sent, strict=True))
    assert actions == (name == "action corruption")
    changed = {field for field in ("proprio", "pose_cube", "image_front") if differs(seen, plain, field)}
    wanted = {
        "random events": {"pose_cube"},
        "noise and occlusion": {"proprio", "pose_cube", "image_front"},
        "partial observability": {"image_front"},
        "drift": {"proprio"},
        "delay": {"proprio", "image_front"},
    }
    assert wanted.get(name, set()) <= changed
    for row in seen:
        np.testing.assert_allclose(np.linalg.norm(row["pose_cube"][3:]), 1.0, atol=1e-5)


def test_a_delayed_observation_is_the_one_of_that_many_steps_ago() -> None:
    disturber = Disturber(Stochasticity(delay_steps=2))
    shown = [disturber.observe({"proprio": np.full(2, k, np.float32)})["proprio"][0] for k in range(6)]
    assert shown == [0, 0, 0, 1, 2, 3]
    disturber.begin(0)
    shown = [disturber.observe({"proprio": np.zeros(2, np.float32)}) for _ in range(2)]
    shown[0]["command"] = shown[0]["proprio"]
    shown[0]["proprio"][:] = 7  # what was given away is nobody else's
    assert set(shown[1]) == {"proprio"}
    assert disturber.observe({"proprio": np.zeros(2, np.float32)})["proprio"][0] == 0
    disturber.begin(1)
    assert disturber.observe({"proprio": np.full(2, 9, np.float32)})["proprio"][0] == 9


def test_bad_numbers() -> None:
    with pytest.raises(SpecError, match="event is 2"):
        Stochasticity(event=2)
    with pytest.raises(SpecError, match="noise is inf"):
        Stochasticity(noise=np.inf)
