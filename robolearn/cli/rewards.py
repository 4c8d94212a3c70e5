"""`robolearn label` and `robolearn reward ...`."""

from __future__ import annotations

import inspect
import json as json_module
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from robolearn.cli.output import (
    EXIT_NO,
    NOT_ASKED,
    Asked,
    Dataset,
    counted,
    print_json,
    print_table,
    say,
    say_spent,
    spent,
)
from robolearn.cli.web import beside
from robolearn.errors import RobolearnError, UnknownNameError
from robolearn.progress import ProgressBar

if TYPE_CHECKING:
    from robolearn.rewards.endpoint import Endpoint
    from robolearn.rewards.reward_model import RewardModel

Models = Annotated[tuple[Path, ...], Positional, arg(metavar="MODEL MODEL ...")]
RewardName = Annotated[str, Positional, arg(metavar="MODEL")]
As = Annotated[str, arg(name="as")]

UNTRAINED = ("vlm", "keypoints")  # models that learn nothing, and label as they are told to

CLIP_OPTIONS = ("model", "pretrained", "model_dir")
VLM_OPTIONS = ("goal", "baseline", "alpha", *CLIP_OPTIONS, "batch_size", "precision")
LABEL_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "vlm": (*VLM_OPTIONS, "camera", "config", "device"),
    "keypoints": ("config",),
    "wired": ("asked", "score_server", "every", "camera"),  # hop and three_signals of a model behind a wire
    "trained": ("config", "device"),  # `reward_model` says why it takes no config
}
"""Options of `label` that a model heeds."""

TRAIN_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "progress": ("single_stage",),
    "success": ("false_positive_rate",),
    "preference": ("labeller", "pairs", "segment", "factors", "wrong_answers", "goal", "asked"),
    "hop": (),
    "matching": ("method",),
    "perceptual_steps": (),
    "keypoints": ("success_dir", "goal", "asked"),
    "vlm": ("goal", "baseline", "alpha", *CLIP_OPTIONS),
}
"""Options of `reward train` that not all models heed."""


def require_heeded(
    command: Callable[..., int], given: Mapping[str, Any], heeded: Iterable[str], some: Iterable[str], whom: str
) -> None:
    """Raise RobolearnError for what was given to the command, otherwise than by default, and is not heeded: of the
    options that only `some` heed."""
    for name, parameter in inspect.signature(command).parameters.items():
        if name in some and name not in heeded and given[name] != parameter.default:
            told = "asking an endpoint" if name == "asked" else f"--{name.replace('_', '-')}"
            raise RobolearnError(f"{told} does nothing for {whom}; leave it out")


