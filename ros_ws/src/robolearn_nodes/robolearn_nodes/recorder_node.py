"""Writes episodes of the graph into a zarr dataset. It only listens: it is never in the way of the control loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from robolearn_msgs.srv import StartEpisode, StopEpisode
from sensor_msgs.msg import Image, JointState
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError, SpecError
from robolearn.specs import POSE_SPEC, InterfaceSpec, image_spec
from robolearn.tasks import make_task
from robolearn.tasks.task import Task
from robolearn.types import EpisodeOutcome
from robolearn_nodes import convert, topics
from robolearn_nodes.node import Diagnostics, parameter, run, unheard
from robolearn_nodes.recording import Recording


class RecorderNode(Node):
    """Appends episodes to one dataset; makes it when it is not there.

    An episode is committed when every stream has reached its end, or `stop_timeout_s` later: what is missing then is
    masked and counted. A sample that does not fit the dataset spoils its episode, which is discarded and reported.
    """

    def __init__(self) -> None:
        super().__init__("recorder")
        path = parameter(self, "dataset", "", "path of the dataset, a folder ending in .zarr")
        self._task = make_task(parameter(self, "task", "pick_place-v1", "task id, see `robolearn tasks`"))
        size = parameter(self, "image_size", 96, "height and width of the images [pixels]")
        cameras = parameter(self, "cameras", "front,wrist", "cameras that are recorded, comma separated; may be empty")
        self._stop_timeout_s = parameter(
            self, "stop_timeout_s", 5.0, "how long to wait for samples at an episode's end"
        )
        if not path:
            raise DatasetError("the recorder has no dataset; set its parameter dataset to a path ending in .zarr")
        store = _open_store(Path(path), self._task, [name.strip() for name in cameras.split(",") if name.strip()], size)
        fields = store.spec.fields
        self._joints = store.spec.robot.joint_names
        self._period_ns = round(convert.NS / store.spec.interface.control_hz)
        self._open = ExitStack()
        self._writer = self._open.enter_context(store.writer())
        self._recording: Recording | None = None
        self._problem = ""  # why the episode cannot be kept
        self._ending: tuple[int, Future] | None = None  # last stamp of the episode, and what its end waits for
        self._after_ns = -1
        self._episodes = 0

        self._streams = [topics.JOINT_STATES]
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joint_states, topics.STREAM)
        for camera in [name.removeprefix("image_") for name in fields if name.startswith("image_")]:
            self._streams.append(topics.image_topic(camera))
            self.create_subscription(Image, topics.image_topic(camera), self._on_image(camera), topics.STREAM)
        self._bodies = [name.removeprefix("pose_") for name in fields if name.startswith("pose_")]
        if self._bodies:
            self._streams.append(topics.GROUND_TRUTH)
            self.create_subscription(TFMessage, topics.GROUND_TRUTH, self._on_ground_truth, topics.STREAM)
        self.create_subscription(JointTrajectory, topics.COMMAND, self._on_command, topics.STREAM)
        self.create_subscription(JointTrajectory, topics.COMMAND_SENT, self._on_sent, topics.STREAM)
        self.create_service(StartEpisode, topics.START_RECORDING, self._on_start)
        # a stop waits for samples; in the samples' own callback group they could not come in meanwhile
        stopping = MutuallyExclusiveCallbackGroup()
        self.create_service(StopEpisode, topics.STOP_RECORDING, self._on_stop, callback_group=stopping)
        self._diagnostics = Diagnostics(self, self._figures)

    # --- streams ---

    def _on_joint_states(self, message: JointState) -> None:
        def read() -> dict[str, Any]:
            return {"proprio": convert.robot_state(message, self._joints).proprio()}

        self._push(topics.JOINT_STATES, message.header, read)

    def _on_image(self, camera: str) -> Callable[[Image], None]:
        def on_image(message: Image) -> None:
            self._push(topics.image_topic(camera), message.header, lambda: {f"image_{camera}": convert.image(message)})

        return on_image

    def _on_ground_truth(self, message: TFMessage) -> None:
        def read() -> dict[str, Any]:
            poses = convert.ground_truth(message)[1]
            return {f"pose_{body}": poses[body] for body in self._bodies if body in poses}

        if message.transforms:
            self._push(topics.GROUND_TRUTH, message.transforms[0].header, read)

    def _on_command(self, message: JointTrajectory) -> None:
        def read() -> dict[str, Any]:
            source = convert.action_source(message.header.frame_id)
            known = {} if source is None else {"action_source": np.uint8(source)}
            return {"action": _float32(convert.command(message, self._joints)), **known}

        self._push(topics.COMMAND, message.header, read)

    def _on_sent(self, message: JointTrajectory) -> None:
        def read() -> dict[str, Any]:
            held = bool(message.header.frame_id)
            return {"action_sent": _float32(convert.command(message, self._joints)), "held": np.bool_(held)}

        self._push(topics.COMMAND_SENT, message.header, read)

    def _push(self, stream: str, header: Any, read: Callable[[], dict[str, Any]]) -> None:
        recording = self._recording
        if recording is None or self._problem:
            return
        try:
            fields = read()
        except SpecError as error:
            fields = {}  # the tick goes on without it: masked and counted
            self._diagnostics.report(f"unusable sample of {stream}: {error}")
        try:
            recording.push(stream, convert.stamp_ns(header.stamp), fields)
        except RobolearnError as error:
            self._problem = f"{stream}: {error}"
            self._diagnostics.report(f"the episode is lost: {self._problem}")
        self._check_end()

    def _check_end(self) -> None:
        """Let a waiting stop go on when nothing more is to come."""
        if self._ending is None or self._recording is None:
            return
        end_ns, arrived = self._ending
        if not arrived.done() and (self._problem or self._recording.reached(end_ns, self._period_ns)):
            arrived.set_result(None)

    # --- services ---

    def _on_start(self, request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        response.message = unheard(self, [*self._streams, topics.COMMAND, topics.COMMAND_SENT])
        if response.message:
            response.success = False
            return response
        if self._ending is not None:
            response.success, response.message = False, "the episode before is still being ended"
            return response
        if self._recording is not None:
            self._writer.discard()  # its end was never told: the supervisor is another one
        now_ns = self.get_clock().now().nanoseconds
        meta = EpisodeMeta(
            task=request.task or self._task.id,
            instruction=self._task.instruction,
            seed=request.seed,
            created_ns=now_ns,
            id=request.episode_id,
        )
        try:
            self._writer.begin(meta)
        except RobolearnError as error:
            response.success, response.message = False, str(error)
            return response
        self._recording, self._problem = Recording(self._writer, self._streams, self._after_ns), ""
        self._diagnostics.report("")
        response.success = True
        return response

    async def _on_stop(self, request: StopEpisode.Request, response: StopEpisode.Response) -> StopEpisode.Response:
        recording, event = self._recording, request.event
        if recording is None or self._ending is not None:
            response.success, response.message = False, "no episode is being recorded; call start_episode first"
            return response
        end_ns = convert.stamp_ns(event.header.stamp)
        if not request.discard:
            await self._wait_for_samples(end_ns)
        self._recording, self._ending, self._after_ns = None, None, max(self._after_ns, end_ns)
        outcome = EpisodeOutcome(event.success, event.terminated, event.truncated, event.reason)
        try:
            if self._problem or request.discard:
                self._writer.discard()
                response.success, response.message = request.discard, self._problem
            else:
                info = recording.commit(end_ns, outcome)
                self._episodes += 1
                response.success, response.message = True, _describe(info.masked)
        except RobolearnError as error:
            response.success, response.message = False, str(error)
            with suppress(RobolearnError):  # what was not committed must not stand in the way of the next one
                self._writer.discard()
        return response

    async def _wait_for_samples(self, end_ns: int) -> None:
        arrived = Future()
        self._ending = (end_ns, arrived)
        timer = self.create_timer(self._stop_timeout_s, lambda: arrived.done() or arrived.set_result(None))
        self._check_end()
        await arrived
        self.destroy_timer(timer)

    def _figures(self) -> dict[str, Any]:
        return {"episodes": self._episodes, "steps": self._recording.num_steps if self._recording else 0}

    def destroy_node(self) -> None:
        self._open.close()
        super().destroy_node()


def _open_store(path: Path, task: Task, cameras: Sequence[str], size: int) -> ZarrStore:
    """The dataset at `path`, which says itself what is recorded; a new one takes all that the twin publishes."""
    robot = task.robot_spec
    images = {f"image_{camera}": image_spec(size, size) for camera in cameras}
    interface = InterfaceSpec({"proprio": robot.proprio_spec, **images}, robot.action_spec, task.control_hz)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        store = ZarrStore.open(path)
        store.spec.interface.require(interface, f"dataset {path}", "the robot")
        return store
    poses = {f"pose_{body}": POSE_SPEC for body in task.bodies}
    return ZarrStore.create(path, DatasetSpec(robot, interface, tasks=(task.id,), extra=poses))


def _describe(masked: Any) -> str:
    return ", ".join(f"{count} steps lack {name}" for name, count in masked.items())


def _float32(values: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large for a float is infinite, and the store masks it
        return np.asarray(values).astype(np.float32)


def main() -> int:
    return run(RecorderNode)


if __name__ == "__main__":
    raise SystemExit(main())
