"""Plain rclpy nodes around the robolearn library, thin: parameters, convert in, one library call, convert out."""

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed
