from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from robolearn.algorithms import ALGORITHMS
from robolearn.algorithms.bc import BCConfig
from robolearn.algorithms.compute import Compute
from robolearn.datasets.edit import relabel
from robolearn.datasets.store import DatasetSpec, EpisodeMeta, ImageCodec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import CheckpointError, DatasetError, RobolearnError, SpecError, UnknownNameError
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.chunking import ChunkPolicyConfig
from robolearn.policies.instruction import embed
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.origin import begun_config
from robolearn.recipes.policies import open_robot_policy
from robolearn.recipes.run import Run, read_state
from robolearn.recipes.train import train_policy
from robolearn.recipes.train_offline import train_offline
from robolearn.recipes.train_request import TrainRequest
from robolearn.recipes.training_data import ChunkData, training_data, unlooked, unread
from robolearn.recipes.training_loop import default_steps
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec
from robolearn.types import ActionSource, EpisodeOutcome

ROBOT = RobotSpec("point", ("x", "y"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_top": image_spec(16, 16)}, ROBOT.action_spec, 10.0)
CONFIG = BCConfig(
    policy=ChunkPolicyConfig(chunk_steps=4, encoder_channels=(4, 4), hidden_sizes=(16,)),
    batch_size=8,
    warmup_steps=2,
    learning_rate=1e-2,
)
STEPS = 7  # of an episode
FAR = 0.77  # commanded by perturbations alone


def record(
    path: Path,
    successes: Sequence[bool | None] = (True,) * 5,
    spec: InterfaceSpec = SPEC,
    sources: Sequence[ActionSource] = (ActionSource.SCRIPT,) * STEPS,
    **broken: np.ndarray,
) -> Path:
    """A dataset with an episode for each of `successes`; `broken` replaces fields of all its steps."""
    rng = np.random.default_rng(0)
    store = ZarrStore.create(path, DatasetSpec(ROBOT, spec, image_codec=ImageCodec("zstd")))
    with store.writer() as writer:
        for episode, success in enumerate(successes):
            writer.begin(EpisodeMeta(task="toy", instruction=f"go {episode % 2}", seed=100 + episode))
            for t in range(STEPS):
                action = np.full(2, FAR if sources[t] == ActionSource.PERTURBATION else 0.1 * episode, np.float32)
                fields: dict[str, Any] = {
                    "proprio": rng.uniform(-1, 1, 4).astype(np.float32),
                    "image_top": rng.integers(0, 256, (16, 16, 3), dtype=np.uint8),
                    "state": np.zeros(2, np.float32),
                    "action": action,
                    "action_sent": action,
                    "action_source": np.uint8(sources[t]),
                    "held": np.bool_(False),
                }
                step = {name: value for name, value in (fields | broken).items() if name in store.spec.fields}
                writer.append(step, dict.fromkeys(store.spec.stamped_fields, t * 10**8))
            writer.commit(EpisodeOutcome(success, terminated=True, truncated=False))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("data") / "toy.zarr")


def weights(run: Path, name: str = "latest") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "weights.safetensors")


def losses(run: Path) -> dict[str, str]:
    with (run / "metrics.csv").open() as file:
        return {row["step"]: row["validation_loss"] for row in csv.DictReader(file)}


