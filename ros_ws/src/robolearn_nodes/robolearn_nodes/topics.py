"""Names and qualities of service of the graph; the table is in ros_ws/README.md.

Everything of a tick is reliable: in lockstep a lost message would stop the run. Publishers keep what a slow recorder
has not taken yet; who controls keeps the newest two, so that it never works off a backlog.
"""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

CLOCK = "/clock"  # where ROS 2 has it; twins of several namespaces are remapped to a clock of each
DIAGNOSTICS = "/diagnostics"  # of everybody, by name

# In the namespace of the node, as all that follows.
JOINT_STATES = "joint_states"
COMMAND = "joint_command"
POLICY_COMMAND = "policy/joint_command"  # where a person may intervene before it goes on
COMMAND_SENT = "joint_command_sent"
GROUND_TRUTH = "twin/ground_truth"
EPISODE = "episode"
ACTION_CHUNK = "policy/action_chunk"
DATASET = "recorder/dataset"
REPLAY_ERROR = "replay/error"
OPERATOR_INPUT = "operator/input"
RESIDUAL = "twin/residual"
REWARD = "reward"
STAGE_PROGRESS = "reward/stage_progress"

# Of the robot, or of the twin that stands in for it.
ROBOT_SPEC = "robot/spec"
START_EPISODE = "robot/start_episode"
STOP_EPISODE = "robot/stop_episode"
EMERGENCY_STOP = "robot/emergency_stop"
RESUME_ROBOT = "robot/resume"
RESET_POLICY = "policy/reset"
LOAD_POLICY = "policy/load"
RUN_POLICY = "policy/run"
START_RECORDING = "recorder/start_episode"
STOP_RECORDING = "recorder/stop_episode"
DISCARD_RECORDING = "recorder/discard_episode"
ANNOTATE_RECORDING = "recorder/annotate_episode"
MARK_RECORDING = "recorder/mark_success"
NEXT_EPISODE = "supervisor/next_episode"
SET_TASK = "supervisor/set_task"
RESUME_TELEOP = "teleop/resume"

STREAM = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
NEWEST = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
SENSOR_STREAM = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)  # hears reliable and lossy sensors
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
IMAGE_QOS = {"reliable": QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE), "sensor": SENSOR}
VIEW = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # of who may lag and wants no backlog
LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
STATE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def image_topic(camera: str) -> str:
    return f"camera/{camera}/image_raw"


def depth_topic(camera: str) -> str:
    """Depth of every pixel of the picture of the same stamp."""
    return f"camera/{camera}/depth/image_raw"


def camera_info_topic(camera: str) -> str:
    return f"camera/{camera}/camera_info"


def mirror_topic(camera: str) -> str:
    """A picture of the twin that mirrors a robot, beside the real camera's."""
    return f"twin/camera/{camera}/image_raw"
