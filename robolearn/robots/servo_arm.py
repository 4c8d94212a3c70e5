"""An arm of serial servo motors (SO-100/SO-101, Koch, ALOHA class) as a Robot. Legend: J joints.

What it promises near people and motors:

- `connect` refuses when a motor is missing, is of another kind, reports a fault, or does not fit the calibration. It
  moves nothing: every goal is set to where the motor stands before its torque is switched on.
- Every motor gets a speed limit of its own, anew with each goal, so that not even a wrong goal is reached faster than
  `max_speed_rad_s`, nor by a motor that has just restarted.
- When no command has come for `command_timeout_s`, the driver stops the arm by itself and says so; the next command
  moves it again. Dynamixel motors also stop by themselves when the bus falls silent (their bus watchdog).
- While a motor reports a fault or is too hot, the arm holds, and `read` and `write` raise HardwareError. So they do
  once a motor has gone limp (it restarted), until `connect` is called again: nothing jerks up a fallen arm.
- `close` leaves the motors holding, and says so. Only `release` switches the torque off: at once where the arm is safe
  to fall (its `rest_rad`), elsewhere when it is asked twice.

`read` is one sync read of position and velocity; every `health_period_s`, and after every error, the block with load,
voltage and temperature is read instead, and the motors are asked whether their torque is still on.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, UnknownNameError
from robolearn.robots.calibration import Calibration
from robolearn.robots.dynamixel import DYNAMIXEL_X
from robolearn.robots.feetech import STS3215
from robolearn.robots.robot import Health
from robolearn.robots.servo_bus import BusConfig, Register, ServoBus, Status
from robolearn.robots.servo_model import ServoModel
from robolearn.robots.servo_setup import REMEDY, check_motors, require_limp
from robolearn.specs import RobotSpec
from robolearn.types import RobotState

log = logging.getLogger(__name__)

MODELS: dict[str, ServoModel] = {model.name: model for model in (STS3215, DYNAMIXEL_X)}
WATCHDOG_UNIT_S = 0.02  # of a motor's bus watchdog
RELEASE_AGAIN_S = 5.0
FASTEST_RAD_S = 20.0  # twice what the fastest of these motors can do
TRIPPED = 0xFF  # what a bus watchdog reads when it has stopped its motor


@dataclass(frozen=True)
class ServoArmConfig:
    """One arm on one port."""

    port: str  # e.g. /dev/serial/by-id/...
    calibration: Path
    name: str = "so101"
    max_speed_rad_s: float = 2.5  # of every joint, kept by the motors themselves
    torque: bool = True  # False for an arm that is led by hand
    command_timeout_s: float = 0.5  # without a command for so long, the arm stops
    hold_tolerance_rad: float = 0.1  # a joint nearer to its goal than this holds the goal, a farther one its position
    health_period_s: float = 0.5  # between two readings of load, voltage and temperature
    max_temperature_c: float = 65.0
    rest_rad: tuple[float, ...] | None = None  # a pose in which the arm rests without torque, one angle a joint
    rest_tolerance_rad: float = 0.1  # that each joint may be away from it
    outside_tolerance_rad: float = 0.15  # that a joint may stand outside its calibrated range at connect
    bus: BusConfig = field(default_factory=BusConfig)

    def __post_init__(self) -> None:
        if not 0 < self.max_speed_rad_s <= FASTEST_RAD_S:
            raise HardwareError(
                f"max_speed_rad_s is {self.max_speed_rad_s:g}, expected above 0 and at most {FASTEST_RAD_S:g}; is it "
                "in degrees?"
            )
        for name in ("command_timeout_s", "health_period_s", "max_temperature_c"):
            if not 0 < getattr(self, name) < math.inf:
                raise HardwareError(f"{name} is {getattr(self, name):g}, expected more than 0")
        for name in ("hold_tolerance_rad", "rest_tolerance_rad", "outside_tolerance_rad"):
            if not 0 <= getattr(self, name) <= math.pi:
                raise HardwareError(f"{name} is {getattr(self, name):g} rad, expected 0 to {math.pi:.2f}")


class ServoArm:
    """The driver. Its methods may be called from different threads."""

    config_type = ServoArmConfig

    def __init__(self, config: ServoArmConfig, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Reads the calibration file; opens nothing. clock: where stamps come from [ns]."""
        self.config = config
        self.calibration = Calibration.load(config.calibration)
        if self.calibration.model not in MODELS:
            raise UnknownNameError("servo model", self.calibration.model, MODELS)
        self.model = MODELS[self.calibration.model]
        joints = self.calibration.joints
        if self.calibration.ticks_per_turn != self.model.ticks_per_turn:
            raise HardwareError(
                f"{config.calibration} has {self.calibration.ticks_per_turn} ticks in a turn, a {self.model.name} has "
                f"{self.model.ticks_per_turn}; calibrate the arm again"
            )
        for joint in joints:
            if joint.high_rad - joint.low_rad > 2 * math.pi:
                raise HardwareError(
                    f"{joint.name} has a range of more than a turn in {config.calibration}, of which nobody could tell "
                    "after power-up where in it the joint stands; calibrate the arm again"
                )
            ends = (
                joint.zero_ticks + np.array([joint.low_rad, joint.high_rad]) * joint.direction / self.model.rad_per_tick
            )
            if not (self.model.multi_turn or (ends.min() >= -0.5 and ends.max() < self.model.ticks_per_turn - 0.5)):
                raise HardwareError(
                    f"{joint.name} has a range across the encoder's seam in {config.calibration}, where a "
                    f"{self.model.name} would turn the long way round; calibrate the arm again"
                )
        self.ids = tuple(j.motor_id for j in joints)
        self.spec = RobotSpec(
            name=config.name,
            joint_names=tuple(j.name for j in joints),
            position_low=tuple(j.low_rad for j in joints),
            position_high=tuple(j.high_rad for j in joints),
            max_speed=(config.max_speed_rad_s,) * len(joints),
        )
        self._check_rest()
        names = dict(zip(self.ids, self.spec.joint_names, strict=True))
        self.bus = ServoBus(config.port, self.model.protocol, config.bus, names, lambda: bool(self._stiff))
        self.health: Health | None = None
        self.stops = 0  # times that the arm was stopped because no command came
        self._clock = clock
        self._lock = threading.RLock()
        # of the range, or where the arm stood outside of it at connect
        self._ends = np.array(self.spec.position_low), np.array(self.spec.position_high)
        self._turn_ticks = np.zeros(len(joints), np.int64)  # of the turn that the encoder woke up on
        self._goal = np.zeros(len(joints), np.int64)  # as sent to the motors
        self._speed = max(1, int(config.max_speed_rad_s / (self.model.speed_unit_ticks_s * self.model.rad_per_tick)))
        self._hot = self._fault = self._limp = ""  # why the arm holds
        self._holding = False  # whether the torque is meant to be on
        self._stiff: set[int] = set()  # motors whose torque this driver has switched on
        self._sound = False  # whether the last read was without error
        self._release_asked_ns: int | None = None
        self._health_due_ns = 0
        self._commanded_ns: int | None = None  # time of the last command, None once the arm was stopped
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    def _check_rest(self) -> None:
        rest, joints = self.config.rest_rad, self.calibration.joints
        if rest is not None and len(rest) != len(joints):
            raise HardwareError(f"{self.spec.name} has {len(rest)} angles in rest_rad, expected {len(joints)}")
        for angle, joint in zip(rest or (), joints, strict=False):
            if not joint.low_rad <= angle <= joint.high_rad:
                raise HardwareError(
                    f"rest_rad has {angle:g} for {joint.name}, whose range is {joint.low_rad:.3f}.."
                    f"{joint.high_rad:.3f} rad; is it in degrees?"
                )

    def connect(self) -> None:
        """Open the port, check every motor, and hold where the arm stands; one that is led by hand has to be limp.

        An arm that this driver holds because of a fault goes on being held, and HardwareError says so.
        """
        self._require_sound()
        self._give_back()
        self.bus.open()
        before, self._stiff = self._stiff, set()
        try:
            check_motors(self.bus, self.model, self.calibration, self.config.calibration)
            if not self.config.torque:
                require_limp(self.bus, self.model, self.ids)
            ticks = self._locate()
            self._hot = self._fault = self._limp = ""
            self._holding, self._commanded_ns = False, None
            self._read_all()  # one that is too hot takes no hold
            if self.config.torque:
                self._holding = True
                self._hold_from(ticks)
                self._read_all()
        except BaseException as error:  # Ctrl-C, too
            self.bus.close()
            if not self._stiff:
                self._stiff = before  # whatever keeps it from being connected, the motors hold as they did
                raise
            held = f"support the arm: {self.bus.describe(sorted(self._stiff))} took hold"
            if isinstance(error, HardwareError):
                raise HardwareError(f"{error}; {held}") from error
            log.error("%s was not connected; %s", self.spec.name, held)
            raise
        if self.config.torque:
            self._closing = threading.Event()
            self._watcher = threading.Thread(target=self._watch, args=(self._closing,), daemon=True)
            self._watcher.start()

    def _require_sound(self) -> None:
        """Raise HardwareError where the arm holds with a fault now, from which it recovers without being let go."""
        with self._lock:
            if not (self.bus.is_open and self._holding):
                return
            self._fault = ""
            with contextlib.suppress(HardwareError):
                self._read_all()
            if self._fault:
                raise HardwareError(self._fault)

    def _read_all(self) -> None:
        """Raise HardwareError where anything is wrong with a motor now."""
        self._sound = False
        self.read()

    def read(self) -> RobotState:
        """Measured state, stamped when the last motor had answered."""
        with self._lock:
            now_ns = time.monotonic_ns()
            thorough = not self._sound or now_ns >= self._health_due_ns
            self._sound = False
            block = self.model.everything if thorough else self.model.motion
            answers = self.bus.sync_read(self.ids, *block)
            stamp_ns = self._clock()
            ticks = self._column(answers, block, self.model.position)
            speed = self._column(answers, block, self.model.velocity) * self.model.speed_unit_ticks_s
            if thorough:
                self._look_after(answers, ticks, stamp_ns)
                self._health_due_ns = now_ns + round(self.config.health_period_s * 1e9)
            self._check_faults(answers, ticks)
            self._sound = True
            position = self.calibration.to_rad(ticks + self._turn_ticks).astype(np.float32)
            return RobotState(position, self.calibration.to_rad_s(speed).astype(np.float32), stamp_ns)

    def write(self, action: NDArray[np.float32]) -> None:
        """Send joint targets (J,) [rad]; what lies outside the calibrated range is moved to its end."""
        target = self.spec.action_spec.check("action", action)
        with self._lock:
            if not self._holding and self.bus.is_open:
                raise HardwareError(
                    f"{self.spec.name} has its torque off and takes no commands; "
                    + ("it was released: connect again" if self.config.torque else "it is led by hand (torque: false)")
                )
            if self._limp or self._fault:
                raise HardwareError(self._limp or self._fault)
            within = np.clip(target, *self._ends)
            self._send_goal(self.calibration.to_ticks(within) - self._turn_ticks)
            self._commanded_ns = time.monotonic_ns()

    def release(self) -> None:
        """Switch the torque off: the arm falls unless it rests or somebody holds it.

        Away from `rest_rad`, raises HardwareError the first time; asked again within RELEASE_AGAIN_S, it does it.
        """
        with self._lock:
            now_ns = time.monotonic_ns()
            asked_ns, self._release_asked_ns = self._release_asked_ns, now_ns
            again = asked_ns is not None and now_ns - asked_ns <= RELEASE_AGAIN_S * 1e9
            if self._holding and not again and not self._rests():
                raise HardwareError(
                    f"{self.spec.name} does not rest where it stands and would fall; hold it, then ask again within "
                    f"{RELEASE_AGAIN_S:g} s"
                )
            self._release_asked_ns = None
            self._commanded_ns, self._holding = None, False
            failed: dict[int, HardwareError] = {}
            for motor_id in self.ids:
                try:
                    self.bus.write(motor_id, self.model.torque_enable, 0)
                    self._stiff.discard(motor_id)
                except HardwareError as error:  # half an arm that holds is no help
                    failed[motor_id] = error
            if failed:
                raise HardwareError(f"{next(iter(failed.values()))}; {self.bus.describe(list(failed))} may hold still")

    def _rests(self) -> bool:
        """Whether the arm stands where it is safe to fall."""
        if self.config.rest_rad is None:
            return False
        ticks = self._column(self._ask_all(self.model.position), None, self.model.position)
        position = self.calibration.to_rad(ticks + self._turn_ticks)
        return bool((np.abs(position - self.config.rest_rad) <= self.config.rest_tolerance_rad).all())

    def close(self) -> None:
        """Give the port back. The motors hold their last goal, and the log says so."""
        if self._stiff:
            log.warning(
                "%s on %s stays where it stands, with its torque on; `robolearn cell park` lets it rest, without power "
                "it falls",
                self.spec.name,
                self.bus.port,
            )
        self._give_back()
        self._stiff.clear()

    def _give_back(self) -> None:
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        watchdog = self.model.bus_watchdog
        if self.bus.is_open and self._holding and watchdog is not None:
            try:
                self.bus.sync_write(
                    watchdog.address, dict.fromkeys(self.ids, watchdog.encode(0))
                )  # silence is what follows now
            except HardwareError as error:
                log.warning("%s", error)
        self.bus.close()

    def _locate(self) -> NDArray[np.int64]:
        """Encoder positions (J,) as the motors count them; settles which of their turns the joints are on."""
        ticks = self._column(self.bus.sync_read(self.ids, *self.model.motion), self.model.motion, self.model.position)
        low, high = np.array(self.spec.position_low), np.array(self.spec.position_high)
        if self.model.multi_turn:
            turns = np.rint((self.calibration.to_ticks((low + high) / 2) - ticks) / self.model.ticks_per_turn)
            self._turn_ticks = turns.astype(np.int64) * self.model.ticks_per_turn
        position = self.calibration.to_rad(ticks + self._turn_ticks)
        outside = np.maximum(low - position, position - high)
        self._ends = np.minimum(low, position), np.maximum(high, position)
        i = int(np.argmax(outside))
        if outside[i] > self.config.outside_tolerance_rad:
            raise HardwareError(
                f"{self.bus.describe([self.ids[i]])} on {self.bus.port} stands at {position[i]:.2f} rad, its "
                f"calibrated range is {low[i]:.2f}..{high[i]:.2f}; move it inside by hand, or calibrate the arm again"
            )
        return ticks

    def _hold_from(self, ticks: NDArray[np.int64]) -> None:
        """Take over where the arm stands: goal, speed limit, torque, bus watchdog, in this order."""
        model = self.model
        self._goal = ticks
        patience = min(max(math.ceil(self.config.command_timeout_s / WATCHDOG_UNIT_S), 1), 127)
        for motor_id, goal in zip(self.ids, ticks.tolist(), strict=True):
            if model.bus_watchdog is not None:
                self.bus.write(motor_id, model.bus_watchdog, 0)  # one that has tripped refuses goals
            self.bus.write(motor_id, model.goal_position, goal)
            self.bus.write(motor_id, model.goal_speed, self._speed)
            self.bus.write(motor_id, model.torque_enable, 1)
            self._stiff.add(motor_id)
            if model.bus_watchdog is not None:
                self.bus.write(motor_id, model.bus_watchdog, patience)

    def _look_after(self, answers: Mapping[int, Status], ticks: NDArray[np.int64], stamp_ns: int) -> None:
        """The slow checks: health, torque, bus watchdog."""
        model, block = self.model, self.model.everything
        load = self._column(answers, block, model.load) * model.load_unit
        voltage = self._column(answers, block, model.voltage) * model.voltage_unit_v
        heat = self._column(answers, block, model.temperature)
        self.health = Health(load.astype(np.float32), voltage.astype(np.float32), heat.astype(np.float32), stamp_ns)
        self._hot, limit, hottest = "", self.config.max_temperature_c, int(np.argmax(heat))
        if not self._holding and heat[hottest] <= limit:
            return
        torque = model.torque_enable
        stiff = {i for i, answer in self._ask_all(torque).items() if torque.decode(answer.data)}
        if heat[hottest] > limit:
            remedy = "let it cool"
            if self._holding:
                remedy = "the arm holds; let it cool"
            elif stiff:
                remedy = "the arm holds with its torque on; support it, switch its power off and let it cool"
            self._hot = (
                f"{self.bus.describe([self.ids[hottest]])} on {self.bus.port} is at {heat[hottest]} C, at most "
                f"{limit:g}: {remedy}"
            )
        if not self._holding:
            return
        limp = [i for i in self.ids if i not in stiff]
        if limp and not self._limp:
            self._limp = (
                f"{self.bus.describe(limp)} on {self.bus.port} went limp (it restarted, or gave up under load); "
                "support the arm, then connect again"
            )
            self._stiff -= set(limp)
            self._goal = np.where(np.isin(self.ids, limp), ticks, self._goal)  # where they lie now
            self._hold(ticks)
        watchdog = model.bus_watchdog
        if watchdog is not None and any(watchdog.decode(a.data) == TRIPPED for a in self._ask_all(watchdog).values()):
            self._stopped("the bus was silent")
            if not self._limp:
                self._hold_from(ticks)

    def _check_faults(self, answers: Mapping[int, Status], ticks: NDArray[np.int64]) -> None:
        """Raise HardwareError while anything is wrong; the arm is told to hold when it begins."""
        fault = self._hot
        for motor_id, answer in answers.items():
            if self.model.protocol.alert(answer.error):
                names = self.model.faults_in(self.bus.read(motor_id, self.model.faults)) or "a fault"
                holds = ": the arm holds" if self._holding else ""
                fault = f"{self.bus.describe([motor_id])} on {self.bus.port} reports {names}{holds}; {REMEDY}"
                break
        if fault and not self._fault:
            self._hold(ticks)
        self._fault = fault
        if self._limp or fault:
            raise HardwareError(self._limp or fault)

    def _hold(self, ticks: NDArray[np.int64]) -> None:
        """Stop at `ticks` (J,). A joint that is near its goal keeps it: holding where it hangs would let it sag."""
        if self._holding:
            near = np.abs(self._goal - ticks) * self.model.rad_per_tick <= self.config.hold_tolerance_rad
            self._send_goal(np.where(near, self._goal, ticks))
            self._commanded_ns = None

    def _watch(self, closing: threading.Event) -> None:
        """Stop the arm when no command has come in time."""
        timeout_ns = round(self.config.command_timeout_s * 1e9)
        wait_ns, failed = timeout_ns, False
        while not closing.wait(wait_ns * 1e-9):
            with self._lock:
                idle_ns = 0 if self._commanded_ns is None else time.monotonic_ns() - self._commanded_ns
                wait_ns = timeout_ns - idle_ns if idle_ns < timeout_ns else timeout_ns
                if idle_ns < timeout_ns:
                    continue
                try:
                    self._hold(self._column(self._ask_all(self.model.position), None, self.model.position))
                except HardwareError as error:
                    if not failed:
                        log.error("%s could not be stopped, and is tried again: %s", self.spec.name, error)
                    failed = True
                    continue
                failed = False
                self._stopped(f"no command came for {self.config.command_timeout_s:g} s")

    def _stopped(self, why: str) -> None:
        self.stops += 1
        log.warning("%s on %s was stopped: %s", self.spec.name, self.bus.port, why)

    def _send_goal(self, ticks: NDArray[np.int64]) -> None:
        """Goals (J,), each with the speed limit: a motor that has restarted forgot it and must not move without."""
        self._goal = ticks
        blocks = [self.model.goal(goal, self._speed) for goal in ticks.tolist()]
        self.bus.sync_write(blocks[0][0], dict(zip(self.ids, (data for _, data in blocks), strict=True)))

    def _ask_all(self, register: Register) -> dict[int, Status]:
        return self.bus.sync_read(self.ids, register.address, register.length)

    def _column(
        self, answers: Mapping[int, Status], block: tuple[int, int] | None, register: Register
    ) -> NDArray[np.int64]:
        """One register of all motors (J,) out of the answers to a `block`, None where that is the register itself."""
        start = register.address - block[0] if block else 0
        return np.array([register.decode(answers[i].data[start : start + register.length]) for i in self.ids], np.int64)
