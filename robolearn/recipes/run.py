"""A run on disk: config.yaml, metrics.csv, TensorBoard events, resume.safetensors, and checkpoints/ with `latest` and
`best`."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import yaml
from safetensors import SafetensorError, safe_open

from robolearn import durable
from robolearn.errors import CheckpointError, quoted
from robolearn.networks.model_directory import write_tensors, writing
from robolearn.policies.policy import TrainablePolicy
from robolearn.runs import CONFIG_FILE, METRICS_FILE
from robolearn.yaml_text import load_yaml

if TYPE_CHECKING:  # who reads a config.yaml alone needs no torch
    import torch

RESUME_FILE = "resume.safetensors"


class Run:
    """Writes one run. `with Run.create(path, config, names) as run: ...`; every file is whole at every moment, also
    when the power fails, but that the metrics may lack the newest rows then."""

    def __init__(self, path: Path, config: Mapping[str, Any], names: Sequence[str], first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and needed by nobody else

        self.path, self.config = path, dict(config)
        self._columns = ["step", "wall_s", *names]
        self._metrics = (path / METRICS_FILE).open("a", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._metrics, self._columns)
        if self._metrics.tell() == 0:
            self._csv.writeheader()
        self._events = SummaryWriter(str(path), purge_step=first_step)

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], names: Sequence[str]) -> Run:
        """Begin a run. Raises CheckpointError rather than write over another one."""
        require_new(path)
        durable.make_folder(path)
        with writing(path / CONFIG_FILE) as file:
            durable.write(file, yaml.safe_dump(dict(config), sort_keys=False).encode())
        return cls(path, config, names)

    @classmethod
    def resume(cls, path: Path, names: Sequence[str], step: int) -> Run:
        """Continue a run after `step`; metrics of later steps, which will be made again, and rows that are damaged or
        cut off are dropped. Where none are left, the columns may be others than before."""
        file = path / METRICS_FILE
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        header, *rows = text[: text.rfind("\n") + 1].split("\n")
        cells = [row.split(",") for row in rows]
        whole = [len(row) == len(header.split(",")) and row[0].isdecimal() for row in cells]
        kept = [",".join(row) for row, there in zip(cells, whole, strict=True) if there and int(row[0]) <= step]
        durable.write(file, "\n".join([header, *kept, ""]).encode() if kept and header.startswith("step,") else b"")
        return cls(path, read_run_config(path), names, first_step=step + 1)

    def log(self, step: int, wall_s: float, values: Mapping[str, float]) -> None:
        """One row of metrics. Names that are missing stay empty."""
        with writing(self.path / METRICS_FILE):
            self._csv.writerow({"step": step, "wall_s": f"{wall_s:.3f}", **{k: f"{v:.6g}" for k, v in values.items()}})
            self._metrics.flush()
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def save(self, policy: TrainablePolicy, step: int, provenance: Mapping[str, Any], names: Sequence[str]) -> Path:
        """Write a checkpoint and point each of `names` (`latest`, `best`, `untrained`) to it."""
        from robolearn.policies.checkpoint import save_policy  # brings torch

        checkpoints = self.path / "checkpoints"
        checkpoint = checkpoints / f"step_{step:07d}"
        save_policy(policy, checkpoint, {**provenance, "step": step})
        for name in names:
            partial = checkpoints / f".{name}.partial"
            partial.unlink(missing_ok=True)
            partial.symlink_to(checkpoint.name)
            os.replace(partial, checkpoints / name)
        durable.sync(checkpoints)
        return checkpoint

    def save_state(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, float]) -> None:
        """What `resume` needs: the algorithm's tensors and a few numbers."""
        partial = self.path / f".{RESUME_FILE}.partial"
        write_tensors(partial, tensors, {name: repr(value) for name, value in facts.items()})
        with writing(self.path / RESUME_FILE):
            durable.replace(partial, self.path / RESUME_FILE)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with writing(self.path / METRICS_FILE):  # what is left of them
            self._metrics.close()
            self._events.close()


def require_new(path: Path) -> None:
    """Raises CheckpointError where something is already: what takes long before it begins a run finds out first."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        run = (path / CONFIG_FILE).is_file()
        hint = f"resume it with --resume {quoted(path)}, or name" if run else "name"
        raise CheckpointError(f"{path} exists and is not empty; {hint} another --out")


def read_run_config(path: Path) -> dict[str, Any]:
    """config.yaml of a run. Raises CheckpointError."""
    try:
        config = load_yaml((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = "it has no config.yaml" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not a run to resume; {reason}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a run to resume; its {CONFIG_FILE} is no mapping")
    return config


def read_state(path: Path, parts: Collection[str] | None = None) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """What `Run.save_state` wrote; of the tensors those of these parts alone, where some are named, for experience may
    be as large as the memory. Raises CheckpointError."""
    file = path / RESUME_FILE
    try:
        with safe_open(file, framework="pt") as state:
            names = [name for name in state.keys() if parts is None or name.split(".")[0] in parts]  # noqa: SIM118
            tensors = {name: state.get_tensor(name) for name in names}
            facts = {name: float(value) for name, value in state.metadata().items()}
    except (OSError, SafetensorError) as error:
        reason = "it has saved nothing yet" if isinstance(error, FileNotFoundError) else f"{RESUME_FILE}: {error}"
        raise CheckpointError(f"{path} cannot be resumed; {reason}; train again") from error
    return tensors, facts
