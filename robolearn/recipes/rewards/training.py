"""Train a reward model on a dataset, audit it on episodes that it did not see, and save it.

`TRAINERS` says how each is made from data. `vlm` and `keypoints` have nothing to learn: they are only audited and
saved, the latter with the way that a vision model saw.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.errors import DatasetError, SpecError, UnknownNameError
from robolearn.networks.model_directory import require_place
from robolearn.recipes.rewards.audit import audit_models, learned_from
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.demonstrations import make_hop, make_matching, make_perceptual_steps
from robolearn.recipes.rewards.preference import train_preference
from robolearn.recipes.rewards.progress import train_progress
from robolearn.recipes.rewards.settings import Report, TrainingSettings
from robolearn.recipes.rewards.success import train_success
from robolearn.recipes.rewards.waypoints import make_keypoints
from robolearn.recipes.run import require_new
from robolearn.rewards.reward_model import RewardModel, initial_weights
from robolearn.rewards.saved import save_reward, trained_episodes
from robolearn.rewards.vlm import VLMReward

Trainer = Callable[[RewardData, Sequence[int], TrainingSettings, Report], RewardModel]
"""Makes a model from the episodes of these indices."""


def make_vlm(data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report) -> VLMReward:
    """Nothing is learned; a camera that is not there is found out before a large network is loaded."""
    data.image_size(settings.cameras[0])
    return VLMReward(replace(settings.vlm, camera=settings.cameras[0]))


TRAINERS: dict[str, Trainer] = {
    "vlm": make_vlm,
    "progress": train_progress,
    "success": train_success,
    "preference": train_preference,
    "hop": make_hop,
    "matching": make_matching,
    "perceptual_steps": make_perceptual_steps,
    "keypoints": make_keypoints,
}
"""Every reward model that is made from data, by name."""

ONE_CAMERA = ("vlm", "hop", "matching", "perceptual_steps", "keypoints")  # those that look at no more


@dataclass(frozen=True)
class Trained:
    """A model that was trained and saved: where, and its audit on the held-out episodes."""

    path: Path
    id: str
    version: str
    train_episodes: int
    held_out_episodes: int
    audit: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def train_reward(
    name: str,
    dataset: Path,
    out: Path,
    settings: TrainingSettings = TrainingSettings(),  # noqa: B008, it is frozen
    progress: Report = lambda done, text: None,
) -> Trained:
    """Train the model `name` on `dataset` and write it to `out`.

    Raises UnknownNameError for a model without a trainer, CheckpointError for a folder that is there or cannot be
    written, and DatasetError when the dataset has nothing to learn from, before anything is learned.
    """
    if name not in TRAINERS:
        raise UnknownNameError("trainable reward model", name, TRAINERS)
    if not settings.cameras or (name in ONE_CAMERA and len(settings.cameras) > 1):
        wanted = "one camera" if name in ONE_CAMERA else "one camera or more"
        raise SpecError(f"{name} looks at {wanted}; {', '.join(settings.cameras) or 'none'} came")
    require_new(out)
    require_place(out)
    data = RewardData(dataset)
    seen = trained_episodes(Path(settings.success_dir)) if settings.success_dir else set()
    for column in data.store.columns.keys() & set(settings.factors):
        seen.update(learned_from(data, column) or ())
    learn, held_out = split_episodes(data, settings, seen)
    with initial_weights(settings.seed):  # dropout draws from the global generator
        model = TRAINERS[name](data, learn, settings, progress)
    audits = audit_models(data, held_out, {f"{model.id}-{model.version}": model})
    facts = {
        "dataset": str(dataset),
        "settings": asdict(settings),
        "control_hz": data.store.spec.interface.control_hz,
        "train_tasks": [] if name == "vlm" else sorted({data.store.episodes[i].task for i in learn}),
        "train_episodes": sorted(seen.union(() if name == "vlm" else (data.store.episodes[i].id for i in learn))),
        "audit": audits.models[0].to_json(),
    }
    save_reward(model, out, facts)
    return Trained(out, model.id, model.version, len(learn), len(held_out), facts["audit"])  # type: ignore[arg-type]


def split_episodes(
    data: RewardData, settings: TrainingSettings, seen: Collection[str] = ()
) -> tuple[list[int], list[int]]:
    """Indices to learn from and held-out ones, successes and failures apart; of the latter none of these ids, which a
    model that is built upon was trained on. They are the same for all seeds: what several models of a dataset are
    audited on, an ensemble of them too, none of them was trained on."""
    rng = np.random.default_rng(0)
    learn: list[int] = []
    held_out: list[int] = []
    for outcome in (True, False):
        rows = [i for i, info in enumerate(data.store.episodes) if bool(info.success) is outcome]
        rows = [rows[i] for i in rng.permutation(len(rows))]
        unseen = [i for i in rows if data.store.episodes[i].id not in seen]
        chosen = unseen[: round(len(rows) * settings.held_out)]
        held_out += chosen
        learn += [i for i in rows if i not in chosen]
    if not learn or not held_out:
        built_on = settings.success_dir or ", ".join(settings.factors)
        but = f" that the model of {built_on} was not trained on" if seen else ""
        raise DatasetError(
            f"{data.path} has {len(data.store.episodes)} episodes, too few to hold {settings.held_out:.0%} of them "
            f"out{but}; record more"
        )
    return sorted(learn), sorted(held_out)
