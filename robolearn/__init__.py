"""robolearn: demonstrations, policies and a MuJoCo twin on one ROS 2 graph."""

import os

# PyTorch's threads spin while they wait, unless this is set before torch is loaded: beside other processes (nodes of a
# graph, another run) a training step then costs ten times its CPU time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
