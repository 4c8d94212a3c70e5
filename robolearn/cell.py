"""A cell: one physical robot with its cameras, controls and limits, read from one YAML file.

    name: bench
    control_hz: 30
    robot: {driver: servo_arm, port: /dev/robolearn/arm, calibration: ../calibration/arm.json}
    safety: {max_jump: 0.2}
    cameras:
      front: {driver: opencv, device: /dev/robolearn/front, height: 480, width: 640, rate_hz: 30}
    teleop: {driver: keyboard}
    physics: {latency_s: 0.035}
    objects: {puck: {tag: 7, camera: front, size_m: 0.03}}

`driver` is a name of ROBOTS, CAMERAS or TELEOPERATORS; the other keys are the fields of that driver's `config_type`,
those of `safety` are SafetyConfig's, those of `physics` are Physics's, as `twin fit` writes them, and those of objects
are TagConfig's: by body of a task, the tag that tells where it is. A device may have a file of its own, and stands for
it by its path (`teleop: ../teleop/gamepad.yaml`). Paths are relative to the file that they stand in. Whatever is wrong
is a CellError that names file, line and key.
"""

from __future__ import annotations

import dataclasses
import os
import time
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from robolearn.cameras import CAMERAS
from robolearn.cameras.camera import Camera
from robolearn.cameras.tags import TagConfig
from robolearn.errors import CellError, HardwareError, PluginError, RobolearnError, UnknownNameError
from robolearn.physics import DEFAULT_PHYSICS, Physics
from robolearn.plugins import Device
from robolearn.robots import ROBOTS
from robolearn.robots.geometry import load_geometry
from robolearn.robots.robot import Robot
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.specs import RobotSpec
from robolearn.tasks.task import Task
from robolearn.teleop import TELEOPERATORS
from robolearn.teleop.teleoperator import Teleoperator
from robolearn.yaml_text import load_yaml

if TYPE_CHECKING:
    from robolearn.twin.twin import Twin

CLOCK: Callable[[], int] = time.monotonic_ns


@dataclass(frozen=True)
class Cell:
    """What `load_cell` read. Nothing is opened; `make_*` make drivers that are not connected yet."""

    name: str
    control_hz: float
    robot: Device
    safety: SafetyConfig = SafetyConfig()  # noqa: RUF009, it is frozen
    cameras: Mapping[str, Device] = field(default_factory=dict)
    teleop: Device | None = None
    physics: Physics = DEFAULT_PHYSICS  # of the robot, for its twin
    objects: Mapping[str, TagConfig] = field(default_factory=dict)  # that tags tell the place of, by body of a task

    def make_robot(self, clock: Callable[[], int] = CLOCK) -> Robot:
        return ROBOTS[self.robot.driver](self.robot.config, clock=clock)

    def make_safety(self, spec: RobotSpec) -> SafetyFilter:
        """The filter that every command to the robot of `spec` goes through, with all limits of this cell."""
        return SafetyFilter(spec, self.safety, 1.0 / self.control_hz, load_geometry(self.safety, spec))

    def make_cameras(self, clock: Callable[[], int] = CLOCK) -> dict[str, Camera]:
        return {name: CAMERAS[camera.driver](camera.config, clock=clock) for name, camera in self.cameras.items()}

    def make_teleoperator(self, spec: RobotSpec) -> Teleoperator:
        """For a robot of `spec`. Raises CellError when the cell has no controls."""
        if self.teleop is None:
            raise CellError(f"cell {self.name} has no teleop; add one to its file")
        return TELEOPERATORS[self.teleop.driver](self.teleop.config, spec)

    def make_twin(self, task: Task, cameras: Mapping[str, tuple[int, int]] | None = None) -> Twin:
        """A twin whose joints and servos are this cell's, doing `task`. Raises what Twin raises."""
        from robolearn.twin.twin import Twin  # the robot's computer needs no simulator

        return Twin(task, cameras, self.physics)


def load_cell(path: Path) -> Cell:
    """Read a cell's file. Raises CellError."""
    reader, data = _read(path)
    return reader.cell(data)


