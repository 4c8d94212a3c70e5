"""The live page's sockets, between a source of the test and onlookers that speak the browser's side."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
from browsing import Serve, Visit
from numpy.typing import NDArray
from playwright.sync_api import WebSocketRoute, expect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from robolearn.errors import LaunchError
from robolearn.web import pictures, server
from robolearn.web.driving import Hands
from robolearn.web.live_source import LiveSource, Row

PATIENCE_S = 30.0


class Source:
    """A graph of the test."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {"safety": {"state": "moving", "reason": ""}, "joints": ["pan"]}
        self.kept: list[Row] = [[0.0, 1.0, None]]
        self.stops = 0
        self.is_stopped = False
        self.driven: list[tuple[int, Hands]] = []
        self.looked_at: list[str] = []
        self.images: dict[str, tuple[int, NDArray[np.uint8] | bytes]] = {}
        self._on_picture: Callable[[str], None] = lambda camera: None

    def state(self) -> dict[str, Any]:
        return self.facts

    def rows(self, after: int) -> tuple[int, list[Row]]:
        return len(self.kept) - 1, self.kept[after + 1 :]

    def stopped(self) -> bool:
        return self.is_stopped

    def stop(self) -> None:
        self.stops += 1

    def drive(self, browser: int, hands: Hands) -> None:
        self.driven.append((browser, hands))

    def ask(self, what: str) -> str:
        if what == "start":
            return "begun"
        raise LaunchError(f"nobody serves {what}")

    def look(self, cameras: Iterable[str], on_picture: Callable[[str], None]) -> None:
        self.looked_at, self._on_picture = list(cameras), on_picture

    def picture(self, camera: str) -> tuple[int, NDArray[np.uint8] | bytes] | None:
        return self.images.get(camera)

    def show(self, camera: str, stamp_ns: int, image: NDArray[np.uint8] | bytes) -> None:
        self.images[camera] = (stamp_ns, image)
        self._on_picture(camera)


def wait(condition: Callable[[], Any]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def source() -> Source:
    made: LiveSource = Source()  # the type checker agrees that it is one
    assert isinstance(made, Source)
    return made


@pytest.fixture
def open_socket(serve: Serve, source: Source) -> Callable[..., Any]:
    address = serve(source)

    @contextmanager
    def opened(path: str) -> Iterator[ClientConnection]:
        with connect(f"{address.replace('http', 'ws')}/api/live/{path}", origin=address) as socket:
            yield socket

    return opened


def next_state(socket: ClientConnection) -> dict[str, Any]:
    while "t" not in (message := json.loads(socket.recv(PATIENCE_S))):
        pass
    return message


def push(socket: ClientConnection, sequence: int, **more: Any) -> None:
    seen = next_state(socket)["t"]
    socket.send(json.dumps({"sequence": sequence, "seen": seen, "axes": [0.0, -1.0], "held": [5], **more}))


def test_the_source_is_one(source: LiveSource) -> None:
    assert source.rows(-1) == (0, [[0.0, 1.0, None]])


def test_a_socket_stays_open_for_longer_than_a_request_may_take(
    open_socket: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.3)
    with open_socket("state") as state, open_socket("camera/front") as camera:
        opened_s = time.monotonic()
        while time.monotonic() < opened_s + 3 * server.REQUEST_S:
            next_state(state)
        camera.send("")
        with pytest.raises(TimeoutError):
            camera.recv(0.1)


def test_state_comes_whole_and_then_what_changes(open_socket: Callable[..., Any], source: Source) -> None:
    with open_socket("state") as socket:
        first = next_state(socket)
        assert first["changes"].items() >= source.facts.items()
        assert first["rows"] == [[0.0, 1.0, None]]
        assert next_state(socket)["changes"] == {}
        source.facts = {**source.facts, "safety": {"state": "stopped", "reason": "emergency stop"}}
        source.kept.append([0.1, 1.1, None])
        changed: dict[str, Any] = {"changes": {}, "rows": []}
        while not (changed["changes"] and changed["rows"]):
            message = next_state(socket)
            changed["changes"] |= message["changes"]
            changed["rows"] += message["rows"]
        assert changed == {"changes": {"safety": source.facts["safety"]}, "rows": [[0.1, 1.1, None]]}
    with open_socket("state") as again:  # a reload
        assert next_state(again)["rows"] == source.kept


def test_a_browser_that_is_gone_has_let_go(open_socket: Callable[..., Any], source: Source) -> None:
    with open_socket("state") as socket:
        push(socket, 1)
        wait(lambda: source.driven)
        assert source.driven[-1][1].held == (5,)
    wait(lambda: not source.driven[-1][1].busy)
    with open_socket("state") as socket:  # the wheel is free, for hands that were lifted
        push(socket, 2)
        while "lift your hands" not in next_state(socket)["changes"].get("driving", {}).get("refusal", ""):
            pass
        assert not source.driven[-1][1].busy
        push(socket, 3, held=[], axes=[])
        push(socket, 4)
        wait(lambda: source.driven[-1][1].busy)


def test_two_browsers_and_one_wheel(open_socket: Callable[..., Any], source: Source) -> None:
    with open_socket("state") as one, open_socket("state") as other:
        push(one, 1)
        wait(lambda: source.driven)
        driver = source.driven[-1][0]
        push(other, 1)
        while next_state(other)["changes"].get("driving", {}).get("refusal") != "another browser drives":
            pass
        other.send(json.dumps({"stop": True}))  # but it may stop
        wait(lambda: source.stops)
        source.is_stopped = True
        push(one, 2)
        wait(lambda: not source.driven[-1][1].busy)
        assert {browser for browser, _ in source.driven} == {driver}


NONSENSE = ["", "[]", "{", '"stop"', "\0", b"stop", "[" * 60_000, '{"sequence": -1}']
NONSENSE += [f'{{"sequence": 1, "seen": {number}}}' for number in ("1e999", "NaN", "9" * 400)]


def test_nonsense_is_told_and_moves_nothing(open_socket: Callable[..., Any], source: Source) -> None:
    for text in NONSENSE:
        with open_socket("state") as socket:
            next_state(socket)
            socket.send(text)
            while not next_state(socket)["changes"].get("driving", {}).get("refusal"):
                pass
    assert source.driven == []


def test_a_picture_is_encoded_once_for_all_and_only_while_somebody_looks(
    open_socket: Callable[..., Any], source: Source
) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0] = 200
    with mock.patch.object(pictures, "_jpeg", side_effect=pictures._jpeg) as encode:
        source.show("front", 1_000_000_000, image)
        assert source.looked_at == []
        with open_socket("camera/front") as one, open_socket("camera/front") as other:
            for socket in (one, other):
                data = socket.recv(PATIENCE_S)
                assert struct.unpack_from("<d", data) == (1.0,)
                decoded = cv2.imdecode(np.frombuffer(data[8:], np.uint8), cv2.IMREAD_COLOR_RGB)
                assert np.abs(decoded.astype(int) - image).max() < 4
            assert source.looked_at == ["front"]
            source.show("front", 2_000_000_000, image)
            assert [struct.unpack_from("<d", socket.recv(PATIENCE_S))[0] for socket in (one, other)] == [2.0, 2.0]
            assert encode.call_count == 2
        wait(lambda: source.looked_at == [])
        source.show("front", 3_000_000_000, image)
        assert encode.call_count == 2


