"""`robolearn reward ...` that end in a policy: from comparisons, from what a model sees, from written rewards."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from robolearn.cli.output import (
    NOT_ASKED,
    Asked,
    Dataset,
    ask_person,
    counted,
    print_json,
    require_heeded,
    say,
    say_spent,
    spent,
)
from robolearn.cli.reward_models import (
    VLM_OPTIONS,
    As,
    gates_missed,
    require_clip_heeds,
    require_labeller_heeds,
    reward_model,
    strength,
)
from robolearn.errors import quoted
from robolearn.progress import ProgressBar

TaskName = Annotated[str, Positional, arg(metavar="TASK")]


def reward_policy(
    dataset: Dataset,
    out: Path,
    goal: str = "",
    labeller: Literal["task", "outcome", "factors", "endpoint", "people"] = "endpoint",
    asked: Asked = NOT_ASKED,
    pairs: int = 1000,
    segment: int = 1,
    factors: tuple[str, ...] = (),
    wrong_answers: float = 0.0,
    steps: int | None = None,
    seed: int = 0,
    compile: bool = False,
    episodes: int = 50,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """From a sentence to a policy: comparisons, a reward, labels, IQL (offline RL-VLM-F).

    Example: robolearn reward policy mixed.zarr --goal "the puck is on the mark" --endpoint-model qwen --out runs/push

    Args:
        dataset: episodes of any quality; what was recorded of rewards and success is not looked at.
        out: folder for the reward model and the run of the policy.
        goal: what the model at the endpoint is told; the episodes' instructions by default.
        labeller: who compares pairs of images: a model at an endpoint, the people who did on the web page, or a rule.
        pairs: comparisons to make.
        segment: steps of what is compared: 1 for pictures, more for segments, whose rewards are summed.
        factors: of factors: columns or fields of one number a step, the most important one first; more of it is better.
        wrong_answers: share of a rule's answers that are turned round.
        steps: gradient steps of IQL; its own number by default.
        seed: fixes pairs, weights and batches.
        episodes: fresh ones in the twin that judge the policy, where the dataset is of one of its tasks.
        compile: compile the policy's updates; takes up to a minute, then they run about three times as fast.
        device: cpu or cuda.
    """
    given = locals()
    from robolearn.recipes.rewards.policy import default_steps, policy_from_preferences
    from robolearn.recipes.rewards.settings import TrainingSettings

    require_labeller_heeds(reward_policy, given)
    settings = TrainingSettings(
        seed=seed,
        device=device,
        pairs=pairs,
        segment=segment,
        labeller=labeller,
        factors=factors,
        goal=goal,
        wrong_answers=wrong_answers,
        endpoint=asked.config(),
    )
    with ProgressBar("reward, then policy", settings.steps + (steps or default_steps()), "step") as bar:
        answer = policy_from_preferences(dataset, out, settings, steps, compile, episodes, bar.update)
    if json:
        print_json(answer)
    else:
        say(f"reward: {answer['column']}, gates missed: {gates_missed(answer['audit'])}")
        say(f"checkpoint: {answer['checkpoint']}")
        if answer["task"]:
            say(f"success on {counted(episodes, 'fresh episode')} of {answer['task']}: {answer['success_rate']:.2f}")
    return 0


def reward_weights(dataset: Dataset, progress: str, chunk_steps: int = 16, json: bool = False) -> int:
    """Weigh the samples of a dataset by the progress that followed them (RA-BC), as a column for `train bc`.

    Example: robolearn reward weights mixed.zarr --progress progress/progress-1a2b3c4d5e6f

    Args:
        dataset: a labelled dataset.
        progress: the column with its progress.
        chunk_steps: steps of the policy's action chunks.
    """
    from robolearn.recipes.rewards.weights import weigh_dataset
    from robolearn.rewards.reward_aligned import RewardAlignedConfig

    answer = weigh_dataset(dataset, progress, RewardAlignedConfig(chunk_steps))
    if json:
        print_json(answer)
    else:
        say(f"{dataset}: {answer['column']}, mean weight {answer['mean_weight']:.2f}")
        say(
            f"train with: robolearn train bc --dataset {quoted(dataset)} --set episodes=all "
            f"weight={quoted(answer['column'])}"
        )
    return 0


def reward_shape(
    dataset: Dataset,
    progress: str,
    discount: float = 0.99,
    scale: float = 1.0,
    reward: str = "success",
    as_: As = "",
    json: bool = False,
) -> int:
    """Make a reward of progress: the discounted difference of it, on top of what is paid anyway (PBRS).

    Example: robolearn reward shape mixed.zarr --progress progress/progress-1a2b3c4d5e6f --discount 0.99

    Args:
        dataset: a labelled dataset.
        progress: the column with its progress.
        discount: of the learner, per step; another one changes what is best.
        scale: of the progress, in units of the reward.
        reward: what is paid anyway: `success`, a field or a column.
        as_: the column; by default reward/shaped-<progress>-<discount>, and more of what is other than by default.
    """
    from robolearn.recipes.rewards.shape import shape_dataset
    from robolearn.rewards.shaping import ShapingConfig

    answer = shape_dataset(dataset, progress, ShapingConfig(discount, scale), reward, as_)
    if json:
        print_json(answer)
    else:
        say(f"{dataset}: {answer['column']}")
        say(
            f"train with: robolearn train iql --dataset {quoted(dataset)} --reward {quoted(answer['column'])} "
            f"--set discount={discount:g}"
        )
    return 0


def reward_online(
    task: TaskName,
    out: Path,
    reward: str = "vlm",
    goal: tuple[str, ...] = (),
    baseline: tuple[str, ...] = (),
    alpha: float | None = None,
    model: str = "ViT-B-32",
    pretrained: str = "laion2b_s34b_b79k",
    model_dir: Path | None = None,
    steps: int | None = None,
    num_envs: int | None = None,
    episode_steps: int | None = None,
    decision_steps: int | None = None,
    batch_size: int = 256,
    precision: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
    compile: bool = False,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Learn a task by SAC from nothing but what a reward model sees (VLM-RM).

    The pictures of whole episodes are scored together, and their rewards written back before anything is learned. The
    policy itself sees the state of the twin, as in the paper.

    Example: robolearn reward online point_up-v1 --goal "a robot arm pointing up" --out runs/up

    Args:
        task: a task of the twin, or `gym:Humanoid-v5`, drawn as the paper's.
        out: the run: config.yaml, metrics.csv, checkpoints/.
        reward: `vlm`, or the folder of a model whose values are rewards.
        goal: of vlm: prompts that describe success; the task's instruction when left out.
        baseline: of vlm: prompts that describe the scene whatever happens.
        alpha: of vlm: strength of the goal-baseline projection, 0 to 1; 0.5 where there is a baseline.
        model: of vlm: architecture, as open_clip names it.
        pretrained: of vlm: tag of the weights.
        model_dir: of vlm: a local open_clip directory, in the place of both names.
        steps: of the environments; by default 57600 in a twin, else 6000.
        num_envs: environments that play an episode each before it is scored; 8 by default.
        episode_steps: length of every episode; nothing else ends it; by default 60 in a twin, else 50.
        decision_steps: that an action lasts while learning; by default 6 in a twin, else 1.
        batch_size: of vlm: pictures in one pass of the network.
        precision: of vlm: of that pass.
        seed: fixes starts, exploration and weights.
        compile: compile the updates; takes up to a minute.
        device: cpu or cuda.
    """
    given = locals()
    from robolearn.algorithms.compute import Compute
    from robolearn.recipes.rewards.online import learn_from_model, settings_for

    require_heeded(reward_online, given, VLM_OPTIONS if reward == "vlm" else (), VLM_OPTIONS, reward)
    require_clip_heeds(reward_online, given)
    prompts = {"goal": goal, "baseline": baseline, "alpha": strength(alpha, baseline)}
    clip = {"model": model, "pretrained": pretrained, "model_dir": str(model_dir or ""), "device": device}
    scorer = reward_model(reward, None, device, prompts, {**clip, "batch_size": batch_size, "precision": precision})
    settings, config = settings_for(task)
    told = {"num_envs": num_envs, "episode_steps": episode_steps, "decision_steps": decision_steps}
    config = replace(config, **{name: value for name, value in told.items() if value is not None})
    settings, compute = replace(settings, steps=settings.steps if steps is None else steps), Compute(device, compile)
    with ProgressBar("reward online", settings.steps, "step") as bar:
        answer = learn_from_model(task, scorer, out, settings, config, seed, compute, bar.update)
    if json:
        print_json(answer)
    else:
        first, last = answer["reward_mean"][0], answer["reward_mean"][-1]
        say(f"mean reward {first:.3f} by chance, {last:.3f} at last; {answer['images_per_s']:.0f} pictures/s scored")
        say(f"judge it with: robolearn evaluate {quoted(answer['checkpoint'])} --task {quoted(task)}")
    return 0


