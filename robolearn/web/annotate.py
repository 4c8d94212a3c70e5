"""Annotation: stages, success, instructions, preferences. Every answer is on disk when the request is answered."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from robolearn.datasets import edit
from robolearn.datasets.agreement import (
    agreement,
    agreement_json,
    labels,
    preference_opinions,
    stage_opinions,
    success_opinions,
)
from robolearn.datasets.preferences import (
    Answer,
    Moment,
    Preference,
    add_preference,
    next_pair,
    read_preferences,
    undo_preference,
)
from robolearn.datasets.store import Annotation
from robolearn.tasks import known_task
from robolearn.web.stores import Stores, version

Author = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]*$")
]
Segment = Annotated[int, Field(ge=1, le=100_000)]


class Stage(BaseModel):
    label: str
    start: int
    stop: int


class Stages(BaseModel):
    """All stages of an episode by one author; they replace what he said before."""

    dataset: str
    episode: str
    author: Author
    stages: list[Stage]


class Success(BaseModel):
    dataset: str
    episode: str
    author: Author
    success: bool | None


class Instruction(BaseModel):
    dataset: str
    episode: str
    instruction: str


class At(BaseModel):
    episode: str
    step: int


class Answered(BaseModel):
    dataset: str
    author: Author
    first: At
    second: At
    answer: Answer
    segment: Segment = 1  # steps of what was compared, from each moment on


class Retracted(BaseModel):
    dataset: str
    author: Author


def make_router(stores: Stores) -> APIRouter:
    router = APIRouter()

    @router.get("/episode")
    def episode(dataset: str, episode: str) -> dict[str, Any]:
        """What has been said of an episode, by whom, how far they agree, and the stages to choose from."""
        store, index = stores.episode(dataset, episode)
        row = store.episodes[index]
        stages: dict[str, list[dict[str, Any]]] = {}
        for note in row.annotations:
            stages.setdefault(note.author, []).append({"label": note.label, "start": note.start, "stop": note.stop})
        task = known_task(row.task.partition("@")[0])  # without its robot, for whose file a dataset may name any
        of_task = () if task is None else task.stages
        used = (note.label for other in store.episodes if other.task == row.task for note in other.annotations)
        return {
            "length": row.length,
            "labels": list(dict.fromkeys([*of_task, *used])),
            "stages": stages,
            "success": row.success,
            "success_by": edit.success_by(row),
            "instruction": row.instruction,
            "stage_agreement": agreement_json(agreement(stage_opinions([row]))),
            "success_agreement": agreement_json(agreement(success_opinions([row]))),
        }

    @router.get("/next")
    def next_episode(dataset: str, author: str = "") -> dict[str, str | None]:
        """The first episode without a stage by this person, or the first one; None: there are none."""
        table = stores.get(dataset).episodes
        left = (row.id for row in table if all(note.author != author for note in row.annotations))
        return {"episode": next(left, table[0].id if table else None)}

    @router.put("/stages")
    def put_stages(said: Stages) -> dict[str, bool]:
        notes = [Annotation(stage.start, stage.stop, stage.label, said.author) for stage in said.stages]
        stores.edit(said.dataset, lambda path: edit.annotate(path, said.episode, notes, said.author))
        return {"saved": True}

    @router.put("/success")
    def put_success(said: Success) -> dict[str, bool]:
        stores.edit(said.dataset, lambda path: edit.judge(path, said.episode, said.success, said.author))
        return {"saved": True}

    @router.put("/instruction")
    def put_instruction(said: Instruction) -> dict[str, bool]:
        changes = {"instruction": said.instruction}
        stores.edit(said.dataset, lambda path: edit.relabel(path, [said.episode], changes))
        return {"saved": True}

    @router.get("/labels")
    def all_labels(dataset: str) -> dict[str, Any]:
        """What `robolearn dataset labels --json` prints."""
        return labels(stores.get(dataset))

    @router.get("/pair")
    def pair(dataset: str, author: Author, segment: Segment = 1) -> dict[str, Any]:
        """The two moments, or segments of so many steps, that this person is to compare next."""
        store = stores.get(dataset)
        answers = read_preferences(store)
        rows = {row.id: row for row in store.episodes}
        first, second = (
            {
                **asdict(moment),
                "instruction": rows[moment.episode].instruction,
                "length": rows[moment.episode].length,
                "version": version(store, rows[moment.episode]),
            }
            for moment in next_pair(store, answers, author, segment)
        )
        return {
            "first": first,
            "second": second,
            "segment": segment,
            "cameras": list(store.spec.image_fields),
            "control_hz": store.spec.interface.control_hz,
            "answered": sum(one.author == author for one in answers),
            "answered_by_all": len(answers),
            "agreement": agreement_json(agreement(preference_opinions(answers))),
        }

    @router.post("/preference")
    def prefer(said: Answered) -> dict[str, bool]:
        first, second = (Moment(at.episode, at.step) for at in (said.first, said.second))
        one = Preference(first, second, said.answer, said.author, time.time_ns(), said.segment)
        add_preference(stores.get(said.dataset), one)
        return {"saved": True}

    @router.post("/preference/undo")
    def retract(said: Retracted) -> dict[str, Any]:
        """Take back the newest answer of this person; what it was."""
        return asdict(undo_preference(stores.get(said.dataset), said.author))

    return router
