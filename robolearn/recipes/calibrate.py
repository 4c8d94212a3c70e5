"""Guided calibration at the bench: an arm's joints, a camera's lens, a camera's place.

Nobody is asked twice and nothing is taken on trust: each step is checked, and what was not good is asked for again. The
person is reached by `show(text)` and `confirmed()` (has Enter been pressed since?), so that tests can be the person.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.cameras.calibration import CameraCalibration
from robolearn.cameras.camera import Camera
from robolearn.cameras.charuco import (
    BoardConfig,
    View,
    calibrate_intrinsics,
    covered,
    draw_residuals,
    find_board,
    locate_board,
)
from robolearn.cameras.hand_eye import Kind, calibrate_extrinsics
from robolearn.errors import HardwareError
from robolearn.robots.calibration import Calibration
from robolearn.robots.calibration_routine import CalibrationRoutine, JointSetup, Step
from robolearn.robots.kinematics import Kinematics
from robolearn.robots.servo_arm import MODELS, ServoArmConfig
from robolearn.robots.servo_bus import ServoBus
from robolearn.robots.servo_model import ServoModel
from robolearn.robots.servo_setup import begin_calibration, read_positions, store_homing
from robolearn.specs import RobotSpec

Show = Callable[[str], None]
Confirmed = Callable[[], bool]
SAMPLE_S = 0.05
NUDGE_RAD, SEEN_M = 0.3, 0.02  # a turn of a joint, and what a person sees of it
WAYS = (("forwards", "backwards"), ("to the left", "to the right"), ("up", "down"))  # of x, y, z


def calibrate_joints(
    config: ServoArmConfig, model_name: str, joints: Sequence[JointSetup], show: Show, confirmed: Confirmed
) -> Calibration:
    """Guide through the five steps, and write the file of `config.calibration`. The arm goes limp at the start."""
    if model_name not in MODELS:
        raise HardwareError(f"there is no servo model {model_name!r}; expected one of {', '.join(MODELS)}")
    _require_place(config.calibration)
    model, ids = MODELS[model_name], [joint.motor_id for joint in joints]
    bus = ServoBus(config.port, model.protocol, config.bus, {joint.motor_id: joint.name for joint in joints})
    show(f"The arm on {config.port} goes limp now: hold it, then press Enter.")
    while not confirmed():
        time.sleep(SAMPLE_S)
    bus.open()
    try:
        routine = CalibrationRoutine(model, joints, begin_calibration(bus, model, ids))
        show(routine.prompt)
        while routine.step is not Step.DONE:
            routine.feed(_positions(bus, model, ids, show))
            if confirmed():
                was = routine.step
                wrong = routine.confirm()
                if was is Step.MIDDLE and not wrong:
                    store_homing(bus, model, dict(zip(ids, routine.homing_ticks.tolist(), strict=True)))
                show(f"Not yet: {wrong}. {routine.prompt}" if wrong else routine.prompt)
            time.sleep(SAMPLE_S)
    finally:
        bus.close()
    calibration = routine.result()
    calibration.save(config.calibration)
    return calibration


def _positions(bus: ServoBus, model: ServoModel, ids: Sequence[int], show: Show) -> NDArray[np.int64]:
    """Encoder positions (J,), waited for while motors are silent: cables are tugged at here, and work would be lost."""
    told = False
    while True:
        try:
            positions = read_positions(bus, model, ids)
        except HardwareError as error:
            if not told:
                show(f"Not heard: {error}. What was done is kept; Ctrl-C ends it.")
            told = True
            time.sleep(SAMPLE_S)
            with contextlib.suppress(HardwareError):
                bus.close()
                bus.open()
        else:
            if told:
                show("Heard again, go on.")
            return positions


def calibrate_lens(
    camera: Camera, path: Path, board: BoardConfig, views: int, show: Show, confirmed: Confirmed
) -> CameraCalibration:
    """Intrinsics: a view each time that Enter is pressed. Writes `path`, and a picture beside it."""
    _require_place(path)
    size, seen = (camera.spec.height, camera.spec.width), list[View]()
    show(
        f"Hold the board before {camera.spec.name}, still, near and far, in the corners, tilted to all sides; press "
        f"Enter for each of {views} views."
    )
    image = np.zeros((*size, 3), np.uint8)
    while True:
        view, image = _next_view(camera, board, show, confirmed)
        seen.append(view)
        parts = covered(seen, *size)
        show(
            f"{len(seen)} of {views}: {len(view.pixels)} corners; seen in {int(parts.sum())} of 12 parts of the picture"
        )
        if len(seen) < views:
            continue
        try:
            intrinsics = calibrate_intrinsics(seen, *size)
            break
        except HardwareError as error:
            show(f"Not yet: {error}. Two more views.")
            views += 2
    calibration = CameraCalibration(camera.spec.name, intrinsics)
    expected = [intrinsics.project(locate_board(intrinsics, v)[0], v.places) for v in seen]
    calibration.save(path, draw_residuals(image, seen, expected))
    return calibration


def calibrate_place(
    camera: Camera,
    kind: Kind,
    path: Path,
    board: BoardConfig,
    views: int,
    tool_pose: Callable[[], NDArray[np.float64]],
    show: Show,
    confirmed: Confirmed,
) -> CameraCalibration:
    """Extrinsics: a view and `tool_pose()` (4, 4) each time that Enter is pressed. Adds to the file of `path`."""
    known = CameraCalibration.load(path)
    fixed = "the board lie still" if kind == "eye_in_hand" else "the board be fixed to the tool"
    show(f"Let {fixed}; bring the arm to {views} poses that turn the tool to all sides, press Enter at each.")
    seen, poses = list[View](), list[NDArray[np.float64]]()
    while True:
        view, image = _next_view(camera, board, show, confirmed)
        seen.append(view)
        poses.append(tool_pose())
        show(f"{len(seen)} of {views}: {len(view.pixels)} corners")
        if len(seen) < views:
            continue
        try:
            extrinsics, expected = calibrate_extrinsics(kind, known.intrinsics, poses, seen)
            break
        except HardwareError as error:
            show(f"Not yet: {error}. Two more poses.")
            views += 2
    calibration = CameraCalibration(known.camera, known.intrinsics, extrinsics)
    calibration.save(path, draw_residuals(image, seen, expected, gain=20.0))
    return calibration


def _require_place(path: Path) -> None:
    """Raise HardwareError where the file of a calibration cannot be written, before anybody works for it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise HardwareError(
            f"cannot write {path} ({error.strerror}); see who may write there, or give `calibration` another path"
        ) from error


