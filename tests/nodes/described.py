"""Describes to Cyclone DDS every message of the modules read so far; what is forked afterwards has that behind it."""

from __future__ import annotations

import robolearn.ros  # noqa: F401  supplies rclpy where ROS 2 is not installed

# isort: split
from rclpy.parameter_service import SERVICES

from robolearn.ros import messages
from robolearn.ros.cyclone_types import idl_struct

for kind in SERVICES.values():
    messages.service_class(f"rcl_interfaces/srv/{kind}")
for message in messages.Message.__subclasses__():
    of_service = message._TYPE.endswith(("_Request", "_Response"))
    idl_struct(message._TYPE, of_service).__idl__.fill_type_data()
