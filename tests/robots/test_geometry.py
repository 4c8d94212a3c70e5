"""The shape of the arm: the tool's workspace and the links' clearance, alone and in the filter."""

from __future__ import annotations

import numpy as np
import pytest

from robolearn.assets import asset
from robolearn.errors import SpecError
from robolearn.robots.geometry import MujocoGeometry, load_geometry
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.specs import RobotSpec
from robolearn.tasks.kinematics import SO101
from robolearn.tasks.kinematics import forward as tool_at
from robolearn.types import RobotState

MODEL = asset("sim_assets/robots/so101/so101.xml")
PERIOD_NS = 20_000_000
BOX = SafetyConfig(model=MODEL, workspace_low=(0.1, -0.2, 0.05), workspace_high=(0.4, 0.2, 0.4), min_clearance_m=0.005)
FOLDED = np.array([0.0, -1.7, 1.65, 1.5, 0.0, 0.0])


def test_links_that_meet_and_a_tool_that_leaves_are_named() -> None:
    geometry = MujocoGeometry(SafetyConfig(model=MODEL, min_clearance_m=0.005), SO101)
    excess, what = geometry.excess(np.zeros(6))
    assert not excess.any()
    assert not any(what)
    excess, what = geometry.excess(FOLDED)
    assert (excess > 0).tolist() == [False, False, False, True]
    assert "mm apart, at least 5 mm" in what[3]
    excess, what = MujocoGeometry(BOX, SO101).excess(np.array([1.5, 0, 0, 0, 0, 0.0]))
    assert what[1].startswith("the tool would be at y -0.")
    assert excess[1] == pytest.approx(-tool_at([1.5, 0, 0, 0, 0])[0][1] - 0.2, abs=1e-6)


@pytest.mark.parametrize("acceleration", [None, 20.0])
def test_no_stream_takes_the_tool_out_of_its_workspace_or_the_links_together(acceleration: float | None) -> None:
    """Random walks towards random places: what was sent never breaks a limit, not even while it brakes."""
    config = SafetyConfig(**{**vars(BOX), "max_acceleration": acceleration})
    geometry = load_geometry(config, SO101)
    assert geometry is not None
    rng, held = np.random.default_rng(3), 0
    for _ in range(4):
        safety = SafetyFilter(SO101, config, PERIOD_NS * 1e-9, geometry)
        safety.reset(RobotState(np.zeros(6, np.float32), np.zeros(6, np.float32), 0))
        sent, goal = np.zeros(6), np.zeros(6)
        for tick in range(150):
            if tick % 25 == 0:
                goal = rng.uniform(SO101.position_low, SO101.position_high)
            command = (sent + np.clip(goal - sent, -0.06, 0.06)).astype(np.float32)
            decision = safety.filter(command, tick * PERIOD_NS, tick * PERIOD_NS)
            held += decision.held
            sent = decision.command.astype(np.float64)
            excess, what = geometry.excess(sent)
            assert excess.max() <= 1e-6, what
    assert held > 20  # the limits were met


def test_an_arm_that_starts_outside_may_come_back() -> None:
    geometry = load_geometry(BOX, SO101)
    safety = SafetyFilter(SO101, BOX, PERIOD_NS * 1e-9, geometry)
    start = np.array([1.2, 0, 0, 0, 0, 0], np.float32)
    safety.reset(RobotState(start, np.zeros(6, np.float32), 0))
    further, back = start.copy(), start.copy()
    further[0], back[0] = 1.23, 1.17
    assert safety.filter(further, 0, 0).reason.startswith("the tool would be at y")
    assert not safety.filter(back, PERIOD_NS, PERIOD_NS).held


def test_an_arm_that_starts_outside_on_one_side_keeps_within_the_others() -> None:
    """Beside its box it must not go below the table meanwhile, though that would take it less far out."""
    geometry = load_geometry(BOX, SO101)
    safety = SafetyFilter(SO101, BOX, PERIOD_NS * 1e-9, geometry)
    command = np.array([1.0, 0.2, 0.4, 0, 0, 0], np.float32)
    safety.reset(RobotState(command, np.zeros(6, np.float32), 0))
    for tick in range(200):
        command = command + np.array([-0.004, 0.01, 0.01, 0, 0, 0], np.float32)
        decision = safety.filter(command, tick * PERIOD_NS, tick * PERIOD_NS)
        if decision.held:
            break
    assert decision.reason.startswith("the tool would be at z")
    assert tool_at(decision.command[:5])[0][2] >= 0.05


@pytest.mark.parametrize(
    ("config", "spec", "message"),
    [
        ({"tool": "hand"}, SO101, "no body 'hand'"),
        ({}, RobotSpec("arm", ("elbow",), (0.0,), (1.0,), (1.0,)), "no joint elbow"),
        ({"model": MODEL.with_name("none.xml")}, SO101, "none.xml"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(config: dict, spec: RobotSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_geometry(SafetyConfig(**{**vars(BOX), **config}), spec)


def test_a_limit_of_the_shape_needs_the_shape() -> None:
    with pytest.raises(SpecError, match="give model"):
        SafetyConfig(min_clearance_m=0.01)
    with pytest.raises(SpecError, match=r"min_clearance_m is -0\.004, expected a number above 0"):
        SafetyConfig(model=MODEL, min_clearance_m=-0.004)
    with pytest.raises(SpecError, match="no geometry"):
        SafetyFilter(SO101, BOX, 0.02)
