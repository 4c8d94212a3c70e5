"""Pictures of the arm alone, in any posture, palette, light and view, and where it points in them.

It is the arm of the `point` tasks. Its direction is that from shoulder to tool in the picture.
"""

from __future__ import annotations

import copy
import math

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.tasks import make_task
from robolearn.tasks.point import SHOULDER
from robolearn.twin.layout import TOOL, Layout
from robolearn.twin.pictures import Pictures

SIZE = 64  # [px]
PALETTES = {  # RGB of the links, the servos and fingers, the wall
    "blue": ((80, 130, 230), (40, 70, 190), (215, 215, 210)),
    "red": ((225, 90, 70), (170, 40, 40), (60, 60, 70)),
    "green": ((90, 180, 90), (30, 120, 60), (235, 225, 205)),
    "grey": ((130, 130, 135), (70, 70, 75), (180, 200, 220)),
    "yellow": ((230, 205, 60), (180, 150, 20), (40, 50, 90)),
    "black": ((70, 60, 60), (25, 25, 25), (170, 150, 130)),
}
UNSEEN_PALETTES = {"purple": ((170, 100, 200), (100, 40, 140), (200, 190, 170))}


class ArmPainter:
    """Draws the arm. `close` frees the OpenGL context."""

    def __init__(self) -> None:
        self._layout = Layout(make_task("point_up-v1"), {"front": (SIZE, SIZE)})
        self._model = copy.copy(self._layout.model)
        self._data = mujoco.MjData(self._model)
        self._pictures = Pictures(self._layout, self._model)
        rgba = self._layout.model.geom_rgba
        self._walls = [self._model.geom(name).id for name in ("wall", "wall_behind")]
        self._post = self._model.geom("post").id
        self._dark = np.flatnonzero(rgba[:, :3].max(1) < 0.3)
        self._light = np.flatnonzero(rgba[:, :3].min(1) > 0.8)
        self._view = [self._model.body(f"robot/{name}").id for name in (SHOULDER, TOOL)]

    def close(self) -> None:
        self._pictures.close()

    def draw(
        self, rng: np.random.Generator, palette: str, joints: ArrayLike, side: int = 1
    ) -> tuple[NDArray, float, float]:
        """Picture (64, 64, 3) of the joint positions (6,) [rad] in random light and view, the direction [rad], and how
        long [m] the arm looks, which is little when it points at the camera.

        side: 1 from the right of the arm, where it looks to the right; -1 from its left.
        """
        self._paint(rng, palette)
        model, data = self._model, self._data
        turn, tilt, roll = rng.uniform(-1.0, 1.0, 3) * (0.25, 0.12, 0.08)
        back = np.array([math.sin(turn) * math.cos(tilt), -math.cos(turn) * math.cos(tilt), math.sin(tilt)])
        back[1] *= side
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        up = np.cross(back, right)
        right, up = math.cos(roll) * right + math.sin(roll) * up, math.cos(roll) * up - math.sin(roll) * right
        centre = np.array([0.07, 0.0, 0.117]) + rng.uniform(-0.03, 0.03, 3)
        model.cam_pos[0] = centre + back * rng.uniform(1.05, 1.25)
        mujoco.mju_mat2Quat(model.cam_quat[0], np.stack([right, up, back], axis=1).ravel())
        data.qpos[self._layout.qpos_address] = joints
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        shoulder, tool = ((data.xpos[body] - model.cam_pos[0]) for body in self._view)
        way = tool @ np.stack([right, up], 1) / -(tool @ back) - shoulder @ np.stack([right, up], 1) / -(
            shoulder @ back
        )
        image = np.empty((SIZE, SIZE, 3), np.uint8)
        self._pictures.draw("front", data, image)
        return image, math.atan2(way[1], way[0]), math.hypot(*way) * float(-(shoulder @ back))

    def _paint(self, rng: np.random.Generator, palette: str) -> None:
        colours = np.array({**PALETTES, **UNSEEN_PALETTES}[palette]) + rng.integers(-20, 21, (3, 3))
        light, dark, wall = (colours / 255.0).clip(0.0, 1.0)
        rgba = self._model.geom_rgba
        rgba[self._light, :3], rgba[self._dark, :3] = light, dark
        rgba[self._walls, :3], rgba[self._post, :3] = wall, wall * rng.uniform(0.4, 0.8)
        self._model.light_diffuse[:] = self._layout.model.light_diffuse * rng.uniform(0.7, 1.3)
