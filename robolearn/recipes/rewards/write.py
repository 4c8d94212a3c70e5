"""Let a language model write the reward of a task: candidates are trained in the twin, reflected on, and mended.

The loop of `rewards/code/loop.py` with closed parameters or sandboxed code, and SAC in the twin as the training, each
in a process of its own. The metric is the task's own success and progress, which no candidate sees; a method that asks
a person gets films instead. The loop hangs on nothing but what comes to it, answers and trainings; these lie in a
journal, so that one that was interrupted is run through again without asking or training anew.
Legend: N environments, T steps of an episode.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn import durable
from robolearn.algorithms.sac import SACConfig
from robolearn.errors import RobolearnError
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.rewards.journal import ClientOnce, Journal, asking_once
from robolearn.recipes.rewards.online import SETTINGS, OnlineRewardConfig, Played, learn_from, require_rounds
from robolearn.recipes.seeds import EVALUATION_SEED, SELECTION_SEED
from robolearn.recipes.workers import Failure, cores, require_work, work_each
from robolearn.rewards.code.candidate import Candidate, Training
from robolearn.rewards.code.client import ChatClient
from robolearn.rewards.code.forms import TaskText, form_of
from robolearn.rewards.code.loop import WritingConfig, nobody, write_rewards
from robolearn.rewards.code.methods import Ask, method_of
from robolearn.rewards.code.sandbox import SandboxConfig
from robolearn.tasks import make_task

RESULT_FILE = "candidates.json"
TIMEOUT_S = 3600.0  # of a training


def task_text(task_id: str) -> TaskText:
    """The task's sentence and the quantities that its facts hold."""
    task = make_task(task_id)
    joints = ", ".join(task.robot_spec.joint_names)
    count = len(task.robot_spec.joint_names)
    parameters = {
        "joint_position": f"({count},) [rad] of {joints}",
        "joint_velocity": f"({count},) [rad/s] of the same",
        **{body: f"(3,) [m] where {body} is: x ahead of the robot, y to its left, z up" for body in task.bodies},
        "action": f"({count},) the command, each from -1 to 1",
    }
    sizes = {name: 3 if name in task.bodies else count for name in parameters}
    return TaskText(task.instruction, parameters, sizes)


@dataclass(frozen=True)
class TrainingJob:
    """One candidate's training, as its process is told of it."""

    task: str
    reward: str  # what was written
    form: str  # of FORMS
    sandbox: SandboxConfig
    run: str
    film: str  # a file that shows what the policy does; else it is judged by the task's metric
    settings: SACConfig
    online: OnlineRewardConfig
    seed: int
    judged_episodes: int


