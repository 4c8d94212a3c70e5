"""What reward models are shown of a dataset, and how that is read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_env import tool_space
from robolearn.errors import DatasetError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.finetune.data import decision_steps
from robolearn.recipes.rewards import encoding
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.encoding import ImagePool, steps_of
from robolearn.recipes.rewards.label import label_dataset
from robolearn.recipes.rewards.policy import twin_task
from robolearn.recipes.rewards.read_ahead import ReadAhead
from robolearn.recipes.rewards.tool_policy import labelled_buffer
from robolearn.rewards.saved import load_reward
from robolearn.specs import ArraySpec


def test_what_was_lost_is_seen_as_it_was_before(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = RewardData(dataset)
    images, states, truth = data.images(0, "front"), data.store.read(0, ["proprio"])["proprio"], data.truth(0)
    assert truth is not None
    assert states[3].any()
    there = np.ones(len(images), bool)
    there[[0, 4, 5]] = False
    read, stamped = data.store.read, data.store.spec.stamped_fields

    def with_gaps(index: int, names: Sequence[str], **more: Any) -> dict[str, Any]:
        rows = read(index, names, **more)
        for values in rows.values():
            values[~there] = 0
        return rows

    monkeypatch.setattr(data.store, "read_valid", lambda index: dict.fromkeys(stamped, there))
    monkeypatch.setattr(data.store, "read", with_gaps)
    newest = [1, 1, 2, 3, 3, 3, 6]
    np.testing.assert_array_equal(data.images(0, "front")[:7], images[newest])
    shown = data.episodes([0], ()).proprio
    np.testing.assert_array_equal(shown[0, :7], states[newest])  # type: ignore[index]
    judged = data.truth(0)
    np.testing.assert_array_equal(judged.progress[:7], truth.progress[newest])  # type: ignore[union-attr]
    there[:] = False
    assert data.truth(0) is None


@pytest.mark.parametrize("kept_bytes", [0, 1 << 30])
def test_a_trainer_is_shown_the_same_images_of_a_large_dataset_as_of_a_small_one(
    kept_bytes: int, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And holds no more of them than it wants at once."""
    monkeypatch.setattr(encoding, "KEPT_BYTES", kept_bytes)
    data = RewardData(dataset)
    indices, read_valid = [5, 2, 0, 7] * 20, data.store.read_valid

    def losing(index: int) -> dict[str, np.ndarray]:
        valid = read_valid(index)["image_front"].copy()
        valid[[0, 4, 5]] = index != 2
        return {"image_front": valid}

    monkeypatch.setattr(data.store, "read_valid", losing)
    whole = np.concatenate([data.images(index, "front") for index in indices])
    drawn = np.random.default_rng(0).integers(len(whole), size=(40, 16))
    tracemalloc.start()
    pool = ImagePool(data, ("front",), steps_of(data, indices))
    for rows in torch.from_numpy(drawn):
        np.testing.assert_array_equal(pool.get("front", rows), whole[rows])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (peak < 0.5 * whole.nbytes) == (kept_bytes == 0)


def test_stages_come_from_predicates_and_annotations_go_first(dataset: Path) -> None:
    from robolearn.datasets.edit import annotate
    from robolearn.datasets.store import Annotation

    data = RewardData(dataset)
    by_task = data.stage_targets(0)
    assert by_task is not None
    assert by_task[0] == data.truth(0).stages  # type: ignore[union-attr]
    length = data.store.episodes[0].length
    annotate(dataset, 0, [Annotation(0, 5, "go"), Annotation(5, length, "stay")])
    stages, targets = RewardData(dataset).stage_targets(0)  # type: ignore[misc]
    assert stages == ("go", "stay")
    assert targets.stage.tolist() == [0] * 5 + [1] * (length - 5)
    assert RewardData(dataset).stage_targets(3) is None  # by a failing demonstrator


