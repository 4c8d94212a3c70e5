"""robolearn: demonstrations, policies and a MuJoCo twin on one ROS 2 graph."""

__version__ = "0.1.0"
