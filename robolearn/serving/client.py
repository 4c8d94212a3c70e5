"""A policy that acts in another process or on another computer, and is used like one of this process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from robolearn.errors import ServingError, SpecError
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.policy import Policy
from robolearn.serving.protocol import (
    VERSION,
    Message,
    receive,
    send,
    split_address,
)
from robolearn.specs import InterfaceSpec
from robolearn.types import ActionChunk, ActionSource, Observation

TOKEN_VARIABLE = "ROBOLEARN_POLICY_TOKEN"
TIMEOUT_S = 1.0  # for an answer; a robot that waits for one holds anyway
LOADING_S = 30.0  # for the server to load the policy of a new client, and for that to answer first: it may compile
MAX_ACTIONS = 4096  # of a chunk
FASTEST_HZ = 1e6


def open_policy(place: str, device: str = "cpu") -> Policy:
    """The policy of a checkpoint's path, or of a server's `tcp://host:port`.

    Raises CheckpointError or ServingError.
    """
    if "://" in place:
        return RemotePolicy(place, os.environ.get(TOKEN_VARIABLE, ""))
    read_config(Path(place))  # what is no checkpoint is told at once
    from robolearn.policies.checkpoint import load_policy  # brings torch, which a client does without

    return load_policy(Path(place), device)


class RemotePolicy:
    """The policy of a server, found at once. Raises ServingError when there is none.

    Whatever goes wrong later is a ServingError that says what: there is no chunk, so the robot holds, and the next
    call begins by connecting again.
    """

    def __init__(self, address: str, token: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._connection: socket.socket | None = None
        self.address, self._token, self._timeout_s = address, token, timeout_s
        self._place = split_address(address)
        self._seed = 0
        self._patience_s = LOADING_S  # until this connection has brought a chunk
        self.name, self.spec = self._connect()

    def reset(self, seed: int = 0) -> None:
        """Forget the episode."""
        self._seed = seed
        self._ask(Message("reset", {"seed": int(seed)}), "done")

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """Actions (K, A) from the observation captured at `stamp_ns`. Raises ServingError, SpecError."""
        fields = self.spec.shown
        missing = fields.keys() - observation.keys()
        if missing:
            raise SpecError(f"the observation lacks {', '.join(sorted(missing))}, which {self.address} wants")
        arrays = {name: spec.check(name, observation[name]) for name, spec in fields.items()}
        reply = self._ask(Message("act", {"stamp_ns": int(stamp_ns)}, arrays), "chunk")
        self._patience_s = self._timeout_s
        actions = reply.arrays.get("actions")
        start_ns, period_ns = reply.get("start_ns", int), reply.get("period_ns", int)
        if (
            actions is None
            or reply.get("stamp_ns", int) != stamp_ns
            or reply.fields.get("source") not in list(ActionSource)
        ):
            raise self._broken("answered with a chunk of another observation")
        due_ns = round(1e9 / self.spec.control_hz)
        if abs(period_ns - due_ns) > due_ns // 100 or start_ns > stamp_ns + due_ns:
            raise self._broken(
                f"answered with actions every {period_ns * 1e-9:g} s that begin {(start_ns - stamp_ns) * 1e-9:g} s "
                f"after the observation, wanted every {due_ns * 1e-9:g} s and from then on"
            )
        return ActionChunk(actions, stamp_ns, start_ns, period_ns, ActionSource(reply.fields["source"]))

    def close(self) -> None:
        """Hang up, as happens by itself when nobody has the policy any more. The next call connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self.close()

    def _broken(self, what: str) -> ServingError:
        self.close()
        return ServingError(f"policy server {self.address}: {what}")

    def _connect(self) -> tuple[str, InterfaceSpec]:
        try:
            self._connection = socket.create_connection(self._place, self._timeout_s)
            self._patience_s = LOADING_S
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            send(self._connection, Message("hello", {"version": VERSION, "token": self._token}))
            welcome = receive(self._connection, 0, LOADING_S, self._timeout_s)
            if welcome.kind == "refused":
                raise ServingError(f"refuses: {welcome.get('reason', str)}")
            if welcome.kind != "welcome":
                raise ServingError(f"said {welcome.kind!r}, wanted 'welcome'")
            spec = InterfaceSpec.from_json(welcome.get("spec", dict))
            if not 0 < spec.control_hz <= FASTEST_HZ or len(spec.action.shape) != 1 or spec.observation_steps < 1:
                raise ValueError(
                    f"actions of shape {spec.action.shape} at {spec.control_hz} Hz from {spec.observation_steps} ticks"
                )
            return welcome.get("policy", str), spec
        except ServingError as error:
            raise self._broken(str(error)) from error
        except OSError as error:
            raise self._broken(f"not reached ({error}); start one with: robolearn serve CHECKPOINT") from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SpecError) as error:
            raise self._broken(f"its spec cannot be read ({error!r})") from error

    def _ask(self, request: Message, wanted: str) -> Message:
        if self._connection is None:
            self._again()
        connection = self._connection
        assert connection is not None
        try:
            connection.settimeout(self._timeout_s)
            send(connection, request)
            limit = MAX_ACTIONS * 8 * self.spec.action.shape[0]
            reply = receive(connection, limit, self._patience_s, self._timeout_s)
        except TimeoutError as error:
            raise self._broken(f"no answer within {self._patience_s:g} s; see its log, and the network") from error
        except OSError as error:
            raise self._broken(f"gone ({error})") from error
        except ServingError as error:
            raise self._broken(str(error)) from error
        if reply.kind == "failed":
            raise ServingError(f"policy server {self.address}: {reply.get('reason', str)}")
        if reply.kind != wanted:
            raise self._broken(f"said {reply.kind!r}, wanted {wanted!r}")
        return reply

    def _again(self) -> None:
        """Connect anew, to the same kind of policy, in the episode that was begun."""
        name, spec = self._connect()
        if spec != self.spec:
            raise self._broken(f"serves {name!r} now, which has another spec than {self.name!r} had")
        self.name = name
        self._ask(Message("reset", {"seed": self._seed}), "done")
