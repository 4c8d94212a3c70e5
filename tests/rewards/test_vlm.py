"""VLM-RM: the closed form, and the whole path through a CLIP that is trained here."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robolearn.cli import run
from robolearn.errors import CheckpointError, SpecError
from robolearn.networks.open_clip import OpenClip, OpenClipConfig, Patches, import_open_clip, in_bfloat16
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.rewards import Episodes
from robolearn.rewards.audit import spearman
from robolearn.rewards.fixture import TinyClipConfig, graded_targets, save_untrained, train_tiny_clip
from robolearn.rewards.fixture_images import ArmImages, any_joints, draw_arms
from robolearn.rewards.reward_model import trained_on
from robolearn.rewards.saved import load_reward
from robolearn.rewards.success import area_under_roc
from robolearn.rewards.vlm import VLMConfig, VLMReward, goal_baseline_reward
from robolearn.tasks.kinematics import SO101
from robolearn.twin.arm_painter import UNSEEN_PALETTES

needs_open_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed: pip install robolearn[vlm]"
)
DIRECTIONS = {"right": 0.0, "up": np.pi / 2, "left": np.pi, "down": -np.pi / 2}


def unit(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(count, 24, generator=generator, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_the_closed_form_is_the_matrix_form(alpha: float) -> None:
    images, goal, baseline = unit(50, 0), unit(3, 1).mean(0), unit(2, 2).mean(0)
    direction = goal - baseline
    projection = alpha * torch.outer(direction, direction) / direction.square().sum() + (1 - alpha) * torch.eye(24)
    matrix_form = 1 - 0.5 * ((images - goal) @ projection).square().sum(-1)
    torch.testing.assert_close(goal_baseline_reward(images, goal, baseline, alpha), matrix_form, atol=1e-6, rtol=0)


def test_without_projection_the_reward_is_the_cosine() -> None:
    images, goal = unit(50, 0), unit(1, 1)[0]
    torch.testing.assert_close(goal_baseline_reward(images, goal, None, 0.0), images @ goal, atol=1e-12, rtol=0)


def test_full_projection_is_symmetric_about_the_goal_and_blind_across_it() -> None:
    goal, baseline = unit(1, 1)[0], unit(1, 2)[0]
    direction = nn.functional.normalize(goal - baseline, dim=0)
    across = unit(1, 3)[0]
    across = across - (across @ direction) * direction
    steps = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]

    def reward(points: Tensor) -> Tensor:
        return goal_baseline_reward(points, goal, baseline, 1.0)

    torch.testing.assert_close(reward(goal + steps * direction), reward(goal - steps * direction))
    torch.testing.assert_close(reward(goal + steps * across), torch.ones(5, dtype=torch.float64))


def test_the_graded_target_of_a_caption_without_direction_is_the_mean_over_directions() -> None:
    angles = torch.linspace(-torch.pi, torch.pi, 10_001, dtype=torch.float64)[:-1]
    for seen in (1.0, 0.4):
        targets = graded_targets(angles, torch.tensor([0.3, torch.nan]).double(), torch.full_like(angles, seen))
        assert float(targets[:, 0].mean()) == pytest.approx(float(targets[0, 1]), abs=1e-5)
        assert (targets[:, 1] == 1.0).all()
    at_the_camera = graded_targets(angles, torch.tensor([0.3, torch.nan]).double(), torch.zeros_like(angles))
    torch.testing.assert_close(at_the_camera, torch.ones_like(at_the_camera), atol=1e-5, rtol=0)


def test_an_arm_seen_in_full_fits_its_caption_better_than_one_seen_short() -> None:
    angle = torch.full((4,), 0.3, dtype=torch.float64)
    fits = graded_targets(angle, angle[:1], torch.tensor([0.0, 0.3, 0.6, 1.0]).double())[:, 0]
    assert (fits.diff() > 0.5).all()


@pytest.mark.parametrize("joint", range(6))
def test_arms_in_any_posture_are_often_at_the_limits_of_their_joints(joint: int) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([any_joints(rng)[joint] for _ in range(300)])
    low, high = SO101.position_low[joint], SO101.position_high[joint]
    assert ((drawn >= low) & (drawn <= high)).all()
    assert 0.1 < (drawn == low).mean() < 0.3
    assert 0.1 < (drawn == high).mean() < 0.3


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(CheckpointError, match=r"pip install robolearn\[vlm\]") as caught:
        VLMReward(VLMConfig(alpha=0.0))
    assert "\n" not in str(caught.value)


@needs_open_clip
@pytest.mark.parametrize("config", [OpenClipConfig(model="ViT-B-33"), OpenClipConfig(pretrained="no_such_tag")])
def test_a_wrong_name_is_one_line(config: OpenClipConfig, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CheckpointError) as error:
        OpenClip(config)
    assert "\n" not in str(error.value)
    assert not caplog.records  # open_clip and the hub have nothing to add


@needs_open_clip
def test_weights_that_cannot_be_fetched_are_one_line_that_names_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with socket.socket() as nobody:  # a port of this machine that refuses
        nobody.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", server)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(CheckpointError, match=f"no answer from {server} .*--model-dir") as caught:
            OpenClip(OpenClipConfig("ViT-B-32", "laion2b_s34b_b79k"))
    assert "\n" not in str(caught.value)


@needs_open_clip
def test_a_directory_without_weights_is_one_line_and_no_random_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no open_clip_config\.json"):
        OpenClip(OpenClipConfig(model_dir=str(tmp_path)))
    save_untrained(tmp_path)
    (tmp_path / "open_clip_model.safetensors").rename(tmp_path / "open_clip_model.pt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        OpenClip(OpenClipConfig(model_dir=str(tmp_path)))


@needs_open_clip
def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    save_untrained(tmp_path)
    clip = OpenClipConfig(model_dir=str(tmp_path))
    for bad in (
        VLMConfig(alpha=1.5, baseline=("a robot arm",), clip=clip),
        VLMConfig(alpha=0.5, clip=clip),
        VLMConfig(goal=("a robot arm",), baseline=("a robot arm",), clip=clip),
    ):
        with pytest.raises(SpecError):
            VLMReward(bad)
    images = torch.zeros(2, 1, 64, 64, 3, dtype=torch.uint8)
    with pytest.raises(SpecError, match="an episode has no instruction that its pictures could be compared with"):
        VLMReward(VLMConfig(alpha=0.0, clip=clip)).score(Episodes({"front": images}, ["point up", " "]))


@needs_open_clip
def test_our_preprocessing_is_open_clips(tmp_path: Path) -> None:
    """The batched squash on the device against the network's own transform of single pictures."""
    from PIL import Image

    from robolearn.networks.open_clip import import_open_clip

    save_untrained(tmp_path)
    clip = OpenClip(OpenClipConfig(model_dir=str(tmp_path)))
    model, _, transform = import_open_clip().create_model_and_transforms(f"local-dir:{tmp_path}")
    large = np.kron(draw_arms(np.random.default_rng(0), 4).images, np.ones((1, 2, 3, 1), np.uint8))  # 128 x 192
    with torch.no_grad():
        theirs = model.eval().encode_image(torch.stack([transform(Image.fromarray(image)) for image in large]))
    ours = clip.images(torch.from_numpy(large))
    cosine = (ours * nn.functional.normalize(theirs, dim=-1)).sum(-1)
    assert cosine.min() > 1 - 1e-4


