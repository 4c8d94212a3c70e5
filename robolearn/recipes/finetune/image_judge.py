"""Reward models of pictures as judges: a frame is done where the model's value is above a threshold.

A success classifier has a threshold of its own. Another model's is chosen on the frames of successes, and on failed
episodes where there are any, which are decided as attempts are; where successes begin is taken from them, too: on the
way from there to the threshold the potential of dense rewards (`dense.py`) goes from 0 to 1. Old episodes are scored
once, and the values kept in the run.
Legend: T steps, H W image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn import durable
from robolearn.cell import load_cell
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_space import DECISION_TICKS, resized
from robolearn.errors import CheckpointError, SpecError
from robolearn.networks.model_directory import CONFIG_FILE
from robolearn.networks.open_clip import OpenClipConfig
from robolearn.recipes.finetune.data import SURE_FRAMES, UNSURE_FRAMES, Recorded
from robolearn.recipes.finetune.judges import Frames
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.rewards.data import RewardData
from robolearn.rewards.reward_model import Episodes, RewardModel, cameras_of
from robolearn.rewards.saved import load_reward, may_know, require_trusted, trained_tasks
from robolearn.rewards.success import MIN_FOUND, SuccessReward, area_under_roc, decision_strength, threshold_between
from robolearn.rewards.vlm import VLMConfig, VLMReward
from robolearn.tasks import make_task

FILE, VALUES = "image_judge.json", "image_values.npz"
FALSE_FRAMES = 0.002  # of the earlier frames of successes
FALSE_EPISODES = 0.01  # of the failed episodes
Given = TypeVar("Given")
TINY = 1e-12  # way from start to threshold, where there is none


class ImageJudge:
    """Scores pictures tick by tick, with those of the attempt before them where the model looks back."""

    def __init__(
        self, config: FinetuneConfig, starts: Sequence[float], thresholds: Sequence[float], size: tuple[int, int]
    ) -> None:
        """starts, thresholds: values of each task where it begins and is done; size: (H, W) that the models have
        seen."""
        self.models = load_models(config)
        self.cameras = tuple(sorted({camera for model in self.models for camera in cameras_of(model)}))
        self.size = size
        self._starts, self._thresholds = starts, thresholds
        self._texts = [make_task(task).instruction for task in config.task_ids]
        self.begin()

    def begin(self) -> None:
        """An attempt begins."""
        self._images: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in self.cameras}
        self._proprio: list[NDArray[np.float32]] = []
        self._last: tuple[Frames | None, NDArray[np.float32]] = None, np.zeros(0, np.float32)

    def done(self, frames: Frames, task: int) -> NDArray[np.bool_]:
        return np.asarray(self._values(frames, task) > self._thresholds[task])

    def potential(self, frames: Frames, task: int) -> NDArray[np.float32]:
        start, threshold = self._starts[task], self._thresholds[task]
        way = max(threshold - start, TINY)
        return np.clip((self._values(frames, task) - start) / way, 0.0, 1.0).astype(np.float32)

    def _values(self, frames: Frames, task: int) -> NDArray[np.float32]:
        """Known ones; those of pictures are asked for once, in the order of time."""
        if frames.values is not None:
            return frames.values
        if frames is not self._last[0]:
            self._last = frames, self._score(frames, task)
        return self._last[1]

    def _score(self, frames: Frames, task: int) -> NDArray[np.float32]:
        model, count = self.models[task], len(frames.images)
        for images in frames.images:
            for camera, pictures in self._images.items():
                pictures.append(resized(images[camera], self.size))
        if frames.proprio is not None:
            self._proprio += list(frames.proprio)
        looks_back = hasattr(getattr(model, "config", None), "window")
        kept = slice(None) if looks_back else slice(-count, None)
        shown = {camera: torch.from_numpy(np.stack(pictures[kept]))[None] for camera, pictures in self._images.items()}
        proprio = torch.from_numpy(np.stack(self._proprio[kept]))[None] if self._proprio else None
        value = model.score(Episodes(shown, [self._texts[task]], proprio)).value
        return value[0, -count:].cpu().numpy().astype(np.float32)


def load_models(config: FinetuneConfig) -> list[RewardModel]:
    """One for each task. A folder of `vlm` may also be an open_clip one: its goal is then the task's instruction."""
    return _one_each([_load(Path(folder), config) for folder in config.reward_models], config)


