"""Checkpoints: a directory with `config.json` and `weights.safetensors`, enough for a policy server and nothing more.

config.json holds format, kind, robolearn_version, config, spec, statistics and provenance (how it was trained).
Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from robolearn import __version__
from robolearn.errors import CheckpointError, UnknownNameError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.chunking import ChunkPolicy
from robolearn.specs import InterfaceSpec

Config = TypeVar("Config")

FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "weights.safetensors"

POLICIES: dict[str, type[ChunkPolicy]] = {"chunking": ChunkPolicy}
"""Every policy class that a checkpoint can hold, by kind."""


def save_policy(policy: ChunkPolicy, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write the policy to the directory `path`; a checkpoint there is replaced whole or not at all."""
    kind = next(kind for kind, policy_class in POLICIES.items() if type(policy) is policy_class)
    config = {
        "format": FORMAT,
        "kind": kind,
        "robolearn_version": __version__,
        "config": asdict(policy.config),
        "spec": policy.spec.to_json(),
        "statistics": {name: field.to_json() for name, field in policy.statistics.items()},
        "provenance": dict(provenance or {}),
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.state_dict().items()}
    with _replacing(path) as partial:
        save_file(weights, partial / WEIGHTS_FILE)
        (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_policy(path: Path, device: str = "cpu", interface: InterfaceSpec | None = None) -> ChunkPolicy:
    """The policy in the directory `path`, ready to act.

    With `interface`, the environment or robot it is meant for, raises SpecError unless the two fit. Raises
    CheckpointError when `path` is no checkpoint, is damaged, or was written by another format.
    """
    config = read_config(path)
    policy_class = POLICIES[config["kind"]]
    try:
        spec = InterfaceSpec.from_json(config["spec"])
        statistics = {name: FieldStatistics.from_json(field) for name, field in config["statistics"].items()}
        policy = policy_class(spec, statistics, config_from_json(policy_class.config_type, config["config"]))
    except (KeyError, TypeError, ValueError) as error:
        version = config.get("robolearn_version", "an unknown version")
        raise CheckpointError(
            f"checkpoint {path}: {CONFIG_FILE} of robolearn {version} does not fit robolearn {__version__} ({error})"
        ) from error
    if interface is not None:
        policy.spec.require(interface, f"checkpoint {path}", "the robot")
    try:
        policy.load_state_dict(load_file(path / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"checkpoint {path} is damaged: {WEIGHTS_FILE}: {reason}; use another one") from error
    return policy.to(torch.device(device)).eval()


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of the checkpoint at `path`. Raises CheckpointError, or UnknownNameError for the kind."""
    file = path / CONFIG_FILE
    if not file.is_file():
        inside = [name for name in ("best", "checkpoints/best") if (path / name / CONFIG_FILE).is_file()]
        hint = f"did you mean {path / inside[0]}?" if inside else f"it has no {CONFIG_FILE}"
        raise CheckpointError(f"{path} is not a checkpoint; {hint if path.exists() else 'it does not exist'}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {CONFIG_FILE}: {error}; use another one") from error
    if not isinstance(config, dict) or "kind" not in config:
        raise CheckpointError(f"{path} is not a checkpoint; its {CONFIG_FILE} names no kind of policy")
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has format {config.get('format')}, this robolearn reads {FORMAT}; "
            "use the version that wrote it or train again"
        )
    if config["kind"] not in POLICIES:
        raise UnknownNameError("policy kind", str(config["kind"]), POLICIES)
    return config


def config_from_json(config_class: type[Config], data: Mapping[str, Any]) -> Config:
    """The config dataclass whose `asdict` this is. Raises TypeError for fields that it does not have."""
    types = get_type_hints(config_class)
    values: dict[str, Any] = {}
    for name, value in data.items():
        if is_dataclass(types.get(name)):
            value = config_from_json(types[name], value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return config_class(**values)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new directory that takes the place of `path` once it is complete and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    yield partial
    for file in [*partial.iterdir(), partial]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    if path.exists():
        path.rename(old)
    partial.rename(path)
    shutil.rmtree(old, ignore_errors=True)
