"""The live page: what a graph does now, its cameras, the stop button, driving.

Two kinds of WebSocket. `/state`, which every page holds open, sends JSON `{t, changes, rows, last}` and takes
`{stop: true}`, `{echo: number}` and the hands of a driver (`driving.py`). `/camera/NAME` sends pictures, each after the
browser has said that it has drawn one, so that a slow network sees fewer pictures and none that is old.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from robolearn.errors import SpecError
from robolearn.web.driving import Wheel, parse
from robolearn.web.live_source import LiveSource
from robolearn.web.pictures import Pictures
from robolearn.web.settings import WebSettings

STATE_PERIOD_S = 0.05
IN_FLIGHT = 2  # pictures that a browser has not drawn yet


def make_router(settings: WebSettings, source: LiveSource | None) -> APIRouter:
    router = APIRouter()

    @router.get("/graph")
    def graph() -> dict[str, bool]:
        """Whether there is a graph behind the page."""
        return {"graph": source is not None}

    if source is not None:
        _add_graph(router, source)
    return router


def _add_graph(router: APIRouter, source: LiveSource) -> None:
    pictures, hub = Pictures(source), Hub(source)

    @router.post("/stop")
    async def stop() -> dict[str, bool]:
        """Emergency stop; not in the thread pool, which others may have filled."""
        source.stop()
        return {"stopped": True}

    @router.post("/ask/{what}")
    def ask(what: str) -> dict[str, str]:
        return {"answer": source.ask(what)}

    @router.websocket("/state")
    async def state(socket: WebSocket) -> None:
        await socket.accept()
        await hub.serve(socket)

    @router.websocket("/camera/{name:path}")
    async def camera(socket: WebSocket, name: str) -> None:
        await socket.accept()
        async with pictures.look(name) as stream:
            credit = asyncio.Semaphore(IN_FLIGHT)

            async def send() -> None:
                number = 0
                while True:
                    await credit.acquire()
                    async with stream.encoded:
                        await stream.encoded.wait_for(lambda: stream.number > number)  # noqa: B023, awaited at once
                        number, data = stream.number, stream.data
                    await socket.send_bytes(data)

            async def receive() -> None:
                while True:
                    await _text(socket)
                    credit.release()

            await _until_gone(send(), receive())


class Hub:
    """The state of the graph for all browsers."""

    def __init__(self, source: LiveSource) -> None:
        self._source, self._wheel = source, Wheel()
        self._browsers = itertools.count(1)
        self._texts: dict[str, str] = {}
        self._made_s = 0.0

    async def serve(self, socket: WebSocket) -> None:
        browser = next(self._browsers)
        refusal = [""]
        try:
            await _until_gone(self._send(socket, browser, refusal), self._receive(socket, browser, refusal))
        finally:
            if (hands := self._wheel.leave(browser)) is not None:
                self._source.drive(browser, hands)

    async def _send(self, socket: WebSocket, browser: int, refusal: list[str]) -> None:
        sent: dict[str, str] = {}
        last = -1
        while True:
            own = {"you": browser, "driver": self._wheel.driver, "refusal": refusal[0]}
            texts = {**self._state(), "driving": json.dumps(own)}
            changes = ",".join(f"{json.dumps(key)}:{text}" for key, text in texts.items() if sent.get(key) != text)
            last, rows = self._source.rows(last)
            sent = texts
            await socket.send_text(
                f'{{"t":{_now_ms():.1f},"changes":{{{changes}}},"last":{last},"rows":{json.dumps(rows)}}}'
            )
            await asyncio.sleep(STATE_PERIOD_S)

    async def _receive(self, socket: WebSocket, browser: int, refusal: list[str]) -> None:
        while True:
            try:
                message = json.loads(await _text(socket))
                if not isinstance(message, dict):
                    raise SpecError("a message is a JSON object")
                if message.get("stop"):
                    self._source.stop()
                    continue
                if isinstance(message.get("echo"), int | float):  # how long a message takes there and back
                    await socket.send_text(json.dumps({"echo": message["echo"]}))
                    continue
                forbidden = "the robot is stopped" if self._source.stopped() else ""
                hands, why = self._wheel.turn(browser, parse(message), _now_ms(), forbidden)
            except (SpecError, ValueError, RecursionError) as error:
                refusal[0] = str(error)
                continue
            if why != "late":
                refusal[0] = why
            if hands is not None:
                self._source.drive(browser, hands)

    def _state(self) -> dict[str, str]:
        """As JSON by subject, made once for all browsers."""
        if time.monotonic() - self._made_s > STATE_PERIOD_S / 2:
            self._texts = {key: json.dumps(value) for key, value in self._source.state().items()}
            self._made_s = time.monotonic()
        return self._texts


def _now_ms() -> float:
    return time.monotonic() * 1e3


async def _text(socket: WebSocket) -> str:
    """The next message; empty for a binary one, which no browser sends. Raises WebSocketDisconnect."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    return message.get("text") or ""


async def _until_gone(*sides: Coroutine[Any, Any, None]) -> None:
    """Run both sides of a socket until the browser is gone."""
    tasks = [asyncio.create_task(side) for side in sides]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect | RuntimeError):
                raise result
