"""The policy server for robots whose computer has no ROS: one policy a client, over TCP.

It listens on loopback; anywhere else a token is wanted, which is sent as it is: over a network that others share, go
through an SSH tunnel or a VPN. What comes is JSON and raw arrays of a bounded size (`protocol`).
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import socket
import threading
import time
from collections.abc import Callable

from robolearn.errors import RobolearnError, ServingError
from robolearn.listening import cannot_listen, unsafe
from robolearn.policies.policy import Policy
from robolearn.serving.chunks import checked
from robolearn.serving.protocol import SCHEME, VERSION, Message, observation_bytes, receive, send

MAX_CLIENTS = 8
MAX_CONNECTIONS = 32  # with those that have not said who they are
HELLO_S = 5.0  # for a client to say who it is
FRAME_S = 5.0  # for a frame that has begun, and for an answer to be taken
RETRY_S = 0.2  # after a connection that could not be taken, as without a free file descriptor
# A client that lost power is given up after 25 s; without these the system waits for two hours.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

logger = logging.getLogger(__name__)


class PolicyServer:
    """Listens as soon as it is made. `make` loads a policy for each of the clients that are there together, so that
    none meets another's seed; who comes later is given one that a client has left.

    Raises ServingError when the address cannot be used, or wants a token.
    """

    def __init__(self, name: str, make: Callable[[], Policy], host: str, port: int, token: str = "") -> None:
        self._name, self._make, self._token = name, make, token
        self._idle = [make()]  # the policies that no client has
        self.spec = self._idle[0].spec
        if not 0 <= port <= 65535:  # which getaddrinfo would take modulo 65536
            raise ServingError(f"port {port}; expected 0 to 65535 (0: any that is free)")
        try:
            family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            if problem := unsafe(str(place[0]), token or None):
                raise ServingError(problem)
            self._listener = socket.create_server(place[:2], family=family)
        except (OSError, OverflowError) as error:
            raise ServingError(cannot_listen(host, port, error)) from error
        self._clients: dict[socket.socket, threading.Thread] = {}
        self._admitted: set[socket.socket] = set()  # those of them that have shown the token
        self._lock = threading.Lock()
        self._closed = False

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()[:2]
        return f"{SCHEME}{f'[{host}]' if ':' in host else host}:{port}"

    def serve(self) -> None:
        """Take clients until `close` is called."""
        while not self._closed:
            try:
                connection, peer = self._listener.accept()
            except OSError as error:
                if not self._closed:
                    logger.warning("a client could not be taken: %s", error)
                    time.sleep(RETRY_S)
                continue
            thread = threading.Thread(target=self._attend, args=(connection, f"{peer[0]}:{peer[1]}"), daemon=True)
            with self._lock:
                if len(self._clients) >= MAX_CONNECTIONS:  # who does not say who it is keeps out nobody who does
                    oldest = next(client for client in self._clients if client not in self._admitted)
                    del self._clients[oldest]
                    with contextlib.suppress(OSError):
                        oldest.shutdown(socket.SHUT_RDWR)
                self._clients[connection] = thread
            thread.start()

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            clients = dict(self._clients)
        for connection, thread in clients.items():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(FRAME_S)

    def _attend(self, connection: socket.socket, peer: str) -> None:
        """One client, to its end."""
        try:
            with connection:
                self._talk(connection, peer)
        except (OSError, ServingError) as error:
            if not self._closed:
                logger.info("client %s: %s", peer, error)
        finally:
            with self._lock:
                self._clients.pop(connection, None)
                self._admitted.discard(connection)

    def _talk(self, connection: socket.socket, peer: str) -> None:
        connection.settimeout(FRAME_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        hello = receive(connection, 0, HELLO_S, HELLO_S)
        try:
            policy = self._admit(connection, hello)
        except Exception as error:  # whatever the loading of a policy raises
            reason = _in_words(error)
            send(connection, Message("refused", {"reason": reason}))
            raise ServingError(f"refused: {reason}") from error
        try:
            self._serve_policy(connection, policy, peer)
        finally:
            with self._lock:
                self._idle.append(policy)

    def _serve_policy(self, connection: socket.socket, policy: Policy, peer: str) -> None:
        """Answer a client until it hangs up, which is a ConnectionError."""
        send(connection, Message("welcome", {"version": VERSION, "policy": self._name, "spec": policy.spec.to_json()}))
        logger.info("client %s is served", peer)
        limit = observation_bytes(policy.spec.shown)
        while True:
            request = receive(connection, limit, None, FRAME_S)
            connection.settimeout(FRAME_S)
            send(connection, answer(policy, request))

    def _admit(self, connection: socket.socket, hello: Message) -> Policy:
        """The policy of a new client. Raises ServingError when it is not let in, and what loading the policy raises."""
        version, token = hello.fields.get("version"), str(hello.fields.get("token"))
        if hello.kind != "hello":
            raise ServingError(f"{hello.kind!r} came first, wanted 'hello'")
        if version != VERSION:
            raise ServingError(f"the client speaks version {version!r} of the protocol, this server {VERSION}")
        if self._token and not hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
            raise ServingError("the token is not the one of this server")
        with self._lock:
            if len(self._admitted) >= MAX_CLIENTS:
                raise ServingError(f"{MAX_CLIENTS} clients are served already")
            self._admitted.add(connection)
            idle = self._idle.pop() if self._idle else None
        policy = self._make() if idle is None else idle
        policy.reset(0)  # one that cannot be reset is not given to anybody else
        return policy


def _in_words(error: Exception) -> str:
    """One line; what was not raised on purpose says its kind."""
    words = " ".join(str(error).split())
    return words if isinstance(error, RobolearnError) else f"{type(error).__name__}: {words}"


def answer(policy: Policy, request: Message) -> Message:
    """What the policy says to a request. It may raise what it likes: the client is told, and its robot holds."""
    try:
        if request.kind == "reset":
            policy.reset(request.get("seed", int))
            return Message("done")
        if request.kind != "act":
            raise ServingError(f"{request.kind!r} came, wanted 'act' or 'reset'")
        stamp_ns = request.get("stamp_ns", int)
        missing = policy.spec.observation.keys() - request.arrays.keys()
        if missing:
            raise ServingError(f"the observation lacks {', '.join(sorted(missing))}")
        fields = {name: spec.check(name, request.arrays[name]) for name, spec in policy.spec.shown.items()}
        chunk = checked(policy.act(fields, stamp_ns), policy.spec.action, stamp_ns)
    except Exception as error:  # noqa: BLE001  whatever a policy raises
        return Message("failed", {"reason": _in_words(error)})
    stamps = {name: int(getattr(chunk, name)) for name in ("stamp_ns", "start_ns", "period_ns")}
    return Message("chunk", {**stamps, "source": int(chunk.source)}, {"actions": chunk.actions})
