"""Reset-free practice on the graph: the collector of a run of `robolearn finetune`, with the robot that is there.

Who does what next is the library's `recipes/finetune/supervisor.py`; the learner is a process of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import torch
from rclpy.node import Node

from robolearn.recipes.finetune.cells import THINGS_BACK, rung
from robolearn.recipes.finetune.collector import NOW, WAITS, told
from robolearn.recipes.finetune.data import camera_sizes
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
        self._diagnostics = Diagnostics(self, self._figures)

    def practise(self) -> None:
        """Until the supervisor stops for good."""
        torch.set_num_threads(1)
        collect(self._config, self._run, self._left, self._cell)

    def _figures(self) -> dict[str, str]:
        about = {"now": told(self._run, NOW), "waits": told(self._run, WAITS)}
        return {"run": str(self._run), "task": self._config.task, **about}

    def _cell(self, cameras: Iterable[str]) -> GraphCell:
        config = self._config
        options = GraphCellConfig(
            twin=config.graph == "twin",
            with_person=bool(config.teleop),
            unseen=config.unseen,
            sizes=camera_sizes(config, self._run, cameras),
        )
        rings = lambda: rung(self._run, THINGS_BACK)  # noqa: E731
        asked = lambda: config.reward == "person" or bool(told(self._run, WAITS))  # noqa: E731
        return GraphCell(self, make_task(config.task), options, rings, self._diagnostics.report, asked)


def main() -> int:
    return run(PracticeNode, PracticeNode.practise)


if __name__ == "__main__":
    raise SystemExit(main())
