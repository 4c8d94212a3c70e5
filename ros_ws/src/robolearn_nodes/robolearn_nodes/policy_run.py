"""The action `/policy/run`: lets a policy act until the episode ends, the goal is cancelled or its time is over.

Only an active node takes goals, and the one that it pursues ends when it is deactivated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.node import Node
from robolearn_msgs.action import RunPolicy
from robolearn_msgs.msg import EpisodeEvent

from robolearn.serving.shelf import PolicyShelf
from robolearn_nodes import convert, topics
from robolearn_nodes.driven_robot import DrivenRobot

FEEDBACK_PERIOD_S = 0.1


class PolicyRun:
    """One goal at a time. It is executed only at its end, so that no coroutine waits in the executor meanwhile."""

    def __init__(
        self,
        node: Node,
        shelf: PolicyShelf,
        robot: DrivenRobot,
        start: Callable[[int], None],
        let_act: Callable[[bool], None],
        task_id: str,
    ) -> None:
        self._node, self._shelf, self._robot, self._start, self._let_act = node, shelf, robot, start, let_act
        self._task_id = task_id
        self._instruction = robot.context.instruction  # of goals that bring none
        self._active = False
        self._goal: Any = None
        self._acted_before = False
        self._since_ns = 0
        self._server = ActionServer(
            node,
            RunPolicy,
            topics.RUN_POLICY,
            lambda goal: RunPolicy.Result(),
            goal_callback=self._judge,
            handle_accepted_callback=self._begin,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )
        self._events = node.create_subscription(EpisodeEvent, topics.EPISODE, self._on_event, topics.LATCHED)
        self._timer = node.create_timer(FEEDBACK_PERIOD_S, self._look)

    def activate(self) -> None:
        """Take goals."""
        self._active = True

    def deactivate(self) -> None:
        """Take none, and give up the one that is pursued."""
        self._active = False
        if self._goal is not None:
            goal = self._goal
            self._finish(False, "the policy was deactivated", lambda: goal.abort)

    def _judge(self, request: Any) -> GoalResponse:
        reason = ""
        if not self._active:
            reason = "the policy node is not active; activate it first"
        elif self._goal is not None:
            reason = "another goal is pursued"
        elif request.policy and request.policy not in self._shelf.names:
            reason = f"policy {request.policy!r}, loaded are {', '.join(self._shelf.names)}"
        elif request.task not in ("", self._task_id):
            reason = f"task {request.task!r}, this node does {self._task_id}"
        elif not request.timeout_s >= 0:
            reason = f"time {request.timeout_s:g} s, expected at least 0"
        if not reason:
            return GoalResponse.ACCEPT
        self._node.get_logger().warning(f"goal refused: {reason}")
        return GoalResponse.REJECT

    def _begin(self, goal: Any) -> None:
        request = goal.request
        if request.policy:
            self._shelf.activate(request.policy)
        self._robot.context.instruction = request.instruction or self._instruction
        self._start(request.seed)
        self._goal, self._since_ns = goal, self._now_ns()
        self._acted_before = self._robot.acting
        self._let_act(True)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _look(self) -> None:
        goal = self._goal
        if goal is None:
            return
        limit_s = goal.request.timeout_s
        if goal.is_cancel_requested:
            self._finish(False, "cancelled", lambda: goal.canceled)
        elif 0 < limit_s < (self._now_ns() - self._since_ns) * 1e-9:
            self._finish(False, f"the time of {limit_s:g} s is over", lambda: goal.abort)
        else:
            robot = self._robot
            goal.publish_feedback(
                RunPolicy.Feedback(
                    header=convert.header(robot.newest_ns),
                    num_steps=robot.commands,
                    missed_ticks=robot.missed_ticks,
                    state="acting" if robot.commands else "waiting for an observation",
                )
            )

    def _on_event(self, event: EpisodeEvent) -> None:
        goal = self._goal
        if goal is not None and event.event == EpisodeEvent.ENDED and self._robot.commands:
            self._finish(bool(event.success), event.reason, lambda: goal.succeed)

    def _finish(self, success: bool, reason: str, ending: Callable[[], Callable[[], None]]) -> None:
        goal, self._goal = self._goal, None
        self._let_act(self._acted_before)
        p50_ms, p99_ms = self._robot.latency_ms()
        result = RunPolicy.Result(
            success=success,
            reason=reason,
            num_steps=self._robot.commands,
            missed_ticks=self._robot.missed_ticks,
            loop_p50_ms=p50_ms,
            loop_p99_ms=p99_ms,
        )

        def execute(_: Any) -> RunPolicy.Result:
            ending()()
            return result

        goal.execute(execute)

    def close(self) -> None:
        """Let go of topics and action."""
        self._server.destroy()
        self._node.destroy_subscription(self._events)
        self._node.destroy_timer(self._timer)
