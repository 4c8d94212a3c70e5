"""What `robolearn train` is asked for, and what of it can be wrong without torch, which takes seconds to import; what
takes less, but is much all the same, is imported where it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from robolearn.algorithms import require_algorithm
from robolearn.algorithms.compute import Compute
from robolearn.errors import SpecError
from robolearn.networks.model_directory import CONFIG_FILE
from robolearn.policies.checkpoint_config import read_config
from robolearn.recipes.run import read_run_config
from robolearn.recipes.task_settings import SETTINGS, WITH_DEMONSTRATIONS

DEFAULT_RUN = Path("runs/train")
SHAPES = (
    "policy.hidden_sizes",
    "policy.layer_norm",
    "policy.encoder_channels",
    "policy.shrink",
    "critic_hidden_sizes",
    "critic_layer_norm",
    "num_critics",
)
"""Settings that say how large networks are. Who begins with a run's networks has them as the run has."""


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
        """Settings that the task wants, and the shapes of the networks to begin with, below the request's own."""
        tables = [SETTINGS] if self.offline_data is None else [SETTINGS, WITH_DEMONSTRATIONS]
        wanted = [each for table in tables for each in table.get(self.task or "", {}).get(self.algorithm, ())]
        shapes = [] if self.init_from is None else _shapes(read_run_config(self.init_from), self.algorithm)
        told = {setting.partition("=")[0]: setting for setting in [*wanted, *shapes]}
        return () if self.resume is not None else tuple(told.values())

    def check(self) -> None:
        """Raises SpecError for a request that contradicts itself or a setting without a value, UnknownNameError for an
        algorithm or a task, and DatasetError or CheckpointError for a folder that is no dataset or run."""
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
        read_settings(self.settings)
        if self.resume is None and self.task is not None:
            from robolearn.recipes.environments import is_gym, twin_task  # brings gymnasium
            from robolearn.tasks import make_task

            if not is_gym(self.task):
                make_task(twin_task(self.task))
        if self.resume is not None:
            read_run_config(self.resume)
        if self.init_from is not None:
            if (self.init_from / CONFIG_FILE).is_file():
                raise SpecError(f"--init-from {self.init_from} is a checkpoint; name the run that it is of")
            read_config(self.init_from / "checkpoints" / "latest")
        for dataset in (self.dataset, self.offline_data):
            if self.resume is None and dataset is not None:
                from robolearn.datasets.zarr_store import ZarrStore  # brings zarr and codecs

                ZarrStore.open(dataset)


def read_settings(settings: Sequence[str]) -> dict[str, str]:
    """`name=value` by name; of those given twice the last. Raises SpecError for one without a value."""
    pairs = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise SpecError(f"setting {setting!r} has no value; write name=value")
        pairs[name] = text
    return pairs


def _shapes(begun: Mapping[str, Any], algorithm: str) -> list[str]:
    """The settings of a run that say how large its networks are, as `name=value`: those that the algorithm has too."""
    from robolearn.algorithms import algorithm_class  # imports torch

    theirs, mine = begun.get("config") or {}, asdict(algorithm_class(algorithm).config_type())
    found = []
    for name in SHAPES:
        part, _, key = name.rpartition(".")
        here, there = (config.get(part) or {} if part else config for config in (mine, theirs))
        if here.get(key) is not None and there.get(key) not in (None, []):
            value = there[key]
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()
            found.append(f"{name}={text}")
    return found
