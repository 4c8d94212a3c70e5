"""The power-up list of a cell, gone through by the machine: what was found, and how to mend what is wrong.

Connecting moves nothing: the arm holds where it stands. Only with `move` one joint makes a small motion through the
safety filter, there and back, which shows the latency from command to motion.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from robolearn.cameras.camera import Camera
from robolearn.cell import Cell, load_cell, opened, require_not_stopped
from robolearn.errors import HardwareError, RobolearnError
from robolearn.recipes.doctor import Check
from robolearn.robots.robot import Robot
from robolearn.robots.safety import SafetyFilter
from robolearn.teleop.teleoperator import Teleoperator

VOLTAGE_SPREAD_V = 0.7  # between motors: more is a bad contact or a thin cable
LOW_VOLTAGE_V = 5.5  # below it not even the 7.4 V kinds run well
WARM_C = 50.0  # at rest
READS, FAILURES = 200, 5  # and how many of them in a row end the reading
PLUGGED = re.compile(r"/dev/(tty(ACM|USB)|video|hidraw|input/js)\d+")
MOTION_RAD, SEEN_RAD, MOTION_TIMEOUT_S = 0.06, 0.01, 2.0

T = TypeVar("T")


def check_cell(path: Path, move: bool = False, seconds: float = 2.0, pictures: Path | None = None) -> list[Check]:
    """Every check in order. seconds: that each camera is watched. pictures: a folder for the last picture of each.
    Raises CellError when the file itself is wrong, and HardwareError when a robot is to move that somebody has stopped.
    """
    cell = load_cell(path)
    if move:
        require_not_stopped(path)
    checks = [Check("file", True, f"{cell.name}, {cell.control_hz:g} Hz, {len(cell.cameras)} cameras")]
    _check_names(checks, cell)
    robot = _attempt(checks, "robot", lambda: _connected(cell.make_robot()))
    if robot is not None:
        try:
            safety = _attempt(checks, "safety limits", lambda: _limits(cell, robot))
            answers = _check_robot(checks, robot, 1 / cell.control_hz)
            if safety is not None and answers:
                _check_motions(checks, robot, safety, 1 / cell.control_hz, move)
        finally:
            robot.close()
    cameras = _attempt(checks, "cameras", cell.make_cameras) or {}
    for name, camera in cameras.items():
        _check_camera(checks, f"camera {name}", camera, seconds, pictures)
    if cell.teleop is not None and robot is not None:
        name = f"teleop {cell.teleop.driver}"
        if cell.teleop.driver == "keyboard":
            checks.append(Check(name, True, "a terminal is all that it needs"))
        else:
            _attempt(checks, name, lambda: _try_teleop(checks, name, cell.make_teleoperator(robot.spec)))
    return checks


def _attempt(checks: list[Check], name: str, step: Callable[[], T]) -> T | None:
    """Do it; a failure is a line of the list, with what the driver says to do."""
    try:
        return step()
    except RobolearnError as error:
        found, _, remedy = str(error).partition("; ")
        checks.append(Check(name, False, found, remedy))
        return None


def _connected(robot: Robot) -> Robot:
    robot.connect()
    return robot


def _opened(camera: Camera) -> Camera:
    camera.connect()
    return camera


def _limits(cell: Cell, robot: Robot) -> SafetyFilter:
    safety = cell.make_safety(robot.spec)
    safety.reset(robot.read())
    return safety


def _try_teleop(checks: list[Check], name: str, teleoperator: Teleoperator) -> None:
    teleoperator.connect()
    teleoperator.close()
    checks.append(Check(name, True, "it connects"))


def _check_robot(checks: list[Check], robot: Robot, period_s: float) -> bool:
    """Whether it answered to the end."""
    joints = robot.spec.joint_names
    checks.append(Check("robot", True, f"{robot.spec.name}, {len(joints)} joints, all answer and hold"))
    health = getattr(robot, "health", None)
    if health is not None:
        volts = health.voltage_v
        weak, spread = int(np.argmin(volts)), float(np.ptp(volts))
        good = volts[weak] >= LOW_VOLTAGE_V and spread <= VOLTAGE_SPREAD_V
        remedy = "" if good else f"check the supply, and plugs and cables before {joints[weak]}"
        checks.append(Check("voltage", good, f"{volts.min():.1f} to {volts.max():.1f} V", remedy))
        hot = int(np.argmax(health.temperature_c))
        good = bool(health.temperature_c[hot] <= WARM_C)
        remedy = "" if good else f"let {joints[hot]} cool; if it is warm at rest, something drags or its load is high"
        found = f"{health.temperature_c.min():.0f} to {health.temperature_c[hot]:.0f} C"
        checks.append(Check("temperature", good, found, remedy))
    took, failed, in_a_row, why, period_ns = list[float](), 0, 0, "", round(period_s * 1e9)
    begun_ns, state = time.monotonic_ns(), None
    for n in range(READS):
        if in_a_row == FAILURES:
            break
        wait_s = (begun_ns + n * period_ns - time.monotonic_ns()) * 1e-9
        time.sleep(max(wait_s, 0.0) if n * period_s < 3.0 else 0.0)
        start = time.perf_counter()
        try:
            state, in_a_row = robot.read(), 0
        except HardwareError as error:
            failed, in_a_row, why = failed + 1, in_a_row + 1, str(error)
        took.append(time.perf_counter() - start)
    p50, p99 = np.percentile(took, [50, 99]) * 1e3
    counts = [getattr(getattr(part, "bus", None), "counts", {}) for part in _parts(robot).values()]
    lost = sum(each.get(name, 0) for each in counts for name in ("timeouts", "corrupt"))
    good = failed == 0 and p99 < 500 * period_s and lost <= READS // 50
    remedy = "" if good else "check the bus cable and its ground, shorten it, use another USB port, end other programs"
    found = f"{len(took)} reads, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {lost} answers lost, {failed} reads failed"
    checks.append(Check("bus", good, f"{found}: {why}" if why else found, remedy))
    if in_a_row or state is None:
        return False
    low, high = np.array(robot.spec.position_low), np.array(robot.spec.position_high)
    room = np.minimum(state.joint_position - low, high - state.joint_position)
    worst = int(np.argmin(room))
    remedy = "" if room[worst] >= 0 else f"move {joints[worst]} inside its range, or calibrate the arm again"
    found = f"{joints[worst]} is the nearest to an end of its range: {room[worst]:.2f} rad"
    checks.append(Check("position", bool(room[worst] >= 0), found, remedy))
    return True


def _check_motions(checks: list[Check], robot: Robot, safety: SafetyFilter, period_s: float, move: bool) -> None:
    """Of the last joint, and where several arms are one robot of that of each: which is left shows by itself."""
    if not move:
        checks.append(Check("motion", True, "not tried", "--move moves the last joint a little", required=False))
        return
    joint = -1
    for name, part in _parts(robot).items():
        joint += len(part.spec.joint_names)
        title = f"motion {name}".strip()
        moved = functools.partial(_check_motion, checks, title, robot, safety, period_s, joint)
        if not _attempt(checks, title, moved):
            return


def _parts(robot: Robot) -> Mapping[str, Robot]:
    """The robots that are moved as one, by name; of others the robot itself, without."""
    return getattr(robot, "parts", {"": robot})


def _check_motion(
    checks: list[Check], title: str, robot: Robot, safety: SafetyFilter, period_s: float, joint: int
) -> bool:
    """Whether the joint moved."""
    state = robot.read()
    safety.reset(state)
    start = state.joint_position.copy()
    middle = (robot.spec.position_low[joint] + robot.spec.position_high[joint]) / 2
    target = start.copy()
    target[joint] += np.float32(MOTION_RAD if start[joint] < middle else -MOTION_RAD)
    commanded, seen, reason = time.monotonic(), None, ""
    for goal in (target, start):
        begun = time.monotonic()
        while time.monotonic() - begun < MOTION_TIMEOUT_S:
            now_ns = time.monotonic_ns()
            decision = safety.filter(goal, now_ns, now_ns)
            reason = decision.reason if decision.held else reason
            robot.write(decision.command)
            time.sleep(period_s / 4)
            measured = robot.read()
            safety.watch(measured, getattr(robot, "health", None))
            position = measured.joint_position
            if seen is None and abs(position[joint] - start[joint]) > SEEN_RAD:
                seen = time.monotonic() - commanded
            if abs(position[joint] - goal[joint]) < SEEN_RAD:
                break
    name = robot.spec.joint_names[joint]
    if seen is None:
        remedy = "is something in its way? is its torque on? see the reason, and watch the joint"
        checks.append(Check(title, False, f"{name} did not move; {reason}", remedy))
    else:
        checks.append(Check(title, True, f"{name} moved {SEEN_RAD:g} rad {seen * 1e3:.0f} ms after the command"))
    return seen is not None


def _check_names(checks: list[Check], cell: Cell) -> None:
    """A name by the order of plugging in may be another device's tomorrow: of two cameras, the other one's."""
    for where, place in opened(cell).items():
        if PLUGGED.fullmatch(place):
            remedy = "take the name that lasts, of `robolearn cell find`, or install hardware/udev"
            checks.append(Check(where, False, f"{place} may be another device after a plug", remedy, required=False))


def _check_camera(checks: list[Check], name: str, camera: Camera, seconds: float, pictures: Path | None) -> None:
    if _attempt(checks, name, lambda: _opened(camera)) is None:
        return
    stamps, frame, end_s = set(), None, time.monotonic() + seconds
    try:
        while time.monotonic() < end_s:
            frame = camera.read()
            stamps.add(frame.stamp_ns)
            time.sleep(0.25 / camera.spec.rate_hz)
    except HardwareError as error:
        checks.append(Check(name, False, str(error), "check its cable"))
        return
    finally:
        camera.close()
    assert frame is not None
    image, depth = frame.image, frame.depth
    if pictures is not None:
        _write_picture(pictures / f"{camera.spec.name}.png", image)
    rate_hz, mean = (len(stamps) - 1) / seconds, float(image.mean())
    counts = getattr(camera, "counts", {})
    late, lost = counts.get("late", 0), counts.get("lost", 0)
    remedies = []
    if rate_hz < 0.8 * camera.spec.rate_hz:
        remedies.append("slow: use MJPG, a port of its own on the computer, more light or a shorter exposure")
    if not 15 < mean < 240:
        remedies.append("too dark or too bright: set its exposure, take its cap off")
    if lost:
        remedies.append("it was lost meanwhile: check its cable")
    if depth is not None and not depth.any():
        remedies.append("it measures no depth: nothing before it is far enough away, or rough enough to be seen")
    measured = "" if depth is None else f", depth of {np.count_nonzero(depth) / depth.size:.0%} of the picture"
    found = f"{image.shape[1]}x{image.shape[0]} at {rate_hz:.1f} of {camera.spec.rate_hz:g} Hz, {late} late, "
    checks.append(Check(name, not remedies, found + f"mean grey {mean:.0f}{measured}", "; ".join(remedies)))


def _write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    import cv2

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
    except OSError as error:
        raise RobolearnError(f"cannot write {path} ({error.strerror}); give another folder") from error
