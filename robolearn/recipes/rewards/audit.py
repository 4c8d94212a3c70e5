"""Audit reward models on the episodes of a dataset, one or many beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.columns import Column, column_beside
from robolearn.datasets.held import held
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.label import TRAIN_EPISODES
from robolearn.recipes.rewards.settings import Report
from robolearn.rewards.audit import Audit, AuditEpisode, Scores, agreement, audit
from robolearn.rewards.reward_model import RewardModel, cameras_of, trained_on
from robolearn.rewards.saved import load_reward, may_know, save_audit, trained_tasks
from robolearn.rewards.success import decided

NEAR_MISS = "near_miss"  # tag of a failed episode that came close
NEAR_PROGRESS = 0.5  # a failure whose true progress came this far is one, too


@dataclass(frozen=True)
class Audits:
    """Audits of some models on the same episodes, best first, with what a page needs to show them. `chosen` says which
    episodes of a dataset they are, and of models that saw some of it whether these are among them."""

    episodes: list[int]
    facts: list[AuditEpisode]
    scores: list[Scores]
    models: list[Audit]
    agreement: dict[str, dict[str, float | None]]
    chosen: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "episodes": len(self.episodes),
            "successes": sum(one.success is True for one in self.facts),
            "outcome_unknown": sum(one.success is None for one in self.facts),
            "near_misses": sum(one.near_miss for one in self.facts),
            "chosen": self.chosen,
            "models": [one.to_json() for one in self.models],
            "agreement": self.agreement,
        }


def audit_dataset(
    dataset: Path,
    models: Mapping[str, RewardModel],
    columns: Sequence[str] = (),
    all_episodes: bool = False,
    progress: Report = lambda done, text: None,
) -> Audits:
    """Audit models, and columns that the dataset was labelled with, on the episodes of it that none of them was trained
    on; on all where there are no others, or `all_episodes` are wanted.

    Raises DatasetError for a column that is not there or lacks an episode, and for a shaped one.
    """
    data = RewardData(dataset)
    sources = [trained_on(model) for model in models.values()]
    silent = []
    for name in columns:
        if potential := shaped_from(data.store.columns.get(name)):
            raise DatasetError(
                f"{name} is made of differences and of what was paid anyway, as success, so its values say nothing of "
                f"how an episode ended; audit {potential}"
            )
        told = learned_from(data, name)
        sources.append(frozenset(told or ()))
        silent += [name] if told is None else []
    seen = frozenset().union(*sources)
    every = range(len(data.store.episodes))
    fresh = [index for index in every if data.store.episodes[index].id not in seen]
    indices = list(every) if all_episodes or not fresh else fresh
    chosen = []
    if len(fresh) < len(every):
        number = len(every) - len(fresh)
        chosen.append(
            f"judged on the {len(fresh)} of {len(every)} episodes that no model was trained on"
            if indices == fresh
            else f"judged on all {len(every)} episodes, of which models were trained on {number}, which flatters them"
        )
    if silent:
        chosen.append(f"older columns do not say what their models were trained on: {', '.join(silent)}")
    return replace(audit_models(data, indices, models, columns, progress), chosen="; ".join(chosen))


def audit_models(
    data: RewardData,
    indices: Sequence[int],
    models: Mapping[str, RewardModel],
    columns: Sequence[str] = (),
    progress: Report = lambda done, text: None,
) -> Audits:
    """Audit models and columns on the episodes of these indices. `progress` counts models."""
    facts = [_facts(data, index) for index in indices]
    scores: list[Scores] = []
    for name, model in models.items():
        progress(len(scores), name)
        scores.append(_scores(data, indices, name, model))
    scores += [_column(data, indices, name) for name in columns]
    progress(len(scores), "")
    audits = [audit(one, facts) for one in scores]
    order = sorted(range(len(audits)), key=lambda i: (not audits[i].passed, -(audits[i].metrics["success_auroc"] or 0)))
    scores = [scores[i] for i in order]
    return Audits(list(indices), facts, scores, [audits[i] for i in order], agreement(scores))


def keep_audit(path: Path, dataset: Path, audits: Audits) -> tuple[bool, str]:
    """Keep the audit with the model in the folder `path`: that of the episodes of its tasks that it was not trained on,
    in whatever dataset they are, for on the others it proves nothing. Whether the model passed there, and a line that
    says so."""
    model, tasks = load_reward(path), trained_tasks(path)
    infos = ZarrStore.open(dataset).episodes
    unseen = [row for row, index in enumerate(audits.episodes) if infos[index].id not in trained_on(model)]
    if not unseen:
        return False, f"{path} was trained on all episodes of {dataset}: this audit is not kept; audit it on others"
    rows = [row for row in unseen if may_know(tasks, {infos[audits.episodes[row]].task})]
    if not rows:
        learned = f"has learned {', '.join(sorted(tasks))}, of which {dataset} has no episode that it does not know"
        return False, f"{path} {learned}: this audit is not kept; audit it on others"
    scores = next(each for each in audits.scores if each.name == f"{model.id}-{model.version}")
    one = audit(scores.of(rows), [audits.facts[row] for row in rows])
    save_audit(path, {**one.to_json(), "dataset": str(dataset), "episodes": len(rows)})
    which = "which it was not trained on" if rows == unseen else "those of its task that it was not trained on"
    on = "" if len(rows) == len(infos) else f" on {len(rows)} of {len(infos)} episodes, {which}"
    return one.passed, f"{path}: {'passed' if one.passed else 'missed its gates'}{on}, kept with the model"


def _facts(data: RewardData, index: int) -> AuditEpisode:
    info = data.store.episodes[index]
    truth = data.truth(index)
    near = bool(info.tags.get(NEAR_MISS, truth is not None and float(truth.progress.max()) >= NEAR_PROGRESS))
    stages, stage = ((), None) if truth is None else (truth.stages, truth.stage)
    if annotated := data.annotated_stages(index):
        stages, stage = annotated[0], annotated[1].stage
    poses = [name for name in data.store.spec.fields if name.startswith("pose_")]
    features = None
    if poses:
        rows, valid = data.store.read(index, ["proprio", *poses]), data.store.read_valid(index)
        features = np.concatenate([held(rows[n], valid[n]) for n in rows], axis=1).astype(np.float64)
    return AuditEpisode(
        success=info.success,
        near_miss=near and info.success is False,
        terminated=info.terminated,
        progress=None if truth is None else truth.progress,
        stage=stage,
        stages=stages,
        reference=None if truth is None else truth.reward,
        features=features,
    )


def _scores(data: RewardData, indices: Sequence[int], name: str, model: RewardModel) -> Scores:
    value: list[NDArray[np.float64]] = []
    done: list[bool] = []
    stage: list[NDArray[np.int64]] = []
    for group, episodes in data.batches(indices, cameras_of(model)):
        output = model.score(episodes)
        for row, index in enumerate(group):
            length = data.store.episodes[index].length
            value.append(output.value[row, :length].double().cpu().numpy())
            if "done" in output.raw:
                done.append(bool(output.raw["done"][row, :length].any()))
            if "stage" in output.raw:
                stage.append(output.raw["stage"][row, :length].cpu().numpy())
    stages = tuple(getattr(getattr(model, "config", None), "stages", ()))
    return Scores(name, model.kind, value, done or None, stage or None, stages)


def shaped_from(column: Column | None) -> str:
    """The potential that a shaped column was made of; empty for another one."""
    return "" if column is None else str(column.attributes.get("potential", ""))


def learned_from(data: RewardData, name: str) -> Sequence[str] | None:
    """Ids of the episodes that the model of a column, or those that a shaped one was made of, was trained on; None
    where nobody knows. The value says it for what is written beside it. Raises DatasetError for a column that is not
    there."""
    columns = data.store.columns
    if name not in columns:
        raise DatasetError(f"{data.path} has no column {name!r}; it has {', '.join(columns) or 'none'}")
    if potential := shaped_from(columns[name]):
        paid = columns[name].attributes["reward"]
        told = [learned_from(data, part) for part in (potential, *([paid] if paid in columns else []))]
        known = [ids for ids in told if ids is not None]
        return sorted(set().union(*known)) if len(known) == len(told) else None
    suffix = name.partition("/")[2]
    alike = [column.attributes for other, column in columns.items() if other.partition("/")[2] == suffix]
    return next((one[TRAIN_EPISODES] for one in alike if TRAIN_EPISODES in one), None)


def _column(data: RewardData, indices: Sequence[int], name: str) -> Scores:
    columns = data.store.columns
    kind = columns[name].attributes.get("kind", "reward")
    value = [data.store.read(i, [name])[name].astype(np.float64) for i in indices]
    stages = column_beside("stage", name)
    stage = [data.store.read(i, [stages])[stages] for i in indices] if stages in columns else None
    told = columns[name].attributes.get("settings")
    settings = told if isinstance(told, Mapping) else {}
    done = column_beside("done", name)
    if kind == "success" and done in columns:
        return Scores(name, kind, value, [bool(data.store.read(i, [done])[done].any()) for i in indices])
    return Scores(name, kind, value, _decided(settings, value), stage, tuple(settings.get("stages", ())))


def _decided(settings: Mapping[str, Any], value: Sequence[NDArray[np.float64]]) -> list[bool] | None:
    """Whether a classifier with the settings of its column, whose decisions were not written beside it, decided that
    each episode was done; None without any."""
    if not {"threshold", "consecutive"} <= settings.keys():
        return None
    return [bool(decided(one, settings).any()) for one in value]
