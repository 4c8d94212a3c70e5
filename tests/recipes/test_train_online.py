from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from robolearn.algorithms.algorithm import Batch, Metrics
from robolearn.algorithms.compute import Compute
from robolearn.algorithms.rlpd import RLPDConfig
from robolearn.algorithms.sac import SAC, SACConfig
from robolearn.algorithms.td3_bc import TD3BCConfig
from robolearn.datasets.replay_buffer import ReplayBufferConfig
from robolearn.errors import CheckpointError, DatasetError, RobolearnError, SpecError, UnknownNameError
from robolearn.policies.checkpoint import load_policy, save_policy
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.recipes.collector import Collector
from robolearn.recipes.environments import REWARDS, make_environments
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.origin import networks_of
from robolearn.recipes.run import RESUME_FILE, read_state
from robolearn.recipes.seeds import SELECTION_SEED
from robolearn.recipes.task_settings import SETTINGS
from robolearn.recipes.train import configure, total_steps, train_policy
from robolearn.recipes.train_online import OnlineConfig, _state, train_online
from robolearn.recipes.train_request import TrainRequest, read_settings

TASK = "gym:Pendulum-v1"
CONFIG = SACConfig(policy=GaussianPolicyConfig(hidden_sizes=(8,)), critic_hidden_sizes=(8,), batch_size=16)
ONLINE = OnlineConfig(num_envs=2, random_steps=100, evaluation_episodes=1, evaluations=2)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "latest" / "weights.safetensors")


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(file)]


def test_a_run_has_all_its_parts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train_online("sac", TASK, run, 240, 3, CONFIG, replace(ONLINE, evaluation_episodes=2))
    assert (result["steps"], result["gradient_steps"], result["interrupted"]) == (240, 142, False)
    assert set(result["time_shares"]) == {"open", "act", "environment", "sample", "update", "evaluate", "save"}
    assert sum(result["time_shares"].values()) == pytest.approx(1.0)
    assert 0.0 <= result["overlap_share"] <= 1.0
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["algorithm"], config["task"], config["config"]["steps"]) == ("sac", TASK, 240)
    evaluated = [row for row in rows(run) if row["return_mean"]]
    assert [row["step"] for row in evaluated] == ["120", "240"]
    assert all(float(row["return_low"]) <= float(row["return_mean"]) <= float(row["return_high"]) for row in evaluated)
    assert evaluated[-1]["critic_loss"]
    best = max(evaluated, key=lambda row: float(row["return_mean"]))
    assert read_config(run / "checkpoints" / "best")["provenance"]["step"] == int(best["step"])
    assert load_policy(result["checkpoint"]).config == CONFIG.policy
    answer = evaluate_policy(result["checkpoint"], TASK, 2, SELECTION_SEED)
    assert answer["return_mean"] == pytest.approx(result["best_return_mean"], rel=1e-4)
    answer = evaluate_policy(result["checkpoint"], TASK, 2)
    assert answer["return_mean"] != pytest.approx(result["best_return_mean"], rel=1e-4)  # others than it was chosen by
    assert answer["success_rate"] is None
    assert answer["remark"] == ""
    config = read_config(result["checkpoint"])
    policy = load_policy(result["checkpoint"])
    save_policy(policy, tmp_path / "other", {**config["provenance"], "tasks": ["gym:Hopper-v5"]})
    assert evaluate_policy(tmp_path / "other", TASK, 1)["remark"] == f"trained for gym:Hopper-v5, judged on {TASK}"


def test_ctrl_c_saves_and_resume_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    online = replace(ONLINE, average=30)
    train_online("sac", TASK, whole, 440, 0, CONFIG, online)

    def interrupt(step: int, text: str) -> None:
        if step == 220:
            for process in multiprocessing.active_children():
                process.terminate()  # as systemd and slurm do, who tell all
            os.kill(os.getpid(), signal.SIGINT)

    beside = replace(online, processes=2)  # which changes no number
    first = train_online("sac", TASK, cut, 440, 0, CONFIG, beside, progress=interrupt)
    assert (first["interrupted"], first["steps"]) == (True, 222)  # in the middle of an episode
    second = train_online("sac", "ignored", tmp_path / "ignored", resume=cut)
    assert (second["steps"], second["interrupted"]) == (440, False)
    a, b = weights(whole), weights(cut)
    assert all(torch.equal(a[key], b[key]) for key in a)
    resumed = {row["step"]: row for row in rows(cut)}
    assert all(resumed[row["step"]] == row for row in rows(whole))
    assert rows(cut)[-1]["return_low"] == ""  # of one episode there is no interval
    json.loads((cut / "checkpoints" / "latest" / "config.json").read_text(), parse_constant=pytest.fail)


