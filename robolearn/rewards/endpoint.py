"""A language or vision model behind any OpenAI-compatible endpoint, over plain HTTP.

Nothing is asked twice: answers are kept on disk by the hash of their question, so that labelling can be interrupted and
repeated without paying again. Of an answer that cannot be read the question is put once more, with a line that says
what was wanted; where that does not help, it is counted, and asked for anew the next time. The key comes from an
environment variable and is never written anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.errors import RobolearnError, SpecError
from robolearn.rewards.answers import AnswerCount
from robolearn.rewards.code.client import Message
from robolearn.rewards.http_client import HttpClient, Unanswered

Readable = Callable[[str], bool]
"""Whether an answer is of the form that was asked for."""


AGAIN = "{question}\n\nThe answer that came before could not be read. Answer with nothing but {wanted}."


def has_words(answer: str) -> bool:
    """Whether there is anything to read."""
    return bool(answer.strip())


class EndpointError(RobolearnError):
    """The endpoint cannot be reached, refuses, or answers what cannot be read."""


@dataclass(frozen=True)
class EndpointConfig:
    """Where the model is and what an answer may cost."""

    url: str = "http://127.0.0.1:8000/v1"  # up to and without `/chat/completions`
    model: str = ""  # as the endpoint names it
    key_variable: str = "OPENAI_API_KEY"  # environment variable with the key; no key is sent where it is not set
    timeout_s: float = 60.0  # of one request
    retries: int = 4  # after a failure that may pass
    max_tokens: int = 512  # of one answer
    temperature: float = 0.0
    input_price: float = 0.0  # of a million tokens, in any currency
    output_price: float = 0.0  # of a million tokens
    max_cost: float = 0.0  # stop before a request once this much was spent; 0 for no limit
    cache_dir: str = ""  # folder of answers; none are kept where empty


class VisionClient(Protocol):
    """Answers a question about pictures. Raises RobolearnError, in one line, when it cannot."""

    def ask(
        self,
        question: str,
        images: Sequence[NDArray[np.uint8]] = (),
        readable: Readable = has_words,
        wanted: str = "a few words",
    ) -> str:
        """The answer to `question` about images (H, W, 3) uint8 RGB, which come before the words. Where it is not
        `readable`, the question is put once more, with what was `wanted`; the second answer is given back whatever it
        is, and kept for the next time where it can be read."""
        ...


class Endpoint:
    """Both a ChatClient and a VisionClient, for any thread. Counts what was sent, what came from the cache, and the
    cost."""

    def __init__(self, config: EndpointConfig) -> None:
        if not config.url.startswith(("http://", "https://")):
            raise SpecError(f"the endpoint is {config.url!r}, expected a URL that begins with http:// or https://")
        if not config.model:
            raise SpecError(f"no model is named for the endpoint {config.url}; give the name that it goes by there")
        self.config = replace(config, url=config.url.rstrip("/"))
        key = os.environ.get(config.key_variable, "")
        self._http = HttpClient(key, config.key_variable, config.timeout_s, config.retries)
        self.cached = self.input_tokens = self.output_tokens = 0
        self.count = AnswerCount()
        self._counting = threading.Lock()

    @property
    def model(self) -> str:
        """Who answers."""
        return self.config.model

    @property
    def requests(self) -> int:
        """Requests sent so far, those that were tried again too."""
        return self._http.requests

    @property
    def cost(self) -> float:
        """What the answers cost so far, by the prices of the config."""
        paid = self.input_tokens * self.config.input_price + self.output_tokens * self.config.output_price
        return paid * 1e-6

    def ask(
        self,
        question: str,
        images: Sequence[NDArray[np.uint8]] = (),
        readable: Readable = has_words,
        wanted: str = "a few words",
    ) -> str:
        """Raises EndpointError, and TooManyUnreadableError once a second answer cannot be read too often."""
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(one)}} for one in images]

        def put(words: str) -> list[Message]:
            return [{"role": "user", "content": [*parts, {"type": "text", "text": words}]}]

        said = self._answer(put(question), 0, readable, put(AGAIN.format(question=question, wanted=wanted)))
        self.count.add(self.model, wanted, 1, int(not readable(said)), said)
        return said

    def answers(self, messages: Sequence[Message], count: int) -> list[str]:
        """`count` independent answers to one chat."""
        return [self._answer(list(messages), number) for number in range(count)]

    def _answer(
        self,
        messages: Sequence[Message],
        number: int,
        readable: Readable = has_words,
        again: Sequence[Message] | None = None,
    ) -> str:
        """Of an answer that is not readable that to `again`, kept as what the first question was answered."""
        config = self.config
        data = self._body(messages, number)
        digest = hashlib.sha256(config.url.encode() + data).hexdigest()
        file = Path(config.cache_dir) / digest[:2] / f"{digest}.json" if config.cache_dir else None
        kept = None if file is None else _kept(file)
        if kept is not None and readable(kept):
            with self._counting:
                self.cached += 1
            return kept
        answer = self._text(self._post(data))
        if again is not None and not readable(answer):
            answer = self._text(self._post(self._body(again, number)))
        if file is not None and readable(answer):
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            partial.write_text(json.dumps({"model": config.model, "answer": answer}), encoding="utf-8")
            partial.replace(file)
        return answer

    def _body(self, messages: Sequence[Message], number: int) -> bytes:
        config = self.config
        body = {
            "model": config.model,
            "messages": messages,
            "max_tokens": config.max_tokens,
            "temperature": config.temperature,
        }
        if number:
            body["seed"] = number
        return json.dumps(body, sort_keys=True).encode()

    def _post(self, data: bytes) -> bytes:
        config = self.config
        if config.max_cost and self.cost >= config.max_cost:
            raise EndpointError(
                f"{self.cost:.2f} was spent on {self.requests} requests, {config.max_cost:.2f} was allowed; "
                "raise max_cost to go on, what was answered is kept"
            )
        try:
            return self._http.request(f"{self.config.url}/chat/completions", self.config.url, data)
        except Unanswered as error:
            raise EndpointError(str(error)) from error

    def _text(self, data: bytes) -> str:
        try:
            answer = json.loads(data)
            message = answer["choices"][0]["message"]
            text = message.get("refusal") or "" if message["content"] is None else message["content"]
            usage = answer.get("usage") or {}
            sent, received = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise EndpointError(
                f"{self.config.url} answers {data[:80]!r}..., expected a chat completion with choices; "
                "is this an OpenAI-compatible endpoint?"
            ) from error
        if self.config.max_cost and not sent + received:
            raise EndpointError(
                f"{self.config.url} does not say how many tokens an answer took; leave out max_cost, which goes by them"
            )
        with self._counting:
            self.input_tokens += sent
            self.output_tokens += received
        if not isinstance(text, str):
            raise EndpointError(f"{self.config.url} answers {type(text).__name__} for a text; take another model")
        return text


def _kept(file: Path) -> str | None:
    """The answer in a file; None where there is none, or the file was damaged, and it is asked for anew."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["answer"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _data_url(image: NDArray[np.uint8]) -> str:
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise SpecError(f"an image of shape {image.shape} cannot be sent; expected (H, W, 3) uint8")
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()
