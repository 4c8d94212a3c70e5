"""A trained model on disk: a directory with `config.json` and `weights.safetensors`, whole or not there at all.

Nothing is ever unpickled. What config.json holds beyond `format` and `robolearn_version` is its owner's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from safetensors import SafetensorError

from robolearn import __version__, durable
from robolearn.errors import CheckpointError

if TYPE_CHECKING:  # who reads a config.json alone needs no torch
    from torch import Tensor

Config = TypeVar("Config")

FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "weights.safetensors"
NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # of file systems that cannot swap two names


def write_model(path: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write the directory `path`; a model there is replaced whole or not at all, also where the power fails."""
    head = {"format": FORMAT, "robolearn_version": __version__}
    with _replacing(path) as partial:
        write_tensors(partial / WEIGHTS_FILE, weights)
        with writing(partial / CONFIG_FILE) as file:
            file.write_text(json.dumps({**head, **config}, indent=2) + "\n", encoding="utf-8")


def write_tensors(file: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, `facts` at its head. Raises CheckpointError where that fails, as on a full disk."""
    from safetensors.torch import save_file  # brings torch, as does load_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with writing(file):
        save_file(plain, file, metadata=None if facts is None else dict(facts))
        file.chmod(0o666 & file.parent.stat().st_mode)  # it is made for its owner alone


@contextlib.contextmanager
def writing(file: Path) -> Iterator[Path]:
    """For what writes the file. Raises CheckpointError, with its name, where that fails, as on a full disk."""
    try:
        yield file
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        remedy = "make room for it, or name a place where you may write"
        raise CheckpointError(f"{file} cannot be written: {reason}; {remedy}") from error


def require_place(path: Path) -> None:
    """Raises CheckpointError where no model could be written to `path`: what takes long to make finds out before."""
    try:
        with tempfile.TemporaryFile(dir=next(parent for parent in path.absolute().parents if parent.exists())):
            pass
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror}); name another folder") from error


def read_model_config(path: Path, what: str = "checkpoint") -> dict[str, Any]:
    """The config.json of the `what` at `path`. Raises CheckpointError: absent, damaged, of another format."""
    file = _in_place(path) / CONFIG_FILE
    _require_readable(file, path, what)
    if not file.is_file():
        near = [path / name for name in ("best", "checkpoints/best", "latest", "checkpoints/latest")]
        near += [path.with_name("latest")] if path.name == "best" else []  # of a run in which nothing is evaluated
        found = next((each for each in near if (each / CONFIG_FILE).is_file()), None)
        hint = f"it has no {CONFIG_FILE}" if path.exists() else "it does not exist"
        raise CheckpointError(f"{path} is not a {what}; {f'did you mean {found}?' if found else hint}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{what} {path} is damaged: {CONFIG_FILE}: {error}; use another one") from error
    if not isinstance(config, dict) or "format" not in config:
        raise CheckpointError(f"{path} is not a {what}; its {CONFIG_FILE} names no format")
    if config["format"] != FORMAT:
        raise CheckpointError(
            f"{what} {path} has format {config['format']}, this robolearn reads {FORMAT}; "
            "use the version that wrote it or train again"
        )
    return config


def read_weights(path: Path, what: str = "checkpoint") -> dict[str, Tensor]:
    """The tensors of the model at `path`. Raises CheckpointError."""
    from safetensors.torch import load_file

    file = _in_place(path) / WEIGHTS_FILE
    _require_readable(file, path, what)  # safetensors takes one that may not be read for one that is not there
    try:
        return load_file(file)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise damaged_weights(path, error, what) from error


def _require_readable(file: Path, path: Path, what: str) -> None:
    if file.is_file() and not os.access(file, os.R_OK):
        raise CheckpointError(
            f"{what} {path} may not be read by you: {file.name}; have its owner allow it (chmod), or use another one"
        )


def damaged_weights(path: Path, error: Exception, what: str = "checkpoint") -> CheckpointError:
    """The error to raise when the weights cannot be read."""
    reason = str(error).splitlines()[0]
    return CheckpointError(f"{what} {path} is damaged: {WEIGHTS_FILE}: {reason}; use another one")


def unfit_weights(path: Path, error: Exception, what: str = "checkpoint") -> CheckpointError:
    """The error to raise when whole weights are not those of the network that the config describes."""
    reasons = [line.strip().rstrip(".") for line in str(error).splitlines()]
    return CheckpointError(
        f"{what} {path} was written by another version of robolearn, or edited: its weights are not those of this "
        f"version's network ({reasons[min(1, len(reasons) - 1)][:160]}); use the version that wrote it, or train again"
    )


def config_from_json(config_class: type[Config], data: Mapping[str, Any]) -> Config:
    """The config dataclass whose `asdict` this is; what files of before a field lack is as in its `older`. Raises
    TypeError for fields that it does not have, or no fields."""
    if not isinstance(data, Mapping):
        raise TypeError(f"settings by name are wanted, a {type(data).__name__} came")
    types = get_type_hints(config_class)
    values: dict[str, Any] = {}
    for name, value in {**getattr(config_class, "older", {}), **data}.items():
        if is_dataclass(types.get(name)):
            value = config_from_json(types[name], value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return config_class(**values)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new directory that takes the place of `path` once it is complete and on disk."""
    path = path.resolve()  # of a symbolic link the name stays, and what it names is replaced
    partial, old = path.with_name(f".{path.name}.partial"), _aside(path)
    with writing(path):
        durable.make_folder(path.parent)
        if old.exists() and not path.exists():
            old.rename(path)  # whoever replaced it was killed between two renames
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
    yield partial
    with writing(path):
        for file in [*partial.iterdir(), partial]:
            durable.sync(file)
        if path.exists():
            _swap(partial, path)
        else:
            partial.rename(path)
        durable.sync(path.parent)  # before the old one goes: a power cut must not find neither of them
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)


def _swap(partial: Path, path: Path) -> None:
    """Put the one in the place of the other, in one step where the file system can. Where it cannot, what was there is
    aside for a moment, where readers and the next writer look for it."""
    try:
        durable.exchange(partial, path)
    except OSError as error:
        if error.errno not in NO_EXCHANGE:
            raise
        path.rename(_aside(path))
        partial.rename(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _in_place(path: Path) -> Path:
    """Where the model of that name lies: aside, where the one that should replace it has not got there."""
    return _aside(path) if not path.exists() and _aside(path).exists() else path