@needs_open_clip
def test_the_version_is_of_the_weights_and_what_pixels_are_divided_by_and_not_of_the_place(tmp_path: Path) -> None:
    versions = []
    for name, seed, std in (("a", 0, 0.5), ("b", 0, 0.5), ("c", 1, 0.5), ("d", 0, 0.25)):
        save_untrained(tmp_path / name, seed)
        file = tmp_path / name / "open_clip_config.json"
        file.write_text(file.read_text().replace('"std": [\n      0.5', f'"std": [\n      {std}'))
        versions.append(VLMReward(VLMConfig(alpha=0.0, clip=OpenClipConfig(model_dir=str(tmp_path / name)))).version)
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


@needs_open_clip
def test_bfloat16_changes_embeddings_by_little_and_the_version(tmp_path: Path) -> None:
    save_untrained(tmp_path)
    images = torch.from_numpy(draw_arms(np.random.default_rng(0), 8).images)
    exact = OpenClipConfig(model_dir=str(tmp_path))
    rough = replace(exact, precision="bfloat16")
    one, two = (OpenClip(config).images(images) for config in (exact, rough))
    assert two.dtype == torch.float32
    assert 0 < (one - two).abs().max() < 0.05
    assert VLMReward(VLMConfig(alpha=0.0, clip=exact)).version != VLMReward(VLMConfig(alpha=0.0, clip=rough)).version


