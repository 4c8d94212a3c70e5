"""`robolearn label` and `robolearn reward ...`."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from robolearn.cli.output import EXIT_NO, Dataset, counted, print_json, print_table, say
from robolearn.cli.web import beside
from robolearn.errors import RobolearnError, UnknownNameError
from robolearn.progress import ProgressBar

RewardName = Annotated[str, Positional, arg(metavar="MODEL")]
As = Annotated[str, arg(name="as")]

UNTRAINED = ("vlm", "keypoints")  # models that learn nothing, and label as they are told to


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
    endpoint: str = "http://127.0.0.1:8000/v1",
    endpoint_model: str = "",
    score_server: str = "",
    every: int = 10,
    cache: Path = Path("runs/answers"),
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
        reward: `vlm`, `keypoints`, `hop` of a model behind a wire, the folder that `robolearn reward train` wrote, or
            http://HOST:PORT of `robolearn reward serve`.
        as_: the column; by default <kind>/<model>-<version>, and what is missing of that is added.
        goal: of vlm: prompts that describe success; the episodes' instructions when left out.
        baseline: of vlm: prompts that describe the scene whatever happens.
        alpha: of vlm: strength of the goal-baseline projection, 0 to 1.
        model: of vlm: architecture, as open_clip names it.
        pretrained: of vlm: tag of the weights.
        model_dir: of vlm: a local open_clip directory, in the place of both names.
        camera: of vlm and hop: whose images are scored.
        config: of keypoints and vlm: a JSON file with its settings.
        endpoint: of hop: an OpenAI-compatible endpoint.
        endpoint_model: of hop: the model's name there.
        score_server: of hop: http://HOST:PORT of `robolearn reward serve`, in the place of an endpoint.
        every: of hop: steps between two questions; answers are held.
        cache: of hop: folder of answers, so that none is paid for twice.
        batch_size: of vlm: pictures in one pass of the network.
        precision: of vlm: of that pass.
        device: where the model runs: cpu or cuda.
        web: serve the page while this runs; its address is printed.
    """
    from robolearn.recipes.rewards.label import label_dataset

    if every < 1:
        raise RobolearnError(f"--every {every}: a question is asked every so many steps; give at least 1")
    if reward == "hop" and (endpoint_model or score_server):
        from robolearn.recipes.rewards.data import RewardData
        from robolearn.recipes.rewards.demonstrations import ask_hops
        from robolearn.rewards.endpoint import Endpoint, EndpointConfig
        from robolearn.rewards.hop import HopModel
        from robolearn.rewards.score_client import RemoteReward
        from robolearn.rewards.vlm_labels import AskedHops

        behind: HopModel
        if score_server:
            behind = remote = RemoteReward(score_server)
            named = f"{remote.id}-{remote.version}"
        else:
            client = Endpoint(EndpointConfig(url=endpoint, model=endpoint_model, cache_dir=str(cache)))
            behind, named = AskedHops(client), endpoint_model
        scorer = ask_hops(RewardData(dataset), behind, named, camera, every)
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
        print_json(answer)
    else:
        say(
            f"{dataset}: {answer['column']} for {counted(answer['episodes'], 'episode')} ({answer['skipped']} had it), "
            f"{answer['images_per_s']:.0f} images/s"
        )
    return 0


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
    labeller: Literal["task", "outcome", "endpoint", "people"] = "task",
    pairs: int = 1000,
    wrong_answers: float = 0.0,
    goal: tuple[str, ...] = (),
    baseline: tuple[str, ...] = (),
    alpha: float = 0.0,
    endpoint: str = "http://127.0.0.1:8000/v1",
    endpoint_model: str = "",
    cache: Path = Path("runs/answers"),
    device: str = "cpu",
    web: bool = False,
    json: bool = False,
) -> int:
    """Train a reward model on a dataset and audit it on episodes that it did not see.

    Example: robolearn reward train progress --dataset demos.zarr --out runs/progress

    Args:
        name: progress, success, preference, hop, matching, perceptual_steps, or vlm, which learns nothing.
        dataset: a zarr dataset of episodes with images.
        out: folder of the model.
        steps: gradient steps.
        seed: fixes initial weights, batches and which episodes are held out.
        camera: cameras that the model looks at.
        encoder: a small one that is trained, or a frozen CLIP.
        model: of vlm and open_clip: architecture, as open_clip names it.
        pretrained: of vlm and open_clip: tag of the weights.
        model_dir: of vlm and open_clip: a local directory, in the place of both names.
        proprio: whether models that may look at proprio do.
        labeller: of preference: who compares: the task's predicates, the outcome of the episode, a model, or the
            people who did on the web page.
        pairs: of preference: comparisons to make.
        wrong_answers: of preference: share of the rule's answers that are turned round.
        goal: of preference: what the model at the endpoint is told, of vlm: prompts that describe success; the
            instruction by default.
        baseline: of vlm: prompts that describe the scene whatever happens.
        alpha: of vlm: strength of the goal-baseline projection, 0 to 1.
        endpoint: of preference: an OpenAI-compatible endpoint.
        endpoint_model: of preference: the model's name there.
        cache: of preference: folder of answers, so that none is paid for twice.
        device: cpu or cuda.
        web: serve the page while this runs; its address is printed.
    """
    from robolearn.networks.open_clip import OpenClipConfig
    from robolearn.recipes.rewards.settings import TrainingSettings
    from robolearn.recipes.rewards.training import train_reward
    from robolearn.rewards.audit import METRIC_WORDS
    from robolearn.rewards.endpoint import EndpointConfig
    from robolearn.rewards.features import EncoderConfig
    from robolearn.rewards.vlm import VLMConfig

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
        labeller=labeller,
        goal="; ".join(goal),
        wrong_answers=wrong_answers,
        endpoint=EndpointConfig(url=endpoint, model=endpoint_model, cache_dir=str(cache)),
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
    endpoint: str = "http://127.0.0.1:8000/v1",
    endpoint_model: str = "",
    cache: Path = Path("runs/answers"),
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
        endpoint: of vlm: an OpenAI-compatible endpoint.
        endpoint_model: of vlm: the model's name there.
        cache: of vlm: folder of answers, so that none is paid for twice.
        author: name that the annotations carry; their source by default.
    """
    from robolearn.recipes.rewards.annotate import annotate_stages, by_file, by_model, by_task
    from robolearn.recipes.rewards.data import RewardData
    from robolearn.rewards.endpoint import Endpoint, EndpointConfig

    data = RewardData(dataset, pictures=by == "vlm")
    named = None
    if by == "file":
        if file is None:
            raise RobolearnError("annotating by file wants --file FILE.json")
        stages_of, named = by_file(data, file)
    elif by == "vlm":
        client = Endpoint(EndpointConfig(url=endpoint, model=endpoint_model, cache_dir=str(cache)))
        stages_of = by_model(data, client, stages, camera, pictures)
    else:
        stages_of = by_task(data)
    source = author or {"vlm": f"vlm {endpoint_model}", "task": "task", "file": file.stem if file else ""}[by]
    with ProgressBar("annotate", len(data.store.episodes if named is None else named), "episode") as bar:
        answer = annotate_stages(dataset, source, stages_of, named, bar.update)
    if json:
        print_json(answer)
    else:
        say(f"{dataset}: {counted(len(answer['annotated']), 'episode')} annotated by {source}")
        for episode, problem in answer["refused"].items():
            say(f"left alone: {episode}: {problem}")
    return 0 if answer["annotated"] else EXIT_NO


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
        header = ("model", "AUROC", "order +", "order -", "rank", "false +", "gates missed")
        keys = ("success_auroc", "voc_success", "voc_failure", "progress_spearman", "false_positive_rate")
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
    if name not in UNTRAINED:
        raise RobolearnError(f"{name} has to be trained first: robolearn reward train {name} --dataset ... --out MODEL")
    if config is not None:
        try:
            return kind(config_from_json(kind.config_type, json_module.loads(config.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            raise RobolearnError(f"{config} does not hold the settings of {name}: {error}") from error
    if name == "keypoints":
        raise RobolearnError(
            "keypoints needs waypoints: give `robolearn label` --config with a JSON file, see docs/rewards.md"
        )
    return kind(replace(VLMConfig(**vlm), clip=OpenClipConfig(**clip)))


def _missed(gates: Iterable[str]) -> str:
    from robolearn.rewards.audit import in_words

    return "; ".join(map(in_words, gates)) or "none"


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
