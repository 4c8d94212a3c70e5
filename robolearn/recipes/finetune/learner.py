"""The learner: learns from attempt after attempt, and hands out the policy after each.

It follows the dataset that the collector writes. As many updates are made of an attempt as it has steps, times `utd`:
no more, so that a slow collector is not over-fitted, and no fewer, for the collector waits when it is more than `lag`
attempts ahead. Every draw depends on the seed and the step alone, so a learner that was killed goes on from its last
save and gives out the same policies again.

The newest policy practises. The one that is judged and kept is its running mean over the last `average` decisions: what
learns online swings, and a robot is not left with where it happened to swing to.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robolearn import durable
from robolearn.algorithms import algorithm_class
from robolearn.algorithms.algorithm import Batch, Metrics
from robolearn.datasets.replay_buffer import ReplayBuffer, Rewards, logged_rewards
from robolearn.datasets.store import EpisodeInfo, Store
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.networks.model_directory import write_tensors
from robolearn.policies.gaussian import GaussianPolicy
from robolearn.recipes.finetune.collector import REPLAY, WEIGHTS, weights_file
from robolearn.recipes.finetune.data import camera_sizes
from robolearn.recipes.finetune.dense import shaped_rewards
from robolearn.recipes.finetune.evaluation import true_success
from robolearn.recipes.finetune.interventions import add_human_steps
from robolearn.recipes.finetune.prepare import PRETRAINED, buffer_config
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.origin import initialise, networks_of, statistics_of
from robolearn.recipes.run import RESUME_FILE, Run, read_state
from robolearn.recipes.training_data import mixed, tensors
from robolearn.recipes.training_loop import AVERAGE, mean_follows, require_finite, scalars
from robolearn.rewards.intervention import InterventionConfig, intervention_reward
from robolearn.specs import InterfaceSpec

REPLAY_CAPACITY, REPLAY_BYTES = 200_000, 4 << 30  # observations at the most, and memory of theirs
SAVE_EVERY = 20  # attempts between two saves of all that the learner knows
KEPT_WEIGHTS = 4  # newest policies that stay on disk, or as many as the collector may be behind and one
COLUMNS = (
    "attempts",
    "attempt_task",
    "attempt_steps",
    "attempt_success",  # as the reward model judged
    "attempt_truth",  # as the twin knows, or by tags
    "human_steps",
    "human_resets",
    "recoveries",
    "gradient_steps",
    "success_rate",  # of evaluation episodes, by the truth
)


class Learner:
    """Learns in the run `run`, which is prepared (`prepare.py`), from where it stands.

    offline: the old data, of which half of every batch is, where the config says `symmetric`.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        run: Path,
        offline: ReplayBuffer | None,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        """alive: whether somebody still wants to learn; when it says no, `learn` raises InterruptedError."""
        self.config, self.run, self._alive = config, run, alive
        self._offline = offline if config.online == "symmetric" else None
        spec = config.space().interface
        pretrained = run / PRETRAINED
        self.algorithm = algorithm_class(config.algorithm)(
            spec,
            statistics_of(pretrained),
            config.learner,
            config.seed,
            config.compute.device,
            config.compute.wrapper(),
        )
        initialise(self.algorithm, pretrained, networks_of(pretrained))
        self._buffer = ReplayBuffer(spec, buffer_config(config, capacity(spec)))
        self._rewards: Rewards = intervention_rewards if config.rewards == "intervention" else logged_rewards
        if config.shaping:
            self._rewards = partial(shaped_rewards, config)
        self.average = copy.deepcopy(self.algorithm.policy())
        self._world = config.world() if config.evaluate_every else None
        self._about = config.provenance(camera_sizes(config, run, config.space().cameras))
        self._started_s = time.perf_counter()
        self._learns = False  # from an attempt, which is half learned from if an error comes
        self.learned, self.steps, self.evaluated, self._best = 0, 0, float("nan"), -1.0
        if (run / RESUME_FILE).exists():
            state, facts = read_state(run)
            self._load(state)
            self.learned, self.steps, self._best = int(facts["learned"]), int(facts["step"]), facts["best"]
            self._started_s -= facts["wall_s"]
            self._run = Run.resume(run, columns(config), self.steps)
            if self.learned:
                store = ZarrStore.open(run / REPLAY)
                for index in range(self.learned):
                    self._take(store, index)
        else:
            self._run = Run.resume(run, columns(config), -1)
            row: dict[str, Any] = {}
            self._evaluate(row)
            if self._world is not None:  # what it begins with stays the best until another policy does as well
                self._keep_best(row)
            self._run.log(0, 0.0, row)
        (run / WEIGHTS).mkdir(exist_ok=True)
        if self.learned:
            self._publish()

    def learn(self, store: Store) -> None:
        """Learn from the next attempt of the store: wholly, or not at all where that is interrupted."""
        info, self._learns = store.episodes[self.learned], True
        known = {name: value.clone() for name, value in self._state().items()}
        self._take(store, self.learned)
        before, metrics = self.steps, Metrics()
        for step in range(before + 1, before + info.num_actions + 1):
            if not self._alive():
                self._load(known)
                self._learns = False
                raise InterruptedError("nobody wants to learn any more")
            if step > self.config.warmup_steps:
                metrics = self.algorithm.update(self._batch(step))
                mean_follows(self.average, self.algorithm.policy(), 1.0 / self.config.average)
        self.steps = before + info.num_actions
        measured = scalars(metrics, self.run, self.steps)
        require_finite(self.algorithm.policy(), self.run, self.steps)
        self.learned += 1
        self._publish()
        row = measured | self._row(info)
        every = self.config.evaluate_every
        if every and self.steps // every > before // every:
            self._evaluate(row)
            self._keep_best(row)
        wall_s = time.perf_counter() - self._started_s
        self._run.log(self.steps, wall_s, row)
        self._learns = False
        if self.learned % SAVE_EVERY == 0:
            self.save()

    def save(self) -> None:
        """What a restart needs; and the policy that is kept, where no evaluation writes it: as on a robot."""
        if self._world is None:
            self._keep_latest()
        facts = {"learned": self.learned, "step": self.steps, "wall_s": time.perf_counter() - self._started_s}
        facts["best"] = self._best
        self._run.save_state(self._state(), facts)

    def close(self) -> None:
        if not self._learns:
            if self._world is not None:
                self._keep_latest()
            self.save()
        self._run.__exit__(None, None, None)

    def _state(self) -> dict[str, Tensor]:
        """All that is learned."""
        average = {AVERAGE + name: value for name, value in self.average.state_dict().items()}
        return self.algorithm.state_dict() | average

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self.algorithm.load_state_dict({k: v for k, v in state.items() if not k.startswith(AVERAGE)})
        average = {k[len(AVERAGE) :]: v for k, v in state.items() if k.startswith(AVERAGE)}
        self.average.load_state_dict(average or self.algorithm.policy().state_dict())  # older runs have none

    def _keep_best(self, row: Mapping[str, Any]) -> None:
        """Keep the policy that was evaluated, as the best if none was better."""
        names = ("latest", "best") if self.evaluated >= self._best else ("latest",)
        self._best = max(self._best, self.evaluated)
        self._run.save(self.average, self.steps, {**self._about, **row}, names)

    def _keep_latest(self) -> None:
        self._run.save(self.average, self.steps, self._about, ("latest",))

    def _take(self, store: Store, index: int) -> None:
        """What a person did in an attempt counts among the old data, too, where those are used."""
        self._buffer.extend(store, index, self._rewards)
        if self._offline is not None:
            add_human_steps(self._offline, store, index, self._rewards(store, index))

    def _batch(self, step: int) -> Batch:
        """Rows of the updates of one step, each update with its half of old data where there is any."""
        config, rng = self.config.learner, np.random.default_rng((self.config.seed, step, 5))
        size, updates = config.batch_size, config.utd
        old = size // 2 if self._offline is not None else 0
        new = self._buffer.sample(updates * (size - old), rng)
        if self._offline is None:
            return tensors(new, self.config.compute.device)
        prior = self._offline.sample(updates * old, rng)
        return tensors(mixed(updates, new, prior), self.config.compute.device)

    def _publish(self) -> None:
        """Hand out the policy: whole or not at all, also where the power fails."""
        file = weights_file(self.run, self.learned)
        partial = file.with_suffix(".partial")
        write_tensors(partial, self.algorithm.policy().state_dict())
        durable.replace(partial, file)
        kept = max(KEPT_WEIGHTS, self.config.lag + 1)
        weights_file(self.run, self.learned - kept).unlink(missing_ok=True)

    def _row(self, info: EpisodeInfo) -> dict[str, float]:
        return {
            "attempts": self.learned,
            "attempt_task": self.config.task_ids.index(info.task),
            "attempt_steps": info.num_actions,
            "attempt_success": float(bool(info.success)),
            **({} if info.tags["truth"] is None else {"attempt_truth": float(info.tags["truth"])}),
            "human_steps": info.tags["human_steps"],
            "human_resets": info.tags["resets"],
            "recoveries": info.tags["recoveries"],
            "gradient_steps": self.algorithm.gradient_step,
        }

    def _evaluate(self, row: dict[str, Any]) -> None:
        if self._world is None:
            return
        assert isinstance(self.average, GaussianPolicy)
        self.evaluated = true_success(
            self.average, self._world, self.config.evaluation_episodes, self.config.supervisor.max_attempt_steps
        )
        row["success_rate"] = self.evaluated