def label(
    dataset: Dataset,
    reward: str,
    as_: As = "",
    goal: tuple[str, ...] = (),
    baseline: tuple[str, ...] = (),
    alpha: float = 0.0,
    model: str = "ViT-B-32",
    pretrained: str = "laion2b_s34b_b79k",
    model_dir: Path | None = None,
    camera: str = "front",
    config: Path | None = None,
    asked: Asked = NOT_ASKED,
    score_server: str = "",
    every: int = 10,
    batch_size: int = 256,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
    web: bool = False,
    json: bool = False,
) -> int:
    """Score every episode of a dataset with a reward model.

    The values become columns beside the recorded data, which is not touched. An interrupted run goes on where it was.

    Example: robolearn label demos.zarr --reward vlm --goal "a cube on a plate" --baseline "a table" --alpha 0.5

    Args:
        dataset: a zarr dataset of episodes with images.
        reward: `vlm`, `keypoints`, `hop` or `three_signals` of a model behind a wire, the folder that `robolearn reward
            train` wrote, or http://HOST:PORT of `robolearn reward serve`.
        asked: of hop and three_signals: who answers.
        as_: the column; by default <kind>/<model>-<version>, and what is missing of that is added.
        goal: of vlm: prompts that describe success; the episodes' instructions when left out.
        baseline: of vlm: prompts that describe the scene whatever happens.
        alpha: of vlm: strength of the goal-baseline projection, 0 to 1.
        model: of vlm: architecture, as open_clip names it.
        pretrained: of vlm: tag of the weights.
        model_dir: of vlm: a local open_clip directory, in the place of both names.
        camera: of vlm, hop and three_signals: whose images are scored.
        config: of keypoints and vlm: a JSON file with its settings.
        score_server: of hop: http://HOST:PORT of `robolearn reward serve`, in the place of an endpoint.
        every: of hop and three_signals: steps between two questions; answers are held.
        batch_size: of vlm: pictures in one pass of the network.
        precision: of vlm: of that pass.
        device: where the model runs: cpu or cuda.
        web: serve the page while this runs; its address is printed.
    """
    given = locals()
    from robolearn.recipes.rewards.label import label_dataset

    by_file = config is not None and reward in UNTRAINED
    wired = reward == "three_signals" or (reward == "hop" and bool(asked.endpoint_model or score_server))
    sort = "wired" if wired else reward if reward in UNTRAINED else "trained"
    heeded = ("config",) if by_file else LABEL_OPTIONS[sort]
    whom = f"{reward} beside --config" if by_file else reward
    require_heeded(label, given, heeded, tuple(chain(*LABEL_OPTIONS.values())), whom)
    if every < 1:
        raise RobolearnError(f"--every {every}: a question is asked every so many steps; give at least 1")
    client = None
    if wired:
        scorer, client = _behind_a_wire(reward, dataset, asked, score_server, camera, every)
    else:
        clip = {"model": model, "pretrained": pretrained, "model_dir": str(model_dir or ""), "device": device}
        prompts = {"goal": goal, "baseline": baseline, "alpha": alpha, "camera": camera}
        scorer = reward_model(
            reward, config, device, prompts, {**clip, "batch_size": batch_size, "precision": precision}
        )
    from robolearn.datasets.zarr_store import ZarrStore

    count = len(ZarrStore.open(dataset).episodes)
    with beside(web, None, dataset), ProgressBar("label", count, "episode") as bar:
        answer = label_dataset(dataset, scorer, as_, progress=bar.update)
    if json:
        print_json(answer if client is None else {**answer, **spent(client)})
    else:
        say(
            f"{dataset}: {answer['column']} for {counted(answer['episodes'], 'episode')} ({answer['skipped']} had it), "
            f"{answer['images_per_s']:.0f} images/s"
        )
        if "discount" in answer:
            discount = f"--set discount={answer['discount']:.3f}"
            say(f"train with: robolearn train iql --dataset {dataset} --reward {answer['column']} {discount}")
        if client is not None:
            say_spent(client)
    return 0


