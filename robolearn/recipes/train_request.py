"""What `robolearn train` is asked for, and what of it can be wrong without torch, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robolearn.algorithms import require_algorithm
from robolearn.algorithms.compute import Compute
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import SpecError
from robolearn.networks.model_directory import CONFIG_FILE
from robolearn.policies.checkpoint_config import read_config
from robolearn.recipes.environments import is_gym, twin_task
from robolearn.recipes.run import read_run_config
from robolearn.recipes.task_settings import SETTINGS, WITH_DEMONSTRATIONS
from robolearn.tasks import make_task

DEFAULT_RUN = Path("runs/train")


@dataclass(frozen=True)
class TrainRequest:
    """As on the command line."""

    algorithm: str
    dataset: Path | None = None
    task: str | None = None
    out: Path | None = None
    steps: int | None = None
    seed: int = 0
    resume: Path | None = None
    init_from: Path | None = None
    offline_data: Path | None = None
    reward: str | None = None
    num_envs: int = 1
    compute: Compute = field(default_factory=Compute)
    settings: Sequence[str] = ()  # `name=value` of the algorithm's config or of OnlineConfig as `online.name=value`

    @property
    def run(self) -> Path:
        return self.resume or self.out or DEFAULT_RUN

    @property
    def begins_with(self) -> tuple[str, ...]:
        """Settings that the task wants, below the request's own."""
        if self.task is None or self.resume is not None:
            return ()
        tables = [SETTINGS] if self.offline_data is None else [SETTINGS, WITH_DEMONSTRATIONS]
        return tuple(each for table in tables for each in table.get(self.task, {}).get(self.algorithm, ()))

    def check(self) -> None:
        """Raises SpecError for a request that contradicts itself, UnknownNameError for an algorithm or a task, and
        DatasetError or CheckpointError for a folder that is no dataset or run."""
        require_algorithm(self.algorithm)
        as_begun = TrainRequest(self.algorithm, self.dataset, self.task, resume=self.resume)
        if self.resume is not None and self != as_begun:
            raise SpecError(
                "--resume continues a run as it was begun, where it is; leave out --steps, --out and --set, and what "
                "it was begun with"
            )
        if self.resume is None and self.dataset is None and self.task is None:
            raise SpecError("train wants --dataset to learn from or --task to learn in")
        if self.dataset is not None and (self.offline_data is not None or self.num_envs != 1):
            raise SpecError("--offline-data and --num-envs go with --task")
        if self.resume is None and self.task is not None and not is_gym(self.task):
            make_task(twin_task(self.task))
        if self.resume is not None:
            read_run_config(self.resume)
        if self.init_from is not None:
            if (self.init_from / CONFIG_FILE).is_file():
                raise SpecError(f"--init-from {self.init_from} is a checkpoint; name the run that it is of")
            read_config(self.init_from / "checkpoints" / "latest")
        for dataset in (self.dataset, self.offline_data):
            if self.resume is None and dataset is not None:
                ZarrStore.open(dataset)
