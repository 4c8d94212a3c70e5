"""`robolearn reward ...` that make a reward model: annotate, train, combine."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from robolearn.cli.output import (
    EXIT_NO,
    NOT_ASKED,
    Asked,
    Dataset,
    counted,
    print_json,
    print_table,
    require_heeded,
    say,
    say_spent,
    spent,
)
from robolearn.cli.reward_models import (
    CLIP_OPTIONS,
    gates_missed,
    require_clip_heeds,
    require_labeller_heeds,
    short,
    strength,
)
from robolearn.cli.web import beside
from robolearn.errors import RobolearnError, quoted
from robolearn.progress import ProgressBar

Models = Annotated[tuple[Path, ...], Positional, arg(metavar="MODEL MODEL ...", help_behavior_hint="")]
RewardName = Annotated[str, Positional, arg(metavar="MODEL")]

LEARNED = ("steps", "encoder")  # options of what learns

TRAIN_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "progress": (*LEARNED, "proprio", "single_stage"),
    "success": (*LEARNED, "false_positive_rate"),
    "preference": (*LEARNED, "proprio", "labeller", "pairs", "segment", "factors", "wrong_answers", "goal", "asked"),
    "hop": LEARNED,
    "matching": (*LEARNED, "method"),
    "perceptual_steps": LEARNED,
    "keypoints": ("success_dir", "goal", "asked"),
    "vlm": ("goal", "baseline", "alpha", *CLIP_OPTIONS),
}
"""Options of `reward train` that not all models heed."""

ANNOTATE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "vlm": ("stages", "camera", "pictures", "asked"),
    "task": (),
    "file": ("file",),
}
"""Options of `reward annotate` that not all who say where stages begin heed."""


def reward_train(
    name: RewardName,
    dataset: Path,
    out: Path,
    steps: int = 600,
    seed: int = 0,
    camera: tuple[str, ...] = ("front",),
    encoder: Literal["small", "open_clip"] = "small",
    model: str = "ViT-B-32",
    pretrained: str = "laion2b_s34b_b79k",
    model_dir: Path | None = None,
    proprio: bool = True,
    labeller: Literal["task", "outcome", "factors", "endpoint", "people"] = "task",
    pairs: int = 1000,
    segment: int = 1,
    factors: tuple[str, ...] = (),
    wrong_answers: float = 0.0,
    single_stage: bool = False,
    method: Literal["nearest", "transport"] = "nearest",
    success_dir: Path | None = None,
    false_positive_rate: float = 0.01,
    goal: tuple[str, ...] = (),
    baseline: tuple[str, ...] = (),
    alpha: float | None = None,
    asked: Asked = NOT_ASKED,
    device: str = "cpu",
    web: bool = False,
    json: bool = False,
) -> int:
    """Train a reward model on a dataset and audit it on episodes that it did not see.

    Example: robolearn reward train progress --dataset demos.zarr --out runs/progress

    Args:
        name: progress, success, preference, hop, matching, perceptual_steps, or vlm and keypoints, which learn nothing:
            a model at the endpoint says what has to move, and on which way.
        dataset: a zarr dataset of episodes with images.
        out: folder of the model.
        steps: gradient steps of what learns.
        seed: fixes initial weights and batches; the same episodes are held out with all seeds.
        camera: cameras that the model looks at.
        encoder: a small one that is trained, or a frozen CLIP.
        model: of vlm and open_clip: architecture, as open_clip names it.
        pretrained: of vlm and open_clip: tag of the weights.
        model_dir: of vlm and open_clip: a local directory, in the place of both names.
        proprio: let models that may look at proprio do so; --no-proprio shows them pictures alone.
        labeller: of preference: who compares: the task's predicates, the outcome of the episode, ordered factors, a
            model, or the people who did on the web page.
        factors: of factors: columns or fields of one number a step, the most important one first; more of it is better.
        pairs: of preference: comparisons to make.
        segment: of preference: steps of what is compared: 1 for pictures, more for segments, whose rewards are summed.
        wrong_answers: of preference: share of the rule's answers that are turned round.
        single_stage: of progress: take each success for one stage, without annotations (ReWiND).
        method: of matching: a step is paid for its nearest step of the demonstration, or by optimal transport of the
            whole episode, which cannot be scored while it runs.
        success_dir: of keypoints: folder of a trained success classifier, which overrides them where it fires.
        false_positive_rate: of success: share of held-out failed episodes that its threshold may let be called done.
        goal: of preference and keypoints: what the model at the endpoint is told, of vlm: prompts that describe
            success; the instruction by default.
        baseline: of vlm: prompts that describe the scene whatever happens.
        alpha: of vlm: strength of the goal-baseline projection, 0 to 1; 0.5 where there is a baseline.
        device: cpu or cuda.
        web: serve the page while this runs; its address is printed.
    """
    given = locals()
    from robolearn.networks.open_clip import OpenClipConfig
    from robolearn.recipes.rewards.settings import TrainingSettings
    from robolearn.recipes.rewards.training import train_reward
    from robolearn.rewards.audit import METRIC_WORDS
    from robolearn.rewards.features import EncoderConfig
    from robolearn.rewards.vlm import VLMConfig

    if name in TRAIN_OPTIONS:
        heeded = (*TRAIN_OPTIONS[name], *(CLIP_OPTIONS if encoder == "open_clip" else ()))
        require_heeded(reward_train, given, heeded, tuple(chain(*TRAIN_OPTIONS.values())), name)
        require_clip_heeds(reward_train, given)
    if name == "preference":
        require_labeller_heeds(reward_train, given)
    place = str(model_dir.absolute()) if model_dir else ""  # the saved model is read from elsewhere
    clip = OpenClipConfig(model, pretrained, place, device=device)
    settings = TrainingSettings(
        cameras=camera,
        encoder=EncoderConfig(encoder, open_clip=clip),
        vlm=VLMConfig(goal, baseline, strength(alpha, baseline), clip=clip),
        proprio=proprio,
        steps=steps,
        seed=seed,
        device=device,
        pairs=pairs,
        segment=segment,
        labeller=labeller,
        factors=factors,
        false_positive_rate=false_positive_rate,
        goal="; ".join(goal),
        wrong_answers=wrong_answers,
        single_stage=single_stage,
        method=method,
        success_dir=str(success_dir.absolute()) if success_dir else "",
        endpoint=asked.config(),
    )
    total = 2 * steps if name == "progress" else steps
    with beside(web, out, dataset), ProgressBar(f"train {name}", total, "step") as bar:
        trained = train_reward(name, dataset, out, settings, bar.update)
    if json:
        print_json(trained.to_json())
    else:
        measured = {key: value for key, value in trained.audit.items() if isinstance(value, float)}
        rows = [(METRIC_WORDS[key], short(value)) for key, value in measured.items()]
        rows.append(("gates missed", gates_missed(trained.audit)))
        title = f"{out}: {trained.id} {trained.version}, on {counted(trained.held_out_episodes, 'episode')} held out"
        print_table(title, ("measure", "value"), rows)
    return 0


def reward_annotate(
    dataset: Dataset,
    by: Literal["vlm", "task", "file"] = "vlm",
    stages: tuple[str, ...] = (),
    file: Path | None = None,
    camera: str = "front",
    pictures: int = 16,
    asked: Asked = NOT_ASKED,
    author: str = "",
    json: bool = False,
) -> int:
    """Annotate where the stages of episodes begin, for `reward train progress` to learn from.

    Episodes that are known to have failed are passed over, unless the file names them.

    Example: robolearn reward annotate demos.zarr --by vlm --stages reach grasp carry place --endpoint-model qwen

    Args:
        dataset: a zarr dataset of episodes with images.
        by: who says: a vision model that is shown a film strip, the task's predicates, or a JSON file.
        stages: of vlm: their names in order; those of the task by default.
        file: of file: {"episode id": {"stage": first step, ...}}.
        camera: of vlm: whose pictures are shown.
        pictures: of vlm: how many of an episode, which bounds how exactly a start can be told.
        author: name that the annotations carry; their source by default.
    """
    given = locals()
    from robolearn.recipes.rewards.annotate import annotate_stages, by_file, by_model, by_task
    from robolearn.recipes.rewards.data import RewardData
    from robolearn.rewards.endpoint import Endpoint

    require_heeded(reward_annotate, given, ANNOTATE_OPTIONS[by], tuple(chain(*ANNOTATE_OPTIONS.values())), f"--by {by}")
    data = RewardData(dataset, pictures=by == "vlm")
    named = client = None
    if by == "file":
        if file is None:
            raise RobolearnError("annotating by file wants --file FILE.json")
        stages_of, named = by_file(data, file)
    elif by == "vlm":
        client = Endpoint(asked.config())
        stages_of = by_model(data, client, stages, camera, pictures)
    else:
        stages_of = by_task(data)
    source = author or {"vlm": f"vlm {asked.endpoint_model}", "task": "task", "file": file.stem if file else ""}[by]
    with ProgressBar("annotate", len(data.store.episodes if named is None else named), "episode") as bar:
        answer = annotate_stages(dataset, source, stages_of, named, bar.update)
    if json:
        print_json(answer if client is None else {**answer, **spent(client)})
    else:
        failed = len(data.store.episodes) - len(answer["annotated"]) - len(answer["refused"]) if named is None else 0
        passed_over = f", {failed} that failed passed over" if failed else ""
        say(f"{dataset}: {counted(len(answer['annotated']), 'episode')} annotated by {source}{passed_over}")
        if client is not None:
            say_spent(client)
        for episode, problem in answer["refused"].items():
            say(f"left alone: {episode}: {problem}")
    return 0 if answer["annotated"] else EXIT_NO


def reward_combine(
    models: Models,
    out: Path,
    rule: Literal["worst", "uncertainty", "mean"] = "worst",
    variance_weight: float = 0.5,
    dataset: Path | None = None,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Make one reward model of several, which is used like any other and harder to exploit than each of them.

    It refers to the folders of its members and keeps no copy; a member that is trained again has to be combined again.

    Example: robolearn reward combine runs/preference-0 runs/preference-1 --dataset demos.zarr --out runs/ensemble

    Args:
        models: two or more folders of models of one kind.
        out: folder of the ensemble.
        rule: the worst value of all, the mean less what they differ by, or the mean.
        variance_weight: of uncertainty: how much of the variance is taken off.
        dataset: of models that give rewards: episodes over which each is brought to mean 0 and standard deviation 1.
        device: where the models run: cpu or cuda.
    """
    given = locals()
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.rewards.combine import combine_rewards
    from robolearn.rewards.combine import CombineConfig

    weighed = ("variance_weight",)
    require_heeded(reward_combine, given, weighed if rule == "uncertainty" else (), weighed, f"--rule {rule}")
    count = len(ZarrStore.open(dataset).episodes) if dataset else 0
    with ProgressBar("reward combine", count * len(models), "episode") as bar:
        config = CombineConfig(rule, variance_weight, device=device)
        ensemble = combine_rewards(models, out, config, dataset, bar.update)
    if json:
        print_json({"path": str(out), "version": ensemble.version, "members": ensemble.config.members})
    else:
        say(f"{out}: ensemble {ensemble.version} of {', '.join(ensemble.config.members)}")
        say(f"see how far it can be trusted with: robolearn reward audit DATASET --reward {quoted(out)}")
    return 0
