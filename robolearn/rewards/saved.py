"""Reward models on disk: a model directory with name, version, settings, and how the model was trained and audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from robolearn import __version__
from robolearn.errors import CheckpointError, quoted
from robolearn.networks.devices import usable_device
from robolearn.networks.model_directory import (
    CONFIG_FILE,
    config_from_json,
    read_model_config,
    read_weights,
    unfit_weights,
    write_model,
)
from robolearn.rewards import reward_class
from robolearn.rewards.reward_model import RewardModel

WHAT = "reward model"


def save_reward(model: RewardModel, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write the model to the directory `path`; one that is there is replaced whole or not at all."""
    config = {
        "reward": model.id,
        "version": model.version,
        "config": asdict(model.config),  # type: ignore[attr-defined]
        "provenance": dict(provenance or {}),
    }
    write_model(path, config, model.state_dict() if isinstance(model, nn.Module) else {})


def load_reward(path: Path, device: str = "cpu") -> RewardModel:
    """The model in the directory `path`, ready to score, with what `trained_on` wants to know.

    Raises CheckpointError when there is none, it is damaged, or its settings and weights are not those of its version,
    and SpecError for a device that is not there.
    """
    place = usable_device(device)
    config = read_model_config(path, WHAT)
    if "reward" not in config:
        raise CheckpointError(f"{path} is not a reward model; its {CONFIG_FILE} names none")
    kind = reward_class(str(config["reward"]))
    try:
        model = kind(_on_device(config_from_json(kind.config_type, config["config"]), device))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{WHAT} {path}: {CONFIG_FILE} of robolearn {config.get('robolearn_version', 'an unknown version')} does "
            f"not fit robolearn {__version__} ({error})"
        ) from error
    weights = read_weights(path, WHAT)
    if isinstance(model, nn.Module):
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise unfit_weights(path, error, WHAT) from error
        model = model.to(place).eval()
    if model.version != config.get("version"):
        raise CheckpointError(
            f"{WHAT} {path} says version {config.get('version')}, its settings and weights are {model.version}; "
            "one of its files was changed: save it again or take another one"
        )
    model.trained_on = frozenset(_trained_on(config))
    return model


def trained_episodes(path: Path) -> set[str]:
    """Ids of the episodes that the model in the directory `path` was trained on, or models that it refers to."""
    return set(_trained_on(read_model_config(path, WHAT)))


def trained_tasks(path: Path) -> set[str]:
    """Tasks of the episodes that the model in the directory `path` was trained on, or models that it refers to; of
    episodes that tell none the empty name. Empty where nothing was learned, or nobody knows."""
    return set(read_model_config(path, WHAT).get("provenance", {}).get("train_tasks", ()))


def may_know(learned: Set[str], tasks: Set[str]) -> bool:
    """Whether a model of these `trained_tasks` may know one of the tasks of episodes; who tells none may be of any."""
    return not learned or "" in learned | tasks or not learned.isdisjoint(tasks)


def trained_hz(path: Path) -> float | None:
    """Steps a second of what the model in the directory `path` has learned from, or all models that it refers to; None
    where nothing was learned, or nobody knows."""
    provenance = read_model_config(path, WHAT).get("provenance", {})
    return provenance.get("control_hz") if provenance.get("train_tasks") else None


def save_audit(path: Path, audit: Mapping[str, Any]) -> None:
    """Keep an audit of the model in the directory `path`, in the place of the one that it had."""
    config = read_model_config(path, WHAT)
    config["provenance"] = {**config.get("provenance", {}), "audit": dict(audit)}
    write_model(path, config, read_weights(path, WHAT))


def require_trusted(path: Path, force: bool = False) -> str:
    """Raise CheckpointError unless the model in `path` passed its newest audit: it may label, but not teach a robot.

    With `force` it is let through, and the answer says what was wrong with it; of a model that passed it is empty.
    """
    config = read_model_config(path, WHAT)
    audit = config.get("provenance", {}).get("audit")
    if audit is not None and audit.get("passed"):
        return ""
    missed = ", ".join(audit["missed"]) if audit else ""
    problem = f"missed gates of its audit: {missed or 'all'}" if audit else "was never audited"
    if force:
        return f"{WHAT} {path} {problem}; used all the same, for somebody forced it"
    raise CheckpointError(
        f"{WHAT} {path} {problem}; it may label a dataset, but nothing is learned from it on a real robot: train "
        f"it better, show with `robolearn reward audit DATASET --reward {quoted(path)}` that it can be trusted, or "
        "force it"
    )


def _trained_on(config: Mapping[str, Any]) -> Sequence[str]:
    return config.get("provenance", {}).get("train_episodes", ())


def _on_device(config: Any, device: str) -> Any:
    """The config with every `device` inside it set."""
    changes: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name == "device":
            changes[each.name] = device
        elif is_dataclass(value):
            changes[each.name] = _on_device(value, device)
    return replace(config, **changes)