def test_the_bar_tells_of_a_validation_that_was(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robolearn.recipes.train_offline.SAVES", 1)  # so that the first is that of the last step
    told: list[str] = []
    train_offline("bc", dataset, tmp_path / "run", 40, config=CONFIG, progress=lambda step, text: told.append(text))
    assert ["validation" in text for text in told] == [False, True]
    assert all(text.startswith("loss ") for text in told)


def test_a_run_has_all_its_parts(dataset: Path, tmp_path: Path) -> None:
    done: list[int] = []
    run = tmp_path / "run"
    result = train_offline(
        "bc", dataset, run, steps=40, seed=3, config=CONFIG, progress=lambda step, text: done.append(step)
    )
    assert done == [20, 40]
    assert (result["steps"], result["interrupted"]) == (40, False)
    assert (result["train_episodes"], result["validation_episodes"]) == (4, 1)
    assert result["checkpoint"] == run / "checkpoints" / "best"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["algorithm"], config["seed"], config["config"]["steps"]) == ("bc", 3, 40)
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == done
    assert float(rows[-1]["validation_loss"]) < float(rows[0]["validation_loss"])
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    provenance = read_config(run / "checkpoints" / "best")["provenance"]
    assert provenance["step"] == int(best["step"])
    assert provenance["episode_seeds"] == [100, 101, 102, 103, 104]
    assert load_policy(result["latest_checkpoint"], interface=SPEC).config == CONFIG.policy
    assert read_config(result["untrained_checkpoint"])["provenance"]["step"] == 0
    assert list(run.glob("events.out.tfevents.*"))