def write_reward(
    task_id: str,
    client: ChatClient,
    out: Path,
    config: WritingConfig,
    settings: SACConfig = SETTINGS,
    online: OnlineRewardConfig = OnlineRewardConfig(),  # noqa: B008, it is frozen
    seed: int = 0,
    judged_episodes: int = 10,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
    ask: Ask = nobody,
    ask_again: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write `out/candidates.json`, best first, a run of each candidate that could be trained, and `out/films/` for a
    method that asks a person. In an `out` that was begun so, go on: what came already is neither asked nor trained.

    workers: trainings at a time, one a core by default; what comes out does not hang on it. timeout_s: of a training.
    ask_again: whether what a person answered before is asked again, for it is answered by a file, from its beginning.
    tell: called with a line about each. The answer has `reward` (what was written), `metric` (success, and below it
    mean progress, in episodes by which none was chosen; None where a person judges), `checkpoint`, `candidates` and
    `failed`. Raises RobolearnError when no candidate could be trained, or `out` holds something else, and SpecError for
    settings that fit no training.
    """
    require_rounds(settings, online, seed)
    workers = cores() if workers is None else workers
    require_work(workers, timeout_s)
    text = task_text(task_id)
    settings = replace(settings, policy=replace(settings.policy, privileged=True))
    by_person = method_of(config.method).by_person
    begun = {
        "task": task_id,
        "model": client.model,
        "writing": asdict(replace(config, candidates=config.per_round)),
        "learner": asdict(settings),
        "online": asdict(online),
        "seed": seed,
        "judged_episodes": judged_episodes,
    }
    films = out / "films"

    def job_of(number: int, reward: str) -> TrainingJob:
        run, film = str(out / f"run_{number:03d}"), str(films / f"{number:03d}.mp4") if by_person else ""
        return TrainingJob(
            task_id, reward, config.form, config.sandbox, run, film, settings, online, seed, judged_episodes
        )

    with Journal(out, begun) as journal:
        if by_person:
            films.mkdir(exist_ok=True)
        if trained := journal.count("training"):
            tell(f"{out}: goes on after {trained} {'training' if trained == 1 else 'trainings'}")

        def train(rewards: Mapping[int, str]) -> dict[int, Training | str]:
            jobs = {number: job_of(number, reward) for number, reward in rewards.items()}
            return _train_once(jobs, journal, workers, timeout_s, tell)

        def keep(candidates: list[Candidate]) -> None:
            durable.write(out / RESULT_FILE, (json.dumps([_row(one) for one in candidates], indent=1) + "\n").encode())

        told = ask if ask_again else asking_once(ask, journal)
        found = write_rewards(ClientOnce(client, journal), text, train, config, told, keep)
    best = found[0] if found else None
    if best is None or best.training is None:
        why = f"; the first: {best.error}" if best else ""
        raise RobolearnError(f"none of {len(found)} written rewards could be trained with{why}")
    checkpoint = Path(best.training.run) / "checkpoints" / "latest"
    return {
        "reward": best.code,
        "metric": None if by_person else _metric(checkpoint, task_id, judged_episodes, EVALUATION_SEED),
        "checkpoint": str(checkpoint),
        "candidates": len(found),
        "failed": sum(one.training is None for one in found),
    }


def _train_once(
    jobs: Mapping[int, TrainingJob], journal: Journal, workers: int, timeout_s: float, tell: Callable[[str], None]
) -> dict[int, Training | str]:
    """What came of each job, or why nothing did; those that the journal knows are not trained again."""
    came = {number: journal.came(f"training {number}", job.reward) for number, job in jobs.items()}

    def done(number: int, result: Any) -> None:
        came[number] = {"failed": result.why} if isinstance(result, Failure) else result
        journal.add(f"training {number}", jobs[number].reward, came[number])
        outcome = _outcome(jobs[number], came[number])
        how = f"failed: {outcome}" if isinstance(outcome, str) else outcome.film or f"metric {outcome.metric:.3f}"
        tell(f"reward {number}: {how}")

    waiting = {number: jobs[number] for number, before in came.items() if before is None}
    for job in waiting.values():
        shutil.rmtree(job.run, ignore_errors=True)  # a training that was interrupted begins anew
    work_each(train_candidate, waiting, workers, timeout_s, done)
    return {number: _outcome(jobs[number], each) for number, each in came.items()}


def _outcome(job: TrainingJob, came: Mapping[str, Any]) -> Training | str:
    """A training as the loop knows it, or why it failed."""
    if "failed" in came:
        return str(came["failed"])
    traces = {name: np.array(values) for name, values in came["traces"].items()}
    return Training(traces, came["metric"], job.run, job.film)


def train_candidate(job: TrainingJob) -> dict[str, Any]:
    """Train with one written reward and judge or film the policy, in a process of its own: `traces` and `metric`."""
    torch.set_num_threads(1)
    text, run = task_text(job.task), Path(job.run)
    traces: dict[str, list[float]] = {}
    with form_of(job.form).make(job.reward, text, job.sandbox) as reward:

        def judge(played: Played) -> NDArray:
            scored = reward.score(quantities(played, text.sizes["action"]))
            for name, values in scored.components.items():
                traces.setdefault(name, []).append(float(values.mean()))
            return scored.rewards.reshape(-1, len(played.actions))

        learn_from(job.task, judge, "written", run, job.settings, job.online, job.seed)
    checkpoint = run / "checkpoints" / "latest"
    if job.film:
        evaluate_policy(checkpoint, job.task, 1, video=Path(job.film))
        return {"traces": traces, "metric": None}
    return {"traces": traces, "metric": _metric(checkpoint, job.task, job.judged_episodes, SELECTION_SEED)}


def _metric(checkpoint: Path, task: str, episodes: int, seed: int) -> float:
    judged = evaluate_policy(checkpoint, task, episodes, seed)
    return float(judged["success_rate"] + 1e-3 * judged["return_mean"] / judged["mean_episode_steps"])


def quantities(played: Played, joints: int) -> Mapping[str, NDArray]:
    """Columns (N T, ...) of the states after each step and the actions that led to them."""

    def flat(rows: list[NDArray]) -> NDArray:
        stacked = np.stack(rows, axis=1)
        return stacked.reshape(-1, stacked.shape[-1]).astype(np.float64)

    seen = played.observations[1:]
    proprio = flat([one["proprio"] for one in seen])
    columns = {"joint_position": proprio[:, :joints], "joint_velocity": proprio[:, joints:]}
    for name in seen[0]:
        if name.startswith("pose_"):
            columns[name.removeprefix("pose_")] = flat([one[name] for one in seen])[:, :3]
    return {**columns, "action": flat(list(played.actions))}


def _row(candidate: Candidate) -> dict[str, Any]:
    training = candidate.training
    return {
        "round": candidate.round,
        "number": candidate.number,
        "reward": candidate.code,
        "metric": None if training is None else training.metric,
        "run": "" if training is None else Path(training.run).name,
        "error": candidate.error,
    }
