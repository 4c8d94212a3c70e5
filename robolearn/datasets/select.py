"""Finding episodes by what the table says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robolearn.datasets.store import EpisodeInfo

SUCCESS_WORDS = {"success": True, "failure": False, "unknown": None}


@dataclass(frozen=True)
class Filter:
    """Episodes that fit all of it; what is empty or None fits every one."""

    text: str = ""  # words, each of which is in the id, task, instruction, reason, operator, a stage or a tag
    task: str = ""
    success: str = ""  # one of SUCCESS_WORDS
    stage: str = ""  # a label of an annotation
    operator: str = ""
    tag: str = ""
    min_steps: int = 0
    max_steps: int | None = None

    def fits(self, episode: EpisodeInfo) -> bool:
        plain = (
            (not self.task or episode.task == self.task)
            and (not self.success or episode.success is SUCCESS_WORDS.get(self.success, ...))
            and (not self.operator or episode.operator == self.operator)
            and (not self.tag or self.tag in episode.tags)
            and (not self.stage or any(note.label == self.stage for note in episode.annotations))
            and self.min_steps <= episode.length
            and (self.max_steps is None or episode.length <= self.max_steps)
        )
        return plain and all(word in _text(episode) for word in self.text.lower().split())


def matching(episodes: Sequence[EpisodeInfo], wanted: Filter) -> list[int]:
    """Indices of the episodes that fit."""
    return [index for index, episode in enumerate(episodes) if wanted.fits(episode)]


def choices(episodes: Sequence[EpisodeInfo]) -> dict[str, list[str]]:
    """What there is to choose from, sorted: tasks, operators, stages and tags."""
    return {
        "task": sorted({episode.task for episode in episodes if episode.task}),
        "operator": sorted({episode.operator for episode in episodes if episode.operator}),
        "stage": sorted({note.label for episode in episodes for note in episode.annotations}),
        "tag": sorted({name for episode in episodes for name in episode.tags}),
    }


def _text(episode: EpisodeInfo) -> str:
    tags = (f"{name} {value}" for name, value in episode.tags.items())
    stages = (note.label for note in episode.annotations)
    words = [episode.id, episode.task, episode.instruction, episode.reason, episode.operator, *stages, *tags]
    return "\n".join(words).lower()
