from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painted import dataset, dataset_spec, painted_number, record, stamps, step

from robolearn.datasets.goals import HIQL
from robolearn.datasets.sampler import Sampler, SamplerConfig, TransitionConfig, split_episodes
from robolearn.datasets.store import CLOSING_ROW, EpisodeMeta, WriterConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.specs import ArraySpec
from robolearn.types import ActionSource, EpisodeOutcome

SUCCESS = EpisodeOutcome(True, True, False)
LENGTHS = (1, 2, 5, 13, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    return dataset(tmp_path_factory.mktemp("sampler") / "d", LENGTHS)


@pytest.mark.parametrize("images", ["uint8", "float32"])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_pictures_are_given_as_the_means_of_their_blocks(store: ZarrStore, cache_bytes: int, images: Any) -> None:
    rng = np.random.default_rng(0)
    config = SamplerConfig(("image_front",), cache_bytes=cache_bytes, images=images)
    steps = Sampler(store, config).draw(8, rng)
    whole = Sampler(store, config).batch(steps)["image_front"].astype(np.float64)
    for block in (1, 2, 5):
        height, width = whole.shape[1] // block, whole.shape[2] // block
        seen = Sampler(store, replace(config, shrink=block)).batch(steps)["image_front"]
        assert seen.shape == (8, height, width, 3)
        assert seen.dtype == np.dtype(images)
        cut = whole[:, : height * block, : width * block]
        means = cut.reshape(8, height, block, width, block, 3).mean((2, 4))
        np.testing.assert_allclose(seen, means, atol=0.51 if images == "uint8" else 0.51 / 255)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    horizon=st.integers(1, 20),
    observations=st.integers(1, 4),
    episodes=st.lists(st.sampled_from(range(len(LENGTHS))), min_size=1, unique=True),
    cached=st.booleans(),
    seed=st.integers(0, 9),
)
def test_no_window_crosses_an_episode(
    store: ZarrStore, horizon: int, observations: int, episodes: list[int], cached: bool, seed: int
) -> None:
    config = SamplerConfig(("proprio", "image_front"), horizon, observations, cache_bytes=(1 << 20) if cached else 0)
    sampler = Sampler(store, config, episodes)
    assert sampler.num_starts == sum(LENGTHS[index] for index in episodes)
    batch = sampler.sample(16, np.random.default_rng(seed))
    episode_of = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    ends = np.cumsum(LENGTHS)
    for row in range(16):
        proprio = batch["proprio"][row].reshape(observations, -1)[:, 0].astype(int)
        now = proprio[-1]
        episode = int(episode_of[now])
        assert episode in episodes
        first, last = ends[episode] - LENGTHS[episode], ends[episode] - 1
        wanted = [max(now - back, first) for back in range(observations - 1, -1, -1)]
        assert proprio.tolist() == wanted
        images = batch["image_front"][row].reshape(observations, *batch["image_front"].shape[-3:])
        assert [painted_number(image) for image in images] == wanted
        assert batch["action"][row, :, 0].tolist() == [min(now + k, last) for k in range(horizon)]
        assert batch["action_mask"][row].tolist() == [now + k <= last for k in range(horizon)]


