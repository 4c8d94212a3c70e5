"""The Task protocol: a goal in words, its ordered stages, where an episode starts, how it is judged, and an expert.

A task sees *facts* only: the observation fields `proprio` and `pose_<body>`. It imports no simulator, so the same file
judges a MuJoCo step, a whole batch of twins, another engine or a recorded episode, and its expert runs in any process.
Legend: J joints, S stages; (...) any leading batch shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robolearn.specs import RobotSpec
from robolearn.tasks.arm import Arm, Facts
from robolearn.tasks.kinematics import SO101_ARM

__all__ = ["Facts", "InitialState", "Judgement", "Task", "TaskStatus"]


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
        """Of the whole task, in [0, 1]; 1 is success only."""
        share = (self.stage + np.minimum(self.stage_progress, 0.99)) / self.num_stages
        return np.where(self.success, 1.0, share)

    @property
    def reward(self) -> NDArray[np.float64]:
        """The dense reference reward of one step: progress, and as much again for success."""
        return self.progress + self.success

    def lasting(self, steps: NDArray[np.int64], wanted: int) -> Judgement:
        """The same with success only where the goal has been reached for `wanted` control steps on end.

        steps (...,): how many it has been, this one included: `np.where(judged.success, steps + 1, 0)` every step.
        """
        return replace(self, success=self.success & (np.asarray(steps) >= wanted))


@dataclass(frozen=True)
class TaskStatus:
    """The judgement of one twin at one instant; `failed` is empty or says why the episode cannot succeed any more."""

    success: bool
    stage: int
    progress: float
    reward: float
    failed: str = ""
    diverged: bool = False  # the physics failed, not the policy
    reached: bool = False  # the goal, at this instant; success is what has lasted


@runtime_checkable
class Task(Protocol):
    """One task with one robot. Bodies are named as in its scene and in its robot."""

    id: str  # carries a version: push-v1; with another robot than its first one: push-v1@panda
    instruction: str
    stages: tuple[str, ...]
    robots: tuple[str, ...] = ("so101",)  # with which its expert has been measured
    scene: str | Path  # a file of sim_assets/scenes, without .xml, or the path of one
    bodies: tuple[str, ...]  # whose poses are published, the robot's `tool` among them
    max_steps: int
    dwell_steps: int  # control steps for which the goal must be reached without a break
    control_hz: float = 20.0
    backward: str  # id of the task that undoes this one
    arm: Arm

    def __init__(self, arm: Arm = SO101_ARM) -> None:
        self.arm = arm

    @property
    def robot(self) -> str:
        return self.arm.name

    @property
    def robot_spec(self) -> RobotSpec:
        return self.arm.spec

    @property
    def arms(self) -> tuple[Arm, ...]:
        """All arms of the robot; `arm` is the first one."""
        return (self.arm,)

    @property
    def cameras(self) -> tuple[str, ...]:
        """What a policy may look through: the scene's camera and those on the robot."""
        return ("front", *(camera for arm in self.arms for camera in arm.cameras))

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        """Draw the start of an episode."""
        ...

    def judge(self, facts: Facts) -> Judgement:
        """Stage, progress, success and loss from the facts of an instant alone."""
        ...

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        """Joint targets (J,) that work towards the goal from wherever the facts are; it has no memory."""
        ...
