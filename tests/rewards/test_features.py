"""Encoders of the reward models: hashed words, and a frozen CLIP inside any model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from robolearn.errors import SpecError, UnknownNameError
from robolearn.networks.open_clip import OpenClipConfig
from robolearn.rewards import Episodes
from robolearn.rewards.features import EncoderConfig, hashed_words, make_encoder
from robolearn.rewards.fixture import save_untrained
from robolearn.rewards.keypoints import colour_track
from robolearn.rewards.progress import ProgressConfig, ProgressReward

needs_open_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed: pip install robolearn[vlm]"
)


def test_words_are_hashed_alike_in_every_process() -> None:
    ours = hashed_words(["Push the cube, push!", ""], 16)
    push, the, cube = 4, 6, 8  # the columns of these words, today and here as ever and elsewhere
    assert ours[0].nonzero().flatten().tolist() == [push, the, cube]
    assert float(ours[0, push]) == pytest.approx(2 * float(ours[0, cube]))
    assert float(ours[0].norm()) == pytest.approx(1.0)
    assert float(ours[1].norm()) == 0.0


def test_an_unknown_encoder_gets_the_near_misses() -> None:
    with pytest.raises(UnknownNameError, match="did you mean open_clip"):
        make_encoder(EncoderConfig(name="openclip"))


def test_images_of_another_size_are_refused_in_words() -> None:
    encoder = make_encoder(EncoderConfig(image_height=32, image_width=24))
    assert encoder.images(torch.zeros(2, 32, 24, 3, dtype=torch.uint8)).shape == (2, encoder.image_size)
    with pytest.raises(SpecError, match=r"wants images of 32 x 24 pixels, 64 x 64 came"):
        encoder.images(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))


def test_a_long_episode_is_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robolearn.rewards.features.PIXELS_AT_ONCE", 4 * 16 * 16)
    encoder = make_encoder(EncoderConfig(image_height=16, image_width=16))
    images = torch.randint(0, 256, (10, 16, 16, 3), dtype=torch.uint8)
    whole = encoder.images(images)  # in one pass, to learn from
    passes: list[int] = []
    encoder.net.register_forward_hook(lambda net, inputs, output: passes.append(len(output)))  # type: ignore[union-attr]
    with torch.no_grad():
        torch.testing.assert_close(encoder.images(images), whole)
    assert passes == [4, 4, 2]
    track = colour_track(images[None], (128, 128, 128), 60.0)
    monkeypatch.setattr("robolearn.rewards.features.PIXELS_AT_ONCE", 10 * 16 * 16)
    torch.testing.assert_close(colour_track(images[None], (128, 128, 128), 60.0), track)


@needs_open_clip
def test_a_frozen_clip_serves_any_model_and_stays_out_of_its_weights(tmp_path: Path) -> None:
    models = []
    for seed in (0, 0, 1):
        directory = tmp_path / str(len(models))
        save_untrained(directory, seed)
        encoder = EncoderConfig("open_clip", open_clip=OpenClipConfig(model_dir=str(directory)))
        models.append(ProgressReward(ProgressConfig(encoder=encoder)))
    images = torch.randint(0, 256, (2, 4, 48, 80, 3), dtype=torch.uint8)  # any size: CLIP resizes
    output = models[0].score(Episodes({"front": images}, ["point up", "point down"]))
    assert output.value.shape == (2, 4)
    assert not any(parameter.requires_grad for name, parameter in models[0].named_parameters() if "clip" in name)
    assert sum(parameter.numel() for parameter in models[0].encoder.parameters()) == 0
    assert models[0].version == models[1].version != models[2].version