def check_models(config: FinetuneConfig) -> list[str]:
    """Raises what keeps the models from judging here, before anything is written; what was forced, in words."""
    forced = []
    if config.real:
        forced = [require_trusted(Path(folder), config.force_reward) for folder in config.reward_models]
    eyes = load_cell(Path(config.cell)).cameras if config.cell else None
    for model in load_models(config):
        for camera in cameras_of(model):
            if eyes is not None and camera not in eyes:
                raise SpecError(f"the reward model looks at camera {camera!r}; {config.cell} has {', '.join(eyes)}")
        if model.id != config.reward or not model.causal:
            raise SpecError(f"a reward model {model.id} came for --reward {config.reward}; give one of that name")
    return [problem for problem in forced if problem]


def check_learned_from(config: FinetuneConfig) -> None:
    """Raises SpecError for models that have learned other tasks than those which they are to judge: a success
    classifier, which knows nothing of sentences, wants its own, another model one of the run's. `vlm` learns none."""
    if config.reward == "vlm" or not config.reward_models:
        return
    for folder, task in zip(_one_each(config.reward_models, config), config.task_ids, strict=True):
        learned, wanted = trained_tasks(Path(folder)), {task} if config.reward == "success" else {*config.task_ids}
        if not may_know(learned, wanted):
            raise SpecError(
                f"{folder} has learned {', '.join(sorted(learned))}, and came for {task}; give a model each, "
                "the target's first: --reward-model FOLDER FOLDER"
            )


def check_shown(config: FinetuneConfig, paths: Sequence[Path]) -> None:
    """Raises what keeps the models from scoring the pictures of these datasets: a camera or size that is not theirs."""
    for model in load_models(config):
        for path in paths:
            shown = RewardData(path).episodes([0], cameras_of(model))
            first = {camera: pictures[:, :1] for camera, pictures in shown.images.items()}
            model.score(Episodes(first, shown.text, None if shown.proprio is None else shown.proprio[:, :1]))


def score_old(config: FinetuneConfig, run: Path, paths: Sequence[Path], episodes: Sequence[Recorded]) -> list[Recorded]:
    """The episodes of these datasets, in order, with their values, which are kept in the run: whole, or not at all.
    They are made anew where a dataset has grown: then some are missing, or of an episode of another length."""
    names = [f"episode_{index}" for index in range(len(episodes))]
    values: list[NDArray[np.float32]] = []
    if (run / VALUES).exists():
        with np.load(run / VALUES, allow_pickle=False) as kept:
            values = [kept[name] for name in names if name in kept]
    if [len(value) for value in values] != [len(episode.states) for episode in episodes]:
        values = _scored(load_models(config), [make_task(task).instruction for task in config.task_ids], paths)
        partial = run / f".{VALUES}.partial"
        with partial.open("wb") as file:
            np.savez(file, **dict(zip(names, values, strict=True)))  # type: ignore[arg-type]
        durable.replace(partial, run / VALUES)
    return [replace(episode, values=value) for episode, value in zip(episodes, values, strict=True)]


