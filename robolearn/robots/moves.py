"""Bringing a robot somewhere slowly: soft start to a pose, park. Every command goes through the safety filter."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from robolearn.errors import HardwareError
from robolearn.robots.robot import Robot
from robolearn.robots.safety import SafetyFilter

LONGEST_PERIODS = 3  # that one tick may make up for: who was asleep meanwhile does not catch up in a leap
LEAD_S = 0.5  # by which the goal may be ahead of what was sent: then it waits, as for an arm that is blocked
PATIENCE = 2.0  # times what the way should take, and a second, before it is given up


def move_to(
    robot: Robot,
    safety: SafetyFilter,
    pose: ArrayLike,
    speed: float,
    period_s: float,
    tolerance: float = 0.05,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Move a connected robot to `pose` (J,) in a straight line of joints, the farthest one at `speed` [unit/s].

    Returns when every joint is within `tolerance`. Raises HardwareError when the robot is held, and says why, or when
    it does not arrive; it holds then.
    """
    if not 0 < speed < math.inf:
        raise HardwareError(f"the speed of a move is {speed:g} {robot.spec.unit}/s, expected more than 0")
    state = robot.read()
    goal = robot.spec.action_spec.check(f"{robot.spec.name} pose", np.asarray(pose, np.float32)).astype(np.float64)
    start = state.joint_position.astype(np.float64)
    safety.reset(state)
    way_s, elapsed_s, moved_s, last_ns = float(np.abs(goal - start).max()) / speed, 0.0, 0.0, clock()
    sent, lead = start, np.minimum(speed * LEAD_S, safety.max_step)
    while True:
        now_ns = clock()
        passed_s = min((now_ns - last_ns) * 1e-9, LONGEST_PERIODS * period_s)
        last_ns, elapsed_s = now_ns, elapsed_s + passed_s
        share = min((moved_s + passed_s) / way_s, 1.0) if way_s > 0 else 1.0
        line = start + share * (goal - start)
        target = np.clip(line, sent - lead, sent + lead)
        if (target == line).all():
            moved_s += passed_s
        decision = safety.filter(target.astype(np.float32), now_ns, now_ns)
        robot.write(decision.command)
        sent = decision.command.astype(np.float64)
        if decision.held:
            raise HardwareError(f"{robot.spec.name} holds on its way: {decision.reason}")
        sleep(period_s)
        state = robot.read()
        safety.watch(state, getattr(robot, "health", None))
        off = np.abs(state.joint_position - goal)
        if share >= 1.0 and (off <= tolerance).all():
            return
        if elapsed_s > PATIENCE * way_s + 1.0:
            worst = int(off.argmax())
            raise HardwareError(
                f"{robot.spec.joint_names[worst]} is {off[worst]:.3f} {robot.spec.unit} from where it should be after "
                f"{elapsed_s:.1f} s; is something in its way?"
            )


def park(robot: Robot, safety: SafetyFilter, speed: float, period_s: float) -> None:
    """Bring an arm to its resting pose (`rest_rad` of its configuration) and let it go limp there."""
    rest = getattr(getattr(robot, "config", None), "rest_rad", None)
    release = getattr(robot, "release", None)
    if rest is None or release is None:
        raise HardwareError(f"{robot.spec.name} has no rest_rad; give the angles at which it may go limp in its cell")
    move_to(robot, safety, rest, speed, period_s)
    release()
