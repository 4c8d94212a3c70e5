"""The commands that set up a cell: `cell check`, `calibrate`, `park`, `find`, `motor` and `board`."""

from __future__ import annotations

import contextlib
import select
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.text import Text
from tyro.conf import Positional, arg

from robolearn.cli.output import EXIT_NO, print_json, print_table, require_heeded, say
from robolearn.errors import RobolearnError

CellFile = Annotated[Path, Positional, arg(metavar="CELL")]

CAMERA_OPTIONS, JOINT_OPTIONS = ("place", "views", "square_m"), ("leader", "model", "joints")
"""Options of `cell calibrate` that only one of its calibrations heeds."""


def cell_check(cell: CellFile, move: bool = False, pictures: Path | None = None, json: bool = False) -> int:
    """Go through the power-up list of a cell and say what to fix.

    Connects to the arm, which holds where it stands, and to every camera.

    Example: robolearn cell check hardware/cells/so101.yaml --move

    Args:
        cell: YAML file of the cell.
        move: let the last joint (the gripper) move a little, to measure the latency from command to motion.
        pictures: a folder for a picture of each camera by its name, to see which is which.
    """
    from robolearn.recipes.cell_check import check_cell

    checks = check_cell(cell, move, pictures=pictures)
    ok = all(c.ok or not c.required for c in checks)
    if json:
        print_json({"ok": ok, "checks": [c.to_json() for c in checks]})
    else:
        good, bad, noted = Text("ok", "green"), Text("no", "red"), Text("--", "yellow")
        rows = [(c.name, noted if not c.required else good if c.ok else bad, c.found, c.remedy) for c in checks]
        print_table(f"{cell}", ("check", "", "found", "what to do"), rows)
    return 0 if ok else EXIT_NO


def cell_calibrate(
    cell: CellFile,
    leader: bool = False,
    camera: str = "",
    place: Literal["", "eye_in_hand", "eye_to_hand"] = "",
    views: int = 12,
    square_m: float = 0.03,
    model: str = "sts3215",
    joints: tuple[str, ...] = (),
) -> int:
    """Calibrate the arm's joints, a camera's lens, or a camera's place, step by step.

    The file goes where the cell looks for it; a camera's goes to `calibration/` beside the folder of the cell, with a
    picture of what is left.

    Example: robolearn cell calibrate hardware/cells/so101.yaml --camera wrist --place eye_in_hand

    Args:
        cell: YAML file of the cell.
        leader: the leader arm's joints instead of the robot's.
        camera: name of a camera: calibrate its lens, with the board of `robolearn cell board`.
        place: where that camera is: it rides on the tool, or it stands and the board rides on the tool.
        views: pictures of the board.
        square_m: side of the printed board's squares, measured [m].
        model: kind of the motors.
        joints: names along the chain; those of the old calibration, or else of an SO-101, by default.
    """
    given = locals()
    from robolearn.cell import camera_calibration_file, load_cell

    heeded, whom = (CAMERA_OPTIONS, "a camera") if camera else (JOINT_OPTIONS, "joints, and no --camera is named")
    require_heeded(cell_calibrate, given, heeded, (*CAMERA_OPTIONS, *JOINT_OPTIONS), whom)
    loaded = load_cell(cell)
    if not camera:
        return _calibrate_joints(loaded, leader, model, joints)
    if camera not in loaded.cameras:
        raise RobolearnError(f"{cell} has no camera {camera!r}; it has {', '.join(loaded.cameras) or 'none'}")
    from robolearn.cameras.charuco import BoardConfig
    from robolearn.recipes import calibrate

    path = camera_calibration_file(cell, loaded, camera)
    device, board = loaded.make_cameras()[camera], BoardConfig(square_m=square_m)
    device.connect()
    try:
        if not place:
            found = calibrate.calibrate_lens(device, path, board, views, say, _enter)
            left = f"{found.intrinsics.residual_px:.2f} px"
        else:
            from robolearn.assets import asset
            from robolearn.robots.kinematics import Kinematics

            if hasattr(loaded.robot.config, "torque"):  # so that the arm can be led by hand
                loaded = replace(loaded, robot=replace(loaded.robot, config=replace(loaded.robot.config, torque=False)))
            robot = loaded.make_robot()
            shape = loaded.safety.model or asset(f"sim_assets/robots/{robot.spec.name}/{robot.spec.name}.xml")
            kinematics = Kinematics(shape, robot.spec, loaded.safety.tool)
            robot.connect()
            try:
                found = calibrate.calibrate_place(
                    device, place, path, board, views,
                    lambda: calibrate.tool_pose_of(kinematics, robot.read().joint_position), say, _enter,
                )  # fmt: skip
            finally:
                robot.close()
            assert found.extrinsics is not None
            left = f"{found.extrinsics.residual_px:.2f} px, {found.extrinsics.residual_m * 1e3:.1f} mm"
    finally:
        device.close()
    say(f"{path} and {path.with_suffix('.png').name}: residual {left}")
    return 0