def _behind_a_wire(
    reward: str, dataset: Path, asked: Asked, score_server: str, camera: str, every: int
) -> tuple[RewardModel, Endpoint | None]:
    """The model that asks, and whom it pays."""
    from robolearn.recipes.rewards.data import RewardData
    from robolearn.recipes.rewards.demonstrations import ask_hops, ask_signals
    from robolearn.rewards.endpoint import Endpoint
    from robolearn.rewards.score_client import RemoteReward
    from robolearn.rewards.vlm_labels import AskedHops, AskedSignals

    data = RewardData(dataset)
    if score_server:
        if reward != "hop":
            raise RobolearnError(f"{reward} asks an endpoint, not a score server; give --endpoint-model NAME")
        remote = RemoteReward(score_server)
        return ask_hops(data, remote, f"{remote.id}-{remote.version}", camera, every), None
    client = Endpoint(asked.config())
    if reward == "hop":
        return ask_hops(data, AskedHops(client), asked.endpoint_model, camera, every), client
    return ask_signals(data, AskedSignals(client), asked.endpoint_model, camera, every), client


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
    alpha: float = 0.0,
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
        steps: gradient steps.
        seed: fixes initial weights, batches and which episodes are held out.
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
        alpha: of vlm: strength of the goal-baseline projection, 0 to 1.
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
    place = str(model_dir.absolute()) if model_dir else ""  # the saved model is read from elsewhere
    clip = OpenClipConfig(model, pretrained, place, device=device)
    settings = TrainingSettings(
        cameras=camera,
        encoder=EncoderConfig(encoder, open_clip=clip),
        vlm=VLMConfig(goal, baseline, alpha, clip=clip),
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
        rows = [(METRIC_WORDS[key], _short(value)) for key, value in measured.items()]
        rows.append(("gates missed", _missed(trained.audit["missed"])))
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
    from robolearn.recipes.rewards.annotate import annotate_stages, by_file, by_model, by_task
    from robolearn.recipes.rewards.data import RewardData
    from robolearn.rewards.endpoint import Endpoint

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
        say(f"{dataset}: {counted(len(answer['annotated']), 'episode')} annotated by {source}")
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
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.rewards.combine import combine_rewards
    from robolearn.rewards.combine import CombineConfig

    count = len(ZarrStore.open(dataset).episodes) if dataset else 0
    with ProgressBar("reward combine", count * len(models), "episode") as bar:
        config = CombineConfig(rule, variance_weight, device=device)
        ensemble = combine_rewards(models, out, config, dataset, bar.update)
    if json:
        print_json({"path": str(out), "version": ensemble.version, "members": ensemble.config.members})
    else:
        say(f"{out}: ensemble {ensemble.version} of {', '.join(ensemble.config.members)}")
        say(f"see how far it can be trusted with: robolearn reward audit DATASET --reward {out}")
    return 0


def reward_audit(
    dataset: Dataset, reward: tuple[str, ...], out: Path | None = None, device: str = "cpu", json: bool = False
) -> int:
    """Measure how far a reward model can be trusted; exit code 1 when it misses a gate.

    The verdict is kept with the model: what missed a gate labels datasets, but teaches no real robot unless forced.

    Example: robolearn reward audit demos.zarr --reward runs/progress --out runs/audit

    Args:
        dataset: episodes of known outcome; poses in it give true progress too.
        reward: folders of models, or columns of the dataset.
        out: folder for audit.json and audit.html.
        device: cpu or cuda.
    """
    from robolearn.recipes.rewards.audit import keep_audit

    audits = _audit(dataset, reward, out, device, json, f"audit of {dataset}")
    for name in reward:
        if Path(name).exists():
            say(keep_audit(Path(name), dataset, audits))
    return 0 if all(one.passed for one in audits.models) else EXIT_NO


def reward_leaderboard(
    dataset: Dataset, reward: tuple[str, ...] = (), out: Path | None = None, device: str = "cpu", json: bool = False
) -> int:
    """All models, and all columns that the dataset has, on the same episodes, best first.

    A column that lacks an episode, as after a labelling that was stopped, is left out and named.

    Example: robolearn reward leaderboard demos.zarr --reward runs/progress runs/success

    Args:
        dataset: episodes of known outcome.
        reward: folders of models that are not columns of the dataset yet.
        out: folder for audit.json and audit.html.
        device: cpu or cuda.
    """
    from robolearn.datasets.zarr_store import ZarrStore

    store = ZarrStore.open(dataset)
    labelled = []
    for name, column in store.columns.items():
        if _scored(name, column):
            lacks = sum(not column.has(one.id, one.start, one.stop) for one in store.episodes)
            if lacks:
                say(f"left out: {name} lacks {counted(lacks, 'episode')} of {len(store.episodes)}; label them first")
            else:
                labelled.append(name)
    _audit(dataset, (*reward, *labelled), out, device, json, f"leaderboard of {dataset}")
    return 0


def _scored(name: str, column: Any) -> bool:
    from robolearn.recipes.rewards.label import BESIDE

    return "kind" in column.attributes and name.partition("/")[0] not in BESIDE


def _audit(dataset: Path, reward: tuple[str, ...], out: Path | None, device: str, json: bool, title: str) -> Any:
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.rewards.audit import audit_dataset
    from robolearn.recipes.rewards.data import RewardData
    from robolearn.recipes.rewards.page import write_audit_page
    from robolearn.rewards import REWARDS

    columns = ZarrStore.open(dataset).columns
    named = [name for name in reward if name in columns]
    models = {}
    for name in reward:
        if name not in columns:
            if name not in REWARDS and "://" not in name and not Path(name).exists():
                labelled = [known for known, column in columns.items() if _scored(known, column)]
                raise UnknownNameError("column or reward model", name, [*labelled, *REWARDS])
            if name == "vlm":
                raise RobolearnError(
                    "vlm has no prompts here: name the folder of `robolearn reward train vlm --goal ... --out MODEL`, "
                    "or a column of the dataset"
                )
            model = reward_model(name, None, device, {}, {})
            models[f"{model.id}-{model.version}"] = model
    if not reward:
        raise RobolearnError(f"there is nothing to audit; {dataset} has no labelled columns: give --reward MODEL")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with ProgressBar("audit", len(reward), "model") as bar:
        audits = audit_dataset(dataset, models, named, bar.update)
    if out is not None:
        (out / "audit.json").write_text(json_module.dumps(audits.to_json(), indent=2) + "\n", encoding="utf-8")
        write_audit_page(out / "audit.html", RewardData(dataset), audits)
    if json:
        print_json(audits.to_json())
    else:
        header = ("model", "AUROC", "order +", "order -", "rank", "false +", "at 95 % below", "gates missed")
        false_positives = ("false_positive_rate", "false_positive_bound")
        keys = ("success_auroc", "voc_success", "voc_failure", "progress_spearman", *false_positives)
        rows = [
            (
                one.name,
                *(_short(one.metrics[key]) for key in keys),
                _missed(map(str, one.missed)),
            )
            for one in audits.models
        ]
        print_table(title, header, rows)
        if out is not None:
            say(f"page: {out / 'audit.html'}")
    return audits


def reward_model(name: str, config: Path | None, device: str, vlm: dict[str, Any], clip: dict[str, Any]) -> Any:
    """A trained model by its folder, or one that needs no training by name."""
    from robolearn.networks.model_directory import config_from_json
    from robolearn.networks.open_clip import OpenClipConfig
    from robolearn.rewards import REWARDS, reward_class
    from robolearn.rewards.saved import load_reward
    from robolearn.rewards.score_client import SCHEMES, RemoteReward
    from robolearn.rewards.vlm import VLMConfig

    trained = name.startswith(SCHEMES) or (name not in REWARDS and (Path(name).exists() or len(Path(name).parts) > 1))
    if trained and config is not None:
        raise RobolearnError(f"{name} was trained with settings of its own; leave --config out")
    if trained:
        return RemoteReward(name) if name.startswith(SCHEMES) else load_reward(Path(name), device)
    kind = reward_class(name)
    if name == "ensemble":
        raise RobolearnError("an ensemble is made of trained ones: robolearn reward combine MODEL MODEL --out FOLDER")
    if name == "three_signals":
        kind(kind.config_type())  # says whom it asks
    if name not in UNTRAINED:
        raise RobolearnError(f"{name} has to be trained first: robolearn reward train {name} --dataset ... --out MODEL")
    if config is not None:
        try:
            return kind(config_from_json(kind.config_type, json_module.loads(config.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            raise RobolearnError(f"{config} does not hold the settings of {name}: {error}") from error
    if name == "keypoints":
        raise RobolearnError(
            "keypoints needs waypoints: give `robolearn label` --config with a JSON file, see docs/rewards.md, or have "
            "a model see them: robolearn reward train keypoints --endpoint-model NAME --dataset ... --out MODEL"
        )
    return kind(replace(VLMConfig(**vlm), clip=OpenClipConfig(**clip)))


def _missed(gates: Iterable[str]) -> str:
    from robolearn.rewards.audit import in_words

    return "; ".join(map(in_words, gates)) or "none"


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
