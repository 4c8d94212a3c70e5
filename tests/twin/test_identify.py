from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robolearn.cell import load_cell
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import CellError, DatasetError, SpecError
from robolearn.physics import PER_JOINT, Physics
from robolearn.recipes.cell_physics import write_physics
from robolearn.recipes.twin import fit_twin, parameter_rows
from robolearn.recipes.twin_compare import compare_twin
from robolearn.specs import InterfaceSpec
from robolearn.tasks import Task, make_task
from robolearn.tasks.panda import PANDA_ARM
from robolearn.twin.identify import Log, excitation, fit, replay
from robolearn.twin.scene import load_robot
from robolearn.twin.twin import Twin
from robolearn.types import ActionSource, EpisodeOutcome

TASK = make_task("reach-v1")
HARDWARE = Path(__file__).parents[2] / "hardware"
START = np.array([0.0, -0.6, 0.4, 0.8, 0.0, 0.6])  # high above the table: nothing is touched
ENCODER_RAD = 2 * np.pi / 4096  # resolution of the servos of this class
FACTORS = {"damping": 1.6, "frictionloss": 1.8, "armature": 0.6, "kp": 0.7, "kv": 1.4}


def hidden(factors: dict[str, float] = FACTORS, latency_s: float = 0.035) -> Physics:
    base = Physics.of(load_robot(TASK))
    changed = {name: tuple(factor * v for v in getattr(base, name)) for name, factor in factors.items()}
    return replace(base, **changed, latency_s=latency_s)  # type: ignore[arg-type]


def record(
    physics: Physics, seed: int, steps: int, resolution: float = 0.0, task: Task = TASK, start: np.ndarray = START
) -> Log:
    """What a robot of this physics does under the excitation, as its encoders tell."""
    twin = Twin(task, {}, physics)
    twin.place_robot(start)
    command = excitation(task.robot_spec, start, steps, task.control_hz, np.random.default_rng(seed)).astype(np.float32)
    positions, velocities = [], []
    for row in command:
        state = twin.robot_state()
        positions.append(state.joint_position.astype(np.float64))
        velocities.append(state.joint_velocity.astype(np.float64))
        twin.step(row)
    position, velocity = np.array(positions), np.array(velocities)
    if resolution:
        position, velocity = np.round(position / resolution) * resolution, np.round(velocity / 0.05) * 0.05
    return Log(command.astype(np.float64), position, velocity)


def write(path: Path, logs: list[Log]) -> ZarrStore:
    robot = TASK.robot_spec
    interface = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, TASK.control_hz)
    store = ZarrStore.create(path, DatasetSpec(robot, interface, tasks=(TASK.id,)))
    with store.writer() as writer:
        for log in logs:
            writer.begin(EpisodeMeta(task=TASK.id, instruction=TASK.instruction, seed=0))
            for k, command in enumerate(log.command.astype(np.float32)):
                row = {
                    "proprio": np.concatenate([log.position[k], log.velocity[k]]).astype(np.float32),
                    "action": command,
                    "action_sent": command,
                    "action_source": np.uint8(ActionSource.SCRIPT),
                    "held": np.bool_(False),
                }
                writer.append(row, dict.fromkeys(row, k * 50_000_000))
            writer.commit(EpisodeOutcome(None, False, True))
    return store


@pytest.mark.parametrize("latency_s", [0.0, 0.035, 0.12])
def test_replays_a_twin_exactly_when_its_physics_are_known(latency_s: float) -> None:
    physics = hidden(latency_s=latency_s)
    log = record(physics, seed=1, steps=40)
    np.testing.assert_allclose(replay(TASK, physics, log), log.position, atol=1e-6)
    assert np.abs(replay(TASK, Physics.of(load_robot(TASK)), log) - log.position).max() > 0.01


def test_replays_a_gripper_whose_second_finger_has_no_servo() -> None:
    task = make_task("reach-v1@panda")
    physics, start = Physics.of(load_robot(task)), np.array([*PANDA_ARM.rest, 0.02])
    log = record(physics, seed=1, steps=20, task=task, start=start)
    np.testing.assert_allclose(replay(task, physics, log), log.position, atol=1e-6)


def test_a_cell_keeps_what_was_fitted_and_its_twin_has_it(tmp_path: Path) -> None:
    cell, truth = tmp_path / "bench.yaml", hidden()
    text = (HARDWARE / "cells" / "so101_standin.yaml").read_text().replace("../", f"{HARDWARE}/")
    cell.write_text(text)
    write_physics(cell, Physics(kp=(1.0,) * 6), "an earlier log")
    once = cell.read_text()
    assert once.startswith(text.rstrip())
    cell.write_text(once + "# the end\n")
    write_physics(cell, truth, "motions.zarr")
    assert cell.read_text().startswith(text.rstrip())
    assert cell.read_text().endswith("# the end\n")
    assert cell.read_text().count("physics:") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["bench.yaml"]
    model, wanted = load_cell(cell).make_twin(TASK, {}).model, Twin(TASK, {}, truth).model
    for field in ("dof_damping", "dof_frictionloss", "dof_armature", "actuator_gainprm", "actuator_delay"):
        np.testing.assert_allclose(getattr(model, field), getattr(wanted, field), rtol=1e-5)
    cell.write_text(cell.read_text().replace("latency_s: 0.035", "latency_s: 7"))
    with pytest.raises(CellError, match=r"bench\.yaml:\d+: physics physics latency_s is 7.0"):
        load_cell(cell)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("resolution", [0.0, ENCODER_RAD])
