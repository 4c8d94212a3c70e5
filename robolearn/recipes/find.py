"""What is plugged in: serial ports and the motors behind them, cameras, gamepads."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robolearn.errors import HardwareError
from robolearn.robots.servo_arm import MODELS
from robolearn.robots.servo_bus import BusConfig, ServoBus
from robolearn.robots.servo_setup import find_bus

PROBED_IDS = range(1, 11)


@dataclass(frozen=True)
class Found:
    """One device. `steady`: a name that stays the same when it is plugged in again, empty where there is none."""

    device: str
    steady: str
    description: str


def find_ports(probe: bool = False) -> list[Found]:
    """Serial ports of USB adapters. probe: ask for motors on each (moves nothing; a driver that runs is disturbed)."""
    from serial.tools import list_ports

    found = []
    for port in sorted(port for port in list_ports.comports() if port.vid is not None):
        words = [port.description or "serial port"]
        if port.serial_number:
            words.append(f"serial {port.serial_number}")
        found.append(Found(port.device, "", ", ".join(words)))
    named = with_names(found, Path("/dev/serial"))
    return [replace(p, description=f"{p.description}, {describe_motors(p.device)}") for p in named] if probe else named


def describe_motors(port: str, patience_s: float = 0.01) -> str:
    """The motors that answer on a port, of every kind that we know, at their rates; or why there are none.

    patience_s: for each answer.
    """
    why = ""
    for model in MODELS.values():
        for baud_rate in model.baud_rates:
            bus = ServoBus(port, model.protocol, BusConfig(baud_rate, answer_timeout_s=patience_s, retries=0), {})
            try:
                ids = find_bus(bus, PROBED_IDS)
            except HardwareError as error:  # an adapter may not have this rate
                why = why or str(error)
                continue
            if ids:
                return f"{model.name} motors {', '.join(map(str, ids))} at {baud_rate} baud"
            why = "no motors answer"
    return why


def find_cameras(root: Path = Path("/sys/class/video4linux")) -> list[Found]:
    """V4L2 devices that capture (the first node of each camera), and RealSense cameras where their package is."""
    found = []
    for entry in sorted(root.glob("video*")) if root.is_dir() else ():
        if (entry / "index").read_text().strip() == "0":
            device = f"/dev/{entry.name}"
            found.append(Found(device, "", (entry / "name").read_text().strip()))
    found = with_names(found, Path("/dev/v4l"))
    with contextlib.suppress(ImportError):
        import pyrealsense2

        for device in pyrealsense2.context().query_devices():
            serial = device.get_info(pyrealsense2.camera_info.serial_number)
            found.append(Found(f"realsense {serial}", serial, device.get_info(pyrealsense2.camera_info.name)))
    return found


def find_controls(root: Path = Path("/sys/class")) -> list[Found]:
    """Gamepads, and SpaceMouse devices."""
    found = []
    for entry in sorted((root / "input").glob("js*")):
        device = f"/dev/input/{entry.name}"
        found.append(Found(device, "", (entry / "device" / "name").read_text().strip()))
    found = with_names(found, Path("/dev/input"))
    for entry in sorted((root / "hidraw").glob("hidraw*")):
        facts = (entry / "device" / "uevent").read_text()
        if "256F" in facts.upper() or "3DCONNEXION" in facts.upper():
            name = next((line[9:] for line in facts.splitlines() if line.startswith("HID_NAME=")), "SpaceMouse")
            found.append(Found(f"/dev/{entry.name}", "/dev/robolearn/spacemouse", name))
    return found


def with_names(found: Sequence[Found], folder: Path) -> list[Found]:
    """The devices with the names that last, out of the links in `by-id` and `by-path` of `folder`.

    The names by id of two devices that are alike, without a serial number, are one: it stands for the one that was
    plugged in last. They go by the USB port instead.
    """
    by_id = {device.device: _link(folder / "by-id", device.device) for device in found}
    nameless = {device.description for device in found if not by_id[device.device]}
    return [
        replace(
            device,
            steady=_link(folder / "by-path", device.device) if device.description in nameless else by_id[device.device],
        )
        for device in found
    ]


def _link(folder: Path, device: str) -> str:
    for link in sorted(folder.glob("*")):
        if link.resolve() == Path(device).resolve():
            return str(link)
    return ""
