"""Plays a recorded episode onto the robot or the twin, at its own timing, and tells how well it was followed.

It answers each joint state with a command, as any controller does, so that the safety filter has the last word: first a
ramp to where the episode starts, then what the episode's commands were at the same time after its start.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, LaunchError, SpecError
from robolearn.types import ActionSource, RobotState
from robolearn_nodes import convert, topics
from robolearn_nodes.episode import new_episode_id
from robolearn_nodes.node import Diagnostics, parameter, run
from robolearn_nodes.replay import Replay, recorded

CONNECT_S = 10.0
SILENCE_S = 5.0  # without joint states for so long, there is nobody to play to


class ReplayNode(Node):
    """One episode, then it ends."""

    def __init__(self) -> None:
        super().__init__("replay")
        path = parameter(self, "dataset", "", "path of the dataset")
        index = parameter(self, "episode", 0, "which of its episodes")
        ramp_rad_s = parameter(self, "ramp_rad_s", 0.5, "how fast the robot is brought to where the episode starts")
        tolerance = parameter(self, "start_tolerance_rad", 0.05, "how near to it the robot must be before it begins")
        results = parameter(self, "results", "", "JSON lines file to which the outcome is appended")
        self._results = Path(results) if results else None
        store = ZarrStore.open(Path(path))
        if not -len(store.episodes) <= index < len(store.episodes):
            raise DatasetError(f"{path} has {len(store.episodes)} episodes; there is no episode {index}")
        self._episode, self._joints = store.episodes[index], store.spec.robot.joint_names
        period_ns = round(1e9 / store.spec.interface.control_hz)
        self._replay = Replay(*recorded(store, index), ramp_rad_s, tolerance, period_ns)
        self._playing_as, self._heard = "", False
        self._ended: EpisodeEvent | None = None
        self._commands = self.create_publisher(JointTrajectory, topics.COMMAND, topics.STREAM)
        self._errors = self.create_publisher(JointState, topics.REPLAY_ERROR, topics.STREAM)
        self._diagnostics = Diagnostics(self, lambda: {"phase": self._replay.phase, **self._replay.figures()})
        self._start = self.create_client(StartEpisode, topics.START_EPISODE)
        self._stop = self.create_client(StopEpisode, topics.STOP_EPISODE)
        self.create_subscription(EpisodeEvent, topics.EPISODE, self._on_event, topics.LATCHED)
        self._states = self.create_subscription(JointState, topics.JOINT_STATES, self._on_state, topics.NEWEST)
        self.create_subscription(
            JointTrajectory, topics.COMMAND_SENT, lambda sent: self._replay.sent(sent.header.frame_id), topics.NEWEST
        )

    def work(self) -> None:
        """Start an episode of the same seed, play, report. Raises LaunchError when nobody is there to be moved."""
        request = StartEpisode.Request(
            episode_id=new_episode_id("replay", self._episode.id),
            task=self._episode.task,
            seed=self._episode.seed or 0,
        )
        self._playing_as = request.episode_id
        self._call(self._start, request)
        while self._ended is None and not self._replay.done:
            self._heard = False
            self._spin(SILENCE_S, lambda: self._heard)
            if not self._heard:
                raise LaunchError(f"nobody publishes {self._states.topic_name} any more; the replay is given up")
        if self._ended is None:  # a twin may have ended it by itself, of which the news is still on its way
            event = EpisodeEvent(terminated=True, reason=self._replay.problem)
            self._stop.call_async(StopEpisode.Request(event=event))
            self._spin(CONNECT_S, lambda: self._ended is not None)
        self._report()

    def _spin(self, seconds: float, until: Any) -> None:
        end_s = time.monotonic() + seconds
        while not until() and time.monotonic() < end_s:
            rclpy.spin_once(self, timeout_sec=0.1)
            if not rclpy.ok():
                raise ExternalShutdownException

    def _call(self, client: Any, request: Any) -> None:
        """Call until the server agrees: nodes that have just started may not have found each other yet."""
        message = "did not appear"
        end_s = time.monotonic() + CONNECT_S
        while time.monotonic() < end_s:
            if client.wait_for_service(1.0):
                future = client.call_async(request)
                self._spin(CONNECT_S, future.done)
                if future.done() and future.result().success:
                    return
                message = future.result().message if future.done() else "did not answer"
        raise LaunchError(f"{client.srv_name}: {message}")

    def _on_event(self, event: EpisodeEvent) -> None:
        if event.event == EpisodeEvent.ENDED and event.episode_id == self._playing_as:
            self._ended = event

    def _on_state(self, message: JointState) -> None:
        self._heard = True
        try:
            state = convert.robot_state(message, self._joints)
        except SpecError as error:
            self._diagnostics.report(f"unusable joint states: {error}")
            return
        command = self._replay.answer(state)
        if command is not None:
            source = convert.source_name(ActionSource.SCRIPT)
            self._commands.publish(convert.command_message(command, state.stamp_ns, self._joints, source))
        if self._replay.error is not None:
            off: NDArray[np.float32] = self._replay.error
            self._errors.publish(convert.joint_state_message(RobotState(off, 0 * off, state.stamp_ns), self._joints))

    def _report(self) -> None:
        row: dict[str, Any] = {"episode_id": self._episode.id, "steps": self._replay.steps, **self._replay.figures()}
        row |= {"complete": self._replay.done and not self._replay.problem, "recorded_steps": self._episode.length}
        if self._ended is not None:
            row |= {"success": self._ended.success, "held_steps": self._ended.held_steps, "reason": self._ended.reason}
        self.get_logger().info(f"replayed: {json.dumps(row)}")
        if self._results:
            self._results.parent.mkdir(parents=True, exist_ok=True)
            with self._results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def main() -> int:
    return run(ReplayNode, ReplayNode.work)


if __name__ == "__main__":
    raise SystemExit(main())
