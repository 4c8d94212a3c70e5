"""A policy in another process: same chunks, held when it is gone, closed to strangers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import serve_in_process

from robolearn.errors import CheckpointError, ServingError, SpecError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import load_policy, save_policy
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.serving import protocol
from robolearn.serving.client import RemotePolicy, open_policy
from robolearn.serving.inference import Inference
from robolearn.serving.server import KEEPALIVE, MAX_CLIENTS, MAX_CONNECTIONS, RETRY_S, PolicyServer
from robolearn.serving.shelf import PolicyShelf
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec
from robolearn.types import ActionChunk, ActionSource, Observation

ROBOT = RobotSpec("toy", ("pan", "grip"), (-1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_top": image_spec(8, 8)}, ROBOT.action_spec, 20.0)
NARROW = FieldStatistics((0.1,) * 4, (1 / 3,) * 4, (-1.0,) * 4, (1.0,) * 4)
SEEN: Observation = {
    "proprio": np.array([0.5, 0.25, 0.0, 0.0], np.float32),
    "image_top": np.arange(192, dtype=np.uint8).reshape(8, 8, 3),
    "not_asked_for": np.zeros(1000),
}


class Mirror:
    """Answers with what it sees and its seed."""

    def __init__(self, spec: InterfaceSpec = SPEC) -> None:
        self.spec = spec
        self.seed = -1

    def reset(self, seed: int = 0) -> None:
        self.seed = seed

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        if self.seed == 666:
            raise RuntimeError("out of\nmemory")
        assert set(observation) == set(self.spec.observation)
        actions = np.stack([observation["proprio"][:2], [self.seed / 100, observation["image_top"][7, 7, 2] / 1000]])
        return ActionChunk(actions.astype(np.float32), stamp_ns, stamp_ns + 1, 50_000_000, ActionSource.SCRIPT)


@pytest.fixture
def serve() -> Iterator[Callable[..., PolicyServer]]:
    servers: list[tuple[PolicyServer, threading.Thread]] = []

    def start(make: Callable[[], Any] = Mirror, port: int = 0, token: str = "") -> PolicyServer:
        server = PolicyServer("mirror", make, "127.0.0.1", port, token)
        servers.append((server, threading.Thread(target=server.serve)))
        servers[-1][1].start()
        return server

    yield start
    for server, thread in servers:
        server.close()
        thread.join()


@pytest.fixture
def remote() -> Iterator[Callable[..., RemotePolicy]]:
    policies: list[RemotePolicy] = []

    def connect(address: str, token: str = "") -> RemotePolicy:
        policies.append(RemotePolicy(address, token))
        return policies[-1]

    yield connect
    for policy in policies:
        policy.close()


Serve = Callable[..., PolicyServer]
Remote = Callable[..., RemotePolicy]


def test_a_remote_policy_is_a_policy(serve: Serve, remote: Remote) -> None:
    policy = remote(serve().address)
    assert policy.spec == SPEC
    policy.reset(7)
    chunk = policy.act(SEEN, 123)
    np.testing.assert_allclose(chunk.actions, [[0.5, 0.25], [0.07, 0.191]])
    assert (chunk.stamp_ns, chunk.start_ns, chunk.period_ns) == (123, 124, 50_000_000)
    assert chunk.source is ActionSource.SCRIPT
    policy.close()
    assert policy.act(SEEN, 124).actions[1, 0] == pytest.approx(0.07)  # connected again, in the same episode


def test_clients_do_not_meet(serve: Serve, remote: Remote) -> None:
    address = serve().address
    one, other = remote(address), remote(address)
    one.reset(1)
    other.reset(2)
    assert one.act(SEEN, 1).actions[1, 0] == pytest.approx(0.01)
    assert other.act(SEEN, 1).actions[1, 0] == pytest.approx(0.02)
    rest = [remote(address) for _ in range(MAX_CLIENTS - 2)]
    with pytest.raises(ServingError, match="8 clients are served already"):
        remote(address)
    assert len(rest) == MAX_CLIENTS - 2


def test_a_policy_is_loaded_once_and_goes_from_client_to_client(serve: Serve, remote: Remote) -> None:
    made: list[Mirror] = []

    def make() -> Mirror:
        made.append(Mirror())
        return made[-1]

    server = serve(make)
    policy = remote(server.address)
    for seed in (1, 2, 3):
        policy.reset(seed)
        policy.close()
        while not server._idle:  # until the server has seen that
            time.sleep(0.01)
        assert policy.act(SEEN, 1).actions[1, 0] == pytest.approx(seed / 100)
    assert len(made) == 1
    remote(server.address).reset(4)  # while the first one is there
    assert [each.seed for each in made] == [3, 4]


def test_strangers_take_no_clients_place_and_lost_ones_are_given_up(serve: Serve, remote: Remote) -> None:
    server = serve(token="a secret of twenty")
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 4):
            stack.enter_context(socket.create_connection(protocol.split_address(server.address)))
        policy = remote(server.address, "a secret of twenty")
        policy.reset(1)
        assert policy.act(SEEN, 1).stamp_ns == 1
    (taken,) = server._admitted
    waits = [taken.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEPALIVE]
    assert waits == list(KEEPALIVE.values())


def test_a_connection_that_cannot_be_taken_ends_no_server(serve: Serve, remote: Remote) -> None:
    server = serve()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as waiting:
        os.close(lowest := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))  # none is left
        try:
            waiting.connect(protocol.split_address(server.address))
            time.sleep(1.5 * RETRY_S)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert remote(server.address).spec == SPEC


def test_what_the_policy_raises_is_told_and_not_the_end(serve: Serve, remote: Remote) -> None:
    policy = remote(serve().address)
    policy.reset(666)
    with pytest.raises(ServingError, match=r"tcp://127.*: RuntimeError: out of memory$"):
        policy.act(SEEN, 1)
    policy.reset(3)
    assert policy.act(SEEN, 2).stamp_ns == 2
    with pytest.raises(SpecError, match="image_top has shape"):
        policy.act({**SEEN, "image_top": np.zeros((9, 9, 3), np.uint8)}, 3)
    with pytest.raises(SpecError, match="lacks image_top"):
        policy.act({"proprio": SEEN["proprio"]}, 4)


def test_only_the_first_answer_of_a_policy_may_take_long(serve: Serve) -> None:
    class Slow(Mirror):
        pause_s = 0.5  # at first, as one that compiles

        def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
            time.sleep(self.pause_s)
            self.pause_s = 0.5 if stamp_ns == 2 else 0.0
            return super().act(observation, stamp_ns)

    policy = RemotePolicy(serve(Slow).address, timeout_s=0.25)
    with contextlib.closing(policy):
        assert [policy.act(SEEN, stamp_ns).stamp_ns for stamp_ns in (1, 2)] == [1, 2]
        with pytest.raises(ServingError, match=r"no answer within 0\.25 s; see its log, and the network"):
            policy.act(SEEN, 3)
        assert policy.act(SEEN, 4).stamp_ns == 4  # of a new connection's policy, which is slow at first again


@pytest.mark.parametrize(("start_ns", "period_ns"), [(10**12, 50_000_000), (0, 10**12), (0, 20_000_000)])
def test_actions_of_another_time_or_rate_are_refused(
    serve: Serve, remote: Remote, start_ns: int, period_ns: int
) -> None:
    class Late(Mirror):
        def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
            return ActionChunk(np.zeros((2, 2), np.float32), stamp_ns, stamp_ns + start_ns, period_ns)

    policy = remote(serve(Late).address)
    policy.reset()
    with pytest.raises(ServingError, match=r"wanted every 0\.05 s and from then on"):
        policy.act(SEEN, 10**9)


def test_a_server_that_comes_back_with_another_policy_is_refused(serve: Serve, remote: Remote) -> None:
    server = serve()
    policy = remote(server.address)
    _, port = protocol.split_address(server.address)
    server.close()
    with pytest.raises(ServingError, match="gone"):
        policy.act(SEEN, 1)
    with pytest.raises(ServingError, match="not reached"):
        policy.act(SEEN, 2)
    slower = InterfaceSpec(SPEC.observation, SPEC.action, 10.0)
    serve(lambda: Mirror(slower), port)
    with pytest.raises(ServingError, match="another spec"):
        policy.act(SEEN, 3)


@pytest.mark.parametrize("rate_hz", [0.0, -20.0, float("nan"), float("inf")])
def test_a_policy_of_no_rate_is_refused(serve: Serve, remote: Remote, rate_hz: float) -> None:
    spec = InterfaceSpec(SPEC.observation, SPEC.action, rate_hz)
    with pytest.raises(ServingError, match="its spec cannot be read"):
        remote(serve(lambda: Mirror(spec)).address)


def welcome(**changed: Any) -> bytes:
    """The welcome frame of a server whose spec is in parts another one's."""
    spec = {**SPEC.to_json(), **changed}
    header = json.dumps({"kind": "welcome", "policy": "x", "spec": spec}).encode()
    return protocol.PREFIX.pack(b"RLPS", len(header), 0) + header


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n", "b'HTTP' came, wanted a frame"),
        (welcome(action={"shape": [], "names": ["a"]}), "its spec cannot be read"),
        (welcome(action={"shape": [2], "names": ["a"]}), "its spec cannot be read"),
        (welcome(observation_steps=0), "its spec cannot be read"),
        (welcome(control_hz=10**400), "its spec cannot be read"),
    ],
)
def test_a_server_of_something_else_is_named(said: bytes, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(said)
                connection.recv(4096)

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(ServingError, match=rf"policy server {address}: {told}"):
            RemotePolicy(address)
        thread.join()


@pytest.mark.parametrize("port", [-1, 99_999])
def test_a_port_that_is_none_is_refused(serve: Serve, port: int) -> None:
    with pytest.raises(ServingError, match="expected 0 to 65535"):
        serve(port=port)


def test_an_address_that_cannot_be_listened_on_tells_what_to_change(serve: Serve) -> None:
    port = int(serve().address.rpartition(":")[2])
    with pytest.raises(ServingError, match=rf"127\.0\.0\.1 port {port}: Address already in use; take another --port$"):
        serve(port=port)
    with pytest.raises(ServingError, match=r"192\.0\.2\.1 port 0: .*; take another --host$"):  # of documentation
        PolicyServer("mirror", Mirror, "192.0.2.1", 0, "a secret of twenty")


def test_the_loop_of_the_manual(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)
    assert "tcp://127.0.0.1:8470" in script
    assert "range(40)" in script
    exec(script.replace("tcp://127.0.0.1:8470", serve().address).replace("range(40)", "range(2)"), {})
    *fields, first, second = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in fields] == list(SPEC.observation)
    assert first.startswith("[")
    assert second.startswith("[")


