"""The policy server: complete observations of one robot or several in, joint commands out, stamped with them.

A lifecycle node: configured, it has loaded its policy and listens; active, it commands. With `autostart` it goes there
by itself. The policy thinks in a thread of its own (`serving/inference.py`), and is replaced between two chunks.
"""

from __future__ import annotations

import threading
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from robolearn_msgs.srv import LoadPolicy
from std_srvs.srv import Trigger

from robolearn.errors import RobolearnError, SpecError, UnknownNameError
from robolearn.policies.policy import Policy
from robolearn.recipes.policies import open_robot_policy
from robolearn.serving.chunks import EXECUTE_STEPS, ChunkTimeline
from robolearn.serving.inference import Inference
from robolearn.serving.shelf import PolicyShelf
from robolearn.tasks import known_task, make_task
from robolearn_nodes import topics
from robolearn_nodes.driven_robot import DrivenRobot
from robolearn_nodes.interface import DEFAULT_TASK
from robolearn_nodes.node import Diagnostics, parameter, run, unheard
from robolearn_nodes.policy_run import PolicyRun

SCRIPTED = "scripted"
SYNC = ("exact", "live")
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):
    """A policy that fails in mid-episode sends no command: the robot holds, and diagnostics say why."""

    def __init__(self) -> None:
        super().__init__("policy")
        self._path = parameter(
            self, "policy", SCRIPTED, "`scripted`, the path of a checkpoint, or tcp://HOST:PORT of a server"
        )
        self._task_id = parameter(self, "task", DEFAULT_TASK, "task id, see `robolearn tasks`")
        self._instruction = parameter(
            self, "instruction", "", "what to do, for a policy that follows words; empty: as the task says it"
        )
        self._execute_steps = parameter(
            self, "execute_steps", EXECUTE_STEPS, "steps of a chunk that are executed before the next one is asked for"
        )
        self._blend_steps = parameter(self, "blend_steps", 0, "steps in which a new chunk takes over from the old one")
        self._wait = parameter(
            self,
            "wait_for_chunk",
            True,
            "a tick that asks for a chunk waits for it: runs repeat exactly; false: the chunk in use goes on meanwhile",
        )
        self._perturbation = parameter(self, "perturbation", 0.0, "scripted: share of steps pushed off the path")
        self._seed = parameter(self, "seed", 0, "of the first episode's randomness; the next ones count up")
        robots = parameter(self, "robots", "", "namespaces of the robots, comma separated; empty: one without")
        self._namespaces = [name.strip().rstrip("/") for name in robots.split(",")]
        sync = parameter(
            self, "sync", "exact", "`exact`: all of a tick is stamped alike; `live`: newest pictures, for a cell"
        )
        max_image_age_s = parameter(self, "max_image_age_s", 0.2, "live: without a newer picture there is no command")
        image_qos = parameter(
            self, "image_qos", "reliable", "`reliable`, or `sensor` for cameras that are published so"
        )
        for name, value, known in (("sync", sync, SYNC), ("image_qos", image_qos, topics.IMAGE_QOS)):
            if value not in known:
                raise UnknownNameError(name, value, known)
        self._image_qos = topics.SENSOR if image_qos == "sensor" else topics.NEWEST
        self._max_image_age_ns = round(max_image_age_s * 1e9) if sync == "live" else None
        self._on_goal = parameter(self, "on_goal", False, "act only while a goal of /policy/run is pursued")
        self.autostart = parameter(self, "autostart", True, "configure and activate at the start")
        self.failure: RobolearnError | None = None
        self._robots: dict[str, DrivenRobot] = {}
        self._problems: dict[str, str] = {}  # by robot
        self._diagnostics = Diagnostics(self, self._figures)

    # -- lifecycle -----------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            policy = self._load(self._path)
            timelines = [ChunkTimeline(self._execute_steps, self._blend_steps, self._wait) for _ in self._namespaces]
        except RobolearnError as error:
            self.failure = error
            if not self.autostart:
                self.get_logger().error(f"{type(error).__name__}: {error}")
            return FAILURE
        self._shelf = PolicyShelf(self._path, policy)
        self._answered = self.create_guard_condition(self._on_answers)
        self._inference = Inference(self._shelf, self._answered.trigger)
        self._inference.reset(self._seed)
        known = known_task(self._task_id)
        self._robots = {
            name: DrivenRobot(
                self,
                name,
                policy.spec,
                timeline,
                self._inference.ask,
                self._report,
                self._image_qos,
                self._max_image_age_ns,
                self._instruction or (known.instruction if known else ""),
            )
            for name, timeline in zip(self._namespaces, timelines, strict=True)
        }
        self._served = [
            self.create_service(Trigger, topics.RESET_POLICY, self._on_reset),
            self.create_service(LoadPolicy, topics.LOAD_POLICY, self._on_load),
        ]
        robot = next(iter(self._robots.values()))
        self._run = PolicyRun(self, self._shelf, robot, self._start, self._let_act, self._task_id)
        self.get_logger().info(f"{self._path} is ready and looks at {', '.join(policy.spec.observation)}")
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._run.activate()
        self._let_act(not self._on_goal)
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._run.deactivate()
        self._let_act(False)
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._close()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._close()
        return SUCCESS

    def _let_act(self, acting: bool) -> None:
        for robot in self._robots.values():
            robot.acting = acting

    def _close(self) -> None:
        if not self._robots:
            return
        self._run.close()
        self._inference.close()
        for robot in self._robots.values():
            robot.close()
        self._robots = {}
        for service in self._served:
            self.destroy_service(service)
        self.destroy_guard_condition(self._answered)

    def destroy_node(self) -> None:
        if self._robots:
            self._inference.close()
        super().destroy_node()

    # -- services ------------------------------------------------------------------------------------------------

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = unheard(self, [stream for robot in self._robots.values() for stream in robot.streams])
        alone = [robot.command_topic for robot in self._robots.values() if not robot.heard()]
        if not response.message and alone:
            response.message = f"nobody listens to {', '.join(alone)} yet; is a robot or twin running?"
        response.success = not response.message
        if response.success:
            self._start(self._seed)
            self._seed += 1
        return response

    def _start(self, seed: int) -> None:
        """Another episode."""
        self._inference.reset(seed)
        for robot in self._robots.values():
            robot.reset()
            self._report(robot.namespace, "")

    async def _on_load(self, request: LoadPolicy.Request, response: LoadPolicy.Response) -> LoadPolicy.Response:
        """Loads in a thread of its own; the policy that acts goes on meanwhile."""
        try:
            if request.path:
                loaded = Future(executor=self.executor)
                threading.Thread(target=self._load_into, args=(loaded, request.path), name="load", daemon=True).start()
                policy = await loaded
                if isinstance(policy, RobolearnError):
                    raise policy
                self._shelf.put(request.name or request.path, policy)
            if request.activate:
                self._shelf.activate(request.name or request.path)
            response.success = True
        except RobolearnError as error:
            response.message = f"{type(error).__name__}: {error}"
        response.loaded, response.active = self._shelf.names, self._shelf.active_name
        return response

    def _load_into(self, loaded: Future, path: str) -> None:
        try:
            loaded.set_result(self._load(path))
        except RobolearnError as error:
            loaded.set_result(error)
        except Exception as error:  # noqa: BLE001  whatever a damaged file makes a library raise
            loaded.set_result(SpecError(f"{path} cannot be loaded: {type(error).__name__}: {error}"))

    def _load(self, path: str) -> Policy:
        if path == SCRIPTED:
            from robolearn.policies.scripted import ScriptedPolicy

            return ScriptedPolicy(self._task_id, perturbation=self._perturbation)
        policy = open_robot_policy(path, task_id=self._task_id)
        if len(self._namespaces) > 1:
            from robolearn.envs.tool_policy import ToolPolicy  # which needs the twin

            if isinstance(policy, ToolPolicy):
                raise SpecError(f"{path} goes on from its last commands, for one robot; start a policy node for each")
        if self._max_image_age_ns is None:  # else on a cell, whose task need not be one of the twin's
            policy.spec.require_rate(make_task(self._task_id).control_hz, f"checkpoint {path}", self._task_id)
        return policy

    # -- answers -------------------------------------------------------------------------------------------------

    def _on_answers(self) -> None:
        for answer in self._inference.take():
            robot = self._robots.get(answer.robot)
            if robot is not None:
                robot.on_answer(answer)

    def _report(self, namespace: str, problem: str, passing: bool = False) -> None:
        self._problems[namespace] = f"{namespace}: {problem}" if namespace and problem else problem
        self._diagnostics.report("; ".join(filter(None, self._problems.values())), passing)

    def _figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = {"policy": self._shelf.active_name} if self._robots else {}
        for robot in self._robots.values():
            figures |= robot.figures()
        return figures


def make() -> PolicyNode:
    """The node, active if it starts by itself. Raises what keeps it from that."""
    node = PolicyNode()
    if node.autostart:
        for trigger in (node.trigger_configure, node.trigger_activate):
            if trigger() != SUCCESS:
                node.destroy_node()
                raise node.failure or SpecError("the policy node cannot be activated; see its log")
    return node


def main() -> int:
    return run(make)


if __name__ == "__main__":
    raise SystemExit(main())