def _calibrate_joints(loaded: Any, leader: bool, model: str, joints: tuple[str, ...]) -> int:
    from robolearn.assets import asset
    from robolearn.recipes.calibrate import calibrate_joints, joint_setups, positive_sides
    from robolearn.robots.calibration import Calibration
    from robolearn.robots.servo_arm import ServoArmConfig
    from robolearn.tasks.kinematics import SO101

    config = loaded.robot.config
    if leader:
        config = getattr(loaded.teleop.config, "arm", None) if loaded.teleop is not None else None
    if hasattr(config, "parts"):
        raise RobolearnError(
            f"{loaded.name} has the arms {', '.join(config.parts)}; calibrate each in a cell of its own, which names "
            "the same file"
        )
    if not isinstance(config, ServoArmConfig):
        raise RobolearnError(f"the cell {loaded.name} has no {'leader ' if leader else ''}arm of servo motors")
    names = joints or SO101.joint_names
    if not joints and config.calibration.exists():
        names = tuple(joint.name for joint in Calibration.load(config.calibration).joints)
    positive: dict[str, str] = {}
    with contextlib.suppress(RobolearnError, ImportError):  # without the arm's shape, or MuJoCo, nobody can say
        name = getattr(loaded.robot.config, "name", "")  # whose shape a leader has, too
        shape = loaded.safety.model or asset(f"sim_assets/robots/{name}/{name}.xml")
        positive = positive_sides(shape, names)
    found = calibrate_joints(config, model, joint_setups(names, positive), say, _enter)
    rows = [
        (j.name, j.motor_id, "+" if j.direction > 0 else "-", f"{j.low_rad:.3f}", f"{j.high_rad:.3f}")
        for j in found.joints
    ]
    print_table(f"{config.calibration}", ("joint", "id", "direction", "low [rad]", "high [rad]"), rows)
    say(f"residual {found.residual_rad:.4f} rad")
    return 0


def cell_park(cell: CellFile, speed_rad_s: float = 0.4) -> int:
    """Bring the arm to its resting pose, slowly, and let it go limp there.

    Example: robolearn cell park hardware/cells/so101.yaml

    Args:
        cell: YAML file of the cell; its robot needs `rest_rad`.
        speed_rad_s: of the joint with the longest way.
    """
    from robolearn.cell import load_cell, require_not_stopped
    from robolearn.robots.moves import park

    loaded = load_cell(cell)
    require_not_stopped(cell)
    robot = loaded.make_robot()
    robot.connect()
    try:
        park(robot, loaded.make_safety(robot.spec), speed_rad_s, 1 / loaded.control_hz)
    finally:
        robot.close()
    say(f"{robot.spec.name} rests, its torque is off")
    return 0


def cell_find(
    what: Annotated[Literal["ports", "cameras", "controls"], Positional], probe: bool = False, json: bool = False
) -> int:
    """List serial ports, cameras, or gamepads and SpaceMouse devices, by names that last.

    Example: robolearn cell find ports --probe

    Args:
        what: `ports`, `cameras` or `controls`.
        probe: ask for the motors behind each port; end the drivers first.
    """
    from robolearn.recipes import find

    found = {
        "ports": lambda: find.find_ports(probe),
        "cameras": find.find_cameras,
        "controls": find.find_controls,
    }[what]()
    if json:
        print_json({what: [asdict(device) for device in found]})
    elif found:
        rows = [(device.device, device.steady, device.description) for device in found]
        print_table(what, ("device", "name that lasts", "what it is"), rows)
    else:
        say(f"no {what} found; check cables and power, and `dmesg | tail`")
    return 0


def cell_motor(
    port: Annotated[str, Positional, arg(metavar="PORT")],
    id: int,
    model: str = "sts3215",
    baud_rate: int = 1_000_000,
    old_id: int | None = None,
) -> int:
    """Give a new motor its id and baud rate; it must be alone on the bus.

    Example: robolearn cell motor /dev/ttyACM0 --id 3

    Args:
        port: the adapter's port.
        id: from 1 at the base, along the chain.
        model: kind of the motor: `sts3215` or `dynamixel_x`.
        baud_rate: all motors of an arm need the same.
        old_id: where several motors are on the bus, the one that is meant.
    """
    from robolearn.robots.servo_arm import MODELS
    from robolearn.robots.servo_setup import set_up_motor

    if model not in MODELS:
        raise RobolearnError(f"there is no servo model {model!r}; expected one of {', '.join(MODELS)}")
    was_id, was_rate = set_up_motor(port, MODELS[model], id, baud_rate, old_id)
    say(f"the {model} that was id {was_id} at {was_rate} baud is id {id} at {baud_rate} baud")
    return 0


def cell_board(out: Annotated[Path, Positional, arg(metavar="FILE.png")], tag: int | None = None) -> int:
    """Draw the board that cameras are calibrated with, or a tag that tells where a thing is, to be printed and glued.

    Example: robolearn cell board board.png

    Args:
        out: the picture; print it so that a square measures about 3 cm, and give `cell calibrate` what you measure.
        tag: draw this tag of 0 to 49 in the place of the board; its black square's edge is `size_m` in the cell's file.
    """
    import cv2

    from robolearn.cameras.charuco import BoardConfig, draw_board
    from robolearn.cameras.tags import TagConfig, draw_tag

    picture = draw_board(BoardConfig()) if tag is None else draw_tag(TagConfig(tag).tag)
    if out.suffix != ".png" or not cv2.imwrite(str(out), picture):
        raise RobolearnError(f"cannot write {out}; give a file that ends in .png, in a folder that exists")
    say(f"{out}: print it, glue it to {'a flat plate' if tag is None else 'the thing'}, measure a square")
    return 0


def _enter() -> bool:
    """Whether Enter was pressed since the last time. Raises RobolearnError when nobody can press it any more."""
    if not select.select([sys.stdin], [], [], 0)[0]:
        return False
    if not sys.stdin.readline():
        raise RobolearnError("standard input was closed; the calibration needs somebody who presses Enter")
    return True