def test_who_draws_slowly_gets_the_newest_picture_and_jpeg_passes_through(
    open_socket: Callable[..., Any], source: Source
) -> None:
    with open_socket("camera/twin/front") as socket:
        wait(lambda: source.looked_at == ["twin/front"])
        came = []
        for stamp in range(1, 30):
            source.show("twin/front", stamp * 1_000_000_000, b"jpeg %d" % stamp)
            if stamp <= 2:
                came.append(socket.recv(PATIENCE_S)[8:])
            time.sleep(0.002)
        with pytest.raises(TimeoutError):
            socket.recv(0.2)  # two are in flight, none was drawn
        socket.send("drawn")
        came.append(socket.recv(PATIENCE_S)[8:])
    assert came == [b"jpeg 1", b"jpeg 2", b"jpeg 29"]


def test_requests_are_answered_or_refused_in_one_line(serve: Serve, source: Source) -> None:
    import urllib.error
    import urllib.request

    address = serve(source)

    def post(path: str) -> Any:
        request = urllib.request.Request(f"{address}/api/live/{path}", method="POST", headers={"Origin": address})
        try:
            return json.loads(urllib.request.urlopen(request, timeout=PATIENCE_S).read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    assert post("ask/start") == {"answer": "begun"}
    assert post("ask/dance") == (400, {"error": "nobody serves dance"})
    threads = [threading.Thread(target=post, args=("stop",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.stops == 4


def test_a_page_that_hears_nothing_says_so_until_it_hears_again(serve: Serve, visit: Visit, source: Source) -> None:
    page = visit(serve(source))
    status = page.get_by_role("status").first
    expect(status).to_have_text("Moving", timeout=PATIENCE_S * 1e3)
    silent, state = threading.Event(), source.state
    source.state = lambda: (silent.wait(PATIENCE_S), state())[1]  # type: ignore[method-assign]
    expect(status).to_have_text("No connection", timeout=PATIENCE_S * 1e3)  # though the link is not closed
    expect(page.get_by_role("heading", name="Robot")).to_have_count(0)  # nor does it show what was
    source.state = state  # type: ignore[method-assign]
    silent.set()
    expect(status).to_have_text("Moving", timeout=PATIENCE_S * 1e3)


def test_a_page_whose_token_is_another_by_now_asks_for_it(serve: Serve, visit: Visit, source: Source) -> None:
    page = visit(serve(source, host="0.0.0.0", token="a-token-of-some-length"), expect="401")
    sockets: list[WebSocketRoute] = []

    def between(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    page.route_web_socket("**/live/state", between)
    page.get_by_label("Token").fill("a-token-of-some-length")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("status").get_by_text("Moving").wait_for()
    page.context.clear_cookies()  # as of another server, which has begun at the same address
    sockets[0].close()
    page.get_by_role("heading", name="Who is there?").wait_for()


def test_strangers_get_no_socket(serve: Serve, source: Source) -> None:
    address = serve(source, host="0.0.0.0", token="a-token-of-some-length")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "robolearn-0=wrong"}):
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            connect(f"{address.replace('http', 'ws')}/api/live/state", origin=address, additional_headers=headers)