def test_a_task_judges_its_episodes_with_whatever_robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect_episodes(CollectConfig("reach-v1@panda", image_size=24), tmp_path / "d", 1)
    data = RewardData(tmp_path / "d")
    assert data.truth(0).progress[-1] == 1.0  # type: ignore[union-attr]
    assert twin_task(tmp_path / "d") == "reach-v1@panda"
    monkeypatch.setattr(data.store, "_episodes", (replace(data.store.episodes[0], task="reach-v1@lost.xml"),))
    assert data.truth(0) is None  # nobody here knows its arm


def test_pictures_of_several_cameras_lie_in_memory_that_is_given(dataset: Path) -> None:
    data = RewardData(dataset)
    group, cameras = [2, 0, 5], ("wrist", "front")
    alone = data.episodes(group, cameras)
    memory = np.full(data.picture_bytes(group, cameras) + 7, 99, np.uint8)
    given = data.episodes(group, cameras, memory)
    for camera in cameras:
        assert torch.equal(given.images[camera], alone.images[camera])
        assert np.shares_memory(given.images[camera].numpy(), memory)
    assert len({info.length for info in np.array(data.store.episodes)[group]}) > 1  # so some are padded
    assert (memory[-7:] == 99).all()
    assert memory[: given.images["wrist"].numel()].tobytes() == alone.images["wrist"].numpy().tobytes()


def on_the_cpu(data: RewardData, cameras: Sequence[str], score: Any, device: torch.device) -> ReadAhead:
    return ReadAhead(data, cameras, score, torch.device("cpu"))


@pytest.mark.slow
def test_what_is_read_ahead_for_a_gpu_in_processes_becomes_the_same_column(
    dataset: Path, success_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its way without one: the device is the CPU."""
    model = load_reward(success_model)
    here = label_dataset(dataset, model, "success/here")
    monkeypatch.setattr("robolearn.recipes.rewards.label.device_of", lambda model: torch.device("cuda"))
    monkeypatch.setattr("robolearn.recipes.rewards.label.ReadAhead", on_the_cpu)
    monkeypatch.setattr("robolearn.recipes.rewards.read_ahead.GROUP_STEPS", 1)
    there = label_dataset(dataset, model, "success/there")
    store = ZarrStore.open(dataset)
    for index in range(len(store.episodes)):
        one, two = (store.read(index, [told["column"]])[told["column"]] for told in (here, there))
        np.testing.assert_allclose(one, two, atol=1e-6)
    (file,) = (dataset / "image_front").glob("c.0.*")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DatasetError, match="field image_front"):
        label_dataset(dataset, model, "success/damaged")


@pytest.mark.slow
def test_a_dev_shm_without_room_is_told_in_one_line(dataset: Path, success_model: Path) -> None:
    """In a mount namespace of its own. The locks of the processes lie there; the pictures don't."""
    small = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], check=False).returncode:
        pytest.skip("no mount namespace can be had here")
    code = f"""
import torch
from pathlib import Path
from robolearn.errors import RobolearnError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.read_ahead import ReadAhead
if __name__ == "__main__":
    try:
        list(ReadAhead(RewardData(Path({str(dataset)!r})), ("front",), len, torch.device("cpu")).run([[0]]))
    except RobolearnError as error:
        print(error)
"""
    child = subprocess.run([*small, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "give it more room" in child.stdout, child.stderr
    assert child.stdout.count("\n") == 1


def test_neither_outcome_nor_end_reaches_the_learner_and_the_last_state_lasts(dataset: Path) -> None:
    store = ZarrStore.open(dataset)
    with store.column_writer("reward/steps", ArraySpec(()), {}) as writer:
        for index, info in enumerate(store.episodes):
            writer.write(index, np.arange(info.length, dtype=np.float32))
    state = labelled_buffer(dataset, "reward/steps", tool_space("reach-v1"), 0.97).state_dict()
    assert not state["terminated"].any()
    rewards = state["reward"][state["acted"]]
    at = decision_steps(store.episodes[0].length)
    expected = [np.mean(range(a + 1, b + 1)) for a, b in pairwise(at)]
    np.testing.assert_allclose(rewards[: len(expected)], expected)
    assert at[-1] <= rewards[len(expected)] <= store.episodes[0].length - 1
    still = state["observation.state"]
    np.testing.assert_array_equal(still[len(expected)], still[len(expected) + 1])
