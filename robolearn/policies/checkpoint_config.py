"""What a checkpoint says of itself, without the policy and without torch, which takes seconds to import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robolearn.errors import CheckpointError
from robolearn.networks.model_directory import CONFIG_FILE, read_model_config


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of the checkpoint at `path`. Raises CheckpointError."""
    config = read_model_config(path)
    if not isinstance(config.get("kind"), str):
        raise CheckpointError(f"{path} is not a checkpoint; its {CONFIG_FILE} names no kind of policy")
    if not isinstance(config.get("provenance"), dict):
        raise CheckpointError(f"checkpoint {path} is damaged: its {CONFIG_FILE} has no provenance; use another one")
    return config
