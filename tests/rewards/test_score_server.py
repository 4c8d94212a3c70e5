"""A reward model behind HTTP says what it says in this process, and lets nobody in who should not."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robolearn.cli import run
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import SpecError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.rewards import REWARDS, Episodes, RewardModel, http_client
from robolearn.rewards.answers import TooManyUnreadableError
from robolearn.rewards.hop import HopConfig, HopNet, HopReward
from robolearn.rewards.hop import hop as hop_between
from robolearn.rewards.reward_model import RewardOutput, lasting_settings
from robolearn.rewards.saved import save_reward
from robolearn.rewards.score_client import RemoteReward
from robolearn.rewards.score_protocol import TOKEN_VARIABLE, Pictures, ScoreError, picture_to_json
from robolearn.rewards.score_server import MAX_SILENT, ScoreServer
from robolearn.rewards.success import SuccessConfig, SuccessReward


def serve(model: RewardModel, token: str = "") -> ScoreServer:
    server = ScoreServer(model, token=token)
    threading.Thread(target=server.serve, daemon=True).start()
    return server


@pytest.fixture
def model() -> HopReward:
    return HopReward(HopConfig(every=2)).eval()


@pytest.fixture
def server(model: HopReward, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScoreServer]:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setattr(http_client, "FIRST_PAUSE_S", 0.01)
    server = serve(model)
    yield server
    server.close()


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Pictures as they come out of a JPEG, so that sending them again changes little."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (*shape, 32, 32, 3), dtype=np.uint8))


def as_sent(pictures: torch.Tensor) -> torch.Tensor:
    decode = Pictures().decode
    flat = [decode(picture_to_json(one)) for one in pictures.flatten(0, -4).numpy()]
    return torch.from_numpy(np.stack(flat)).view(pictures.shape)


@pytest.mark.parametrize("name", ["hop", "success", "progress"])
def test_it_says_what_the_model_says(name: str, server: ScoreServer) -> None:
    model = REWARDS[name](REWARDS[name].config_type()).eval()
    other = serve(model)
    remote = RemoteReward(other.address)
    assert isinstance(remote, RewardModel)
    assert (remote.id, remote.version, remote.kind, remote.causal) == (model.id, model.version, model.kind, True)
    pictures, length = images(2, 5), torch.tensor([5, 3])
    told = remote.score(Episodes({"front": pictures}, ["push", "pull"], torch.rand(2, 5, 4), length))
    meant = model.score(Episodes({"front": as_sent(pictures)}, ["push", "pull"], None, length))
    torch.testing.assert_close(told.value, meant.value, atol=1e-5, rtol=0)
    torch.testing.assert_close(told.confidence, meant.confidence, atol=1e-5, rtol=0)
    assert told.raw.keys() == meant.raw.keys()
    assert (told.value[1, 3:] == 0).all()
    other.close()


def test_hops_come_from_the_net_or_from_progress(server: ScoreServer, model: HopReward) -> None:
    before, after = images(3), images(3, seed=1)
    told = RemoteReward(server.address).hops(before, after, ["push"] * 3)
    with torch.no_grad():
        meant = model.model.hops(as_sent(before), as_sent(after), ["push"] * 3)
    torch.testing.assert_close(told, meant, atol=1e-5, rtol=0)
    success = REWARDS["success"](REWARDS["success"].config_type()).eval()
    other = serve(success)
    told = RemoteReward(other.address).hops(before, after, ["push"] * 3)
    p, q = (
        success.score(Episodes({"front": as_sent(one)[:, None]}, ["push"] * 3)).value[:, 0] for one in (before, after)
    )
    torch.testing.assert_close(told, hop_between(p, q), atol=1e-5, rtol=0)
    other.close()


class Doubtful(HopReward):
    """Cannot tell of some of the steps and hops."""

    def score(self, episodes: Episodes) -> RewardOutput:
        output = super().score(episodes)
        output.value[:, [0, 3]] = torch.nan
        return output


def test_what_a_served_model_cannot_tell_is_held_and_counted(monkeypatch: pytest.MonkeyPatch, model: HopReward) -> None:
    other = serve(Doubtful(HopConfig(every=2)).eval())
    remote = RemoteReward(other.address)
    pictures = images(1, 15)
    told = remote.score(Episodes({"front": pictures}, ["push"]))
    meant = model.score(Episodes({"front": as_sent(pictures)}, ["push"]))
    wanted = meant.value.clone()
    wanted[0, 0], wanted[0, 3] = 0.0, meant.value[0, 2]
    torch.testing.assert_close(told.value, wanted, atol=1e-5, rtol=0)
    assert told.raw["forward"][0, 3] == told.raw["forward"][0, 2]
    assert (told.confidence[0, [0, 3]] == 0).all()
    assert str(remote.count) == '2 of 15 answers could not be read, for instance "null"'
    monkeypatch.setattr(HopNet, "hops", lambda *about: torch.tensor([0.5, torch.nan, 2.0]))
    hops = remote.hops(images(3), images(3, seed=1), ["push"] * 3)
    assert hops.isnan().tolist() == [False, True, True]
    with pytest.raises(TooManyUnreadableError, match=r"http://\S+: 6 of 21 answers .* from -1 to 1 was wanted"):
        remote.hops(images(3), images(3, seed=1), ["push"] * 3)
    other.close()


def test_hops_are_of_one_camera_whichever_it_is() -> None:
    before, after = images(2), images(2, seed=1)
    for cameras in (("wrist",), ("front", "wrist")):
        other = serve(SuccessReward(SuccessConfig(cameras)).eval())
        remote = RemoteReward(other.address)
        if len(cameras) == 1:
            assert remote.hops(before, after, ["push"] * 2).shape == (2,)
        else:
            with pytest.raises(ScoreError, match="success looks at front, wrist; a hop is told of one camera"):
                remote.hops(before, after, ["push"] * 2)
        other.close()


def test_more_pictures_than_a_server_takes_at_once_are_sent_in_several_requests(
    server: ScoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("score_protocol", "score_client"):
        monkeypatch.setattr(f"robolearn.rewards.{module}.MAX_PIXELS", 6 * 32 * 32)
    remote = RemoteReward(server.address)
    assert remote.hops(images(7), images(7, seed=1), ["push"] * 7).shape == (7,)
    assert remote.score(Episodes({"front": images(3, 6)}, ["push"] * 3)).value.shape == (3, 6)
    with pytest.raises(ScoreError, match=r"have over \d+ pixels; send fewer or smaller ones"):
        remote.score(Episodes({"front": images(1, 7)}, ["push"]))


def test_a_model_of_rewards_tells_no_hops(server: ScoreServer) -> None:
    other = serve(REWARDS["preference"](REWARDS["preference"].config_type()).eval())
    with pytest.raises(ScoreError, match="serve a model of progress or success") as error:
        RemoteReward(other.address).hops(images(1), images(1), ["push"])
    assert "\n" not in str(error.value)
    other.close()


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_is_none_is_refused(model: HopReward, port: int) -> None:
    with pytest.raises(ScoreError, match="expected 0 to 65535"):  # 70,000 would be 4,464
        ScoreServer(model, port=port)


def test_only_who_shows_the_token_is_let_in(model: HopReward, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(model, "a secret of twenty")
    for token in ("", "wrong"):
        monkeypatch.setenv(TOKEN_VARIABLE, token)
        with pytest.raises(ScoreError, match=f"the token is not the one of this server; set {TOKEN_VARIABLE}"):
            RemoteReward(server.address)
    monkeypatch.setenv(TOKEN_VARIABLE, "a secret of twenty")
    assert RemoteReward(server.address).version == model.version
    server.close()
    with pytest.raises(ScoreError, match="reached from other machines; give a token"):
        ScoreServer(model, "0.0.0.0")
    with pytest.raises(ScoreError, match="5 letters, expected at least 16"):
        ScoreServer(model, "0.0.0.0", token="short")


def test_who_asks_for_nothing_keeps_nobody_out(server: ScoreServer, capfd: pytest.CaptureFixture[str]) -> None:
    host, _, port = server.address.removeprefix("http://").rpartition(":")
    silent = []
    for _ in range(MAX_SILENT + 20):
        silent.append(socket.create_connection((host, int(port)), timeout=10))
        silent[-1].sendall(b"GET /v1/mod")
    for hung_up in silent[:20]:
        assert hung_up.recv(1) == b""
    assert RemoteReward(server.address).id == "hop"
    for one in silent:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # to reset it
        one.close()
    assert RemoteReward(server.address).id == "hop"
    assert "Traceback" not in capfd.readouterr().err


def ask(server: ScoreServer, body: bytes, place: str = "/v1/score", **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=10)
    connection.request("POST", place, body, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


PICTURE = picture_to_json(np.zeros((32, 32, 3), np.uint8))
HUGE = bytearray(base64.b64decode(PICTURE))
AT = HUGE.index(b"\xff\xc0") + 5
HUGE[AT : AT + 4] = b"\xff\xff\xff\xff"  # claims 65535 x 65535 pixels


def episode(**changes: Any) -> bytes:
    row = {"text": "push", "images": {"front": [PICTURE]}, "proprio": None, **changes}
    return json.dumps({"episodes": [row]}).encode()


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{", {}, 400, "no JSON object"),
        (b"[" * 100_000, {}, 400, "no JSON object"),
        (b"[]", {}, 400, "list came"),
        (b"{}", {}, 400, "no episodes"),
        (episode(images={"front": []}), {}, 400, "wanted one a step"),
        (episode(images={"wrist": [PICTURE]}), {}, 400, "needs camera 'front'"),
        (episode(images={"front": ["%%%"]}), {}, 400, "no JPEG in base64"),
        (episode(images={"front": [PICTURE[:40]]}), {}, 400, "no JPEG"),
        (episode(images={"front": [base64.b64encode(bytes(HUGE)).decode()]}), {}, 400, "send fewer or smaller ones"),
        (episode(proprio=[["a"]]), {}, 400, "no rows of numbers"),
        (episode(proprio=[[float("nan")]]), {}, 400, "not all finite"),
        (episode(text=7), {}, 400, "came otherwise"),
        (episode(), {"Content-Type": "text/plain"}, 415, "wanted application/json"),
        (episode(), {"Host": "evil.example:80"}, 403, "is not this computer"),
        (b"", {"Content-Length": str(1 << 40)}, 413, "wanted at most"),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_is_answered(
    body: bytes, headers: dict[str, str], status: int, words: str, server: ScoreServer
) -> None:
    got, answer = ask(server, body, **headers)
    assert (got, list(answer)) == (status, ["error"])
    assert words in answer["error"]
    assert "\n" not in answer["error"]
    assert ask(server, episode(images={"front": [PICTURE] * 3}))[0] == 200


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_pictures_from_outside_are_pictures_or_a_spec_error(junk: bytes, at: int) -> None:
    data = base64.b64decode(PICTURE)
    at = min(at, len(data))
    for hostile in (junk, b"\xff\xd8" + junk, data[:at] + junk, data[:at] + junk + data[at + len(junk) :]):
        problem = ""
        try:
            assert Pictures().decode(base64.b64encode(hostile).decode()).dtype == np.uint8
        except SpecError as error:
            problem = str(error)
        assert "\n" not in problem


def test_another_model_in_the_middle_is_told(model: HopReward, server: ScoreServer) -> None:
    remote = RemoteReward(server.address)
    with torch.no_grad():
        next(iter(model.parameters())).add_(0.01)
    with pytest.raises(ScoreError, match=r"serves hop-\w+ now, it was hop-\w+; begin anew"):
        remote.score(Episodes({"front": images(1, 2)}, ["push"]))


def test_no_server_is_one_line() -> None:
    for url, words in (("http://127.0.0.1:9", "cannot be reached"), ("ftp://x", "begins with http")):
        with pytest.raises(ScoreError, match=words) as error:
            RemoteReward(url)
        assert "\n" not in str(error.value)


def test_the_command_line_serves_a_model_and_labels_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a whole model, and as the hops behind `hop`."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    collect_episodes(CollectConfig("reach-v1", image_size=32), tmp_path / "d", 2)
    model = HopReward(HopConfig(every=20))
    ids = [info.id for info in ZarrStore.open(tmp_path / "d").episodes]
    save_reward(model, tmp_path / "model", {"train_episodes": ids[:1]})
    serving: SimpleQueue[ScoreServer] = SimpleQueue()
    original = ScoreServer.serve
    monkeypatch.setattr(ScoreServer, "serve", lambda self: (serving.put(self), original(self)))
    command = ["reward", "serve", str(tmp_path / "model"), "--port", "0"]
    thread = threading.Thread(target=run, args=(command,), daemon=True)
    thread.start()
    server = serving.get(timeout=60)
    assert server.address in capsys.readouterr().err
    assert run(["label", str(tmp_path / "d"), "--reward", server.address, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert run(["label", str(tmp_path / "d"), "--reward", "hop", "--score-server", server.address, "--json"]) == 0
    hops = json.loads(capsys.readouterr().out)
    server.close()
    thread.join(60)
    store = ZarrStore.open(tmp_path / "d")
    assert whole["column"] == f"progress/hop-{model.version}"
    settings = json.loads(json.dumps(lasting_settings(model.config)))
    assert store.columns[whole["column"]].attributes["settings"] == settings
    assert [store.columns[one["column"]].attributes["train_episodes"] for one in (whole, hops)] == [ids[:1]] * 2
    assert run(["label", str(tmp_path / "d"), "--reward", str(tmp_path / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 2  # this process goes on with what the server began
    assert store.columns[hops["column"]].attributes["settings"]["asked"] == f"hop-{model.version}"
    for column in (whole["column"], hops["column"]):
        assert np.isfinite(store.read(1, [column])[column]).all()


def test_an_answer_without_end_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client.HttpClient, "request", lambda *_: b"[" * 100_000)
    with pytest.raises(ScoreError, match="does not answer JSON"):
        RemoteReward("http://127.0.0.1:9")
