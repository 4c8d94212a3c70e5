"""The MuJoCo twin, and what has to be settled before anybody uses MuJoCo: which OpenGL it takes on a machine without a
display (it decides at its first import), and that its warnings go to the log, not to a file in the current folder."""

import ctypes
import logging
import os
import sys


def _headless_opengl() -> str:
    """EGL, or none where its library is missing: a machine that draws nothing can still train."""
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return "disable"
    return "egl"


if sys.platform == "linux" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", _headless_opengl())

import mujoco  # noqa: E402, it looks at MUJOCO_GL


def _log(message: str) -> None:
    """Deprecated words in other people's scenes are nothing that a user can mend."""
    level = logging.DEBUG if "is deprecated" in message else logging.WARNING
    logging.getLogger(__name__).log(level, "MuJoCo: %s", message)


mujoco.set_mju_user_warning(_log)
