"""Practice from a shell, with a person at its keyboard."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from practice_runs import demonstrations, prepared, small_config

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.types import ActionSource

EVERY_S, TYPES_S = 3.0, 0.4


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_keys_typed_at_the_terminal_reach_the_collector(tmp_path: Path) -> None:
    """Now and then a key is held; in between the policy acts, and the arm goes home."""
    run = prepared(small_config(60), demonstrations(tmp_path), tmp_path / "run")
    replace(small_config(60), teleop="keyboard").write(run)
    master, slave = os.openpty()
    command = ["setsid", "--ctty", "--wait", sys.executable, "-m", "robolearn.cli", "finetune", "--resume", str(run)]
    practice = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while practice.poll() is None:
        if select.select([master], [], [], 0.03)[0]:
            with contextlib.suppress(OSError):  # its end is closed
                shown += os.read(master, 65536)
        if time.monotonic() % EVERY_S < TYPES_S:
            os.write(master, b"q")
    os.close(master)
    assert practice.returncode == 0, shown.decode(errors="replace")[-2000:]
    store = ZarrStore.open(run / "replay.zarr")
    source = np.concatenate([store.read(i)["action_source"][:-1] for i in range(len(store.episodes))])
    assert set(source.tolist()) == {ActionSource.POLICY, ActionSource.INTERVENTION}
    assert "human resets; now: " in shown.decode(errors="replace")
