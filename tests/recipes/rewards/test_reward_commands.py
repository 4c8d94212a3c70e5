"""Reward models on the command line, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from robolearn.cli import run
from robolearn.datasets.columns import remove_column
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import RobolearnError
from robolearn.recipes.rewards.training import ONE_CAMERA, TRAINERS
from robolearn.rewards import REWARDS, Episodes, RewardOutput
from robolearn.rewards.audit import METRIC_WORDS
from robolearn.rewards.reward_model import masked, version_of
from robolearn.specs import ArraySpec


def test_the_command_line(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    train = ["reward", "train", "hop", "--dataset", str(dataset), "--out", str(model), "--steps", "2", "--json"]
    assert run(train) == 0
    trained = json.loads(capsys.readouterr().out)
    assert run(["label", str(dataset), "--reward", str(model), "--as", "progress/mine", "--json"]) == 0
    column = json.loads(capsys.readouterr().out)["column"]
    assert column == f"progress/mine-{trained['version']}"
    told = ["--all-episodes", "--out", str(tmp_path / "a"), "--json"]
    code = run(["reward", "audit", str(dataset), "--reward", column, str(model), *told])
    audits = json.loads(capsys.readouterr().out)
    assert code == (0 if all(one["passed"] for one in audits["models"]) else 1)
    assert {one["name"] for one in audits["models"]} == {column, f"hop-{trained['version']}"}
    assert audits["agreement"][column][f"hop-{trained['version']}"] == pytest.approx(1.0)
    assert json.loads((tmp_path / "a" / "audit.json").read_text()) == audits
    page = (tmp_path / "a" / "audit.html").read_text()
    assert column in page
    assert "<svg" in page
    near = audits["near_misses"]
    counts = f"8 episodes of {dataset.name}: 6 successes, {near} {'near-miss' if near == 1 else 'near-misses'}; "
    assert f"{counts}{audits['chosen']}<" in page
    assert METRIC_WORDS["voc_success"] in page
    assert "voc_success" not in page  # words, not the names of the code
    assert "Pictures are those of camera front." in page
    run(["reward", "audit", str(dataset), "--reward", column, "--all-episodes"])
    assert f"audit of {dataset}: 8 episodes, of which 6 succeeded" in " ".join(capsys.readouterr().out.split())
    assert run(["reward", "leaderboard", str(dataset), "--json"]) == 0
    names = [one["name"] for one in json.loads(capsys.readouterr().out)["models"]]
    assert names == [column]
    with ZarrStore.open(dataset).column_writer("reward/half-1", ArraySpec(()), {"kind": "reward"}) as writer:
        writer.write(0, np.zeros(ZarrStore.open(dataset).episodes[0].length, np.float32))
    assert run(["reward", "leaderboard", str(dataset), "--json"]) == 0  # a labelling that was stopped spoils nothing
    answer = capsys.readouterr()
    assert [one["name"] for one in json.loads(answer.out)["models"]] == [column]
    assert "left out: reward/half-1 lacks 7 episodes of 8" in answer.err
    assert run(["dataset", "info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert "{" not in shown  # words and tables, not JSON
    assert all(name in shown for name in ("image_front", column, "script"))


@dataclass(frozen=True)
class RednessConfig:
    """Settings of Redness."""

    cameras: tuple[str, ...] = ("front",)


class Redness:
    """A reward model of a user's own: how red the picture is."""

    config_type = RednessConfig
    id, kind, causal = "redness", "reward", True

    def __init__(self, config: RednessConfig) -> None:
        self.config, self.version = config, version_of(config)

    def score(self, episodes: Episodes) -> RewardOutput:
        episodes.check(self.config.cameras)
        value = episodes.images["front"][..., 0].float().mean((2, 3)) / 255
        return masked(RewardOutput(value, torch.ones_like(value), {}), episodes.valid(value.device))


