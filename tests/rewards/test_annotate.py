"""Stages are annotated by a model behind a wire, by the task and by a file, and progress is learned from them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from model_server import ModelServer

from robolearn.cli import run
from robolearn.datasets.edit import annotate
from robolearn.datasets.store import Annotation
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.rewards.audit import audit_dataset
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.progress import annotated
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.progress import ProgressConfig, ProgressReward


def annotate_by_model(dataset: Path, server: ModelServer, tmp_path: Path, *words: str) -> int:
    wire = ["--endpoint", server.config.url, "--endpoint-model", "tiny", "--cache", str(tmp_path / "answers")]
    return run(["reward", "annotate", str(dataset), "--by", "vlm", "--json", *wire, *words])


def marks(dataset: Path, index: int) -> list[tuple[int, int, str, str]]:
    notes = ZarrStore.open(dataset).episodes[index].annotations
    return [(note.start, note.stop, note.label, note.author) for note in notes]


def test_a_model_behind_a_wire_annotates_what_did_not_fail(
    dataset: Path, server: ModelServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(body: dict[str, Any]) -> str:
        parts = body["messages"][0]["content"]
        assert re.search(r"these stages, in this order: approach, settle", parts[-1]["text"])
        return "They begin at [0, 3]." if len(server.seen) not in (2, 3) else "I cannot tell."

    server.reply = reply
    annotate(dataset, 0, [Annotation(0, 4, "mistake", "ada")])
    assert annotate_by_model(dataset, server, tmp_path, "--pictures", "6") == 0
    answer = json.loads(capsys.readouterr().out)
    infos = ZarrStore.open(dataset).episodes
    assert answer["annotated"] == [infos[0].id, infos[2].id]
    assert list(answer["refused"]) == [infos[1].id]  # one line of why, and nothing is written
    assert "annotate this episode by hand" in answer["refused"][infos[1].id]
    assert (marks(dataset, 1), marks(dataset, 3)) == ([], [])
    length = infos[0].length
    start = round((length - 1) * 3 / 5)
    assert (0, 4, "mistake", "ada") in marks(dataset, 0)  # other people's words stay
    assert set(marks(dataset, 0)) - {(0, 4, "mistake", "ada")} == {
        (0, start, "approach", "vlm tiny"),
        (start, length, "settle", "vlm tiny"),
    }
    assert len([one for one in server.seen[0]["messages"][0]["content"] if one["type"] == "image_url"]) == 6
    asked = len(server.seen)
    annotate_by_model(dataset, server, tmp_path, "--pictures", "6")
    assert len(server.seen) == asked + 1  # nothing is paid for twice but what could not be read
    assert len(marks(dataset, 0)) == 3  # and nothing is said twice


def test_a_model_behind_a_wire_tells_hops_as_progress(
    dataset: Path, server: ModelServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda body: "50"
    wire = ["--endpoint", server.config.url, "--endpoint-model", "tiny", "--cache", str(tmp_path / "answers")]
    words = ["label", str(dataset), "--reward", "hop", *wire, "--every", "8", "--json"]
    assert run(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["kind"], answer["episodes"]) == ("potential", 4)
    store = ZarrStore.open(dataset)
    assert store.columns[answer["column"]].attributes["settings"]["asked"].startswith("tiny, questions ")
    values = store.read(0, [answer["column"]])[answer["column"]]
    assert (values[:8] == values[0]).all()  # an answer is held until the next question
    assert 0.0 < values[-1] <= 1.0
    asked = len(server.seen)
    words[words.index("tiny")] = "other"
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["column"] != answer["column"]  # another model, another version
    assert len(server.seen) == 2 * asked
    server.reply = lambda body: "no"
    words[words.index("other")] = "third"
    columns = list(ZarrStore.open(dataset).columns)
    with pytest.raises(
        RobolearnError, match=r'^third: \d of \d answers could not be read, for instance "no", more than'
    ):
        run(words)
    assert list(ZarrStore.open(dataset).columns) == columns


def test_the_task_and_a_file_annotate_and_progress_learns_from_it(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reward", "annotate", str(dataset), "--by", "task"]) == 0
    failed = sum(info.success is False for info in ZarrStore.open(dataset).episodes)
    assert f"annotated by task, {failed} that failed passed over\n" in capsys.readouterr().err
    data = RewardData(dataset)
    first = data.store.episodes[0]
    truth = data.truth(0)
    assert truth is not None
    assert marks(dataset, 0)[1][0] == int((truth.stage == 1).argmax())
    file = tmp_path / "by_hand.json"
    file.write_text(json.dumps({first.id: {"approach": 0, "settle": 2}}))
    assert run(["reward", "annotate", str(dataset), "--by", "file", "--file", str(file), "--author", "a person"]) == 0
    known = annotated(RewardData(dataset), [0])
    assert known.stages == ("approach", "settle")
    assert known.starts[0] == [0, 2]  # the first author in the order of names
    length = data.store.episodes[2].length
    annotate(dataset, 2, [Annotation(0, 2, "go", "a person"), Annotation(2, length, "stay", "a person")], "a person")
    data = RewardData(dataset)
    with pytest.raises(
        DatasetError, match=r"the stages are approach, settle \(\d episodes\) or go, stay \(1 episodes\)"
    ):
        annotated(data, range(4))
    assert annotated(data, [2]).stages == ("go", "stay")
    encoder = EncoderConfig(image_height=data.image_size("front")[0], image_width=data.image_size("front")[1])
    audits = audit_dataset(dataset, {"x": ProgressReward(ProgressConfig(("go", "stay"), (0.5, 0.5), encoder=encoder))})
    assert audits.facts[2].stages == ("go", "stay")  # which is what a model has to say there, and not the task's
    assert audits.facts[2].stage.tolist()[:3] == [0, 0, 1]  # type: ignore[union-attr]
    assert audits.models[0].metrics["stage_accuracy"] is not None


def test_the_task_needs_no_pictures_to_annotate(tmp_path: Path) -> None:
    collect_episodes(CollectConfig("reach-v1", image_size=0), tmp_path / "d", 1)
    assert run(["reward", "annotate", str(tmp_path / "d"), "--by", "task"]) == 0
    assert [mark[2] for mark in marks(tmp_path / "d", 0)] == ["approach", "settle"]
    with pytest.raises(RobolearnError, match="has no camera images"):
        run(["reward", "annotate", str(tmp_path / "d"), "--by", "vlm", "--endpoint-model", "tiny"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "does not say"),
        ('{"nobody": {"a": 0}}', "names episode 'nobody'"),
        ("{", "does not say"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(dataset: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(RobolearnError, match=message) as caught:
        run(["reward", "annotate", str(dataset), "--by", "file", "--file", str(tmp_path / "x.json")])
    assert "\n" not in str(caught.value)


def test_stages_that_are_none_are_told_and_not_written(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ZarrStore.open(dataset).episodes[0].id
    (tmp_path / "x.json").write_text(json.dumps({first: {"approach": 0, "settle": 10_000}}))
    assert run(["reward", "annotate", str(dataset), "--by", "file", "--file", str(tmp_path / "x.json"), "--json"]) == 1
    assert "all within the episode" in json.loads(capsys.readouterr().out)["refused"][first]
    assert marks(dataset, 0) == []
