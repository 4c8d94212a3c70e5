"""Datasets labelled by a model behind an endpoint, through the command line: what it is asked, and what that costs."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from model_server import ModelServer

from robolearn.cli import run
from robolearn.cli.output import ask_person
from robolearn.datasets.edit import relabel
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError, SpecError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.preference import draw_pairs
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.rewards.code.client import ChatClient
from robolearn.rewards.keypoints import KeypointsReward
from robolearn.rewards.preference import UNSURE
from robolearn.rewards.saved import load_reward
from robolearn.rewards.vlm_labels import AskedSignals, asked_name

EVERY = 8


@pytest.fixture
def server(server: ModelServer) -> ModelServer:
    server.reply = answer
    return server


def answer(body: dict[str, Any]) -> str:
    question = body["messages"][0]["content"][-1]["text"]
    if "How many percent of the task" in question:
        return "It is at 60 percent."
    if "yes or no" in question:
        return "No."
    if "first, second or same" in question:
        return "second"
    assert "from -100 to 100" in question
    return "50"


def label(dataset: Path, server: ModelServer, reward: str, *words: str) -> int:
    cache = str(dataset.parent / "answers")
    wire = ["--endpoint", server.config.url, "--endpoint-model", "tiny", "--cache", cache, "--every", str(EVERY)]
    return run(["label", str(dataset), "--reward", reward, *wire, *words])


def test_three_signals_are_asked_every_k_steps_and_held(
    dataset: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(dataset, server, "three_signals", "--input-price", "2", "--output-price", "100", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["column"].partition("-")[0], told["kind"]) == ("reward/three_signals", "reward")
    store = ZarrStore.open(dataset)
    moments = 0
    for index, info in enumerate(store.episodes):
        value = store.read(index, [told["column"]])[told["column"]]
        images = store.read(index, ["image_front"])["image_front"][::EVERY]
        moved = np.array([False, *((a != b).any() for a, b in pairwise(images))])
        wanted = (0.6 + np.where(moved, 1.0, 0.5)) / 3
        np.testing.assert_allclose(value, np.repeat(wanted, EVERY)[: info.length], atol=1e-6)
        moments += len(images)
    assert told["requests"] == len(server.seen) <= 3 * moments  # and nobody was asked about padding
    assert told["cost"] == pytest.approx(len(server.seen) * (1000 * 2e-6 + 10 * 100e-6))
    settings = store.columns[told["column"]].attributes["settings"]
    assert settings == {"camera": "front", "every": EVERY, "asked": asked_name("tiny", AskedSignals.questions)}


@pytest.mark.parametrize(
    ("question", "reply", "wanted"),
    [
        ("percent of the task", "far", "one number from 0 to 100"),
        ("percent of the task", "-5", "one number from 0 to 100"),
        ("percent of the task", "Picture 2: 40", "one number from 0 to 100"),
        ("yes or no", "yes and no", "one word: yes or no"),
        ("first, second or same", "neither", "one word: first, second or same"),
    ],
)
def test_a_signal_that_cannot_be_read_is_held_and_told(
    question: str, reply: str, wanted: str, dataset: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    lost: list[str] = []

    def odd(body: dict[str, Any]) -> str:
        """Answers oddly, twice each, of the last moment asked about in the first episode."""
        *pictures, words = body["messages"][0]["content"]
        asked_about = pictures[-1]["image_url"]["url"]
        if question in words["text"] and (not lost or lost[0] == asked_about):
            lost.append(asked_about)
            return reply
        if "could not be read" in words["text"]:
            pytest.fail("asked again though it could be read")
        return answer(body)

    server.reply = odd
    assert label(dataset, server, "three_signals") == 0
    told = capsys.readouterr().err
    assert re.search(rf'^1 of \d+ answers could not be read, for instance "{reply}"$', told, re.M)
    again = [one["messages"][0]["content"][-1]["text"] for one in server.seen]
    assert [words for words in again if words.endswith(f"Answer with nothing but {wanted}.")] != []
    store = ZarrStore.open(dataset)
    (name,) = (column for column in store.columns if column.startswith("confidence/three_signals"))
    doubted = [int((store.read(i, [name])[name] == 0.0).sum()) for i in range(len(store.episodes))]
    assert sum(count > 0 for count in doubted) == 1
    assert 0 < sum(doubted) <= EVERY


def test_a_model_that_cannot_answer_ends_the_labelling_and_what_was_scored_is_kept(
    dataset: Path, server: ModelServer
) -> None:
    store = ZarrStore.open(dataset)
    good = (sum(-(-info.length // EVERY) for info in store.episodes[:2])) * 3

    def tired(body: dict[str, Any]) -> str:
        return answer(body) if len(server.seen) <= good else "I am sorry."

    server.reply = tired
    told = r'^tiny: \d+ of \d+ answers .* for instance "I am sorry\.", more than 20%; one .* was wanted'
    with pytest.raises(RobolearnError, match=told):
        label(dataset, server, "three_signals")
    answered = len(list((dataset.parent / "answers").rglob("*.json")))
    assert answered >= good - 2
    server.reply = answer
    before = len(server.seen)
    assert label(dataset, server, "three_signals") == 0
    assert len(server.seen) > before
    (name,) = (column for column in ZarrStore.open(dataset).columns if column.startswith("confidence/three_signals"))
    assert all((ZarrStore.open(dataset).read(i, [name])[name] == 1.0).all() for i in range(len(store.episodes)))


def test_a_pair_whose_answer_cannot_be_read_is_unsure_and_told(
    dataset: Path, server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    def reply(body: dict[str, Any]) -> str:
        words = body["messages"][0]["content"][-1]["text"]
        if "Say in a few sentences" in words:
            return f"analysis {len(server.seen)}"
        return "both" if "analysis 3\n" in words and odd else "second"

    server.reply = reply
    settings = TrainingSettings(endpoint=server.config, labeller="endpoint", pairs=6)
    data = RewardData(dataset)
    unsure = []
    for odd in (False, True):
        server.seen.clear()
        pairs = draw_pairs(data, range(len(data.store.episodes)), settings, lambda done, text: None)
        unsure.append(int((pairs.answer == UNSURE).sum()))  # the same pictures are, too
        count = len(server.seen) - 1  # one was asked for twice
        said = f'1 of {count} answers could not be read, for instance "both"; such pairs are taken for unsure'
        assert (said in caplog.text) == odd
    assert unsure[1] == unsure[0] + 1


def test_requests_and_cost_of_a_labelling_are_told_and_bounded(
    dataset: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = ["--input-price", "2", "--output-price", "100"]
    with pytest.raises(RobolearnError, match=r"0\.0\d was spent on \d+ requests, 0\.01 was allowed"):
        label(dataset, server, "hop", *prices, "--max-cost", "0.01")
    asked = len(server.seen)
    assert asked < 10
    assert label(dataset, server, "hop", *prices) == 0  # what was answered is kept
    store = ZarrStore.open(dataset)
    (column,) = (one for name, one in store.columns.items() if name.startswith("progress/hop"))
    assert column.attributes["train_episodes"] == [store.episodes[0].id]  # whose last picture is the goal
    sent = len(server.seen) - asked
    cost = f"{sent * 0.003:.2f}"
    assert re.search(rf"^{sent} requests, \d+ answered from the cache, cost {cost}$", capsys.readouterr().err, re.M)
    with pytest.raises(RobolearnError, match="--max-cost without a price stops nothing"):
        label(dataset, server, "hop", "--max-cost", "1")
    with pytest.raises(RobolearnError, match="--every 0"):
        label(dataset, server, "three_signals", "--every", "0")


def test_nothing_is_asked_about_episodes_without_an_instruction(dataset: Path, server: ModelServer) -> None:
    relabel(dataset, [1], {"instruction": ""})
    data = RewardData(dataset)
    assert data.goal(0) == data.store.episodes[0].instruction
    assert data.goal(1, "the goal") == "the goal"
    settings = TrainingSettings(endpoint=server.config, labeller="endpoint", pairs=20)
    for reward in ("hop", "three_signals"):
        with pytest.raises(DatasetError, match=r"episode \S+ has no instruction that a model could be told; write one"):
            label(dataset, server, reward)
    with pytest.raises(DatasetError, match="has no instruction that a model could be told"):
        draw_pairs(data, range(len(data.store.episodes)), settings, lambda done, text: None)
    assert not server.seen


def test_three_signals_without_an_endpoint_say_what_they_want(dataset: Path) -> None:
    with pytest.raises(RobolearnError, match="no model is named for the endpoint"):
        run(["label", str(dataset), "--reward", "three_signals"])
    with pytest.raises(RobolearnError, match="use it by `robolearn label DATASET --reward three_signals"):
        run(["reward", "audit", str(dataset), "--reward", "three_signals"])
    with pytest.raises(RobolearnError, match="asks an endpoint, not a score server"):
        run(["label", str(dataset), "--reward", "three_signals", "--score-server", "http://127.0.0.1:9"])


def test_an_annotation_tells_what_it_asked(
    dataset: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda body: "[0, 3]"
    wire = ["--endpoint", server.config.url, "--endpoint-model", "tiny", "--cache", str(dataset.parent / "answers")]
    assert run(["reward", "annotate", str(dataset), *wire, "--input-price", "1000"]) == 0
    asked = len(server.seen)
    assert f"{asked} request{'s' if asked > 1 else ''}, 0 answered from the cache, cost {asked}.00" in (
        capsys.readouterr().err
    )
    assert run(["reward", "annotate", str(dataset), "--by", "task", "--json"]) == 0
    assert "cost" not in json.loads(capsys.readouterr().out)


def test_keypoints_follow_the_way_that_a_model_saw(
    server: ModelServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = tmp_path / "push.zarr"
    collect_episodes(CollectConfig("push-v1", manner="mixed", image_size=32), dataset, 3)
    wire = ["--endpoint", server.config.url, "--endpoint-model", "tiny", "--cache", str(tmp_path / "answers")]
    train = ["reward", "train", "keypoints", "--dataset", str(dataset), *wire]
    server.reply = lambda body: "to the right"
    with pytest.raises(SpecError, match="'to the right' for a way; expected a JSON object with a mark from 1 to 2"):
        run([*train, "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()
    server.reply = lambda body: '{"mark": 2, "cells": ["D5", "F5"]}'
    assert run([*train, "--out", str(tmp_path / "b")]) == 0
    assert len(server.seen) == 3
    picture, words = server.seen[2]["messages"][0]["content"]
    assert picture["type"] == "image_url"
    assert "push the blue puck onto the orange mark" in words["text"]
    model = load_reward(tmp_path / "b")
    assert isinstance(model, KeypointsReward)
    np.testing.assert_allclose(model.config.waypoints[1:], ((3.5 / 8, 4.5 / 8), (5.5 / 8, 4.5 / 8)))
    red, _, blue = model.config.colour
    assert red < 60 < 120 < blue  # the puck, not the mark
    capsys.readouterr()
    assert run(["label", str(dataset), "--reward", str(tmp_path / "b"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["episodes"]) == ("potential", 3)
    start = ZarrStore.open(dataset).read(0, [told["column"]])[told["column"]][0]
    assert 0 <= start < 0.3


def test_a_written_reward_tells_what_it_asked(
    server: ModelServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_reward(task: str, client: ChatClient, *rest: Any, **more: Any) -> dict[str, Any]:
        client.answers([{"role": "user", "content": [{"type": "text", "text": "yes or no"}]}], 2)
        return {"reward": "[]", "candidates": 2, "failed": 0, "metric": 0.5, "checkpoint": "x"}

    monkeypatch.setattr("robolearn.recipes.rewards.write.write_reward", write_reward)
    wire = ["--endpoint", server.config.url, "--endpoint-model", "tiny", "--cache", str(tmp_path / "answers")]
    words = ["reward", "write", "reach-v1", "--out", str(tmp_path / "x"), *wire, "--input-price", "1000"]
    assert run(words) == 0
    assert "2 requests, 0 answered from the cache, cost 2.00" in capsys.readouterr().err
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], told["cached"], told["cost"]) == (0, 2, 0.0)


@pytest.mark.slow
def test_a_person_is_shown_films_and_answers_on_standard_input(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    term = {"kind": "smooth", "weight": 1.0, "quantity": "action"}
    server.reply = lambda body: json.dumps({"terms": [{**term, "weight": 1.0 + body.get("seed", 0)}]})
    monkeypatch.setattr("sys.stdin", io.StringIO("2 1\n"))
    wire = ["--endpoint", server.config.url, "--endpoint-model", "tiny", "--cache", str(tmp_path / "answers")]
    how = ["--method", "icpl", "--candidates", "2", "--rounds", "1", "--steps", "24", "--episode-steps", "1"]
    assert run(["reward", "write", "point_up-v1", "--out", str(tmp_path / "out"), *how, *wire, "--json"]) == 0
    told = capsys.readouterr()
    films = [str(tmp_path / "out" / "films" / f"00{number}.mp4") for number in (1, 2)]
    assert f"1: {films[0]}\n2: {films[1]}\nWhich one is best, and which is worst?" in told.err
    for film in films:
        with av.open(film) as video:
            assert len({frame.to_ndarray().shape for frame in video.decode(video=0)}) == 1
            assert (video.streams.video[0].height, video.streams.video[0].width) == (384, 384)
    answer = json.loads(told.out)
    assert answer["metric"] is None
    assert answer["checkpoint"].endswith("run_002/checkpoints/latest")
    rows = json.loads((tmp_path / "out" / "candidates.json").read_text())
    assert [row["number"] for row in rows] == [2, 1]


def test_who_answers_no_more_is_told_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("2 1\n"))
    assert ask_person("1: film\nBest? ") == "2 1"
    with pytest.raises(RobolearnError, match="nobody answered 'Best\\? '"):
        ask_person("1: film\nBest? ")
