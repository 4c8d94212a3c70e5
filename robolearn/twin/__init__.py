"""The MuJoCo twin, and what has to be settled before anybody uses MuJoCo: which OpenGL it takes on a machine without a
display (it decides at its first import), and that its warnings go to the log, not to a file in the current folder."""

import contextlib
import ctypes
import logging
import os
import sys

from robolearn.errors import HardwareError
from robolearn.opengl import load_triton_first

LIBRARIES = {  # of what draws without a display
    "egl": ("libEGL.so.1",),
    "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
}


def _settle_opengl() -> None:
    """What MUJOCO_GL asks for, without a display EGL, and none where its library is missing, with which MuJoCo could
    not be imported: a machine that draws nothing can still train."""
    headless = not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY")
    asked = os.environ.get("MUJOCO_GL", "egl" if headless else "").lower().strip()
    if asked == "osmesa":  # whose driver comes as MuJoCo is imported, not with the first picture
        load_triton_first()
    if asked in LIBRARIES:
        os.environ["MUJOCO_GL"] = asked if any(map(_loads, LIBRARIES[asked])) else "disable"


def _loads(library: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(ctypes.CDLL(library))
    return False


if sys.platform == "linux":
    _settle_opengl()

try:
    import mujoco  # it looks at MUJOCO_GL
except RuntimeError as error:
    raise HardwareError(f"{error}; set it to egl, osmesa or disable, or unset it") from error


def _log(message: str) -> None:
    """Deprecated words in other people's scenes are nothing that a user can mend."""
    level = logging.DEBUG if "is deprecated" in message else logging.WARNING
    logging.getLogger(__name__).log(level, "MuJoCo: %s", message)


mujoco.set_mju_user_warning(_log)
