"""What every training has in common: when to log and save, what stops it, and where its time goes."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from robolearn import __version__
from robolearn.algorithms import ALGORITHMS, algorithm_class
from robolearn.algorithms.algorithm import Algorithm, Metrics, TrainablePolicy
from robolearn.algorithms.compute import Compute
from robolearn.algorithms.optimizer import OVER_A_RUN, polyak_update
from robolearn.errors import CheckpointError, RobolearnError, SpecError
from robolearn.networks.model_directory import config_from_json
from robolearn.networks.normalizer import FieldStatistics, Statistics
from robolearn.policies.checkpoint_config import read_config
from robolearn.recipes.run import read_run_config, read_state
from robolearn.specs import InterfaceSpec

SAVES = 10  # checkpoints, with a validation or evaluation, in a run
DIVERGED = 1e9  # of any metric
ONE_PRESS_S = 0.3
# settings that are 1 or more
COUNTS = {"batch_size", "utd", "num_critics", "num_sampled_critics", "num_actions", "policy_delay", "draws"}
COUNTS |= {"chunk_steps", "observation_steps", "components", "flow_steps", "width", "heads", "layers"}
COUNTS |= {"representation_size"}
# settings that are 0 or more
AMOUNTS = {"cloning_weight", "max_shift_px", "warmup_steps", "weight_decay", "kl_weight", "conservatism"}
AMOUNTS |= {"policy_noise", "noise_clip", "inverse_temperature", "high_inverse_temperature", "latent_size"}
SIZES = ("hidden_sizes", "encoder_channels")  # at the end of a setting's name

AVERAGE = "average."  # before the names of the policy that is kept, in what a resumed run needs
NETWORKS = ("policy", "actor", "actor_target", "critic", "target", "value")
"""Parts of the state of an algorithm that another training can begin with."""
TEMPERATURE = "log_temperature"

Progress = Callable[[int, str], None]
"""Called with the steps done and a short text."""
Tell = Callable[[str], None]
"""Called with what a person should know, a line."""


class Stopwatch:
    """Sums up where time goes: `with watch("update"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started_s

    def shares(self) -> dict[str, float]:
        """Share of each part, the largest first."""
        total = sum(self.seconds.values()) or 1.0
        return {name: s / total for name, s in sorted(self.seconds.items(), key=lambda item: -item[1])}


def due(step: int, before: int, every: int, total: int) -> bool:
    """Whether a multiple of `every`, or the end, lies in (before, step]."""
    return step // every > before // every or step >= total


def scalars(metrics: Metrics, out: Path, step: int) -> dict[str, float]:
    """The metrics as numbers. Raises RobolearnError when the training has diverged."""
    values = {name: float(value) for name, value in metrics.items()}
    for name, value in values.items():
        if not math.isfinite(value) or abs(value) > DIVERGED:
            raise diverged(f"{name} is {value:g}", out, step)
    return values


def require_finite(policy: TrainablePolicy, out: Path, step: int) -> None:
    """Raise RobolearnError before a policy is saved that the last update ruined, which no metric tells yet."""
    for name, value in policy.state_dict().items():
        if not torch.isfinite(value).all():
            raise diverged(f"{name} of the policy is not finite", out, step)


def diverged(what: str, out: Path, step: int) -> RobolearnError:
    """The error of a training that has diverged, with what to look at."""
    best = out / "checkpoints" / "best"
    return RobolearnError(
        f"training diverged: {what} at step {step}; look at metrics.csv of {out} for what grew first, lower the "
        f"learning rates, check the scale of rewards and observations, and use {best} until then"
    )


def mean_follows(kept: TrainablePolicy, newest: TrainablePolicy, share: float) -> None:
    """Move the policy that is kept a share of the way to the newest, for what learns online swings (Polyak and Juditsky
    1992)."""
    there = newest.state_dict()
    here = {
        name: value for name, value in kept.state_dict().items() if value.is_floating_point()
    }  # no version's number
    polyak_update(list(here.values()), [there[name] for name in here], share)


def run_config(algorithm: str, seed: int, config: Any, compute: Compute, **facts: Any) -> dict[str, Any]:
    """config.yaml of a run: enough to begin it again."""
    about = {"algorithm": algorithm, **facts, "seed": seed, "robolearn_version": __version__}
    return {**about, "compute": asdict(compute), "config": _plain(asdict(config))}


def begun_config(run: Path) -> tuple[dict[str, Any], Any, Compute]:
    """config.yaml of a run, the algorithm's config in it, and how it computed. Raises CheckpointError."""
    begun = read_run_config(run)
    try:
        config = config_from_json(algorithm_class(begun["algorithm"]).config_type, begun["config"])
        return {**begun, "seed": int(begun["seed"])}, config, Compute(**begun.get("compute", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run} cannot be resumed; config.yaml of another robolearn ({error})") from error


def default_steps(algorithm: str) -> int:
    """Steps of a run unless somebody asks for others: of the environment online, of the gradient offline."""
    return algorithm_class(algorithm).config_type().steps


def check_settings(settings: Any, seed: int) -> None:
    """Raises SpecError for an algorithm's config with a number that cannot be meant, and for such a seed."""
    if settings.steps < 1 or not 0 <= seed < 2**63:
        raise SpecError(
            f"{settings.steps} steps with seed {seed}; expected at least 1 step and a seed of at least 0, below 2^63"
        )
    for place, owner in (("", settings), ("policy.", settings.policy)):
        for name, value in vars(owner).items():
            if wanted := _wanted(name, value):
                told = f"{value:g}" if isinstance(value, float) else value
                raise SpecError(f"setting {place}{name} is {told}; expected {wanted}")
    known = getattr(settings, "distributions", ())
    if known and settings.policy.distribution not in known:
        raise SpecError(
            f"setting policy.distribution is {settings.policy.distribution}; this algorithm learns {' or '.join(known)}"
        )
    low, high = (getattr(settings.policy, f"log_std_{end}", 0.0) for end in ("low", "high"))
    if low > high:
        raise SpecError(f"setting policy.log_std_low is {low:g}; expected at most policy.log_std_high, {high:g}")
    if getattr(settings, "num_sampled_critics", 0) > getattr(settings, "num_critics", 0):
        raise SpecError(
            f"setting num_sampled_critics is {settings.num_sampled_critics}; expected at most num_critics, "
            f"{settings.num_critics}"
        )


def _wanted(name: str, value: Any) -> str:
    """What a setting should be instead; empty where it is fine."""
    if name in COUNTS:
        return "" if value >= 1 else "at least 1"
    if name == "encoder_channels" and not value:
        return "at least one size"
    if name.endswith(SIZES):
        return "" if min(value, default=1) >= 1 else "sizes of at least 1"
    if name.endswith("learning_rate") or name in AMOUNTS:
        return "" if 0.0 <= value < math.inf else "at least 0"
    if name == "decay_steps":
        return "" if value >= OVER_A_RUN else f"at least 0, or {OVER_A_RUN} for as many as a run has"
    if name in ("push_scale", "initial_temperature", "max_grad_norm", "max_weight"):
        return "" if 0.0 < value < math.inf else "a number above 0"
    if name == "discount":
        return "" if 0.0 <= value <= 1.0 else "a number from 0 to 1"
    if name == "polyak":
        return "" if 0.0 < value <= 1.0 else "a number above 0, at most 1"
    if name == "expectile":
        return "" if 0.0 < value < 1.0 else "a number between 0 and 1"
    return "" if not isinstance(value, float) or math.isfinite(value) else "a finite number"


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


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the step under way is finished; the second one interrupts. What
    follows within ONE_PRESS_S is the same one: `torchrun` passes on what its processes heard themselves."""
    asked = threading.Event()
    asked_s = 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked_s
        if not asked.is_set():
            asked_s = time.monotonic()
            asked.set()
        elif time.monotonic() - asked_s > ONE_PRESS_S:
            signal.signal(signal.SIGINT, before)
            signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread hears of signals
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML has a word for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