def opened(cell: Cell) -> dict[str, str]:
    """What each driver takes for itself, by the key that says so: ports, devices, serial numbers and addresses."""
    devices = {"robot": cell.robot, **{f"cameras.{name}": camera for name, camera in cell.cameras.items()}}
    if cell.teleop is not None:
        devices["teleop"] = cell.teleop
    configs: dict[str, Any] = {}
    for where, device in devices.items():
        parts = {f"{where}.parts.{name}": part for name, part in getattr(device.config, "parts", {}).items()}
        for each, config in ((each, part.config) for each, part in {where: device, **parts}.items()):
            configs |= {each: config, f"{each}.arm": getattr(config, "arm", None)}
    keys = [(where, key) for where in configs for key in ("port", "device", "serial")]
    places = {f"{where}.{key}": getattr(configs[where], key, None) for where, key in keys}
    return {where: place for where, place in places.items() if isinstance(place, str)}


def camera_calibration_file(cell_file: Path, cell: Cell, camera: str) -> Path:
    """Where the calibration of a cell's camera is, or would be."""
    return cell_file.parent.parent / "calibration" / f"{cell.name}_{camera}.json"


def stop_file(cell_file: Path) -> Path:
    """What is there while the cell's robot is stopped: an emergency stop outlives programs, until a person ends it."""
    return cell_file.with_suffix(".stopped")


def stop_reason(file: Path) -> str:
    """Why the robot is stopped, by its `stop_file`; empty where there is none."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or "stopped"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"stopped, if {file} could be read ({error.strerror})"


def require_not_stopped(cell_file: Path) -> None:
    """Raise HardwareError where somebody has stopped the cell's robot."""
    file = stop_file(cell_file)
    if reason := stop_reason(file):
        raise HardwareError(
            f"the robot of {cell_file} was stopped ({reason}); see that it may move, then call /robot/resume of its "
            f"node, or delete {file} where none runs"
        )


