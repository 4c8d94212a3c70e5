"""The client of vision endpoints against a real HTTP server on loopback."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_server import ModelServer

from robolearn.errors import RobolearnError, SpecError
from robolearn.rewards import http_client
from robolearn.rewards.answers import AnswerCount, TooManyUnreadableError
from robolearn.rewards.endpoint import Endpoint, EndpointConfig, EndpointError
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.hop import HopConfig, HopReward
from robolearn.rewards.preference import FIRST, SECOND, UNSURE
from robolearn.rewards.reward_model import Episodes
from robolearn.rewards.vlm_labels import AskedHops, asked_name, compare, film_strip, marked_way, stage_starts

DARK, LIGHT = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    monkeypatch.setattr(http_client, "FIRST_PAUSE_S", 0.01)
    server = ModelServer()
    yield server
    server.close()


def test_other_words_make_another_version() -> None:
    def version(questions: Sequence[str]) -> str:
        config = HopConfig(encoder=EncoderConfig(image_height=8, image_width=8), asked=asked_name("tiny", questions))
        return HopReward(config, AskedHops(Canned())).version

    assert version(AskedHops.questions) == version(AskedHops.questions) != version(("How far is it?",))


def test_a_question_with_pictures(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    client = Endpoint(replace(server.config, url=f"{server.config.url}/"))  # as people write it
    assert client.ask("what is it?", [DARK, LIGHT]) == "fine"
    assert server.paths == ["/v1/chat/completions"]
    parts = server.seen[0]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "text"]
    assert parts[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert server.keys == ["Bearer secret"]
    assert client.cost == pytest.approx(1000 * 2e-6 + 10 * 100e-6)


def test_nothing_is_asked_twice_even_by_another_process(server: ModelServer, tmp_path: Path) -> None:
    config = replace(server.config, cache_dir=str(tmp_path))
    assert Endpoint(config).ask("one?", [DARK]) == "fine"
    again = Endpoint(config)
    assert again.ask("one?", [DARK]) == "fine"
    assert (again.requests, again.cached, len(server.seen)) == (0, 1, 1)
    again.ask("one?", [LIGHT])
    assert len(server.seen) == 2
    for file, left in zip(tmp_path.rglob("*.json"), ("", "[]"), strict=True):
        file.write_text(left)  # as a full disk leaves it
    assert again.ask("one?", [LIGHT]) == again.ask("one?", [DARK]) == again.ask("one?", [LIGHT]) == "fine"
    assert len(server.seen) == 4
    assert "secret" not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


def test_an_answer_that_cannot_be_read_is_asked_for_anew(server: ModelServer, tmp_path: Path) -> None:
    config = replace(server.config, cache_dir=str(tmp_path))
    server.reply = lambda body: "no"
    assert Endpoint(config).ask("how many?", [DARK]) == "no"  # kept, for nobody said what can be read
    pictures = torch.zeros(1, 8, 8, 3), torch.ones(1, 8, 8, 3)
    strip = np.zeros((31, 4, 4, 3), np.uint8)
    for _ in range(2):
        client = Endpoint(config)
        assert client.ask("how many?", [DARK], str.isdecimal, "a number") == "no"
        again = server.seen[-1]["messages"][0]["content"][-1]["text"]
        assert re.match(r"how many\?.* could not be read. Answer with nothing but a number\.$", again, re.S)
        assert str(client.count) == '1 of 1 answers could not be read, for instance "no"'
        assert compare(Endpoint(config), "be light", DARK[None], LIGHT[None]) == UNSURE
        assert AskedHops(Endpoint(config)).hops(*pictures, ["go"]).isnan().all()
        with pytest.raises(SpecError, match="annotate this episode by hand"):
            stage_starts(Endpoint(config), "stack", ("reach", "grasp"), strip)
        with pytest.raises(SpecError, match="for a way"):
            marked_way(Endpoint(config), "bring it home", TWO_THINGS)
    assert len(server.seen) == 1 + 10 + 1 + 10  # of `compare` the first answer is words, and kept
    server.reply = lambda body: "7"
    for _ in range(2):
        assert Endpoint(config).ask("how many?", [DARK], str.isdecimal) == "7"
        assert float(AskedHops(Endpoint(config)).hops(*pictures, ["go"])) == pytest.approx(0.07)
    assert len(server.seen) == 22 + 2
    server.reply = lambda body: '{"mark": 2, "cells": ["D2"]}'
    assert len({marked_way(Endpoint(config), "bring it home", TWO_THINGS) for _ in range(2)}) == 1
    assert len(server.seen) == 24 + 1


def test_a_second_answer_that_can_be_read_is_the_answer(server: ModelServer, tmp_path: Path) -> None:
    refusal = '{"choices": [{"message": {"content": null, "refusal": "I cannot help with that."}}]}'
    server.reply = lambda body: "40" if "could not be read" in json.dumps(body) else (200, {}, refusal)
    pictures = torch.zeros(1, 8, 8, 3), torch.ones(1, 8, 8, 3)
    for _ in range(2):  # and kept: nothing is asked twice
        client = Endpoint(replace(server.config, cache_dir=str(tmp_path)))
        assert float(AskedHops(client).hops(*pictures, ["go"])) == pytest.approx(0.4)
        assert (client.count.answers, client.count.unreadable, len(server.seen)) == (1, 0, 2)
    server.reply = lambda body: (200, {}, '{"choices": [{"message": {"content": null}}]}')  # not even a refusal
    client = Endpoint(server.config)
    assert compare(client, "be light", DARK[None], LIGHT[None]) == UNSURE
    assert (client.requests, str(client.count)) == (2, '1 of 1 answers could not be read, for instance ""')


@given(st.lists(st.integers(0, 3), max_size=200))
def test_too_many_answers_that_cannot_be_read_end_the_work(batches: list[int]) -> None:
    count, unreadable = AnswerCount(), 0
    for number, lost in enumerate(batches, 1):
        unreadable += lost
        if lost and unreadable > 0.2 * max(3 * number, 20):
            with pytest.raises(TooManyUnreadableError, match=rf"^tiny: {unreadable} of {3 * number} answers could not"):
                count.add("tiny", "a number", 3, lost, "no\nidea")
        else:
            count.add("tiny", "a number", 3, lost, "no\nidea")
    assert (count.answers, count.unreadable, "\n" in str(count)) == (3 * len(batches), unreadable, False)


class Slow(int):
    """A count to which something is added so slowly that another thread reads it meanwhile."""

    def __add__(self, other: int) -> Slow:
        time.sleep(1e-3)
        return Slow(int(self) + other)


def test_the_requests_of_many_threads_are_all_counted(server: ModelServer, tmp_path: Path) -> None:
    client = Endpoint(replace(server.config, cache_dir=str(tmp_path)))
    client.cached, client.input_tokens, client.output_tokens = Slow(0), Slow(0), Slow(0)
    client._http.requests = Slow(0)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda number: client.ask(f"{number % 30}?"), range(90)))
    assert said == ["fine"] * 90
    assert client.requests == len(server.seen)
    assert client.requests + client.cached == 90
    assert (client.input_tokens, client.output_tokens) == (1000 * len(server.seen), 10 * len(server.seen))
    assert len(list(tmp_path.rglob("*.*"))) == 30  # each answer once, and nothing half written


def test_several_answers_to_a_chat_differ_by_seed(server: ModelServer) -> None:
    server.reply = lambda body: str(body.get("seed", 0))
    assert Endpoint(server.config).answers([{"role": "user", "content": "write"}], 3) == ["0", "1", "2"]


def test_what_may_pass_is_tried_again(server: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    replies = iter([(503, {}, "busy"), (429, {"Retry-After": "0.01"}, "slow down"), "at last"])
    server.reply = lambda body: next(replies)
    client = Endpoint(server.config)
    assert client.ask("well?") == "at last"
    assert len(server.seen) == 3
    replies = iter([(503, {}, "busy"), "once more"])
    assert client.ask("and?") == "once more"
    assert [record.getMessage() for record in caplog.records] == [
        f"{client.config.url} answers {problem}; it is tried again, up to 2 times"
        for problem in ("503 Service Unavailable", "429 Too Many Requests")
    ]


@pytest.mark.parametrize(
    ("reply", "words", "asked"),
    [
        ((503, {}, "busy"), "answers 503 .* tried 3 times", 3),
        ((401, {}, "no"), "answers 401 .* is OPENAI_API_KEY set and valid", 1),
        ((200, {}, "<html>"), "OpenAI-compatible", 1),
        ((200, {}, '{"choices": []}'), "expected a chat completion", 1),
        ((200, {}, "[" * 100_000), "expected a chat completion", 1),
        ((200, {}, '{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 1e999}}'), "expected", 1),
        ((200, {}, '{"choices": [{"message": {"content": 7}}]}'), "int for a text", 1),
        ((200, {"Content-Length": "50"}, "{}"), "cannot be reached", 3),
    ],
)
def test_failures_are_one_line(server: ModelServer, reply: Any, words: str, asked: int) -> None:
    server.reply = lambda body: reply
    with pytest.raises(EndpointError, match=words) as caught:
        Endpoint(server.config).ask("well?")
    assert "\n" not in str(caught.value)
    assert len(server.seen) == asked


def test_an_answer_that_trickles_in_does_not_hold_up_for_ever(server: ModelServer) -> None:
    sent: list[str] = []

    def trickle() -> Iterator[str]:
        while len(sent) < 200:
            time.sleep(0.02)
            sent.append(" ")
            yield " "

    server.reply = lambda body: (200, {}, trickle())
    with pytest.raises(EndpointError, match="timed out in the middle of the answer"):
        Endpoint(replace(server.config, timeout_s=0.2, retries=0)).ask("well?")
    assert len(sent) < 200


def test_the_key_is_shown_to_no_other_server(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModelServer()
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.reply = lambda body: (302, {"Location": f"{other.config.url}/chat/completions"}, "")
    with pytest.raises(EndpointError, match=r"answers 302 Found; name http://.* if that is the right address"):
        Endpoint(server.config).ask("?")
    assert (len(server.seen), other.keys) == (1, [])
    other.close()


@pytest.mark.parametrize("key", ["secret\n", "secr\N{EURO SIGN}t"])
def test_a_key_that_no_header_can_hold_is_not_told(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(RobolearnError, match="OPENAI_API_KEY holds what no key does") as error:
        Endpoint(EndpointConfig(model="x"))
    assert "sec" not in str(error.value)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a b", "http://127.0.0.1:x"])
def test_an_address_that_is_none_is_not_tried_again(url: str) -> None:
    client = Endpoint(EndpointConfig(url=url, model="x"))
    with pytest.raises(EndpointError, match="is no address that could be asked"):
        client.ask("?")
    assert client.requests <= 1


@pytest.mark.parametrize(("host", "words"), [("127.0.0.1:9", "refused"), ("nobody.invalid", "not known|resolution")])
def test_a_server_that_is_not_there_is_asked_once(host: str, words: str) -> None:
    client = Endpoint(EndpointConfig(url=f"http://{host}/v1", model="tiny"))
    with pytest.raises(EndpointError, match=rf"cannot be reached .*({words}).*is it running"):
        client.ask("well?")
    assert client.requests == 1


def test_a_server_that_was_there_is_waited_for(server: ModelServer) -> None:
    client = Endpoint(server.config)
    client.ask("well?")
    server.close()
    with pytest.raises(EndpointError, match=r"cannot be reached .*refused.* tried 3 times"):
        client.ask("and now?")


def test_spending_stops_at_the_limit(server: ModelServer) -> None:
    client = Endpoint(replace(server.config, max_cost=0.005))
    client.ask("one?")
    client.ask("two?")
    with pytest.raises(EndpointError, match=r"0\.01 was spent on 2 requests, 0\.01 was allowed"):
        client.ask("three?")
    server.reply = lambda body: (200, {}, json.dumps({"choices": [{"message": {"content": "fine"}}]}))
    with pytest.raises(EndpointError, match="does not say how many tokens an answer took; leave out max_cost"):
        Endpoint(replace(server.config, max_cost=0.005)).ask("one?")


def test_a_bad_address_or_no_model() -> None:
    with pytest.raises(SpecError, match="begins with http"):
        Endpoint(EndpointConfig(url="file:///etc/passwd", model="tiny"))
    with pytest.raises(SpecError, match="no model is named"):
        Endpoint(EndpointConfig())


class Canned:
    def __init__(self, *answers: str) -> None:
        self.left = list(answers)
        self.asked: list[tuple[str, int]] = []

    def ask(self, question: str, images: Any = (), readable: Any = None, wanted: str = "") -> str:
        self.asked.append((question, len(images)))
        return self.left.pop(0)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("second", SECOND),
        ("First.", FIRST),
        ("unsure", UNSURE),
        ("The first, not the second", UNSURE),
        ("-1", UNSURE),
        ("", UNSURE),
    ],
)
def test_preferences_are_parsed_and_never_trusted(word: str, answer: int) -> None:
    client = Canned("dark, then light", word)
    assert compare(client, "be light", DARK[None], LIGHT[None]) == answer
    assert [images for _, images in client.asked] == [2, 0]
    assert "dark, then light" in client.asked[1][0]


def test_the_same_picture_is_never_asked_about() -> None:
    assert compare(Canned(), "be light", DARK[None], DARK[None].copy()) == UNSURE


def test_segments_are_compared_as_film_strips(server: ModelServer) -> None:
    film = np.stack([np.full((8, 6, 3), value, np.uint8) for value in range(7)])
    np.testing.assert_array_equal(
        film_strip(film)[0, :, 0], [0] * 6 + [255] * 2 + [2] * 6 + [255] * 2 + [4] * 6 + [255] * 2 + [6] * 6
    )
    np.testing.assert_array_equal(film_strip(film[:1]), film[0])
    np.testing.assert_array_equal(film_strip(film[:2])[0, :, 0], [0] * 6 + [255] * 2 + [1] * 6)
    server.reply = lambda body: "second"
    assert compare(Endpoint(server.config), "be light", film, film[::-1]) == SECOND
    *strips, words = server.seen[0]["messages"][0]["content"]
    assert len(strips) == 2
    assert "film strips" in words["text"]
    assert "Which film strip" in server.seen[1]["messages"][0]["content"][0]["text"]


def test_stages_of_a_film_strip() -> None:
    images = np.zeros((31, 4, 4, 3), np.uint8)
    client = Canned("The stages begin at [0, 5, 11].")
    assert stage_starts(client, "stack", ("reach", "grasp", "place"), images) == (0, 10, 22)
    assert client.asked[0][1] == 16


@pytest.mark.parametrize(
    "answer", ["no idea", "[0, 5]", "[0, 5, 5]", "[1, 2, 3]", "[0, 5, 99]", "[0, null, 3]", "[0, 5, 1e999]"]
)
def test_stages_that_cannot_be(answer: str) -> None:
    with pytest.raises(SpecError, match="annotate this episode by hand"):
        stage_starts(Canned(answer), "stack", ("reach", "grasp", "place"), np.zeros((31, 4, 4, 3), np.uint8))


TWO_THINGS = np.full((32, 32, 3), 120, np.uint8)
TWO_THINGS[4:8, 4:8] = (200, 20, 20)  # in B2, the second mark
TWO_THINGS[20:28, 20:28] = (20, 160, 60)


@pytest.mark.parametrize("answer", ['{"mark": 2, "cells": ["D2", "G7"]}', 'So:\n{"mark":2,"cells":["B2","D2","G7"]}.'])
def test_the_way_of_a_marked_thing(answer: str) -> None:
    client = Canned(answer)
    thing, way = marked_way(client, "bring it home", TWO_THINGS)
    assert (thing.centre, thing.colour) == ((6 / 32, 6 / 32), (200, 20, 20))
    assert way == ((3.5 / 8, 1.5 / 8), (6.5 / 8, 6.5 / 8))
    question, images = client.asked[0]
    assert ("by the numbers 1 to 2;" in question, "columns A to H" in question, images) == (True, True, 1)


@pytest.mark.parametrize(
    "answer",
    [
        "the red one",
        '{"mark": 3, "cells": ["D2"]}',
        '{"mark": true, "cells": ["D2"]}',
        '{"mark": 2, "cells": []}',
        '{"mark": 2, "cells": ["B2"]}',  # where it is already
        '{"mark": 2, "cells": ["D2", "D2"]}',
        '{"mark": 2, "cells": ["J2"]}',
        '{"mark": 2, "cells": "D2"}',
        '{"mark": 2, "cells": [["D2"]]}',
        '{"mark": 2, "cells": ["D2"]} or {"mark": 1, "cells": ["D2"]}',
        '{"mark": 2, "cells": ["D2"',
        '{"mark": 2, "cells": ' + "[" * 100_000 + "}",
    ],
)
def test_a_way_that_cannot_be(answer: str) -> None:
    wanted = r"expected a JSON object with a mark from 1 to 2 and cells of columns A to H and rows 1 to 8"
    with pytest.raises(SpecError, match=wanted) as got:
        marked_way(Canned(answer), "bring it home", TWO_THINGS)
    assert "\n" not in str(got.value)


def test_a_picture_without_anything_to_follow_is_not_asked_about() -> None:
    with pytest.raises(SpecError, match="take another camera"):
        marked_way(Canned(), "go", LIGHT)


def test_hops_come_from_the_endpoint() -> None:
    images = torch.zeros(1, 3, 32, 32, 3, dtype=torch.uint8)
    images[0, 1:] = 100
    images[0, 2:] = 200
    config = HopConfig(every=1)
    model = HopReward(config, AskedHops(Canned("50", "+50 %", "50", "75", "-100", "\N{MINUS SIGN}50", "-25.0")))
    model.set_goal(torch.full((32, 32, 3), 255, dtype=torch.uint8))
    output = model.score(Episodes({"front": images}, ["be light"]))
    np.testing.assert_allclose(output.raw["incremental"][0], [0.0, 0.5, 0.75])
    np.testing.assert_allclose(output.value[0], [0.0, 0.5, 0.75], atol=1e-6)


@pytest.mark.parametrize("answer", ["no", "250", "-250", "In picture 2 it is 40 percent nearer"])
def test_a_hop_that_cannot_be_read(answer: str) -> None:
    assert AskedHops(Canned(answer)).hops(torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2, 3), ["go"]).isnan().all()