def tool_pose_of(kinematics: Kinematics, joint_position: NDArray[np.float32]) -> NDArray[np.float64]:
    """T_base_tool (4, 4) at joint positions (J,)."""
    pose = np.eye(4)
    pose[:3, 3], pose[:3, :3] = kinematics.tool(joint_position)
    return pose


def positive_sides(model: Path, names: Sequence[str]) -> dict[str, str]:
    """What is seen of each joint of an MJCF file when it turns to its positive side out of the reference pose.

    Nothing of those that move the tool in no way that has a word. Raises SpecError when the file has other joints.
    """
    none = (0.0,) * len(names)
    kinematics, words = Kinematics(model, RobotSpec("arm", tuple(names), none, none, none)), dict[str, str]()
    place, turned = kinematics.tool(np.array(none))
    for name, step in zip(names, NUDGE_RAD * np.eye(len(names)), strict=True):
        place_then, turned_then = kinematics.tool(step)
        way, turn = place_then - place, turned_then @ turned.T
        axis = int(np.abs(way).argmax())
        if abs(way[axis]) > SEEN_M:
            words[name] = f"so that the tool goes {WAYS[axis][int(way[axis] < 0)]}"
        elif abs(roll := turn[2, 1] - turn[1, 2]) > NUDGE_RAD:  # twice its sine
            words[name] = f"{'clockwise' if roll > 0 else 'anticlockwise'}, seen from behind the arm"
        elif name == names[-1]:
            words[name] = "open"
    return words


def joint_setups(names: Sequence[str], positive: Mapping[str, str]) -> list[JointSetup]:
    """Joints with the ids 1, 2, ... along the chain; which way is `positive` is said in the words of `JointSetup`."""
    return [JointSetup(n, i + 1, positive=positive.get(n, JointSetup.positive)) for i, n in enumerate(names)]


def _next_view(camera: Camera, board: BoardConfig, show: Show, confirmed: Confirmed) -> tuple[View, NDArray[np.uint8]]:
    """Wait for Enter and a picture that shows the board; a camera that falls silent comes back, and no view is lost."""
    while True:
        while not confirmed():
            time.sleep(SAMPLE_S)
        try:
            image = camera.read().image
        except HardwareError as error:
            show(f"Not this one: {error}. What was done is kept; Ctrl-C ends it.")
            continue
        view = find_board(board, image)
        if view is not None:
            return view, image
        show("Not this one: too little of the board is seen; mind glare, blur and distance.")
