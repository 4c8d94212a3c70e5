"""The collector: does what the supervisor says, attempt by attempt, and writes every attempt to the dataset.

It may be killed at any moment. Before an attempt is committed, the state of world and supervisor after it is on disk:
whoever starts again goes on from there, and the attempt in flight is all that is lost. Every draw depends on the seed
and the number of the attempt alone. The policy of attempt k is the one that has learned from the attempts before
k - lag; so it does not matter how fast the learner is, nor whether it lives in this process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from robolearn import durable
from robolearn.datasets.repair import repair
from robolearn.datasets.store import CLOSING_ROW, DatasetSpec, EpisodeMeta, WriterConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.practice_cell import PracticeCell
from robolearn.envs.practice_world import PracticeWorld, Tick
from robolearn.errors import CheckpointError, quoted
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.gaussian import GaussianPolicy
from robolearn.recipes.finetune.cells import TASK_DONE, THINGS_BACK, make_cell, rung
from robolearn.recipes.finetune.dense import POTENTIAL
from robolearn.recipes.finetune.film import Film
from robolearn.recipes.finetune.image_judge import ImageJudge
from robolearn.recipes.finetune.interventions import Interventions, critics_of
from robolearn.recipes.finetune.judges import DONE_REWARD, STEP_REWARD, Frames, lost_reward
from robolearn.recipes.finetune.prepare import PRETRAINED, make_judge
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.finetune.supervisor import Attempt, End, Order, Phase, Sensed, Supervisor
from robolearn.recipes.finetune.verdicts import Verdicts
from robolearn.recipes.training_data import tensors
from robolearn.specs import ArraySpec
from robolearn.types import ActionSource, EpisodeOutcome

REPLAY, STATE, WEIGHTS = "replay.zarr", "state", "weights"
STOPPED = "stopped.txt"  # why the run has ended for good, until a person starts it again
WAITS = "waits.txt"  # why a person is waited for, or the end of a pause, while that is so
NOW = "now.txt"  # what the newest attempt is to do, for the person who judges or helps
ATTEMPT_ID = "attempt-{:07d}"
MAX_SEED = 2**31 - 1
POLL_S = 0.005


class Collector:
    """Practises in the run `run`, which is prepared (`prepare.py`), from where it stands."""

    def __init__(
        self,
        config: FinetuneConfig,
        run: Path,
        alive: Callable[[], bool] = lambda: True,
        make: Callable[[Mapping[str, tuple[int, int]]], PracticeCell] | None = None,
    ) -> None:
        """alive: whether somebody still wants attempts; when it says no, `attempt` raises InterruptedError, for a robot
        is not to go on. make: makes another cell than the config names, where pictures of these cameras, (H, W) by
        name, are wanted."""
        self.config, self.run, self._alive = config, run, alive
        self.film = Film(config, run)
        judge = make_judge(config, run)
        judged = dict.fromkeys(judge.cameras, judge.size) if isinstance(judge, ImageJudge) else {}
        self._verdicts = Verdicts(judge, aside=bool(judged), patient=not config.real)
        space = config.space()
        wanted = {**space.cameras, **judged}
        cell = make(wanted) if make else make_cell(config, run, wanted)
        self.world = PracticeWorld(space, config.practice, cell, tuple(judged))
        self.supervisor = Supervisor(config.supervisor, recovers=self.world.recovers)
        policy = load_policy(run / PRETRAINED / "checkpoints" / "latest")
        assert isinstance(policy, GaussianPolicy)
        self.policy = policy
        self._loaded = 0  # attempts that the policy has learned from
        self._told = "unknown"  # of what is waited for
        self._lost_reward = lost_reward(config.learner.discount)
        critic, spec = Path(config.interventions.critic), config.space().interface
        worth = critics_of(critic, spec) if config.interventions.ratio else lambda seen, actions: actions[:, 0]
        self._interventions = Interventions(config.interventions, worth)
        self.store = open_replay(config, run)
        self._writer = self.store.writer(WriterConfig(statistics=False))
        self.done = len(self.store.episodes)
        self._order = self._resume()

    def attempt(self) -> bool:
        """Go on until an attempt has ended and lies in the dataset. False: the supervisor has stopped for good."""
        rows: list[dict[str, Any]] = []
        order = self._order
        while True:
            if order.ended is not None:
                self._order = Order(order.phase, order.task, reason=order.reason)
                try:
                    self._commit(rows, order.ended)
                finally:  # whoever is started again after an attempt that could not be written has to know
                    self._mark_stopped()
                return True
            if order.phase is Phase.STOPPED:
                self._order = order
                self._mark_stopped()
                return False
            self._require_wanted()
            if self.config.real and (order.phase is Phase.WAIT) != (self._order.phase is Phase.WAIT):
                self._order = order  # who is started again while a person reaches in is not to move
                self._save_state(self.done)
            if order.begins:
                self._begin(order.task)
            self._tell(self._waits_for(order))
            order = self._decide(self._execute(order, rows))
            if order.dropped:
                self._verdicts.hear(all_of_them=True)
                rows.clear()

    def close(self) -> None:
        (self.run / WAITS).unlink(missing_ok=True)
        self._writer.__exit__(None, None, None)
        self._verdicts.close()
        self.world.close()

    @property
    def stopped(self) -> str:
        """Why the supervisor has stopped; else empty."""
        return self._order.reason if self._order.phase is Phase.STOPPED else ""

    def _mark_stopped(self) -> None:
        if self.stopped:
            (self.run / STOPPED).write_text(self.stopped, encoding="utf-8")

    def _require_wanted(self) -> None:
        if not self._alive():
            raise InterruptedError("nobody wants another attempt")

    def _decide(self, sensed: Sensed) -> Order:
        """With what holds in every phase: how the cell fares, and the disk."""
        condition, disk = self.world.cell.condition(), os.statvfs(self.run)
        sensed = replace(
            sensed,
            fault=condition.fault,
            away=condition.away,
            temperature_c=condition.temperature_c,
            load=condition.load,
            free_bytes=disk.f_bavail * disk.f_frsize,
        )
        return self.supervisor.decide(sensed, self.world.cell.stamp_ns, self.world.cell.day_s())

    def _execute(self, order: Order, rows: list[dict[str, Any]]) -> Sensed:
        """Do what is ordered for one decision, and sense."""
        if order.phase is Phase.PRACTISE:
            return self._practise(order.task, rows)
        if order.phase is Phase.WAIT:  # the twin's person comes at once, and puts everything where it starts
            back = self.world.reset(int(self._rng("reset", self.supervisor.resets).integers(MAX_SEED)))
            return Sensed(reset_done=back, home=back)
        if order.phase is Phase.RECOVER:
            return Sensed(recovered=self.world.recover(self._rng("recovery", self.supervisor.recoveries)))
        if order.phase is Phase.HOME:
            home = self.world.go_home()
            return Sensed(home=home, lost=self.world.lost())
        self.world.hold()
        return Sensed()

    def _waits_for(self, order: Order) -> str:
        """What is waited for, and of a person how to say that it is done; else empty."""
        if order.phase is Phase.WAIT and self.config.real:
            key = "the key of a success (Enter on a keyboard), or: " if self.config.teleop else ""
            return f"{order.reason}; once it is right: {key}robolearn finetune --things-back {quoted(self.run)}"
        return order.reason if order.phase in (Phase.WAIT, Phase.PAUSE) else ""

    def _tell(self, waits_for: str) -> None:
        """Lay a file into the run that says what is waited for, and take it away again."""
        if waits_for != self._told:
            if not self._told:
                rung(self.run, THINGS_BACK)  # what was said before it was asked for
            self._told = waits_for
            if waits_for:
                (self.run / WAITS).write_text(waits_for, encoding="utf-8")
            else:
                (self.run / WAITS).unlink(missing_ok=True)

    def _begin(self, task: int) -> None:
        self._load_weights()
        (self.run / NOW).write_text(self.world.space.tasks[task].instruction, encoding="utf-8")
        rng = self._rng("attempt", self.done)
        self.world.begin(task, rng)
        self._generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        self._interventions.begin(rng)
        self._verdicts.begin(self._first() if self.config.shaping else None, task)
        self._succeeded = False  # for as long as the task asks
        self._truth: bool | None = None  # so, or reached at the end
        self._told_done()  # what came too late
        self.film.begin(self.done)

    def _first(self) -> Frames:
        """What an attempt begins with."""
        state, proprio = self.world.state()[None], self.world.facts()["proprio"][None]
        return Frames(state, np.zeros(1, np.bool_), images=(self.world.pictures(),), proprio=proprio)

    def _practise(self, task: int, rows: list[dict[str, Any]]) -> Sensed:
        seen = self.world.observe()
        expert = self._interventions.action(self.world.expert) if self._interventions.acts else None
        action = self._sample(seen) if expert is None else expert
        if expert is None:
            self._interventions.watch(seen, action, self.world.expert)
        self.film.look(self.world)
        stamp_ns = self.world.cell.stamp_ns
        tick = self.world.step(action)
        said_done = tick.said_done | self._told_done()
        frames = Frames(tick.states, tick.reached, tick.progress, tick.images, tick.proprio, said_done=said_done)
        self._verdicts.ask(frames, task)
        self._succeeded |= tick.success
        self._truth = None if tick.reached is None else self._succeeded or bool(tick.reached[-1])
        person = tick.intervened or expert is not None
        source = ActionSource.INTERVENTION if person else ActionSource.POLICY
        rows.append({**seen, **_row(tick, source), "_stamp_ns": stamp_ns})
        return Sensed(self._hear(rows), moved=tick.moved, lost=tick.lost)

    def _told_done(self) -> bool:
        """Whether the person who judges has said so, away from the controls, since this was asked last."""
        return self.config.reward == "person" and rung(self.run, TASK_DONE)

    def _hear(self, rows: list[dict[str, Any]], all_of_them: bool = False) -> tuple[bool, ...]:
        """Verdicts on frames that came in; each also goes to its decision's row."""
        heard = self._verdicts.hear(all_of_them)
        for index, verdict in heard:
            rows[index]["verdict"] = np.float32(verdict.done.mean())
            if self.config.shaping:
                rows[index]["_reached"] = verdict.potential
        return tuple(bool(frame) for _, verdict in heard for frame in verdict.done)

    def _sample(self, seen: dict[str, NDArray]) -> NDArray[np.float32]:
        return self.policy.sample(tensors({k: v[None] for k, v in seen.items()}, "cpu"), self._generator).numpy()[0]

    def _commit(self, rows: list[dict[str, Any]], attempt: Attempt) -> None:
        """Write the attempt. What comes after it is on disk before it counts."""
        task = self.world.space.tasks[attempt.task]
        self._hear(rows, all_of_them=True)
        rows[-1]["reward"] = {End.SUCCESS: DONE_REWARD, End.LOST: self._lost_reward}.get(attempt.end, STEP_REWARD)
        last: dict[str, Any] = {**self.world.observe()}
        if self.config.shaping:
            potentials = [self._verdicts.start(), *(row.pop("_reached") for row in rows)]
            for row, potential in zip([*rows, last], potentials, strict=True):
                row[POTENTIAL] = np.float32(potential)
        stamp_ns = self.world.cell.stamp_ns
        self._save_state(self.done + 1)
        human = sum(int(row["action_source"]) == ActionSource.INTERVENTION for row in rows)
        tags = {CLOSING_ROW: True, "end": attempt.end.value, "truth": self._truth, "human_steps": int(human)}
        tags["done_from_the_start"] = attempt.end is End.SUCCESS and all(row["verdict"] == 1.0 for row in rows)
        tags |= {"resets": self.supervisor.resets, "learned": self._loaded}
        tags |= {"recoveries": self.supervisor.recoveries, "recovery_steps": self.supervisor.recovery_steps}
        self._writer.begin(
            EpisodeMeta(
                task.id, task.instruction, created_ns=time.time_ns(), id=ATTEMPT_ID.format(self.done), tags=tags
            )
        )
        for row in rows:
            stamp = row.pop("_stamp_ns")
            self._writer.append(row, dict.fromkeys(row, stamp))
        self._writer.append(last, dict.fromkeys(last, stamp_ns))
        over = attempt.end in (End.SUCCESS, End.LOST)
        self._writer.commit(EpisodeOutcome(attempt.end is End.SUCCESS, over, not over, attempt.reason))
        self.film.end(self.done, attempt, self._truth)
        self.done += 1

    def _load_weights(self) -> None:
        """The policy that has learned from the attempts before the last `lag`. While that is waited for, a robot holds,
        and who is at its controls is heard; the twin stands still, so that runs repeat exactly."""
        wanted = max(self.done - self.config.lag, 0)
        if wanted == self._loaded:
            return
        file = weights_file(self.run, wanted)
        while not file.exists():
            self._require_wanted()
            if self.config.real:
                self.world.hold()
            time.sleep(POLL_S)
        self.policy.load_state_dict(load_file(file))
        self._loaded = wanted

    def _rng(self, what: str, number: int) -> np.random.Generator:
        return np.random.default_rng((self.config.seed, {"attempt": 3, "reset": 4, "recovery": 6}[what], number))

    # --- what a restart needs ---

    def _save_state(self, attempts: int) -> None:
        """Of two files in turn, so that the state before the attempt stays until the attempt counts."""
        state = {
            "attempts": attempts,
            "phase": self._order.phase.value,
            "task": self._order.task,
            "reason": self._order.reason,
            "supervisor": self.supervisor.state_dict(),
            "world": self.world.freeze(),
        }
        file = self._state_file(attempts)
        file.parent.mkdir(exist_ok=True)
        durable.write(file, json.dumps(state).encode())  # as the attempt that follows is

    def _resume(self) -> Order:
        if (self.run / STOPPED).exists():  # only a person goes on after a stop
            return Order(Phase.STOPPED, 0, reason=(self.run / STOPPED).read_text(encoding="utf-8") or "stopped")
        file = self._state_file(self.done)
        if self.done == 0 and not file.exists():
            if not self.config.real:
                self.world.reset(int(self._rng("reset", 0).integers(MAX_SEED)))
            return Order(Phase.HOME, 0)
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{file} cannot be read ({error}); the run cannot go on, begin another one"
            ) from error
        if state["attempts"] != self.done:
            raise CheckpointError(
                f"{file} is of attempt {state['attempts']}, {REPLAY} has {self.done}; somebody has changed the dataset"
            )
        self.supervisor.load_state_dict(state["supervisor"])
        self.world.thaw(state["world"])
        if self.supervisor.phase is Phase.STOPPED:
            return self.supervisor.go_on()
        return Order(Phase(state["phase"]), int(state["task"]), reason=state["reason"])

    def _state_file(self, attempts: int) -> Path:
        return self.run / STATE / f"world_{attempts % 2}.json"


