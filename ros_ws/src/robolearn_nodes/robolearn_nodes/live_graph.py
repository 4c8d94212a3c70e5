"""What the operator's page shows of a graph, gathered best effort: who looks on holds up nobody. See `LiveSource`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from robolearn_msgs.msg import DatasetInfo, EpisodeEvent, Reward, StageProgress
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import LaunchError
from robolearn.web.driving import Hands
from robolearn.web.live_source import Row
from robolearn_nodes import convert, topics
from robolearn_nodes.emergency_stop import STOPPED
from robolearn_nodes.live_discovery import LiveDiscovery
from robolearn_nodes.live_pictures import LivePictures
from robolearn_nodes.live_requests import LiveRequests
from robolearn_nodes.node import Meter, graph_name

LOOK_ON = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)
KEPT_ROWS = 900  # about half a minute
REMEMBERED = 200  # latencies
SILENT_S = 3.5  # diagnostics come each second
FRESH_S = 1.0


def _number(value: float) -> float | None:
    """As the page wants it: of what is no number JSON knows nothing, and a page that cannot read it shows the past."""
    return round(float(value), 4) if np.isfinite(value) else None


class LiveGraph:
    """Callbacks run in the node's thread; what they leave is read by others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._bodies = [graph_name(name, node.get_namespace()) for name in ("robot", "twin")]
        self._supervisor = graph_name("supervisor", node.get_namespace())
        self._pictures, self._requests = LivePictures(node), LiveRequests(node)
        self._lock = threading.Lock()
        self._rows: deque[Row] = deque(maxlen=KEPT_ROWS)
        self._count = 0  # rows that came ever
        self._joints: list[str] = []
        # when [s, monotonic], command, why the robot holds
        self._sent: tuple[float, list[float | None], str] = (0.0, [], "")
        self._states_s = self._asked_to_stop_s = 0.0
        self._meters = {"states": Meter(), "commands": Meter()}
        self._commander = ""
        self._came_ns: dict[int, int] = {}  # wall time by stamp, of joint states without a command yet
        self._latency_ms: deque[float] = deque(maxlen=REMEMBERED)
        self._health: dict[str, tuple[float, dict[str, Any]]] = {}
        self._facts: dict[str, Any] = {"episode": None, "recorder": None, "reward": {}, "progress": None}
        self._offers: list[str] = []
        for kind, topic, callback, qos in (
            (JointState, topics.JOINT_STATES, self._on_state, LOOK_ON),
            (JointTrajectory, topics.COMMAND, self._on_command, LOOK_ON),
            (JointTrajectory, topics.COMMAND_SENT, self._on_sent, LOOK_ON),
            (DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, LOOK_ON),
            (Reward, topics.REWARD, self._on_reward, LOOK_ON),
            (StageProgress, topics.STAGE_PROGRESS, self._on_progress, LOOK_ON),
            (EpisodeEvent, topics.EPISODE, self._on_episode, topics.LATCHED),
            (DatasetInfo, topics.DATASET, self._on_dataset, topics.LATCHED),
        ):
            node.create_subscription(kind, topic, callback, qos)
        self._discovery = LiveDiscovery(node, self._discovered)
        self._discovery.start()

    # --- what the page is told ---

    def state(self) -> dict[str, Any]:
        latencies = list(self._latency_ms)
        figures: dict[str, str] = {}
        for name, meter in self._meters.items():
            figures |= meter.figures(name)
        fresh = time.monotonic() - self._states_s < FRESH_S
        commanded = time.monotonic() - self._sent[0] < FRESH_S
        loop = {
            "states_hz": float(figures["states_hz"]) if fresh else 0.0,
            "commands_hz": float(figures["commands_hz"]) if commanded else 0.0,
            "latency_p50_ms": round(float(np.percentile(latencies, 50)), 1) if latencies else None,
            "latency_p99_ms": round(float(np.percentile(latencies, 99)), 1) if latencies else None,
            "commander": self._commander if commanded else "",
        }
        return {
            "safety": self._safety(),
            "loop": loop,
            "joints": self._joints,
            **self._facts,
            "supervisor": self._supervised(),
            "nodes": self._nodes(),
            "links": self._discovery.links(),
            "offers": self._offers,
            "cameras": self._pictures.cameras,
        }

    def _safety(self) -> dict[str, str]:
        at_s, _, reason = self._sent
        now_s = time.monotonic()
        commanded = now_s - at_s < FRESH_S
        if self.stopped():
            return {"state": "stopped", "reason": self._stop_reason() or STOPPED}
        if now_s - self._asked_to_stop_s < FRESH_S:
            return {"state": "stopping", "reason": "asked to stop"}
        if commanded:
            return {"state": "holding" if reason else "moving", "reason": reason}
        if now_s - self._states_s < FRESH_S:
            return {"state": "idle", "reason": "nobody commands the robot"}
        return {"state": "unknown", "reason": "no robot or twin is heard"}

    def rows(self, after: int) -> tuple[int, list[Row]]:
        with self._lock:
            fresh = min(self._count - 1 - after, len(self._rows))
            return self._count - 1, list(islice(self._rows, len(self._rows) - fresh, None))

    def stopped(self) -> bool:
        return bool(self._stop_reason()) or (
            self._sent[2].startswith(STOPPED) and time.monotonic() - self._sent[0] < FRESH_S
        )

    def _stop_reason(self) -> str:
        """As the robot's own diagnostics have it."""
        for _, status in list(self._health.values()):
            known = status["name"] in self._bodies and status["name"] in self._discovery.nodes
            if known and status["values"].get("stopped"):
                return str(status["values"]["stopped"])
        return ""

    # --- what the page asks ---

    def stop(self) -> None:
        self._requests.stop()
        self._asked_to_stop_s = time.monotonic()

    def drive(self, browser: int, hands: Hands) -> None:
        self._requests.drive(browser, hands)

    def ask(self, what: str) -> str:
        if what == "start" and self.stopped():
            raise LaunchError("the robot is stopped; resume it first")
        return self._requests.ask(what)

    def look(self, cameras: Iterable[str], on_picture: Callable[[str], None]) -> None:
        self._pictures.look(cameras, on_picture)

    def picture(self, camera: str) -> tuple[int, NDArray[np.uint8] | bytes] | None:
        return self._pictures.picture(camera)

    # --- what comes in ---

    def _on_state(self, message: JointState) -> None:
        stamp_ns, now_ns = convert.stamp_ns(message.header.stamp), time.perf_counter_ns()
        self._states_s = time.monotonic()
        self._meters["states"].note(now_ns, stamp_ns)
        self._came_ns[stamp_ns] = now_ns
        while len(self._came_ns) > REMEMBERED:
            self._came_ns.pop(next(iter(self._came_ns)))
        at_s, sent, _ = self._sent
        joints = list(message.name)
        known = sent if len(sent) == len(joints) and self._states_s - at_s < FRESH_S else [None] * len(joints)
        values = [reward["value"] for reward in self._facts["reward"].values()]
        row: Row = [_number(value) for value in (stamp_ns * 1e-9, *message.position)]
        row += [*known, values[-1] if values else None]
        with self._lock:
            if joints != self._joints:
                self._rows.clear()
                self._joints = joints
            self._rows.append(row)
            self._count += 1

    def _on_command(self, message: JointTrajectory) -> None:
        now_ns = time.perf_counter_ns()
        self._meters["commands"].note(now_ns, 0)
        self._commander = message.header.frame_id
        came_ns = self._came_ns.pop(convert.stamp_ns(message.header.stamp), None)
        if came_ns is not None:
            self._latency_ms.append((now_ns - came_ns) * 1e-6)

    def _on_sent(self, message: JointTrajectory) -> None:
        if message.points:
            command = [_number(value) for value in message.points[0].positions]
            self._sent = (time.monotonic(), command, message.header.frame_id)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            level = status.level if isinstance(status.level, int) else int.from_bytes(status.level, "little")
            values = {pair.key: pair.value for pair in status.values}
            self._health[status.name] = (
                time.monotonic(),
                {"name": status.name, "level": level, "message": status.message, "values": values},
            )

    def _on_reward(self, message: Reward) -> None:
        if not np.isfinite([message.value, message.confidence]).all():
            return
        rewards = {
            **self._facts["reward"],
            message.model: {
                "value": round(float(message.value), 4),
                "kind": message.kind,
                "confidence": round(float(message.confidence), 3),
            },
        }
        self._facts["reward"] = rewards

    def _on_progress(self, message: StageProgress) -> None:
        if not np.isfinite([message.stage_progress, message.progress]).all():
            return
        self._facts["progress"] = {
            "stages": list(message.stages),
            "stage": int(message.stage),
            "stage_progress": round(float(message.stage_progress), 3),
            "progress": round(float(message.progress), 3),
        }

    def _on_episode(self, event: EpisodeEvent) -> None:
        running = event.event == EpisodeEvent.STARTED
        facts = ("episode_id", "task", "instruction", "seed", "num_steps", "judged", "success", "discarded", "reason")
        ended = ("terminated", "truncated", "held_steps", "loop_p50_ms", "loop_p99_ms")
        self._facts["episode"] = {"running": running, **{name: getattr(event, name) for name in (*facts, *ended)}}
        if running:
            self._facts["reward"], self._facts["progress"] = {}, None
            self._latency_ms.clear()

    def _on_dataset(self, info: DatasetInfo) -> None:
        names = ("path", "episodes", "steps", "recording", "last_episode", "control_hz")
        self._facts["recorder"] = {name: getattr(info, name) for name in names}

    def _discovered(self) -> None:
        """In the thread of the discovery."""
        self._pictures.find(self._discovery.types, self._discovery.ends)
        self._offers = self._requests.offered()

    def _supervised(self) -> dict[str, Any] | None:
        """What the supervisor of this robot said last, if there is one."""
        _, status = self._health.get(self._supervisor, (0.0, None))
        return status["values"] if status and self._supervisor in self._discovery.nodes else None

    def _nodes(self) -> list[dict[str, Any]]:
        """How everybody fares, by what they said last."""
        nodes = []
        for name in self._discovery.nodes:
            at_s, status = self._health.get(name, (0.0, {}))
            silent = bool(status) and time.monotonic() - at_s > SILENT_S
            nodes.append({"name": name, "level": None, "message": "", "values": {}, **status, "silent": silent})
        return nodes

    def close(self) -> None:
        self._discovery.close()
