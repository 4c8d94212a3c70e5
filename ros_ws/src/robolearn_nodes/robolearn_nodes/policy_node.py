"""A policy on the graph: one complete observation in, one joint command out, both stamped with the observation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rclpy.node import Node
from robolearn_msgs.msg import ActionChunk
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import SpecError
from robolearn.policies.policy import Policy
from robolearn.serving.loop import EXECUTE_STEPS, ControlLoop
from robolearn.sync import ExactJoin, Tick
from robolearn.tasks import make_task
from robolearn.types import Observation
from robolearn_nodes import convert, topics
from robolearn_nodes.node import Diagnostics, parameter, run, unheard

SCRIPTED = "scripted"


class PolicyNode(Node):
    """Subscribes to the fields that the policy's spec names and to nothing else.

    Raises SpecError, which ends the node, when the robot publishes other joints or image sizes than the policy was
    made for. A policy that fails in mid-episode sends no command: the robot holds, and diagnostics say why.
    """

    def __init__(self) -> None:
        super().__init__("policy")
        path = parameter(self, "policy", SCRIPTED, "`scripted`, or the path of a checkpoint")
        task_id = parameter(self, "task", "pick_place-v1", "task id, see `robolearn tasks`")
        execute_steps = parameter(
            self, "execute_steps", EXECUTE_STEPS, "steps of a chunk that are executed before the next one"
        )
        perturbation = parameter(self, "perturbation", 0.0, "scripted: share of steps that are pushed off the path")
        self._seed = parameter(self, "seed", 0, "of the first episode's randomness; the next ones count up")
        self._policy = _load(path, task_id, perturbation)
        self._loop = ControlLoop(self._policy, execute_steps)
        self._loop.reset(self._seed)
        self._joints = self._policy.spec.action.names
        self._commands = self._chunks = 0

        self._command = self.create_publisher(JointTrajectory, topics.COMMAND, topics.STREAM)
        self._action_chunk = self.create_publisher(ActionChunk, topics.ACTION_CHUNK, topics.STREAM)
        self._diagnostics = Diagnostics(self, self._figures)
        self.create_service(Trigger, topics.RESET_POLICY, self._on_reset)
        fields = self._policy.spec.observation
        cameras = [name.removeprefix("image_") for name in fields if name.startswith("image_")]
        self._streams = [topics.JOINT_STATES, *map(topics.image_topic, cameras)]
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joint_states, topics.NEWEST)
        for camera in cameras:
            self.create_subscription(Image, topics.image_topic(camera), self._on_image(camera), topics.NEWEST)
        if any(name.startswith("pose_") for name in fields):
            self._streams.append(topics.GROUND_TRUTH)
            self.create_subscription(TFMessage, topics.GROUND_TRUTH, self._on_ground_truth, topics.NEWEST)
        self._join = ExactJoin(self._streams, depth=4)
        self.get_logger().info(f"{path} is ready and looks at {', '.join(fields)}")

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = unheard(self, self._streams)
        if not response.message and not self._command.get_subscription_count():
            response.message = f"nobody listens to {topics.COMMAND} yet; is a robot or twin running?"
        if response.message:
            response.success = False
            return response
        self._loop.reset(self._seed)
        self._seed += 1
        self._join.reset()
        self._diagnostics.report("")
        response.success = True
        return response

    def _on_joint_states(self, message: JointState) -> None:
        if set(message.name) != set(self._joints):
            raise SpecError(
                f"the policy was made for the joints {', '.join(self._joints)}; the robot publishes "
                f"{', '.join(message.name)}; use a policy of this robot"
            )
        state = convert.robot_state(message, self._joints)
        self._on_sample(topics.JOINT_STATES, state.stamp_ns, {"proprio": state.proprio()})

    def _on_image(self, camera: str) -> Any:
        def on_image(message: Image) -> None:
            stamp_ns = convert.stamp_ns(message.header.stamp)
            self._on_sample(topics.image_topic(camera), stamp_ns, {f"image_{camera}": convert.image(message)})

        return on_image

    def _on_ground_truth(self, message: TFMessage) -> None:
        stamp_ns, poses = convert.ground_truth(message)
        self._on_sample(topics.GROUND_TRUTH, stamp_ns, {f"pose_{body}": pose for body, pose in poses.items()})

    def _on_sample(self, stream: str, stamp_ns: int, fields: Observation) -> None:
        for tick in self._join.push(stream, stamp_ns, fields):
            if not tick.missing:
                self._act(tick)

    def _act(self, tick: Tick) -> None:
        observation: Observation = {}
        for fields in tick.samples.values():
            observation |= fields
        for name, spec in self._policy.spec.observation.items():
            if name not in observation:
                raise SpecError(f"the policy needs {name}; the robot publishes {', '.join(observation)}")
            try:
                observation[name] = spec.check(f"the robot's {name}", observation[name])
            except SpecError as error:
                raise SpecError(f"{error}; use the robot and the image size that the policy was made for") from None
        try:
            step = self._loop.step(observation, tick.stamp_ns)
        except Exception as error:  # noqa: BLE001  whatever a policy raises: no command, and the robot holds
            self._diagnostics.report(f"no command: {type(error).__name__}: {' '.join(str(error).split())}")
            return
        source = convert.source_name(step.source)
        self._command.publish(convert.command_message(step.action, tick.stamp_ns, self._joints, source))
        self._commands += 1
        if step.chunk is not None:
            self._action_chunk.publish(convert.chunk_message(step.chunk, self._joints))
            self._chunks += 1
        self._diagnostics.report("")

    def _figures(self) -> dict[str, Any]:
        counts = self._join.counts
        return {
            "commands": self._commands,
            "chunks": self._chunks,
            "incomplete_observations": counts.missing.total(),
            "late_samples": counts.late.total(),
        }


def _load(path: str, task_id: str, perturbation: float) -> Policy:
    if path == SCRIPTED:
        from robolearn.policies.scripted import ScriptedPolicy

        return ScriptedPolicy(task_id, perturbation=perturbation)
    from robolearn.policies.checkpoint import load_policy  # brings torch, which an expert does not need

    policy = load_policy(Path(path))
    wanted_hz = make_task(task_id).control_hz
    if abs(policy.spec.control_hz - wanted_hz) > 1e-6:
        raise SpecError(f"checkpoint {path} runs at {policy.spec.control_hz:g} Hz, {task_id} at {wanted_hz:g} Hz")
    return policy


def main() -> int:
    return run(PolicyNode)


if __name__ == "__main__":
    raise SystemExit(main())
