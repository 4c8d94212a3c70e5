"""The twin on the graph: it stands in for robot and cameras (`simulation.py`), or follows real ones (`mirror.py`)."""

from __future__ import annotations

from pathlib import Path

from rclpy.node import Node

from robolearn.cell import load_cell
from robolearn.errors import UnknownNameError
from robolearn.tasks import make_task
from robolearn.twin.twin import Twin
from robolearn_nodes.interface import DEFAULT_TASK
from robolearn_nodes.mirror import Mirror
from robolearn_nodes.node import parameter, run
from robolearn_nodes.simulation import Simulation

MODES = {"simulate": Simulation, "mirror": Mirror}


class TwinNode(Node):
    """One twin of one task."""

    def __init__(self) -> None:
        super().__init__("twin")
        mode = parameter(self, "mode", "simulate", "`simulate`, or `mirror`: follow a robot that is there")
        task = make_task(parameter(self, "task", DEFAULT_TASK, "task id, see `robolearn tasks`"))
        size = parameter(self, "image_size", 96, "height and width of the images [pixels]")
        cameras = parameter(self, "cameras", "all", "cameras that are rendered, comma separated; may be empty")
        cell = parameter(self, "cell", "", "file of a cell, whose fitted `physics` the twin has; may be empty")
        if mode not in MODES:
            raise UnknownNameError("mode", mode, MODES)
        names = task.cameras if cameras == "all" else [name.strip() for name in cameras.split(",") if name.strip()]
        sizes = dict.fromkeys(names, (size, size))
        self._twin = load_cell(Path(cell)).make_twin(task, sizes) if cell else Twin(task, sizes)
        self._mode = MODES[mode](self, self._twin)

    def destroy_node(self) -> None:
        self._twin.close()
        super().destroy_node()


def main() -> int:
    return run(TwinNode)


if __name__ == "__main__":
    raise SystemExit(main())
