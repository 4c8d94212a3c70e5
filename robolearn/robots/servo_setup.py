"""What is done to servo motors outside the control loop: checking them at power-up, and writing what they store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError
from robolearn.robots.calibration import MAX_ID, Calibration
from robolearn.robots.servo_bus import BusConfig, Register, ServoBus
from robolearn.robots.servo_model import ServoModel

REMEDY = "check its load, its temperature and its supply, and if the fault stays switch its power off and on"
SEARCHED_IDS = range(31)  # where a motor is looked for whose id is not known
STORE_S = 0.05  # that a motor needs to store a number
POWER_UP_S, POWER_UP_TRIES = 0.25, 5  # motors whose power has just come on begin to answer within a second


def check_motors(bus: ServoBus, model: ServoModel, calibration: Calibration, source: Path) -> None:
    """Raise HardwareError unless every motor of `calibration` (read from `source`) is there, sound, and the one meant.

    Stores the settings that the driver counts on, where they differ.
    """
    ids = [joint.motor_id for joint in calibration.joints]
    find_motors(bus, model, ids)
    for joint in calibration.joints:
        who = bus.describe([joint.motor_id])
        faults = model.faults_in(bus.read(joint.motor_id, model.faults))
        if faults:
            raise HardwareError(f"{who} on {bus.port} reports {faults}; {REMEDY}")
        if model.homing is not None:
            homing = bus.read(joint.motor_id, model.homing)
            if homing != joint.homing_ticks:
                raise HardwareError(
                    f"{who} on {bus.port} stores the homing offset {homing}, its calibration {source} has "
                    f"{joint.homing_ticks}: this is another motor, or it was calibrated elsewhere; calibrate again"
                )
        store_settings(bus, model, joint.motor_id)


def find_motors(bus: ServoBus, model: ServoModel, ids: Sequence[int]) -> None:
    """Raise HardwareError unless all of `ids` answer and are of a kind that `model` describes."""
    absent = [i for i in ids if not bus.ping(i)]
    for _ in range(POWER_UP_TRIES - 1):
        if not absent:
            break
        time.sleep(POWER_UP_S)
        absent = [i for i in absent if not bus.ping(i)]
    if absent:
        present = [i for i in ids if i not in absent]
        found = f", only from {bus.describe(present)}; check" if present else "; is the arm's power on? if it is, check"
        raise HardwareError(
            f"no answer from {bus.describe(absent)} on {bus.port}{found} cables and ids along the chain"
        )
    for motor_id in ids:
        number = bus.read(motor_id, model.model_number)
        if number not in model.model_numbers:
            raise HardwareError(
                f"{bus.describe([motor_id])} on {bus.port} has the model number {number}, expected a {model.name}: "
                f"{', '.join(f'{n} ({name})' for n, name in model.model_numbers.items())}"
            )


def store_settings(bus: ServoBus, model: ServoModel, motor_id: int) -> None:
    """Store the settings that the driver counts on, where they differ: a motor is written to once in its life."""
    for register, value in model.settings:
        if bus.read(motor_id, register) != value:
            store(bus, model, motor_id, register, value)


def require_limp(bus: ServoBus, model: ServoModel, ids: Sequence[int]) -> None:
    """Raise HardwareError where a motor has its torque on, which nothing here takes away from an arm that it holds."""
    stiff = [motor_id for motor_id in ids if bus.read(motor_id, model.torque_enable)]
    if stiff:
        holds = "holds with its" if len(stiff) == 1 else "hold with their"
        raise HardwareError(
            f"{bus.describe(stiff)} on {bus.port} {holds} torque on, where limp was wanted; support the arm, switch "
            "its power off and on, and try again"
        )


def store(bus: ServoBus, model: ServoModel, motor_id: int, register: Register, value: int) -> None:
    """Write a register that outlives the power. The torque must be off, or the motor would jump or refuse."""
    require_limp(bus, model, [motor_id])
    if model.lock is not None:
        bus.write(motor_id, model.lock, 0)
    bus.write(motor_id, register, value)
    if model.lock is not None:
        bus.write(motor_id, model.lock, 1)


def begin_calibration(bus: ServoBus, model: ServoModel, ids: Sequence[int]) -> NDArray[np.int64]:
    """Check the motors, let the arm go limp, and return the homing offsets (J,) that they store."""
    find_motors(bus, model, ids)
    for motor_id in ids:
        bus.write(motor_id, model.torque_enable, 0)
        store_settings(bus, model, motor_id)
    return np.array([bus.read(i, model.homing) if model.homing is not None else 0 for i in ids], np.int64)


def store_homing(bus: ServoBus, model: ServoModel, homing_ticks: Mapping[int, int]) -> None:
    """Write the homing offsets by motor id, where the model has them."""
    if model.homing is not None:
        for motor_id, ticks in homing_ticks.items():
            store(bus, model, motor_id, model.homing, ticks)


def read_positions(bus: ServoBus, model: ServoModel, ids: Sequence[int]) -> NDArray[np.int64]:
    """Encoder positions (J,)."""
    register = model.position
    answers = bus.sync_read(ids, register.address, register.length)
    return np.array([register.decode(answers[i].data) for i in ids], np.int64)


def find_bus(bus: ServoBus, ids: Sequence[int]) -> list[int]:
    """Open the port, ask for each of `ids`, close it. Returns those that answer."""
    bus.open()
    try:
        return [motor_id for motor_id in ids if bus.ping(motor_id)]
    finally:
        bus.close()


def set_up_motor(
    port: str, model: ServoModel, new_id: int, baud_rate: int, old_id: int | None = None, patience_s: float = 0.01
) -> tuple[int, int]:
    """Give the only motor on `port` an id and a baud rate, and make sure that it answers to them.

    Looks for it at every rate of the model, at SEARCHED_IDS unless `old_id` is given; patience_s: for each answer.
    Returns the id and rate that it had. Raises HardwareError when there is none, or more than one, when it holds an arm
    up, or when another motor has that id.
    """
    if not 1 <= new_id <= MAX_ID or baud_rate not in model.baud_rates:
        rates = ", ".join(str(rate) for rate in model.baud_rates)
        raise HardwareError(
            f"id {new_id} at {baud_rate} baud; expected an id of 1 to {MAX_ID}, and one of the rates {rates}"
        )
    for rate in model.baud_rates:
        bus = ServoBus(port, model.protocol, BusConfig(rate, answer_timeout_s=patience_s, retries=1), {})
        found = find_bus(bus, SEARCHED_IDS if old_id is None else [old_id])
        if found:
            break
    else:
        raise HardwareError(f"no {model.name} answers on {port}; is its power on? give its id if that is above 30")
    if len(found) > 1:
        raise HardwareError(f"{len(found)} motors answer on {port} (ids {found}); leave one on the bus, or give its id")
    for taken_rate in {rate, baud_rate}:
        bus = ServoBus(port, model.protocol, BusConfig(taken_rate, answer_timeout_s=patience_s, retries=1), {})
        if (new_id, taken_rate) != (found[0], rate) and find_bus(bus, [new_id]):
            raise HardwareError(
                f"another motor on {port} is id {new_id} already, and two of one id answer at once; unplug it, or give "
                "another id"
            )
    bus = ServoBus(port, model.protocol, BusConfig(rate, answer_timeout_s=patience_s, retries=1), {})
    bus.open()
    try:
        require_limp(bus, model, found)
        if model.lock is not None:
            bus.write(found[0], model.lock, 0)
        _tell(bus, found[0], model.id, new_id)
        _tell(bus, new_id, model.baud, model.baud_rates[baud_rate])
    finally:
        bus.close()
    bus = ServoBus(port, model.protocol, BusConfig(baud_rate, answer_timeout_s=0.2, retries=2), {})
    bus.open()
    try:
        if not bus.ping(new_id):
            raise HardwareError(f"the motor does not answer as id {new_id} at {baud_rate} baud; power it off and on")
        if model.lock is not None:
            bus.write(new_id, model.lock, 1)
    finally:
        bus.close()
    return found[0], rate


def _tell(bus: ServoBus, motor_id: int, register: Register, value: int) -> None:
    """Write without an answer: whether it comes from the old or the new id, at the old or the new rate, is not said."""
    bus.sync_write(register.address, {motor_id: register.encode(value)})
    time.sleep(STORE_S)