def test_an_address_of_another_scheme_is_no_path() -> None:
    with pytest.raises(
        ServingError, match=r"'http://127\.0\.0\.1:8470' is no address of a policy server, e\.g\. tcp://"
    ):
        open_policy("http://127.0.0.1:8470")


def test_a_token_is_wanted_from_outside_and_checked(serve: Serve, remote: Remote, monkeypatch: Any) -> None:
    with pytest.raises(ServingError, match=r"0\.0\.0\.0 is reached from other machines; give a token"):
        PolicyServer("mirror", Mirror, "0.0.0.0", 0)
    with pytest.raises(ServingError, match="5 letters, expected at least 16"):
        PolicyServer("mirror", Mirror, "0.0.0.0", 0, token="short")
    address = serve(token="a secret of twenty").address
    for wrong in ("", "a secret of twent", "a secret of twenty2"):
        with pytest.raises(ServingError, match="token is not the one"):
            remote(address, wrong)
    monkeypatch.setenv("ROBOLEARN_POLICY_TOKEN", "a secret of twenty")
    policy = open_policy(address)
    assert isinstance(policy, RemotePolicy)
    assert policy.spec == SPEC
    policy.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CheckpointError("the checkpoint is gone"), "the checkpoint is gone"),
        (RuntimeError("out of\nmemory"), "RuntimeError: out of memory"),
    ],
)
def test_a_policy_that_can_no_longer_be_loaded_is_told(
    serve: Serve, remote: Remote, error: Exception, told: str
) -> None:
    made: list[Mirror] = []

    def make() -> Mirror:
        if made:
            raise error
        made.append(Mirror())
        return made[0]

    address = serve(make).address
    assert remote(address).spec == SPEC
    with pytest.raises(ServingError, match=f"refuses: {told}$"):
        remote(address)


