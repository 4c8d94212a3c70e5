"""Press the button."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import CLOSED, closeness, distance, home, position, standing
from robolearn.tasks.kinematics import SO101, forward
from robolearn.tasks.motion import move
from robolearn.tasks.task import Facts, InitialState, Judgement

CAP_M = 0.036  # height of the cap's face above the housing's foot, when nobody presses
PRESSED_M = 0.007
FINGERTIP_M = 0.0125  # from the tool frame to the end of the fingers
HOVER_M = 0.04  # of the fingertips above the cap
CENTRED_M = 0.012


class Button:
    """Stages: reach (the fingertips are not just above the cap), press (they are). Success: the cap is 7 mm down."""

    id = "button-v1"
    instruction = "press the red button with the closed gripper"
    stages: tuple[str, ...] = ("reach", "press")
    robot = SO101.name
    robot_spec = SO101
    scene = "button"
    bodies: tuple[str, ...] = ("tool", "housing", "button")
    max_steps = 80
    control_hz = 20.0
    backward: str | None = None  # it springs back by itself

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        place = (rng.uniform(0.17, 0.28), rng.uniform(-0.13, 0.13))
        housing = standing(place, 0.0, rng.uniform(-0.5, 0.5))
        return InitialState(home(rng, gripper_rad=CLOSED), {"housing": housing})

    def judge(self, facts: Facts) -> Judgement:
        tool, cap = position(facts, "tool"), position(facts, "button")
        pressed = position(facts, "housing")[..., 2] + CAP_M - cap[..., 2]
        aside, above = distance(tool[..., :2], cap[..., :2]), tool[..., 2] - FINGERTIP_M - cap[..., 2]
        ready = (aside < 0.02) & (above < 0.02)
        stage_progress = np.where(ready, np.clip(pressed / PRESSED_M, 0, 1), closeness(np.hypot(aside, above), 0.1))
        lost = np.zeros(aside.shape, dtype=bool)
        return Judgement(pressed > PRESSED_M, ready.astype(np.int64), stage_progress, lost, len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        here, _ = forward(facts["proprio"])
        cap = position(facts, "button")
        aside = float(distance(here[:2], cap[:2]))
        height = cap[2] + FINGERTIP_M + float(np.clip(6 * (aside - CENTRED_M), -0.02, HOVER_M))
        return move(facts, (*cap[:2], height), None, CLOSED)
