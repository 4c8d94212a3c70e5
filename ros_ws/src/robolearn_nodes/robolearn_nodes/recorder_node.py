"""Writes episodes of the graph into a zarr dataset. It only listens: it is never in the way of the control loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from robolearn_msgs.msg import DatasetInfo, EpisodeEvent, Reward
from robolearn_msgs.srv import AnnotateEpisode, DiscardEpisode, StartEpisode, StopEpisode
from std_srvs.srv import SetBool

from robolearn.datasets import edit
from robolearn.datasets.contract import graph_contract, load_streams
from robolearn.datasets.store import EpisodeMeta, WriterConfig, require_json
from robolearn.errors import DatasetBusyError, DatasetError, RobolearnError, SpecError, UnknownNameError, quoted
from robolearn.tasks import make_task
from robolearn.types import EpisodeOutcome
from robolearn_nodes import convert, topics
from robolearn_nodes.episode import new_episode_id
from robolearn_nodes.interface import robot_interface
from robolearn_nodes.node import Diagnostics, parameter, run, unheard
from robolearn_nodes.online_rewards import OnlineRewards
from robolearn_nodes.own_rate import OwnRates, OwnStreams
from robolearn_nodes.recording import Recording
from robolearn_nodes.streams import Streams, open_store

RULES = ("exact", "grid")


class RecorderNode(Node):
    """Appends episodes to one dataset; makes it when it is not there.

    An episode is committed when every stream has reached its end, or `stop_timeout_s` later: what is missing then is
    masked and counted. A sample that does not fit the dataset spoils its episode. What there is of that, of one whose
    end is never told, or of one that cannot be committed is left to be salvaged; nothing is discarded but on demand.
    """

    def __init__(self) -> None:
        super().__init__("recorder")
        path = parameter(self, "dataset", "", "path of the dataset, a folder ending in .zarr")
        self._interface = robot_interface(self)
        self._instruction = parameter(self, "instruction", "", "what the robot is told to do; empty: the task's own")
        size = parameter(self, "image_size", 96, "height and width of the images [pixels]; a cell says it itself")
        width = parameter(self, "image_width", 0, "their width, where it is another one")
        cameras = parameter(self, "cameras", "all", "cameras that are recorded, comma separated; may be empty")
        depths = parameter(
            self, "depth_cameras", "", "those of the cameras whose depth is recorded, too; a cell says it itself"
        )
        self._rule = parameter(self, "sync", "", "`exact` or `grid`, see recording.py; empty: exact for a twin")
        max_image_age_s = parameter(self, "max_image_age_s", 0.2, "grid: an older picture is masked")
        image_qos = parameter(
            self, "image_qos", "reliable", "`reliable`, or `sensor` for cameras that are published so"
        )
        self._wait_for_started = parameter(
            self,
            "wait_for_started",
            True,
            "whether an episode begins with the STARTED event; else, when it is asked for",
        )
        own = parameter(
            self, "streams", "", "YAML file of sensors that are recorded at their own rate, see ros_ws/README.md"
        )
        tags = parameter(self, "tags", False, "of a cell: whether the node `tags` tells the poses of the task's bodies")
        self._stop_timeout_s = parameter(
            self, "stop_timeout_s", 5.0, "how long to wait for samples at an episode's end"
        )
        self._reward_wait_s = parameter(
            self, "reward_wait_s", 1.0, "how long after an episode's end what reward models say of it is still taken"
        )
        self._rule = self._rule or ("exact" if self._interface.task else "grid")
        if self._rule not in RULES or max_image_age_s <= 0:
            raise SpecError(
                f"recorder: sync is {self._rule!r} and max_image_age_s {max_image_age_s:g}, expected one of "
                f"{', '.join(RULES)}, and more than 0"
            )
        if image_qos not in topics.IMAGE_QOS:
            raise UnknownNameError("image_qos", image_qos, topics.IMAGE_QOS)
        if not path:
            raise DatasetError("the recorder has no dataset; set its parameter dataset to a path ending in .zarr")
        task = self._interface.task
        names = [name.strip() for name in cameras.split(",") if name.strip()]
        if cameras == "all":
            names = list(task.cameras) if task else ["front", "wrist"]
        deep = [name.strip() for name in depths.split(",") if name.strip()]
        for name in deep:
            if name not in names:
                raise UnknownNameError("camera", name, names)
        own_streams = load_streams(Path(own)) if own else []
        seen = task or (make_task(self._interface.task_id) if tags else None)
        bodies = seen.bodies if seen else ()
        self._store = open_store(Path(path), self._interface, names, deep, (size, width or size), own_streams, bodies)
        self._open = ExitStack()
        self._writer = self._open_writer()
        self._recording: Recording | None = None
        self._episode = EpisodeMeta()
        self._any_episode = False  # whether the STARTED event of any episode is the one that is waited for
        self._told: str | None = None  # the id under which its STARTED event came
        self._notes: dict[str, Any] = {}  # tags of the running episode
        self._success: bool | None = None  # of the running episode, where somebody marked it
        self._discarded = ""  # id of the running episode that is not kept
        self._problem = ""  # why the episode cannot be kept
        self._ending: tuple[int, Future] | None = None  # last stamp of the episode, and what its end waits for

        rule: Literal["exact", "grid"] = "exact" if self._rule == "exact" else "grid"
        self._contract = graph_contract(self._store.spec, rule, max_image_age_s)
        self._streams = Streams(self, self._contract, self._push, image_qos == "sensor")
        self._own_streams = OwnStreams(self, own_streams, self._push_own)
        self._own_fields = [stream.field for stream in own_streams]
        self._own = OwnRates(self._own_fields)
        self._rewards = OnlineRewards(self._store.path, lambda text: self._diagnostics.report(text))
        self._info = self.create_publisher(DatasetInfo, topics.DATASET, topics.LATCHED)
        self.create_subscription(EpisodeEvent, topics.EPISODE, self._on_event, topics.LATCHED)
        self.create_subscription(Reward, topics.REWARD, self._rewards.hear, topics.STREAM)
        self.create_service(StartEpisode, topics.START_RECORDING, self._on_start)
        # a stop waits for samples; in the samples' own callback group they could not come in meanwhile
        stopping = MutuallyExclusiveCallbackGroup()
        self.create_service(StopEpisode, topics.STOP_RECORDING, self._on_stop, callback_group=stopping)
        self.create_service(DiscardEpisode, topics.DISCARD_RECORDING, self._on_discard)
        self.create_service(AnnotateEpisode, topics.ANNOTATE_RECORDING, self._on_annotate)
        self.create_service(SetBool, topics.MARK_RECORDING, self._on_mark)
        self._diagnostics = Diagnostics(self, self._figures)
        self._tell()

    def _open_writer(self) -> Any:
        # a real robot does not wait for a slow disk: pictures are dropped, masked and counted
        return self._open.enter_context(self._store.writer(WriterConfig(drop_when_full=self._rule == "grid")))

    def _ready_writer(self) -> None:
        """Open the writer where it is not. Raises DatasetBusyError while another process writes to the dataset."""
        if not self._writer.is_open:
            self._open.close()
            self._store = type(self._store).open(self._store.path)
            self._writer = self._open_writer()

    # --- streams ---

    def _push(self, stream: str, stamp_ns: int, read: Callable[[], dict[str, Any]]) -> None:
        recording = self._recording
        if recording is None or self._problem:
            return
        try:
            fields = read()
        except SpecError as error:
            fields = {}  # the tick goes on without it: masked and counted
            self._diagnostics.report(f"unusable sample of {stream}: {error}")
        received_ns = self.get_clock().now().nanoseconds if self._rule == "grid" else -1
        self._spoil_unless(lambda: recording.push(stream, stamp_ns, fields, received_ns), stream)
        self._check_end()

    def _push_own(self, name: str, received_ns: int, read: Callable[[], tuple[int, Any]]) -> None:
        if self._recording is None or self._problem:
            return
        try:
            stamp_ns, values = read()
        except SpecError as error:
            self._diagnostics.report(f"unusable sample of {name}: {error}")
            return
        self._spoil_unless(lambda: self._own.push(name, stamp_ns, received_ns, values), name)
        self._check_end()

    def _spoil_unless(self, step: Callable[[], None], what: str) -> None:
        try:
            step()
        except RobolearnError as error:
            self._problem = f"{what}: {error}"
            self._diagnostics.report(f"the episode ends here: {self._problem}")

    def _on_event(self, event: EpisodeEvent) -> None:
        recording, stamp_ns = self._recording, convert.stamp_ns(event.header.stamp)
        if recording is None:
            return
        if event.event == EpisodeEvent.ENDED and event.episode_id == self._told:
            recording.end(stamp_ns)  # whoever stops the recording may be late
        if recording.started or event.event != EpisodeEvent.STARTED:
            return
        if self._any_episode or event.episode_id == self._episode.id:
            self._told = event.episode_id
            self._rewards.listen(event.episode_id, self._episode.id)
            self._begin(recording, stamp_ns)

    def _begin(self, recording: Recording, start_ns: int) -> None:
        self._spoil_unless(lambda: recording.begin(start_ns), "first samples")
        self._own.begin(self._writer, start_ns)

    def _check_end(self) -> None:
        """Let a waiting stop go on when nothing more is to come."""
        if self._ending is None or self._recording is None:
            return
        end_ns, arrived = self._ending
        whole = self._recording.reached(end_ns, self._interface.period_ns) and self._own.reached(end_ns)
        if not arrived.done() and (self._problem or whole):
            arrived.set_result(None)

    # --- services ---

    def _on_start(self, request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        response.message = unheard(self, [*self._streams.topics, *self._own_streams.topics])
        if response.message:
            return response
        if self._ending is not None:
            response.message = "the episode before is still being ended"
            return response
        if self._recording is not None:
            # The supervisor is another one by now.
            self.get_logger().error(self._left("its end was never told", self._recording))
        task = self._interface.task
        self._episode = EpisodeMeta(
            task=request.task or self._interface.task_id,
            instruction=request.instruction or self._instruction or (task.instruction if task else ""),
            seed=request.seed,
            operator=request.operator_name,
            created_ns=self.get_clock().now().nanoseconds,
            id=request.episode_id or new_episode_id(self._interface.task_id),
        )
        try:
            self._ready_writer()
            self._writer.begin(self._episode)
        except RobolearnError as error:
            response.message = str(error)
            return response
        self._rewards.listen(self._episode.id, self._episode.id)
        self._recording = Recording(self._writer, self._contract.observed, self._contract.make_join())
        self._problem, self._notes, self._success, self._told = "", {}, None, None
        self._any_episode = not request.episode_id
        self._own = OwnRates(self._own_fields)
        if not self._wait_for_started:
            self._begin(self._recording, 0)
        self._diagnostics.report("")
        self._tell()
        response.success, response.episode_id = True, self._episode.id
        return response

    async def _on_stop(self, request: StopEpisode.Request, response: StopEpisode.Response) -> StopEpisode.Response:
        recording, event = self._recording, request.event
        if recording is None and event.episode_id and event.episode_id == self._discarded:
            response.success, response.message = True, f"episode {event.episode_id} was discarded before"
            return response
        if recording is None or self._ending is not None:
            response.message = "no episode is being recorded; call start_episode first"
            return response
        end_ns = convert.stamp_ns(event.header.stamp)
        if not (end_ns or request.discard):
            response.message = "the event has no stamp; give that of the episode's last observation, as ENDED has it"
            return response
        recording.end(end_ns)
        if not request.discard:
            await self._wait_for_samples(end_ns)
        self._recording, self._ending = None, None
        success = self._success if self._success is not None else bool(event.success) if event.judged else None
        outcome = EpisodeOutcome(success, event.terminated, event.truncated, event.reason)
        try:
            if request.discard:
                self._discard()
                response.success, response.message = True, self._problem
            elif self._problem:
                response.message = self._left(self._problem, recording)
            elif not recording.started:
                self._discard()
                events = self.resolve_topic_name(topics.EPISODE)
                response.message = f"no {events} event told that episode {self._episode.id} has started"
            else:
                self._own.end(end_ns)
                backwards = {name: count for name, count in self._own.counts.items() if count}
                tags = {"sync": self._rule, **recording.counts, "backwards": backwards, **self._notes}
                info = recording.commit(outcome, {key: value for key, value in tags.items() if value})
                self._await_rewards(info.id)
                response.success, response.message = True, _describe(info.masked)
        except RobolearnError as error:
            response.success, response.message = False, str(error)
            self._left(str(error), recording)
        self._tell()
        return response

    def _left(self, why: str, recording: Recording) -> str:
        """Let go of the running episode without an end, so that it is in nobody's way; what to say of it."""
        self._rewards.forget(self._episode.id)
        with suppress(RobolearnError):  # of a sample that does not fit, or a disk that is full
            recording.flush()
        self._open.close()
        self._recording = None
        salvage = f"salvage it, when nothing is recorded, with: robolearn dataset repair {quoted(self._store.path)}"
        return f"episode {self._episode.id} was not ended: {why}; {salvage}"

    def _discard(self) -> None:
        self._rewards.forget(self._episode.id)
        self._writer.discard()

    async def _wait_for_samples(self, end_ns: int) -> None:
        arrived = Future()
        self._ending = (end_ns, arrived)
        timer = self.create_timer(self._stop_timeout_s, lambda: arrived.done() or arrived.set_result(None))
        self._check_end()
        await arrived
        self.destroy_timer(timer)

    def _await_rewards(self, episode_id: str) -> None:
        """Write what is said of an episode that is kept, when the slowest model has had its time."""

        def write() -> None:
            self.destroy_timer(timer)
            self._rewards.write(episode_id)

        timer = self.create_timer(self._reward_wait_s, write)

    def _on_discard(self, request: Any, response: Any) -> Any:
        def running() -> None:
            self._discard()
            self._recording, self._discarded = None, self._episode.id

        return self._answer(request.episode_id, response, running, lambda path, name: edit.delete(path, [name]))

    def _on_annotate(self, request: Any, response: Any) -> Any:
        try:
            value = json.loads(request.value) if request.value else None
        except ValueError:
            value = request.value

        def running() -> None:
            require_json(f"annotation {request.key!r}", {request.key: value})
            self._notes[request.key] = value

        return self._answer(
            request.episode_id, response, running, lambda path, name: edit.tag(path, [name], {request.key: value})
        )

    def _on_mark(self, request: Any, response: Any) -> Any:
        def running() -> None:
            self._success = request.data

        return self._answer("", response, running, lambda path, name: edit.mark(path, [name], request.data))

    def _answer(
        self, episode_id: str, response: Any, running: Callable[[], None], kept: Callable[[Path, str], Any]
    ) -> Any:
        """Do it to the episode that is being recorded, or to one that was kept, for which the writer is put aside."""
        try:
            if self._ending is not None:
                raise DatasetError(f"episode {self._episode.id} is just being ended; ask again")
            if self._recording is not None and episode_id in ("", self._episode.id):
                running()
            elif self._recording is not None:
                raise DatasetError(f"episode {self._episode.id} is being recorded; change {episode_id} when it is over")
            elif not (episode_id or self._store.episodes):
                raise DatasetError(f"{self._store.path} has no episodes yet")
            else:
                self._open.close()
                try:
                    kept(self._store.path, episode_id or self._store.episodes[-1].id)
                finally:
                    with suppress(DatasetBusyError):  # of one who came first; the next episode tries again
                        self._ready_writer()
        except RobolearnError as error:
            response.success, response.message = False, str(error)
            return response
        self._tell()
        response.success = True
        return response

    # --- what it tells ---

    def _tell(self) -> None:
        episodes, spec = self._store.episodes, self._store.spec
        self._info.publish(
            DatasetInfo(
                header=convert.header(self.get_clock().now().nanoseconds),
                path=str(self._store.path),
                tasks=list(spec.tasks),
                fields=list(spec.fields),
                control_hz=spec.interface.control_hz,
                episodes=len(episodes),
                steps=sum(episode.length for episode in episodes),
                recording=self._episode.id if self._recording else "",
                last_episode=episodes[-1].id if episodes else "",
            )
        )

    def _figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = {"episodes": len(self._store.episodes)}
        figures |= self._streams.figures() | self._own_streams.figures()
        if self._recording is not None:
            figures["steps"] = self._recording.num_steps
            for what, count in self._recording.counts.items():
                figures |= {f"{what}_{stream}": number for stream, number in count.items()}
        return figures

    def destroy_node(self) -> None:
        if self._recording is not None:
            self.get_logger().error(self._left("the recorder was stopped", self._recording))
        self._open.close()
        self._rewards.close()
        super().destroy_node()


def _describe(masked: Any) -> str:
    return ", ".join(f"{count} steps lack {name}" for name, count in masked.items())


def main() -> int:
    return run(RecorderNode)


if __name__ == "__main__":
    raise SystemExit(main())