def test_the_seed_fixes_the_run(dataset: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_offline("bc", dataset, tmp_path / name, steps=5, seed=seed, config=CONFIG)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_ctrl_c_saves_and_resume_goes_on_bit_for_bit(dataset: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_offline("bc", dataset, whole, steps=50, config=CONFIG)

    def interrupt(step: int, text: str) -> None:
        if step == 20:
            os.kill(os.getpid(), signal.SIGINT)

    first = train_offline("bc", dataset, cut, steps=50, config=CONFIG, progress=interrupt)
    assert first["interrupted"]
    assert first["steps"] == 21
    handler = signal.getsignal(signal.SIGINT)
    assert handler is signal.default_int_handler
    second = train_offline("bc", tmp_path / "elsewhere", tmp_path / "ignored", resume=cut)
    assert (second["steps"], second["interrupted"]) == (50, False)
    a, b = weights(whole), weights(cut)
    assert all(torch.equal(a[key], b[key]) for key in a)
    a_losses, b_losses = losses(whole), losses(cut)
    assert all(b_losses[step] == loss for step, loss in a_losses.items())
    assert not (tmp_path / "ignored").exists()


def test_a_finished_run_resumes_to_the_same(dataset: Path, tmp_path: Path) -> None:
    train_offline("bc", dataset, tmp_path / "run", steps=4, config=CONFIG)
    before = (tmp_path / "run" / "metrics.csv").read_text()
    assert train_offline("bc", dataset, tmp_path / "run", resume=tmp_path / "run")["steps"] == 4
    assert (tmp_path / "run" / "metrics.csv").read_text() == before


def test_who_began_with_another_run_goes_on_with_its_statistics(dataset: Path, tmp_path: Path) -> None:
    train_offline("bc", dataset, tmp_path / "first", steps=2, config=CONFIG)
    other, run = record(tmp_path / "other", (True,) * 2), tmp_path / "run"
    train_offline("bc", other, run, steps=2, config=CONFIG, init_from=tmp_path / "first")
    kept = [read_config(each / "checkpoints" / "untrained")["statistics"] for each in (tmp_path / "first", run)]
    begun = yaml.safe_load((run / "config.yaml").read_text())
    assert begun["init_from"] == str(tmp_path / "first")
    begun["config"]["steps"] = 3
    (run / "config.yaml").write_text(yaml.safe_dump(begun))
    train_offline("bc", other, run, resume=run)
    assert kept[0] == kept[1] == read_config(run / "checkpoints" / "latest")["statistics"]
    with pytest.raises(SpecError, match="best is a checkpoint; name the run that it is of"):
        TrainRequest("bc", other, init_from=run / "checkpoints" / "best").check()
    with pytest.raises(CheckpointError, match="does not fit: bc learns from chunks, hiql from goals"):
        train_offline("hiql", other, tmp_path / "goals", steps=2, init_from=tmp_path / "first")


def test_a_perturbed_step_is_never_imitated(tmp_path: Path) -> None:
    S, P = ActionSource.SCRIPT, ActionSource.PERTURBATION
    data = ChunkData(record(tmp_path / "d", sources=(S, S, P, S, S, P, S)), ChunkPolicyConfig(4), seed=0)
    batches = [data.batch(step, 64) for step in range(5)]
    for batch in batches:
        imitated = batch["action"][batch["action_mask"]]
        assert len(imitated)
        assert not (imitated == FAR).any()
        # Nor is what answers a push that the chunk's observation did not show.
        assert (batch["action_mask"].int().diff(dim=1) <= 0).all()


def test_training_and_held_out_episodes_are_apart(dataset: Path) -> None:
    splits = set()
    for seed in range(8):
        data = ChunkData(dataset, ChunkPolicyConfig(4), seed=seed)
        assert sorted(data.train_episodes + data.validation_episodes) == [0, 1, 2, 3, 4]
        splits.add(tuple(data.validation_episodes))
        held_out = {round(float(v), 4) for v in data.validation_batches[0]["action"].unique()}
        assert held_out == {round(0.1 * data.validation_episodes[0], 4)}
    assert len(splits) > 1


def test_failures_are_not_imitated(tmp_path: Path) -> None:
    data = ChunkData(record(tmp_path / "d", (True, False, None, True)), ChunkPolicyConfig(4), seed=0)
    assert sorted(data.train_episodes + data.validation_episodes) == [0, 2, 3]


NO_PROPRIO = replace(SPEC, observation={"state": ArraySpec((2,), names=("a", "b"))})


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda path: path, DatasetError, "does not exist"),
        (lambda path: record(path, ()), DatasetError, "0 successful episodes of 0"),
        (lambda path: record(path, (True,)), DatasetError, "1 successful episodes of 1"),
        (lambda path: record(path, (True, False, False)), DatasetError, "1 successful episodes of 3"),
        (lambda path: record(path, spec=NO_PROPRIO), SpecError, "needs the field 'proprio'"),
        (
            lambda path: record(path, action=np.full(2, np.nan, np.float32)),
            DatasetError,
            r"action of episode .* finite",
        ),
        (
            lambda path: record(path, proprio=np.array([0, np.nan, 0, 0], np.float32)),
            DatasetError,
            r"proprio of episode .* is not finite; delete or trim it",
        ),
        (
            lambda path: record(path, action=np.full(2, 9, np.float32)),
            DatasetError,
            "action of episode .* is outside the limits of",
        ),
        (
            lambda path: record(path, sources=(ActionSource.PERTURBATION,) * STEPS),
            DatasetError,
            "nothing to learn from",
        ),
    ],
)
def test_bad_data_is_refused_in_one_line_before_training(
    tmp_path: Path, make: Any, error: type[RobolearnError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        train_offline("bc", make(tmp_path / "d"), tmp_path / "run", steps=2, config=CONFIG)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


ONLY_SEEN = replace(SPEC, observation={"image_top": image_spec(16, 16)})
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"successes": ()}, "0 (successful )?episodes of 0|has no episode"),
    "blind": ({"spec": ONLY_SEEN}, "needs the field .proprio.|policy of vectors needs one"),
    "nan": ({"action": np.full(2, np.nan, np.float32)}, "action of episode .* is not finite"),
    "endless": ({"proprio": np.full(4, np.inf, np.float32)}, "proprio of episode .* is not finite"),
    "wild": ({"action": np.full(2, 9, np.float32)}, "action of episode .* is outside the limits of"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    return {name: record(folder / name, **changes) for name, (changes, _) in BAD.items()}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_no_algorithm_begins_with_bad_data(tmp_path: Path, bad: dict[str, Path], name: str) -> None:
    for fault, (_, words) in BAD.items():
        with pytest.raises((DatasetError, SpecError), match=words) as caught:
            train_offline(name, bad[fault], tmp_path / "run", steps=2)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(name for name, a in ALGORITHMS.items() if a.learns_from == "transitions"))
