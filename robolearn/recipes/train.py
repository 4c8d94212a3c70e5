"""What `robolearn train` was asked for, with its settings read, handed to the offline or the online training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from robolearn.algorithms import algorithm_class
from robolearn.algorithms.compute import compiler_lacks
from robolearn.datasets.sampler import SUCCESS
from robolearn.errors import CheckpointError, SpecError, UnknownNameError, quoted
from robolearn.recipes.origin import begun_config
from robolearn.recipes.processes import started
from robolearn.recipes.train_offline import train_offline
from robolearn.recipes.train_online import OnlineConfig, train_online
from robolearn.recipes.train_request import TrainRequest, read_settings
from robolearn.recipes.training_loop import Progress, Tell

MANY_UPDATES = 20_000


def total_steps(request: TrainRequest) -> int:
    """Steps of the run. Raises what a wrong algorithm, setting or run raises."""
    if request.resume is not None:
        return int(begun_config(request.resume)[1].steps)
    return int(configure(request)[0].steps if request.steps is None else request.steps)


def train_policy(
    request: TrainRequest, progress: Progress = lambda done, text: None, tell: Tell = lambda text: None
) -> dict[str, Any]:
    """Train as requested. `tell` is called with what one should know before it begins.

    Raises what `TrainRequest.check` raises, and SpecError for a device or a compiler that is not there."""
    request.check()
    request.compute.require()
    dataset, task = request.dataset, request.task
    if request.resume is not None:
        begun, _, compute = begun_config(request.resume)
        dataset = Path(begun["dataset"]) if "dataset" in begun else None
        task = begun.get("task")
        if begun.get("algorithm") != request.algorithm:
            raise SpecError(f"{request.resume} is a run of {begun.get('algorithm')}, not of {request.algorithm}")
        if request.dataset is not None and (dataset is None or dataset.absolute() != request.dataset.absolute()):
            raise SpecError(f"{request.resume} learns from {dataset or task}, not from {request.dataset}; leave it out")
        if request.task not in (None, task, begun.get("data_task")):
            raise SpecError(f"{request.resume} learns in {task or dataset}, not in {request.task}; leave it out")
        try:
            compute.require()
        except SpecError as error:
            raise CheckpointError(
                f"{request.resume} cannot go on here as it was begun ({str(error).partition(';')[0]}); resume it where "
                f"it can, or begin another with --init-from {quoted(request.resume)}"
            ) from error
    config, online = configure(request)
    asked = read_settings(request.settings)
    if request.resume is None and (remark := _worth_compiling(request, config)):
        tell(remark)
    if dataset is not None:
        _require_heeded(request, asked)
    common = {
        "algorithm": request.algorithm,
        "out": request.run,
        "steps": request.steps,
        "seed": request.seed,
        "config": config,
        "resume": request.resume,
        "init_from": request.init_from,
        "keep_temperature": "initial_temperature" not in asked,
        "compute": request.compute,
        "progress": progress,
    }
    if dataset is not None:
        return train_offline(dataset=dataset, task=task, reward=request.reward or SUCCESS, tell=tell, **common)
    assert task is not None
    return train_online(task=task, online=online, offline_data=request.offline_data, **common)


def _worth_compiling(request: TrainRequest, config: Any) -> str:
    """What to say of --compile where it was left out, and would save more time than it takes."""
    updates = (config.steps if request.steps is None else request.steps) * getattr(config, "utd", 1)
    gains_little = algorithm_class(request.algorithm).learns_from == "chunks"
    if request.compute.compile or gains_little or updates < MANY_UPDATES or started() > 1:
        return ""
    if compiler_lacks(request.compute.device):
        return ""
    return f"{updates:,} updates are to come; with --compile they run about three times as fast, after up to a minute"


def _require_heeded(request: TrainRequest, asked: Mapping[str, str]) -> None:
    """Raise SpecError for what a training on a dataset would pass over."""
    learns_from = algorithm_class(request.algorithm).learns_from
    if request.reward is not None and learns_from != "transitions":
        raise SpecError(f"{request.algorithm} learns from {learns_from} and looks at no reward; leave --reward out")
    if online := [name for name in asked if name.startswith("online.")]:
        raise SpecError(f"setting {online[0]} is of a training in a task, and this one is on a dataset; leave it out")


def configure(request: TrainRequest) -> tuple[Any, OnlineConfig]:
    """The configs with what was asked for, what the task wants and then `settings` filled in.

    Raises UnknownNameError or SpecError for a setting that is unknown or wrong.
    """
    pairs = read_settings([*request.begins_with, *request.settings])
    own = {name: text for name, text in pairs.items() if not name.startswith("online.")}
    online = {name.removeprefix("online."): pairs[name] for name in pairs.keys() - own.keys()}
    asked = OnlineConfig(num_envs=request.num_envs, reward=request.reward or "")
    config = algorithm_class(request.algorithm).config_type()
    for name in own:
        if name.partition(".")[0] not in {each.name for each in fields(config)}:  # it may be a setting elsewhere
            raise UnknownNameError("setting", name, [*_names(config), *_names(asked, "online.")])
    return with_settings(config, own), with_settings(asked, online, "online.")


def _names(config: Any, place: str = "") -> list[str]:
    """Every setting of a config by its dotted name."""
    names: list[str] = []
    for name, value in vars(config).items():
        names += _names(value, f"{place}{name}.") if is_dataclass(value) else [place + name]
    return names


def with_settings(config: Any, pairs: Mapping[str, str], place: str = "") -> Any:
    """The dataclass with the fields of these dotted names read from the texts, all at once, for some go together.

    place: of the dataclass, before the names that errors tell. Raises UnknownNameError or SpecError."""
    changes: dict[str, Any] = {}
    inside: dict[str, dict[str, str]] = {}
    for name, text in pairs.items():
        first, _, rest = name.partition(".")
        if first not in {each.name for each in fields(config)}:
            raise UnknownNameError("setting", place + first, [place + each.name for each in fields(config)])
        before = getattr(config, first)
        if is_dataclass(before) != bool(rest):
            inner = f"has settings, such as {first}.{fields(before)[0].name}" if is_dataclass(before) else "has none"
            raise SpecError(f"setting {place}{name} cannot be set: {first} {inner}")
        if is_dataclass(before):
            inside.setdefault(first, {})[rest] = text
            continue
        try:
            changes[first] = _read(text, before, get_type_hints(type(config))[first])
        except ValueError as error:
            choices = ", ".join(map(repr, _choices(get_type_hints(type(config))[first])))
            like = f"{type(before).__name__} such as {before}"
            like = f"numbers such as {','.join(map(str, before))}" if isinstance(before, tuple) else like
            wanted = f"one of {choices}" if choices else like
            raise SpecError(f"setting {place}{name} is {text!r}; expected {wanted}") from error
    changes |= {first: with_settings(getattr(config, first), own, f"{place}{first}.") for first, own in inside.items()}
    return replace(config, **changes)


def _read(text: str, like: Any, kind: Any) -> Any:
    """A value of the type of `like`. Raises ValueError."""
    if isinstance(like, bool):
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _fail()
    if isinstance(like, tuple):
        return tuple(type(like[0])(part) for part in text.split(",") if part)
    choices = _choices(kind)
    if choices and text not in choices:
        _fail()
    return type(like)(text)


def _choices(kind: Any) -> list[str]:
    """What a setting of this type may be, where few words are allowed."""
    return [choice for choice in get_args(kind) if isinstance(choice, str)]


def _fail() -> Any:
    raise ValueError
