"""A reward model behind HTTP, so that it runs apart from who labels or learns, as on the computer with the GPU.

It listens on loopback; anywhere else a token is wanted, which is sent as it is: over a network that others share, go
through an SSH tunnel or a VPN. One request is scored at a time. What comes is JSON of a bounded size
(`score_protocol`); a browser's page can send nothing, for it may not say that it sends JSON, nor name another host.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor

from robolearn.errors import RobolearnError, SpecError
from robolearn.listening import cannot_listen, unsafe
from robolearn.rewards.hop import HopReward, hop
from robolearn.rewards.reward_model import Episodes, RewardModel, cameras_of, lasting_settings, trained_on
from robolearn.rewards.score_protocol import (
    VERSION,
    Pictures,
    ScoreError,
    episodes_from_json,
    numbers_to_json,
    output_to_json,
)

MAX_BODY_BYTES = 256 << 20
MAX_REQUESTS = 8  # that are read or wait at once
MAX_SILENT = 32  # connections that have not asked for anything yet
IDLE_S = 20.0  # for a client to say on
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")

logger = logging.getLogger(__name__)


class _Listener(ThreadingHTTPServer):
    """Takes connections, each in a thread. One more than MAX_SILENT of which none has asked yet takes the place of the
    oldest: who says a letter now and then, without a token, keeps nobody out."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, place: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._silent: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        super().__init__(place, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._silent[request] = None
            oldest = next(iter(self._silent)) if len(self._silent) > MAX_SILENT else None
            if oldest is not None:
                del self._silent[oldest]
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def has_asked(self, request: socket.socket) -> None:
        """It has said what it wants, and is answered or refused."""
        with self._lock:
            self._silent.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        self.has_asked(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.info("%s went away: %s", client_address[0], sys.exception())


class ScoreServer:
    """Listens as soon as it is made. Raises ScoreError when the address cannot be used, or wants a token."""

    def __init__(self, model: RewardModel, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        self._model, self._token = model, token
        self._scoring, self._room = threading.Lock(), threading.BoundedSemaphore(MAX_REQUESTS)
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = IDLE_S

            def do_GET(self) -> None:
                server._answer(self, {"/v1/model": lambda body: server.about()}, None)

            def do_POST(self) -> None:
                server._answer(self, {"/v1/score": server._score, "/v1/hops": server._hops}, MAX_BODY_BYTES)

            def log_message(self, format: str, *args: object) -> None:
                logger.info("%s %s", self.address_string(), format % args)

        if not 0 <= port <= 65535:  # which getaddrinfo would take modulo 65536
            raise ScoreError(f"port {port}; expected 0 to 65535 (0: any that is free)")
        try:
            family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            if problem := unsafe(str(place[0]), token or None):
                raise ScoreError(problem)
            kind = type("Listener", (_Listener,), {"address_family": family})
            self._http: _Listener = kind((str(place[0]), int(place[1])), Handler)
        except (OSError, OverflowError) as error:
            raise ScoreError(cannot_listen(host, port, error)) from error

    @property
    def address(self) -> str:
        host, port = self._http.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}"

    def serve(self) -> None:
        """Answer until `close` is called."""
        self._http.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def about(self) -> dict[str, Any]:
        """What the model is."""
        model, config = self._model, getattr(self._model, "config", None)
        return {
            "protocol": VERSION,
            "model": model.id,
            "version": model.version,
            "kind": model.kind,
            "causal": model.causal,
            "cameras": list(cameras_of(model) or ("front",)),
            "stages": list(getattr(config, "stages", ())),
            "settings": None if config is None else lasting_settings(config),
            "train_episodes": sorted(trained_on(model)),
        }

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        places: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]],
        max_bytes: int | None,
    ) -> None:
        self._http.has_asked(request.connection)
        if not self._room.acquire(blocking=False):
            _send(request, 503, {"error": f"{MAX_REQUESTS} requests are at work already; try again"})
            return
        try:
            status, problem = self._refusal(request, max_bytes)
            if problem:
                _send(request, status, {"error": problem})
            elif request.path not in places:
                _send(request, 404, {"error": f"{request.path} is not here; there is {', '.join(places)}"})
            else:
                _send(request, *self._answered(places[request.path], _body(request) if max_bytes else {}))
        except (OSError, ValueError) as error:  # the client went away, or sent what is no JSON
            logger.info("%s: %s", request.address_string(), error)
            if isinstance(error, ValueError):
                _send(
                    request,
                    400,
                    {"error": f"the body of the request is no JSON object: {' '.join(str(error).split())}"},
                )
        finally:
            self._room.release()

    def _refusal(self, request: BaseHTTPRequestHandler, max_bytes: int | None) -> tuple[int, str]:
        """Status and reason of not reading on; no reason where all is well."""
        headers = request.headers
        shown = headers.get("Authorization", "").removeprefix("Bearer ")
        if self._token and not hmac.compare_digest(shown.encode("utf-8", "replace"), self._token.encode()):
            return 401, "the token is not the one of this server"
        if not self._token and headers.get("Host", "").rpartition(":")[0] not in LOCAL_NAMES:
            return 403, f"host {headers.get('Host', '')!r} is not this computer; a server without a token has no other"
        if max_bytes is None:
            return 200, ""
        if headers.get_content_type() != "application/json":
            return 415, f"{headers.get_content_type()} came, wanted application/json"
        length = headers.get("Content-Length", "")
        if not length.isdecimal():
            return 411, "the request does not say its length"
        if int(length) > max_bytes:
            return 413, f"{length} bytes came, wanted at most {max_bytes}; send fewer episodes at once"
        return 200, ""

    def _answered(
        self, work: Callable[[Mapping[str, Any]], dict[str, Any]], body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        try:
            with self._scoring:
                return 200, work(body)
        except RobolearnError as error:
            return 400, {"error": str(error)}
        except Exception as error:  # noqa: BLE001  whatever a model raises
            return 422, {"error": f"{self._model.id}: {type(error).__name__}: {' '.join(str(error).split())}"}

    def _score(self, body: Mapping[str, Any]) -> dict[str, Any]:
        rows = [output_to_json(self._model.score(one)) for one in episodes_from_json(body)]
        return {"model": self._model.id, "version": self._model.version, "episodes": rows}

    def _hops(self, body: Mapping[str, Any]) -> dict[str, Any]:
        pairs = body.get("pairs")
        if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, dict) for pair in pairs):
            raise SpecError("a request has no pairs; wanted a list of {text, before, after}")
        pictures = Pictures()
        before, after = (
            torch.stack([torch.from_numpy(pictures.decode(pair.get(name))) for pair in pairs])
            for name in ("before", "after")
        )
        told = hops_of(self._model, before, after, [str(pair.get("text", "")) for pair in pairs])
        return {"model": self._model.id, "version": self._model.version, "hops": numbers_to_json(told)}


