"""The ring against a plain list of transitions: truncation, the seam, n steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import ROBOT, dataset, dataset_spec, paint, painted_number
from painted import step as painted_step

from robolearn.datasets.replay_buffer import EpisodeLog, ReplayBuffer, ReplayBufferConfig, logged_rewards
from robolearn.datasets.store import CLOSING_ROW, EpisodeMeta, ImageCodec, Store
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.specs import ArraySpec, InterfaceSpec, image_spec
from robolearn.types import EpisodeOutcome, Observation

SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 30.0)
DISCOUNT = 0.5


def observation(number: int) -> Observation:
    return {"proprio": np.full(4, number, np.float32)}


@dataclass(frozen=True)
class Transition:
    now: int
    following: int
    terminated: bool


def fill(buffer: ReplayBuffer, episodes: list[tuple[int, str]]) -> list[list[Transition]]:
    """Add episodes of (transitions, how they end); the numbers run on. The action and reward are the number."""
    model: list[list[Transition]] = []
    number = 0
    for length, end in episodes:
        buffer.begin(observation(number))
        model.append([])
        for step in range(length):
            last = step == length - 1
            terminated, truncated = last and end == "terminated", last and end == "truncated"
            buffer.append(np.full(2, number), float(number), observation(number + 1), terminated, truncated)
            model[-1].append(Transition(number, number + 1, terminated))
            number += 1
        number += 1
    return model


def survivors(model: list[list[Transition]], capacity: int) -> dict[int, list[Transition]]:
    """Transitions by number whose slot is not overwritten, each with what follows it in its episode."""
    slots = [n for episode in model for n in ([t.now for t in episode] + [episode[-1].following if episode else -1])]
    alive = set(slots[-capacity:])
    return {
        transition.now: episode[place:]
        for episode in model
        for place, transition in enumerate(episode)
        if transition.now in alive
    }


EPISODES = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from(["terminated", "truncated", "running"])), min_size=1, max_size=9
)


@settings(deadline=None)
@given(capacity=st.integers(2, 12), num_steps=st.integers(1, 4), episodes=EPISODES, seed=st.integers(0, 99))
def test_every_sample_is_a_transition_that_happened(
    capacity: int, num_steps: int, episodes: list[tuple[int, str]], seed: int
) -> None:
    buffer = ReplayBuffer(SPEC, ReplayBufferConfig(capacity, num_steps, DISCOUNT))
    alive = survivors(fill(buffer, episodes), capacity)
    assert len(buffer) == len(alive)
    assert buffer.full == (sum(length + 1 for length, _ in episodes) >= capacity)
    if not alive:
        with pytest.raises(DatasetError, match="no transition"):
            buffer.sample(1, np.random.default_rng(0))
        return
    batch = buffer.sample(64, np.random.default_rng(seed))
    for row, now in enumerate(batch["proprio"][:, 0].astype(int)):
        following = alive[now][:num_steps]
        assert batch["action"][row].tolist() == [now, now]
        assert batch["next_proprio"][row, 0] == following[-1].following
        assert batch["reward"][row] == sum(t.now * DISCOUNT**k for k, t in enumerate(following))
        assert batch["bootstrap"][row] == (not following[-1].terminated)
        assert batch["discount"][row] == DISCOUNT ** len(following)


def test_all_transitions_are_drawn_alike() -> None:
    buffer = ReplayBuffer(SPEC, ReplayBufferConfig(30))
    fill(buffer, [(5, "truncated")] * 9)
    drawn = buffer.sample(20_000, np.random.default_rng(0))["proprio"][:, 0]
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == len(buffer) == 25
    assert counts.min() > 0.85 * 800
    assert counts.max() < 1.15 * 800


def test_the_next_observation_of_a_truncated_episode_is_its_own_last_one() -> None:
    buffer = ReplayBuffer(SPEC, ReplayBufferConfig(100))
    buffer.begin(observation(0))
    for number in range(5):
        buffer.append(np.zeros(2), 0.0, observation(number + 1), terminated=False, truncated=number == 4)
    buffer.begin(observation(100))
    batch = buffer.batch(np.array([4]))
    assert (batch["proprio"][0, 0], batch["next_proprio"][0, 0], batch["bootstrap"][0]) == (4, 5, 1)


def test_images_stay_bytes_and_are_not_stored_twice() -> None:
    spec = InterfaceSpec({"image_front": image_spec(16, 16)}, ROBOT.action_spec, 30.0)
    buffer = ReplayBuffer(spec, ReplayBufferConfig(50))
    assert buffer._observation["image_front"].nbytes == 50 * 16 * 16 * 3
    buffer.begin({"image_front": paint(0)})
    for number in range(9):
        buffer.append(np.full(2, number), 0.0, {"image_front": paint(number + 1)}, False, False)
    batch = buffer.sample(20, np.random.default_rng(0))
    for row in range(20):
        number = painted_number(batch["image_front"][row])
        assert painted_number(batch["next_image_front"][row]) == number + 1 == batch["action"][row, 0] + 1


def test_misuse() -> None:
    buffer = ReplayBuffer(SPEC, ReplayBufferConfig(4))
    with pytest.raises(DatasetError, match="begin"):
        buffer.append(np.zeros(2), 0.0, observation(0), False, False)
    buffer.begin(observation(0))
    with pytest.raises(SpecError, match="action has shape"):
        buffer.append(np.zeros(3), 0.0, observation(1), False, False)
    with pytest.raises(SpecError, match="proprio is not finite"):
        buffer.append(np.zeros(2), 0.0, {"proprio": np.full(4, np.nan, np.float32)}, False, False)
    with pytest.raises(DatasetError, match="the reward is nan"):
        buffer.append(np.zeros(2), np.nan, observation(1), False, False)
    assert len(buffer) == 0
    buffer.append(np.zeros(2), 0.0, observation(1), True, False)
    with pytest.raises(DatasetError, match="begin"):
        buffer.append(np.zeros(2), 0.0, observation(2), False, False)
    with pytest.raises(DatasetError, match="capacity"):
        ReplayBuffer(SPEC, ReplayBufferConfig(1))


def test_restored_from_its_log(tmp_path: Path) -> None:
    spec = replace(dataset_spec(ImageCodec("jpegxl")), extra={"reward": ArraySpec(())})
    interface = InterfaceSpec(
        {"proprio": ROBOT.proprio_spec, "image_front": image_spec(16, 16)}, ROBOT.action_spec, control_hz=30.0
    )
    store = ZarrStore.create(tmp_path / "d", spec)
    live = ReplayBuffer(interface, ReplayBufferConfig(100, 3, DISCOUNT))

    def seen(number: int) -> Observation:
        return {**observation(number), "image_front": paint(number)}

    number = 0
    with store.writer() as writer:
        log = EpisodeLog(writer)
        for length, terminated in ((4, True), (1, False), (6, False), (2, True)):
            log.begin(EpisodeMeta(), seen(number))
            live.begin(seen(number))
            for step in range(length):
                last = step == length - 1
                live.append(np.full(2, number), number, seen(number + 1), last and terminated, last and not terminated)
                log.append(np.full(2, number), number, seen(number + 1), {})
                number += 1
            log.commit(EpisodeOutcome(terminated, terminated, not terminated), {})
            number += 1
    restored = ReplayBuffer(interface, ReplayBufferConfig(100, 3, DISCOUNT))
    opened = ZarrStore.open(tmp_path / "d")
    for index in range(len(opened.episodes)):
        restored.extend(opened, index, logged_rewards)
    assert len(restored) == len(live) == 13
    ours, theirs = (b.sample(200, np.random.default_rng(1)) for b in (restored, live))
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


def test_a_demonstration_lacks_its_last_observation(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d", [4])

    def sparse(store: Store, index: int) -> np.ndarray:
        info = store.episodes[index]
        return np.arange(info.length) == info.length - 1

    buffer = ReplayBuffer(SPEC, ReplayBufferConfig(100, 1, DISCOUNT))
    buffer.extend(store, 0, sparse)
    assert len(buffer) == 4  # it terminated: the last action bootstraps from nothing
    batch = buffer.batch(np.arange(4))
    assert batch["bootstrap"].tolist() == [1, 1, 1, 0]
    assert batch["reward"].tolist() == [0, 0, 0, 1]
    assert batch["next_proprio"][:3, 0].tolist() == [1, 2, 3]


def test_where_the_task_was_over_nothing_need_be_seen_after_it(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec())
    with store.writer() as writer:
        for terminated in (True, False):
            writer.begin(EpisodeMeta(tags={CLOSING_ROW: True}))
            for number in range(3):
                writer.append(painted_step(number), {})  # type: ignore[arg-type]
            writer.append({}, {})  # the last observation was lost
            writer.commit(EpisodeOutcome(terminated, terminated, not terminated))
    buffer = ReplayBuffer(SPEC, ReplayBufferConfig(100, 1, DISCOUNT))
    for index, number in enumerate((3, 2)):
        before = len(buffer)
        buffer.extend(store, index, lambda store, index: np.arange(4) == 2)
        assert len(buffer) == before + number
    assert buffer.batch(np.array([2]))["reward"].tolist() == [1]
    assert buffer.batch(np.array([2]))["bootstrap"].tolist() == [0]


def test_missing_commands_at_the_end_make_no_earlier_transition_terminal(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec())
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        for number in range(5):
            values = painted_step(number)
            if number >= 3:
                del values["action"]
            writer.append(values, {})  # type: ignore[arg-type]
        writer.commit(EpisodeOutcome(True, True, False))
    buffer = ReplayBuffer(SPEC, ReplayBufferConfig(100, 1, DISCOUNT))
    buffer.extend(store, 0, lambda store, index: np.zeros(5))
    assert len(buffer) == 3
    assert buffer.batch(np.arange(3))["bootstrap"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("unfinished", "cut_off"), [(0.0, [3.0, 4.0, 4.0]), (-8.0, [2.0, 2.0, 0.0]), (None, [3.0, 4.0, 4.0])]
)
def test_returns_are_summed_when_an_episode_ends(unfinished: float | None, cut_off: list[float]) -> None:
    spec = InterfaceSpec({"proprio": ArraySpec((1,))}, ArraySpec((1,)), 10.0)
    buffer = ReplayBuffer(spec, ReplayBufferConfig(capacity=20, discount=0.5, unfinished=unfinished))

    def see(value: float) -> dict[str, np.ndarray]:
        return {"proprio": np.array([value], np.float32)}

    for rewards, truncated in (([1.0, 2.0, 4.0], True), ([8.0], False), ([3.0, 3.0], False)):
        buffer.begin(see(rewards[0]))
        for i, reward in enumerate(rewards):
            last = truncated and i == len(rewards) - 1
            buffer.append(np.zeros(1, np.float32), reward, see(0.0), len(rewards) == 1, last)
    returns = buffer.batch(np.flatnonzero(buffer.state_dict()["acted"]))["return_to_go"]
    np.testing.assert_array_equal(returns, [*cut_off, 8.0, -np.inf, -np.inf])


def test_what_comes_after_a_cut_is_as_bad_as_the_worst_so_far() -> None:
    spec = InterfaceSpec({"proprio": ArraySpec((1,))}, ArraySpec((1,)), 10.0)
    buffer = ReplayBuffer(spec, ReplayBufferConfig(capacity=20, discount=0.5))
    here = {"proprio": np.zeros(1, np.float32)}
    for rewards in ([-1.0, -3.0], [2.0]):
        buffer.begin(here)
        for i, reward in enumerate(rewards):
            buffer.append(np.zeros(1, np.float32), reward, here, False, i == len(rewards) - 1)
    returns = buffer.batch(np.flatnonzero(buffer.state_dict()["acted"]))["return_to_go"]
    np.testing.assert_array_equal(returns, [-4.0, -6.0, -1.0])  # -3 for ever is worth -6


def test_a_restored_buffer_goes_on_as_the_first() -> None:
    spec = InterfaceSpec({"proprio": ArraySpec((2,))}, ArraySpec((1,)), 10.0)
    config = ReplayBufferConfig(capacity=17, num_steps=2)
    whole, second = ReplayBuffer(spec, config), ReplayBuffer(spec, config)
    rng = np.random.default_rng(0)
    whole.begin({"proprio": np.zeros(2, np.float32)})
    for step in range(60):
        if step == 40:
            second.load_state_dict({name: values.copy() for name, values in whole.state_dict().items()})
        action, seen = rng.normal(size=1).astype(np.float32), {"proprio": rng.normal(size=2).astype(np.float32)}
        for buffer in (whole, second) if step >= 40 else (whole,):
            buffer.append(action, float(step), seen, step % 7 == 6, False)
            if step % 7 == 6:
                buffer.begin(seen)
    first, other = (buffer.sample(50, np.random.default_rng(1)) for buffer in (whole, second))
    for name, values in first.items():
        np.testing.assert_array_equal(values, other[name])