def test_a_reward_that_the_data_lack_is_named(dataset: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownNameError, match="reward/none") as caught:
        train_offline(name, dataset, tmp_path / "run", steps=2, reward="reward/none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_unknown_algorithm_a_taken_folder_a_strange_run(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean bc"):
        train_offline("bcc", dataset, tmp_path / "run")
    with pytest.raises(UnknownNameError):
        default_steps("sacc")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="not empty"):
        train_offline("bc", dataset, tmp_path, steps=2, config=CONFIG)
    with pytest.raises(CheckpointError, match="not a run to resume"):
        train_offline("bc", dataset, tmp_path, resume=tmp_path)
    run = tmp_path / "run"
    train_offline("bc", dataset, run, steps=2, config=CONFIG)
    bare = replace(SPEC, observation={k: v for k, v in SPEC.observation.items() if k != "image_top"})
    with pytest.raises(SpecError, match=r"policy of .* needs observation field 'image_top'"):
        train_offline("bc", record(tmp_path / "bare", spec=bare), tmp_path / "other", config=CONFIG, init_from=run)
    assert not (tmp_path / "other").exists()
    for other in ({"dataset": tmp_path / "bare"}, {"task": "push-v1"}):
        with pytest.raises(SpecError, match="leave it out"):
            train_policy(TrainRequest("bc", resume=run, **other))
    assert train_policy(TrainRequest("bc", dataset=dataset, resume=run))["steps"] == 2
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(json.dumps({**config, "compute": {"device": "cuda:99"}}))
    with pytest.raises(CheckpointError, match=r"cannot go on here as it was begun \(device is cuda:99 .*--init-from"):
        train_policy(TrainRequest("bc", resume=run))
    (run / "config.yaml").write_text(json.dumps({**config, "compute": {"compile": True}}))  # of before there was `auto`
    assert begun_config(run)[2] == Compute(compile=True, precision="float32")
    (run / "config.yaml").write_text(json.dumps({**config, "processes": 2}))
    with pytest.raises(CheckpointError, match=r"begun with 2 times .* resume it by torchrun --nproc-per-node 2"):
        train_offline("bc", dataset, run, resume=run)
    (run / "config.yaml").write_text(json.dumps({**config, "config": {"horizon": 3}}))
    with pytest.raises(CheckpointError, match=r"cannot be resumed.*horizon"):
        train_offline("bc", dataset, run, resume=run)


def test_divergence_stops_and_keeps_what_was_good(dataset: Path, tmp_path: Path) -> None:
    wild = replace(CONFIG, learning_rate=1e30, warmup_steps=0, max_grad_norm=1e30, loss="mse")
    with pytest.raises(RobolearnError, match="training diverged: loss is"):
        train_offline("bc", dataset, tmp_path / "run", steps=20, config=wild)
    best = load_policy(tmp_path / "run" / "checkpoints" / "best")
    assert all(torch.isfinite(parameter).all() for parameter in best.parameters())
    wilder = replace(
        wild, learning_rate=1e8, weight_decay=1e35
    )  # the only update leaves no weight finite, and no loss tells of it
    with pytest.raises(RobolearnError, match=r"training diverged: .* of the policy is not finite at step 1"):
        train_offline("bc", dataset, tmp_path / "short", steps=1, config=wilder)
    best = load_policy(tmp_path / "short" / "checkpoints" / "best")
    assert all(torch.isfinite(parameter).all() for parameter in best.parameters())


