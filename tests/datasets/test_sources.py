"""What batches hold beyond windows of steps: transitions, goals, weights, mixtures; and the loader around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import ROBOT, SUCCESS, dataset, dataset_spec, painted_number, record, step

from robolearn.datasets.goals import HER, HIQL, GoalConfig, draw_goals
from robolearn.datasets.loader import Loader, LoaderConfig
from robolearn.datasets.mixture import Mixture
from robolearn.datasets.priorities import Priorities
from robolearn.datasets.replay_buffer import EpisodeLog, ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.sampler import Sampler, SamplerConfig, TransitionConfig
from robolearn.datasets.store import EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.specs import ArraySpec, InterfaceSpec
from robolearn.types import EpisodeOutcome

LENGTHS = (1, 4, 2, 7)
ENDS = ("terminated", "truncated", "terminated", "truncated")
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 30.0)
DISCOUNT = 0.5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    """Numbers run on; the reward of a step is its number."""
    store = ZarrStore.create(tmp_path_factory.mktemp("sources") / "d", dataset_spec())
    number = 0
    with store.writer() as writer:
        for length, end in zip(LENGTHS, ENDS, strict=True):
            writer.begin(EpisodeMeta())
            for _ in range(length):
                writer.append(step(number), {})  # type: ignore[arg-type]
                number += 1
            over = end == "terminated"
            writer.commit(EpisodeOutcome(over, over, not over))
    for name, values in (("reward/number-1", lambda n: n), ("weights/even-1", lambda n: (n % 2 == 0) * (1.0 + n))):
        with store.column_writer(name, ArraySpec(()), {}) as writer:
            for index in range(len(LENGTHS)):
                writer.write(index, [values(n) for n in store.read(index, ["action"])["action"][:, 0]])
    return store


@pytest.mark.parametrize("num_steps", [1, 2, 3, 20])
@pytest.mark.parametrize("stack", [1, 2])
def test_transitions_are_those_of_a_plain_loop(store: ZarrStore, num_steps: int, stack: int) -> None:
    transition = TransitionConfig("reward/number-1", num_steps, DISCOUNT)
    sampler = Sampler(store, SamplerConfig(("proprio", "image_front"), 1, stack, transition=transition))
    number, starts = 0, set()
    for length, end in zip(LENGTHS, ENDS, strict=True):
        first, last = number, number + length - 1
        for now in range(first, last + 1):
            if now == last and end == "truncated":
                continue  # nobody saw what came of it
            starts.add(now)
            reward, factor, after, over = 0.0, 1.0, now, False
            for _ in range(num_steps):
                reward += factor * after
                factor *= DISCOUNT
                over = after == last and end == "terminated"
                after += 1
                if over or (after == last and end == "truncated"):
                    break
            batch = sampler.batch(np.array([now]))
            assert batch["reward"][0] == pytest.approx(reward)
            assert batch["bootstrap"][0] == (not over)
            assert batch["discount"][0] == pytest.approx(factor)
            seen = batch["next_proprio"][0].reshape(stack, -1)[:, 0].astype(int).tolist()
            images = batch["next_image_front"][0].reshape(stack, 16, 16, 3)
            if not over:
                assert seen == [max(after - back, first) for back in reversed(range(stack))]
            assert [painted_number(image) for image in images] == seen
        number += length
    drawn = sampler.sample(500, np.random.default_rng(0))["proprio"].reshape(500, stack, -1)[:, -1, 0]
    assert set(drawn.astype(int)) == starts


def test_success_is_a_reward_at_the_end(store: ZarrStore) -> None:
    sampler = Sampler(store, SamplerConfig(("proprio",), transition=TransitionConfig()))
    batch = sampler.batch(np.arange(7))
    assert batch["reward"].tolist() == [1, 0, 0, 0, 0, 0, 1]


def test_an_episode_log_bootstraps_from_its_last_observation(tmp_path: Path) -> None:
    spec = dataset_spec(cameras=())
    store = ZarrStore.create(tmp_path / "d", type(spec)(spec.robot, SPEC, extra={"reward": ArraySpec(())}))
    with store.writer() as writer:
        log = EpisodeLog(writer)
        for over in (True, False):
            log.begin(EpisodeMeta(), {"proprio": np.full(4, 0, np.float32)})
            for number in range(3):
                log.append(np.zeros(2), float(number), {"proprio": np.full(4, number + 1, np.float32)}, {})
            log.commit(EpisodeOutcome(over, over, not over), {})
    sampler = Sampler(store, SamplerConfig(("proprio",), transition=TransitionConfig("reward")))
    assert sampler.num_starts == 6
    batch = sampler.batch(np.array([0, 1, 2, 4, 5, 6]))
    assert batch["next_proprio"][:, 0].tolist() == [1, 2, 3, 1, 2, 3]
    assert batch["bootstrap"].tolist() == [1, 1, 0, 1, 1, 1]
    assert batch["reward"].tolist() == [0, 1, 2, 0, 1, 2]


@settings(deadline=None)
@given(
    shares=st.tuples(*[st.integers(0, 3)] * 4).filter(any),
    offset=st.sampled_from(["uniform", "geometric"]),
    seed=st.integers(0, 99),
)
def test_goals_are_where_they_should_be(shares: tuple[int, ...], offset: str, seed: int) -> None:
    current, future, final, other = (share / sum(shares) for share in shares)
    config = GoalConfig(current, future, final, other, offset)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 100, 64)
    last = steps // 10 * 10 + 9
    goals = draw_goals(steps, last, 100, config, 0.9, rng)
    assert ((goals >= 0) & (goals < 100)).all()
    inside = (goals >= steps) & (goals <= last)
    assert inside.all() or other
    if not (future or other):
        assert np.isin(goals - steps, [0]).all() or final
        assert ((goals == steps) | (goals == last)).all()
    if not (current or other):
        assert ((goals > steps) | (steps == last)).all()


def test_goals_come_in_their_shares() -> None:
    rng = np.random.default_rng(0)
    steps = np.full(20_000, 100)
    goals = draw_goals(steps, np.full(20_000, 200), 1_000_000, HIQL, 0.9, rng)
    assert np.mean(goals == 100) == pytest.approx(0.2, abs=0.01)
    future = (goals > 100) & (goals <= 200)
    assert np.mean(future) == pytest.approx(0.5, abs=0.01)
    assert goals[future].mean() == pytest.approx(150.5, abs=1.5)  # uniform over 101 to 200
    ahead = [
        draw_goals(steps, np.full(20_000, 10**6), 10**7, GoalConfig(0, 1, 0, 0, "geometric"), discount, rng).mean()
        - 100
        for discount in (0.5, 0.9)
    ]
    assert ahead == pytest.approx([2, 10], rel=0.05)  # 1 / (1 - discount)
    her = draw_goals(steps, np.full(20_000, 200), 1_000_000, HER, 0.9, rng)
    assert np.mean(her == 200) == pytest.approx(0.2 + 0.8 / 100, abs=0.01)


def test_goals_reward_what_reaches_them(store: ZarrStore) -> None:
    config = SamplerConfig(("proprio", "image_front"), transition=TransitionConfig(), goals=HIQL)
    batch = Sampler(store, config).sample(400, np.random.default_rng(0))
    now, goal = batch["proprio"][:, 0], batch["goal_proprio"][:, 0]
    np.testing.assert_array_equal(batch["goal_reached"], now == goal)
    np.testing.assert_array_equal(batch["reward"], np.where(now == goal, 0, -1))
    np.testing.assert_array_equal(batch["bootstrap"], now != goal)
    assert [painted_number(image) for image in batch["goal_image_front"]] == goal.astype(int).tolist()
    assert 0 < batch["goal_reached"].mean() < 1
    batch = Sampler(store, SamplerConfig(("proprio",), transition=TransitionConfig(), goals=HER)).sample(
        400, np.random.default_rng(0)
    )
    ends = np.cumsum(LENGTHS) - 1
    last = ends[np.searchsorted(ends, batch["proprio"][:, 0])]
    reached = np.minimum(batch["proprio"][:, 0] + 1, last) == batch["goal_proprio"][:, 0]
    np.testing.assert_array_equal(batch["goal_reached"], reached)
    for goals in (HIQL, HER):  # an end after which nothing was seen leads nowhere, to itself neither
        sampler = Sampler(store, SamplerConfig(("proprio",), transition=TransitionConfig(), goals=goals))
        batch = sampler.batch(sampler.starts, sampler.starts)
        np.testing.assert_array_equal(batch["next_proprio"][:, 0], batch["proprio"][:, 0] + 1)
    with pytest.raises(DatasetError, match="num_steps to 1"):
        Sampler(store, SamplerConfig(("proprio",), transition=TransitionConfig(num_steps=2), goals=HER))
    with pytest.raises(DatasetError, match="add up to 1"):
        GoalConfig(current=0.9)


def test_draws_in_proportion_to_a_column(store: ZarrStore) -> None:
    sampler = Sampler(store, SamplerConfig(("proprio", "weights/even-1"), draw_weights="weights/even-1"))
    batch = sampler.sample(20_000, np.random.default_rng(0))
    numbers, counts = np.unique(batch["proprio"][:, 0], return_counts=True)
    assert numbers.tolist() == [0, 2, 4, 6, 8, 10, 12]
    np.testing.assert_allclose(counts / 20_000, (1 + numbers) / (1 + numbers).sum(), atol=0.01)
    np.testing.assert_array_equal(batch["weights/even-1"], 1 + batch["proprio"][:, 0])


@settings(deadline=None)
@given(
    size=st.integers(1, 40),
    changes=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 5)), min_size=1, max_size=60),
    seed=st.integers(0, 9),
)
def test_priorities_against_a_plain_list(size: int, changes: list[tuple[int, int]], seed: int) -> None:
    tree, weights = Priorities(size), np.zeros(size)
    for item, weight in changes:
        tree.set(np.array([item % size]), weight)
        weights[item % size] = weight
    np.testing.assert_array_equal(tree.get(np.arange(size)), weights)
    assert tree.total == weights.sum()
    if not weights.any():
        with pytest.raises(DatasetError, match="weighs nothing"):
            tree.draw(1, np.random.default_rng(0))
        return
    drawn = tree.draw(2000, np.random.default_rng(seed))
    share = np.bincount(drawn, minlength=size) / 2000
    assert (share[weights == 0] == 0).all()
    np.testing.assert_allclose(share, weights / weights.sum(), atol=0.07)


def test_priorities_refuse_nonsense() -> None:
    tree = Priorities(3)
    for weight in (-1.0, np.nan, np.inf):
        with pytest.raises(DatasetError, match="finite numbers"):
            tree.set(np.array([0]), weight)
    with pytest.raises(DatasetError, match="there are 3"):
        tree.set(np.array([3]), 1.0)
    tree.set(np.zeros(0, np.int64), [])
    assert tree.total == 0


def test_a_mixture_keeps_its_ratio(store: ZarrStore) -> None:
    buffer = ReplayBuffer(SPEC, ReplayBufferConfig(100))
    buffer.begin({"proprio": np.full(4, 1000, np.float32)})
    for number in range(1001, 1010):
        buffer.append(np.zeros(2), 0.0, {"proprio": np.full(4, number, np.float32)}, False, False)
    flat = SamplerConfig(("proprio",), transition=TransitionConfig())
    mixture = Mixture([(Sampler(store, flat), 3.0), (buffer, 1.0)])
    assert mixture.counts(256) == [192, 64]
    assert [sum(mixture.counts(n)) for n in range(1, 20)] == list(range(1, 20))
    with pytest.raises(DatasetError, match="above 0"):
        Mixture([(buffer, 0.0)])
    batch = mixture.sample(256, np.random.default_rng(0))
    assert set(batch) == set(buffer.sample(1, np.random.default_rng(0)))
    assert (batch["proprio"][:192, 0] < 1000).all()
    assert (batch["proprio"][192:, 0] >= 1000).all()
    assert {len(values) for values in batch.values()} == {256}
    out = {name: np.zeros_like(values) for name, values in batch.items()}
    mixture.sample(256, np.random.default_rng(0), out)
    for name, values in batch.items():
        np.testing.assert_array_equal(out[name], values)
    fresh = Mixture([(Sampler(store, flat), 3.0), (buffer, 1.0)])
    assert set(fresh.sample(1, np.random.default_rng(0))) == set(batch)  # though it is of one source


@pytest.mark.parametrize("images", ["uint8", "float32"])
@pytest.mark.parametrize("cache", ["none", "memory", "files"])
def test_out_cache_and_generator_agree(store: ZarrStore, tmp_path: Path, images: str, cache: str) -> None:
    config = SamplerConfig(
        ("proprio", "image_front"),
        3,
        2,
        0 if cache == "none" else 1 << 20,
        images,  # type: ignore[arg-type]
        cache_folder=tmp_path if cache == "files" else None,
        transition=TransitionConfig(),
        goals=GoalConfig(),
    )
    sampler = Sampler(store, config)
    wanted = Sampler(store, SamplerConfig(**{**vars(config), "cache_bytes": 0})).sample(16, np.random.default_rng(3))
    out = {name: np.full_like(values, 7) for name, values in wanted.items()}
    for _ in range(2):
        got = sampler.sample(16, np.random.default_rng(3), out)
        for name, values in wanted.items():
            assert got[name] is out[name]
            np.testing.assert_array_equal(got[name], values, err_msg=name)


def test_a_loader_gives_the_same_batches_however_it_runs(store: ZarrStore) -> None:
    config = SamplerConfig(("proprio", "image_front"), 2, cache_bytes=0)

    def batches(position: int, number: int, workers: int) -> list[dict[str, torch.Tensor]]:
        with Loader(Sampler(store, config), LoaderConfig(8, 5, workers), position) as loader:
            found = [next(loader) for _ in range(number)]
            assert loader.position == position + number
        return found

    whole = batches(0, 6, 1)
    for position, workers in ((0, 3), (2, 2), (5, 4)):
        for ours, theirs in zip(batches(position, 6 - position, workers), whole[position:], strict=True):
            assert ours.keys() == theirs.keys()
            for name, tensor in ours.items():
                assert torch.equal(tensor, theirs[name]), name
    assert whole[0]["image_front"].dtype == torch.uint8
    assert not torch.equal(whole[0]["proprio"], whole[1]["proprio"])


def test_a_loader_raises_what_its_threads_meet(tmp_path: Path) -> None:
    damaged = dataset(tmp_path / "d", [30])
    sampler = Sampler(damaged, SamplerConfig(("image_front",), cache_bytes=0))
    with Loader(sampler, LoaderConfig(4)) as loader:
        next(loader)
        with damaged.writer() as writer:
            record(writer, 2, 30)  # makes the readers look again
        for shard in (tmp_path / "d" / "image_front").glob("c.*"):
            shard.unlink()
        with pytest.raises(DatasetError, match="misses this shard"):
            [next(loader) for _ in range(10)]
    assert SUCCESS.success
