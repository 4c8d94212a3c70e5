"""A row of the batch filter is a filter of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robolearn.errors import SpecError
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.robots.safety_batch import BatchSafetyFilter
from robolearn.specs import RobotSpec
from robolearn.types import RobotState

PERIOD_NS = 50_000_000
SPEC = RobotSpec("arm", ("pan", "lift", "gripper"), (-1.9, -1.7, -0.1), (1.9, 1.7, 1.7), (2.0, 1.0, 4.0))
ROBOTS = 4
CONFIGS = (
    SafetyConfig(),
    SafetyConfig(position_margin=0.05, soft_start_s=0.2),
    SafetyConfig(max_acceleration=20.0),
    SafetyConfig(max_acceleration=20.0, max_jerk=400.0, soft_start_s=0.3),
)

numbers = st.one_of(
    st.floats(-2.25, 2.25, width=32),
    st.floats(-0.25, 0.25, width=32),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1.9, -1.7, 1.75, -0.1, 3e38]),
)
commands = st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=ROBOTS, max_size=ROBOTS)


@example([[[9.0] * 3] * 2 + [[0.1] * 3] * 2] * 7 + [[[0.1] * 3] * ROBOTS] * 2, CONFIGS[1], np.float32, 0)  # a long hold
@settings(max_examples=60, deadline=None)  # of up to 8 ticks of 4 robots each
@given(
    stream=st.lists(commands, min_size=1, max_size=8),
    config=st.sampled_from(CONFIGS),
    dtype=st.sampled_from([np.float32, np.float64]),
    again=st.integers(0, ROBOTS - 1),
)
def test_decides_as_single_filters_do(
    stream: list[list[list[float]]], config: SafetyConfig, dtype: type, again: int
) -> None:
    singles = [SafetyFilter(SPEC, config, PERIOD_NS * 1e-9) for _ in range(ROBOTS)]
    batch = BatchSafetyFilter(SPEC, config, PERIOD_NS * 1e-9, ROBOTS)
    start = np.float32([[0.0, 0.0, 0.0], [1.9, -1.7, 0.3], [-1.0, 1.0, 1.8], [0.5, 0.2, -0.1]])
    batch.reset(start)
    for single, position in zip(singles, start, strict=True):
        single.reset(RobotState(position, np.zeros(3, np.float32), 0))
    for tick, rows in enumerate(stream):
        if tick == 3:  # one of them starts anew
            batch.reset(start[[again]], [again])
            singles[again].reset(RobotState(start[again], np.zeros(3, np.float32), tick * PERIOD_NS))
        actions = np.array(rows, dtype)
        decided = batch.filter(actions)
        for i, single in enumerate(singles):
            alone = single.filter(actions[i], tick * PERIOD_NS, tick * PERIOD_NS)
            np.testing.assert_array_equal(decided.command[i], alone.command)
            assert (decided.held[i], decided.limited[i]) == (alone.held, alone.limited)
            assert decided.reason[i].split(" ")[0] == alone.reason.split(" ")[0]  # the same joint is blamed
        assert decided.command.dtype == np.float32


def test_refuses_a_start_out_of_range_and_commands_of_another_shape() -> None:
    batch = BatchSafetyFilter(SPEC, SafetyConfig(), PERIOD_NS * 1e-9, 2)
    for bad in (3.0, np.nan):
        with pytest.raises(SpecError, match="outside"):
            batch.reset(np.float32([[0, 0, 0], [0, bad, 0]]))
    batch.reset(np.zeros((2, 3), np.float32))
    for actions in (np.zeros((3, 3)), np.zeros(3), np.array([["a"] * 3] * 2)):
        with pytest.raises(SpecError, match="expected"):
            batch.filter(actions)
