"""The shape of an arm for the safety filter: where its tool is, and how near its links come to each other.

The shape is that of an MJCF file, the twin's own for instance; nothing is simulated. MuJoCo is imported when a cell
limits the workspace or the clearance, not before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.robots.kinematics import Kinematics
from robolearn.robots.safety import Geometry, SafetyConfig
from robolearn.specs import RobotSpec


def load_geometry(config: SafetyConfig, spec: RobotSpec) -> Geometry | None:
    """The shape that `config` names, or None when it names none. Raises SpecError when it does not fit the robot."""
    return None if config.model is None else MujocoGeometry(config, spec)


class MujocoGeometry:
    """The clearance counts between colliding geoms (`contype`) of links that no joint connects. Legend: G pairs.

    Raises SpecError when the model does not fit the robot.
    """

    def __init__(self, config: SafetyConfig, spec: RobotSpec) -> None:
        import mujoco

        assert config.model is not None
        self._distance = mujoco.mj_geomDistance
        self._kinematics = Kinematics(config.model, spec, config.tool)
        self._model, self._data = self._kinematics.model, self._kinematics.data
        self._box = None
        if config.workspace_low is not None and config.workspace_high is not None:
            self._box = np.array(config.workspace_low), np.array(config.workspace_high)
        self._clearance_m = config.min_clearance_m or 0.0
        self._pairs = self._far_links()  # (G, 2)
        self._reach = self._model.geom_rbound[self._pairs].sum(axis=1)

    def excess(self, position: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """See `Geometry`: the tool's way out of the workspace along x, y and z, and the missing clearance."""
        tool, _ = self._kinematics.tool(position)
        worst, what = np.zeros(4), [""] * 4
        if self._box is not None:
            low, high = self._box
            worst[:3] = np.maximum(np.maximum(low - tool, tool - high), 0.0)
            for i in np.flatnonzero(worst):
                what[i] = f"the tool would be at {'xyz'[i]} {tool[i]:.3f} m, outside {low[i]:g}..{high[i]:g}"
        for first, second in self._near_pairs():
            gap = self._distance(self._model, self._data, first, second, self._clearance_m, None)
            if self._clearance_m - gap > worst[3]:
                worst[3] = self._clearance_m - gap
                links = " and ".join(self._model.body(self._model.geom_bodyid[i]).name for i in (first, second))
                what[3] = f"{links} would be {gap * 1e3:.0f} mm apart, at least {self._clearance_m * 1e3:g} mm"
        return worst, tuple(what)

    def _near_pairs(self) -> NDArray[np.int64]:
        """Those whose bounding spheres are near enough to look closer."""
        if not self._clearance_m:
            return self._pairs[:0]
        centres = self._data.geom_xpos[self._pairs]
        between = np.linalg.norm(centres[:, 0] - centres[:, 1], axis=1)
        return self._pairs[between - self._reach < self._clearance_m]

    def _far_links(self) -> NDArray[np.int64]:
        model = self._model
        solid = [i for i in range(model.ngeom) if model.geom_contype[i] or model.geom_conaffinity[i]]
        body, parent = model.geom_bodyid, model.body_parentid
        pairs = [
            (i, j)
            for n, i in enumerate(solid)
            for j in solid[n + 1 :]
            if body[i] != body[j] and parent[body[j]] != body[i] and parent[body[i]] != body[j]
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)
