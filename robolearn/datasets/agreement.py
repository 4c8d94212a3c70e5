"""How far people agree in what they say of a dataset: stages of its steps, success of its episodes, preferences.

Cohen's kappa (1960) of two people over the items that both judged: kappa = (p - e) / (1 - e), where p is the share of
items on which they say the same and e the share that two people would agree on who use their words as often as these
two do, but at random. 1: always the same; 0: no better than chance. Of several people the mean over their pairs,
weighed by the number of items.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from robolearn.datasets.edit import success_by
from robolearn.datasets.preferences import Preference, read_preferences
from robolearn.datasets.store import EpisodeInfo
from robolearn.datasets.zarr_store import ZarrStore

NO_STAGE = ""  # of a step that an author left out of his stages

Opinions = Mapping[str, Mapping[Hashable, Hashable]]
"""What each person, by name, says of each item."""


@dataclass(frozen=True)
class Agreement:
    """Of two or more people."""

    authors: tuple[str, ...]  # all that judged anything
    items: int  # judged by two or more
    same: float | None  # share of items that two of them judged alike; None where there is no such item
    kappa: float | None  # None also where everybody always says the same one thing, which chance would do, too


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Of two people's words on the same items, in the same order."""
    number = len(first)
    if number == 0:
        return None
    same = sum(a == b for a, b in zip(first, second, strict=True)) / number
    chance = sum(first.count(word) * second.count(word) for word in set(first)) / number**2
    return (same - chance) / (1 - chance) if chance < 1 else None


def agreement(opinions: Opinions) -> Agreement:
    """How far these people agree."""
    items: set[Hashable] = set()
    weights, shares, kappas = [], [], []
    for a, b in combinations(opinions.values(), 2):
        both = [item for item in a if item in b]
        if not both:
            continue
        items |= set(both)
        first, second = [a[item] for item in both], [b[item] for item in both]
        weights.append(len(both))
        shares.append(sum(x == y for x, y in zip(first, second, strict=True)) / len(both))
        kappas.append(cohen_kappa(first, second))
    known = [(weight, kappa) for weight, kappa in zip(weights, kappas, strict=True) if kappa is not None]
    return Agreement(
        tuple(opinions),
        len(items),
        sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights) if weights else None,
        sum(w * k for w, k in known) / sum(w for w, _ in known) if known else None,
    )


def stage_opinions(episodes: Sequence[EpisodeInfo]) -> dict[str, dict[Hashable, Hashable]]:
    """What each author of annotations says of every step of the episodes that he annotated."""
    found: dict[str, dict[Hashable, Hashable]] = {}
    for episode in episodes:
        for author in {note.author for note in episode.annotations}:
            labels = [NO_STAGE] * episode.length
            for note in episode.annotations:
                if note.author == author:
                    labels[note.start : note.stop] = [note.label] * (note.stop - note.start)
            found.setdefault(author, {}).update({(episode.id, step): label for step, label in enumerate(labels)})
    return dict(sorted(found.items()))


def success_opinions(episodes: Sequence[EpisodeInfo]) -> dict[str, dict[Hashable, Hashable]]:
    """What each person says of the success of the episodes that he judged."""
    found: dict[str, dict[Hashable, Hashable]] = {}
    for episode in episodes:
        for author, word in success_by(episode).items():
            found.setdefault(author, {})[episode.id] = word
    return dict(sorted(found.items()))


def preference_opinions(preferences: Sequence[Preference]) -> dict[str, dict[Hashable, Hashable]]:
    """What each person prefers, by pair and length of segment, however it was turned; the newest answer counts."""
    turned = {"first": "second", "second": "first"}
    found: dict[str, dict[Hashable, Hashable]] = {}
    for one in preferences:
        in_order = one.first <= one.second
        pair = one.pair if in_order else (one.second, one.first)
        found.setdefault(one.author, {})[pair, one.segment] = (
            one.answer if in_order else turned.get(one.answer, one.answer)
        )
    return dict(sorted(found.items()))


def labels(store: ZarrStore) -> dict[str, Any]:
    """What people said of a dataset, as JSON: per episode the stages and the success, all preferences, agreement."""
    episodes, preferences = store.episodes, read_preferences(store)
    opinions = {
        "stages": stage_opinions(episodes),
        "success": success_opinions(episodes),
        "preferences": preference_opinions(preferences),
    }
    return {
        "episodes": [
            {
                "id": episode.id,
                "success": episode.success,
                "success_by": success_by(episode),
                "instruction": episode.instruction,
                "stages": [
                    {"author": note.author, "label": note.label, "start": note.start, "stop": note.stop}
                    for note in episode.annotations
                ],
            }
            for episode in episodes
        ],
        "preferences": [
            {
                "first": [one.first.episode, one.first.step],
                "second": [one.second.episode, one.second.step],
                "segment": one.segment,
                "answer": one.answer,
                "author": one.author,
            }
            for one in preferences
        ],
        "agreement": {name: agreement_json(agreement(said)) for name, said in opinions.items()},
    }


def agreement_json(found: Agreement) -> dict[str, Any]:
    """As JSON."""
    return {"authors": list(found.authors), "items": found.items, "same": found.same, "kappa": found.kappa}
