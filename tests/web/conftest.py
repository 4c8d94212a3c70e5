"""The operator's page, served by a thread of the test and opened in a real headless Chromium.

One browser for all tests (they run in one worker). Each test has a fresh context, `page`, which fails the test for
anything that the console complains of and for any request to another server.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browsing import SIZES, Serve
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from robolearn.web.server import in_thread
from robolearn.web.settings import WebSettings

FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # each window would draw the list below its address bar, which nobody sees
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert path, "no chromium on this machine: make browser"
    root = os.getuid() == 0  # whose browser has no sandbox
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS + ["--no-sandbox"] * root)
        yield browser
        browser.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server for the settings that differ from the usual ones, and gives its address."""
    with ExitStack() as stack:

        def start(source: Any = None, **settings: Any) -> str:
            usual = {"port": 0, "data_roots": (tmp_path,), "runs_root": tmp_path}
            port = stack.enter_context(in_thread(WebSettings(**(usual | settings)), source))
            return f"http://127.0.0.1:{port}"

        yield start


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address in a browser of its own (cookies and all)."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(address: str, size: str = "desk", expect: str = "", **options: Any) -> Page:
        """expect: part of a complaint of the console that is no fault, as of a refused request."""
        width, height = SIZES[size]
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def on_console(message: Any) -> None:
            if message.type in ("error", "warning") and not (expect and expect in message.text):
                complaints.append(message.text)

        def on_request(request: Any) -> None:
            if not request.url.startswith((address.split("#")[0].rstrip("/"), "blob:", "data:")):
                complaints.append(f"asked another server: {request.url}")

        page.on("console", on_console)
        page.on("request", on_request)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
