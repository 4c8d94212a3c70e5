"""A policy as an ONNX file, checked against the policy that it was made from.

The file takes a batch of the observation's fields by name, images as uint8 (B, H, W, 3), and answers `action` (B, A) or
(B, K, A) within the limits of the action spec. Its metadata `robolearn` is the spec as JSON: names, units, limits. A
policy that draws noise at the start of an episode is exported with that of the seed 0.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn import durable
from robolearn.errors import CheckpointError, RobolearnError
from robolearn.networks.model_directory import writing
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.policy import TrainablePolicy

TOLERANCE = 1e-4  # of the range of an action, between the file and the policy
CHECKED_BATCHES = (1, 8)
PATCHES = 2  # of one colour, along each axis of a picture: of noise any network's keypoints lie in the middle
METADATA = "robolearn"


class _Answer(nn.Module):
    """Fields of the observation, in the order of the spec, to actions within their limits."""

    def __init__(self, policy: TrainablePolicy) -> None:
        super().__init__()
        self.policy = policy
        action = policy.spec.action
        self.limited = action.low is not None and action.high is not None
        if self.limited:
            self.register_buffer("low", torch.tensor(action.low))
            self.register_buffer("high", torch.tensor(action.high))

    def forward(self, *fields: Tensor) -> Tensor:
        answer = self.policy.best(dict(zip(self.policy.spec.observation, fields, strict=True)))
        return answer.clamp(self.get_buffer("low"), self.get_buffer("high")) if self.limited else answer


def export_policy(checkpoint: Path, out: Path | None = None) -> dict[str, Any]:
    """Write the policy of a checkpoint to `out`, by default beside it. The answer has `out`, `kind`, `inputs`,
    `max_error` (of the range of an action, over random observations) and `bytes`.

    Raises CheckpointError when there is no checkpoint, or when the file answers otherwise than the policy, in which
    case it is not kept; RobolearnError when ONNX is not installed.
    """
    out = checkpoint.with_name(checkpoint.name + ".onnx") if out is None else out
    policy = load_policy(checkpoint)
    policy.reset(0)
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401, the exporter of torch asks for it
    except ImportError as error:
        raise RobolearnError(
            f"export wants ONNX, which is not installed ({error.name}): pip install 'robolearn[onnx]'"
        ) from error

    if out.is_dir():
        raise RobolearnError(f"{out} is a folder; name a file in it, as in {out / (checkpoint.name + '.onnx')}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RobolearnError(f"{out} cannot be written: {error.filename}: {error.strerror}") from error
    answer = _Answer(policy).eval()
    names = list(policy.spec.observation)
    rng = np.random.default_rng(0)
    fields = tuple(torch.from_numpy(values) for values in _observations(policy, 2, rng).values())
    batch = torch.export.Dim("batch", min=1)
    program = _translate(answer, fields, names, [{0: batch} for _ in names])
    program.model.metadata_props[METADATA] = json.dumps(policy.spec.to_json())
    partial = out.with_name(f".{out.name}.partial")
    try:
        with writing(partial):
            program.save(str(partial))
        onnx.checker.check_model(str(partial))
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        errors = []
        for size in CHECKED_BATCHES:
            observation = _observations(policy, size, rng)
            with torch.no_grad():
                wanted = answer(*(torch.from_numpy(values) for values in observation.values())).numpy()
            errors.append(_largest_error(policy, session.run(["action"], observation)[0], wanted))
        worst = float(np.max(errors))  # NaN where one is
        if not worst <= TOLERANCE:
            raise CheckpointError(
                f"{checkpoint} as ONNX answers otherwise than the policy, by {worst:.2g} of an action's range; "
                "not written"
            )
        durable.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    kind = read_config(checkpoint)["kind"]
    return {"out": out, "kind": kind, "inputs": names, "max_error": worst, "bytes": out.stat().st_size}


def _translate(answer: nn.Module, fields: tuple[Tensor, ...], names: list[str], shapes: list[Any]) -> Any:
    """The exporter's program. It warns of its own inside, which nobody here can mend."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                answer,
                fields,
                dynamo=True,
                input_names=names,
                output_names=["action"],
                dynamic_shapes=(tuple(shapes),),
                verbose=False,
            )
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def _observations(policy: TrainablePolicy, size: int, rng: np.random.Generator) -> dict[str, NDArray]:
    """Random ones like those of the training, pictures of a few patches, with a leading axis."""
    answer: dict[str, NDArray] = {}
    for name, field in policy.spec.shown.items():
        if np.dtype(field.dtype) == np.uint8:
            *history, height, width, channels = field.shape
            patches = rng.integers(0, 256, (size, *history, PATCHES, PATCHES, channels), dtype=np.uint8)
            rows, columns = (np.arange(length) * PATCHES // length for length in (height, width))
            answer[name] = patches[..., rows, :, :][..., columns, :]
            continue
        seen = policy.statistics.get(name)
        mean, std = (0.0, 1.0) if seen is None else (np.asarray(seen.mean), np.asarray(seen.std))
        answer[name] = (mean + std * rng.standard_normal((size, *field.shape))).astype(np.float32)
    return answer


def _largest_error(policy: TrainablePolicy, found: NDArray, wanted: NDArray) -> float:
    """As a share of the range of an action, or in its unit where it has none; NaN where one of both is."""
    action = policy.spec.action
    limited = action.low is not None and action.high is not None
    scale = np.asarray(action.high) - np.asarray(action.low) if limited else np.ones(action.shape)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    return float("inf") if found.shape != wanted.shape else float(np.abs((found - wanted) / scale).max())
