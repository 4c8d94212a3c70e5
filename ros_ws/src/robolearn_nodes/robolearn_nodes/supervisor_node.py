"""Runs episodes, one after the other, in the order of ARCHITECTURE.md, and writes one JSON line for each.

The robot, or the twin that stands in for it, ends an episode, after `max_episode_s` at the latest, also when nobody
supervises it any more; so does the operator.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import rclpy
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.task import Future
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import SetTask, StartEpisode, StopEpisode
from std_srvs.srv import Trigger

from robolearn.errors import LaunchError, SpecError
from robolearn.tasks import known_task
from robolearn_nodes import topics
from robolearn_nodes.emergency_stop import REFUSED
from robolearn_nodes.episode import new_episode_id
from robolearn_nodes.node import Diagnostics, parameter, run

ALIVE_CHECK_S = 1.0
CONNECT_S = 10.0  # how long nodes that have just started may take to find each other
RETRY_S = 0.05
RETURN_S = 20.0  # how long a node that died may take to be started again
RESET_ANSWER_S = 3.0
TASK_ID = r"[\w.@/-]{0,200}"


@lru_cache
def own_instruction(task_id: str) -> str:
    """What a task itself says is to be done; empty where this machine does not know it."""
    task = known_task(task_id)
    return task.instruction if task else ""


class NoAnswerError(LaunchError):
    """A node died, or said nothing, while its answer was waited for."""


class RefusedError(LaunchError):
    """A node does not want to do what it was asked."""


class SupervisorNode(Node):
    """Talks to the services of robot, policy and recorder. Raises LaunchError when one is absent, refuses or dies."""

    def __init__(self) -> None:
        super().__init__("supervisor")
        self._task = parameter(self, "task", "", "task id, see `robolearn tasks`; empty: that of the robot")
        self._instruction = parameter(self, "instruction", "", "what the robot is told to do; empty: the task's own")
        self._episodes = parameter(self, "episodes", 1, "how many to run")
        self._first_seed = parameter(self, "first_seed", 0, "seed of the first episode; the next ones count up")
        results = parameter(self, "results", "", "JSON lines file to which each episode's outcome is appended")
        record = parameter(self, "record", False, "whether the recorder keeps the episodes")
        reset = parameter(
            self, "reset_service", topics.RESET_POLICY, "Trigger service that resets who controls; empty for a person"
        )
        self._ask_operator = parameter(
            self, "ask_operator", False, f"whether each episode waits until {topics.NEXT_EPISODE} is called"
        )
        self._max_episode_s = parameter(
            self,
            "max_episode_s",
            0.0,
            "a longer episode is ended by the robot [s of wall time]; 0: any length",
        )
        self._reset_s = parameter(
            self,
            "reset_s",
            0.0,
            "ask_operator: after the first episode, begin the next by itself when so many seconds are over; 0: never",
        )
        self._timeout_s = parameter(self, "service_timeout_s", 60.0, "how long a service may take to appear or answer")
        if self._episodes < 1 or self._first_seed < 0:
            raise SpecError(
                f"supervisor: episodes {self._episodes} and first_seed {self._first_seed}, expected at least 1 and 0"
            )
        for name, seconds in (("max_episode_s", self._max_episode_s), ("reset_s", self._reset_s)):
            if not 0 <= seconds < math.inf:
                raise SpecError(f"supervisor: {name} {seconds:g}, expected seconds, or 0 for any length")
        self._results = Path(results) if results else None
        self._reset = self.create_client(Trigger, reset) if reset else None
        self._start_robot = self.create_client(StartEpisode, topics.START_EPISODE)
        self._needed = [*([self._reset] if self._reset else []), self._start_robot]
        if record:
            self._start_recorder = self.create_client(StartEpisode, topics.START_RECORDING)
            self._stop_recorder = self.create_client(StopEpisode, topics.STOP_RECORDING)
            self._needed += [self._start_recorder, self._stop_recorder]
        self._recorded = record
        self._before: tuple[str, str] | None = None  # task and instruction before a change that was not tried yet
        self._waiting_for = ""
        self._ended, self._asked = Future(), Future()
        self.create_service(Trigger, topics.NEXT_EPISODE, self._on_next)
        self.create_service(SetTask, topics.SET_TASK, self._on_task)
        self.create_subscription(EpisodeEvent, topics.EPISODE, self._on_event, topics.LATCHED)
        self._done = 0
        self._waits = False  # for the operator
        self._diagnostics = Diagnostics(self, self._figures)

    def run_episodes(self) -> None:
        """All episodes, then return."""
        for client in self._needed:
            if not client.wait_for_service(self._timeout_s):
                if not self.context.ok():
                    return  # Ctrl-C came before anything was there
                raise LaunchError(
                    f"{client.srv_name} did not appear within {self._timeout_s:g} s; is its node running?"
                )
        if self._results:
            self._results.parent.mkdir(parents=True, exist_ok=True)
        for seed in range(self._first_seed, self._first_seed + self._episodes):
            tried = self._task, self._instruction
            try:
                self._run_begun(seed)
            except RefusedError as error:
                if self._before is None:
                    raise
                self.get_logger().error(f"{error}; it goes on with the task before")
                tried = self._task, self._instruction = self._before
                self._run_begun(seed)
            self._before = None if tried == (self._task, self._instruction) else tried
            self._done += 1

    def _run_begun(self, seed: int) -> None:
        """An episode. With an operator it is begun anew as often as one ended before its first step, as by pressing
        twice, was to be recorded and was thrown away, or is refused, for which they can do something."""
        again = True
        while again:
            try:
                outcome = self._run_episode(new_episode_id(self._task, seed), seed)
            except RefusedError as error:
                if self._before is not None or not self._ask_operator:
                    raise
                self.get_logger().error(f"{self._which()} is not recorded: {error}" if self._recorded else str(error))
                self._forget()
                continue
            begun = not self._ask_operator or outcome["num_steps"] > 0
            again = not begun or (self._ask_operator and self._recorded and not outcome["recorded"])
            if self._results and begun:
                with self._results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(outcome) + "\n")

    def _forget(self) -> None:
        """What the recorder has begun of an episode that the robot did not begin."""
        if self._recorded:
            with contextlib.suppress(RefusedError):  # it had not begun
                self._call(self._stop_recorder, StopEpisode.Request(discard=True))

    def _which(self) -> str:
        return f"episode {self._done + 1} of {self._episodes}"

    def _tell(self, outcome: dict[str, Any], judged: bool, lacks: str) -> None:
        """One line that says what became of an episode. judged: whether anybody said how it went; lacks: what the
        recorder says of what was kept."""
        why = f" ({outcome['reason']})" if outcome["reason"] and not outcome["success"] else ""
        how = "success" if outcome["success"] else "no success" if judged else "not judged"
        told = f"{how}{why}, {outcome['num_steps']} steps"
        if not outcome["num_steps"]:
            self.get_logger().warning(f"{self._which()} ended before its first step; begin it again")
        elif not self._recorded:
            self.get_logger().info(f"{self._which()}: {told}")
        elif not outcome["recorded"]:
            self.get_logger().info(f"{self._which()}: thrown away, {outcome['num_steps']} steps")
        else:
            say = self.get_logger().warning if lacks else self.get_logger().info
            say(f"{self._which()}: {told}, saved as {outcome['episode_id']}{'; ' if lacks else ''}{lacks}")

    def _run_episode(self, episode_id: str, seed: int) -> dict[str, Any]:
        start = StartEpisode.Request(
            episode_id=episode_id,
            task=self._task,
            instruction=self._instruction,
            seed=seed,
            max_duration_s=self._max_episode_s,
        )
        self._waiting_for, self._ended, self._asked = episode_id, Future(), Future()
        if self._ask_operator:
            self._wait_for_operator()
        if self._reset:
            self._call(self._reset, Trigger.Request(), CONNECT_S, answer_s=RESET_ANSWER_S)
        if self._recorded:
            self._call(self._start_recorder, start, CONNECT_S)
        self._call(self._start_robot, start, CONNECT_S, waits_for_resume=True)
        self.get_logger().info(f"{self._which()} {'is being recorded' if self._recorded else 'begins'}")
        event: EpisodeEvent = self._wait_for(self._ended, self._start_robot, robots=self._robots())
        kept = event.num_steps > 0 and not event.discarded
        lacks = ""
        if self._recorded:
            lacks = self._call(self._stop_recorder, StopEpisode.Request(event=event, discard=not kept))
        outcome = {
            "episode_id": episode_id,
            "seed": seed,
            "success": event.success,
            "num_steps": event.num_steps,
            "terminated": event.terminated,
            "truncated": event.truncated,
            "reason": event.reason,
            "loop_p50_ms": event.loop_p50_ms,
            "loop_p99_ms": event.loop_p99_ms,
            "held_steps": event.held_steps,
            "recorded": self._recorded and kept,
        }
        self._tell(outcome, event.judged, lacks)
        return outcome

    def _wait_for_operator(self) -> None:
        """Until they ask for the next episode, or the time is over in which they put things back."""
        by_itself = self._reset_s > 0 and self._done > 0
        what = f"begins in {self._reset_s:g} s, or when the operator says" if by_itself else "waits for the operator"
        self.get_logger().info(f"{self._which()} is next; it {what}")
        timer = self.create_timer(self._reset_s, self._on_time) if by_itself else None
        self._waits = True
        self._diagnostics.publish()
        self._wait_for(self._asked, self._start_robot)
        self._waits = False
        self._diagnostics.publish()
        if timer is not None:
            self.destroy_timer(timer)

    def _on_time(self) -> None:
        if not self._asked.done():
            self._asked.set_result(None)

    def _on_next(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._ask_operator and not self._asked.done()
        response.message = "" if response.success else "no episode waits to be started"
        if response.success:
            self._asked.set_result(None)
        return response

    def _on_task(self, request: SetTask.Request, response: SetTask.Response) -> SetTask.Response:
        """From the next episode on. A robot or twin that refuses it then goes on with the task before."""
        if re.fullmatch(TASK_ID, request.task):
            self._before = self._before or (self._task, self._instruction)
            self._task, self._instruction = request.task, request.instruction
            response.success = True
            response.message = f"from the next episode on: {request.task}"
        else:
            response.message = f"{request.task!r} is no id of a task; see: robolearn tasks"
        return response

    def _on_event(self, event: EpisodeEvent) -> None:
        if event.event == EpisodeEvent.ENDED and event.episode_id == self._waiting_for and not self._ended.done():
            self._ended.set_result(event)

    def _robots(self) -> frozenset[bytes]:
        """Which robots or twins are in the graph; one that was killed stays for some seconds."""
        found = self.get_publishers_info_by_topic(self.resolve_topic_name(topics.ROBOT_SPEC))
        return frozenset(bytes(info.endpoint_gid) for info in found)

    def _call(
        self,
        client: Client,
        request: Any,
        patience_s: float = 0.0,
        answer_s: float = math.inf,
        waits_for_resume: bool = False,
    ) -> str:
        """Call until the server agrees, for at most `patience_s`; after `answer_s` without an answer, again. Returns
        what it says to that.

        A server that dies and comes back at once is not missed, and does not answer what its predecessor was asked.
        waits_for_resume: a robot that somebody has stopped is waited for, however long.
        """
        end_s, told = time.monotonic() + patience_s, False
        asks = self._ask_operator  # who has just asked for it, and waits
        while True:
            if not client.wait_for_service(RETURN_S):
                raise NoAnswerError(f"the node of {client.srv_name} is gone (episode {self._waiting_for})")
            try:
                response = self._wait_for(client.call_async(request), client, min(answer_s, self._timeout_s))
            except NoAnswerError:
                if time.monotonic() > end_s:
                    raise
                continue
            if response.success:
                return str(response.message)
            if waits_for_resume and response.message.startswith(REFUSED):
                if not told:
                    self.get_logger().warning(f"the next episode waits: {response.message}")
                told, end_s = True, time.monotonic() + patience_s
            if time.monotonic() > end_s:
                raise RefusedError(f"{client.srv_name}: {response.message}")
            if asks and not told:
                self.get_logger().warning(f"{response.message}; it is tried again for {patience_s:g} s")
                asks = False
            time.sleep(RETRY_S)

    def _wait_for(
        self, future: Future, server: Client, timeout_s: float = math.inf, robots: frozenset[bytes] = frozenset()
    ) -> Any:
        """What the future brings, as long as the server that it comes from lives, and one of `robots` where there are
        any: a robot that was killed and started again is there as before, and knows of no episode that ends."""
        end_s = time.monotonic() + timeout_s
        while not future.done():
            rclpy.spin_until_future_complete(self, future, timeout_sec=ALIVE_CHECK_S)
            if not rclpy.ok():
                raise ExternalShutdownException
            if future.done():
                break
            if not server.service_is_ready():
                raise NoAnswerError(f"the node of {server.srv_name} is gone (episode {self._waiting_for})")
            if robots and not robots & self._robots():
                raise NoAnswerError(f"the node of {server.srv_name} began anew (episode {self._waiting_for})")
            if time.monotonic() > end_s:
                raise NoAnswerError(f"{server.srv_name} did not answer within {timeout_s:g} s")
        return future.result()

    def _figures(self) -> dict[str, Any]:
        return {
            "task": self._task,
            "instruction": self._instruction or own_instruction(self._task),
            "episode": self._waiting_for,
            "episodes": self._episodes,
            "episodes_done": self._done,
            "waits_for_operator": self._waits,
        }


def main() -> int:
    return run(SupervisorNode, SupervisorNode.run_episodes)


if __name__ == "__main__":
    raise SystemExit(main())