def test_finds_hidden_parameters_and_replays_five_times_better(tmp_path: Path, resolution: float) -> None:
    truth = hidden()
    logs = [record(truth, seed, 400, resolution) for seed in (1, 2)]
    write(tmp_path / "motions.zarr", logs)
    cell = tmp_path / "bench.yaml"
    cell.write_text((HARDWARE / "cells" / "so101_standin.yaml").read_text().replace("../", f"{HARDWARE}/"))
    report = fit_twin(tmp_path / "motions.zarr", tmp_path / "fit", cell=cell)
    found = Physics.read(tmp_path / "fit" / "physics.yaml")
    for name in PER_JOINT:
        np.testing.assert_allclose(getattr(found, name), getattr(truth, name), rtol=0.1, err_msg=name)
    assert found.latency_s == pytest.approx(truth.latency_s, rel=0.1)
    assert report["error_ratio"] > 5
    kept = compare_twin(tmp_path / "motions.zarr", 0, tmp_path / "compare", physics=load_cell(cell).physics)
    assert kept["before"]["joint_rms_rad"] > 5 * kept["joint_rms_rad"]
    assert (tmp_path / "fit" / "replay.png").stat().st_size > 10_000


def test_tells_which_latency_it_tries() -> None:
    """So that an error that rises again between two lines is understood."""
    told: list[tuple[int, float, float]] = []
    fit(TASK, [record(hidden(), 1, 12)], iterations=2, progress=lambda *line: told.append(line))
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    substep_s = load_robot(TASK).opt.timestep
    tried = [latency_s for _, _, latency_s in told[3:]]
    assert tried == sorted(tried)
    assert len(set(tried)) > 1
    np.testing.assert_allclose(tried, substep_s * np.round(np.array(tried) / substep_s), atol=1e-9)


def test_what_is_the_same_for_all_joints_is_one_row() -> None:
    before = dict.fromkeys(PER_JOINT, (1.0, 1.0)) | {"latency_s": 0.0}
    after = before | {"kp": (2.0, 3.0), "latency_s": 0.005}
    rows = parameter_rows({"before": before, "after": after}, ("pan", "tilt"))
    assert [row for row in rows if row[1] == "kp"] == [("pan", "kp", "1", "2"), ("tilt", "kp", "1", "3")]
    assert [row[0] for row in rows if row[1] != "kp"] == ["all"] * len(PER_JOINT)
    assert rows[-1] == ("all", "latency_s", "0", "0.005")


def test_compares_an_episode_over_time(tmp_path: Path) -> None:
    truth = hidden()
    write(tmp_path / "motions.zarr", [record(truth, 1, 30)])
    other = compare_twin(tmp_path / "motions.zarr", 0, tmp_path / "other")
    same = compare_twin(tmp_path / "motions.zarr", 0, tmp_path / "same", physics=truth)
    assert same["joint_rms_rad"] < 1e-6
    assert same["tool_max_m"] < 1e-5
    assert other["joint_rms_rad"] > 0.005
    assert other["tool_max_m"] > 0.002
    assert len(other["over_time"]["tool_m"]) == 30
    assert other["before"] is None
    assert same["before"]["tool_max_m"] == other["tool_max_m"]
    assert (tmp_path / "other" / "compare.png").exists()
    with pytest.raises(DatasetError, match="has 1 episodes, counted from 0; there is no episode 3"):
        compare_twin(tmp_path / "motions.zarr", 3, tmp_path / "none")


def test_a_log_that_is_too_short() -> None:
    log = record(hidden(), 1, 8)
    with pytest.raises(SpecError, match="no 11 steps"):
        fit(TASK, [log])


def test_physics_survive_a_file_and_bad_ones_are_told(tmp_path: Path) -> None:
    file = tmp_path / "physics.yaml"
    hidden().write(file)
    read = Physics.read(file)
    for name in PER_JOINT:
        np.testing.assert_allclose(getattr(read, name), getattr(hidden(), name))
    for text in ("damping: [1, 2", "mass: [1]", "kp: 3", "kp: [-1, 1]", "latency_s: 7", "[]"):
        file.write_text(text)
        with pytest.raises(SpecError, match="physics"):
            Physics.read(file)
    with pytest.raises(SpecError, match="2 values for 6 joints"):
        Twin(TASK, {}, Physics(kp=(1.0, 2.0)))
