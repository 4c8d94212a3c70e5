"""Packages that add a robot, a camera, a teleoperator, a task, an algorithm, a policy and a reward by entry points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from robolearn import cli
from robolearn.assets import asset
from robolearn.cell import load_cell
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import CellError, HardwareError, PluginError, UnknownNameError
from robolearn.plugins import Table
from robolearn.policies.checkpoint import load_policy
from robolearn.recipes.doctor import check_plugins
from robolearn.robots.robot import Robot
from robolearn.tasks import TASKS, known_task, make_task

Package = Callable[..., Path]

DEVICES = """
from dataclasses import dataclass

import numpy as np

from robolearn.cameras.fake import FakeCamera
from robolearn.robots.fake import FakeRobot
from robolearn.specs import CameraSpec
from robolearn.teleop.teleoperator import TeleopCommand


@dataclass(frozen=True)
class ArmConfig:
    port: str


class Arm(FakeRobot):
    config_type = ArmConfig

    def __init__(self, config, clock):
        super().__init__(clock=clock)
        self.config = config


@dataclass(frozen=True)
class EyeConfig:
    name: str
    height: int = 24


class Eye(FakeCamera):
    config_type = EyeConfig

    def __init__(self, config, clock):
        super().__init__(CameraSpec(config.name, config.height, 32, 20.0), clock)


@dataclass(frozen=True)
class HandConfig:
    pass


class Hand:
    config_type = HandConfig

    def __init__(self, config, spec):
        self.spec = spec

    def connect(self):
        pass

    def read(self, state, now_ns):
        return TeleopCommand(state.joint_position)

    def close(self):
        pass
"""

LEARNING = '''
from dataclasses import dataclass
from pathlib import Path

import torch

from robolearn.algorithms.state_bc import StateBC
from robolearn.policies.gaussian import GaussianPolicy
from robolearn.rewards.reward_model import RewardOutput, masked, version_of
from robolearn.tasks.reach import Reach


class Near(Reach):
    id = "near-v1"
    robots = ("so101",)
    scene = Path(__file__).with_name("near.xml")


class Policy(GaussianPolicy):
    pass


class Clone(StateBC):
    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.actor.__class__ = Policy


@dataclass(frozen=True)
class ClockConfig:
    steps: int = 10


class Clock:
    """A reward that rises with time."""

    config_type = ClockConfig
    id, kind, causal = "clock", "reward", True

    def __init__(self, config):
        self.config = config

    @property
    def version(self):
        return version_of(self.config)

    def score(self, episodes):
        batch, steps = episodes.shape
        value = (torch.arange(steps) / self.config.steps).expand(batch, steps)
        valid = episodes.valid(value.device)
        return masked(RewardOutput(value, valid.float(), {}), valid)
'''

CELL = {
    "name": "bench",
    "control_hz": 20,
    "robot": {"driver": "arm", "port": "/dev/null"},
    "cameras": {"front": {"driver": "eye", "height": 48}},
    "teleop": {"driver": "hand"},
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Puts a module on the path as an installation would, with what it says that it adds."""

    def install(name: str, source: str, adds: dict[str, dict[str, str]], version: str = "1.2") -> Path:
        folder = tmp_path / f"site_{name}"
        about = folder / f"{name}-{version}.dist-info"
        about.mkdir(parents=True)
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        groups = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in adds.items()]
        (about / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return install


def write_cell(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**CELL, **changes}), encoding="utf-8")
    return path


def test_devices_of_a_package_are_drivers_of_a_cell(package: Package, tmp_path: Path) -> None:
    devices = {"robots": "arm = plug_devices:Arm", "cameras": "eye = plug_devices:Eye"}
    devices["teleoperators"] = "hand = plug_devices:Hand"
    package("plug_devices", DEVICES, {f"robolearn.{k}": dict([v.split(" = ")]) for k, v in devices.items()})
    cell = load_cell(write_cell(tmp_path / "cell.yaml"))
    robot = cell.make_robot(clock=lambda: 7)
    robot.connect()
    state = robot.read()
    assert state.stamp_ns == 7
    assert robot.config.port == "/dev/null"  # type: ignore[attr-defined]
    camera = cell.make_cameras()["front"]
    assert (camera.spec.name, camera.spec.height) == ("front", 48)
    command = cell.make_teleoperator(robot.spec).read(state, 8)
    assert command.action is state.joint_position
    with pytest.raises(CellError, match=r"cell.yaml:\d+: robot.prt is an unknown key 'prt'; did you mean port"):
        load_cell(write_cell(tmp_path / "cell.yaml", robot={"driver": "arm", "prt": "/dev/null"}))
    with pytest.raises(CellError, match=r"robot.driver names an unknown driver 'arn'; did you mean arm"):
        load_cell(write_cell(tmp_path / "cell.yaml", robot={"driver": "arn"}))


def test_whatever_a_device_of_a_package_raises_is_a_fault_of_the_device(package: Package, tmp_path: Path) -> None:
    source = DEVICES.replace("class Arm(FakeRobot):", "class Arm(FakeRobot):\n    def read(self): return {}['pan']\n")
    package("plug_faults", source, {"robolearn.robots": {"arm": "plug_faults:Arm"}})
    robot = load_cell(write_cell(tmp_path / "cell.yaml", cameras={}, teleop=None)).make_robot()
    assert isinstance(robot, Robot)
    with pytest.raises(HardwareError, match=r"^arm: KeyError: 'pan' \(plug_faults.py, line 18\)$"):
        robot.read()
    with pytest.raises(HardwareError, match="call connect"):  # as it says it itself
        robot.write(robot.spec.position_low)  # type: ignore[arg-type]