@pytest.mark.parametrize("address", ["tcp://", "tcp://host", "tcp://:1", "tcp://h:x", "tcp://h:99999", "udp://h:1"])
def test_addresses_are_checked(remote: Remote, address: str) -> None:
    with pytest.raises(ServingError, match="no address"):
        remote(address)


def test_strangers_get_nothing_and_disturb_nobody(serve: Serve, remote: Remote) -> None:
    server = serve()
    place = protocol.split_address(server.address)
    friend = remote(server.address)
    generator = random.Random(0)
    hello = json.dumps({"kind": "hello", "version": 1, "token": "", "arrays": []}).encode()
    act = json.dumps({"kind": "act", "stamp_ns": 1, "arrays": [["proprio", "float32", [10**9, 10**9]]]}).encode()
    pack = protocol.PREFIX.pack
    strings = [generator.randbytes(generator.randrange(1, 300)) for _ in range(50)]
    strings += [pack(b"RLPS", 2**32 - 1, 0), pack(b"RLPS", len(hello), 2**32 - 1) + hello]
    strings += [pack(b"RLPS", 60_000, 0) + b"[" * 60_000, pack(b"RLPS", 2, 0) + b"{}", b"GET / HTTP/1.1\r\n\r\n"]
    strings += [pack(b"RLPS", len(hello), 0) + hello + pack(b"RLPS", len(act), 8) + act + bytes(8)]
    strings += [pack(b"RLPS", len(hello), 0) + hello.replace(b"1", b"2")]
    for string in strings:
        answer = b""
        with socket.create_connection(place, 10) as stranger, contextlib.suppress(OSError):
            stranger.sendall(string)
            stranger.shutdown(socket.SHUT_WR)
            while part := stranger.recv(65_536):
                answer += part
        assert b"chunk" not in answer
    assert friend.act(SEEN, 5).stamp_ns == 5


