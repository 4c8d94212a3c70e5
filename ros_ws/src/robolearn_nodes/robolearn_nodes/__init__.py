"""Plain rclpy nodes around the robolearn library, thin: parameters, convert in, one library call, convert out."""

import signal
import sys

if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # A node is being started by `python -m`: until it begins, Ctrl-C just ends it, with no traceback of its imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed
