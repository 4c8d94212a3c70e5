"""A reward model looks on: it scores the running episode as fast as it can, beside the control path and never in it.

Pictures are taken best effort, so that a slow model holds up no camera; a thread of its own scores what is there by
then. What the model says is stamped with the newest picture that it saw.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from numpy.typing import NDArray
from rclpy.node import Node
from robolearn_msgs.msg import EpisodeEvent, Reward, StageProgress
from sensor_msgs.msg import CompressedImage, Image, JointState

from robolearn.errors import CheckpointError, RobolearnError, SpecError
from robolearn.networks.model_directory import read_model_config
from robolearn.rewards.reward_model import Episodes, cameras_of
from robolearn.rewards.saved import load_reward, require_trusted
from robolearn_nodes import convert, topics
from robolearn_nodes.commands import Pace
from robolearn_nodes.heard_camera import HeardCamera, OnPicture
from robolearn_nodes.node import Diagnostics, parameter, run

UNTRAINED_HZ = 10.0  # of a model that nobody trained on a dataset

Step = tuple[int, dict[str, NDArray[np.uint8]], NDArray[np.float32] | None]
"""Stamp, picture by camera, proprio."""


class RewardNode(Node):
    """Scores while an episode runs. Raises CheckpointError for a model that needs to see how an episode ends, and
    RobolearnError for one that did not pass its audit and would judge a real cell, unless forced."""

    def __init__(self) -> None:
        super().__init__("reward")
        path = parameter(self, "model", "", "folder of a reward model, as `robolearn reward train` makes it")
        device = parameter(self, "device", "cpu", "where it runs")
        rate = parameter(self, "step_hz", 0.0, "steps a second of the episode that it is shown; 0: as it was trained")
        steps = parameter(self, "max_steps", 256, "steps that it is shown: the first of the episode and the newest")
        cell = parameter(self, "cell", "", "YAML file of the physical cell that it looks at; empty for the twin")
        force = parameter(self, "force", False, "look at a real cell with a model that did not pass its audit")
        if not path or rate < 0 or steps < 1:
            raise CheckpointError(
                f"reward: model {path!r}, step_hz {rate:g}, max_steps {steps}; give a folder, at least 0, and > 0"
            )
        torch.set_num_threads(1)
        self._forced = require_trusted(Path(path), force) if cell else ""
        self._model = load_reward(Path(path), device)
        if not self._model.causal:
            raise CheckpointError(f"{self._model.id} looks at whole episodes; score with `robolearn label` afterwards")
        self._cameras = cameras_of(self._model)
        config: Any = getattr(self._model, "config", None)
        self._stages = list(getattr(config, "stages", ()))
        self._needs_proprio = bool(getattr(config, "proprio_size", 0))
        rate = rate or read_model_config(Path(path)).get("provenance", {}).get("control_hz", UNTRAINED_HZ)
        self._pace = Pace(round(1e9 / rate))
        self._pictures: dict[str, NDArray[np.uint8]] = {}  # the newest of each camera
        self._proprio: NDArray[np.float32] | None = None
        self._episode: EpisodeEvent | None = None
        self._end_ns: int | None = None  # of its last observation, once it ended
        self._steps: list[Step] = []
        self._max_steps = steps
        self._fresh = self._closing = False
        self._changed = threading.Condition()  # guards the episode, its steps and these two
        self._scores = self._taken = 0
        self._latency_ms = 0.0
        self._problem = ""
        self._rewards = self.create_publisher(Reward, topics.REWARD, topics.STREAM)
        self._progress = self.create_publisher(StageProgress, topics.STAGE_PROGRESS, topics.STREAM)
        self._diagnostics = Diagnostics(self, self._figures)
        self.create_subscription(EpisodeEvent, topics.EPISODE, self._on_event, topics.LATCHED)
        for camera in self._cameras:
            HeardCamera(self, topics.image_topic(camera), self._on_image(camera), topics.VIEW)
        if self._needs_proprio:
            self.create_subscription(JointState, topics.JOINT_STATES, self._on_joint_states, topics.VIEW)
        self.create_timer(0.5, lambda: self._diagnostics.report(self._problem))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def work(self) -> None:
        """Score until asked to stop."""
        self._thread.start()
        if self._forced:
            self.get_logger().warning(self._forced)
        self.get_logger().info(f"{self._model.id} {self._model.version} looks at {', '.join(self._cameras)}")
        rclpy.spin(self)

    # --- what comes in ---

    def _on_event(self, event: EpisodeEvent) -> None:
        with self._changed:
            if event.event == EpisodeEvent.STARTED:
                self._episode, self._end_ns = event, None
                self._steps.clear()
                self._fresh = False
            elif self._episode is not None and self._episode.episode_id == event.episode_id:
                self._end_ns = convert.stamp_ns(event.header.stamp)  # what was seen until then is scored all the same

    def _on_image(self, camera: str) -> OnPicture:
        def on_image(message: Image | CompressedImage) -> None:
            try:
                self._pictures[camera] = convert.picture(message)
            except SpecError as error:
                self._problem = str(error)
                return
            if camera == self._cameras[0]:
                self._take(convert.stamp_ns(message.header.stamp))

        return on_image

    def _on_joint_states(self, message: JointState) -> None:
        try:
            self._proprio = convert.robot_state(message, message.name).proprio()
        except SpecError as error:
            self._problem = str(error)

    def _take(self, stamp_ns: int) -> None:
        """A step is the first camera's picture with the newest that there is of everything else."""
        complete = len(self._pictures) == len(self._cameras) and (self._proprio is not None or not self._needs_proprio)
        if not complete or not self._pace.due(stamp_ns):
            return
        with self._changed:
            if self._episode is None or stamp_ns < convert.stamp_ns(self._episode.header.stamp):
                return
            if self._end_ns is None or stamp_ns <= self._end_ns:
                if len(self._steps) == self._max_steps:  # the first one stays, for progress is measured from there
                    del self._steps[min(1, self._max_steps - 1)]
                self._steps.append((stamp_ns, dict(self._pictures), self._proprio))
                self._taken += 1
                self._fresh = True
                self._changed.notify()

    # --- the thread that scores ---

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._fresh)
                if self._closing:
                    return
                episode, steps, self._fresh = self._episode, list(self._steps), False
            if episode is None:
                continue
            started_s = time.perf_counter()
            try:
                self._score(episode, steps)
                self._problem = ""
            except (RobolearnError, RuntimeError) as error:  # the latter from torch, as for pictures of two sizes
                if not self.context.ok():
                    return  # asked to stop, just now
                self._problem = f"no score: {' '.join(str(error).split())[:200]}"
            self._latency_ms = (time.perf_counter() - started_s) * 1e3

    def _score(self, episode: EpisodeEvent, steps: list[Step]) -> None:
        images = {
            camera: torch.from_numpy(np.stack([pictures[camera] for _, pictures, _ in steps]))[None]
            for camera in self._cameras
        }
        proprio = (
            torch.from_numpy(np.stack([row for _, _, row in steps if row is not None]))[None]
            if self._needs_proprio
            else None
        )
        output = self._model.score(Episodes(images, [episode.instruction], proprio))
        value, confidence = float(output.value[0, -1]), float(output.confidence[0, -1])
        common = {
            "header": convert.header(steps[-1][0]),
            "episode_id": episode.episode_id,
            "model": self._model.id,
            "version": self._model.version,
            "confidence": confidence,
        }
        self._rewards.publish(Reward(**common, kind=self._model.kind, value=value))
        self._scores += 1
        if self._model.kind == "potential":
            raw = {name: float(output.raw[name][0, -1]) for name in ("stage", "stage_progress") if name in output.raw}
            self._progress.publish(
                StageProgress(
                    **common,
                    stages=self._stages,
                    stage=int(raw.get("stage", 0)),
                    stage_progress=raw.get("stage_progress", value),
                    progress=value,
                )
            )

    def _figures(self) -> dict[str, Any]:
        figures = {"steps": self._taken, "scores": self._scores, "latency_ms": f"{self._latency_ms:.1f}"}
        return {**figures, "forced": self._forced} if self._forced else figures

    def destroy_node(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        super().destroy_node()


def main() -> int:
    return run(RewardNode, RewardNode.work)


if __name__ == "__main__":
    raise SystemExit(main())
