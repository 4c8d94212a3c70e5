"""Who says that a task is done: the truth of the twin, a classifier, a person, or one that errs on purpose.

What a step is worth follows: it costs one until the task is called done, so the value of a state is the time that is
left; a thing lost costs what never finishing would. Legend: N frames, S state.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.envs.tool_space import ToolSpace
from robolearn.rewards.state_success import StateSuccess

STEP_REWARD, DONE_REWARD = -1.0, 0.0


@dataclass(frozen=True)
class Frames:
    """What there is to judge."""

    states: NDArray[np.float32]  # (N, S)
    reached: NDArray[np.bool_] | None  # (N,) the truth, where it is known
    progress: float = 0.0  # the truth at the last of them
    images: tuple[Mapping[str, NDArray[np.uint8]], ...] = ()  # by camera, of each
    proprio: NDArray[np.float32] | None = None  # (N, P)
    values: NDArray[np.float32] | None = None  # (N,) what a reward model made of their pictures, if that is known
    said_done: NDArray[np.bool_] | None = None  # (N,) by a person, of frames that one has seen


class Judge(Protocol):
    """Says which frames show a task done. What takes long, or looks back, is asked aside (`verdicts.py`)."""

    def done(self, frames: Frames, task: int) -> NDArray[np.bool_]:
        """(N,)."""
        ...

    def potential(self, frames: Frames, task: int) -> NDArray[np.float32] | None:
        """(N,) how far the task is, from 0 to 1, by who can tell; else None. Its frames follow those before in time."""
        ...


class TrueJudge:
    """The task's own judgement: what a perfect reward model would say."""

    def done(self, frames: Frames, task: int) -> NDArray[np.bool_]:
        assert frames.reached is not None
        return frames.reached

    def potential(self, frames: Frames, task: int) -> None:
        """It tells success alone."""


class LearnedJudge:
    """A success classifier of states."""

    def __init__(self, model: StateSuccess, space: ToolSpace) -> None:
        self._model, self._space = model, space

    def done(self, frames: Frames, task: int) -> NDArray[np.bool_]:
        return self._model.done(self._space.scene(frames.states, task))

    def potential(self, frames: Frames, task: int) -> None:
        """It tells success alone."""


class PersonJudge:
    """The person beside the robot, by word: of what nobody has said, the task is not done."""

    def done(self, frames: Frames, task: int) -> NDArray[np.bool_]:
        return np.zeros(len(frames.states), np.bool_) if frames.said_done is None else frames.said_done

    def potential(self, frames: Frames, task: int) -> None:
        """It tells success alone."""


class ErringJudge:
    """Another judge that, in a share of the decisions that show a near miss, says done for all of their frames.

    A near miss: the task's last stage has begun (`push-v1`: the puck is within 3.5 cm of where it shall be). What errs
    so is no noise of single frames, which asking for several in a row would remove. The same frames always get the same
    verdict.
    """

    def __init__(self, judge: Judge, space: ToolSpace, rate: float) -> None:
        self._judge, self._space, self._rate = judge, space, rate

    def done(self, frames: Frames, task: int) -> NDArray[np.bool_]:
        done = self._judge.done(frames, task)
        stages = len(self._space.tasks[task].stages)
        if done.all() or frames.progress < (stages - 1) / stages:
            return done
        drawn = np.random.default_rng(zlib.crc32(frames.states.tobytes())).random()
        return np.ones_like(done) if drawn < self._rate else done

    def potential(self, frames: Frames, task: int) -> NDArray[np.float32] | None:
        return self._judge.potential(frames, task)


def lost_reward(discount: float) -> float:
    """Of losing a thing: what never finishing costs."""
    return STEP_REWARD / (1.0 - discount)
