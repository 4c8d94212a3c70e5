"""ROS 2 launch files in YAML, run without ROS 2: the same file is run by `ros2 launch FILE`.

`load` evaluates a file into plain data, `Launcher` runs it in this process, `run` is the whole of `robolearn launch`.
"""

from robolearn.ros.launch.description import (
    LaunchArgument,
    LaunchDescription,
    Message,
    ParamsFile,
    Process,
    Shutdown,
    Step,
)
from robolearn.ros.launch.launcher import Launcher, run
from robolearn.ros.launch.loading import describe_arguments, load

__all__ = [
    "LaunchArgument",
    "LaunchDescription",
    "Launcher",
    "Message",
    "ParamsFile",
    "Process",
    "Shutdown",
    "Step",
    "describe_arguments",
    "load",
    "run",
]