@given(st.binary(max_size=60), st.binary(max_size=40))
def test_random_frames_are_refused(header: bytes, data: bytes) -> None:
    with pytest.raises(ServingError):
        protocol.parse(header, data)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.sampled_from(["uint8", "x", "hello"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "arrays"]), inner),
        max_leaves=8,
    ),
    st.binary(max_size=8),
)
def test_true_json_of_another_form_is_parsed_or_refused(header: Any, data: bytes) -> None:
    try:
        message = protocol.parse(json.dumps(header).encode(), data)
    except ServingError:
        return
    assert sum(array.nbytes for array in message.arrays.values()) == len(data)


def test_killed_in_motion_the_robot_holds_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    spec = InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 20.0)
    config = ChunkPolicyConfig(chunk_steps=4, hidden_sizes=(8,))
    save_policy(ChunkPolicy(spec, {"proprio": NARROW, "action": NARROW.select([0, 1])}, config), tmp_path / "policy")
    process, address = serve_in_process(tmp_path / "policy", 0, tmp_path / "first.json")
    policy = open_policy(address)
    local = load_policy(tmp_path / "policy")
    policy.reset(3)
    local.reset(3)
    np.testing.assert_allclose(policy.act(SEEN, 9).actions, local.act(SEEN, 9).actions, rtol=1e-5)
    came = threading.Event()
    inference = Inference(PolicyShelf("remote", policy), came.set)

    def ask(stamp_ns: int) -> Any:
        came.clear()
        inference.ask("", SEEN, stamp_ns)
        assert came.wait(60)
        (answer,) = inference.take()
        return answer

    try:
        assert ask(10).chunk is not None
        process.kill()
        process.join()
        held = ask(11)
        assert held.chunk is None
        assert address in held.problem
        process, again = serve_in_process(
            tmp_path / "policy", protocol.split_address(address)[1], tmp_path / "again.json"
        )
        assert again == address
        while (answer := ask(12)).chunk is None:
            assert "not reached" in answer.problem
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)  # by which a server is meant to end
        process.join(60)
        assert process.exitcode == 0
    finally:
        inference.close()
        assert isinstance(policy, RemotePolicy)
        policy.close()
        process.kill()
        process.join()


def test_no_server_is_one_line(remote: Remote) -> None:
    with pytest.raises(ServingError, match="robolearn serve CHECKPOINT"):
        remote("tcp://127.0.0.1:9")