def told(run: Path, name: str) -> str:
    """What the file WAITS or NOW of a run says; else empty."""
    try:
        return (run / name).read_text(encoding="utf-8")
    except OSError:
        return ""


def weights_file(run: Path, learned: int) -> Path:
    """The policy that has learned from so many attempts."""
    return run / WEIGHTS / f"{learned:07d}.safetensors"


def open_replay(config: FinetuneConfig, run: Path) -> ZarrStore:
    """The dataset of the attempts; made where there is none, and mended where a writer died."""
    path = run / REPLAY
    if path.exists():
        repair(path, "drop")
        return ZarrStore.open(path)
    space = config.space()
    extra = {name: ArraySpec(()) for name in ("reward", "verdict", "truth", *([POTENTIAL] if config.shaping else []))}
    return ZarrStore.create(path, DatasetSpec(space.arm.spec, space.interface, config.task_ids, extra=extra))


def _row(tick: Tick, source: ActionSource) -> dict[str, Any]:
    """What is stored of a decision beside what was seen: `verdict` and `truth`, where that is known, are shares of its
    frames."""
    truth = {} if tick.reached is None else {"truth": np.float32(tick.reached.mean())}
    return {
        **truth,
        "action": tick.action,
        "action_sent": tick.action,
        "action_source": np.uint8(source),
        "held": np.bool_(tick.held),
        "reward": np.float32(STEP_REWARD),
    }
