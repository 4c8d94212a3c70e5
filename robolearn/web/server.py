"""Serving the application: uvicorn in the foreground, or in a thread beside a node that spins."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from robolearn.errors import TransportError
from robolearn.listening import cannot_listen
from robolearn.web.app import create_app
from robolearn.web.live_source import LiveSource
from robolearn.web.settings import WebSettings

START_TIMEOUT_S = 30.0
GRACE_S = 2  # for requests that are being answered, when the server is asked to end
REQUEST_S = 20.0  # for a client to say a whole request, from when it connects or begins with it


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 with a client that is hung up on when it says nothing, or half of a request, and holds a file descriptor
    meanwhile. Uvicorn itself limits how long a connection may idle after a response alone."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        super().connection_lost(exc)

    def _watch(self) -> None:
        switched = self.transport.get_protocol() is not self  # to a WebSocket
        if switched or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forgive()
        elif self._due is None:
            self._due = self.loop.call_later(REQUEST_S, self.transport.close)

    def _forgive(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


def make_server(settings: WebSettings, source: LiveSource | None = None) -> uvicorn.Server:
    """Raises TransportError when the port is taken."""
    try:
        with socket.create_server((settings.host, settings.port), family=_family(settings.host)):
            pass
    except OSError as error:
        raise TransportError(f"web: {cannot_listen(settings.host, settings.port, error)}") from error
    config = uvicorn.Config(
        create_app(settings, source),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        http=ImpatientProtocol,
        ws="websockets-sansio",
        ws_max_size=1 << 16,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    return uvicorn.Server(config)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextmanager
def in_thread(settings: WebSettings, source: LiveSource | None = None) -> Iterator[int]:
    """Serve while the block runs; gives the port."""
    server = make_server(settings, source)
    thread = threading.Thread(target=server.run, name="web", daemon=True)
    thread.start()
    end_s = time.monotonic() + START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end_s:
            raise TransportError(f"web: the server did not start on {settings.host} port {settings.port}")
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
