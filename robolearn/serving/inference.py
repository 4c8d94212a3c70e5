"""A policy in a thread of its own, so that who listens to robots never waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from robolearn.policies.policy import Policy
from robolearn.serving.chunks import checked
from robolearn.serving.shelf import PolicyShelf
from robolearn.types import ActionChunk, Observation


@dataclass(frozen=True)
class Answer:
    """What the policy made of one observation: a chunk, or `problem` says why there is none."""

    robot: str
    stamp_ns: int
    chunk: ActionChunk | None
    problem: str = ""


class Inference:
    """Asks the active policy of a shelf. Robots that wait at the same moment are answered by one batch.

    One observation of a robot waits at most: a newer one takes its place. `ready` is called from the thread whenever
    there are new answers.
    """

    def __init__(self, shelf: PolicyShelf, ready: Callable[[], None]) -> None:
        self._shelf, self._ready = shelf, ready
        self._changed = threading.Condition()
        self._requests: dict[str, tuple[Observation, int]] = {}
        self._answers: list[Answer] = []
        self._seed = 0
        self._epoch = 0
        self._prepared: tuple[Policy | None, int] = (None, 0)  # reset for the episode of that number
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def ask(self, robot: str, observation: Observation, stamp_ns: int) -> None:
        """Have the policy answer to an observation of a robot."""
        with self._changed:
            self._requests[robot] = (observation, stamp_ns)
            self._changed.notify()

    def reset(self, seed: int) -> None:
        """Forget the episode: what is asked from now on is answered after the policy was reset with the seed."""
        with self._changed:
            self._requests.clear()
            self._answers.clear()
            self._seed = seed
            self._epoch += 1
            self._changed.notify()

    def take(self) -> list[Answer]:
        """The answers since the last call."""
        with self._changed:
            answers, self._answers = self._answers, []
            return answers

    def close(self) -> None:
        """End the thread, after the chunk that it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._requests)
                if self._closed:
                    return
                requests, self._requests = self._requests, {}
                seed, epoch = self._seed, self._epoch
            policy = self._shelf.active
            is_new = (policy, epoch) != self._prepared
            self._prepared = (None, 0)  # until it was reset
            try:
                if is_new:
                    policy.reset(seed)
            except Exception as error:  # noqa: BLE001  whatever a policy raises: it is reset anew at the next tick
                answers = _failed(requests, error)
            else:
                self._prepared = (policy, epoch)
                answers = answer(policy, requests)
            with self._changed:
                if epoch == self._epoch:
                    self._answers += answers
            self._ready()


def answer(policy: Policy, requests: dict[str, tuple[Observation, int]]) -> list[Answer]:
    """The policy's answers to observations by robot, in one batch if it has `act_many`. It may raise what it likes."""
    try:
        many = getattr(policy, "act_many", None)
        if many is not None and len(requests) > 1:
            observations, stamps = zip(*requests.values(), strict=True)
            chunks = many(list(observations), list(stamps))
        else:
            chunks = [policy.act(*request) for request in requests.values()]
        return [
            Answer(robot, stamp_ns, checked(chunk, policy.spec.action, stamp_ns))
            for (robot, (_, stamp_ns)), chunk in zip(requests.items(), chunks, strict=True)
        ]
    except Exception as error:  # noqa: BLE001  whatever a policy raises: no chunk, and the robot holds
        return _failed(requests, error)


def _failed(requests: dict[str, tuple[Observation, int]], error: Exception) -> list[Answer]:
    problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return [Answer(robot, stamp_ns, None, problem) for robot, (_, stamp_ns) in requests.items()]
