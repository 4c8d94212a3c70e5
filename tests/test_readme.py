"""The README is true: its commands run (the long ones in their short form), its robot passes, its files exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robolearn import cli
from robolearn.cell import load_cell
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.robots.robot import Robot

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT_FORM = {
    "make demo": f"make -C {ROOT} -n demo",  # what it runs is tested in tests/recipes/test_demo.py
    "make test": f"make -C {ROOT} -n test",
    "robolearn collect pick_place-v1 --episodes 4 --out demos.zarr": (
        "robolearn collect pick_place-v1 --episodes 1 --out demos.zarr"
    ),
    "robolearn collect pick_place-v1 --episodes 2 --out demos.zarr --graph": (
        "robolearn collect pick_place-v1 --episodes 1 --out demos.zarr --graph"
    ),
    "robolearn train bc --dataset demos.zarr --steps 20 --out runs/bc": (
        "robolearn train bc --dataset demos.zarr --steps 2 --out runs/bc"
    ),
    "robolearn train sac --task gym:Pendulum-v1 --steps 1100 --out runs/sac": (
        "robolearn train sac --task gym:Pendulum-v1 --steps 110 --set online.evaluations=1 "
        "online.evaluation_episodes=1 --out runs/sac"
    ),
    "robolearn evaluate runs/bc/checkpoints/latest --task pick_place-v1 --episodes 2 --json": (
        "robolearn evaluate runs/bc/checkpoints/latest --task pick_place-v1 --episodes 1 --json"
    ),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.timeout(400)  # the commands are many, and the machine may be slow
def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """`robolearn` in this process, for torch takes seconds to import; from a shell it runs in test_walkthrough.py."""
    lines = [line.split(" #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    assert set(SHORT_FORM) <= set(lines)
    commands = [SHORT_FORM.get(line, line) for line in lines if line]
    assert len(commands) > 8
    monkeypatch.chdir(tmp_path)
    for command in commands:
        program, *words = shlex.split(command)
        if program == "robolearn":
            with pytest.raises(SystemExit) as exit_:
                cli.main(words)
            code = exit_.value.code
        else:
            code = subprocess.run([program, *words], timeout=110).returncode
        assert code == 0, f"{command}\n{''.join(capfd.readouterr())}"


def test_your_robot_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, in a cell, with the clock of whoever runs it."""
    (source,) = [block for block in blocks("python") if "class MyArm" in block]
    (cell,) = [block for block in blocks("yaml") if "driver: my_arm" in block]
    (project,) = blocks("toml")
    for name, text in (("cell.yaml", cell), ("my_arm.py", source), ("pyproject.toml", project)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(tmp_path)], check=True, timeout=100)
    monkeypatch.syspath_prepend(str(target))
    robot = load_cell(tmp_path / "cell.yaml").make_robot(clock=lambda: 5)
    assert isinstance(robot, Robot)
    assert robot.spec.max_speed == (1.0, 1.0)
    robot.connect()
    target = np.array([0.5, -0.5], np.float32)
    robot.write(target)
    np.testing.assert_array_equal(robot.read().joint_position, target)
    assert robot.read().stamp_ns == 5
    robot.close()


def test_an_episode_is_recorded_as_the_page_of_datasets_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    (source,) = [
        block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "writer.begin" in block
    ]
    monkeypatch.chdir(tmp_path)
    exec(source, {})
    assert [info.length for info in ZarrStore.open(tmp_path / "push.zarr").episodes] == [20]


def test_three_lines_of_zarr_give_an_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = [block for block in blocks("python") if "zarr.open" in block]
    out = tmp_path / "runs" / "demo" / "demonstrations.zarr"
    collect_episodes(CollectConfig(task="reach-v1", image_size=16), out, 8)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(source, names)
    assert names["images"].shape[1:] == (16, 16, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", re.findall(r"`((?:robolearn|ros_ws|launch|sim_assets|hardware|benchmarks|tests)/[\w./]*)`", README)
)
def test_named_files_exist(name: str) -> None:
    assert (ROOT / name).exists()
