"""Policies that look through a frozen network: its images are embedded once, and its weights are not the policy's."""

from __future__ import annotations

import copy
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_train_offline import CONFIG, SPEC, record

from robolearn.algorithms.rlpd import RLPDConfig
from robolearn.algorithms.sac import SACConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import CheckpointError, SpecError
from robolearn.networks.open_clip import open_clip_network
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.train_offline import train_offline
from robolearn.recipes.train_online import OnlineConfig, train_online
from robolearn.recipes.training_data import ChunkData
from robolearn.rewards.fixture import save_untrained

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed: pip install robolearn[vlm]"
)


def test_a_frozen_network_is_asked_once_and_must_stay_the_same(tmp_path: Path) -> None:
    trunk, text = tmp_path / "clip", tmp_path / "text"
    save_untrained(trunk)
    save_untrained(text, 1)
    dataset = record(tmp_path / "d")
    shape = replace(CONFIG.policy, trunk=str(trunk), observation_steps=2, instruction=str(text))
    data = ChunkData(dataset, shape, seed=0)
    batch = data.batch(0, 4)
    size = open_clip_network(str(trunk)).size
    assert batch["image_top"].shape == (4, 2, size)
    assert batch["instruction"].shape == (4, 2, open_clip_network(str(text)).size)

    result = train_offline("bc", dataset, tmp_path / "run", steps=2, config=replace(CONFIG, policy=shape))
    policy = load_policy(result["checkpoint"], interface=SPEC)
    images = torch.randint(0, 256, (1, 2, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    embedded = open_clip_network(str(trunk)).images(images[0])[None]
    seen = {"proprio": batch["proprio"][:1], "instruction": batch["instruction"][:1]}
    answers = [policy.best({**seen, "image_top": each}).numpy() for each in (images, embedded)]
    np.testing.assert_allclose(*answers, atol=1e-5)
    encoders = [each.features.encoders["image_top"] for each in (policy, copy.deepcopy(policy))]
    assert encoders[0].network is encoders[1].network
    assert (result["checkpoint"] / "weights.safetensors").stat().st_size < 100_000

    save_untrained(trunk, 2)
    open_clip_network.cache_clear()
    with pytest.raises(CheckpointError, match=r"features\.encoders\.image_top has other weights"):
        load_policy(result["checkpoint"])


def test_who_learns_online_embeds_each_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, demos = tmp_path / "clip", tmp_path / "demos.zarr"
    save_untrained(trunk)
    open_clip_network.cache_clear()
    network = open_clip_network(str(trunk))
    collect_episodes(CollectConfig("reach-v1", image_size=16), demos, 1)
    policy = GaussianPolicyConfig(hidden_sizes=(8,), encoder_channels=(4,), trunk=str(trunk))
    config = RLPDConfig(policy=policy, critic_hidden_sizes=(8,), num_critics=2, utd=2, batch_size=8)
    online = OnlineConfig(image_size=16, random_steps=8, evaluation_episodes=1, evaluations=1, replay_capacity=200)
    online = replace(online, average=3)
    embedded, images = [], network.images
    monkeypatch.setattr(network, "images", lambda frames: embedded.append(len(frames)) or images(frames))
    monkeypatch.setattr("robolearn.recipes.train_online._evaluate", lambda *args: {"return_mean": 0.0})
    run = train_online("rlpd", "reach-v1", tmp_path / "run", 20, 0, config, online, offline_data=demos)
    steps = ZarrStore.open(demos).episodes[0].length
    assert sum(embedded) == 2 * (steps + 21)  # two cameras; with the first picture of the episode
    kept = load_file(tmp_path / "run" / "resume.safetensors")
    assert kept["collector.buffer0.observation.image_front"].shape == (21, network.size)
    head = "encoders.image_front.head.weight"
    first, last = (load_file(run[n].parent / name / "weights.safetensors")[head] for n, name in BOTH)
    assert not torch.equal(first, last)
    assert evaluate_policy(run["checkpoint"], "reach-v1", 1)["episodes"] == 1


BOTH = (("checkpoint", "untrained"), ("latest_checkpoint", "latest"))


def test_a_network_without_pictures_is_refused(tmp_path: Path) -> None:
    config = SACConfig(policy=GaussianPolicyConfig(trunk="ViT-B-32/openai"))
    with pytest.raises(SpecError, match=r"set online\.image_size"):
        train_online("sac", "reach-v1", tmp_path / "run", 10, 0, config)
    with pytest.raises(SpecError, match="the policy sees none"):
        GaussianPolicy(SPEC, {}, config.policy)


def test_what_is_no_network_is_told() -> None:
    with pytest.raises(CheckpointError, match="wanted a folder, or MODEL/TAG such as"):
        open_clip_network("nowhere")
