"""Datasets, annotation, preferences and runs in a real browser, and what of it the command line sees."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from browsing import SIZES, Serve, Visit, violations
from painted import dataset
from playwright.sync_api import Page, Route, expect

from robolearn import cli
from robolearn.datasets import edit
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_layout import RECORDING
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.web import stores

NAME = "push.zarr"
PAINTED = """canvas => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, 16, 16).data;
    let number = 0;
    for (let bit = 0; bit < 16; bit++) {
        const [row, column] = [2 + 4 * Math.floor(bit / 4), 2 + 4 * (bit % 4)];
        if (pixels[4 * (16 * row + column)] > 127) number += 1 << bit;
    }
    return number;
}"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    dataset(tmp_path / NAME, [5, 90, 40])
    return tmp_path / NAME


def ids(path: Path) -> list[str]:
    return [episode.id for episode in ZarrStore.open(path).episodes]


def labels(path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert cli.run(["dataset", "labels", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def wait_saved(page: Page) -> None:
    page.locator('[data-saved="true"]').wait_for()


def check_everybody_reads_it(page: Page) -> None:
    for scheme, (width, height) in zip(("light", "dark", "light"), SIZES.values(), strict=True):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": height})
        assert violations(page) == [], (page.url, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (page.url, width)


def test_an_episode_is_found_scrubbed_edited_and_mended(serve: Serve, visit: Visit, path: Path) -> None:
    made = ids(path)
    page = visit(serve(), expect="getImageData")  # which the test reads the pictures by
    page.get_by_role("link", name="Datasets").click()
    page.get_by_role("link", name=NAME, exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("steps from").fill("50")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_text("Statistics").click()
    page.get_by_text("TQ, trajectory quality").wait_for()
    check_everybody_reads_it(page)
    page.get_by_role("link", name=made[1]).click()
    cameras = page.locator("canvas[role=img]")

    def shows(step: int) -> None:
        for camera in (cameras.nth(0), cameras.nth(1)):
            expect(camera).to_have_attribute("data-step", str(step))
            assert camera.evaluate(PAINTED) == 5 + step

    shows(0)
    page.get_by_role("slider", name="Step").fill("70")
    shows(70)
    for key, step in (("ArrowRight", 71), ("Shift+ArrowLeft", 61), ("Home", 0), ("End", 89)):
        page.locator("body").press(key)
        shows(step)
    page.get_by_label("speed").select_option("4")
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("button", name="Play").wait_for()  # it has come to the end
    shows(89)
    page.locator(".u-over").first.click()
    expect(page.get_by_text("step 44 / 89").or_(page.get_by_text("step 45 / 89")).first).to_be_visible()
    check_everybody_reads_it(page)

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    assert ids(path) == [made[0], made[2]]
    page.get_by_label("Choose episode 0").check()
    page.get_by_role("button", name="Tag 1").click()
    page.get_by_label("Tag", exact=True).fill("keep")
    held: list[Route] = []
    page.route("**/datasets/edit", lambda route: held.append(route))
    page.get_by_role("dialog").get_by_role("button", name="Tag").click()
    page.get_by_role("status").get_by_text("working on it").wait_for()
    expect(page.get_by_role("button", name="Tag 1")).to_be_disabled()
    held.pop().continue_()
    page.get_by_role("cell", name="keep").wait_for()
    page.get_by_role("button", name="Copy 1 to a new dataset").click()
    page.get_by_label("Name of the new dataset").fill("part.zarr")
    page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    page.get_by_text("part.zarr has 1 episodes").wait_for()
    assert ids(path.with_name("part.zarr")) == made[:1]
    for what in ("Undo tag", "Undo delete"):
        page.get_by_role("button", name=what).click()
    expect(page.locator("tbody tr")).to_have_count(3)
    assert ids(path) == made
    assert ZarrStore.open(path).episodes[0].tags == {}


def test_two_people_annotate_one_episode_and_nothing_is_lost(
    serve: Serve, visit: Visit, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, episode = serve(), ids(path)[1]
    pages = {name: visit(f"{address}/#/annotate/{NAME}/{episode}", expect="ERR_INTERNET") for name in ("ana", "bob")}
    for (name, page), cut in zip(pages.items(), (30, 40), strict=True):
        page.get_by_label("Your name").fill(name)
        page.get_by_label("Your name").press("Enter")
        page.locator("body").press("1")
        for _ in range(cut // 10):
            page.locator("body").press("Shift+ArrowRight")
        for key in ("2", "s" if name == "ana" else "f"):
            page.locator("body").press(key)
        wait_saved(page)
    marks = labels(path, capsys)["episodes"][1]
    begins = {(mark["author"], mark["start"]): (mark["label"], mark["stop"]) for mark in marks["stages"]}
    first, second = begins[("ana", 0)][0], begins[("ana", 30)][0]
    assert begins == {
        ("ana", 0): (first, 30),
        ("ana", 30): (second, 90),
        ("bob", 0): (first, 40),
        ("bob", 40): (second, 90),
    }
    assert (marks["success"], marks["success_by"]) == (None, {"ana": True, "bob": False})
    ana = pages["ana"]
    ana.reload()
    ana.get_by_text("agree on 89 % of 90 steps").wait_for()
    ana.get_by_role("button", name=f"{second}, steps 30 to 89").wait_for()
    check_everybody_reads_it(ana)

    ana.locator("body").press("f")
    expect(ana.get_by_role("button", name="F failure")).to_have_attribute("aria-pressed", "true")
    ana.locator("body").press("u")
    expect(ana.get_by_role("button", name="S success")).to_have_attribute("aria-pressed", "true")
    wait_saved(ana)
    ana.get_by_label("Instruction").fill("shove it")
    pages["bob"].locator("body").press("s")
    ana.get_by_text("bob (success)").wait_for()  # the page is drawn anew while she types
    expect(ana.get_by_label("Instruction")).to_have_value("shove it")
    ana.context.set_offline(True)
    ana.get_by_label("Instruction").blur()
    ana.get_by_text("not saved yet, kept in this browser").wait_for()
    assert ZarrStore.open(path).episodes[1].instruction == "push it"
    ana.goto("about:blank")  # the page is gone before the answer was saved
    ana.context.set_offline(False)
    ana.goto(f"{address}/#/annotate/{NAME}/{episode}")
    expect(ana.get_by_label("Instruction")).to_have_value("shove it")
    wait_saved(ana)
    assert ZarrStore.open(path).episodes[1].instruction == "shove it"
    assert labels(path, capsys)["episodes"][1]["success_by"] == {"ana": True, "bob": True}


PRESS = """async keys => {  // in one breath: before anything that was drawn has had its effects
    for (const key of keys) {
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
        for (let turn = 0; turn < 100; turn++) await null;
    }
}"""
WHEN_SAVED = """keys => {  // presses them when an answer with two stages is drawn
    const ask = window.fetch;
    window.fetch = async (...asked) => {
        const answer = await ask(...asked);
        if (!String(asked[0]).includes("annotate/episode")) return answer;
        const said = await answer.json();
        const pressed = async () => {
            for (let turn = 0; turn < 100; turn++) await null;
            await press(keys);
        };
        if (Object.values(said.stages).flat().length === 2 && window.fetch !== ask) {
            window.fetch = ask;
            answer.json = async () => (pressed(), said);
        } else answer.json = async () => said;
        return answer;
    };
}"""


def test_no_key_is_lost_and_no_refusal_untold(
    serve: Serve, visit: Visit, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "TRIES", 1)
    address, episode = serve(), ids(path)[1]
    page = visit(f"{address}/#/annotate/{NAME}/{episode}", expect="status of 4")
    page.evaluate(f"window.press = {PRESS}; ({WHEN_SAVED})(['End', '3', 'ArrowLeft', '2'])")
    page.get_by_label("Your name").fill("ana")
    page.evaluate("press(['Enter', '1', 'ArrowRight', '2'])")
    page.get_by_role("button", name="push, steps 88 to 88").wait_for()
    wait_saved(page)
    notes = ZarrStore.open(path).episodes[1].annotations
    assert [(note.label, note.start) for note in notes] == [("reach", 0), ("push", 88), ("settle", 89)]

    away = path.rename(path.with_name("away"))
    page.locator("body").press("s")
    page.get_by_role("status").get_by_text("kept in this browser until the dataset is here again").wait_for()
    away.rename(path)
    page.reload()
    wait_saved(page)
    expect(page.get_by_role("button", name="S success")).to_have_attribute("aria-pressed", "true")

    page.get_by_role("link", name="curves and edits").click()
    lock = WriterLock(path, path / RECORDING)
    try:
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        page.get_by_role("alert").get_by_text("is being written to").wait_for()
    finally:
        lock.release()
    page.goto(f"{address}/#/datasets/50%")
    page.get_by_role("heading", name="50%").wait_for()
    page.route("**/api/runs", lambda route: route.fulfill(json=[None]))
    page.get_by_role("link", name="Runs").click()
    page.get_by_role("alert").get_by_text("This page broke").wait_for()
    page.get_by_role("link", name="Datasets").click()
    page.get_by_role("link", name=NAME, exact=True).wait_for()


def test_preferences_are_answered_by_keys_and_taken_back(
    serve: Serve, visit: Visit, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit.relabel(path, ids(path), {"instruction": "push" * 100})
    page = visit(f"{serve()}/#/preferences/{NAME}")
    pictures: list[str] = []
    page.on("request", lambda request: "/pictures?" in request.url and pictures.append(request.url))
    page.get_by_label("Your name").fill("ana")
    page.get_by_label("Your name").press("Enter")
    for number, key in enumerate("abeuz"):
        page.get_by_text(f"{number} answered by you").wait_for()
        page.locator("section[aria-label='Moment A'] canvas[data-step]").first.wait_for()
        page.locator("body").press(key)
    page.get_by_text("3 answered by you").wait_for()
    assert pictures
    assert all("version=" in address for address in pictures)  # else they would outlive a trim
    held: list[Route] = []
    page.route("**/annotate/pair?*", lambda route: held.append(route))
    for key in "bb":  # the second time at the same pair, as the next one is on its way
        page.locator("body").press(key)
        page.get_by_text("saved: second").wait_for()
    held.pop().continue_()
    page.unroute("**/annotate/pair?*")
    page.get_by_text("4 answered by you").wait_for()
    page.locator("body").press("z")
    page.get_by_text("3 answered by you").wait_for()
    page.reload()
    page.get_by_text("3 answered by you").wait_for()
    page.locator("body").press(" ")
    expect(page.get_by_role("button", name="what led here")).to_have_attribute("aria-pressed", "true")
    check_everybody_reads_it(page)
    answers = labels(path, capsys)["preferences"]
    assert [(one["author"], one["answer"]) for one in answers] == [
        ("ana", "first"),
        ("ana", "second"),
        ("ana", "equal"),
    ]
    steps = page.get_by_label("Steps of a segment")
    steps.fill("8")
    steps.press("Tab")
    page.locator("section[aria-label='Segment A'] canvas[data-step]").first.wait_for()
    check_everybody_reads_it(page)
    page.locator("h1").click()
    page.locator("body").press("b")
    page.get_by_text("4 answered by you").wait_for()
    assert [one["segment"] for one in labels(path, capsys)["preferences"]] == [1, 1, 1, 8]


def test_runs_are_watched_and_compared(serve: Serve, visit: Visit, tmp_path: Path) -> None:
    for name, loss in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(
            "algorithm: sac\ntask: push-v1\nonline: {evaluation_episodes: 10}\n"
        )
        rows = "".join(f"{step},{step / 10},{loss + step},{step / 10}\n" for step in range(10))
        (tmp_path / name / "metrics.csv").write_text(f"step,wall_s,loss,success_rate\n{rows}")
    (tmp_path / "a" / "report.html").write_text("<!doctype html><title>r</title><p>Good morning")
    page = visit(f"{serve()}/#/runs")
    page.get_by_text("90 % (60 to 98, 10 episodes)").first.wait_for()
    for name in ("a", "b"):
        page.get_by_label(f"Compare {name}").check()
    page.get_by_role("heading", name="Compared: a, b").wait_for()
    expect(page.get_by_role("img", name="Curves of loss: a, b")).to_be_visible()
    check_everybody_reads_it(page)
    page.get_by_role("link", name="a", exact=True).click()
    page.get_by_role("img", name="Curves of success rate of 10 episodes").wait_for()
    page.get_by_text("report.html").first.click()
    page.frame_locator("iframe").get_by_text("Good morning").wait_for()
    check_everybody_reads_it(page)


SERVER = """
import sys
from pathlib import Path
from robolearn.web.server import make_server
from robolearn.web.settings import WebSettings
make_server(WebSettings(port=int(sys.argv[1]), data_roots=(Path(sys.argv[2]),))).run()
"""


def test_what_was_acknowledged_survives_the_servers_death(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(port), str(path.parent)])
    episode, acknowledged = ids(path)[1], 0

    def annotate(cut: int) -> None:
        stages = [{"label": "reach", "start": 0, "stop": cut}, {"label": "push", "start": cut, "stop": 90}]
        body = {"dataset": NAME, "episode": episode, "author": "ana", "stages": stages}
        origin = f"http://127.0.0.1:{port}"
        headers = {"content-type": "application/json", "origin": origin}
        request = Request(f"{origin}/api/annotate/stages", json.dumps(body).encode(), headers, method="PUT")
        with urlopen(request, timeout=30) as answer:
            assert answer.status == 200

    try:
        while True:
            assert server.poll() is None
            try:
                annotate(1)
                break
            except URLError:
                time.sleep(0.05)  # it is still starting
        killer = threading.Timer(0.3, server.kill)
        killer.start()
        with contextlib.suppress(OSError, HTTPException):
            for cut in range(2, 90):
                annotate(cut)
                acknowledged = cut
        killer.join()
    finally:
        server.kill()
        server.wait()
    notes = ZarrStore.open(path).episodes[1].annotations
    assert [note.label for note in notes] == ["reach", "push"]
    assert notes[1].start in (acknowledged, acknowledged + 1)  # the last one may have been saved and not told
    assert verify(path).ok