def capacity(spec: InterfaceSpec) -> int:
    """Observations that are learned from, the newest ones."""
    each = sum(np.dtype(field.dtype).itemsize * int(np.prod(field.shape)) for field in spec.observation.values())
    return min(REPLAY_CAPACITY, REPLAY_BYTES // each)


def columns(config: FinetuneConfig) -> tuple[str, ...]:
    """Of metrics.csv."""
    return (*algorithm_class(config.algorithm).metrics, *COLUMNS)


def intervention_rewards(store: Store, index: int) -> NDArray:
    """RLIF's: minus one before a takeover, else nothing; but to lose a thing, which ends the attempt, costs as much as
    ever, or a learner that is stopped too often would rather be rid of it."""
    rows, info = store.read(index, ["action_source", "reward"]), store.episodes[index]
    rewards = intervention_reward(rows["action_source"], InterventionConfig())
    if info.terminated and not info.success:
        rewards[info.num_actions - 1] = rows["reward"][info.num_actions - 1]
    return rewards


def follow(learner: Learner, path: Path, alive: Callable[[], bool], poll_s: float = 0.01) -> None:
    """Learn from attempts as they come, until nobody collects any more."""
    store: ZarrStore | None = None
    seen = b""
    while True:
        going = alive()  # asked before looking: what was committed until then is still learned from
        root = path / "zarr.json"
        if root.exists() and (text := _stamp(root)) != seen:
            seen = text
            if store is None:
                store = ZarrStore.open(path)
            else:
                store.refresh()
        if store is not None and learner.learned < len(store.episodes):
            learner.learn(store)
        elif not going:
            return
        else:
            time.sleep(poll_s)


def _stamp(file: Path) -> bytes:
    about = file.stat()
    return f"{about.st_ino} {about.st_mtime_ns} {about.st_size}".encode()
