"""Which reward model a command means, and which of its options a model heeds."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from robolearn.cli.output import require_heeded, say
from robolearn.errors import RobolearnError

As = Annotated[str, arg(name="as")]

UNTRAINED = ("vlm", "keypoints")  # models that learn nothing, and label as options of `label` say

CLIP_OPTIONS = ("model", "pretrained", "model_dir")
VLM_OPTIONS = ("goal", "baseline", "alpha", *CLIP_OPTIONS, "batch_size", "precision")

LABELLER_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "task": ("pairs", "wrong_answers"),
    "outcome": ("pairs", "wrong_answers"),
    "factors": ("pairs", "wrong_answers", "factors"),
    "endpoint": ("pairs", "goal", "asked"),
    "people": (),
}
"""Options of commands that compare pairs that not all labellers heed."""


def require_clip_heeds(command: Callable[..., int], given: Mapping[str, Any]) -> None:
    """`require_heeded` of what names a CLIP and its prompts: alpha 0 heeds no baseline, and a directory no names."""
    names = ("model", "pretrained")
    require_heeded(command, given, () if given["alpha"] == 0 else ("baseline",), ("baseline",), "--alpha 0")
    require_heeded(command, given, () if given["model_dir"] else names, names, "a CLIP of --model-dir")


def strength(alpha: float | None, baseline: tuple[str, ...]) -> float:
    """The alpha that is meant."""
    if alpha is not None:
        return alpha
    return 0.5 if baseline else 0.0


def require_labeller_heeds(command: Callable[..., int], given: Mapping[str, Any]) -> None:
    """`require_heeded` of the command's `labeller`: who asks for a model's answers is not to get those of a rule."""
    labeller = given["labeller"]
    some = set(chain(*LABELLER_OPTIONS.values()))
    require_heeded(command, given, LABELLER_OPTIONS[labeller], some, f"comparisons by --labeller {labeller}")


def reward_model(name: str, config: Path | None, device: str, vlm: dict[str, Any], clip: dict[str, Any]) -> Any:
    """A trained model by its folder or address, or one that needs no training by name.

    Args:
        name: a folder, http://HOST:PORT, or a name in `REWARDS`.
        config: a JSON file with the settings of a model that needs no training.
        device: of a trained model: cpu or cuda.
        vlm: of `vlm` without a file: fields of VLMConfig.
        clip: of `vlm` without a file: fields of OpenClipConfig.

    Raises:
        RobolearnError: there is no such model, it has to be trained, or the file does not hold its settings.
    """
    from torch.nn import Module

    from robolearn.networks.model_directory import config_from_json
    from robolearn.networks.open_clip import OpenClipConfig
    from robolearn.rewards import REWARDS, reward_class
    from robolearn.rewards.saved import load_reward
    from robolearn.rewards.score_client import SCHEMES, RemoteReward
    from robolearn.rewards.vlm import VLMConfig

    trained = name.startswith(SCHEMES) or (name not in REWARDS and (Path(name).exists() or len(Path(name).parts) > 1))
    if trained and config is not None:
        raise RobolearnError(f"{name} was trained with settings of its own; leave --config out")
    if trained:
        return RemoteReward(name) if name.startswith(SCHEMES) else load_reward(Path(name), device)
    kind = reward_class(name)
    if name == "ensemble":
        raise RobolearnError("an ensemble is made of trained ones: robolearn reward combine MODEL MODEL --out FOLDER")
    if name == "three_signals":
        kind(kind.config_type())  # says whom it asks
    if issubclass(kind, Module):
        raise RobolearnError(f"{name} has to be trained first: robolearn reward train {name} --dataset ... --out MODEL")
    if config is not None:
        try:
            return kind(config_from_json(kind.config_type, json_module.loads(config.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            raise RobolearnError(f"{config} does not hold the settings of {name}: {error}") from error
    if name == "keypoints":
        raise RobolearnError(
            "keypoints needs waypoints: give `robolearn label` --config with a JSON file, see docs/rewards.md, or have "
            "a model see them: robolearn reward train keypoints --endpoint-model NAME --dataset ... --out MODEL"
        )
    if name == "vlm":
        return kind(replace(VLMConfig(**vlm), clip=OpenClipConfig(**clip)))
    return kind(kind.config_type())


def gates_missed(audit: Mapping[str, Any]) -> str:
    """What an audit, as JSON has it, says was missed, in words."""
    from robolearn.rewards.audit import in_words

    return "; ".join(in_words(gate, audit) for gate in audit["missed"]) or "none"


def remark_other_data(model: str, dataset: Path) -> None:
    """Say where a model, as `reward_model` takes it, lies in a folder and has learned other tasks than those of the
    dataset, or at another rate."""
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.rewards import REWARDS
    from robolearn.rewards.saved import may_know, trained_hz, trained_tasks

    if model in REWARDS or not Path(model).exists():
        return
    store = ZarrStore.open(dataset)
    learned, shown = trained_tasks(Path(model)), {info.task for info in store.episodes}
    if not may_know(learned, shown):
        say(f"remark: {model} has learned {', '.join(sorted(learned))}; {dataset} is of {', '.join(sorted(shown))}")
    hz, shown_hz = trained_hz(Path(model)), store.spec.interface.control_hz
    if hz is not None and hz != shown_hz:
        say(
            f"remark: {model} has learned at {hz:g} steps a second, and what it looks back on and confirms is counted "
            f"in steps; {dataset} has {shown_hz:g} a second"
        )


def short(value: Any) -> str:
    """A measure as a table shows it; nothing where it was not measured."""
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
