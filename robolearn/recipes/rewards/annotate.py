"""Say where the stages of recorded episodes begin: as a vision model sees it, as the task judges, or as a file says.

What is written are annotations as people make them, one a stage, by an author of their own; `reward train progress`
learns from them. Chen et al., "SARM", 2025, section 3. An episode that cannot be annotated is left alone and told of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robolearn.datasets.edit import annotate
from robolearn.datasets.store import Annotation
from robolearn.errors import DatasetError, SpecError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.settings import Report
from robolearn.rewards.endpoint import VisionClient
from robolearn.rewards.stages import starts_from_labels, targets_from_starts
from robolearn.rewards.vlm_labels import stage_starts
from robolearn.tasks import known_task

Starts = dict[str, int]
"""First step of each stage by its name, in order."""

StagesOf = Callable[[int], Starts]
"""Stages of the episode of an index. Raises SpecError or DatasetError, in one line, where there are none to be told."""


def annotate_stages(
    dataset: Path,
    author: str,
    stages_of: StagesOf,
    episodes: Sequence[int] | None = None,
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """Write annotations of `author`, in the place of his former ones. Failures are passed over unless named.

    The answer has `annotated`, a list of ids, and `refused`, what was wrong by id. `progress` counts episodes.
    """
    infos = RewardData(dataset, pictures=False).store.episodes
    chosen = [i for i, info in enumerate(infos) if info.success is not False] if episodes is None else list(episodes)
    annotated, refused = [], {}
    for number, index in enumerate(chosen):
        info = infos[index]
        try:
            starts = stages_of(index)
            targets_from_starts(list(starts.values()), info.length)  # refuses what is no stages of this episode
        except (SpecError, DatasetError) as error:
            refused[info.id] = str(error)
        else:
            ends = [*list(starts.values())[1:], info.length]
            notes = [
                Annotation(start, end, name, author) for (name, start), end in zip(starts.items(), ends, strict=True)
            ]
            annotate(dataset, info.id, notes, author)
            annotated.append(info.id)
        progress(number + 1, f"{len(annotated)} annotated")
    return {"author": author, "annotated": annotated, "refused": refused}


def by_model(data: RewardData, client: VisionClient, stages: Sequence[str], camera: str, pictures: int) -> StagesOf:
    """A vision model looks at a film strip; `stages` in order, those of the episode's task where empty."""
    data.image_size(camera)
    if pictures < max(len(stages), 2):
        raise SpecError(f"{pictures} pictures of an episode; expected at least 2, and one a stage")

    def stages_of(index: int) -> Starts:
        info = data.store.episodes[index]
        names = tuple(stages) or _stages_of_task(info.task, info.id)
        starts = stage_starts(client, data.goal(index), names, data.images(index, camera), pictures)
        return dict(zip(names, starts, strict=True))

    return stages_of


def by_task(data: RewardData) -> StagesOf:
    """The task's own predicates over the recorded poses."""

    def stages_of(index: int) -> Starts:
        truth = data.truth(index)
        if truth is None:
            raise DatasetError(
                f"episode {index} lacks the `pose_` fields that a task judges by; let a model look at it"
            )
        return dict(zip(truth.stages, starts_from_labels(truth.stage, truth.stages), strict=True))

    return stages_of


def by_file(data: RewardData, file: Path) -> tuple[StagesOf, list[int]]:
    """A JSON file {episode id: {stage: first step}}, and the episodes that it names. Raises DatasetError."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        known = {str(key): {str(name): int(step) for name, step in stages.items()} for key, stages in said.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        reason = error if isinstance(error, (OSError, ValueError)) else "there is something else in it"
        raise DatasetError(f"{file} does not say {{episode id: {{stage: first step}}}} in JSON: {reason}") from error
    ids = {info.id: index for index, info in enumerate(data.store.episodes)}
    if strangers := sorted(set(known) - set(ids)):
        raise DatasetError(f"{file} names episode {strangers[0]!r}, which {data.path} does not hold")
    return (lambda index: known[data.store.episodes[index].id]), [ids[key] for key in known]


def _stages_of_task(task: str, episode: str) -> tuple[str, ...]:
    known = known_task(task)
    if known is None:
        raise DatasetError(f"episode {episode} is of {task or 'no task'}, whose stages nobody knows; give --stages")
    return known.stages
