"""A reward model that runs in a score server (`score_server.py`), used like one of this process."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor

from robolearn.rewards.answers import AnswerCount
from robolearn.rewards.http_client import HttpClient, Unanswered
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, lasting_settings, masked
from robolearn.rewards.score_protocol import (
    MAX_PIXELS,
    TOKEN_VARIABLE,
    VERSION,
    ScoreError,
    episodes_to_json,
    output_from_json,
    picture_to_json,
)

SCHEMES = ("http://", "https://")
TIMEOUT_S = 300.0  # of one request; a large model on many pictures takes its time


@dataclass(frozen=True)
class RemoteConfig:
    """Where the model is, and what it looks at."""

    url: str
    cameras: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()


class RemoteReward:
    """The model of a score server, found at once: a RewardModel, and a HopModel for the hop reward.

    The token is read from ROBOLEARN_REWARD_TOKEN. Raises ScoreError, in one line, when there is no such server, it
    refuses, or its model became another one meanwhile, and TooManyUnreadableError. `settings` are those of the model
    there, as `lasting_settings` has them.
    """

    config_type: ClassVar = RemoteConfig

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, retries: int = 4) -> None:
        self._url = url.rstrip("/")
        if not self._url.startswith(SCHEMES):
            raise ScoreError(f"the score server is {url!r}, expected a URL that begins with http:// or https://")
        self._http = HttpClient(os.environ.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE, timeout_s, retries)
        self.count = AnswerCount()
        about = self._ask("/v1/model", None)
        try:
            if about["protocol"] != VERSION:
                raise ScoreError(f"{self._url} speaks protocol {about['protocol']}, this robolearn {VERSION}")
            self.id, self.version = str(about["model"]), str(about["version"])
            self.kind: Kind = about["kind"]
            self.causal = bool(about["causal"])
            self.config = RemoteConfig(self._url, tuple(about["cameras"]), tuple(about["stages"]))
            self.trained_on = frozenset(map(str, about.get("train_episodes", ())))
            self.settings: dict[str, Any] = dict(about.get("settings") or lasting_settings(self.config))
        except (KeyError, TypeError, ValueError) as error:
            raise ScoreError(f"{self._url} does not say what model it serves; is it a score server?") from error

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """What the server says, on the device of the images."""
        episodes.check(self.config.cameras)
        steps = episodes.shape[1]
        device = episodes.images[self.config.cameras[0]].device
        valid = episodes.valid(device)
        requests = episodes_to_json(episodes, self.config.cameras)
        answer = [told for one in requests for told in self._post("/v1/score", one, "episodes", 1)]
        output, lacking = output_from_json(answer, valid.sum(1).tolist(), steps)
        self.count.add(self._url, "a number", int(valid.sum()), lacking, "null")
        raw = {name: values.to(device) for name, values in output.raw.items()}
        return masked(RewardOutput(output.value.to(device), output.confidence.to(device), raw), valid)

    def hops(self, before: Tensor, after: Tensor, text: Sequence[str]) -> Tensor:
        """Hops (N,) in [-1, 1] between images (N, H, W, 3) uint8; NaN where no number from -1 to 1 was answered."""
        at_once = max(MAX_PIXELS // (2 * before.shape[1] * before.shape[2]), 1)
        moments = zip(text, before.cpu().numpy(), after.cpu().numpy(), strict=True)
        told: list[Any] = []
        while part := list(islice(moments, at_once)):
            pairs = [
                {"text": words, "before": picture_to_json(one), "after": picture_to_json(two)}
                for words, one, two in part
            ]
            told += self._post("/v1/hops", {"pairs": pairs}, "hops", len(pairs))
        hops = [float(one) if isinstance(one, int | float) and abs(one) <= 1.0 else math.nan for one in told]
        unread = [json.dumps(one) for one, hop in zip(told, hops, strict=True) if math.isnan(hop)]
        self.count.add(self._url, "a number from -1 to 1", len(hops), len(unread), next(iter(unread), ""))
        return torch.tensor(hops, device=before.device)

    def _post(self, place: str, body: Any, wanted: str, count: int) -> list[Any]:
        answer = self._ask(place, json.dumps(body).encode())
        if (answer.get("model"), answer.get("version")) != (self.id, self.version):
            now = f"{answer.get('model')}-{answer.get('version')}"
            raise ScoreError(f"{self._url} serves {now} now, it was {self.id}-{self.version}; begin anew")
        told = answer.get(wanted)
        if not isinstance(told, list) or len(told) != count:
            raise ScoreError(f"{self._url} does not answer {count} {wanted}")
        return told

    def _ask(self, place: str, data: bytes | None) -> dict[str, Any]:
        try:
            answer = json.loads(self._http.request(self._url + place, self._url, data))
        except Unanswered as error:
            raise ScoreError(_reason(error) or str(error)) from error
        except (ValueError, RecursionError) as error:
            raise ScoreError(f"{self._url} does not answer JSON; is it a score server?") from error
        if not isinstance(answer, dict):
            raise ScoreError(f"{self._url} does not answer a JSON object; is it a score server?")
        return answer


def _reason(error: Unanswered) -> str:
    """What the server says of its refusal."""
    try:
        said = " ".join(str(json.loads(error.said)["error"]).split())[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f"the score server says: {said}" + (f"; set {TOKEN_VARIABLE}" if error.status == 401 else "")
