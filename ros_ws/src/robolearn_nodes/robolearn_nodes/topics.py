"""Names and qualities of service of the graph; the table is in ros_ws/README.md.

Everything of a tick is reliable: in lockstep a lost message would stop the run. Publishers keep what a slow recorder
has not taken yet; who controls keeps the newest two, so that it never works off a backlog.
"""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

CLOCK = "/clock"
JOINT_STATES = "/joint_states"
COMMAND = "/joint_command"
COMMAND_SENT = "/joint_command_sent"
GROUND_TRUTH = "/twin/ground_truth"
EPISODE = "/episode"
ACTION_CHUNK = "/policy/action_chunk"
DIAGNOSTICS = "/diagnostics"

START_EPISODE = "/twin/start_episode"
RESET_POLICY = "/policy/reset"
START_RECORDING = "/recorder/start_episode"
STOP_RECORDING = "/recorder/stop_episode"

STREAM = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
NEWEST = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def image_topic(camera: str) -> str:
    return f"/camera/{camera}/image_raw"