@pytest.mark.parametrize(
    ("algorithm", "change", "words"),
    [
        ("bc", {"reward": "success"}, "bc learns from chunks and looks at no reward"),
        ("hiql", {"reward": "success"}, "hiql learns from goals and looks at no reward"),
        ("iql", {"settings": ("online.num_steps=3",)}, "online.num_steps is of a training in a task"),
        ("td3_bc", {"settings": ("alpha=nan",)}, "alpha is nan; expected a finite number"),
        ("iql", {"settings": ("policy.log_std_low=3",)}, "log_std_low is 3; expected at most policy.log_std_high, 2"),
        ("bc", {"settings": ("weight=proprio",)}, r"proprio is \(4,\) a step; name a weight that is one number"),
        ("bc", {"settings": ("weight=held",)}, "held has weights from 0 to 0 in .* wanted none below 0, and one above"),
    ],
)
def test_what_a_training_on_a_dataset_cannot_heed_is_refused(
    algorithm: str, change: dict[str, Any], words: str, dataset: Path, tmp_path: Path
) -> None:
    request = TrainRequest(algorithm, dataset, out=tmp_path / "run", steps=1)
    with pytest.raises((SpecError, DatasetError), match=words):
        train_policy(replace(request, **change))
    assert not (tmp_path / "run").exists()


