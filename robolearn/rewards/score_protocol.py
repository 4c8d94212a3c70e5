"""What a score server and its clients say to each other: JSON over HTTP, pictures as JPEG in base64, never a pickle.

    GET  /v1/model                                           protocol, model, version, kind, causal, cameras, stages,
                                                             settings, train_episodes
    POST /v1/score  episodes [{text, images {camera: [picture]}, proprio or null}]
                                                             model, version, episodes [{value, confidence, raw}]
    POST /v1/hops   pairs [{text, before, after}]            model, version, hops
    what cannot be answered                                  error, in one line

A number that a model cannot tell is null. The step that it belongs to is held at what was told of the last one before
it, with a confidence of 0; a hop without a number is not known. JPEG is lossy: a model says of a picture that was sent
what it says of the decoded one. Legend: B episodes, T steps, H W image.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robolearn.errors import RobolearnError, SpecError
from robolearn.messages import coded_size
from robolearn.rewards.reward_model import Episodes, RewardOutput, carried

VERSION = 1
TOKEN_VARIABLE = "ROBOLEARN_REWARD_TOKEN"
DEFAULT_PORT = 8480
JPEG_QUALITY = 95
MAX_PIXELS = 1 << 28  # of all pictures of a request together


class ScoreError(RobolearnError):
    """The score server cannot be reached, refuses, or answers what cannot be read."""


def picture_to_json(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) uint8 RGB as JPEG in base64."""
    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise SpecError(f"an image of shape {image.shape} cannot be sent; expected (H, W, 3) uint8")
    return base64.b64encode(encoded.tobytes()).decode()


class Pictures:
    """Decodes the pictures of one request, up to MAX_PIXELS together, whatever they claim to be."""

    def __init__(self) -> None:
        self._left = MAX_PIXELS

    def decode(self, text: Any) -> NDArray[np.uint8]:
        """An image (H, W, 3) uint8 RGB. Raises SpecError."""
        try:
            data = base64.b64decode(text, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise SpecError(f"a picture is no JPEG in base64: {error}") from error
        told = coded_size(data)
        if told is None or not data.startswith(b"\xff\xd8"):
            raise SpecError("a picture is no JPEG in base64: its head does not tell the size of one")
        height, width = told
        self._left -= height * width
        if self._left < 0:
            raise SpecError(f"the pictures of a request have over {MAX_PIXELS} pixels; send fewer or smaller ones")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None or image.shape != (height, width, 3):
            raise SpecError("a picture is no JPEG: it cannot be decoded")
        return np.asarray(image, np.uint8)

    def stack(self, texts: Any) -> Tensor:
        """Images (T, H, W, 3) uint8 of one size. Raises SpecError."""
        if not isinstance(texts, list) or not texts:
            raise SpecError("pictures came as no list, or an empty one; wanted one a step")
        images = [self.decode(text) for text in texts]
        if len({image.shape for image in images}) > 1:
            raise SpecError("the pictures of a camera are of several sizes; send them as they were recorded")
        return torch.from_numpy(np.stack(images))


def episodes_to_json(episodes: Episodes, cameras: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The request of a score of each episode, without padding; of all together a server may not take the pictures."""
    length = episodes.valid(torch.device("cpu")).sum(1).tolist()
    for row, steps in enumerate(length):
        images = {
            camera: [picture_to_json(image) for image in episodes.images[camera][row, :steps].cpu().numpy()]
            for camera in cameras
        }
        proprio = None if episodes.proprio is None else episodes.proprio[row, :steps].tolist()
        yield {"episodes": [{"text": episodes.text[row], "images": images, "proprio": proprio}]}


def episodes_from_json(body: Mapping[str, Any]) -> list[Episodes]:
    """The episodes of a request, one each. Raises SpecError."""
    rows = body.get("episodes")
    if not isinstance(rows, list) or not rows:
        raise SpecError("a request has no episodes; wanted a list of {text, images, proprio}")
    pictures = Pictures()
    return [_episode(row, pictures) for row in rows]


def _episode(row: Any, pictures: Pictures) -> Episodes:
    if not isinstance(row, dict) or not isinstance(row.get("images"), dict) or not isinstance(row.get("text"), str):
        raise SpecError("an episode came otherwise than as {text, images {camera: [picture]}, proprio}")
    images = {str(camera): pictures.stack(texts)[None] for camera, texts in row["images"].items()}
    proprio = None
    if row.get("proprio") is not None:
        try:
            proprio = torch.tensor(row["proprio"], dtype=torch.float32)[None]
        except (TypeError, ValueError, RuntimeError) as error:
            raise SpecError(f"proprio came as no rows of numbers: {error}") from error
        if not torch.isfinite(proprio).all():
            raise SpecError("proprio is not all finite")
    return Episodes(images, [row["text"]], proprio)


def output_to_json(output: RewardOutput) -> dict[str, Any]:
    """What a model says of one episode."""
    raw = {name: numbers_to_json(values[0]) for name, values in output.raw.items()}
    return {"value": numbers_to_json(output.value[0]), "confidence": numbers_to_json(output.confidence[0]), "raw": raw}


def numbers_to_json(values: Tensor) -> Any:
    """Nested lists of a tensor, null for what is not finite, which JSON does not know."""
    if values.isfinite().all():
        return values.tolist()
    numbers = values.cpu().numpy().astype(object)
    numbers[~values.isfinite().cpu().numpy()] = None
    return numbers.tolist()


def output_from_json(rows: Sequence[Mapping[str, Any]], lengths: Sequence[int], steps: int) -> tuple[RewardOutput, int]:
    """Episodes of these lengths, padded to `steps` with zeros, and at how many of their steps a number is lacking.
    Raises ScoreError."""
    try:
        names = list(rows[0]["raw"])
        told = [_padded([row[key] for row in rows], lengths, steps) for key in ("value", "confidence")]
        told += [_padded([row["raw"][name] for row in rows], lengths, steps) for name in names]
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ScoreError(f"the server's scores are not those of {len(lengths)} episodes: {error!r}") from error
    known = torch.stack([values.isfinite().reshape(len(rows), steps, -1).all(2) for values in told]).all(0)
    value, confidence, *raw = (carried(values, known) for values in told)
    confidence = torch.where(known, confidence.float(), 0.0)
    output = RewardOutput(value.float(), confidence, dict(zip(names, raw, strict=True)))
    return output, int((~known).sum())


def _padded(rows: Sequence[Any], lengths: Sequence[int], steps: int) -> Tensor:
    tensors = [_numbers(row) for row in rows]
    if [len(one) for one in tensors] != list(lengths):
        raise ValueError("another number of steps")
    return torch.stack([torch.cat([one, one.new_zeros(steps - len(one), *one.shape[1:])]) for one in tensors])


def _numbers(row: Any) -> Tensor:
    """A tensor of nested lists of numbers, NaN for null."""
    values = np.array(row)
    if values.dtype == object:
        values = np.array(row, np.float32)
    elif values.dtype.kind == "f":
        values = values.astype(np.float32)
    return torch.from_numpy(values)
