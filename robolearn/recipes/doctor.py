"""What this machine can do, and how to mend what it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robolearn.algorithms.compute import COMPILER_REMEDY, compiler_lacks
from robolearn.errors import PluginError
from robolearn.plugins import Table, package_of

WANTED_RMEM_BYTES = 4 * 1024 * 1024  # one second of a 640x480 camera's burst; below it big images drop
WANTED_DISK_GIB = 5.0
SUPPORTED_PYTHON = ((3, 11), (3, 12), (3, 13))


@dataclass(frozen=True)
class Check:
    """One line of the examination; `required` ones decide the exit code."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    required: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(transport_check: Callable[[], str], folder: Path = Path()) -> list[Check]:
    """Run every check. `transport_check` opens and closes a ROS 2 participant and describes it, or raises."""
    return [
        check_python(),
        check_rendering(),
        check_jpeg(),
        check_video(),
        check_transport(transport_check),
        check_udp_buffer(),
        check_ros(),
        check_gpu(),
        check_compiler(),
        check_plugins(),
        check_disk(folder),
    ]


def check_python() -> Check:
    ok = sys.version_info[:2] in SUPPORTED_PYTHON
    return Check("python", ok, sys.version.split()[0], "" if ok else "install Python 3.11 to 3.13, then `make install`")


def check_rendering() -> Check:
    """Render one picture in a child: a broken GL driver may abort the whole process."""
    code = (
        "import numpy, robolearn.twin.twin, mujoco, os;"
        'm = mujoco.MjModel.from_xml_string(\'<mujoco><worldbody><light pos="0 0 3"/>'
        '<geom type="sphere" size="1" rgba="1 0 0 1"/></worldbody></mujoco>\');'
        "d = mujoco.MjData(m); mujoco.mj_forward(m, d);"
        "r = mujoco.Renderer(m, 32, 32); r.update_scene(d); i = r.render();"
        "i.any() or exit('black picture');"
        "print(os.environ.get('MUJOCO_GL', 'default'))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if child.returncode == 0:
        return Check("rendering", True, f"MuJoCo draws, MUJOCO_GL={child.stdout.strip()}")
    last = (child.stderr.strip().splitlines() or ["no output"])[-1]
    if "GLContext" in last:
        last = "MUJOCO_GL is `disable`, or its library is missing: libEGL.so.1, of osmesa libOSMesa.so.8"
    return Check(
        "rendering", False, last, "apt-get install libegl1 libgl1-mesa-dri, or set MUJOCO_GL=osmesa (libosmesa6)"
    )


def check_jpeg() -> Check:
    import cv2
    import numpy as np

    ok, _ = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))
    return Check(
        "JPEG codec", bool(ok), f"OpenCV {cv2.__version__}", "" if ok else "pip install opencv-python-headless"
    )


def check_video() -> Check:
    import av

    found = [name for name in ("libx264", "libsvtav1", "libopenh264", "mpeg4") if name in av.codecs_available]
    ok = bool(found)
    return Check("video encoder", ok, f"PyAV {av.__version__}: {', '.join(found)}", "" if ok else "pip install av")


def check_transport(transport_check: Callable[[], str]) -> Check:
    try:
        return Check("ROS 2 wire", True, transport_check())
    except Exception as error:  # noqa: BLE001  whatever breaks is what the user wants to read
        return Check("ROS 2 wire", False, str(error), "pip install cyclonedds==11.0.1, or source a ROS 2 installation")


def check_udp_buffer(path: Path = Path("/proc/sys/net/core/rmem_max")) -> Check:
    if not path.exists():
        return Check("UDP buffer", True, "not a Linux machine", required=False)
    size = int(path.read_text())
    ok = size >= WANTED_RMEM_BYTES
    remedy = "" if ok else f"sudo sysctl -w net.core.rmem_max={WANTED_RMEM_BYTES} (big camera images drop without)"
    return Check("UDP buffer", ok, f"net.core.rmem_max = {size}", remedy, required=False)


def check_ros() -> Check:
    distro = os.environ.get("ROS_DISTRO")
    found = f"native ROS 2 {distro}" if distro else "none sourced: the embedded client is used"
    return Check("native ROS 2", True, found, required=False)


def check_gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("GPU", True, torch.cuda.get_device_name(0), required=False)
    return Check(
        "GPU", False, f"none, torch {torch.__version__}", "not needed; training runs on the CPU", required=False
    )


def check_compiler() -> Check:
    lack = compiler_lacks()
    found = f"none: {lack} is missing" if lack else "C++ and Python's headers, for --compile"
    return Check("compiler", not lack, found, COMPILER_REMEDY if lack else "", required=False)


def check_plugins() -> Check:
    """Import what installed packages add to the library's tables."""
    from robolearn.algorithms import ALGORITHMS
    from robolearn.cameras import CAMERAS
    from robolearn.policies.checkpoint import POLICIES
    from robolearn.rewards import REWARDS
    from robolearn.robots import ROBOTS
    from robolearn.tasks import TASKS
    from robolearn.teleop import TELEOPERATORS

    found, faults = [], []
    tables: tuple[Table[Any], ...] = (ROBOTS, CAMERAS, TELEOPERATORS, TASKS, ALGORITHMS, POLICIES, REWARDS)
    for table in tables:
        for point in table.added():
            said = f"{table.kind} {point.name} of {package_of(point)}"
            if table.is_own(point.name):
                faults.append(f"{said} is never used, for robolearn has one of this name")
                continue
            try:
                table[point.name]
                found.append(said)
            except PluginError as error:
                faults.append(str(error))
    remedy = "mend or uninstall the package, see docs/plugins.md" if faults else ""
    return Check("plug-ins", not faults, "; ".join(faults + found) or "none", remedy, required=False)


def check_disk(folder: Path) -> Check:
    free_gib = shutil.disk_usage(folder.resolve()).free / 2**30
    ok = free_gib >= WANTED_DISK_GIB
    remedy = "" if ok else f"free {WANTED_DISK_GIB:g} GiB: datasets and checkpoints land here"
    return Check("disk", ok, f"{free_gib:.0f} GiB free", remedy)