def test_a_state_of_another_version_is_told(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_offline("bc", dataset, run, steps=2, config=CONFIG)
    tensors, facts = read_state(run)
    renamed = {name.replace("adamw.", "optimizer."): tensor for name, tensor in tensors.items()}
    with Run.resume(run, ("train_loss", "validation_loss"), 2) as opened:
        opened.save_state(renamed, facts)
    with pytest.raises(CheckpointError, match=r"state is of another robolearn .*begin a new run"):
        train_offline("bc", dataset, run, resume=run)


def test_histories_and_words_come_from_the_dataset(dataset: Path, tmp_path: Path) -> None:
    shape = replace(CONFIG.policy, observation_steps=3, instruction="words")
    data = ChunkData(dataset, shape, seed=0)
    batch = data.batch(0, 8)
    assert batch["proprio"].shape == (8, 3, 4)
    assert batch["image_top"].shape == (8, 3, 16, 16, 3)
    wanted = {episode: embed(f"go {episode % 2}", data.spec.observation["instruction"]) for episode in range(5)}
    for row in range(8):
        episode = round(float(batch["action"][row, 0, 0]) / 0.1)
        np.testing.assert_array_equal(batch["instruction"][row, -1], wanted[episode])
    result = train_offline("bc", dataset, tmp_path / "run", steps=2, config=replace(CONFIG, policy=shape))
    assert load_policy(result["checkpoint"], interface=SPEC).spec == data.spec


def test_large_pictures_are_shrunk_and_the_policy_acts_on_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robolearn.specs.SEEN_PX", 8)
    spec = replace(SPEC, observation={**SPEC.observation, "image_top": image_spec(17, 24)})
    pictures = np.random.default_rng(1).integers(0, 256, (17, 24, 3), dtype=np.uint8)
    path, told = record(tmp_path / "d.zarr", spec=spec, image_top=pictures), list[str]()
    assert ChunkData(path, CONFIG.policy, seed=0).batch(0, 8)["image_top"].shape == (8, 8, 12, 3)
    train_offline("bc", path, tmp_path / "run", steps=2, config=CONFIG, tell=told.append)
    assert told[0].endswith(
        "image_top of 17 x 24 pixels is seen as 8 x 12, policy.shrink is 2; --set policy.shrink=1 shows it whole"
    )
    policy = load_policy(tmp_path / "run" / "checkpoints" / "latest", interface=spec)
    seen = {"proprio": torch.zeros(1, 4), "image_top": torch.from_numpy(pictures)[None]}
    blocks = pictures[:16].reshape(8, 2, 12, 2, 3).astype(float).mean((1, 3)).round().astype(np.uint8)
    shrunk = {**seen, "image_top": torch.from_numpy(blocks)[None]}
    torch.testing.assert_close(policy.best(seen), policy.best(shrunk), rtol=0, atol=0.02)
    whole = replace(CONFIG, policy=replace(CONFIG.policy, shrink=1))
    told.clear()
    train_offline("bc", path, tmp_path / "whole", steps=2, config=whole, tell=told.append)
    assert not any("is seen as" in line for line in told)
    for folder in (tmp_path / "whole", tmp_path / "whole" / "checkpoints" / "latest"):  # as those of before say nothing
        file = next(file for file in (folder / "config.yaml", folder / "config.json") if file.exists())
        config = yaml.safe_load(file.read_text())
        del (config["config"]["policy"] if "policy" in config["config"] else config["config"])["shrink"]
        file.write_text(yaml.safe_dump(config) if file.suffix == ".yaml" else json.dumps(config))
    old = load_policy(tmp_path / "whole" / "checkpoints" / "latest")
    assert old.config.shrink == begun_config(tmp_path / "whole")[1].policy.shrink == 1


def seeing(name: str) -> Any:
    """Settings with which an algorithm of transitions looks at pictures."""
    config = ALGORITHMS[name].config_type()
    policy = replace(config.policy, images=True, hidden_sizes=(16,), encoder_channels=(4, 4))
    return replace(config, policy=policy, batch_size=8)


@pytest.mark.parametrize("name", ["calql", "cql", "iql", "state_bc", "td3_bc"])
def test_what_learns_from_transitions_sees_pictures_on_request(
    dataset: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robolearn.specs.SEEN_PX", 8)
    data = training_data("transitions", dataset, seeing(name), 0, "cpu", "success")
    rows = data.batch(0, 8)
    assert rows["image_top"].shape == rows["next_image_top"].shape == (8, 8, 8, 3)
    assert "image_top" not in data.statistics
    runs = [train_offline(name, dataset, tmp_path / str(i), steps=4, config=seeing(name)) for i in range(2)]
    first, second = (weights(tmp_path / str(i)) for i in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    policy = load_policy(runs[0]["latest_checkpoint"], interface=SPEC)
    assert list(policy.spec.observation) == ["proprio", "image_top"]
    seen = {"proprio": torch.zeros(2, 4), "image_top": torch.zeros(2, 16, 16, 3, dtype=torch.uint8)}
    dark = policy.best(seen)
    seen["image_top"][1, :8] = 255
    assert not torch.equal(policy.best(seen)[1], dark[1])


def test_what_a_cell_recorded_is_learned_from_in_the_space_of_its_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows where things are, the cameras are the cell's own, and the policy acts on them."""
    monkeypatch.setattr("robolearn.specs.SEEN_PX", 8)
    collect_episodes(CollectConfig(task="push-v1", image_size=0), tmp_path / "twin.zarr", 3)
    twin = ZarrStore.open(tmp_path / "twin.zarr")
    interface = replace(
        twin.spec.interface, observation={"proprio": twin.spec.fields["proprio"], "image_top": image_spec(17, 24)}
    )
    cell = ZarrStore.create(
        tmp_path / "cell.zarr", DatasetSpec(twin.spec.robot, interface, image_codec=ImageCodec("zstd"))
    )
    rng = np.random.default_rng(0)
    with cell.writer() as writer:
        for index, info in enumerate(twin.episodes):
            rows = twin.read(index, [name for name in cell.spec.fields if name in twin.spec.fields])
            writer.begin(EpisodeMeta(task="push-v1", seed=index))
            for t in range(info.length):
                step = {name: values[t] for name, values in rows.items()}
                step["image_top"] = rng.integers(0, 256, (17, 24, 3), dtype=np.uint8)
                writer.append(step, dict.fromkeys(cell.spec.stamped_fields, t * 50_000_000))
            writer.commit(EpisodeOutcome(index != 1, terminated=index != 1, truncated=index == 1))
    result = train_offline(
        "iql", tmp_path / "cell.zarr", tmp_path / "run", steps=2, config=seeing("iql"), task="tool:push-v1"
    )
    policy = open_robot_policy(str(result["latest_checkpoint"]))
    assert {name: field.shape for name, field in policy.spec.observation.items()} == {
        "proprio": (12,),
        "image_top": (17, 24, 3),
    }
    seen = {"proprio": rows["proprio"][0], "image_top": np.zeros((17, 24, 3), np.uint8)}
    targets = policy.act(seen, 0).actions
    assert targets.shape[1] == 6
    np.testing.assert_allclose(targets[0], seen["proprio"][:6], atol=0.2)


def test_who_looks_at_no_picture_is_remarked_on(dataset: Path) -> None:
    blind = replace(seeing("iql"), policy=replace(seeing("iql").policy, images=False))
    data = training_data("transitions", dataset, blind, 0, "cpu", "success")
    assert unlooked(dataset, "iql", data) == (
        f"iql looks at proprio alone, at none of the pictures of {dataset}; --set policy.images=true makes a policy "
        "that does"
    )
    assert not unlooked(dataset, "iql", training_data("transitions", dataset, seeing("iql"), 0, "cpu", "success"))


def test_who_does_not_look_is_not_told_to(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"dsac learns from vectors; leave policy\.images out"):
        train_offline("dsac", dataset, tmp_path / "run", steps=2, config=seeing("dsac"))


def test_a_task_shows_pictures_to_what_learns_offline(tmp_path: Path) -> None:
    collect_episodes(CollectConfig(task="push-v1", image_size=16), tmp_path / "seen.zarr", 3)
    collect_episodes(CollectConfig(task="push-v1", image_size=0), tmp_path / "blind.zarr", 3)
    result = train_offline(
        "iql", tmp_path / "seen.zarr", tmp_path / "run", steps=2, config=seeing("iql"), task="tool:push-v1"
    )
    policy = load_policy(result["latest_checkpoint"])
    assert {"state", "image_front", "image_wrist"} == set(policy.spec.observation)
    (row,) = evaluate_policy(result["latest_checkpoint"], "tool:push-v1", 1)["outcomes"]
    assert row["steps"] > 0
    with pytest.raises(DatasetError, match="has no pictures, which the policy is to see; collect it with --image-size"):
        train_offline(
            "iql", tmp_path / "blind.zarr", tmp_path / "b", steps=2, config=seeing("iql"), task="tool:push-v1"
        )


def test_who_is_not_told_what_to_do_is_remarked_on(dataset: Path) -> None:
    data = ChunkData(dataset, CONFIG.policy, seed=0)
    assert unread(dataset, "bc", data) == (
        f"{dataset} shows 2 things to do, such as 'go 0', and bc is not told which; "
        "--set policy.instruction=words makes a policy that is"
    )
    assert not unread(dataset, "bc", ChunkData(dataset, replace(CONFIG.policy, instruction="words"), seed=0))


def test_without_words_nothing_is_learned_of_them(tmp_path: Path) -> None:
    store = ZarrStore.open(record(tmp_path / "d"))
    relabel(store.path, [store.episodes[1].id], {"instruction": ""})
    shape = replace(CONFIG.policy, instruction="words")
    with pytest.raises(DatasetError, match=r"has no instruction; give it one, or leave policy\.instruction out"):
        ChunkData(store.path, shape, seed=0)


def test_who_cannot_compile_is_told_before_anything_and_who_could_is_told_where_it_saves_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robolearn.recipes.train.train_online", lambda **kinds: {})
    long = TrainRequest("rlpd", task="gym:Pendulum-v1", out=tmp_path / "run", steps=1_000)
    told: list[str] = []
    for request in (long, replace(long, steps=999), replace(long, compute=Compute(compile=True))):
        train_policy(request, tell=told.append)
    assert told == [
        "20,000 updates are to come; with --compile they run about three times as fast, after up to a minute"
    ]
    with monkeypatch.context() as one_of_several:
        one_of_several.setenv("WORLD_SIZE", "2")
        train_policy(long, tell=told.append)
    monkeypatch.setenv("CXX", "no-such-compiler")
    train_policy(long, tell=told.append)
    assert len(told) == 1
    with pytest.raises(SpecError, match=r"--compile wants a compiler of C\+\+ \(no-such-compiler\); apt-get install"):
        train_policy(replace(long, compute=Compute(compile=True)))
    assert not (tmp_path / "run").exists()
