"""A person at the page of a real graph: twin, teleoperator and recorder in processes of their own, two browsers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import SIZES, Visit, violations
from playwright.sync_api import Page, TimeoutError, expect

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from rclpy.executors import ExternalShutdownException
from robolearn_nodes import topics
from trajectory_msgs.msg import JointTrajectory

from robolearn import cli
from robolearn.recipes.graph import free_domain_id
from robolearn.tasks import make_task

PATIENCE_S = 90.0


class Ears:
    """What the robot was told, each with the wall time at which it was heard [ms]."""

    def __init__(self) -> None:
        rclpy.init()
        self.sent: list[tuple[float, str, tuple[float, ...]]] = []
        self._node = rclpy.create_node("ears")
        self._node.create_subscription(JointTrajectory, topics.COMMAND_SENT, self._on_sent, topics.STREAM)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _on_sent(self, message: JointTrajectory) -> None:
        self.sent.append((time.time() * 1e3, message.header.frame_id, tuple(message.points[0].positions)))

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            rclpy.spin(self._node)

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"waited in vain for {what}; last: {self.sent[-1:]}"
            time.sleep(0.02)

    def next(self, count: int) -> list[tuple[float, str, tuple[float, ...]]]:
        """What comes from now on."""
        heard = len(self.sent)
        self.wait(lambda: len(self.sent) >= heard + count, "more of the robot")
        return self.sent[heard : heard + count]

    def close(self) -> None:
        rclpy.shutdown()
        self._thread.join()
        self._node.destroy_node()


class Bench:
    """What `robolearn record` runs for a person at the page."""

    def __init__(self, folder: Path) -> None:
        self.dataset, self._log = folder / "demos.zarr", folder / "record.log"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        words = ["--twin", "reach-v1", "--teleop", "web", "--out", self.dataset, "--web-port", port, "--episodes", 2]
        command = [sys.executable, "-m", "robolearn.cli", "record", *map(str, words)]
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        end_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                assert self._child.poll() is None, self.log()
                assert time.monotonic() < end_s, self.log()
                time.sleep(0.1)

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def close(self) -> None:
        self._child.send_signal(signal.SIGINT)
        try:
            self._child.wait(30)
        finally:
            if self._child.poll() is None:
                os.killpg(self._child.pid, signal.SIGKILL)
        assert "Traceback" not in self.log(), self.log()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    running = Bench(tmp_path)
    yield running
    running.close()


@pytest.fixture
def ears(bench: Bench) -> Iterator[Ears]:
    listening = Ears()
    yield listening
    listening.close()


def status(page: Page, text: str) -> None:
    """Wait until the page says so."""
    expect(page.get_by_role("status").filter(has_text=text).first).to_be_visible(timeout=PATIENCE_S * 1e3)


def click(page: Page, name: str) -> None:
    button = page.get_by_role("button", name=name, exact=True)
    expect(button).to_be_enabled(timeout=PATIENCE_S * 1e3)
    button.click()


def take_hold(page: Page, press: Callable[[], None], lift: Callable[[], None]) -> None:
    """Until the page drives: on a busy machine what it says may be too old, and the hands must be lifted first."""
    mine = page.get_by_role("status").filter(has_text="You drive")
    for _ in range(20):
        press()
        try:
            mine.wait_for(timeout=4000)
            return
        except TimeoutError:
            lift()
    raise AssertionError("the page never came to drive")


@pytest.mark.timeout(400)
def test_record_drive_stop_and_mark_from_two_browsers(
    bench: Bench, ears: Ears, visit: Visit, capsys: pytest.CaptureFixture[str]
) -> None:
    page = visit(bench.address)
    expect(page.locator(".instruction")).to_have_text(make_task("reach-v1").instruction, timeout=PATIENCE_S * 1e3)
    click(page, "Start")
    status(page, "Recording")
    page.get_by_label("Drive by keys").check()
    take_hold(page, lambda: page.keyboard.down("w"), lambda: page.keyboard.up("w"))
    ears.wait(lambda: sum(not reason for _, reason, _ in ears.sent) > 10, "the robot to move")
    moving = [position for _, reason, position in ears.sent if not reason]
    assert max(abs(a - b) for a, b in zip(moving[0], moving[-1], strict=True)) > 0.01
    page.keyboard.up("w")
    status(page, "Nobody drives")
    expect(page.locator("canvas[data-stamp]")).to_have_count(2, timeout=PATIENCE_S * 1e3)

    page.reload()  # loses nothing
    status(page, "Recording")
    page.get_by_text("measured").first.wait_for()
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        assert violations(page) == [], width

    phone = visit(bench.address, size="phone")
    status(phone, "Recording")
    pictures = phone.locator(".camera canvas")
    expect(pictures).to_have_count(2)
    assert len({picture.evaluate("it => it.offsetTop") for picture in pictures.all()}) == 1  # who drives sees both
    stick = phone.get_by_role("img", name="Left stick")
    stick.scroll_into_view_if_needed()
    box = stick.bounding_box()
    assert box is not None
    phone.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    take_hold(phone, phone.mouse.down, phone.mouse.up)
    status(page, "Another browser drives")
    phone.mouse.up()
    status(page, "Nobody drives")

    phone.evaluate("addEventListener('click', (e) => (window.clicked = performance.timeOrigin + e.timeStamp), true)")
    for browser in (phone, page):
        if browser is phone:
            click(phone, "Stop")
        else:
            page.keyboard.press("Escape")
        for other in (page, phone):
            status(other, "Stopped")
        ears.wait(lambda: ears.sent[-1][1] == "emergency stop", "the robot to hold")
        still = ears.next(6)
        assert len({position for _, _, position in still}) == 1
        if browser is phone:
            clicked = phone.evaluate("window.clicked")
            held = next(at for at, reason, _ in ears.sent if reason == "emergency stop" and at > clicked)
            print(f"from the click to the robot's word that it holds: {held - clicked:.0f} ms")
        browser.reload()
        status(browser, "Stopped")
        click(browser, "Resume")
        for other in (page, phone):
            expect(other.get_by_role("button", name="Resume")).to_have_count(0, timeout=PATIENCE_S * 1e3)

    click(page, "Failure")
    expect(phone.get_by_text("1 kept in demos.zarr")).to_be_visible(timeout=PATIENCE_S * 1e3)
    click(phone, "Mark success")
    expect(page.get_by_role("button", name="Mark success")).to_be_enabled(timeout=PATIENCE_S * 1e3)

    def marked() -> bool:
        capsys.readouterr()
        cli.run(["dataset", "info", str(bench.dataset), "--json"])
        found = json.loads(capsys.readouterr().out)
        return bool(found["episodes"] == 1 and found["successes"] == 1)

    ears.wait(marked, "the dataset to say so")