def prepare_image_judge(config: FinetuneConfig, run: Path, paths: Sequence[Path], episodes: Sequence[Recorded]) -> str:
    """Choose the thresholds and where successes begin; in words, how they do there.

    Raises SpecError where no episode of a task succeeded.
    """
    starts, thresholds, worst = [], [], {"false_positive_rate": 0.0, "true_positive_rate": 1.0, "area_under_roc": 1.0}
    failures = called_done = 0
    models = load_models(config)
    for task, name in enumerate(config.task_ids):
        mine, model = _values(episodes, task, success=True), models[task]
        if not mine:
            raise SpecError(f"no demonstration of {name} succeeded; the threshold of its reward model wants some")
        own = model.config.threshold if isinstance(model, SuccessReward) else None
        threshold, failed, called = chosen_threshold(episodes, task, config.supervisor.consecutive, own)
        failures, called_done = failures + failed, called_done + called
        starts.append(float(np.median([values[0] for values in mine])))
        thresholds.append(threshold)
        if config.shaping and threshold <= starts[-1]:
            raise SpecError(
                f"the reward model gives {starts[-1]:g} where demonstrations of {name} begin and {threshold:g} "
                "where they are done; it cannot make the reward dense, train a better one or leave shaping out"
            )
        done, before = _frames(mine)
        labels = np.r_[np.ones(done.size, np.bool_), np.zeros(before.size, np.bool_)]
        facts = {
            "false_positive_rate": float((before > threshold).mean()),
            "true_positive_rate": float((done > threshold).mean()),
            "area_under_roc": area_under_roc(np.r_[done.ravel(), before], labels),
        }
        worst = {key: (max if key[0] == "f" else min)(worst[key], value) for key, value in facts.items()}
    camera = cameras_of(models[0])[0]
    about = {
        "starts": starts,
        "thresholds": thresholds,
        "demonstrations": worst,
        "failed": {"episodes": failures, "called_done": called_done},
        "size": RewardData(paths[0]).image_size(camera),
    }
    (run / FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    found, wrong = worst["true_positive_rate"], worst["false_positive_rate"]
    return (
        f"finds {found:.0%} of the demonstrations' frames that are done, errs in {wrong:.2%} of those before, calls "
        f"{called_done} of {failures} failed episodes done"
    )


def chosen_threshold(
    episodes: Sequence[Recorded], task: int, consecutive: int, own: float | None = None
) -> tuple[float, int, int]:
    """A threshold of the values, how many episodes of the task failed, and how many of these it calls done.

    own: that of a model which has one; it is kept. Else by frames at most a share FALSE_FRAMES of those before the end
    of successes is above it, by episodes at most a share FALSE_EPISODES of the failed ones is called done by
    `consecutive` frames in a row: but MIN_FOUND of the last frames, and of the successes, are found whatever that lets
    through.
    """
    done, before = _frames(_values(episodes, task, success=True))
    strict, found = np.quantile(before, 1.0 - FALSE_FRAMES), np.quantile(done, 1.0 - MIN_FOUND)
    threshold = float(min(strict, np.nextafter(found, -np.inf)))
    failed = _values(episodes, task, success=False)
    strength = np.array([float(decision_strength(torch.from_numpy(values)[None], consecutive)) for values in failed])
    if own is not None:
        threshold = own
    elif failed:
        threshold = max(threshold, threshold_between(strength, done.min(1), FALSE_EPISODES))
    return threshold, len(failed), int((strength > threshold).sum())


def _values(episodes: Sequence[Recorded], task: int, success: bool) -> list[NDArray[np.float32]]:
    """(T,) of each episode of the task with this outcome."""
    mine = [each.values for each in episodes if each.task == task and each.success is success]
    return [values[:, task] for values in mine if values is not None]


def _frames(successes: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of successes the frames that are done, (N, SURE_FRAMES), and those of which it is known that they are not."""
    done = np.stack([values[-SURE_FRAMES:] for values in successes])
    return done, np.concatenate([values[:-UNSURE_FRAMES] for values in successes])


def open_image_judge(config: FinetuneConfig, run: Path) -> ImageJudge:
    """That of a prepared run."""
    try:
        about = json.loads((run / FILE).read_text(encoding="utf-8"))
        height, width = about["size"]
        return ImageJudge(config, about["starts"], about["thresholds"], (height, width))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / FILE} cannot be read ({error}); begin another run") from error


def _one_each(given: Sequence[Given], config: FinetuneConfig) -> list[Given]:
    """For every task of the run what was given for it, or for all of them."""
    return [*given] if len(given) == len(config.task_ids) else [*given] * len(config.task_ids)


def _load(folder: Path, config: FinetuneConfig) -> RewardModel:
    saved = folder / CONFIG_FILE
    if config.reward == "vlm" and not (saved.exists() and "reward" in json.loads(saved.read_text(encoding="utf-8"))):
        clip = OpenClipConfig(model_dir=str(folder), device=config.compute.device)
        return VLMReward(VLMConfig(alpha=0.0, clip=clip))
    return load_reward(folder, config.compute.device)


def _scored(models: Sequence[RewardModel], texts: Sequence[str], paths: Sequence[Path]) -> list[NDArray[np.float32]]:
    """(T, tasks) of every episode that `read_recorded` reads."""
    values = []
    for path in paths:
        data, store = RewardData(path), ZarrStore.open(path)
        for index, info in enumerate(store.episodes):
            if info.length > DECISION_TICKS:
                shown = data.episodes([index])
                each = [
                    model.score(replace(shown, text=[text])).value[0].cpu().numpy()
                    for model, text in zip(models, texts, strict=True)
                ]
                values.append(np.stack(each, axis=1).astype(np.float32))
    return values
