"""Before the practice: a success classifier from the demonstrations, and a policy pre-trained on all old data.

The old data, prior and demonstrations, is relabelled by the judge for every task of the run.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from robolearn.algorithms import algorithm_class
from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_space import TOLD
from robolearn.errors import DatasetError
from robolearn.networks.model_directory import config_from_json, read_model_config, read_weights, write_model
from robolearn.recipes.demonstrations import buffer_statistics
from robolearn.recipes.finetune.data import SURE_FRAMES, Recorded, add_recorded, labelled_frames, read_recorded
from robolearn.recipes.finetune.image_judge import load_models, open_image_judge, prepare_image_judge, score_old
from robolearn.recipes.finetune.judges import (
    STEP_REWARD,
    ErringJudge,
    Judge,
    LearnedJudge,
    PersonJudge,
    TrueJudge,
    lost_reward,
)
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.origin import run_config
from robolearn.recipes.run import RESUME_FILE, Run, read_run_config, read_state
from robolearn.recipes.training_data import tensors
from robolearn.recipes.training_loop import Progress, due, scalars
from robolearn.rewards.state_success import StateSuccess, StateSuccessConfig, choose_threshold, train_state_success
from robolearn.rewards.success import SuccessReward, set_aside

CLASSIFIER, PRETRAINED = "classifier", "pretrained"
HELD_OUT = 0.25  # of the successes, that the classifier's threshold is chosen on
FALSE_POSITIVE_RATE = 0.01  # of the failed episodes that it is chosen on
SAVE_STEPS = 250
HUMAN_STEPS = 20_000  # that a person may add to the old data while the policy practises


def recorded(config: FinetuneConfig, prior: Sequence[Path], demos: Sequence[Path]) -> list[Recorded]:
    """All old episodes, the demonstrations first. Raises DatasetError when they do not fit."""
    return read_recorded([ZarrStore.open(path) for path in (*demos, *prior)], config.space())


def old_episodes(config: FinetuneConfig, run: Path) -> list[Recorded]:
    """Those that a run was begun with."""
    about = read_run_config(run)
    prior, demos = ([Path(path) for path in about[which]] for which in ("prior", "demos"))
    episodes = recorded(config, prior, demos)
    return score_old(config, run, [*demos, *prior], episodes) if config.reward_models else episodes


def prepare_judge(config: FinetuneConfig, run: Path, episodes: Sequence[Recorded]) -> str:
    """Train the success classifier, if there is none yet, or choose the threshold of the models of pictures; in words,
    how that did."""
    if config.reward_models:
        about = read_run_config(run)
        return prepare_image_judge(config, run, [Path(path) for path in about["demos"]], episodes)
    if (run / CLASSIFIER).exists():
        return "the classifier was trained before"
    space, consecutive = config.space(), config.supervisor.consecutive
    learn, failed, succeeded = _parts(config, episodes)
    model = train_state_success(*labelled_frames(learn, space), StateSuccessConfig(seed=config.seed))
    chosen = choose_threshold(
        model,
        [space.scene(episode.states, episode.task) for episode in failed],
        [space.scene(episode.states[-SURE_FRAMES:], episode.task) for episode in succeeded],
        consecutive,
        FALSE_POSITIVE_RATE,
    )
    about = {"config": vars(model.config), "version": model.version, "held_out": asdict(chosen)}
    write_model(run / CLASSIFIER, about, model.state_dict())
    return str(chosen)


def by_its_rule(config: FinetuneConfig) -> FinetuneConfig:
    """The settings with as many frames in a row as the judge asks for where it has a rule of its own: a person says it
    once, and a success classifier of pictures was measured by its rule (of two the longer one holds)."""
    asked = [model.config.consecutive for model in load_models(config) if isinstance(model, SuccessReward)]
    asked += [1] if config.reward == "person" else []
    return replace(config, supervisor=replace(config.supervisor, consecutive=max(asked))) if asked else config


def check_successes(config: FinetuneConfig, episodes: Sequence[Recorded]) -> None:
    """Raises DatasetError where there are too few successes for the judge, or for who is held to the old data."""
    succeeded = [episode.task for episode in episodes if episode.success]
    if config.reward not in ("true", "person") or config.held_to_demonstrations:
        for task, name in enumerate(config.task_ids):
            if task not in succeeded:
                raise DatasetError(
                    f"no demonstration of {name} succeeded; collect some and name their dataset in --demos, or "
                    "practise the target task alone: --set supervisor.tasks=1"
                )
    if config.reward == "success" and not config.reward_models and len(succeeded) < 2:
        raise DatasetError(
            f"{len(succeeded)} of {len(episodes)} episodes succeeded; the success classifier learns from one and is "
            "judged on another: collect more demonstrations"
        )


def _parts(
    config: FinetuneConfig, episodes: Sequence[Recorded]
) -> tuple[list[Recorded], list[Recorded], list[Recorded]]:
    """Of the success classifier: episodes to train it, and failed and successful ones to choose its threshold on."""
    rng = np.random.default_rng((config.seed, 1))
    failed = set_aside([i for i, episode in enumerate(episodes) if episode.success is False], rng)
    mixed = rng.permutation([i for i, episode in enumerate(episodes) if episode.success]).tolist()
    succeeded = mixed[: max(round(len(mixed) * HELD_OUT), 1)]
    learn = [i for i in range(len(episodes)) if i not in {*failed, *succeeded}]
    return [episodes[i] for i in learn], [episodes[i] for i in failed], [episodes[i] for i in succeeded]


def make_judge(config: FinetuneConfig, run: Path, erring: bool = True) -> Judge:
    """The judge of a prepared run; `erring`: with the errors that the config asks for."""
    space = config.space()
    judge: Judge = PersonJudge() if config.reward == "person" else TrueJudge()
    if config.reward_models:
        judge = open_image_judge(config, run)
    elif config.reward == "success":
        saved = read_model_config(run / CLASSIFIER, "success classifier")
        model = StateSuccess(config_from_json(StateSuccessConfig, saved["config"]))
        model.load_state_dict(read_weights(run / CLASSIFIER, "success classifier"))
        judge = LearnedJudge(model.eval(), space)
    return ErringJudge(judge, space, config.false_positives) if erring and config.false_positives else judge


def buffer_config(config: FinetuneConfig, slots: int) -> ReplayBufferConfig:
    """What was never finished is worth that, less the most that a potential may be: its steps alone would be no bound
    for Cal-QL to keep to."""
    discount = config.learner.discount
    return ReplayBufferConfig(slots, discount=discount, unfinished=lost_reward(discount) - config.shaping)


def offline_buffer(config: FinetuneConfig, run: Path, episodes: Sequence[Recorded]) -> ReplayBuffer:
    """All episodes as attempts at each task, as the judge sees them."""
    space, judge = config.space(), make_judge(config, run, erring=False)
    slots = HUMAN_STEPS + sum(len(space.tasks) * (len(episode.states) + 2) for episode in episodes)
    buffer = ReplayBuffer(space.interface, buffer_config(config, slots))
    for episode in episodes:
        for task in range(len(space.tasks)):
            add_recorded(buffer, episode, space, task, judge, config)
    return buffer


def demonstrated(config: FinetuneConfig, run: Path) -> ReplayBuffer:
    """The demonstrations that succeeded, at the task that they were made for: the old data of RLIF, without a reward,
    for of the rest nobody has said what was wrong with it; and of who is held to the old data (`cloning_weight`), for
    an attempt at one task is no example of the other."""
    step_reward = 0.0 if config.rewards == "intervention" else STEP_REWARD
    space, judge = config.space(), make_judge(config, run, erring=False)
    demos = [Path(path) for path in read_run_config(run)["demos"]]
    episodes = recorded(config, [], demos)
    episodes = score_old(config, run, demos, episodes) if config.reward_models else episodes
    episodes = [each for each in episodes if each.success]
    slots = HUMAN_STEPS + sum(len(episode.states) + 2 for episode in episodes)
    buffer = ReplayBuffer(space.interface, buffer_config(config, slots))
    for episode in episodes:
        add_recorded(buffer, episode, space, episode.task, judge, config, step_reward)
    return buffer


def pretrain(
    config: FinetuneConfig, run: Path, buffer: ReplayBuffer, progress: Progress = lambda done, text: None
) -> None:
    """Train on the old data alone and write the run `run/pretrained`, or go on with it where it was stopped. Where
    nothing is pre-trained, untrained networks and the statistics lie there."""
    algorithm, steps = str(config.pretrained_by), config.pretraining_steps
    if algorithm == "nothing":
        algorithm, steps = config.algorithm, 0
    settings, out = config.pretrainer, run / PRETRAINED
    statistics = {name: each for name, each in buffer_statistics(buffer).items() if name not in TOLD}
    made = algorithm_class(algorithm)
    learner = made(buffer.spec, statistics, settings, config.seed, config.compute.device, config.compute.wrapper())
    done = 0
    if (out / RESUME_FILE).exists():
        state, facts = read_state(out)
        learner.load_state_dict(state)
        done = int(facts["step"])
        written = Run.resume(out, made.metrics, done)
    else:
        shutil.rmtree(out, ignore_errors=True)
        about = run_config(algorithm, config.seed, settings, config.compute, task=config.task)
        written = Run.create(out, about, made.metrics)
    with written:
        for step in range(done + 1, steps + 1):
            rng = np.random.default_rng((config.seed, step, 2))
            metrics = learner.update(tensors(buffer.sample(settings.batch_size, rng), config.compute.device))
            if due(step, step - 1, SAVE_STEPS, steps):
                row = scalars(metrics, out, step)
                written.log(step, 0.0, row)
                written.save_state(learner.state_dict(), {"step": step})
                progress(step, f"{next(iter(row))} {next(iter(row.values())):.3f}")
        written.save_state(learner.state_dict(), {"step": steps})
        written.save(learner.policy(), steps, {"tasks": [config.task], "seed": config.seed}, ("latest", "best"))