def test_the_policy_that_is_kept_is_a_mean_and_learning_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[dict[str, torch.Tensor]] = []  # the policy after each step of both environments

    def update(learner: SAC, batch: Batch) -> Metrics:
        metrics = taught(learner, batch)
        learned.append({name: value.clone() for name, value in learner.policy().state_dict().items()})
        return metrics

    taught = SAC.update
    monkeypatch.setattr(SAC, "update", update)
    newest = []
    for average in (1, 20, 10**9):
        learned.clear()
        run = tmp_path / str(average)
        train_online("sac", TASK, run, 200, 0, CONFIG, replace(ONLINE, evaluations=1, average=average))
        newest.append(learned[-1])
        for name, kept in weights(run).items():
            mean = learned[0][name]
            for k, policy in enumerate(learned, 1):  # of all until there are more: the untrained one is none of them
                mean = mean.lerp(policy[name], 1 / min(k, max(average // 2, 1)))
            torch.testing.assert_close(kept, mean)
    for name, value in newest[0].items():
        assert torch.equal(value, newest[1][name])
        assert torch.equal(value, newest[2][name])


def test_a_run_whose_networks_had_another_shape_is_not_resumed(tmp_path: Path) -> None:
    train_online("sac", TASK, tmp_path, 100, 0, CONFIG, ONLINE)
    state, facts = read_state(tmp_path)
    state["actor.network.0.weight"] = state["actor.network.0.weight"][:, :1].clone()
    save_file(state, tmp_path / RESUME_FILE, {name: str(value) for name, value in facts.items()})
    with pytest.raises(CheckpointError, match=r"state is of another robolearn .*begin a new run"):
        train_online("sac", "ignored", tmp_path / "ignored", resume=tmp_path)


def test_environments_step_while_the_learner_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other once a step, so neither would go on if they took turns."""
    both = threading.Barrier(2, timeout=30)
    step, update = Collector.step, SAC.update
    learns: list[bool] = []

    def stepping(self: Collector, actions: NDArray[np.float32]) -> None:
        if len(self) >= ONLINE.random_steps - ONLINE.num_envs:
            learns.append(both.wait() is not None)
        step(self, actions)

    def updating(self: SAC, batch: Batch) -> Metrics:
        both.wait()
        return update(self, batch)

    monkeypatch.setattr(Collector, "step", stepping)
    monkeypatch.setattr(SAC, "update", updating)
    train_online("sac", TASK, tmp_path / "run", 120, 3, CONFIG, replace(ONLINE, evaluations=1))
    assert len(learns) == 11


def test_a_collector_that_is_killed_ends_the_training_in_one_line_and_what_was_saved_goes_on(tmp_path: Path) -> None:
    def kill(step: int, text: str) -> None:
        if step == 120:
            (collector,) = multiprocessing.active_children()
            collector.kill()

    online = replace(ONLINE, processes=2)
    with pytest.raises(RobolearnError, match=r"steps the environments died .exit code -9.") as caught:
        train_online("sac", TASK, tmp_path / "run", 240, 0, CONFIG, online, progress=kill)
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []
    assert train_online("sac", "ignored", tmp_path, resume=tmp_path / "run")["steps"] == 240


def test_what_is_saved_needs_no_second_buffer_and_its_networks_are_read_alone(tmp_path: Path) -> None:
    result = train_online("sac", TASK, tmp_path, 107, 0, CONFIG, replace(ONLINE, evaluations=5))
    assert [row["step"] for row in rows(tmp_path) if row["return_mean"]] == ["22", "44", "66", "88", "108"]
    assert {name.split(".")[0] for name in networks_of(tmp_path)} == {"actor", "critic", "target", "log_temperature"}
    policy = load_policy(result["checkpoint"])
    with contextlib.closing(make_environments(TASK, 1)) as envs:
        collector = Collector(envs, ReplayBufferConfig(10), REWARDS["task"], seed=0)
        learner = SAC(envs.interface, {}, CONFIG)
        saved = _state(learner, policy, collector)
        for name, values in collector.state_dict().items():
            if name.startswith("buffer0.observation"):
                assert np.shares_memory(saved[f"collector.{name}"].numpy(), values)


def test_it_begins_with_the_networks_of_another_run(tmp_path: Path) -> None:
    train_online("sac", TASK, tmp_path / "a", 200, 0, CONFIG, ONLINE)
    online = replace(ONLINE, warmup_steps=150)
    result = train_online("sac", TASK, tmp_path / "b", 100, 5, CONFIG, online, init_from=tmp_path / "a")
    assert result["gradient_steps"] == 0
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())["init_from"] == str(tmp_path / "a")
    evaluated = rows(tmp_path / "b")
    assert [row["step"] for row in evaluated] == ["0", "50", "100"]
    assert len({row["return_mean"] for row in evaluated}) == 1
    assert read_config(tmp_path / "b" / "checkpoints" / "best")["provenance"]["step"] == 0  # what it began with
    wide = replace(CONFIG, critic_hidden_sizes=(9,))
    with pytest.raises(CheckpointError, match="critic"):
        train_online("sac", TASK, tmp_path / "c", 100, 5, wide, online, init_from=tmp_path / "a")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("task", [TASK, "tool:push-v1"])  # the latter wants other sizes
def test_networks_to_begin_with_are_taken_in_their_sizes(tmp_path: Path, task: str) -> None:
    sizes = ("policy.hidden_sizes=8,9", "policy.layer_norm=true", "critic_hidden_sizes=7", "num_critics=3")
    request = TrainRequest("rlpd", task=task, out=tmp_path / "a", steps=2)
    train_policy(replace(request, settings=(*sizes, "critic_layer_norm=false", "online.evaluation_episodes=1")))
    config, _ = configure(replace(request, init_from=tmp_path / "a"))
    assert (config.policy.hidden_sizes, config.policy.layer_norm) == ((8, 9), True)
    assert (config.critic_hidden_sizes, config.critic_layer_norm, config.num_critics) == ((7,), False, 3)
    more = replace(request, out=tmp_path / "b", init_from=tmp_path / "a", settings=("online.evaluation_episodes=1",))
    assert train_policy(more)["steps"] == 2
    assert configure(replace(more, algorithm="sac"))[0].policy.hidden_sizes == (8, 9)  # it has no number of critics
    assert configure(replace(more, settings=("critic_hidden_sizes=5",)))[0].critic_hidden_sizes == (5,)


def test_the_temperature_goes_on_unless_another_is_asked_for(tmp_path: Path) -> None:
    small = ("policy.hidden_sizes=8", "critic_hidden_sizes=8", "batch_size=16")
    small = (*small, "online.evaluation_episodes=1", "online.evaluations=1", "temperature_learning_rate=0.01")
    request = TrainRequest("sac", task=TASK, out=tmp_path / "a", steps=100, settings=(*small, "online.random_steps=50"))
    train_policy(request)
    before = float(read_state(tmp_path / "a")[0]["log_temperature"].exp())
    assert before < 0.9
    settings = (*small[:-1], "online.random_steps=60")
    for out, asked, expected in (("kept", (), before), ("other", ("initial_temperature=0.3",), 0.3)):
        more = replace(request, out=tmp_path / out, init_from=tmp_path / "a", steps=60)  # learns nothing
        train_policy(replace(more, settings=(*settings, *asked)))
        after = float(read_state(tmp_path / out)[0]["log_temperature"].exp())
        assert after == pytest.approx(expected, rel=0.01)  # but one step
        assert yaml.safe_load((tmp_path / out / "config.yaml").read_text())["online"]["random_steps"] == 60


def test_critics_without_layer_norm_are_not_taken_for_critics_with(tmp_path: Path) -> None:
    shape = {"policy": CONFIG.policy, "critic_hidden_sizes": (8,), "batch_size": 16, "num_critics": 2, "utd": 1}
    online = replace(ONLINE, random_steps=0, evaluations=1)
    train_online("rlpd", TASK, tmp_path / "a", 4, 0, RLPDConfig(**shape, critic_layer_norm=False), online)
    with pytest.raises(CheckpointError, match=r"of its networks critic, target differ in kind or shape; .* layer norm"):
        train_online("rlpd", TASK, tmp_path / "b", 4, 0, RLPDConfig(**shape), online, init_from=tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda begun: begun["online"].update(unheard=1), "unheard"),
        (lambda begun: begun["online"].update(num_envs=3), "another task, num_envs"),
        (lambda begun: begun.pop("offline_data"), "offline_data"),
    ],
)
def test_a_run_of_another_robolearn_is_not_resumed(tmp_path: Path, change: Any, words: str) -> None:
    train_online("sac", TASK, tmp_path, 20, 0, CONFIG, replace(ONLINE, evaluations=1))
    begun = yaml.safe_load((tmp_path / "config.yaml").read_text())
    change(begun)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(begun))
    with pytest.raises(CheckpointError, match=words) as caught:
        train_policy(TrainRequest("sac", resume=tmp_path))
    assert "\n" not in str(caught.value)


def test_a_run_without_its_metrics_goes_on(tmp_path: Path) -> None:
    train_online("sac", TASK, tmp_path, 20, 0, CONFIG, replace(ONLINE, evaluations=1))
    (tmp_path / "metrics.csv").unlink()
    assert train_online("sac", "ignored", tmp_path, resume=tmp_path)["steps"] == 20


def test_a_deterministic_policy_explores(tmp_path: Path) -> None:
    config = TD3BCConfig(policy=replace(TD3BCConfig().policy, hidden_sizes=(8,)), critic_hidden_sizes=(8,))
    train_online("td3_bc", TASK, tmp_path, 4, 0, config, replace(ONLINE, evaluations=1))
    policy = load_policy(tmp_path / "checkpoints" / "latest")
    assert isinstance(policy, GaussianPolicy)
    seen = {"state": torch.zeros(1000, 3)}
    actions = policy.sample(seen, torch.Generator().manual_seed(0))
    assert float(actions.std()) == pytest.approx(0.2, rel=0.1)  # a tenth of [-2, 2]'s half
    assert torch.equal(policy.best(seen), policy.best(seen))


def test_divergence_stops_and_says_what_to_look_at(tmp_path: Path) -> None:
    wild = replace(CONFIG, critic_learning_rate=1e6)
    with pytest.raises(RobolearnError, match=r"training diverged: critic_loss is .*; look at metrics\.csv"):
        train_online("sac", TASK, tmp_path / "run", 200, 0, wild, ONLINE)
    best = load_policy(tmp_path / "run" / "checkpoints" / "best")
    assert all(torch.isfinite(value).all() for value in best.state_dict().values())
    wilder = replace(
        CONFIG, actor_learning_rate=1e39
    )  # the only update leaves no weight finite, and no loss tells of it
    with pytest.raises(RobolearnError, match=r"training diverged: .* of the policy is not finite at step 12"):
        train_online(
            "sac", TASK, tmp_path / "short", 12, 0, wilder, replace(ONLINE, num_envs=1, random_steps=12, evaluations=1)
        )
    assert (tmp_path / "short" / "checkpoints" / "latest").resolve().name == "step_0000000"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"task": "gym:Pendulum-v7"}, UnknownNameError, "did you mean"),
        ({"task": "pusch-v1"}, UnknownNameError, "push-v1"),
        ({"task": "gym:CartPole-v1"}, SpecError, "vectors"),
        ({"algorithm": "bc"}, SpecError, "--dataset"),
        ({"algorithm": "state_bc"}, SpecError, "--dataset"),
        ({"algorithm": "sak"}, UnknownNameError, "sac"),
        ({"reward": "sparse"}, SpecError, "reward is 'sparse'"),
        ({"num_envs": 0}, SpecError, "0 environments"),
        ({"steps": 0}, SpecError, "at least 1 step"),
        ({"task": None}, SpecError, "train wants --dataset"),
        ({"init_from": Path("nowhere")}, CheckpointError, "nowhere"),
        ({"offline_data": Path("nowhere")}, RobolearnError, "nowhere"),
        ({"settings": ("discont=1",)}, UnknownNameError, "discount"),
        ({"settings": ("discount=x",)}, SpecError, "discount is 'x'"),
        ({"settings": ("random_steps=5",)}, UnknownNameError, "did you mean online.random_steps"),
        ({"settings": ("hidden_sizes=5",)}, UnknownNameError, "did you mean .*policy.hidden_sizes"),
        ({"settings": ("policy.hidden_sizes=x",)}, SpecError, "policy.hidden_sizes is 'x'; .* numbers such as 256,256"),
        ({"settings": ("online.num_envs=x",)}, SpecError, "setting online.num_envs is 'x'"),
        ({"settings": ("discount",)}, SpecError, "write name=value"),
        ({"settings": ("critic_hidden_sizes=0",)}, SpecError, "critic_hidden_sizes is .0,.; expected sizes"),
        ({"settings": ("polyak=0",)}, SpecError, "polyak is 0; expected a number above 0"),
        ({"settings": ("initial_temperature=0",)}, SpecError, "expected a number above 0"),
        ({"settings": ("policy.distribution=mixture",)}, SpecError, "mixture; this algorithm learns squashed or clip"),
        ({"settings": ("policy.encoder_channels=",)}, SpecError, "encoder_channels is .*; expected at least one size"),
        ({"settings": ("policy.images=true",)}, SpecError, "policy.images is true; set online.image_size"),
        ({"settings": ("max_shift_px=-1",)}, SpecError, "max_shift_px is -1; expected at least 0"),
        ({"settings": ("policy=small",)}, SpecError, "policy has settings, such as policy.hidden_sizes"),
        ({"settings": ("discount.of=0.5",)}, SpecError, "setting discount.of cannot be set: discount has none"),
        ({"settings": ("online.random_steps=-5",)}, SpecError, "random_steps -5"),
        ({"settings": ("online.replay_capacity=1",)}, SpecError, "replay_capacity 1"),
        ({"settings": ("online.replay_capacity=1000000000000000",)}, DatasetError, "do not fit into memory"),
        ({"seed": 2**70}, SpecError, "a seed of at least 0, below"),
        ({"settings": ("online.processes=3",)}, SpecError, "processes is 3"),
        ({"task": "pusch-v1", "settings": ("online.processes=2",)}, RobolearnError, "push-v1"),
        ({"algorithm": "rlpd", "settings": ("cloning_weight=0.1",)}, SpecError, "give them by --offline-data"),
        ({"algorithm": "rlpd", "settings": ("cloning_weight=-1",)}, SpecError, "cloning_weight is -1"),
        ({"algorithm": "rlpd", "settings": ("num_sampled_critics=20",)}, SpecError, "at most num_critics, 10"),
        ({"algorithm": "rlpd", "settings": ("num_sampled_critics=0",)}, SpecError, "num_sampled_critics is 0"),
        ({"algorithm": "iql", "settings": ("expectile=1.5",)}, SpecError, "expectile is 1.5"),
        ({"algorithm": "cql", "settings": ("push_scale=0",)}, SpecError, "push_scale is 0"),
        ({"algorithm": "cql", "settings": ("num_actions=0",)}, SpecError, "num_actions is 0"),
        ({"compute": Compute("cuda")}, SpecError, "no GPU"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], error: type[RobolearnError], words: str
) -> None:
    if "compute" in change and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    request = replace(TrainRequest("sac", task=TASK, out=tmp_path / "run", steps=10), **change)
    with pytest.raises(error, match=words) as caught:
        train_policy(request)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_settings_reach_the_configs() -> None:
    words = ("discount=0.9", "policy.hidden_sizes=7,8", "backup_entropy=false", "online.random_steps=5")
    config, online = configure(TrainRequest("sac", settings=words))
    assert (config.discount, config.policy.hidden_sizes, config.backup_entropy) == (0.9, (7, 8), False)
    assert (online.random_steps, online.num_envs) == (5, 1)
    many = TrainRequest("sac", num_envs=3, reward="progress", settings=words)
    assert (configure(many)[1].num_envs, configure(many)[1].reward) == (3, "progress")
    assert configure(replace(many, settings=("online.num_envs=4",)))[1].num_envs == 4
    assert total_steps(TrainRequest("sac", settings=("steps=7",))) == 7
    assert total_steps(TrainRequest("sac", steps=5, settings=("steps=7",))) == 5


@pytest.mark.parametrize(("task", "algorithm"), [(task, name) for task in SETTINGS for name in SETTINGS[task]])
def test_a_training_begins_with_what_its_task_wants(task: str, algorithm: str) -> None:
    make_environments(task, 1).close()
    request = TrainRequest(algorithm, task=task, settings=("discount=0.5",))
    config, online = configure(request)
    wanted = read_settings(SETTINGS[task][algorithm])
    assert config.discount == 0.5  # --set is stronger
    assert config.batch_size == int(wanted["batch_size"])
    assert online.evaluation_episodes == int(wanted["online.evaluation_episodes"])
    assert configure(replace(request, dataset=Path("dataset")))[0] == config  # which is read as the task shows it
    assert (
        configure(replace(request, task=None))[0] == configure(TrainRequest(algorithm, settings=("discount=0.5",)))[0]
    )


def test_the_peg_is_learned_without_demonstrations_too() -> None:
    """What holds to demonstrations is begun with only where there are some."""
    request = TrainRequest("rlpd", task="tool:peg_insert-v1")
    assert configure(request)[0].cloning_weight == 0
    assert configure(replace(request, offline_data=Path("demos.zarr")))[0].cloning_weight > 0


def test_a_policy_that_answers_nan_ends_the_training_with_what_to_look_at(tmp_path: Path) -> None:
    wild = replace(CONFIG, critic_learning_rate=1e30, actor_learning_rate=1e30)
    with pytest.raises(
        RobolearnError, match=r"training diverged: the policy's action is not finite at step \d+; look at"
    ):
        train_online("sac", TASK, tmp_path / "run", 400, 0, wild, ONLINE)


SEEING = replace(ONLINE, num_envs=1, random_steps=8, image_size=16, evaluations=1, replay_capacity=200)


def test_a_policy_of_images_learns_resumes_and_is_judged(tmp_path: Path) -> None:
    policy = GaussianPolicyConfig(hidden_sizes=(8,), encoder_channels=(4, 4))
    config = replace(CONFIG, policy=policy, batch_size=4)
    whole = train_online("sac", "reach-v1", tmp_path / "whole", 24, 0, config, SEEING)
    names = set(load_policy(whole["checkpoint"]).spec.observation)
    assert {"proprio", "command"} < names
    assert any(name.startswith("image_") for name in names)
    assert not any(name.startswith("pose_") for name in names)
    untrained = load_file(tmp_path / "whole" / "checkpoints" / "untrained" / "weights.safetensors")
    moved = [key for key, value in weights(tmp_path / "whole").items() if not torch.equal(value, untrained[key])]
    assert any(key.startswith("encoders.") for key in moved)
    answer = evaluate_policy(whole["latest_checkpoint"], "reach-v1", SEEING.evaluation_episodes)
    assert answer["success_rate"] == whole["success_rate"]
    assert answer["success_ci95"] == pytest.approx(whole["success_ci95"], abs=1e-4)
    last = rows(tmp_path / "whole")[-1]
    assert [float(last["success_low"]), float(last["success_high"])] == pytest.approx(whole["success_ci95"])


@pytest.mark.parametrize(("algorithm", "task"), [("dsac", "reach-v1"), ("sac", TASK)])
def test_images_where_there_are_none_are_refused(algorithm: str, task: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="shows no images, or"):
        train_online(algorithm, task, tmp_path / "run", 10, 0, None, SEEING)
    assert not (tmp_path / "run").exists()
