"""Strangers at the door: other hosts, other origins, no token, paths that lead out, bodies that are no JSON."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from browsing import Serve, Visit
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import RobolearnError, SpecError, UnknownNameError
from robolearn.web import server
from robolearn.web.security import HEADERS, LARGEST_BODY, same_token, within
from robolearn.web.settings import WebSettings

TOKEN = "a-token-of-some-length"


class Caller:
    """Talks HTTP without the manners of a library."""

    def __init__(self, address: str) -> None:
        self.host = urlsplit(address).netloc
        self.origin = f"http://{self.host}"

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.host, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        assert {name: response.headers[name] for name in HEADERS} == HEADERS
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text[:1] == b"{" else text


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Caller, Caller]]:
    """Of a page on loopback without a token, and of one on every interface with one."""
    folder = tmp_path_factory.mktemp("data")
    common: dict[str, Any] = {"port": 0, "data_roots": (folder,), "runs_root": folder}
    with (
        server.in_thread(WebSettings(**common)) as here,
        server.in_thread(WebSettings("0.0.0.0", token=TOKEN, **common)) as there,
    ):
        yield Caller(f"http://127.0.0.1:{here}"), Caller(f"http://127.0.0.1:{there}")


def login(call: Caller, token: str, **headers: str) -> tuple[int, Any]:
    body = json.dumps({"token": token}).encode()
    return call("POST", "/api/session", body, **{"Content_Type": "application/json", **headers})


def test_who_says_nothing_or_half_a_request_is_hung_up_on_and_an_open_page_is_not(
    callers: tuple[Caller, Caller], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here, _ = callers
    host, _, port = here.host.partition(":")
    get = f"GET /api/live/graph HTTP/1.1\r\nHost: {here.host}\r\n".encode()
    post = f"POST /api/session HTTP/1.1\r\nHost: {here.host}\r\nOrigin: {here.origin}\r\nContent-Length: 9\r\n".encode()
    half = post + b"Content-Type: application/json\r\n\r\n{"
    with closing(http.client.HTTPConnection(here.host, timeout=20)) as page, ExitStack() as strangers:
        page.request("GET", "/api/live/graph")
        assert page.getresponse().read() == b'{"graph":false}'
        monkeypatch.setattr(server, "REQUEST_S", 0.5)
        held = len(os.listdir("/proc/self/fd"))
        clients = []
        for words in (b"", get, half, get + b"\r\n") * 5:
            clients.append(strangers.enter_context(socket.create_connection((host, int(port)), 20)))
            clients[-1].sendall(words)
        for client in clients[3::4]:  # half of a second request
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
            client.sendall(get)
        for client in clients:
            assert all(b"HTTP" not in words for words in iter(partial(client.recv, 4096), b""))  # until hung up on
        strangers.close()
        assert len(os.listdir("/proc/self/fd")) <= held
        page.request("GET", "/api/live/graph")
        assert page.getresponse().status == 200
    assert not caplog.records


def test_no_door_to_other_machines_without_a_token() -> None:
    for host in ("0.0.0.0", "192.168.1.20", "::", "robot.example"):
        with pytest.raises(SpecError, match="token"):
            WebSettings(host)
        with pytest.raises(SpecError, match="16"):
            WebSettings(host, token="short")
    assert TOKEN not in repr(WebSettings("0.0.0.0", token=TOKEN))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80", "[::1", "@"]
)
def test_names_that_are_bound_to_this_address_are_refused(callers: tuple[Caller, Caller], host: str) -> None:
    for call in callers:
        assert call("GET", "/", Host=host)[0] == 421
        assert login(call, TOKEN, Host=host, Origin=f"http://{host}")[0] == 421


def test_loopback_answers_to_its_own_names_alone(callers: tuple[Caller, Caller]) -> None:
    here, there = callers
    port = here.host.rpartition(":")[2]
    assert here("GET", "/api/session", Host=f"localhost:{port}")[0] == 200
    assert here("GET", "/api/session", Host="192.168.1.20")[0] == 421
    assert there("GET", "/api/session", Host="192.168.1.20")[0] == 200


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://{host}", "http://{host}.evil.example"]
)
def test_writes_come_from_this_page(callers: tuple[Caller, Caller], origin: str | None) -> None:
    for call in callers:
        headers = {} if origin is None else {"Origin": origin.format(host=call.host)}
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert call(method, "/api/session", b"{}", Content_Type="application/json", **headers)[0] == 403
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
        connection = http.client.HTTPConnection(call.host, timeout=20)
        names = {k.replace("_", "-"): v for k, v in {**upgrade, **headers}.items()}
        connection.request("GET", "/api/live/state", headers={**names, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert connection.getresponse().status == 403
        connection.close()


def test_the_token_opens_once_and_a_cookie_keeps_it_open(callers: tuple[Caller, Caller]) -> None:
    _, call = callers
    assert call("GET", "/")[0] == 200  # the page itself is no secret
    for method in ("GET", "POST", "DELETE"):
        for shown in ({}, {"Cookie": "robolearn-0=wrong"}, {"Authorization": "Bearer wrong"}, {"Cookie": "\xff=;;"}):
            assert call(method, "/api/live/graph", Origin=call.origin, **shown)[0] == 401
    assert login(call, "wrong", Origin=call.origin)[0] == 401
    connection = http.client.HTTPConnection(call.host, timeout=20)
    body = json.dumps({"token": TOKEN})
    connection.request("POST", "/api/session", body, {"Content-Type": "application/json", "Origin": call.origin})
    response = connection.getresponse()
    cookie = response.headers["set-cookie"]
    connection.close()
    assert response.status == 200
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert call("GET", "/api/live/graph", Cookie=cookie.split(";")[0])[0] == 200
    assert call("GET", "/api/live/graph", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert call("POST", "/api/live/stop", Authorization=f"Bearer {TOKEN}")[0] in (404, 405)  # there is no graph
    assert call("GET", "/api/session", Cookie=cookie.split(";")[0])[1] == {"signed_in": True}


def test_uploads_are_refused(callers: tuple[Caller, Caller]) -> None:
    for call in callers:
        for kind in ("multipart/form-data; boundary=x", "application/octet-stream", "text/plain", ""):
            status, answer = call("POST", "/api/session", b"--x\r\n", Origin=call.origin, Content_Type=kind)
            assert status == 415
            assert "uploads" in answer["error"]
        big = b" " * (LARGEST_BODY + 1)
        json_kind = {"Origin": call.origin, "Content_Type": "application/json"}
        connection = http.client.HTTPConnection(call.host, timeout=20)
        connection.putrequest("POST", "/api/session")
        for name, value in {**json_kind, "Content-Length": str(len(big))}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()
        chunked = http.client.HTTPConnection(call.host, timeout=20)
        pieces = (big[:65536] for _ in range(17))
        headers = {name.replace("_", "-"): value for name, value in json_kind.items()}
        try:
            chunked.request(
                "POST", "/api/session", pieces, {**headers, "Transfer-Encoding": "chunked"}, encode_chunked=True
            )
            assert chunked.getresponse().status == 413
        except (ConnectionError, http.client.HTTPException):
            pass  # hung up on, before all of it was sent
        chunked.close()


@pytest.mark.parametrize("value", ["NaN", "1e999", "-Infinity", r'"\ud800"', r'{"\udcff": 1}', "[" * 5000, "}"])
def test_what_could_be_saved_but_not_sent_again_is_refused(callers: tuple[Caller, Caller], value: str) -> None:
    here, _ = callers
    status, answer = here(
        "POST", "/api/session", f'{{"token": {value}}}'.encode(), Origin=here.origin, Content_Type="application/json"
    )
    assert status == 400
    assert "the body is no JSON of finite numbers and Unicode text" in answer["error"]


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "%2e%2e/secret",
        "..%2fsecret",
        "%252e%252e%252fsecret",
        "..\\secret",
        "/etc/passwd",
        "%00",
        "a/../../b",
    ],
)
def test_no_file_beside_the_page_is_served(callers: tuple[Caller, Caller], path: str) -> None:
    here, _ = callers
    for prefix in ("/", "/assets/", "/api/datasets/"):
        status, answer = here("GET", prefix + path)
        assert status in (400, 404, 405), answer
    assert here("GET", f"/{quote('../app.py')}")[0] == 404


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    inside, outside = tmp_path / "data", tmp_path / "secret"
    (inside / "demos.zarr").mkdir(parents=True)
    (inside / "deep").mkdir()
    outside.mkdir()
    (outside / "key").write_text("secret")
    (inside / "link").symlink_to(outside)
    (inside / "deep" / "link").symlink_to(outside / "key")
    (inside / "ring").symlink_to(inside / "ring")
    (inside / "near").symlink_to(inside / "demos.zarr")
    return inside, outside


def test_names_lead_nowhere_else(roots: tuple[Path, Path]) -> None:
    inside, _ = roots
    assert within([inside], "demos.zarr") == inside / "demos.zarr"
    assert within([inside / "none", inside], "near") == inside / "demos.zarr"
    for name in (
        "..", "../secret/key", "demos.zarr/../../secret/key", "/etc/passwd", "", ".", "a//b", "link/key", "link",
        "deep/link", "ring", "demos.zarr\0", "..\\secret", "%2e%2e/secret", "x" * 5000, "nothing",
    ):  # fmt: skip
        with pytest.raises(RobolearnError):
            within([inside], name)
    with pytest.raises(UnknownNameError, match=r"unknown dataset or run 'nothing'$"):  # though others are known
        within([inside], "nothing")


def test_a_dataset_or_a_file_is_no_data_folder(roots: tuple[Path, Path]) -> None:
    """Its page would be empty."""
    inside, _ = roots
    (inside / "demos.zarr" / "zarr.json").write_text("{}")
    (inside / "notes.txt").write_text("")
    for name, what in (("demos.zarr", "dataset"), ("notes.txt", "file")):
        for folders in ({"data_roots": (inside / name,)}, {"runs_root": inside / name}):
            with pytest.raises(SpecError, match=rf"{name} is a {what}; name the folder that it lies in: {inside}$"):
                WebSettings(**folders)


@given(
    st.lists(st.sampled_from(["..", ".", "", "link", "deep", "key", "demos.zarr", "ring", "~", "\0", "x"]), max_size=6)
)
def test_whatever_is_named_lies_inside(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    base = tmp_path_factory.getbasetemp() / "confined"
    if not base.exists():
        (base / "data" / "deep").mkdir(parents=True)
        (base / "data" / "demos.zarr").mkdir()
        (base / "key").write_text("secret")
        (base / "data" / "link").symlink_to(base)
        (base / "data" / "ring").symlink_to(base / "data" / "ring")
    root = (base / "data").resolve()
    try:
        path = within([root], "/".join(parts))
    except RobolearnError:
        return
    assert path == root or path.is_relative_to(root)


@given(st.text(), st.text())
def test_tokens_are_equal_when_they_are(one: str, other: str) -> None:
    assert same_token(one, other) == (one == other)
    assert same_token(one, one)


def test_a_browser_signs_in_by_the_link_and_stays(serve: Serve, visit: Visit) -> None:
    address = serve(host="0.0.0.0", token=TOKEN)
    page = visit(address, expect="401")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("not the token").wait_for()
    page.goto(f"{address}/#token={TOKEN}")
    page.reload()
    page.get_by_role("heading", name="Live").wait_for()
    assert TOKEN not in page.url
    assert page.evaluate("document.cookie") == ""
    page.reload()
    page.get_by_role("heading", name="Live").wait_for()
