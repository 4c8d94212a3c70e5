"""Practice on a real cell by its file: an arm of stand-in servos, a camera that sees a tagged puck, a person asked."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from practice_runs import demonstrations, prepared, small_config
from tag_pictures import calibration, look_at_tag, pose_of, write_video

from robolearn.cell import load_cell
from robolearn.cli import run as command
from robolearn.cli.graph import namespace_of
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import CellError, HardwareError, RobolearnError, SpecError
from robolearn.networks.model_directory import write_model
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.finetune.cells import THINGS_BACK, check_terminal, cooled_in_time, make_cell
from robolearn.recipes.finetune.prepare import CLASSIFIER
from robolearn.recipes.finetune.recipe import begin, practise
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.rewards.state_success import StateSuccess, StateSuccessConfig
from robolearn.robots.standin import StandInBus

ROOT = Path(__file__).parents[2]
PUCK = (0.22, 0.01, 0.025)


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """Its file; the arm stands at 0 rad in all joints once its bus is there."""
    (tmp_path / "cells").mkdir()
    (tmp_path / "calibration").mkdir()
    calibration().save(tmp_path / "calibration" / "bench_front.json")
    write_video(tmp_path / "front.mp4", look_at_tag(7, pose_of(PUCK)))
    file = tmp_path / "cells" / "bench.yaml"
    file.write_text(
        "name: bench\ncontrol_hz: 20\n"
        f"robot: {{driver: servo_arm, name: so101, port: {tmp_path / 'arm'}, bus: {{answer_timeout_s: 0.2}}, "
        f"calibration: {ROOT / 'hardware' / 'calibration' / 'so101_standin.json'}}}\n"
        "safety: {max_command_age_s: 0.5, max_jump: 1.0}\n"
        f"cameras: {{front: {{driver: video, path: {tmp_path / 'front.mp4'}}}}}\n"
        "objects: {puck: {tag: 7, height_m: 0.025, offset_m: [0, 0, -0.0125]}}\n",
        encoding="utf-8",
    )
    return file


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_night_on_servos_asks_for_a_person_and_goes_on(cell: Path, tmp_path: Path) -> None:
    demos = demonstrations(tmp_path)
    config = replace(small_config(18), reward="success", cell=str(cell), film_every=1)
    quick = replace(config.supervisor, max_attempt_steps=4, stuck_attempts=2, max_home_steps=40, max_recovery_steps=3)
    run = prepared_elsewhere(replace(config, supervisor=quick), demos, tmp_path / "run")
    with StandInBus("sts3215", path=tmp_path / "arm"):
        thread = threading.Thread(target=practise, args=(run, False))
        thread.start()
        while not (run / "waits.txt").exists():
            assert thread.is_alive()
            time.sleep(0.05)
        assert waited(run) == "nothing was moved in 2 attempts; it could not be brought back"
        while thread.is_alive():
            if (run / "waits.txt").exists():
                assert command(["finetune", "--things-back", str(run)]) == 0
            time.sleep(0.1)
    store = ZarrStore.open(run / "replay.zarr")
    assert sum(info.length - 1 for info in store.episodes) == 18
    assert store.episodes[-1].tags["resets"] >= 1
    puck = store.read(0)["state"][:, 8:11] + store.read(0)["state"][:, :3]
    np.testing.assert_allclose(puck, np.tile([*PUCK[:2], 0.0125], (len(puck), 1)), atol=0.002)
    assert (run / "stopped.txt").read_text() == "18 steps were asked for, and are done"
    assert (run / "films").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cell_without_tags_practises_from_pictures_and_a_person_says_what_is_done(cell: Path, tmp_path: Path) -> None:
    demos, run = [tmp_path / f"{task}.zarr" for task in ("push-v1", "push_back-v1")], tmp_path / "run"
    for path in demos:
        collect_episodes(CollectConfig(path.stem, image_size=16), path, 1, seed=0)
    cell.write_text("\n".join(cell.read_text().splitlines()[:-1]))
    (tmp_path / "calibration" / "bench_front.json").unlink()
    words = ["finetune", "--task", "push-v1", "--cell", str(cell), "--reward", "person", "--steps", "24", "--in-turns"]
    words += ["--demos", *map(str, demos), "--out", str(run), "--set", "image_size=16", "cameras=front"]
    words += ["supervisor.max_attempt_steps=4", "supervisor.failed_attempts=2", "supervisor.max_home_steps=40"]
    with pytest.raises(CellError, match=r"no objects\.puck.* or practise from pictures without: --set things=unseen"):
        command(words)
    assert not run.exists()
    with StandInBus("sts3215", path=tmp_path / "arm"):
        thread = threading.Thread(target=command, args=([*words, "things=unseen", "rlpd.utd=1"],))
        thread.start()
        while not (run / "now.txt").exists():
            assert thread.is_alive()
            time.sleep(0.05)
        assert FinetuneConfig.read(run).supervisor.max_temperature_c == 62.0
        (run / THINGS_BACK).touch()  # before anybody is asked
        while not (run / "waits.txt").exists():
            assert thread.is_alive()
            time.sleep(0.05)
        assert waited(run) == "2 attempts in a row have failed"
        time.sleep(0.5)
        assert (run / "waits.txt").exists()
        while thread.is_alive():
            asked = (run / "waits.txt").exists()
            assert command(["finetune", "--things-back" if asked else "--task-done", str(run)]) == 0
            time.sleep(0.3)
    store = ZarrStore.open(run / "replay.zarr")
    assert [info.success for info in store.episodes[:2]] == [False, False]
    assert any(info.success for info in store.episodes)
    assert {info.tags["truth"] for info in store.episodes} == {None}
    assert not store.read_valid(0)["truth"].any()
    assert (run / "stopped.txt").read_text() == "24 steps were asked for, and are done"
    report = (run / "report.html").read_text()
    assert "nobody watches" in report
    assert "False-positive watch" not in report
    assert "in truth" not in report


def waited(run: Path) -> str:
    """What a person is waited for, who is told how to answer, too."""
    reason, _, answer = (run / "waits.txt").read_text().partition("; once it is right: ")
    assert answer == f"robolearn finetune --things-back {run}"
    return reason


def prepared_elsewhere(config: FinetuneConfig, demos: list[Path], run: Path) -> Path:
    """Prepared with the twin and its truth; practises on the cell, with a classifier that knows no success."""
    prepared(replace(config, cell="", reward="true"), demos, run)
    write_classifier(config, run)
    config.write(run)
    return run


def write_classifier(config: FinetuneConfig, run: Path) -> None:
    """One that knows no success."""
    size = config.space().scene(np.zeros((1, 14), np.float32), 0).shape[1]
    model = StateSuccess(StateSuccessConfig(size, mean=(0.0,) * size, std=(1.0,) * size, threshold=1.0))
    about = {"config": vars(model.config), "version": model.version, "held_out": {}}
    write_model(run / CLASSIFIER, about, model.state_dict())


def test_a_cell_that_does_not_see_the_puck_is_refused_before_anything_is_written(cell: Path, tmp_path: Path) -> None:
    blind = cell.with_name("blind.yaml")
    blind.write_text("\n".join(cell.read_text().splitlines()[:-1]))
    config = FinetuneConfig("push-v1", cell=str(blind))
    with pytest.raises(CellError, match=r"no objects\.puck"):
        begin(config, [], [], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(SpecError, match="the true reward"):
        FinetuneConfig("push-v1", cell=str(cell), reward="true")


@pytest.mark.parametrize(
    ("limits", "pauses", "resumes"),
    [("", 62.0, 50.0), ("max_temperature_c: 58, ", 55.0, 50.0), ("max_temperature_c: 48, ", 45.0, 45.0)],
)
def test_practice_pauses_before_robot_or_filter_refuse_a_hot_motor(
    cell: Path, limits: str, pauses: float, resumes: float
) -> None:
    """The servos' driver refuses above 65 C, where practice would pause by itself, and that is a fault."""
    cell.write_text(cell.read_text().replace("safety: {", f"safety: {{{limits}"))
    rules = cooled_in_time(FinetuneConfig("push-v1", cell=str(cell)), load_cell(cell)).supervisor
    assert (rules.max_temperature_c, rules.resume_temperature_c) == (pauses, resumes)


