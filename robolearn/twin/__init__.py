"""The MuJoCo twin. MuJoCo picks its OpenGL when it is first imported, so the choice for a machine without a display
stands here, before any import of it."""

import os
import sys

if sys.platform == "linux" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