def _read(path: Path) -> tuple[_Reader, Any]:
    """A YAML file, and who turns it into configurations."""
    try:
        text = path.read_text(encoding="utf-8")
        data = load_yaml(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise CellError(
            f"cannot read {path}: no such file; name one, as hardware/cells/so101.yaml of the checkout is"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CellError(f"cannot read {path}: {error.strerror if isinstance(error, OSError) else error}") from error
    except yaml.YAMLError as error:
        raise CellError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return _Reader(path, node), data


class _Reader:
    """Turns what YAML says into configurations. `where` is a key with those above it: `cameras.front.height`."""

    def __init__(self, path: Path, node: yaml.Node | None) -> None:
        self._path = path
        self._lines: dict[str, int] = {}
        if node is not None:
            self._note_lines(node, "")

    def cell(self, data: Any) -> Cell:
        top = self._mapping(data, "")
        self._check_keys(top, "", [f.name for f in dataclasses.fields(Cell)], needed=["name", "control_hz", "robot"])
        rate = self._value(float, top["control_hz"], "control_hz")
        if not rate > 0:
            raise self._error("control_hz", f"is {rate:g}, expected more than 0")
        cameras = self._mapping(top.get("cameras") or {}, "cameras")
        cell = Cell(
            name=self._value(str, top["name"], "name"),
            control_hz=rate,
            robot=self._device(ROBOTS, top["robot"], "robot"),
            safety=self._value(SafetyConfig, top.get("safety") or {}, "safety"),
            cameras={
                str(name): self._device(CAMERAS, camera, f"cameras.{name}", name=str(name))
                for name, camera in cameras.items()
            },
            teleop=self._device(TELEOPERATORS, top["teleop"], "teleop") if top.get("teleop") else None,
            physics=self._value(Physics, top.get("physics") or {}, "physics"),
            objects={
                str(name): self._value(TagConfig, thing, f"objects.{name}")
                for name, thing in self._mapping(top.get("objects") or {}, "objects").items()
            },
        )
        holders: dict[str, str] = {}
        for where, place in opened(cell).items():
            holder = holders.setdefault(os.path.realpath(place) if place.startswith("/") else place, where)
            if holder != where:
                raise self._error(where, f"is {place}, which {holder} is already; give each its own")
        return cell

    def _device(self, table: Mapping[str, Any], data: Any, where: str, **known: str) -> Device:
        if isinstance(data, str):
            path = self._path.parent / data
            reader, keys = _read(path)
            return reader._device(table, reader._mapping(keys, "the device"), "", **known)
        keys = dict(self._mapping(data, where))
        if "driver" not in keys:
            raise self._error(where, f"has no driver; expected one of {', '.join(sorted(table))}")
        driver = self._value(str, keys.pop("driver"), f"{where}.driver")
        if driver not in table:
            raise self._error(f"{where}.driver", f"names an {UnknownNameError('driver', driver, table)}")
        try:
            config_type = table[driver].config_type
        except PluginError as error:
            raise self._error(f"{where}.driver", f"is {driver}; {error}") from error
        return Device(driver, self._value(config_type, {**known, **keys}, where, table))

    def _value(self, wanted: Any, value: Any, where: str, table: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """`value` as the type `wanted`, which is a dataclass, a plain type, a tuple of them, one of them or None, or
        devices by name, whose drivers are those of `table`."""
        if dataclasses.is_dataclass(wanted):
            return self._dataclass(typing.cast(type, wanted), value, where, table)
        options = typing.get_args(wanted)
        if wanted == Mapping[str, Device]:
            devices = self._mapping(value, where)
            return {str(name): self._device(table, device, _join(where, str(name))) for name, device in devices.items()}
        if isinstance(wanted, types.UnionType):
            if value is None:
                return None
            return self._value(next(option for option in options if option is not types.NoneType), value, where)
        if typing.get_origin(wanted) is tuple:
            if not isinstance(value, list):
                raise self._error(where, f"is {value!r}, expected a list")
            return tuple(self._value(options[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if wanted is Path and isinstance(value, str):
            return self._path.parent / value
        if wanted is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return float(value)
        if wanted in (str, int, bool) and type(value) is wanted:
            return value
        raise self._error(
            where, f"is {value!r}, expected {_NAMES.get(wanted, 'nothing: it cannot be given in a file')}"
        )

    def _dataclass(self, wanted: type, value: Any, where: str, table: Mapping[str, Any]) -> Any:
        keys = self._mapping(value, where)
        hints, fields = typing.get_type_hints(wanted), dataclasses.fields(wanted)
        needed = [
            f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        self._check_keys(keys, where, [f.name for f in fields], needed)
        try:
            given = {key: self._value(hints[key], item, _join(where, key), table) for key, item in keys.items()}
            return wanted(**given)
        except CellError:
            raise
        except RobolearnError as error:
            raise self._error(where, str(error)) from error

    def _mapping(self, value: Any, where: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._error(where, f"is {value!r}, expected keys and values")
        return value

    def _check_keys(self, keys: Mapping[str, Any], where: str, known: Iterable[str], needed: Iterable[str]) -> None:
        names = list(known)
        for key in keys:
            if key not in names:
                raise self._error(_join(where, str(key)), f"is an {UnknownNameError('key', str(key), names)}")
        missing = [key for key in needed if key not in keys]
        if missing:
            raise self._error(where, f"lacks {', '.join(missing)}")

    def _note_lines(self, node: yaml.Node, where: str) -> None:
        """Where every key stands; and no key may stand twice, of which YAML would drop one."""
        if isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                self._lines[f"{where}[{i}]"] = item.start_mark.line + 1
                self._note_lines(item, f"{where}[{i}]")
        if not isinstance(node, yaml.MappingNode):
            return
        for key, item in node.value:
            name = _join(where, str(key.value))
            again = name in self._lines
            self._lines[name] = key.start_mark.line + 1
            if again:
                raise self._error(name, "is given twice; keep one")
            self._note_lines(item, name)

    def _error(self, where: str, what: str) -> CellError:
        line = self._lines.get(where) or self._lines.get(where.rpartition(".")[0])
        return CellError(f"{self._path}{f':{line}' if line else ''}: {where or 'the cell'} {what}")


_NAMES = {float: "a number", int: "a whole number", str: "text", bool: "true or false", Path: "a path"}


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
