"""The MuJoCo twin, and what has to be settled before anybody uses MuJoCo: which OpenGL it takes on a machine without a
display (it decides at its first import), and that its warnings go to the log, not to a file in the current folder."""

import logging
import os
import sys

if sys.platform == "linux" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco

mujoco.set_mju_user_warning(lambda message: logging.getLogger(__name__).warning("MuJoCo: %s", message))
