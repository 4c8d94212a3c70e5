"""Press the button; and backward, let it spring up and leave it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import HOME, closeness, distance, home, position, standing
from robolearn.tasks.motion import move
from robolearn.tasks.reach import at_home
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

CAP_M = 0.036  # height of the cap's face above the housing's foot, when nobody presses
PRESSED_M, RELEASED_M = 0.007, 0.001  # the cap is down further; less, up
HOVER_M = 0.04  # of the fingertips above the cap
CENTRED_M = 0.012


class Button(Task):
    """Stages: reach (the fingertips are not just above the cap), press (they are). Success: the cap is 7 mm down."""

    id = "button-v1"
    instruction = "press the red button with the closed gripper"
    stages = ("reach", "press")
    robots = ("so101", "panda")
    scene = "button"
    bodies = ("tool", "housing", "button")
    max_steps = 80
    dwell_steps = 3
    backward = "button_release-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        return InitialState(home(self.arm, rng, gripper=self.arm.gripper.closed), {"housing": housing(rng)})

    def judge(self, facts: Facts) -> Judgement:
        tool, cap, pressed = position(facts, "tool"), position(facts, "button"), depth(facts)
        aside, above = distance(tool[..., :2], cap[..., :2]), tool[..., 2] - self.arm.gripper.tip_m - cap[..., 2]
        ready = (aside < 0.02) & (above < 0.02)
        stage_progress = np.where(ready, np.clip(pressed / PRESSED_M, 0, 1), closeness(np.hypot(aside, above), 0.1))
        lost = np.zeros(aside.shape, dtype=bool)
        return Judgement(pressed > PRESSED_M, ready.astype(np.int64), stage_progress, lost, len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        cap, jaws = position(facts, "button"), self.arm.gripper
        aside = float(distance(self.arm.where(facts)[:2], cap[:2]))
        height = cap[2] + jaws.tip_m + float(np.clip(6 * (aside - CENTRED_M), -0.02, HOVER_M))
        return move(self.arm, facts, (*cap[:2], height), None, jaws.closed)


class ButtonRelease(Task):
    """Stages: release (the cap is down), leave (it is up). Success: and the tool is where episodes of Button start."""

    id = "button_release-v1"
    instruction = "let go of the red button and move the gripper back to the middle"
    stages = ("release", "leave")
    robots = Button.robots
    scene = "button"
    bodies = ("tool", "housing", "button")
    max_steps = 80
    dwell_steps = 5
    backward = Button.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        foot, down, jaws = housing(rng), rng.uniform(0.008, 0.010), self.arm.gripper
        tip = (*foot[:2], CAP_M - down + jaws.tip_m)
        joints = self.arm.with_gripper(
            self.arm.inverse(tip, self.arm.azimuth(tip) + rng.uniform(-0.1, 0.1)), jaws.closed
        )
        return InitialState(joints, {"housing": foot}, {"button": down})

    def judge(self, facts: Facts) -> Judgement:
        tool, pressed = position(facts, "tool"), depth(facts)
        up = pressed < RELEASED_M
        to_home = closeness(distance(tool, np.asarray(HOME)), 0.1)
        stage_progress = np.where(up, to_home, np.clip(1 - pressed / PRESSED_M, 0, 1))
        lost = np.zeros(up.shape, dtype=bool)
        return Judgement(up & at_home(tool), up.astype(np.int64), stage_progress, lost, len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        here, cap = self.arm.where(facts), position(facts, "button")
        clear = here[2] - self.arm.gripper.tip_m - cap[2] > 0.02
        return move(self.arm, facts, HOME if clear else (*cap[:2], HOME[2]), None, self.arm.gripper.closed)


def housing(rng: np.random.Generator) -> NDArray[np.float64]:
    """Pose (7,) of the button's housing."""
    return standing((rng.uniform(0.17, 0.28), rng.uniform(-0.13, 0.13)), 0.0, rng.uniform(-0.5, 0.5))


def depth(facts: Facts) -> NDArray[np.float64]:
    """How far the cap is down (...,) [m]."""
    return position(facts, "housing")[..., 2] + CAP_M - position(facts, "button")[..., 2]
