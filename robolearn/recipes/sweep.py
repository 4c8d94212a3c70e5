"""Search settings of a training: many short runs, each with settings that Optuna suggests from those before.

A sweep is a folder: `journal.log` (Optuna's, from which the sweep goes on when it is begun again), `trial_<n>/` (a run
each) and `sweep.json` (all trials, the best first).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robolearn import durable
from robolearn.algorithms import algorithm_class
from robolearn.errors import RobolearnError, SpecError
from robolearn.recipes.check_settings import check_settings
from robolearn.recipes.environments import is_gym, twin_task
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.seeds import SELECTION_SEED
from robolearn.recipes.train import configure, train_policy
from robolearn.recipes.train_offline import check_task
from robolearn.recipes.train_request import TrainRequest
from robolearn.tasks import make_task

JOURNAL_FILE, RESULT_FILE = "journal.log", "sweep.json"
STUDY, ASKED = "sweep", "asked"


@dataclass(frozen=True)
class Choice:
    """What one setting may be: one of `values`, or a number from `low` to `high`."""

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False  # as likely in every decade

    @classmethod
    def parse(cls, text: str) -> Choice:
        """`name=a|b|c`, `name=low..high` or `name=low..high:log`; whole numbers stay whole. Raises SpecError."""
        name, equals, rest = text.partition("=")
        if not equals or not name or not rest:
            raise SpecError(f"search {text!r} says nothing; write name=a|b|c or name=low..high or name=low..high:log")
        if ".." not in rest:
            return cls(name, values=tuple(rest.split("|")))
        span, colon, manner = rest.partition(":")
        low, _, high = span.partition("..")
        try:
            ends = float(low), float(high)
        except ValueError as error:
            raise SpecError(f"search {text!r} has no numbers at its ends; write {name}=0.0001..0.01") from error
        if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]) or (colon and manner != "log"):
            raise SpecError(f"search {text!r}; expected low..high with low below high, and nothing or :log behind it")
        if manner == "log" and ends[0] <= 0:
            raise SpecError(f"search {text!r} begins at {low}; with :log it begins above 0")
        return cls(name, (), *ends, whole=low.lstrip("-").isdigit() and high.lstrip("-").isdigit(), log=bool(colon))

    def suggest(self, trial: Any) -> str:
        """What Optuna's trial wants, as the text of a setting."""
        if self.values:
            return str(trial.suggest_categorical(self.name, self.values))
        if self.whole:
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log))
        return repr(trial.suggest_float(self.name, self.low, self.high, log=self.log))


def sweep(
    request: TrainRequest,
    search: Sequence[str],
    trials: int,
    progress: Callable[[int, str], None] = lambda done, text: None,
) -> dict[str, Any]:
    """Run `trials` more trainings as requested, each with settings of the `search`, below `request.out`.

    What counts is the return of the last evaluation in a task, the validation loss on a dataset of demonstrations, and
    where a dataset has none, the success, or else the return, in a task that the policy is then judged in. The answer
    has `best_settings`, `best_value`, `trials`, `interrupted` (by Ctrl-C) and `out`. Raises SpecError before anything
    is run when a setting does not exist, is searched twice or cannot be meant, nothing would judge, or the folder holds
    another sweep, and RobolearnError when Optuna is not installed or every trial failed.
    """
    try:
        import optuna
    except ImportError as error:
        raise RobolearnError("sweep wants Optuna, which is not installed: pip install 'robolearn[sweep]'") from error
    if request.resume is not None:
        raise SpecError("a sweep goes on when it is begun again with the same --out; leave --resume out")
    request.check()
    request.compute.require()
    judged = _is_judged(request)
    choices = _choices(request, search)
    if not choices or trials < 1:
        raise SpecError(f"{len(choices)} settings to search and {trials} trials; expected at least one of each")

    best_is_most = judged or request.dataset is None
    out = request.run
    study = _study(request, search, out, best_is_most)
    done = len(study.trials)

    def train(trial: Any) -> float:
        settings = [f"{choice.name}={choice.suggest(trial)}" for choice in choices]
        run = replace(request, out=out / f"trial_{trial.number:03d}", settings=(*request.settings, *settings))
        try:
            result = train_policy(run if request.dataset is None else _on_dataset(run))
        except RobolearnError as error:
            if "diverged" not in str(error):
                raise
            progress(trial.number + 1 - done, f"diverged with {' '.join(settings)}")
            raise optuna.TrialPruned from error
        if result["interrupted"]:
            raise KeyboardInterrupt
        if judged:
            value = _judge(run, result["checkpoint"])
        else:
            value = float(result["return_mean"] if best_is_most else result["validation_loss"])
        progress(trial.number + 1 - done, f"{value:.3g} with {' '.join(settings)}")
        return value

    interrupted = False
    try:
        study.optimize(train, n_trials=trials)
    except KeyboardInterrupt:
        interrupted = True
    rows = _write_ranked(study, out, best_is_most)
    if not rows or rows[0]["value"] is None:
        if interrupted:
            raise KeyboardInterrupt
        raise RobolearnError(f"all {len(rows)} trials of {out} diverged; search lower learning rates")
    best = {"best_settings": rows[0]["settings"], "best_value": rows[0]["value"]}
    return {**best, "trials": len(rows), "interrupted": interrupted, "out": out}


