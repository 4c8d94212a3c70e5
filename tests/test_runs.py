"""What runs left on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robolearn.errors import RobolearnError
from robolearn.runs import (
    evaluations,
    files,
    find_runs,
    last_row,
    read_config,
    read_metrics,
    training_success,
    updated_s,
    wilson_interval,
)


def training(path: Path, rows: str, config: str = "algorithm: sac\nonline: {evaluation_episodes: 10}\n") -> Path:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(config)
    (path / "metrics.csv").write_text("step,wall_s,loss,success_rate\n" + rows)
    return path


def test_a_running_training_is_read_up_to_its_last_whole_row(tmp_path: Path) -> None:
    run = training(tmp_path / "sac", "0,0.1,2.5,\n10,1.0,1.5,0.8\n20,2.0,0.")
    assert last_row(run / "metrics.csv") == {"step": 10, "wall_s": 1, "loss": 1.5, "success_rate": 0.8}
    steps, values = read_metrics(run / "metrics.csv")["success_rate"]
    assert (steps.tolist(), values.tolist()) == ([10], [0.8])
    success = training_success(run)
    assert (success["low"][0], success["high"][0]) == wilson_interval(8, 10)
    assert evaluations(run)[0]["success_ci95"] == list(wilson_interval(8, 10))
    (run / "metrics.csv").write_text("step,wall_s,loss\n")
    assert last_row(run / "metrics.csv") == training_success(run) == {}


def test_a_saved_evaluation_counts_and_other_files_do_not(tmp_path: Path) -> None:
    run = training(tmp_path / "bc", "0,0.1,2.5,\n", "algorithm: bc\n")
    answer = {"success_rate": 0.9, "success_ci95": [0.7, 0.97], "episodes": 20, "task": "push-v1", "other": 1}
    (run / "evaluation.json").write_text(json.dumps(answer))
    (run / "broken.json").write_text("{")
    (run / "list.json").write_text("[1]")
    (run / "rollout.mp4").touch()
    (found,) = evaluations(run)
    assert (found["name"], found["success_rate"], found["task"]) == ("evaluation", 0.9, "push-v1")
    assert files(run, (".mp4",)) == ["rollout.mp4"]


def test_runs_are_found_below_a_folder_and_nothing_inside_datasets_and_checkpoints(tmp_path: Path) -> None:
    training(tmp_path / "a" / "b", "")
    training(tmp_path / "a" / "data.zarr" / "inside", "")
    (tmp_path / "a" / "data.zarr" / "zarr.json").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "report.html").touch()
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text("{}")
    assert sorted(find_runs(tmp_path)) == [tmp_path / "a" / "b", tmp_path / "audit"]
    assert find_runs(tmp_path / "nothing") == []


def test_the_settings_of_a_practice_are_read_like_those_of_a_training(tmp_path: Path) -> None:
    run = training(tmp_path / "night", "5,0.1,1.0,0.6\n")
    (run / "config.yaml").rename(run / "finetune.json")
    (run / "finetune.json").write_text(json.dumps({"task": "push-v1", "online": "rlpd", "evaluation_episodes": 25}))
    assert read_config(run)["task"] == "push-v1"
    assert training_success(run)["episodes"] == 25
    assert evaluations(run)[0]["success_ci95"] == list(wilson_interval(15, 25))


def test_a_config_that_is_none_is_told_in_a_line(tmp_path: Path) -> None:
    assert read_config(tmp_path) == {}
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(RobolearnError, match="cannot be read"):
        read_config(tmp_path)


def test_a_run_that_was_taken_away_or_has_no_steps_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "stepless.csv").write_text("loss\n1\n")
    assert read_metrics(tmp_path / "stepless.csv") == {}
    assert (updated_s(tmp_path / "gone"), files(tmp_path / "gone", (".html",))) == (0.0, [])


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of hundreds of runs is asked for every few seconds."""
    many = [training(tmp_path / str(number), f"1,1,2,0.{number % 10}\n") for number in range(40)]
    before = [(read_config(run), evaluations(run)) for run in many]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_, **__: pytest.fail("read again"))
        assert [(read_config(run), evaluations(run)) for run in many] == before
    read_config(many[0])["algorithm"] = "mine alone"
    assert read_config(many[0])["algorithm"] == "sac"
    (many[0] / "config.yaml").write_text("algorithm: ppo\n")
    assert read_config(many[0]) == {"algorithm": "ppo"}
