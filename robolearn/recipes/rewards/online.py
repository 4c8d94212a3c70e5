"""Learn a policy online from a reward that somebody else gives: play whole episodes, score them, write back.

Rocamonde et al., "Vision-language models are zero-shot reward models for reinforcement learning", 2023: the model is
large and likes large batches, so N environments first play an episode each and show it step by step, then all N T
pictures are scored at once, and only then do the transitions with their rewards join the replay buffer and as many
gradient steps follow. No placeholder of a reward is ever learned from. Episodes end by their length alone: neither the
environment's reward nor its success is looked at.

A decision is an action and the control steps that it lasts. In a twin it lasts several, other than in the paper: the
shorter a step, the less of a value hangs on its action (Tallec et al., "Making deep Q-learning methods robust to time
discretization", 2019), and an arm that moves 0.1 rad a step learns little of where to. What has been learned is a
velocity for each state and acts at every step. Legend: N environments, T decisions of an episode.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.algorithms.compute import Compute
from robolearn.algorithms.sac import SAC, SACConfig
from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.envs.humanoid import made_for_clip
from robolearn.envs.vector_env import RobotVectorEnv
from robolearn.errors import SpecError
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig, vector_spec
from robolearn.recipes.check_settings import check_settings
from robolearn.recipes.demonstrations import buffer_statistics
from robolearn.recipes.environments import Environments, is_gym, make_environments
from robolearn.recipes.origin import run_config
from robolearn.recipes.rewards.settings import Report
from robolearn.recipes.run import Run, require_new
from robolearn.recipes.training_data import tensors
from robolearn.recipes.training_loop import mean_follows, scalars
from robolearn.rewards.combine import EnsembleReward
from robolearn.rewards.matching import DiscountConfig, MatchingReward, scheduled_discount
from robolearn.rewards.reward_model import Episodes, RewardModel, cameras_of
from robolearn.tasks import make_task
from robolearn.twin.layout import IMAGE_SIZE
from robolearn.types import Observation


@dataclass(frozen=True)
class OnlineRewardConfig:
    """How experience is gathered."""

    num_envs: int = 8  # N
    episode_steps: int = 50  # of the control
    decision_steps: int = 1  # of the control, that an action lasts while learning
    random_rounds: int = 2  # of N episodes by uniform actions, before anything is learned
    updates: float = 1.0  # gradient steps per decision
    average: int = 500  # gradient steps over which the policy that is kept is a running mean of the newest
    capacity: int = 1_000_000  # observations
    saves: int = 5  # checkpoints of a run

    def __post_init__(self) -> None:
        if min(self.num_envs, self.episode_steps, self.decision_steps) < 1:
            raise SpecError(
                f"{self.num_envs} environments, episodes of {self.episode_steps} steps, decisions of "
                f"{self.decision_steps}; expected at least 1 of each"
            )
        if self.episode_steps % self.decision_steps:
            raise SpecError(
                f"episodes of {self.episode_steps} steps are no whole decisions of {self.decision_steps}; wanted is a "
                "multiple"
            )
        if self.average < 1:
            raise SpecError(f"average is {self.average} gradient steps; it wants at least 1, which keeps the newest")


SETTINGS = SACConfig(
    policy=GaussianPolicyConfig(hidden_sizes=(128, 128)),
    critic_hidden_sizes=(128, 128),
    steps=6000,
    batch_size=128,
    discount=0.95,
    actor_learning_rate=1e-3,
    critic_learning_rate=1e-3,
    temperature_learning_rate=1e-3,
    initial_temperature=0.1,
)
"""For rewards between 0 and 1 and short episodes."""


def settings_for(task: str) -> tuple[SACConfig, OnlineRewardConfig]:
    """What to learn a task with: in a twin, decisions of 0.3 s, and a discount that looks beyond poses that are paid
    less and have to be passed."""
    if is_gym(task):
        return SETTINGS, OnlineRewardConfig()
    twin = OnlineRewardConfig(episode_steps=60, decision_steps=6)
    policy = replace(SETTINGS.policy, privileged=True)  # as in the paper, the policy sees the state
    return replace(SETTINGS, policy=policy, steps=57_600, discount=0.97), twin


@dataclass(frozen=True)
class Played:
    """One episode of each environment: T + 1 observations and T actions (N, A); by camera, images (N, T, H, W, 3) after
    each decision, where they were asked for."""

    observations: list[Observation]
    actions: list[NDArray[np.float32]]
    images: Mapping[str, torch.Tensor]

    @property
    def proprio(self) -> torch.Tensor | None:
        """(N, T, P) after each decision; None where the environment has none."""
        if "proprio" not in self.observations[0]:
            return None
        return torch.from_numpy(np.stack([seen["proprio"] for seen in self.observations[1:]], 1))

    def store(self, buffer: ReplayBuffer, rewards: NDArray) -> None:
        """Add the transitions with the rewards (N, T) of the states that they led to; the end is that of time alone."""
        last = len(self.actions) - 1
        for row in range(len(rewards)):
            seen = [{name: values[row] for name, values in one.items()} for one in self.observations]
            buffer.begin(seen[0])
            for t, actions in enumerate(self.actions):
                buffer.append(actions[row], float(rewards[row, t]), seen[t + 1], False, t == last)


Judge = Callable[[Played], NDArray]
"""Rewards (N, T) of the states after each decision of the episodes."""


def learn_from_model(
    task: str,
    model: RewardModel,
    out: Path,
    settings: SACConfig = SETTINGS,
    config: OnlineRewardConfig = OnlineRewardConfig(),
    seed: int = 0,
    compute: Compute = Compute(),  # noqa: B008
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """`learn_from` on what a reward model sees; the answer has `images_per_s`, too.

    By a model that matches a demonstration the discount is scheduled (ADS): after each round it is that of as many
    decisions as the median episode of the best round so far followed it.

    Raises SpecError for a model that is not to be learned from as it is.
    """
    if model.kind != "reward":
        raise SpecError(f"{model.id} says {model.kind}, not reward; shape it, or label a dataset with it")
    cameras = dict.fromkeys(cameras_of(model) or ("front",), _image_size(model))
    instruction = "" if is_gym(task) else make_task(task).instruction
    spent_s, images, followed = 0.0, 0, 0

    def judge(played: Played) -> NDArray:
        nonlocal spent_s, images, followed
        begun_s = time.perf_counter()
        episodes = Episodes(played.images, [instruction] * config.num_envs, played.proprio)
        output = model.score(episodes)
        value = output.value.cpu().numpy()
        if "followed" in output.raw:
            followed = max(followed, int(output.raw["followed"][:, -1].median()))
        spent_s, images = spent_s + time.perf_counter() - begun_s, images + value.size
        return value

    def discount() -> float:
        scheduled = isinstance(model, MatchingReward)
        return scheduled_discount(followed, DiscountConfig()) if scheduled else settings.discount

    name = f"{model.id}-{model.version}"
    answer = learn_from(task, judge, name, out, settings, config, seed, compute, progress, cameras, discount)
    return {**answer, "images_per_s": images / spent_s}


def learn_from(
    task: str,
    judge: Judge,
    reward: str,
    out: Path,
    settings: SACConfig = SETTINGS,
    config: OnlineRewardConfig = OnlineRewardConfig(),
    seed: int = 0,
    compute: Compute = Compute(),  # noqa: B008
    progress: Report = lambda done, text: None,
    cameras: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    discount: Callable[[], float] | None = None,
) -> dict[str, Any]:
    """SAC in `task`, a twin's or `gym:<id>`, for `settings.steps` environment steps on the rewards of `judge`.

    reward: its name, for the record. cameras: height and width of each whose pictures the judge sees; in `gym:<id>` one
    of any size. discount: asked after each round, in the place of that of the settings.

    The newest policy plays. The answer has `checkpoint`, its running mean at the end (what learns online swings, and
    what a round is paid hangs on where it starts more than on a few updates), `steps`, `gradient_steps` and
    `reward_mean`, a list of each round.
    """
    require_new(out)
    compute.require()
    round_steps = config.num_envs * config.episode_steps
    updates = round(round_steps // config.decision_steps * config.updates)
    require_rounds(settings, config, seed)
    about = {"task": task, "reward": reward, "online": asdict(config)}
    provenance = {"algorithm": "sac", "tasks": [task], "seed": seed, "reward": reward}
    generator = torch.Generator(compute.device).manual_seed(seed)
    rewards: list[float] = []
    started_s = time.perf_counter()
    with contextlib.ExitStack() as stack:
        envs = stack.enter_context(contextlib.closing(_environments(task, config.num_envs, cameras)))
        privileged = settings.policy.privileged
        buffer = ReplayBuffer(
            vector_spec(envs.interface, privileged), ReplayBufferConfig(config.capacity, 1, settings.discount)
        )

        def play(learner: SAC | None) -> np.random.Generator:
            rng = np.random.default_rng((seed, len(rewards)))
            act = _uniform(envs, rng) if learner is None else _sampling(learner, generator, compute)
            played = _play(envs, act, config, cameras, rng)
            value = judge(played)
            played.store(buffer, value)
            rewards.append(float(value.mean()))
            if discount is not None:
                buffer.config = replace(buffer.config, discount=discount())
            return rng

        for _ in range(config.random_rounds):
            play(None)
        statistics = buffer_statistics(buffer)
        learner = SAC(buffer.spec, statistics, settings, seed, compute.device, compute.wrapper())
        run = stack.enter_context(
            Run.create(out, run_config("sac", seed, settings, compute, **about), ("reward", "discount", *SAC.metrics))
        )
        kept = copy.deepcopy(learner.policy())
        rounds = settings.steps // round_steps
        for number in range(config.random_rounds + 1, rounds + 1):
            rng = play(learner)
            metrics = _update(learner, kept, buffer, updates, config, rng, compute.device)
            step = number * round_steps
            played = {"reward": rewards[-1], "discount": buffer.config.discount}
            run.log(step, time.perf_counter() - started_s, {**played, **scalars(metrics, out, step)})
            progress(step, f"reward {rewards[-1]:.3f}")
            if number == rounds or number % max(rounds // config.saves, 1) == 0:
                run.save(kept, step, provenance, ("latest",))
    return {
        "checkpoint": str(out / "checkpoints" / "latest"),
        "steps": rounds * round_steps,
        "gradient_steps": learner.gradient_step,
        "reward_mean": rewards,
    }


def require_rounds(settings: SACConfig, config: OnlineRewardConfig, seed: int) -> None:
    """Raises SpecError for settings or a seed that cannot be, or steps that hold no round in which something is
    learned."""
    check_settings(settings, seed)
    round_steps = config.num_envs * config.episode_steps
    if settings.steps < (config.random_rounds + 1) * round_steps:
        raise SpecError(
            f"{settings.steps} steps are too few for {config.random_rounds} + 1 rounds of {round_steps}, "
            f"{config.num_envs} environments by {config.episode_steps} steps; give at least "
            f"{(config.random_rounds + 1) * round_steps}"
        )


Act = Callable[[Observation], NDArray[np.float32]]
"""Actions (N, A) from the newest observation."""


def _uniform(envs: Environments, rng: np.random.Generator) -> Act:
    spec = envs.interface.action
    shape = (envs.num_envs, *spec.shape)
    return lambda seen: rng.uniform(spec.low, spec.high, shape).astype(np.float32)  # type: ignore[arg-type]


def _sampling(learner: SAC, generator: torch.Generator, compute: Compute) -> Act:
    policy = learner.policy()

    @torch.no_grad()
    def act(seen: Observation) -> NDArray[np.float32]:
        state = policy.features(tensors(seen, compute.device))
        noise = torch.randn(len(state), policy.action_size, generator=generator, device=state.device)
        return policy.spec_action(policy.draw(state, noise)[0]).cpu().numpy()

    return act


def _play(
    envs: Environments,
    act: Act,
    config: OnlineRewardConfig,
    cameras: Mapping[str, tuple[int, int]],
    rng: np.random.Generator,
) -> Played:
    observation, _ = envs.reset(seed=[int(one) for one in rng.integers(2**31 - 1, size=envs.num_envs)])
    observations, actions = [_vectors(observation)], list[NDArray[np.float32]]()
    images: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in cameras}
    for t in range(config.episode_steps):
        if t % config.decision_steps == 0:
            actions.append(act(observations[-1]))
        observation, _, terminated, truncated, _ = envs.step(actions[-1])
        if (terminated | truncated).any() and t < config.episode_steps - 1:
            raise SpecError(f"an episode ended after {t + 1} steps of {config.episode_steps}; take shorter ones")
        if (t + 1) % config.decision_steps:
            continue
        if cameras:
            drawn = _draw(envs, cameras)
            for name, pictures in images.items():
                pictures.append(drawn[name])
        observations.append(_vectors(observation))
    return Played(observations, actions, {name: torch.from_numpy(np.stack(each, 1)) for name, each in images.items()})


def _draw(envs: Environments, cameras: Iterable[str]) -> dict[str, NDArray[np.uint8]]:
    """Pictures (N, H, W, 3) by camera; what is no twin has one view for all."""
    if isinstance(envs, RobotVectorEnv):
        return envs.pictures()
    return dict.fromkeys(cameras, np.stack(envs.render() or ()))


def _vectors(observation: Observation) -> Observation:
    return {name: values.copy() for name, values in observation.items() if not name.startswith("image_")}


def _update(
    learner: SAC,
    kept: GaussianPolicy,
    buffer: ReplayBuffer,
    updates: int,
    config: OnlineRewardConfig,
    rng: np.random.Generator,
    device: str,
) -> Any:
    metrics: Any = {}
    for _ in range(updates):
        metrics = learner.update(tensors(buffer.sample(learner.config.batch_size, rng), device))
        mean_follows(kept, learner.policy(), 1.0 / config.average)
    return metrics


def _image_size(model: RewardModel) -> tuple[int, int]:
    """Height and width of the pictures that a model takes."""
    for one in model.members if isinstance(model, EnsembleReward) else (model,):
        encoder = getattr(getattr(one, "config", None), "encoder", None)
        if encoder is not None and encoder.name == "small":
            return encoder.image_height, encoder.image_width
    return IMAGE_SIZE


def _environments(task: str, num_envs: int, cameras: Mapping[str, tuple[int, int]]) -> Environments:
    """Environments whose episodes end by length alone."""
    if is_gym(task):
        return made_for_clip(task, num_envs)
    envs = make_environments(task, num_envs, render=cameras or False)
    never: Any = envs
    never.task.dwell_steps = never.task.max_steps + 1  # no success lasts so long
    return envs