def reward_write(
    task: TaskName,
    out: Path,
    method: Literal["eureka", "icpl", "text2reward"] = "eureka",
    form: Literal["parameters", "code"] = "parameters",
    rounds: int = 3,
    candidates: int | None = None,
    steps: int = 6000,
    episode_steps: int = 40,
    workers: int | None = None,
    timeout_s: float = 3600.0,
    asked: Asked = NOT_ASKED,
    seed: int = 0,
    json: bool = False,
) -> int:
    """Let a language model write a task's reward, train with each candidate, and have it write better ones.

    eureka goes by the task's metric. icpl films what each policy does and asks you for the best and the worst;
    text2reward asks you what the policy does wrong. Answers are lines of standard input, so a file may give them.
    An interrupted run goes on where it was, when it is begun again as it was.

    Example: robolearn reward write reach-v1 --endpoint-model qwen --out runs/written

    Args:
        task: a task of the twin; of eureka, its own progress ranks the candidates, which never see it.
        out: folder for candidates.json, a run each and films/.
        method: who judges, and what the author is told next.
        form: `parameters`, a closed form of which nothing is executed, or `code`, sandboxed.
        rounds: of candidates.
        candidates: of each round; by default 4, of icpl 6; text2reward has 1.
        steps: of the environments, for each candidate.
        episode_steps: length of every episode.
        workers: trainings at a time, each a process of one thread; by default one a core.
        timeout_s: after which a training has failed.
        seed: fixes the trainings.
    """
    from robolearn.recipes.rewards.online import SETTINGS, OnlineRewardConfig
    from robolearn.recipes.rewards.write import write_reward
    from robolearn.rewards.code.loop import WritingConfig
    from robolearn.rewards.endpoint import Endpoint

    client = Endpoint(asked.config(temperature=1.0))
    config = WritingConfig(method, candidates, rounds, form)
    settings, online = replace(SETTINGS, steps=steps), OnlineRewardConfig(episode_steps=episode_steps)
    answer = write_reward(
        task,
        client,
        out,
        config,
        settings,
        online,
        seed,
        workers=workers,
        timeout_s=timeout_s,
        ask=ask_person,
        ask_again=not sys.stdin.isatty(),
        tell=say,
    )
    if json:
        print_json({**answer, **spent(client)})
    else:
        say(answer["reward"].rstrip())
        tried = f"{counted(answer['candidates'], 'candidate')}, {answer['failed']} of them failed"
        say(f"of {tried}" if answer["metric"] is None else f"metric {answer['metric']:.3f}, of {tried}")
        say_spent(client)
        say(f"checkpoint: {answer['checkpoint']}")
    return 0