def hops_of(model: RewardModel, before: Tensor, after: Tensor, text: list[str]) -> Tensor:
    """Hops (N,) between images (N, H, W, 3): by the model's own net, or by its progress of single pictures.

    Raises SpecError for a model whose values are no progress, or that looks at several cameras.
    """
    if isinstance(model, HopReward):
        with torch.no_grad():
            return model.model.hops(before, after, text)
    if model.kind == "reward":
        raise SpecError(f"{model.id} says reward, not how far a task has come; serve a model of progress or success")
    cameras = cameras_of(model) or ("front",)
    if len(cameras) > 1:
        raise SpecError(f"{model.id} looks at {', '.join(cameras)}; a hop is told of one camera: serve a model of one")
    values = [model.score(Episodes({cameras[0]: images[:, None]}, text)).value[:, 0] for images in (before, after)]
    return hop(values[0].clamp(0.0, 1.0), values[1].clamp(0.0, 1.0))


def _body(request: BaseHTTPRequestHandler) -> dict[str, Any]:
    """Raises ValueError for what is no JSON object, OSError when it does not come."""
    try:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(body, dict):
        raise ValueError(f"{type(body).__name__} came")
    return body


def _send(request: BaseHTTPRequestHandler, status: int, answer: Mapping[str, Any]) -> None:
    data = json.dumps(answer).encode()
    try:
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
    except OSError as error:
        logger.info("%s went away: %s", request.address_string(), error)