DISCOUNT = 0.9


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    """Episodes of all kinds: short ones, ones that are closed by a row without an action, with things missing."""
    spec = replace(dataset_spec(cameras=()), extra={"reward": ArraySpec(())})
    store = ZarrStore.create(tmp_path_factory.mktemp("odd") / "d", spec)
    rng, number = np.random.default_rng(0), 0
    with store.writer(WriterConfig(fsync=False, statistics=False)) as writer:
        for _ in range(40):
            length, closed = int(rng.integers(1, 7)), bool(rng.random() < 0.5)
            writer.begin(EpisodeMeta(tags={CLOSING_ROW: True} if closed else {}))
            for row in range(length):
                values = {"proprio": np.full(4, number + 1, np.float32), "action": np.full(2, number, np.float32)}
                values["reward"] = np.float32(rng.normal() if rng.random() < 0.9 else np.nan)
                for name in ("proprio", "action"):
                    if (name == "action" and closed and row == length - 1) or rng.random() < 0.1:
                        del values[name]
                writer.append(values, {})
                number += 1
            success, terminated = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
            writer.commit(EpisodeOutcome(success, terminated, not terminated))
    assert {0, 1} <= {info.num_actions for info in store.episodes}
    return store


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    episodes=st.lists(st.integers(0, 39), min_size=1, max_size=12, unique=True),
    num_steps=st.integers(1, 4),
    rewarded=st.sampled_from(["success", "reward"]),
)
def test_transitions_against_a_plain_walk(odd: ZarrStore, episodes: list[int], num_steps: int, rewarded: str) -> None:
    """What every step leads to, an episode at a time, as one would write it down."""
    wanted: list[tuple[int, float, float, int, float]] = []  # step, reward, bootstrap, next step, discount
    returns: list[tuple[int, int, float, float]] = []  # per transition: its return within, and the cut's factor
    first, seen_rewards = 0, []
    for index in episodes:
        info, valid = odd.episodes[index], odd.read_valid(index)
        over = info.terminated or (rewarded == "success" and bool(info.success))
        reward = np.zeros(info.length)
        known = np.ones(info.length, bool)
        if rewarded == "reward":
            known = valid["reward"]
            reward = np.where(known, odd.read(index, ["reward"])["reward"], 0.0)
        elif info.num_actions:
            reward[info.num_actions - 1] = float(bool(info.success))
        final = info.num_actions - 1
        acted = [
            valid["action"][t]
            and known[t]
            and valid["proprio"][t]
            and ((t + 1 < info.length and valid["proprio"][t + 1]) or (t == final and over))
            for t in range(info.length)
        ]
        seen_rewards += [reward[t] for t in range(info.length) if acted[t]]
        for t in range(info.length):
            if not acted[t]:
                continue
            total, factor, now = 0.0, 1.0, t
            while True:
                total, factor, ended = total + factor * reward[now], factor * DISCOUNT, now == final and over
                now += 1
                if ended or now - t == num_steps or now >= info.length or not acted[now]:
                    break
            wanted.append((first + t, total, float(not ended), first + min(now, info.length - 1), factor))
            ahead = sum(DISCOUNT ** (k - t) * reward[k] for k in range(t, info.num_actions))
            returns.append((first + t, final, ahead, 0.0 if over else DISCOUNT ** (info.num_actions - t)))
        first += info.length
    config = SamplerConfig(("proprio",), transition=TransitionConfig(rewarded, num_steps, DISCOUNT))
    if not wanted:
        with pytest.raises(DatasetError, match="nothing to learn from"):
            Sampler(odd, config, episodes)
        return
    sampler = Sampler(odd, config, episodes)
    assert sampler.starts.tolist() == [step for step, *_ in wanted]
    batch = sampler.batch(sampler.starts)
    proprio = np.concatenate([odd.read(index, ["proprio"])["proprio"] for index in episodes])
    steps, rewards, bootstraps, following, factors = (np.array(each) for each in zip(*wanted, strict=True))
    np.testing.assert_allclose(batch["reward"], rewards, atol=1e-5)
    np.testing.assert_array_equal(batch["bootstrap"], bootstraps)
    np.testing.assert_allclose(batch["discount"], factors, rtol=1e-5)
    np.testing.assert_array_equal(batch["proprio"], proprio[steps])
    np.testing.assert_array_equal(batch["next_proprio"][bootstraps > 0], proprio[following][bootstraps > 0])
    cut = min(*seen_rewards, 0.0) / (1 - DISCOUNT)
    np.testing.assert_allclose(batch["return_to_go"], [ahead + f * cut for *_, ahead, f in returns], atol=1e-4)


def test_a_goal_is_an_observation_that_was_there(odd: ZarrStore) -> None:
    batch = Sampler(odd, SamplerConfig(("proprio",), goals=HIQL)).sample(500, np.random.default_rng(0))
    every = range(len(odd.episodes))
    there = [odd.read(index, ["proprio"])["proprio"][odd.read_valid(index)["proprio"], 0] for index in every]
    assert np.isin(batch["goal_proprio"][:, 0], np.concatenate(there)).all()
    np.testing.assert_array_equal(batch["goal_reached"], batch["goal_proprio"][:, 0] == batch["proprio"][:, 0])


@pytest.mark.parametrize(
    "config",
    [
        SamplerConfig(("proprio",), draw_weights="proprio"),
        SamplerConfig(("proprio",), transition=TransitionConfig("action")),
    ],
)
def test_a_vector_is_no_weight_and_no_reward(odd: ZarrStore, config: SamplerConfig) -> None:
    with pytest.raises(DatasetError, match="a step, wanted one number"):
        Sampler(odd, config)


