"""The Task protocol: a goal in words, its ordered stages, where an episode starts, how it is judged, and an expert.

A task sees *facts* only: the observation fields `proprio` and `pose_<body>`. It imports no simulator, so the same file
judges a MuJoCo step, a whole batch of twins, another engine or a recorded episode, and its expert runs in any process.
Legend: J joints, S stages; (...) any leading batch shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robolearn.specs import RobotSpec

Facts: TypeAlias = Mapping[str, NDArray]
"""`proprio` (..., 2J) and `pose_<body>` (..., 7) for each of the task's bodies and `tool`."""


@dataclass(frozen=True)
class InitialState:
    """Where an episode starts: joint positions (J,) [rad] of the robot, the pose (7,) of each body that is placed, and
    the position [m or rad] of each joint of the scene that is not at zero."""

    joint_position: NDArray[np.float64]
    poses: dict[str, NDArray[np.float64]]
    joints: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """What the facts say about the task, each (...,): the goal is reached, the stage that is being worked on in
    0..S-1, how far that stage is in [0, 1], and whether an object is lost so that the goal is out of reach."""

    success: NDArray[np.bool_]
    stage: NDArray[np.int64]
    stage_progress: NDArray[np.float64]
    lost: NDArray[np.bool_]
    num_stages: int

    @property
    def progress(self) -> NDArray[np.float64]:
        """Of the whole task, in [0, 1]; 1 is success."""
        share = (self.stage + np.minimum(self.stage_progress, 0.99)) / self.num_stages
        return np.where(self.success, 1.0, share)

    @property
    def reward(self) -> NDArray[np.float64]:
        """The dense reference reward of one step: progress, and as much again for success."""
        return self.progress + self.success


@dataclass(frozen=True)
class TaskStatus:
    """The judgement of one twin at one instant; `failed` is empty or says why the episode cannot succeed any more."""

    success: bool
    stage: int
    progress: float
    reward: float
    failed: str = ""
    diverged: bool = False  # the physics failed, not the policy


@runtime_checkable
class Task(Protocol):
    """One manipulation task. Bodies are named as in its scene; `tool` is the robot's own tool frame."""

    id: str  # carries a version: push-v1
    instruction: str
    stages: tuple[str, ...]
    robot: str
    robot_spec: RobotSpec
    scene: str  # a file of sim_assets/scenes, without .xml
    bodies: tuple[str, ...]  # whose poses are published, `tool` among them
    max_steps: int
    control_hz: float
    backward: str | None  # id of the task that undoes this one

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        """Draw the start of an episode."""
        ...

    def judge(self, facts: Facts) -> Judgement:
        """Stage, progress, success and loss from the facts alone."""
        ...

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        """Joint targets (J,) [rad] that work towards the goal from wherever the facts are; it has no memory."""
        ...