def test_a_model_of_ones_own_that_learns_nothing_is_used_by_its_name(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(REWARDS._own, "redness", Redness)  # as by an entry point, see tests/test_plugins.py
    assert run(["label", str(dataset), "--reward", "redness", "--as", "reward/own", "--json"]) == 0
    column = json.loads(capsys.readouterr().out)["column"]
    store = ZarrStore.open(dataset)
    steps = store.read(0, ["image_front", column])
    np.testing.assert_allclose(steps[column], steps["image_front"][..., 0].mean((1, 2)) / 255, rtol=1e-4)
    remove_column(dataset, column)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["label", "{d}", "--reward", "ensemble"], "robolearn reward combine MODEL MODEL"),
        (["reward", "combine", "none", "--out", "x"], "none is not a reward model"),
        (["reward", "policy", "{d}", "--out", "x"], "no model is named for the endpoint"),
        (["label", "{d}", "--reward", "sucess"], "did you mean success"),
        (["label", "{d}", "--reward", "progress"], "has to be trained first: robolearn reward train progress"),
        (["label", "{d}", "--reward", "keypoints"], "needs waypoints"),
        (["label", "{d}", "--reward", "keypoints", "--config", "{d}.json"], "0 waypoints came"),
        (["label", "{d}", "--reward", "keypoints", "--config", "{d}/none"], "does not hold the settings of keypoints"),
        *(
            (["label", "{d}", "--reward", name, "--config", "{d}.json"], f"has to be .* robolearn reward train {name} ")
            for name in sorted(set(TRAINERS) - {"vlm", "keypoints"})
        ),
        (["label", "{d}", "--reward", "{m}", "--config", "{d}.json"], "settings of its own; leave --config out"),
        (["label", "{d}", "--reward", "hop", "--endpoint-model", "q", "--every", "0"], "give at least 1"),
        (["label", "{d}", "--reward", "vlm", "--batch-size", "0"], "batches of 0 pictures; give at least 1"),
        (["label", "{d}", "--reward", "vlm", "--goal", ""], "a prompt of the goal or the baseline is empty"),
        (["reward", "audit", "{d}", "--reward", "vlm"], "name the folder of `robolearn reward train vlm"),
        (
            ["reward", "train", "progress", "--dataset", "{d}", "--out", "x", "--camera"],
            "looks at one camera or more; none came",
        ),
        *(
            (
                ["reward", "train", name, "--dataset", "{d}", "--out", "x", "--camera", "front", "wrist"],
                f"{name} looks at one camera; front, wrist came",
            )
            for name in ONE_CAMERA
        ),
        (["label", "{d}", "--reward", "{m}", "--as", "confidence/x"], "is written beside the value; name it otherwise"),
        (["label", "{d}", "--reward", "vlm", "--alpha", "0.5", "--goal", "x"], "without a baseline"),
        (["reward", "audit", "{d}", "--reward", "reward/none"], "unknown column or reward model 'reward/none'"),
        (["reward", "leaderboard", "{d}"], "there is nothing to audit"),
        (["reward", "train", "keypoints", "--dataset", "{d}", "--out", "x"], "no model is named for the endpoint"),
        (
            ["reward", "train", "keypoint", "--dataset", "{d}", "--out", "x"],
            "unknown trainable reward model 'keypoint'",
        ),
        (["reward", "train", "vlm", "--dataset", "{d}", "--out", "x", "--camera", "top"], "has no camera 'top'"),
        (["label", "{d}", "--reward", "http://127.0.0.1:x"], "is no address that could be asked"),
        (["label", "{d}", "--reward", "{m}", "--goal", "done"], "--goal does nothing for .*; leave it out"),
        *(
            ([*words, *given], message)
            for given, message in (
                (["--baseline", "a table", "--alpha", "0"], "--baseline does nothing for --alpha 0; leave it out"),
                (["--model-dir", "{d}", "--model", "ViT-L-14"], "--model does nothing for a CLIP of --model-dir"),
            )
            for words in (
                ["label", "{d}", "--reward", "vlm"],
                ["reward", "train", "vlm", "--dataset", "{d}", "--out", "x"],
                ["reward", "online", "reach-v1", "--out", "x"],
            )
        ),
        (
            ["label", "{d}", "--reward", "hop", "--score-server", "http://127.0.0.1:1", "--endpoint-model", "q"],
            "asking an endpoint does nothing for hop of a --score-server",
        ),
        (["label", "{d}", "--reward", "http://127.0.0.1:1", "--device", "cuda"], "--device does nothing for http"),
        (["label", "{d}", "--reward", "{m}", "--endpoint-model", "x"], "asking an endpoint does nothing for"),
        (
            ["label", "{d}", "--reward", "vlm", "--config", "{d}.json", "--alpha", "1"],
            "nothing for vlm beside --config",
        ),
        (["reward", "train", "hop", "--dataset", "{d}", "--out", "x", "--pairs", "9"], "--pairs does nothing for hop"),
        (
            ["reward", "train", "keypoints", "--dataset", "{d}", "--out", "x", "--steps", "9"],
            "--steps does nothing for",
        ),
        (
            ["reward", "train", "preference", "--dataset", "{d}", "--out", "x", "--endpoint-model", "q"],
            "asking an endpoint does nothing for comparisons by --labeller task",
        ),
        (
            ["reward", "policy", "{d}", "--out", "x", "--labeller", "people", "--pairs", "9"],
            "--pairs does nothing for comparisons by --labeller people",
        ),
        (["reward", "annotate", "{d}", "--by", "task", "--stages", "a"], "--stages does nothing for --by task"),
        (
            ["reward", "combine", "{m}", "{m}", "--out", "x", "--variance-weight", "1"],
            "--variance-weight does nothing for --rule worst",
        ),
        (["reward", "online", "reach-v1", "--out", "x", "--reward", "{m}", "--alpha", "1"], "--alpha does nothing for"),
        (["reward", "train", "hop", "--dataset", "{d}", "--out", "{d}"], "exists and is not empty"),
        (["reward", "train", "hop", "--dataset", "{d}", "--out", "x", "--camera", "top"], "has no camera 'top'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str],
    message: str,
    dataset: Path,
    success_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{dataset}.json").write_text("{}")
    monkeypatch.setattr("robolearn.rewards.http_client.FIRST_PAUSE_S", 0.0)
    before = sorted(dataset.rglob("*"))
    with pytest.raises(RobolearnError, match=message) as error:
        run([word.format(d=dataset, m=success_model) for word in words])
    assert "\n" not in str(error.value)
    assert sorted(dataset.rglob("*")) == before
    assert not (tmp_path / "x").exists()
