"""`robolearn label`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robolearn.cli.output import (
    NOT_ASKED,
    Asked,
    Dataset,
    counted,
    print_json,
    require_heeded,
    say,
    say_spent,
    say_unreadable,
    spent,
)
from robolearn.cli.reward_models import (
    UNTRAINED,
    VLM_OPTIONS,
    As,
    remark_other_data,
    require_clip_heeds,
    reward_model,
    strength,
)
from robolearn.cli.web import beside
from robolearn.errors import RobolearnError, quoted
from robolearn.progress import ProgressBar

if TYPE_CHECKING:
    from robolearn.rewards.endpoint import Endpoint
    from robolearn.rewards.reward_model import RewardModel
    from robolearn.rewards.score_client import RemoteReward

LABEL_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "vlm": (*VLM_OPTIONS, "camera", "config", "device"),
    "keypoints": ("config",),
    "wired": ("asked", "score_server", "every", "camera"),  # hop and three_signals of a model behind a wire
    "trained": ("config", "device"),  # `reward_model` says why it takes no config
    "served": (),  # elsewhere, and on the device that it has there
}
"""Options of `label` that a model heeds."""


def label(
    dataset: Dataset,
    reward: str,
    as_: As = "",
    goal: tuple[str, ...] = (),
    baseline: tuple[str, ...] = (),
    alpha: float | None = None,
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

    Example: robolearn label demos.zarr --reward vlm --goal "a cube on a plate" --baseline "a table"

    Args:
        dataset: a zarr dataset of episodes with images.
        reward: `vlm`, `keypoints`, `hop` or `three_signals` of a model behind a wire, the folder that `robolearn reward
            train` wrote, or http://HOST:PORT of `robolearn reward serve`.
        asked: of hop and three_signals: who answers.
        as_: the column; by default <kind>/<model>-<version>, and what is missing of that is added.
        goal: of vlm: prompts that describe success; the episodes' instructions when left out.
        baseline: of vlm: prompts that describe the scene whatever happens.
        alpha: of vlm: strength of the goal-baseline projection, 0 to 1; 0.5 where there is a baseline.
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
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.rewards.label import label_dataset
    from robolearn.recipes.rewards.read_ahead import start_server
    from robolearn.rewards.endpoint import Endpoint
    from robolearn.rewards.score_client import SCHEMES, RemoteReward

    by_file = config is not None and reward in UNTRAINED
    wired = reward == "three_signals" or (reward == "hop" and bool(asked.endpoint_model or score_server))
    sort = "wired" if wired else reward if reward in UNTRAINED else "trained"
    sort = "served" if reward.startswith(SCHEMES) else sort
    heeded = ("config",) if by_file else LABEL_OPTIONS[sort]
    whom = f"{reward} beside --config" if by_file else reward
    require_heeded(label, given, heeded, tuple(chain(*LABEL_OPTIONS.values())), whom)
    require_heeded(label, given, ("asked",) if not score_server else (), ("asked",), "hop of a --score-server")
    require_clip_heeds(label, given)
    if every < 1:
        raise RobolearnError(f"--every {every}: a question is asked every so many steps; give at least 1")
    count = len(ZarrStore.open(dataset).episodes)  # what is no dataset is told before a model is looked for
    if device.startswith("cuda"):
        start_server()  # beside the loading of the model
    client: object
    if wired:
        scorer, client = _behind_a_wire(reward, dataset, asked, score_server, camera, every)
    else:
        clip = {"model": model, "pretrained": pretrained, "model_dir": str(model_dir or ""), "device": device}
        prompts = {"goal": goal, "baseline": baseline, "alpha": strength(alpha, baseline), "camera": camera}
        scorer = client = reward_model(
            reward, config, device, prompts, {**clip, "batch_size": batch_size, "precision": precision}
        )
        remark_other_data(reward, dataset)
    with beside(web, None, dataset), ProgressBar("label", count, "episode") as bar:
        answer = label_dataset(dataset, scorer, as_, progress=bar.update)
    if json:
        if isinstance(client, Endpoint):
            answer |= spent(client)
        elif isinstance(client, RemoteReward):
            answer["unreadable"] = client.count.unreadable
        print_json(answer)
    else:
        say(
            f"{dataset}: {answer['column']} for {counted(answer['episodes'], 'episode')} ({answer['skipped']} had it), "
            f"{answer['images_per_s']:.0f} images/s"
        )
        if "discount" in answer:
            say(
                f"train with: robolearn train iql --dataset {quoted(dataset)} --reward {quoted(answer['column'])} "
                f"--set discount={answer['discount']:.3f}"
            )
        if isinstance(client, Endpoint):
            say_spent(client)
        elif isinstance(client, RemoteReward):
            say_unreadable(client.count)
    return 0


def _behind_a_wire(
    reward: str, dataset: Path, asked: Asked, score_server: str, camera: str, every: int
) -> tuple[RewardModel, Endpoint | RemoteReward]:
    """The model that asks, and whom."""
    from robolearn.recipes.rewards.data import RewardData
    from robolearn.recipes.rewards.demonstrations import ask_hops, ask_signals
    from robolearn.rewards.endpoint import Endpoint
    from robolearn.rewards.score_client import RemoteReward
    from robolearn.rewards.vlm_labels import AskedHops, AskedSignals, asked_name

    data = RewardData(dataset)
    if score_server:
        if reward != "hop":
            raise RobolearnError(f"{reward} asks an endpoint, not a score server; give --endpoint-model NAME")
        remote = RemoteReward(score_server)
        return ask_hops(data, remote, f"{remote.id}-{remote.version}", camera, every), remote
    client = Endpoint(asked.config())
    for index in range(len(data.store.episodes)):
        data.goal(index)  # before anything is paid for
    if reward == "hop":
        name = asked_name(asked.endpoint_model, AskedHops.questions)
        return ask_hops(data, AskedHops(client), name, camera, every), client
    name = asked_name(asked.endpoint_model, AskedSignals.questions)
    return ask_signals(data, AskedSignals(client), name, camera, every), client
