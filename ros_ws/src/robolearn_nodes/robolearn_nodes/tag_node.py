"""Where things are on a real cell, by their tags: what the twin knows by itself.

Each joint state is answered by the poses of that instant: of the tool by the joints, of a thing where it was last seen,
of a mark where the running episode's seed has it. A thing that has been hidden for long is left out.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from rclpy.node import Node
from robolearn_msgs.msg import EpisodeEvent
from sensor_msgs.msg import CompressedImage, Image, JointState
from tf2_msgs.msg import TFMessage

from robolearn.envs.seen_scene import SeenScene
from robolearn.envs.tagged_things import tag_reader
from robolearn.errors import CellError, HardwareError, SpecError, UnknownNameError
from robolearn.tasks import make_task
from robolearn_nodes import convert, topics
from robolearn_nodes.heard_camera import HeardCamera
from robolearn_nodes.interface import robot_interface
from robolearn_nodes.node import Diagnostics, Meter, parameter, run


class TagNode(Node):
    """Raises CellError, HardwareError or SpecError where the cell does not see the things of the task."""

    def __init__(self) -> None:
        super().__init__("tags")
        found = robot_interface(self)
        quality = parameter(self, "image_qos", "reliable", "`reliable`, or `sensor` for cameras that are published so")
        if quality not in topics.IMAGE_QOS:
            raise UnknownNameError("image_qos", quality, topics.IMAGE_QOS)
        if found.cell is None or found.cell_file is None:
            raise CellError("the node tags has no cell; set cell, whose objects say which tag is on which thing")
        self._task = make_task(found.task_id)
        self._joints = self._task.robot_spec.joint_names
        self._scene = SeenScene(self._task, found.spec)
        self._reader = tag_reader(found.cell, found.cell_file, self._task)
        self._mount = np.append(self._task.arm.mount, np.zeros(4))
        self._blind = dict.fromkeys(self._reader.cameras, "")  # why a camera tells nothing
        self._meter = Meter()
        self._poses = self.create_publisher(TFMessage, topics.GROUND_TRUTH, topics.STREAM)
        self._diagnostics = Diagnostics(self, lambda: self._meter.figures("poses"))
        for camera in self._reader.cameras:
            HeardCamera(self, topics.image_topic(camera), partial(self._on_image, camera), topics.IMAGE_QOS[quality])
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_state, topics.STREAM)
        self.create_subscription(EpisodeEvent, topics.EPISODE, self._on_event, topics.LATCHED)

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        try:
            things = self._reader.find(camera, convert.picture(message))
        except (HardwareError, SpecError) as error:
            self._blind[camera] = str(error)
            return
        self._blind[camera] = ""
        for body, pose in things.items():
            self._scene.see(body, convert.stamp_ns(message.header.stamp), pose + self._mount)

    def _on_state(self, message: JointState) -> None:
        try:
            state = convert.robot_state(message, self._joints)
        except SpecError as error:
            self._diagnostics.report(str(error))
            return
        self._scene.state = state
        hidden = self._scene.hidden(state.stamp_ns)
        poses = {body: pose for body, pose in self._scene.poses().items() if body not in hidden}
        self._poses.publish(convert.ground_truth_message(poses, state.stamp_ns))
        self._meter.note(int(self.get_clock().now().nanoseconds), state.stamp_ns)
        self._diagnostics.report("; ".join(filter(None, (*self._blind.values(), self._scene.unseen(state.stamp_ns)))))

    def _on_event(self, event: EpisodeEvent) -> None:
        """Draw the marks of an episode that begins, as the twin does for its seed, and say where."""
        if event.event != EpisodeEvent.STARTED or event.seed < 0:
            return
        start = self._task.initial_state(np.random.default_rng(event.seed))
        for body in self._scene.marks:
            self._scene.place(body, start.poses[body])
            x, y, z = start.poses[body][:3]
            self.get_logger().info(f"the {body} of this episode is at x {x:.3f}, y {y:.3f}, z {z:.3f} m of the scene")


def main() -> int:
    return run(TagNode)


if __name__ == "__main__":
    raise SystemExit(main())
