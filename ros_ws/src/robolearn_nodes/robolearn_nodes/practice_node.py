"""Reset-free practice on the graph: the collector of a run of `robolearn finetune`, with the robot that is there.

Who does what next is the library's `recipes/finetune/supervisor.py`; the learner is a process of its own.
"""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from rclpy.node import Node

from robolearn.recipes.finetune.cells import THINGS_BACK, rung
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.finetune.worker import collect, starter_gone
from robolearn.tasks import make_task
from robolearn_nodes.graph_cell import GraphCell, GraphCellConfig
from robolearn_nodes.node import Diagnostics, parameter, run


class PracticeNode(Node):
    """Collects in a run that is prepared."""

    def __init__(self) -> None:
        super().__init__("practice")
        self._run = Path(parameter(self, "run", "", "folder of a run of robolearn finetune"))
        ends = parameter(self, "ends_with_stdin", False, "whether it ends when its standard input does")
        self._config = FinetuneConfig.read(self._run)
        self._left = starter_gone() if ends else threading.Event()
        self._diagnostics = Diagnostics(self, lambda: {"run": str(self._run), "task": self._config.task})
        self._options = GraphCellConfig(bool(self._config.teleop), ask_operator=self._config.graph == "robot")

    def practise(self) -> None:
        """Until the supervisor stops for good."""
        torch.set_num_threads(1)
        cell = GraphCell(self, make_task(self._config.task), self._options, lambda: rung(self._run, THINGS_BACK))
        collect(self._config, self._run, self._left, cell)


def main() -> int:
    return run(PracticeNode, PracticeNode.practise)


if __name__ == "__main__":
    raise SystemExit(main())