def test_a_package_brings_task_algorithm_policy_and_reward(
    package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From demonstrations to a policy that is judged, by the commands that know the names."""
    adds = {"tasks": "near-v1:Near", "algorithms": "clone:Clone", "policies": "mine:Policy", "rewards": "clock:Clock"}
    points = {f"robolearn.{group}": dict([add.split(":")]) for group, add in adds.items()}
    points = {group: {k: f"plug_learning:{v}" for k, v in point.items()} for group, point in points.items()}
    folder = package("plug_learning", LEARNING, points)
    for name in ("near.xml", "table.xml"):
        source = asset(f"sim_assets/scenes/{name.replace('near', 'reach')}")
        (folder / name).write_bytes(source.read_bytes())
    data, run = tmp_path / "near.zarr", tmp_path / "run"
    commands = [
        ["tasks", "--json"],
        ["collect", "near-v1", "--episodes", "2", "--image-size", "16", "--out", str(data)],
        ["train", "clone", "--dataset", str(data), "--out", str(run), "--steps", "2", "--set", "batch_size=8"],
        ["evaluate", str(run / "checkpoints" / "latest"), "--task", "near-v1", "--episodes", "1", "--json"],
        ["label", str(data), "--reward", "clock"],
    ]
    answers = []
    for command in commands:
        with pytest.raises(SystemExit) as end:
            cli.main(command)
        answer = capsys.readouterr()
        assert end.value.code == 0, (command, answer.err)
        answers.append(answer.out)
    assert "near-v1" in [task["id"] for task in json.loads(answers[0])["tasks"]]
    assert json.loads(answers[3])["episodes"] == 1
    assert type(load_policy(run / "checkpoints" / "latest")).__name__ == "Policy"
    store = ZarrStore.open(data)
    assert {info.task for info in store.episodes} == {"near-v1"}
    (column,) = [name for name in store.columns if name.startswith("reward/clock")]
    assert store.read(0, [column])[column][1] == pytest.approx(0.1)


def test_a_policy_that_no_checkpoint_could_hold_is_told_before_it_learns(
    package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package("plug_kindless", LEARNING.replace("StateBC", "SAC").replace("state_bc", "sac"), {
        "robolearn.algorithms": {"clone": "plug_kindless:Clone"}
    })  # fmt: skip
    with pytest.raises(SystemExit):
        cli.main(["train", "clone", "--task", "gym:Pendulum-v1", "--steps", "300", "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert "no checkpoint can hold a policy of the class Policy; add it to the entry points" in said
    assert not (tmp_path / "run").exists()


def test_a_broken_package_is_told_of_and_harms_nothing_else(
    package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package("plug_devices", DEVICES, {"robolearn.robots": {"arm": "plug_devices:Arm", "eye": "plug_devices:Eye"}})
    package("plug_broken", "import no_such_vendor", {
        "robolearn.robots": {"torn": "plug_broken:Arm", "servo_arm": "plug_broken:Arm"},
        "robolearn.tasks": {"torn-v1": "plug_broken:Torn"},
    })  # fmt: skip
    fine = {"cameras": {}, "teleop": None}
    load_cell(write_cell(tmp_path / "cell.yaml", **fine)).make_robot()
    torn = (
        r"the robot torn of plug_broken 1.2 \(plug_broken:Arm\) cannot be imported: ModuleNotFoundError: No module "
        "named 'no_such_vendor'; mend or uninstall that package"
    )
    with pytest.raises(CellError, match=r"cell.yaml:\d+: robot.driver is torn; " + torn):
        load_cell(write_cell(tmp_path / "cell.yaml", robot={"driver": "torn"}, **fine))
    with pytest.raises(CellError, match=r"the robot eye of plug_devices 1.2 \(plug_devices:Eye\) lacks write; see"):
        load_cell(write_cell(tmp_path / "cell.yaml", robot={"driver": "eye"}, **fine))
    with pytest.raises(PluginError, match="the task torn-v1 of plug_broken"):
        make_task("torn-v1")
    assert known_task("torn-v1") is None
    with pytest.raises(UnknownNameError, match="did you mean push-v1"):
        make_task("pusch-v1")
    with pytest.raises(SystemExit):
        cli.main(["tasks", "--json"])
    answer = capsys.readouterr()
    assert len(json.loads(answer.out)["tasks"]) == len(TASKS) - 1
    assert answer.err.startswith("left out: the task torn-v1 of plug_broken")
    check = check_plugins()
    assert not check.ok
    assert not check.required
    for part in (
        "robot arm of plug_devices 1.2",
        "the robot torn of",
        "robot servo_arm of plug_broken 1.2 is never used, for robolearn has one",
    ):
        assert part in check.found


def test_a_table_of_names(package: Package) -> None:
    table: Table[Any] = Table("test.things", "thing", {"own": 1, "lazy": "json:dumps"}, owed=("__call__",))
    assert list(table) == ["own", "lazy"]
    package("plug_one", "class One: config_type = 5\ndef two(): return 2", {
        "test.things": {"two": "plug_one:two", "own": "plug_one:two", "one": "plug_one:One", "both": "plug_one:two"}
    })  # fmt: skip
    package("plug_two", "", {"test.things": {"both": "plug_two:two"}})
    assert list(table) == ["own", "lazy", "both", "one", "two"]
    assert len(table) == 5
    assert table["own"] == 1
    assert table["lazy"] is json.dumps
    assert table["two"]() == 2
    assert "one" in table
    assert "three" not in table
    with pytest.raises(KeyError):
        table["three"]
    with pytest.raises(PluginError, match=r"plug_one 1.2 and plug_two 1.2 both have a thing both; uninstall one"):
        table["both"]
    with pytest.raises(PluginError, match="has 5 for its config_type, expected a dataclass"):
        table["one"]
