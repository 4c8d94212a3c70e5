"""What every reward model of REWARDS owes."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robolearn.errors import SpecError, UnknownNameError
from robolearn.rewards import REWARDS, Episodes, RewardModel, reward_class
from robolearn.rewards.combine import CombineConfig, EnsembleReward
from robolearn.rewards.three_signals import ThreeSignalsReward

BATCH, STEPS, SIZE = 3, 12, 32
COLUMN = 1e-4  # how far a value may move with the shape of the batch


@pytest.fixture(scope="module")
def clip_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from robolearn.rewards.fixture import save_untrained

    directory = tmp_path_factory.mktemp("clip")
    save_untrained(directory)
    return directory


@pytest.fixture(params=sorted(REWARDS))
def model(request: pytest.FixtureRequest) -> RewardModel:
    if request.param == "ensemble":
        members = [make("preference", seed=seed) for seed in range(3)]
        return EnsembleReward(CombineConfig(), members)
    if request.param == "vlm":
        if importlib.util.find_spec("open_clip") is None:
            pytest.skip("open_clip is not installed: pip install robolearn[vlm]")
        return make("vlm", request.getfixturevalue("clip_directory"))
    return make(request.param)


class Brightness:
    """A SignalModel that takes what is brighter for nearer to the goal."""

    def signals(self, start: Tensor, before: Tensor, now: Tensor, text: Sequence[str]) -> Tensor:
        level, last = (one.float().mean((1, 2, 3)) / 255 for one in (now, before))
        return torch.stack([level, (level > 0.5).float(), (level - last).sign()])


def make(name: str, clip_directory: Path | None = None, seed: int = 0) -> RewardModel:
    """Every model works with the defaults of its config; only CLIP needs weights, keypoints a way, and three signals
    somebody to ask."""
    config = REWARDS[name].config_type()
    if name == "three_signals":
        return ThreeSignalsReward(replace(config, every=1), Brightness())
    if clip_directory is not None:
        clip = replace(config.clip, model_dir=str(clip_directory))
        config = replace(config, clip=clip, goal=("an arm pointing up",), baseline=("a robot arm",))
    elif name == "keypoints":
        config = replace(config, waypoints=((0.2, 0.2), (0.5, 0.5), (0.8, 0.5)))
    elif hasattr(config, "seed"):
        config = replace(config, seed=seed)
    return REWARDS[name](config)


def episodes(seed: int = 0, batch: int = BATCH, length: list[int] | None = None) -> Episodes:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, STEPS, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator)
    images[:, 1:5, 8:16, 8:16] = torch.tensor([220, 40, 40], dtype=torch.uint8)
    text = ["put the cube on the plate", "open the drawer", "push"][:batch]
    proprio = torch.rand(batch, STEPS, 4, generator=generator)
    return Episodes({"front": images}, text, proprio, None if length is None else torch.tensor(length))


def test_shapes_types_and_ranges(model: RewardModel) -> None:
    assert isinstance(model, RewardModel)
    output = model.score(episodes())
    assert output.value.shape == output.confidence.shape == (BATCH, STEPS)
    assert output.value.dtype == output.confidence.dtype == torch.float32
    assert torch.isfinite(output.value).all()
    assert ((output.confidence >= 0) & (output.confidence <= 1)).all()
    assert output.raw
    for column in output.raw.values():
        assert column.shape[:2] == (BATCH, STEPS)
        assert torch.isfinite(column.float()).all()
    if model.kind in ("potential", "success"):
        assert ((output.value >= 0) & (output.value <= 1)).all()
    assert not output.value.requires_grad


def test_the_value_looks_at_the_images(model: RewardModel) -> None:
    one = model.score(episodes())
    moved = episodes(1)
    moved.images["front"][:, :, 16:24, 20:28] = torch.tensor([220, 40, 40], dtype=torch.uint8)
    assert not torch.allclose(one.value, model.score(moved).value, atol=1e-6)


def test_scoring_again_gives_the_same_and_changes_nothing(model: RewardModel) -> None:
    before = model.version
    one, two = model.score(episodes()), model.score(episodes())
    assert torch.equal(one.value, two.value)
    assert torch.equal(one.confidence, two.confidence)
    assert model.version == before


def test_an_episode_is_scored_by_itself(model: RewardModel) -> None:
    together = model.score(episodes()).value
    whole = episodes()
    assert whole.proprio is not None
    for row in range(BATCH):
        alone = Episodes(
            {"front": whole.images["front"][row : row + 1]}, [whole.text[row]], whole.proprio[row : row + 1]
        )
        torch.testing.assert_close(model.score(alone).value[0], together[row], atol=COLUMN, rtol=0)


def test_padding_is_never_looked_at(model: RewardModel) -> None:
    length = [STEPS, 7, 3]
    clean = model.score(episodes(length=length))
    dirty = episodes(length=length)
    assert dirty.proprio is not None
    for row, steps in enumerate(length):
        dirty.images["front"][row, steps:] = 255
        dirty.proprio[row, steps:] = 1e6
    padded = model.score(dirty)
    torch.testing.assert_close(padded.value, clean.value, atol=COLUMN, rtol=0)
    for row, steps in enumerate(length):
        assert (padded.value[row, steps:] == 0).all()
        assert (padded.confidence[row, steps:] == 0).all()


def test_a_causal_model_does_not_see_the_future(model: RewardModel) -> None:
    changed = episodes()
    changed.images["front"][:, 6:] = 0
    same = torch.allclose(model.score(changed).value[:, :6], model.score(episodes()).value[:, :6], atol=COLUMN)
    assert same == model.causal


def test_what_does_not_fit_is_said_in_one_line(model: RewardModel) -> None:
    good = episodes()
    images = good.images["front"]
    for bad in (
        replace(good, images={"wrist": images}),
        replace(good, images={"front": images.float()}),
        replace(good, images={"front": images[0]}),
        replace(good, images={}),
        replace(good, text=["push"]),
        replace(good, proprio=torch.zeros(BATCH, 4)),
        replace(good, length=torch.tensor([STEPS, 0, 1])),
    ):
        with pytest.raises(SpecError) as error:
            model.score(bad)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(name for name, kind in REWARDS.items() if issubclass(kind, torch.nn.Module)))
def test_the_version_is_of_settings_and_weights(name: str) -> None:
    model, same, other = make(name), make(name), make(name, seed=1)
    assert model.version == same.version != other.version
    assert len(model.version) == 12
    settings = model.version
    with torch.no_grad():
        next(iter(model.parameters())).add_(1e-3)
    assert model.version != settings


def test_an_unknown_name_gets_the_near_misses() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown reward model 'sucess'; did you mean success\?"):
        reward_class("sucess")