def _choices(request: TrainRequest, search: Sequence[str]) -> list[Choice]:
    """What may be chosen. Raises SpecError for what no training could be told, before the first one."""
    choices = [Choice.parse(text) for text in search]
    names = [choice.name for choice in choices]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SpecError(f"{twice[0]} is searched twice; say in one --search all that it may be")
    for choice in choices:
        ends = choice.values or tuple(repr(int(end) if choice.whole else end) for end in (choice.low, choice.high))
        for end in ends:
            check_settings(configure(replace(request, settings=(*request.settings, f"{choice.name}={end}")))[0], 0)
    return choices


def _study(request: TrainRequest, search: Sequence[str], out: Path, best_is_most: bool) -> Any:
    """Optuna's study of the folder, with the trials that are there."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # why a trial failed is told in one line by who asked for it
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(out / JOURNAL_FILE))),
        study_name=STUDY,
        direction="maximize" if best_is_most else "minimize",
        load_if_exists=True,
    )
    _require_same(study, request, search, out)
    seed = request.seed + len(study.trials)  # one that goes on draws others than before
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study


def _write_ranked(study: Any, out: Path, best_is_most: bool) -> list[dict[str, Any]]:
    """Write all trials, the best first and those without a value last, and return them."""
    rows: list[dict[str, Any]] = [{"number": t.number, "value": t.value, "settings": t.params} for t in study.trials]
    finished = sorted(
        (row for row in rows if row["value"] is not None), key=lambda r: float(r["value"]), reverse=best_is_most
    )
    ranked = [*finished, *(row for row in rows if row["value"] is None)]
    durable.write(out / RESULT_FILE, (json.dumps(ranked, indent=1) + "\n").encode())
    return ranked


def _require_same(study: Any, request: TrainRequest, search: Sequence[str], out: Path) -> None:
    """Raise SpecError where the trials that are there were asked for otherwise, and so are not to be ranked with more;
    a new study is told what it is for."""
    asked = {name: str(value) for name, value in vars(request).items() if name not in ("out", "compute", "settings")}
    asked |= {"settings": " ".join(request.settings), "search": " ".join(search)}
    told = study.user_attrs.get(ASKED)
    if told is None and not study.trials:
        study.set_user_attr(ASKED, asked)
    elif told != asked:
        others = ", ".join(name for name in asked if told is None or told[name] != asked[name])
        raise SpecError(
            f"{out} holds a sweep with other {others}; begin that one again as it was, or name another --out"
        )


def _is_judged(request: TrainRequest) -> bool:
    """Whether a task is what a training on a dataset is judged in. Raises SpecError where none is named and the dataset
    alone tells nothing, or where one is named in vain."""
    if request.dataset is None:
        return False
    if algorithm_class(request.algorithm).learns_from == "chunks":
        check_task(request.algorithm, request.task)
        return False
    if request.task is None:
        raise SpecError(
            f"{request.algorithm} on a dataset has no validation loss; name the --task that its policies are judged in"
        )
    if not is_gym(request.task):
        make_task(twin_task(request.task))
    return True


def _on_dataset(request: TrainRequest) -> TrainRequest:
    """What the training is told: nothing of how it is judged, and not of the task where it learns to get to goals."""
    told = algorithm_class(request.algorithm).learns_from == "transitions"
    settings = [setting for setting in request.settings if not setting.startswith("online.")]
    return replace(request, task=request.task if told else None, settings=settings)


def _judge(request: TrainRequest, checkpoint: Path) -> float:
    """The success rate in the task, or the mean return where it knows none; on other seeds than `evaluate` takes, which
    are left for what comes out."""
    assert request.task is not None
    episodes = configure(request)[1].evaluation_episodes
    answer = evaluate_policy(checkpoint, request.task, episodes, seed=SELECTION_SEED, device=request.compute.device)
    return float(answer["return_mean"] if answer["success_rate"] is None else answer["success_rate"])