def test_shapes_and_types(store: ZarrStore) -> None:
    batch = Sampler(store, SamplerConfig(("proprio", "image_front"), 4)).sample(3, np.random.default_rng(0))
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
        "proprio": ((3, 4), np.dtype("float32")),
        "image_front": ((3, 16, 16, 3), np.dtype("uint8")),
        "action": ((3, 4, 2), np.dtype("float32")),
        "action_mask": ((3, 4), np.dtype("bool")),
    }
    floats = Sampler(store, SamplerConfig(("image_front",), images="float32")).sample(3, np.random.default_rng(0))
    assert floats["image_front"].dtype == np.float32
    assert 0 <= floats["image_front"].min() < 0.1 < 0.9 < floats["image_front"].max() <= 1


def test_the_generator_alone_decides(store: ZarrStore) -> None:
    config = SamplerConfig(("proprio", "image_wrist"), 3)
    first = Sampler(store, config).sample(32, np.random.default_rng(5))
    second = Sampler(store, SamplerConfig(config.fields, 3, cache_bytes=0)).sample(32, np.random.default_rng(5))
    other = Sampler(store, config).sample(32, np.random.default_rng(6))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert (first["proprio"] != other["proprio"]).any()


def annotated(path: Path, sources: Sequence[ActionSource], held: Sequence[int], lost: Sequence[int]) -> ZarrStore:
    store = ZarrStore.create(path, dataset_spec())
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        for number, source in enumerate(sources):
            values = step(number, source, number in held)
            if number in lost:
                del values["image_front"]
            writer.append(values, stamps(number))  # type: ignore[arg-type]
        writer.commit(SUCCESS)
    return store


def test_what_is_not_to_be_imitated_is_masked_and_may_be_observed(tmp_path: Path) -> None:
    script, noise = ActionSource.SCRIPT, ActionSource.PERTURBATION
    store = annotated(tmp_path / "d", [script, noise, noise, script, script, script], held=[4], lost=[])
    sampler = Sampler(store, SamplerConfig(("proprio",), 3))
    batch = sampler.batch(np.arange(6))
    assert batch["action_mask"].tolist() == [
        [True, False, False],
        [False, False, True],
        [False, True, False],
        [True, False, True],
        [False, True, False],
        [True, False, False],
    ]
    assert sampler.num_starts == 6
    for config in (SamplerConfig(("proprio",), 1), SamplerConfig(("proprio",), 3, imitable_start=True)):
        drawn = Sampler(store, config).sample(100, np.random.default_rng(0))
        assert set(drawn["proprio"][:, 0]) == {0, 3, 5}
        assert drawn["action_mask"][:, 0].all()


def test_steps_without_an_image_are_not_observed(tmp_path: Path) -> None:
    store = annotated(tmp_path / "d", [ActionSource.SCRIPT] * 6, held=[], lost=[2, 5])
    drawn = Sampler(store, SamplerConfig(("proprio", "image_front"), 2)).sample(100, np.random.default_rng(0))
    assert set(drawn["proprio"][:, 0]) == {0, 1, 3, 4}
    assert [painted_number(i) for i in drawn["image_front"]] == drawn["proprio"][:, 0].astype(int).tolist()
    stacked = Sampler(store, SamplerConfig(("proprio", "image_front"), 1, 2)).sample(100, np.random.default_rng(0))
    assert set(stacked["proprio"][:, 1, 0]) == {0, 1, 4}


def test_nothing_to_learn_from(tmp_path: Path, store: ZarrStore) -> None:
    perturbed = annotated(tmp_path / "d", [ActionSource.PERTURBATION] * 3, [], [])
    with pytest.raises(DatasetError, match="nothing to learn from in 1 episodes"):
        Sampler(perturbed, SamplerConfig(("proprio",), 2))
    with pytest.raises(DatasetError, match="nothing to learn from in 0 episodes"):
        Sampler(store, SamplerConfig(("proprio",), 2), episodes=[])
    with pytest.raises(UnknownNameError, match="image_front"):
        Sampler(store, SamplerConfig(("image_frond",), 2))


def test_episodes_appended_later_need_a_new_sampler(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d", [4])
    sampler = Sampler(store, SamplerConfig(("proprio", "image_front"), 1))
    with store.writer() as writer:
        record(writer, 4, 100)
    batch = sampler.sample(50, np.random.default_rng(0))
    assert set(batch["proprio"][:, 0]) == {0, 1, 2, 3}
    assert [painted_number(i) for i in batch["image_front"]] == batch["proprio"][:, 0].astype(int).tolist()


@given(st.integers(0, 50), st.floats(0, 0.99), st.integers(0, 5))
def test_split_covers_every_episode_once(number: int, fraction: float, seed: int) -> None:
    train, validation = split_episodes(number, fraction, seed)
    assert sorted(train + validation) == list(range(number))
    assert (train, validation) == split_episodes(number, fraction, seed)
    if number > 1 and fraction > 0:
        assert train
        assert validation
