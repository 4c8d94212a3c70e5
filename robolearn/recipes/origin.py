"""Where a training begins: what its run says of it, to go on by, and the networks of another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from robolearn import __version__
from robolearn.algorithms import ALGORITHMS, algorithm_class
from robolearn.algorithms.algorithm import Algorithm
from robolearn.algorithms.compute import Compute
from robolearn.errors import CheckpointError
from robolearn.networks.model_directory import config_from_json
from robolearn.networks.normalizer import FieldStatistics, Statistics
from robolearn.policies.checkpoint_config import read_config
from robolearn.recipes.run import read_run_config, read_state
from robolearn.specs import InterfaceSpec

NETWORKS = ("policy", "actor", "actor_target", "critic", "target", "value")
"""Parts of the state of an algorithm that another training can begin with."""
TEMPERATURE = "log_temperature"


def run_config(algorithm: str, seed: int, config: Any, compute: Compute, **facts: Any) -> dict[str, Any]:
    """config.yaml of a run: enough to begin it again."""
    about = {"algorithm": algorithm, **facts, "seed": seed, "robolearn_version": __version__}
    return {**about, "compute": asdict(compute.settled()), "config": _plain(asdict(config))}


def begun_config(run: Path) -> tuple[dict[str, Any], Any, Compute]:
    """config.yaml of a run, the algorithm's config in it, and how it computed. Raises CheckpointError."""
    begun = read_run_config(run)
    try:
        config = config_from_json(algorithm_class(begun["algorithm"]).config_type, begun["config"])
        return {**begun, "seed": int(begun["seed"])}, config, Compute.begun(begun.get("compute", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run} cannot be resumed; config.yaml of another robolearn ({error})") from error


def statistics_of(run: Path) -> Statistics:
    """Those that a run normalises with."""
    config = read_config(run / "checkpoints" / "latest")
    return {name: FieldStatistics.from_json(field) for name, field in config["statistics"].items()}


def seeds_shown(run: Path) -> list[int]:
    """Of the episodes that the policy of a run was shown, and the run that it began with."""
    return [int(seed) for seed in read_config(run / "checkpoints" / "latest")["provenance"].get("episode_seeds", ())]


def check_origin(run: Path, algorithm: str, spec: InterfaceSpec, theirs: str) -> None:
    """Raise CheckpointError or SpecError unless a training that shows this spec can begin with a run's networks."""
    before = str(read_run_config(run).get("algorithm", ""))
    kinds = [algorithm_class(name).learns_from for name in (before, algorithm) if name in ALGORITHMS]
    if len(set(kinds)) > 1:
        raise CheckpointError(
            f"{run} does not fit: {before} learns from {kinds[0]}, {algorithm} from {kinds[1]}; begin with another run"
        )
    seen = InterfaceSpec.from_json(read_config(run / "checkpoints" / "latest")["spec"])
    seen.require(spec, f"the policy of {run}", theirs)


def networks_of(run: Path) -> dict[str, torch.Tensor]:
    """What of the state of a run another training can begin with. Raises CheckpointError."""
    return read_state(run, (*NETWORKS, TEMPERATURE))[0]


def initialise(learner: Algorithm, run: Path, state: Mapping[str, torch.Tensor], temperature: bool = False) -> None:
    """Begin with the networks of another run, and with its temperature where asked to; optimizers, generators and
    counts stay new. Raises CheckpointError."""
    mine = learner.state_dict()
    actor = {k.replace("actor.", "actor_target.", 1): value for k, value in state.items() if k.startswith("actor.")}
    state = {**actor, **state}  # a learner that has no `actor_target` is asked for its actor
    shared = {_part(name) for name in mine} & {_part(name) for name in state} & set(NETWORKS)
    shapes, theirs = ({k: v.shape for k, v in each.items() if _part(k) in shared} for each in (mine, state))
    unfit = sorted({_part(name) for name, _ in shapes.items() ^ theirs.items()})
    if not shared or unfit:
        raise CheckpointError(
            f"{run} does not fit: of its networks {', '.join(unfit) or 'all'} differ in kind or shape; use its "
            "settings (hidden sizes, layer norm, number of critics), which its config.yaml has"
        )
    taken = {*shapes, TEMPERATURE} if temperature else {*shapes}
    learner.load_state_dict({**mine, **{name: state[name] for name in taken & mine.keys() & state.keys()}})


def _part(name: str) -> str:
    """Of an algorithm, to which a tensor of its state belongs."""
    return name.split(".")[0]


def restore(learner: Algorithm, run: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Go on where a run was left. Raises CheckpointError where that was left by another robolearn."""
    try:
        learner.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{run} cannot be resumed: its state is of another robolearn ({reason}); begin a new run with --init-from"
        ) from error


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML has a word for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