def test_a_person_who_types_wants_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise OSError(6, "No such device or address")

    monkeypatch.setattr("robolearn.recipes.finetune.cells._terminal", none)
    check_terminal(FinetuneConfig("push-v1"))
    with pytest.raises(HardwareError, match=r"needs a terminal.*start it from a shell"):
        check_terminal(FinetuneConfig("push-v1", teleop="keyboard"))


def test_a_person_at_a_device_that_wants_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="leader_arm needs settings"):
        make_cell(FinetuneConfig("push-v1", teleop="leader_arm"), tmp_path, {})


def test_a_namespace_is_one_of_the_graph(tmp_path: Path) -> None:
    assert [namespace_of(text) for text in ("", "left", "/left/arm")] == ["", "/left", "/left/arm"]
    with pytest.raises(SpecError, match=r"--namespace 2nd: topic name has the part '2nd'"):
        namespace_of("2nd")
    with pytest.raises(SpecError, match="give --graph, too"):
        FinetuneConfig("push-v1", namespace="/left")
    with pytest.raises(SpecError, match="leave out --no-graph"):
        command(["web", "--no-graph", "--namespace", "left"])


@pytest.mark.parametrize(
    ("teleop", "graph", "why"),
    [
        ("web", "", "operator's page"),
        ("cell", "", "give --cell"),
        ("keybord", "", "keyboard"),
        ("node", "", "give --graph"),
        ("keyboard", "robot", "--teleop node"),
        ("cell", "twin", "--teleop node"),
    ],
)
def test_hands_that_cannot_take_over_are_refused_before_anything_is_written(
    tmp_path: Path, teleop: str, graph: Literal["", "robot", "twin"], why: str
) -> None:
    with pytest.raises(RobolearnError, match=why):
        begin(FinetuneConfig("push-v1", teleop=teleop, graph=graph), [], [], tmp_path / "run")
    assert not (tmp_path / "run").exists()