@needs_open_clip
@pytest.mark.parametrize("bias", [False, True])
def test_the_first_convolution_of_bytes_is_that_of_their_normalised_pixels(bias: bool) -> None:
    """Patches of 3 x 5 pixels, and a rim that belongs to none."""
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(3, 64, (3, 5), stride=(3, 5), bias=bias)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)))
    images = torch.randint(0, 256, (2, 13, 21, 3), dtype=torch.uint8, generator=generator)
    exact = convolution((images.permute(0, 3, 1, 2) - mean) / std).detach()
    found = Patches(convolution, mean, std)(images.permute(0, 3, 1, 2))
    assert found.dtype == torch.bfloat16
    rounded = convolution.bfloat16()(((images.permute(0, 3, 1, 2) - mean) / std).bfloat16()).detach()
    assert (found - exact).abs().mean() < 1.5 * (rounded - exact).abs().mean()


@needs_open_clip
@pytest.mark.parametrize("arch", ["RN50", "ViT-B-32"])
def test_weights_in_bfloat16_err_as_much_as_autocast(arch: str) -> None:
    open_clip = import_open_clip()
    settings = open_clip.get_model_config(arch)
    layers = [1, 1, 1, 1] if arch == "RN50" else 2
    vision = {**settings["vision_cfg"], "image_size": 64, "width": 64, "layers": layers}
    text = {**settings["text_cfg"], "layers": 1, "width": 64, "heads": 1}
    torch.manual_seed(0)
    model = open_clip.CLIP(64, vision, text).eval().requires_grad_(False)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)))
    pixels = torch.from_numpy(draw_arms(np.random.default_rng(0), 8).images).permute(0, 3, 1, 2)
    normalised = (pixels - mean) / std
    exact = nn.functional.normalize(model.encode_image(normalised), dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = nn.functional.normalize(model.encode_image(normalised).float(), dim=-1)
    encoder = in_bfloat16(model, mean, std)
    found = nn.functional.normalize(encoder.encode_image(pixels if arch != "RN50" else normalised.bfloat16()).float())
    assert isinstance(encoder.visual.conv1, Patches) == (arch != "RN50")
    assert (found - exact).norm(dim=-1).mean() < 1.5 * (rounded - exact).norm(dim=-1).mean()
    assert all(values.dtype == torch.float32 for values in model.state_dict().values() if values.is_floating_point())


@needs_open_clip
def test_a_vlm_is_trained_audited_and_saved_like_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It learns nothing, but its folder is what the reward node, `audit` and `require_trusted` take."""
    save_untrained(tmp_path / "clip")
    collect_episodes(CollectConfig("reach-v1", image_size=24), tmp_path / "d", 3)
    clip = ["--model-dir", str(tmp_path / "clip"), "--goal", "the arm points up", "--baseline", "a robot arm"]
    words = ["reward", "train", "vlm", "--dataset", str(tmp_path / "d"), "--out", str(tmp_path / "m")]
    assert run([*words, *clip, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    model = load_reward(tmp_path / "m")
    assert (model.id, model.version, trained["held_out_episodes"]) == ("vlm", trained["version"], 1)
    assert not trained_on(model)  # so it is judged on all episodes
    assert run(["label", str(tmp_path / "d"), "--reward", str(tmp_path / "m"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["column"] == f"reward/vlm-{model.version}"
    elsewhere = Path(shutil.copytree(tmp_path / "clip", tmp_path / "elsewhere"))
    clip[1] = str(elsewhere)  # another place and size of batch: the same column goes on
    assert run(["label", str(tmp_path / "d"), "--reward", "vlm", "--alpha", "0.5", *clip, "--batch-size", "7"]) == 0
    assert "0 episodes (3 had it)" in capsys.readouterr().err
    save_untrained(tmp_path / "clip", seed=1)  # other weights in the same place
    with pytest.raises(CheckpointError, match="one of its files was changed"):
        load_reward(tmp_path / "m")


def rewards_of(directory: Path, arms: ArmImages, goal: str, baseline: str, alpha: float) -> np.ndarray:
    config = VLMConfig((goal,), (baseline,), alpha, clip=OpenClipConfig(model_dir=str(directory)))
    return VLMReward(config).score(Episodes({"front": torch.from_numpy(arms.images)[None]}, [""])).value[0].numpy()


def gates(directory: Path, arms: ArmImages) -> tuple[float, float, float]:
    """Mean over four goals: AUROC of images within 22.5 degrees, Spearman, AUROC of the opposite direction."""
    rows = []
    for name, angle in DIRECTIONS.items():
        reward = rewards_of(directory, arms, f"a robot arm pointing {name}", "a robot arm", 0.0)
        nearness = np.cos(arms.angle - angle)
        near, far = nearness > np.cos(np.pi / 8), nearness < -np.cos(np.pi / 8)
        rows.append((area_under_roc(reward, near), spearman(reward, nearness) or 0.0, area_under_roc(reward, far)))
    auroc, ranks, opposite = np.mean(rows, axis=0)
    return float(auroc), float(ranks), float(opposite)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TinyClipConfig], Path]:
    made: dict[TinyClipConfig, Path] = {}

    def get(config: TinyClipConfig) -> Path:
        if config not in made:
            made[config] = tmp_path_factory.mktemp("clip")
            train_tiny_clip(made[config], config)
        return made[config]

    return get


@needs_open_clip
def test_an_untrained_network_knows_nothing(tmp_path: Path) -> None:
    save_untrained(tmp_path)
    auroc, ranks, _ = gates(tmp_path, draw_arms(np.random.default_rng(99), 200))
    assert auroc == pytest.approx(0.5, abs=0.06)
    assert abs(ranks) <= 0.06


@needs_open_clip
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_fixture_passes_its_gates(trained: Callable[[TinyClipConfig], Path]) -> None:
    """Slow, for it learns all at once: half of a training points nowhere."""
    directory = trained(TinyClipConfig())
    auroc, ranks, opposite = gates(directory, draw_arms(np.random.default_rng(99), 1000))
    assert auroc >= 0.97
    assert ranks >= 0.96
    assert opposite <= 0.10
    assert gates(directory, draw_arms(np.random.default_rng(98), 1000, tuple(UNSEEN_PALETTES)))[0] >= 0.96
    assert gates(directory, draw_arms(np.random.default_rng(97), 1000, bend_rad=(1.7, 2.2)))[0] >= 0.88


@needs_open_clip
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_baseline_removes_what_it_shares_with_the_goal(tmp_path: Path) -> None:
    """Goal prompts that carry a colour: projection helps if and only if the baseline carries it too."""
    train_tiny_clip(tmp_path, TinyClipConfig(6000, steps=700, any_posture=0.0), colour_words=True)
    arms = draw_arms(np.random.default_rng(99), 800)

    def rank_agreement(baseline: str, alpha: float) -> float:
        rows = []
        for name, angle in DIRECTIONS.items():
            reward = rewards_of(tmp_path, arms, f"a blue robot arm pointing {name}", baseline, alpha)
            rows.append(spearman(reward, np.cos(arms.angle - angle)) or 0.0)
        return float(np.mean(rows))

    plain, removed = rank_agreement("a blue robot arm", 0.0), rank_agreement("a blue robot arm", 0.8)
    assert removed > plain + 0.1
    assert rank_agreement("a robot arm", 0.8) == pytest.approx(plain, abs=0.03)  # it does nothing


@needs_open_clip
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_recorded_batches_are_plain_ones_in_any_thread_and_stream(tmp_path: Path) -> None:
    save_untrained(tmp_path)
    clip = OpenClip(OpenClipConfig(model_dir=str(tmp_path), device="cuda", batch_size=16))
    pictures = torch.randint(0, 256, (40, 16, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    counts = [16, 15, 7, 16, 3] * 8  # batches that are filled up, of three recordings
    wanted = [clip.embed(pictures[i, :count].cuda()).cpu() for i, count in enumerate(counts)]

    def ask(first: int) -> list[tuple[int, Tensor]]:
        with torch.cuda.stream(torch.cuda.Stream()):
            return [(i, clip.images(pictures[i, : counts[i]]).cpu()) for i in range(first, 40, 4)]

    torch.cuda.synchronize()
    with ThreadPoolExecutor(4) as pool:
        found = [each for _ in range(3) for part in pool.map(ask, range(4)) for each in part]
    assert len(found) == 120
    for i, embedding in found:
        torch.testing.assert_close(embedding, wanted[i], atol=2e-6, rtol=0)
