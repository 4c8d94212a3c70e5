"""Who may talk to the page, and which files it may touch.

`Guard` stands before every route and every WebSocket:

1. Host must be this machine: its loopback names, or on a network an IP address, its own name, or the name that it was
   told. Another site's name that resolves to this address (DNS rebinding) is refused.
2. Writes and WebSockets come from this page: their Origin is the Host. Programs that have no Origin show the token as
   `Authorization: Bearer`, which no foreign page can make a browser send.
3. Where there is a token, `/api` wants it, as that header or as the cookie that `POST /api/session` gives for it.
4. Writes are JSON of at most `LARGEST_BODY`, whose numbers are finite and whose text is Unicode, so that whatever is
   saved can be sent again: there are no uploads.

Files: `within` is the only way from a name that came in to a path.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from robolearn.errors import SpecError, UnknownNameError
from robolearn.listening import is_loopback
from robolearn.web.settings import WebSettings

LARGEST_BODY = 1 << 20  # bytes
READS = ("GET", "HEAD")
SESSION = "/api/session"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; font-src 'self'; frame-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), gamepad=(self), xr-spatial-tracking=(self)",
    "cache-control": "no-cache",
}


class Refusal(Exception):
    """A request that is not answered. status: of HTTP; say: why, and what to do."""

    def __init__(self, status: int, say: str) -> None:
        super().__init__(say)
        self.status, self.say = status, say


def same_token(shown: str, token: str) -> bool:
    """Compared in a time that tells nothing of either, their lengths included."""
    digests = [hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (shown, token)]
    return hmac.compare_digest(*digests)


def cookie_name(settings: WebSettings) -> str:
    """Cookies know no ports: two pages of one machine need two names."""
    return f"robolearn-{settings.port}"


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app, self._settings = app, settings
        own = socket.gethostname().lower()
        self._names = {settings.host.strip("[]").lower(), own, f"{own}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check(scope, headers)
            if scope["type"] == "http" and scope["method"] not in READS:
                receive = _again(await _body(receive), receive)
        except Refusal as refusal:
            await _refuse(scope, send, refusal)
            return
        try:
            await self._app(scope, receive, send if scope["type"] == "websocket" else _with_headers(send))
        except asyncio.CancelledError:
            with suppress(RuntimeError):  # the answer has begun
                await _refuse(scope, send, Refusal(503, "the server is ending; what it has begun to write is finished"))

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if not self._is_this_machine(host):
            raise Refusal(421, f"{host or 'no host'} is not this server; open the address that `robolearn web` prints")
        writes = scope["type"] == "websocket" or scope["method"] not in READS
        token, shown = self._settings.token, headers.get("authorization", "").removeprefix("Bearer ").strip()
        bearer = token is not None and bool(shown) and same_token(shown, token)
        if writes and not bearer and not _is_origin(headers.get("origin", ""), host, scope["scheme"]):
            raise Refusal(403, "the request does not come from this page; programs send Authorization: Bearer TOKEN")
        path = scope["path"]
        if token is not None and path.startswith("/api/") and path != SESSION:
            cookie = _cookie(headers.get("cookie", ""), cookie_name(self._settings))
            if not (bearer or (cookie and same_token(cookie, token))):
                raise Refusal(401, "the token is missing; open the link that `robolearn web` prints")
        if writes and scope["type"] == "http":
            _check_body(headers)

    def _is_this_machine(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if is_loopback(name):
            return True
        if self._settings.on_loopback or not name:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True  # a name is needed to rebind one


def _is_origin(origin: str, host: str, scheme: str) -> bool:
    secure = scheme in ("https", "wss")
    return bool(host) and origin.lower() == f"{'https' if secure else 'http'}://{host.lower()}"


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _check_body(headers: dict[str, str]) -> None:
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > LARGEST_BODY:
        raise Refusal(413, f"the body has {length} bytes, expected at most {LARGEST_BODY}")
    has_body = length != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise Refusal(415, f"the body is {kind or 'of no kind'}, expected application/json; uploads are not taken")


async def _body(receive: Receive) -> bytes:
    """All of a body, also of one that did not say its length. Raises Refusal."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            raise Refusal(413, f"the body has more than {LARGEST_BODY} bytes")
    try:
        if body:
            json.dumps(json.loads(body), allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON of finite numbers and Unicode text: {error}") from error
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives the body that was read, and then goes on."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return messages.pop() if messages else await receive()

    return given


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in present]
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return send_with_headers


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.say[:120]})
        return
    body = json.dumps({"error": refusal.say}).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    send = _with_headers(send)
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def sayable(name: str) -> str:
    """A file's name as it can be sent: a disk knows names that are no Unicode text."""
    return name.encode(errors="replace").decode()


def within(roots: Sequence[Path], name: str) -> Path:
    """The path of `name`, relative to the first of `roots` that has it; links are followed and stay inside.

    Raises SpecError for what is no plain relative name, UnknownNameError for what no root has.
    """
    parts = name.split("/")
    if sayable(name) != name or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise SpecError(f"{name!r} is not the name of something below the data folders")
    for root in roots:
        base = root.resolve()
        try:
            path = base.joinpath(*parts).resolve()
            if path.is_relative_to(base) and path.exists():
                return path
        except (OSError, RuntimeError):  # too long a name, a ring of links
            continue
    raise UnknownNameError("dataset or run", name)
