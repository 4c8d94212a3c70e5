"""Recording and sampling of episodes with two cameras: CPU time, size, the wait between episodes.

    python benchmarks/datasets.py [--json] [--large]

20 episodes of 200 steps, two cameras of 128x128 pixels (a smooth background, a moving block and sensor noise), 7
numbers of state and action. CPU milliseconds are those of the whole process, all threads; wall times on a busy machine
say less. A sample is 2 observations of 2 cameras and the state, and a chunk of 16 actions.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.sampler import Sampler, SamplerConfig
from robolearn.datasets.store import DatasetSpec, EpisodeMeta, ImageCodec, WriterConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec
from robolearn.types import EpisodeOutcome

EPISODES, STEPS, SIZE, JOINTS = 20, 200, 128, 7
CAMERAS = ("image_front", "image_wrist")
PACE_S = 0.002  # between two steps: much faster than a robot, slow enough for the codec
BATCH, BATCHES = 32, 30
SUCCESS = EpisodeOutcome(success=True, terminated=True, truncated=False)


def dataset_spec(codec: ImageCodec, cameras: tuple[str, ...] = CAMERAS, size: int = SIZE) -> DatasetSpec:
    joints = tuple(f"joint_{number}" for number in range(JOINTS))
    robot = RobotSpec("bench", joints, (-3.2,) * JOINTS, (3.2,) * JOINTS, (3.0,) * JOINTS)
    images = {camera: image_spec(size, size) for camera in cameras}
    return DatasetSpec(
        robot, InterfaceSpec({"proprio": robot.proprio_spec, **images}, robot.action_spec, 30.0), (), {}, codec
    )


def film(rng: np.random.Generator, steps: int) -> NDArray[np.uint8]:
    """Images (steps, SIZE, SIZE, 3): textured background, a moving block of 20 pixels, noise of 2 grey levels."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    phase = rng.uniform(0, 6, (3, 4))
    waves = [np.sin(8 * x + p[0]) + np.cos(11 * y + p[1]) + np.sin(17 * (x + y) + p[2]) for p in phase]
    background = 128 + 35 * np.stack(waves, axis=-1)
    images = np.empty((steps, SIZE, SIZE, 3), np.uint8)
    for step in range(steps):
        image = background + rng.normal(0, 2, background.shape)
        row, column = (40 + 30 * np.sin(step / 20 + phase[0, 3])).astype(int), 10 + (step // 2) % 90
        image[row : row + 20, column : column + 20] = (220, 60, 40)
        images[step] = np.clip(image, 0, 255)
    return images


def record(store: ZarrStore, films: dict[str, NDArray[np.uint8]], fsync: bool, pace_s: float) -> dict[str, float]:
    """Record all episodes; CPU ms a step and the seconds from stop until the next episode can begin."""
    rng = np.random.default_rng(1)
    state = rng.normal(size=(STEPS, 2 * JOINTS)).astype(np.float32).clip(-3, 3)
    stops = []
    with store.writer(WriterConfig(fsync=fsync)) as writer:
        cpu = time.process_time()
        for episode in range(EPISODES):
            writer.begin(EpisodeMeta(task="bench-v1", seed=episode))
            for step in range(STEPS):
                values = {camera: images[step] for camera, images in films.items()}
                action = state[step, :JOINTS]
                stamps = dict.fromkeys(store.spec.stamped_fields, step * 33_000_000)
                writer.append(
                    {
                        **values,
                        "proprio": state[step],
                        "action": action,
                        "action_sent": action,
                        "action_source": 2,
                        "held": False,
                    },
                    stamps,
                    stamps,
                )
                if pace_s:
                    time.sleep(pace_s)
            started = time.perf_counter()
            writer.commit(SUCCESS)
            writer.begin(EpisodeMeta())
            stops.append(time.perf_counter() - started)
            writer.discard()
        cpu = time.process_time() - cpu
    return {
        "cpu_ms_per_step": cpu / (EPISODES * STEPS) * 1e3,
        "stop_s": statistics.median(stops),
        "stop_worst_s": max(stops),
    }


def cpu_ms(work: Callable[[], object], per: int, repeats: int = 5) -> float:
    """Median CPU milliseconds of `work`, divided by `per`."""
    work()
    times = []
    for _ in range(repeats):
        before = time.process_time()
        work()
        times.append((time.process_time() - before) / per * 1e3)
    return statistics.median(times)


def sampling_cpu_ms(store: ZarrStore, cache_bytes: int, images: str) -> float:
    config = SamplerConfig(("proprio", *CAMERAS), 16, 2, cache_bytes, images)  # type: ignore[arg-type]
    sampler = Sampler(store, config)
    rng = np.random.default_rng(2)
    if cache_bytes:
        for step in range(sampler.num_starts):  # decode everything, as the first epoch does
            sampler.batch(np.array([step]))

    def work() -> None:
        for _ in range(BATCHES):
            sampler.sample(BATCH, rng)

    return cpu_ms(work, BATCH * BATCHES)


def vectors_over_gather(store: ZarrStore) -> float:
    """CPU time of a batch of 256 without images, over that of gathering the same numbers with bare NumPy."""
    sampler = Sampler(store, SamplerConfig(("proprio",), 1))
    rng = np.random.default_rng(3)
    episodes = [store.read(index, ["proprio", "action"]) for index in range(len(store.episodes))]
    proprio = np.concatenate([episode["proprio"] for episode in episodes])
    action = np.concatenate([episode["action"] for episode in episodes])

    def bare() -> None:
        for _ in range(2000):
            rows = rng.integers(0, len(proprio), 256)
            proprio[rows], action[rows]

    def ours() -> None:
        for _ in range(2000):
            sampler.sample(256, rng)

    return cpu_ms(ours, 1) / cpu_ms(bare, 1)


def folder_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def rmse(store: ZarrStore, films: dict[str, NDArray[np.uint8]]) -> float:
    """Root mean square error of the stored images, grey levels."""
    read = store.read(0, CAMERAS)
    errors = [(read[camera].astype(float) - films[camera]) ** 2 for camera in CAMERAS]
    return float(np.sqrt(np.mean(errors)))


def large(folder: Path) -> dict[str, float]:
    """A million steps in a thousand episodes: opening, and the memory of sampling."""
    store = ZarrStore.create(folder / "large.zarr", dataset_spec(ImageCodec(), CAMERAS[:1], 16))
    image, zeros = np.zeros((16, 16, 3), np.uint8), np.zeros(JOINTS, np.float32)
    step = {"proprio": np.zeros(2 * JOINTS, np.float32), "image_front": image, "action": zeros, "action_source": 0}
    with store.writer(WriterConfig(fsync=False)) as writer:
        for _ in range(1000):
            writer.begin(EpisodeMeta())
            for _ in range(1000):
                writer.append(step, {})
            writer.commit(SUCCESS)
    opens = []
    for _ in range(5):
        before = time.perf_counter()
        ZarrStore.open(folder / "large.zarr")
        opens.append(time.perf_counter() - before)
    sampler = Sampler(store, SamplerConfig(("proprio", "image_front"), 16, cache_bytes=0))
    rng = np.random.default_rng(0)
    memory = []
    for _ in range(2):
        for _ in range(500):
            sampler.sample(64, rng)
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return {"large_open_s": statistics.median(opens), "large_memory_growth_mb": (memory[1] - memory[0]) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--large", action="store_true", help="also a million steps, some minutes")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    films = {camera: film(rng, STEPS) for camera in CAMERAS}
    answer: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for codec in ("jpeg", "jpegxl"):
            store = ZarrStore.create(folder / f"{codec}.zarr", dataset_spec(ImageCodec(codec)))  # type: ignore[arg-type]
            recorded = record(store, films, fsync=True, pace_s=PACE_S)
            suffix = "" if codec == "jpeg" else f"_{codec}"
            answer |= {
                f"record_cpu_ms_per_step{suffix}": recorded["cpu_ms_per_step"],
                f"stop_to_ready_s{suffix}": recorded["stop_s"],
                f"stop_to_ready_worst_s{suffix}": recorded["stop_worst_s"],
                f"bytes_{codec}": folder_bytes(store.path),
                f"rmse_{codec}": rmse(store, films),
                f"sample_disk_cpu_ms{suffix}": sampling_cpu_ms(store, 0, "uint8"),
            }
            answer[f"files_{codec}"] = sum(1 for file in store.path.rglob("*") if file.is_file())
        store = ZarrStore.open(folder / "jpeg.zarr")
        answer["sample_ram_cpu_ms"] = sampling_cpu_ms(store, 1 << 30, "float32")
        answer["sample_ram_uint8_cpu_ms"] = sampling_cpu_ms(store, 1 << 30, "uint8")
        answer["vectors_over_numpy_gather"] = vectors_over_gather(store)
        without = ZarrStore.create(folder / "nosync.zarr", dataset_spec(ImageCodec()))
        answer["stop_to_ready_without_fsync_s"] = record(without, films, fsync=False, pace_s=PACE_S)["stop_s"]
        answer |= {"bytes_video": None, "rmse_video": None}
        if arguments.large:
            answer |= large(folder)
    if arguments.json:
        print(json.dumps(answer))
    else:
        for key, value in answer.items():
            print(f"{key:34} {value:.4g}" if isinstance(value, float) else f"{key:34} {value}")


if __name__ == "__main__":
    main()
