from __future__ import annotations

import threading

import numpy as np
import pytest

from robolearn.errors import DatasetError
from robolearn.recipes.rewards.side_by_side import SideBySide


def test_groups_are_scored_side_by_side_in_order_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    limits: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", limits.append)
    lock, begun, used = threading.Lock(), [0], [0]
    ahead: list[int] = []

    def work(group: list[int]) -> dict[str, np.ndarray]:
        with lock:
            begun[0] += 1
            ahead.append(begun[0] - used[0])
        return {"value": np.array(group) + 1}

    for ready in SideBySide(work).run([[i] for i in range(40)]):
        for group, columns in ready:
            assert columns["value"].tolist() == [used[0] + 1]
            assert group == [used[0]]
            with lock:
                used[0] += 1
    assert used[0] == 40
    assert max(ahead) <= 4 * 3 + 1  # four a core and one too many: memory does not grow with the data
    assert limits == [1, 3]  # a core each, and then as before


def test_what_goes_wrong_side_by_side_is_told_and_ends_it() -> None:
    done: list[list[int]] = []

    def work(group: list[int]) -> list[int]:
        if group == [5]:
            raise DatasetError("episode 5 is damaged")
        return group

    def use() -> None:
        for ready in SideBySide(work).run([[i] for i in range(200)]):
            done.extend(group for group, _ in ready)

    with pytest.raises(DatasetError, match="episode 5 is damaged"):
        use()
    assert done == [[i] for i in range(len(done))]
    assert len(done) <= 5


def test_large_pictures_are_read_ahead_in_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    work = SideBySide(list)
    step_bytes = 2 * 1080 * 1920 * 3
    assert 16 * work.group_steps(10**6, step_bytes) * step_bytes <= 4 << 30
    assert work.group_steps(10**6, 10**12) == 1
