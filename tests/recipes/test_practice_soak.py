"""A long run of practice with kills at random, beside the same run without."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from practice_runs import demonstrations, kill, pids, prepared, recorded_arrays, same, small_config

from robolearn.recipes.finetune.recipe import practise

STEPS = int(os.environ.get("PRACTICE_STEPS", "3000"))  # an eight-hour run is 144000
KILLS = int(os.environ.get("PRACTICE_KILLS", "20"))
SETTLED = 20  # looks at a process that tell something of it
MAX_PEAK = 1.25  # of the largest process over the usual one, whatever it had lived through
MAX_GROWTH_BYTES = 12 << 20  # of a settled process, beside what it has to remember


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_twenty_kills_of_anybody_change_nothing(tmp_path: Path) -> None:
    """Anybody: whoever started the run; the collector, with supervisor, policy and judge in it; the learner."""
    demos = demonstrations(tmp_path)
    calm = prepared(small_config(STEPS), demos, tmp_path / "calm")
    beside = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    undisturbed = beside.submit(practised_in_one, calm)
    run = prepared(small_config(STEPS), demos, tmp_path / "killed")
    rng = np.random.default_rng(0)
    killed = {"starter": 0, "collector": 0, "learner": 0}
    memory: dict[int, list[int]] = {}
    born: dict[int, int] = {}  # attempts when a process was first seen
    starter = start(run)
    next_kill = attempts(run) + int(rng.integers(1, 4))
    while starter.poll() != 0:
        if starter.poll() is not None:
            starter = start(run)
        now = attempts(run)
        for pid in [starter.pid, *pids(run)]:
            if now > born.setdefault(pid, now) + 2:  # it works, and imports no more
                memory.setdefault(pid, []).append(resident_bytes(pid))
        if sum(killed.values()) < KILLS and now >= next_kill:
            time.sleep(float(rng.uniform(0.0, 0.5)))
            whom = str(rng.choice(list(killed)))
            found = [starter.pid] if whom == "starter" else pids(run, whom)
            if found:
                kill(found[0])
                killed[whom] += 1
                next_kill = now + int(rng.integers(1, max(STEPS // 12 // KILLS, 2)))
        time.sleep(0.2)
    alone = undisturbed.result()
    beside.shutdown()
    settled = [sizes for sizes in memory.values() if len(sizes) > SETTLED]
    grown = [growth(sizes[SETTLED // 2 :]) for sizes in settled]
    peaks = [max(sizes) for sizes in settled]
    seen = small_config(STEPS).space().interface.observation.values()
    remembered = STEPS * 2 * 4 * sum(field.shape[0] for field in seen)
    print(
        f"killed {killed}; peaks {min(peaks) >> 20} to {max(peaks) >> 20} MiB; grown {max(grown) / 2**20:.1f} MiB at "
        f"most, the calm one over {len(alone)} attempts {growth(alone) / 2**20:.1f}; to be remembered: "
        f"{remembered / 2**20:.1f} MiB"
    )
    assert sum(killed.values()) == KILLS
    deadline = time.monotonic() + 30
    while pids(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert pids(run) == []
    assert same(recorded_arrays(run), recorded_arrays(calm))
    assert max(peaks) < MAX_PEAK * float(np.median(peaks))
    assert max(*grown, growth(alone)) < MAX_GROWTH_BYTES + remembered


def practised_in_one(run: Path) -> list[int]:
    """Bytes after every attempt of a run that lives in one process and is never killed."""
    sizes: list[int] = []
    practise(run, processes=False, progress=lambda done, text: sizes.append(resident_bytes(os.getpid())))
    return sizes


def growth(sizes: list[int]) -> float:
    """From the middle third of a life to its last one; what is loaded once, as to draw the report, is none."""
    third = len(sizes) // 3
    return float(np.median(sizes[-third:]) - np.median(sizes[third : -third or None]))


def start(run: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "robolearn.cli", "finetune", "--resume", str(run)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def attempts(run: Path) -> int:
    """How many the newest policy has learned from."""
    names = [file.stem for file in (run / "weights").glob("*.safetensors")] if (run / "weights").exists() else []
    return max(map(int, names), default=0)


def resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
