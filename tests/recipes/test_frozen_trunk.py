"""Policies that look through a frozen network: its images are embedded once, and its weights are not the policy's."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_offline import CONFIG, SPEC, record

from robolearn.errors import CheckpointError
from robolearn.networks.open_clip import open_clip_network
from robolearn.policies.checkpoint import load_policy
from robolearn.recipes.train_offline import train_offline
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
    assert (result["checkpoint"] / "weights.safetensors").stat().st_size < 100_000

    save_untrained(trunk, 2)
    open_clip_network.cache_clear()
    with pytest.raises(CheckpointError, match=r"features\.encoders\.image_top has other weights"):
        load_policy(result["checkpoint"])


def test_what_is_no_network_is_told() -> None:
    with pytest.raises(CheckpointError, match="wanted a folder, or MODEL/TAG such as"):
        open_clip_network("nowhere")
