"""Datasets, annotation and runs over HTTP, without a browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import threading
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import imagecodecs
import pytest
from painted import dataset, painted_number
from starlette.testclient import TestClient

from robolearn import cli, tasks
from robolearn.cli import data, web
from robolearn.datasets import edit
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.zarr_layout import RECORDING
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.web import server, stores
from robolearn.web.app import create_app
from robolearn.web.server import in_thread
from robolearn.web.settings import WebSettings


class Browser:
    """Asks as the page does."""

    def __init__(self, root: Path) -> None:
        app = create_app(WebSettings(data_roots=(root / "data",), runs_root=root / "runs"))
        self.client = TestClient(app, base_url="http://127.0.0.1", headers={"origin": "http://127.0.0.1"})

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        response = self.client.get(f"/api/{path}", params=query)
        assert response.status_code == status, response.text
        return response.json()

    def send(self, method: str, path: str, body: dict[str, Any], status: int = 200) -> Any:
        response = self.client.request(method, f"/api/{path}", json=body)
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    (tmp_path / "runs").mkdir()
    dataset(tmp_path / "data" / "push.zarr", [3, 40, 5])
    return Browser(tmp_path)


@pytest.fixture
def path(tmp_path: Path, browser: Browser) -> Path:
    return tmp_path / "data" / "push.zarr"


def ids(path: Path) -> list[str]:
    return [episode.id for episode in ZarrStore.open(path).episodes]


def test_datasets_are_listed_searched_and_looked_into(browser: Browser, path: Path) -> None:
    broken = path.with_name("broken.zarr")
    broken.mkdir()
    (broken / "zarr.json").write_bytes((path / "zarr.json").read_bytes()[:500])
    deep = path.with_name("deep.zarr")
    shutil.copytree(path, deep)
    (deep / "action" / "zarr.json").write_text("[" * 100_000)
    (path.with_name("foreign.zarr")).mkdir()
    (path.with_name("foreign.zarr") / "zarr.json").write_text('{"zarr_format": 3}')
    shutil.copytree(path, path.with_name("gone.zarr"))
    (path.with_name("gone.zarr") / "zarr.json").write_text("")
    for unreadable in ("cut.zarr", "loop.zarr", "notes", "zero.zarr"):
        path.with_name(unreadable).mkdir()
    (path.with_name("cut.zarr") / "zarr.json").write_text('{"zarr_')
    (path.with_name("loop.zarr") / "zarr.json").symlink_to("zarr.json")
    (path.with_name("notes") / "zarr.json").write_text("mine")
    (path.with_name("zero.zarr") / "zarr.json").write_bytes(bytes(10_000))  # as a power cut leaves it
    *others, whole, zero = browser.get("datasets")
    problems = {one["name"]: one["problem"] for one in [*others, zero]}
    assert list(problems) == [f"{name}.zarr" for name in ("broken", "cut", "deep", "gone", "loop", "zero")]
    assert "cannot be read" in problems.pop("loop.zarr")
    assert all("damaged" in problem for problem in problems.values())
    assert problems["gone.zarr"].endswith(f"; mend it with: robolearn dataset repair {path.with_name('gone.zarr')}")
    assert (whole["name"], whole["episodes"], whole["steps"], whole["successes"]) == ("push.zarr", 3, 48, 3)
    name, made = "push.zarr", ids(path)
    found = browser.get("datasets/episodes", dataset=name, min_steps=4, first=1, count=1)
    assert (found["found"], found["found_steps"], found["episodes"]) == (made[1:], 45, 3)
    assert [row["id"] for row in found["rows"]] == [made[2]]
    episode = browser.get("datasets/episode", dataset=name, episode=made[1])
    assert (episode["before"], episode["after"], episode["length"]) == (made[0], made[2], 40)
    assert set(episode["cameras"]) == {"image_front", "image_wrist"}
    assert browser.get("datasets/series", dataset=name, episode=made[0])["fields"]["action"]["values"][0] == [0, 1, 2]
    assert browser.get("datasets/statistics", dataset=name)["tq"] == 1
    assert "no episode of id" in browser.get("datasets/episode", 400, dataset=name, episode="nobody")["error"]


def test_a_request_that_outlasts_the_server_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, done = threading.Event(), threading.Event()

    def slow(self: stores.Stores) -> list[str]:
        begun.set()
        done.wait(30.0)
        return []

    monkeypatch.setattr(stores.Stores, "names", slow)
    said: list[Any] = []
    settings = WebSettings(port=0, data_roots=(tmp_path,), runs_root=tmp_path)
    monkeypatch.setattr(server, "GRACE_S", 0)
    with in_thread(settings) as port:

        def ask() -> None:
            with pytest.raises(HTTPError) as refused:
                urlopen(f"http://127.0.0.1:{port}/api/datasets")
            said.append((refused.value.code, json.load(refused.value)["error"]))

        asking = threading.Thread(target=ask)
        asking.start()
        assert begun.wait(30.0)
    done.set()
    asking.join()
    assert said == [(503, "the server is ending; what it has begun to write is finished")]
    assert not [record for record in caplog.records if record.exc_info]


def test_what_cannot_be_named_is_told_and_hides_no_other(browser: Browser, path: Path, tmp_path: Path) -> None:
    odd = [os.fsdecode(b"latin\xe9"), "back\\slash", "50% <b>&#?"]
    (path.parent / "endless.zarr").mkdir()
    os.mkfifo(path.parent / "endless.zarr" / "zarr.json")
    for name in odd:
        shutil.copytree(path, path.with_name(f"{name}.zarr"))
        (tmp_path / "runs" / name / "metrics.csv").mkdir(parents=True)  # which no disk can read
        (tmp_path / "runs" / name / "report.html").write_text("")
    listed = {one["name"]: "is not the name" in one["problem"] for one in browser.get("datasets")}
    assert listed == {"latin?.zarr": True, "back\\slash.zarr": True, "50% <b>&#?.zarr": False, "push.zarr": False}
    assert browser.get("datasets/episodes", dataset="50% <b>&#?.zarr")["episodes"] == 3
    listed = {one["name"]: "is not the name" in one["problem"] for one in browser.get("runs")}
    assert listed == {"latin?": True, "back\\slash": True, "50% <b>&#?": False}
    assert "metrics.csv: Is a directory" in browser.get("runs/curves", 500, run="50% <b>&#?")["error"]


def test_of_two_datasets_of_one_name_the_hidden_one_is_told(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "more" / "push.zarr")
    shutil.copytree(path, tmp_path / "more" / "back\\slash.zarr")
    roots = (tmp_path / "data", tmp_path / "more", tmp_path / "data")
    app = create_app(WebSettings(data_roots=roots, runs_root=tmp_path))
    listed = TestClient(app, base_url="http://127.0.0.1").get("/api/datasets").json()
    assert [(one["name"], "rename one" in one["problem"]) for one in listed] == [
        ("back\\slash.zarr", False),
        ("push.zarr", False),
        (str(tmp_path / "more" / "push.zarr"), True),
    ]


def test_pictures_come_in_one_answer_and_in_order(browser: Browser, path: Path) -> None:
    asked = {"dataset": "push.zarr", "episode": ids(path)[1], "camera": "image_wrist", "first": 30, "count": 16}
    body = browser.client.get("/api/datasets/pictures", params=asked).content
    (number,) = struct.unpack_from("<I", body)
    lengths = struct.unpack_from(f"<{number}I", body, 4)
    at, seen = 4 + 4 * number, []
    for length in lengths:
        seen.append(painted_number(imagecodecs.jpeg8_decode(body[at : at + length])))
        at += length
    assert (seen, at) == (list(range(33, 43)), len(body))
    browser.get("datasets/pictures", 400, **(asked | {"count": 1000}))
    browser.get("datasets/pictures", 404, **(asked | {"camera": "action"}))


def test_edits_can_be_undone_but_only_what_was_seen(browser: Browser, path: Path) -> None:
    made = ids(path)

    def change(action: str, episodes: list[str], status: int = 200, **more: Any) -> Any:
        body = {"dataset": "push.zarr", "action": action, "episodes": episodes, **more}
        return browser.send("POST", "datasets/edit", body, status)

    change("delete", made[:1])
    assert ids(path) == made[1:]
    change("tag", made[1:], tags={"keep": True})
    change("trim", made[1:2], start=10, stop=20)
    change("relabel", made[2:], changes={"operator": "ana"})
    assert "task" in change("relabel", made[2:], 404, changes={"colour": "red"})["error"]
    assert browser.get("datasets/episodes", dataset="push.zarr", operator="ana", tag="keep")["found"] == made[2:]
    undo = {"dataset": "push.zarr", "expected": f"trim {made[1]}"}
    assert "look again" in browser.send("POST", "datasets/undo", undo, 400)["error"]
    while last := browser.get("datasets/episodes", dataset="push.zarr")["last_edit"]:
        browser.send("POST", "datasets/undo", {"dataset": "push.zarr", "expected": last})
    assert ids(path) == made
    assert ZarrStore.open(path).episodes[1].length == 40


def test_new_datasets_lie_beside_others_and_nowhere_else(browser: Browser, path: Path) -> None:
    made = ids(path)
    split = {"dataset": "push.zarr", "episodes": made[:2], "out": "half.zarr"}
    assert browser.send("POST", "datasets/split", split)["episodes"] == made[:2]
    browser.send("POST", "datasets/split", {**split, "episodes": made[2:], "out": "rest.zarr"})
    merge = {"datasets": ["half.zarr", "rest.zarr"], "out": "all.zarr"}
    assert browser.send("POST", "datasets/merge", merge)["episodes"] == made
    for out in ("push.zarr", "../out.zarr", "/tmp/out.zarr", "no/where.zarr", "plain", ".zarr", "%2e%2e/out.zarr"):
        assert browser.send(
            "POST", "datasets/split", {**split, "out": out}, status=404 if out[:2] in ("no", "%2") else 400
        )
    for name in ("a" * 250, "two\nlines", "\u00e4" * 120):
        assert "named like" in browser.send("POST", "datasets/split", {**split, "out": f"{name}.zarr"}, 400)["error"]
    wrong = browser.send("POST", "datasets/split", {"dataset": [0] * 9, "episodes": [], "out": "b.zarr"}, 422)
    assert wrong == {"error": "dataset: Input should be a valid string"}
    assert sorted(entry.name for entry in path.parent.parent.iterdir()) == ["data", "runs"]
    for name in ("..", "../data/push.zarr", "/etc", "push.zarr/../..", "push.zarr\0"):
        browser.get("datasets/episodes", 400, dataset=name)


def test_people_annotate_at_once_and_their_agreement_is_told(browser: Browser, path: Path) -> None:
    name, episode = "push.zarr", ids(path)[1]
    cuts = {"ana": 20, "bob": 30}

    def annotate(author: str) -> None:
        for _ in range(5):
            stages = [
                {"label": "reach", "start": 0, "stop": cuts[author]},
                {"label": "push", "start": cuts[author], "stop": 40},
            ]
            body = {"dataset": name, "episode": episode, "author": author, "stages": stages}
            browser.send("PUT", "annotate/stages", body)

    people = [threading.Thread(target=annotate, args=(author,)) for author in cuts]
    for person in people:
        person.start()
    for person in people:
        person.join()
    for author, word in (("ana", True), ("bob", False)):
        body = {"dataset": name, "episode": episode, "author": author, "success": word}
        browser.send("PUT", "annotate/success", body)
    browser.send("PUT", "annotate/instruction", {"dataset": name, "episode": episode, "instruction": "shove it"})
    assert browser.get("annotate/next", dataset=name, author="ana")["episode"] == ids(path)[0]
    short = {"episode": ids(path)[0], "stages": [{"label": "reach", "start": 0, "stop": 3}]}
    browser.send("PUT", "annotate/stages", {"dataset": name, "author": "ana", **short})
    assert browser.get("annotate/next", dataset=name, author="ana")["episode"] == ids(path)[2]
    assert browser.get("annotate/next", dataset=name)["episode"] == ids(path)[0]
    said = browser.get("annotate/episode", dataset=name, episode=episode)
    assert {author: stages[1]["start"] for author, stages in said["stages"].items()} == cuts
    assert said["stage_agreement"]["same"] == pytest.approx(0.75)
    assert (said["success"], said["success_by"], said["instruction"]) == (None, {"ana": True, "bob": False}, "shove it")
    assert said["labels"][:2] == ["approach", "push"] or "push" in said["labels"]
    for wrong in ({"start": 3, "stop": 41}, {"start": 5, "stop": 5}):
        stages = [{"label": "reach", **wrong}]
        body = {"dataset": name, "episode": episode, "author": "ana", "stages": stages}
        assert "not a labelled part" in browser.send("PUT", "annotate/stages", body, 400)["error"]
    browser.send("PUT", "annotate/success", {**body, "author": " ", "success": True}, 422)


def test_no_file_of_a_robot_is_read_that_a_dataset_names(
    browser: Browser, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit.relabel(path, [0], {"task": "reach-v1@robot_descriptions:any"})
    monkeypatch.setattr(tasks.importlib, "import_module", None)
    assert browser.get("annotate/episode", dataset="push.zarr", episode=ids(path)[0])["labels"] == [
        "approach",
        "settle",
    ]


def test_preferences_are_asked_answered_and_taken_back(browser: Browser, path: Path) -> None:
    who = {"dataset": "push.zarr", "author": "ana"}
    pair = browser.get("annotate/pair", **who)
    shown = pair["first"]
    edit.trim(path, shown["episode"], 0, shown["length"] - 1)  # its steps have other pictures than browsers keep
    trimmed = browser.get("datasets/episode", dataset="push.zarr", episode=shown["episode"])
    assert trimmed["version"] != shown["version"]
    edit.undo(path)
    assert browser.get("annotate/pair", **who)["first"] == shown
    assert browser.get("annotate/pair", **who)["first"] == pair["first"]
    moments = {side: {key: pair[side][key] for key in ("episode", "step")} for side in ("first", "second")}
    browser.send("POST", "annotate/preference", {**who, **moments, "answer": "equal"})
    assert browser.get("annotate/pair", **who)["answered"] == 1
    assert browser.get("annotate/pair", dataset="push.zarr", author="bob")["first"] == pair["first"]  # is shared
    assert browser.get("annotate/labels", dataset="push.zarr")["preferences"][0]["answer"] == "equal"
    browser.send("POST", "annotate/preference", {**who, **moments, "answer": "both"}, 422)
    assert browser.send("POST", "annotate/preference/undo", who)["answer"] == "equal"
    assert browser.get("annotate/pair", **who)["first"] == pair["first"]
    browser.send("POST", "annotate/preference/undo", who, 400)
    longer = browser.get("annotate/pair", **who, segment=5)
    segments = {side: {key: longer[side][key] for key in ("episode", "step")} for side in ("first", "second")}
    assert (longer["segment"], pair["segment"]) == (5, 1)
    assert all(longer[side]["step"] + 5 <= longer[side]["length"] for side in ("first", "second"))
    browser.send("POST", "annotate/preference", {**who, **segments, "answer": "first", "segment": 5})
    assert browser.get("annotate/labels", dataset="push.zarr")["preferences"][0]["segment"] == 5
    assert browser.send("POST", "annotate/preference/undo", who)["segment"] == 5
    browser.send("POST", "annotate/preference", {**who, **segments, "answer": "first", "segment": 0}, 422)


def test_a_dataset_that_is_being_recorded_refuses_edits_after_a_while(
    browser: Browser, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "TRIES", 2)
    body = {"dataset": "push.zarr", "action": "delete", "episodes": ids(path)[:1]}
    lock = WriterLock(path, path / RECORDING)
    assert "is being written to" in browser.send("POST", "datasets/edit", body, 409)["error"]
    lock.release()
    browser.send("POST", "datasets/edit", body)
    edit.undo(path)


def test_runs_are_listed_compared_and_their_pages_confined(browser: Browser, tmp_path: Path) -> None:
    for name, loss in (("a", 1.0), ("deep/b", 2.0)):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("algorithm: sac\nseed: 3\ntask: push-v1\nonline: {evaluation_episodes: 10}\n")
        rows = "".join(f"{step},{step / 10},{loss + step},0.5\n" for step in range(2500))
        (run / "metrics.csv").write_text(f"step,wall_s,loss,success_rate\n{rows}")
    (tmp_path / "runs" / "a" / "report.html").write_text("<script>alert(1)</script>")
    (tmp_path / "runs" / "a" / "rollout.mp4").write_bytes(bytes(100))
    (tmp_path / "runs" / "odd").mkdir()
    (tmp_path / "runs" / "odd" / "metrics.csv").write_text("step,wall_s\n")
    (tmp_path / "runs" / "odd" / "config.yaml").write_text("a: [")
    listed = {run["name"]: run for run in browser.get("runs")}
    assert set(listed) == {"a", "deep/b", "odd"}
    assert (listed["a"]["step"], listed["a"]["pages"], listed["a"]["videos"]) == (
        2499,
        ["report.html"],
        ["rollout.mp4"],
    )
    assert "cannot be read" in listed["odd"]["problem"]
    assert listed["deep/b"]["evaluation"]["success_ci95"] == pytest.approx([0.2366, 0.7634], abs=1e-4)
    curves = browser.get("runs/curves", run=["a", "deep/b"])
    assert [curves[run]["loss"]["value"][0] for run in ("a", "deep/b")] == [1, 2]
    assert len(curves["a"]["loss"]["step"]) < 1001
    assert browser.get("runs/run", run="a")["config"]["seed"] == 3
    page = browser.client.get("/api/runs/files/a/report.html")
    assert page.headers["content-security-policy"].startswith("sandbox allow-same-origin; default-src 'none'")
    part = browser.client.get("/api/runs/files/a/rollout.mp4", headers={"range": "bytes=10-19"})
    assert (part.status_code, len(part.content)) == (206, 10)
    (tmp_path / "secret.html").write_text("hush")
    (tmp_path / "runs" / "link.html").symlink_to(tmp_path / "secret.html")
    for name in (
        "a/config.yaml",
        "a/none.html",
        "a",
        "link.html",
        "..%2fsecret.html",
        "%2e%2e/secret.html",
        "a/%00.html",
    ):
        answer = browser.client.get(f"/api/runs/files/{name}")
        assert answer.status_code in (400, 404), name
        assert "hush" not in answer.text, name
    json.dumps(curves, allow_nan=False)


def test_a_damaged_run_is_told_and_hides_no_other(browser: Browser, tmp_path: Path) -> None:
    settings, whole = b"evaluation_episodes: 10\n", b"step,wall_s,success_rate\n1,1,0.5\n"
    damaged = {
        "broke_off": {"config.yaml": settings, "metrics.csv": whole + b"2,2,nan\n3,3,inf\n4,4,7\n"},
        "binary": {"config.yaml": settings, "metrics.csv": whole + b"\xff\xfe\n"},
        "deep": {"config.yaml": b"[" * 1000, "metrics.csv": whole},
        "deeper": {"evaluation.json": b"[" * 100_000, "metrics.csv": whole},
        "deep_enough": {"evaluation.json": b'{"success_rate": 1, "success_ci95": %s}' % (b"[" * 500 + b"]" * 500)},
        "unpaired": {"evaluation.json": b'{"success_rate": 1, "success_ci95": [], "task": "\\ud800"}'},
        "odd": {"config.yaml": b'{algorithm: "\\ud800", seed: !!binary /9j/, task: !!set {a}}', "metrics.csv": whole},
        "large": {"config.yaml": b"seed: 0x" + b"f" * 6000, "metrics.csv": whole},
        "itself": {"config.yaml": b"task: &a [*a]", "metrics.csv": whole},
        "date": {"config.yaml": b"task: 2001-99-99", "metrics.csv": whole},
    }
    for name, files in damaged.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        for file, content in files.items():
            (tmp_path / "runs" / name / file).write_bytes(content)
    (tmp_path / "runs" / "endless").mkdir()
    for name in ("config.yaml", "evaluation.json", "metrics.csv"):
        os.mkfifo(tmp_path / "runs" / "endless" / name)
    listed = {run["name"]: run for run in browser.get("runs")}
    unread = {name for name, run in listed.items() if "cannot be read" in run["problem"]}
    assert (set(listed), unread) == ({*damaged, "endless"}, {"binary", "deep", "itself", "date"})
    assert all(browser.get("runs/run", run=name)["name"] == name for name in ("unpaired", "odd", "large", "endless"))
    assert listed["broke_off"]["evaluation"]["success_rate"] == 0.5
    assert "cannot be read" in browser.get("runs/curves", 400, run="binary")["error"]


def test_the_page_beside_a_run_shows_it_while_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(web, "say", said.append)
    dataset(tmp_path / "push.zarr", [3])
    run = tmp_path / "runs" / "bc"
    run.mkdir(parents=True)
    (run / "metrics.csv").write_text("step,wall_s,loss\n1,0.1,2\n")
    with web.beside(False, run):
        assert said == []
    with web.beside(True, run, tmp_path / "push.zarr", None):
        address = said[0].split()[4]
        assert address.endswith("/#/run/bc")
        root = address.split("#")[0]
        for path, name in (("runs", "bc"), ("datasets", "push.zarr")):
            with urlopen(f"{root}api/{path}") as answer:
                assert [one["name"] for one in json.load(answer)] == [name]
    with pytest.raises(URLError):
        urlopen(root)


def test_view_serves_the_episode_until_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(tmp_path / "push.zarr", [3, 4]).episodes
    seen: list[str] = []

    def look(text: str) -> None:
        address = text.split()[4]
        with urlopen(address.split("#")[0]) as answer:
            assert b'id="app"' in answer.read()
        seen.append(address)
        threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()

    monkeypatch.setattr(web, "say", look)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert cli.run(["dataset", "view", str(tmp_path / "push.zarr"), "1"]) == 0
    assert seen[0].endswith(f"/#/episode/push.zarr/{made[1].id}")
    monkeypatch.setattr(data, "say", seen.append)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert cli.run(["dataset", "view", "push.zarr", "1", "--mp4"]) == 0
    assert (tmp_path / "runs" / "push_episode_1.mp4").exists()
