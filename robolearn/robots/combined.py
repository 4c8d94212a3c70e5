"""Robots moved as one, such as the two arms of a bench. Legend: J joints of all, in the order of the parts.

A joint of the part `left` is named `left_<joint>`, as in the models of such pairs. Each part is its own driver's, with
everything that it promises; a fault of one is a fault of the whole, so that whoever commands the whole stops, and the
others hold where they are. `connect` then connects anew only what had failed: the others are not let go.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, RobolearnError, SpecError
from robolearn.plugins import Device
from robolearn.robots.robot import Health, Robot
from robolearn.specs import RobotSpec
from robolearn.types import RobotState

T = TypeVar("T")
PART_NAME = re.compile(r"[a-z][a-z0-9_]*")


def require_parts(parts: Mapping[str, Device]) -> None:
    """Raise SpecError unless these are two or more, whose names can stand before those of joints."""
    if len(parts) < 2:
        raise SpecError(f"parts has {', '.join(parts) or 'nothing'}; expected two or more, such as left and right")
    for name in parts:
        if not PART_NAME.fullmatch(name):
            raise SpecError(f"a part is named {name!r}; expected small letters, digits and underscores, a letter first")


@contextlib.contextmanager
def part_named(name: str) -> Iterator[None]:
    """What is raised inside says which part it is of."""
    try:
        yield
    except HardwareError as error:
        raise HardwareError(f"{name}: {error}") from error
    except RobolearnError as error:
        raise SpecError(f"{name}: {error}") from error


@dataclass(frozen=True)
class CombinedRobotConfig:
    """What is moved as one."""

    name: str  # of the whole, such as so101_pair
    parts: Mapping[str, Device]  # robots, by what stands before the names of their joints

    def __post_init__(self) -> None:
        require_parts(self.parts)

    @property
    def max_temperature_c(self) -> float | None:
        """The least of the parts' own limits."""
        limits = [getattr(part.config, "max_temperature_c", None) for part in self.parts.values()]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def rest_rad(self) -> tuple[float, ...] | None:
        """Where all of it rests without torque; None unless every part says so."""
        rests = [getattr(part.config, "rest_rad", None) for part in self.parts.values()]
        known = [rest for rest in rests if rest is not None]
        return tuple(angle for rest in known for angle in rest) if len(known) == len(rests) else None


class CombinedRobot:
    """Implements `Robot`."""

    config_type = CombinedRobotConfig

    def __init__(self, config: CombinedRobotConfig, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Opens nothing. Raises SpecError where the parts do not go together."""
        from robolearn.robots import ROBOTS  # which names this driver, too

        self.config = config
        self.parts: dict[str, Robot] = {}
        for name, device in config.parts.items():
            with part_named(name):
                self.parts[name] = ROBOTS[device.driver](device.config, clock=clock)
        specs = [part.spec for part in self.parts.values()]
        joints = [f"{name}_{joint}" for name, part in self.parts.items() for joint in part.spec.joint_names]
        if len({spec.unit for spec in specs}) > 1:
            units = ", ".join(f"{name} in {part.spec.unit}" for name, part in self.parts.items())
            raise SpecError(f"{config.name} has joints of several units: {units}; expected one")
        self.spec = RobotSpec(
            name=config.name,
            joint_names=tuple(joints),
            position_low=tuple(end for spec in specs for end in spec.position_low),
            position_high=tuple(end for spec in specs for end in spec.position_high),
            max_speed=tuple(speed for spec in specs for speed in spec.max_speed),
            unit=specs[0].unit,
        )
        self._ends = np.cumsum([len(spec.joint_names) for spec in specs])[:-1]
        self._sound: set[str] = set()  # parts that are connected and have not failed since

    @property
    def health(self) -> Health | None:
        """Of all joints, as old as the oldest; None until every part has measured, and where one never does."""
        measured = [getattr(part, "health", None) for part in self.parts.values()]
        known: list[Health] = [health for health in measured if health is not None]
        if len(known) < len(measured):
            return None
        return Health(
            np.concatenate([health.load for health in known]),
            np.concatenate([health.voltage_v for health in known]),
            np.concatenate([health.temperature_c for health in known]),
            min(health.stamp_ns for health in known),
        )

    def connect(self) -> None:
        """Connect the parts that are not, or have failed. Where the first connection of one fails, none stays open."""
        first = not self._sound
        try:
            for name in [name for name in self.parts if name not in self._sound]:
                with part_named(name):
                    self.parts[name].connect()
                self._sound.add(name)
        except BaseException:  # Ctrl-C, too
            if first:
                self.close()
            raise

    def read(self) -> RobotState:
        """State of all, stamped as the part that was read last. Every part is read, also where one has failed."""
        states = self._each(lambda name, part: part.read())
        return RobotState(
            np.concatenate([state.joint_position for state in states]),
            np.concatenate([state.joint_velocity for state in states]),
            max(state.stamp_ns for state in states),
        )

    def write(self, action: NDArray[np.float32]) -> None:
        """Send joint targets (J,) to all parts; one that fails does not keep them from the others."""
        targets = np.split(self.spec.action_spec.check("action", action), self._ends)
        by_name = dict(zip(self.parts, targets, strict=True))
        self._each(lambda name, part: part.write(by_name[name]))

    def release(self) -> None:
        """Switch the torque of all parts off. Raises HardwareError where one cannot, or would fall."""
        self._each(lambda name, part: _release_of(part)())

    def close(self) -> None:
        self._sound.clear()
        self._each(lambda name, part: part.close())

    def _each(self, step: Callable[[str, Robot], T]) -> list[T]:
        """Do it with every part. Raises HardwareError with what all of those say that failed; they count as such."""
        answers, failures = [], []
        for name, part in self.parts.items():
            try:
                answers.append(step(name, part))
            except HardwareError as error:
                self._sound.discard(name)
                failures.append(f"{name}: {error}")
        if failures:
            raise HardwareError("; ".join(failures))
        return answers


def _release_of(part: Robot) -> Callable[[], None]:
    release = getattr(part, "release", None)
    if release is None:
        raise HardwareError(f"{part.spec.name} cannot be released")
    return release
