"""Where joints without a servo are, given those with one."""

from __future__ import annotations

from math import cos, sin

import mujoco
import numpy as np
import pytest

from robolearn.twin.linkage import Linkage

FOUR_BAR = """<mujoco><compiler angle="radian"/><default><geom size="0.01" mass="0.1"/></default><worldbody>
  <body name="hand"><geom/>
    <body name="crank"><joint name="crank" axis="1 0 0"/><geom/>
      <body name="finger" pos="0 0 0.05"><joint name="finger" axis="1 0 0"/><geom/></body></body>
    <body name="rocker" pos="0 0.02 0"><joint name="rocker" axis="1 0 0"/><geom/></body>
    <body name="other" pos="0 0.1 0"><joint name="other" axis="1 0 0"/><geom/></body></body>
  <body name="stone" pos="1 0 0"><joint name="stone" axis="1 0 0"/><geom/></body></worldbody>
  <equality><connect body1="finger" body2="rocker" anchor="0 0.02 0"/>
    <joint joint1="crank" joint2="other" polycoef="0.1 -2 0 0 0"/></equality>
  <actuator><position joint="crank"/></actuator></mujoco>"""


@pytest.mark.parametrize("jacobian", ["dense", "sparse"])
@pytest.mark.parametrize("crank", [0.0, 0.4, -1.2])
def test_loops_are_closed_and_ties_kept_wherever_they_were(crank: float, jacobian: str) -> None:
    text = FOUR_BAR.replace("<default>", f'<option jacobian="{jacobian}"/><default>', 1)
    model = mujoco.MjModel.from_xml_string(text)
    linkage, qpos = Linkage(model), np.full(model.nq, 0.7)
    linkage.place([crank], qpos)
    found = dict(zip(("crank", "finger", "rocker", "other", "stone"), qpos, strict=True))
    wanted = {"crank": crank, "finger": -crank, "rocker": crank, "other": (0.1 - crank) / 2, "stone": 0.7}
    assert found == pytest.approx(wanted, abs=1e-6)  # a parallelogram; the stone is nobody's
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(data.body("finger").xpos, (0, -0.05 * sin(crank), 0.05 * cos(crank)), atol=1e-6)
