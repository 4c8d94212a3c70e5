"""Recording and sampling of episodes with two cameras: CPU time, size, the wait between episodes.

    python benchmarks/datasets.py [--json] [--large] [--kills 100]
    python benchmarks/datasets.py --grown 100 1000 10000        what a commit costs once there are so many episodes

20 episodes of 200 steps, two cameras of 128x128 pixels (a smooth background, a moving block and sensor noise), 7
numbers of state and action. CPU milliseconds are those of the whole process, all threads; wall times on a busy machine
say less. A sample is 2 observations of 2 cameras and the state, and a chunk of 16 actions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.codecs import Jpeg
from robolearn.datasets.disk import Disk
from robolearn.datasets.episode_table import EpisodeTable
from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.sampler import Sampler, SamplerConfig
from robolearn.datasets.statistics import statistics as quality
from robolearn.datasets.store import DatasetSpec, EpisodeMeta, ImageCodec, WriterConfig
from robolearn.datasets.zarr_layout import read_root, write_root
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.datasets.zarr_writer import ZarrWriter
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec
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


def sampling_cpu_ms(store: ZarrStore, cache_bytes: int, images: str, batches: int = BATCHES) -> float:
    config = SamplerConfig(("proprio", *CAMERAS), 16, 2, cache_bytes, images)  # type: ignore[arg-type]
    sampler = Sampler(store, config)
    rng = np.random.default_rng(2)
    if cache_bytes:
        for step in range(sampler.num_starts):  # decode everything, as the first epoch does
            sampler.batch(np.array([step]))

    out = sampler.sample(BATCH, rng)  # arrays that are used again and again, as a learner does

    def work() -> None:
        for _ in range(batches):
            sampler.sample(BATCH, rng, out)

    return cpu_ms(work, BATCH * batches)


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


def replay_us_per_batch(batches: int) -> float:
    """Microseconds a batch of 256 transitions (observation 17, action 6), `batches` drawn at once from 100,000."""
    spec = InterfaceSpec({"proprio": ArraySpec((17,))}, ArraySpec((6,)), 30.0)
    buffer = ReplayBuffer(spec, ReplayBufferConfig(100_200))
    rng = np.random.default_rng(0)
    observation, action = {"proprio": np.zeros(17, np.float32)}, np.zeros(6, np.float32)
    for _ in range(100):
        buffer.begin(observation)
        for step in range(1000):
            buffer.append(action, 0.0, observation, False, step == 999)
    return (
        cpu_ms(lambda: [buffer.sample(256 * batches, rng) for _ in range(2000 // batches)], 2000 // batches * batches)
        * 1e3
    )


def painted(number: int) -> NDArray[np.uint8]:
    """An image (SIZE, SIZE, 3) that shows the bits of a number in squares of 32 pixels."""
    bits = (number >> np.arange(16) & 1).reshape(4, 4).astype(np.uint8) * 255
    return np.repeat(np.kron(bits, np.ones((SIZE // 4, SIZE // 4), np.uint8))[:, :, None], 3, axis=2)


def painted_number(image: NDArray[np.uint8]) -> int:
    middles = image[SIZE // 8 :: SIZE // 4, SIZE // 8 :: SIZE // 4, 0].reshape(-1) > 127
    return int((middles.astype(int) << np.arange(16)).sum())


def counting_step(number: int) -> dict[str, Any]:
    vector = np.full(2 * JOINTS, number, np.float32)
    images = {camera: painted(number) for camera in CAMERAS}
    return {"proprio": vector, **images, "action": vector[:JOINTS], "action_sent": vector[:JOINTS], "action_source": 2}


def overload(folder: Path) -> dict[str, float]:
    """A codec slowed down to 20 ms a picture, under a loop of 100 steps a second."""
    steps, period_s = 300, 0.01
    store = ZarrStore.create(folder / "overload.zarr", dataset_spec(ImageCodec()))
    quick = Jpeg.encode

    def slow(self: Jpeg, chunk: NDArray) -> bytes:
        time.sleep(0.02)
        return quick(self, chunk)

    waits, late = [], []
    Jpeg.encode = slow  # type: ignore[method-assign]
    try:
        with store.writer(WriterConfig(drop_when_full=True, queue_bytes=1 << 20)) as writer:
            writer.begin(EpisodeMeta())
            began = time.perf_counter()
            for number in range(steps):
                values = counting_step(number)
                time.sleep(max(began + number * period_s - time.perf_counter(), 0))
                late.append(time.perf_counter() - began - number * period_s)
                before = time.perf_counter()
                writer.append(values, {})
                waits.append(time.perf_counter() - before)
            info = writer.commit(SUCCESS)
    finally:
        Jpeg.encode = quick  # type: ignore[method-assign]
    read, valid = store.read(0), store.read_valid(0)
    there = [(camera, step) for camera in CAMERAS for step in np.flatnonzero(valid[camera]).tolist()]
    shifted = sum(painted_number(read[camera][step]) != read["proprio"][step, 0] for camera, step in there)
    return {
        "overload_steps": steps,
        "overload_dropped": sum(info.dropped.values()),
        "overload_masked": sum(info.masked.values()),
        "overload_shifted": int(shifted),
        "overload_append_p99_ms": float(np.quantile(waits, 0.99)) * 1e3,
        "overload_loop_late_p99_ms": float(np.quantile(late, 0.99)) * 1e3,
    }


def kills(folder: Path, number: int) -> dict[str, int]:
    """Writers killed (SIGKILL) at a random moment of their 13th episode: how many lost one of the 12 before."""
    rng = np.random.default_rng(4)
    length, lost, left = 40, 0, 0
    for kill in range(number):
        store = ZarrStore.create(folder / f"kill_{kill}.zarr", dataset_spec(ImageCodec()))
        reading, told = os.pipe()
        child = os.fork()
        if child == 0:
            with store.writer() as writer:
                for episode in range(10**6):
                    writer.begin(EpisodeMeta())
                    if episode == 12:
                        os.write(told, b"x")
                    for step in range(length):
                        writer.append(counting_step(episode * length + step), {})
                    writer.commit(SUCCESS)
        os.close(told)
        os.read(reading, 1)
        time.sleep(rng.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        store = ZarrStore.open(store.path)
        whole = len(store.episodes) >= 12
        for index in range(len(store.episodes)):
            read = store.read(index)
            wanted = list(range(index * length, (index + 1) * length))
            whole &= read["proprio"][:, 0].tolist() == wanted
            whole &= all([painted_number(image) for image in read[camera]] == wanted for camera in CAMERAS)
        lost += not whole
        left += len(store.unfinished)
        shutil.rmtree(store.path)
    return {"kills": number, "kills_that_lost_an_episode": lost, "kills_that_left_one_to_salvage": left}


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
    step: dict[str, Any] = {"proprio": np.zeros(2 * JOINTS, np.float32), "image_front": image}
    step |= {"action": zeros, "action_source": 0}
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


def grown(folder: Path, number: int) -> dict[str, float]:
    """One more episode of 12 steps, of vectors alone, in a dataset that has `number` of them; and opening it.

    Bytes are those that the process hands to the system from `begin` on, copies of shards included.
    """
    length, path = 12, folder / f"grown_{number}.zarr"
    rng = np.random.default_rng(5)
    states = rng.normal(size=(number * length, 2 * JOINTS)).astype(np.float32).clip(-3, 3)
    store = ZarrStore.create(path, dataset_spec(ImageCodec(), ()))
    tags = {"truth": True, "resets": 3, "human_steps": 0, "recoveries": 2}

    def run(writer: ZarrWriter, rows: NDArray[np.float32]) -> None:
        for step, state in enumerate(rows):
            stamps = dict.fromkeys(store.spec.stamped_fields, step * 33_000_000)
            vectors = {"proprio": state, "action": state[:JOINTS], "action_sent": state[:JOINTS]}
            writer.append({**vectors, "action_source": 1, "held": False}, stamps, stamps)

    with store.writer(WriterConfig(fsync=False, statistics=False)) as writer:
        writer.begin(EpisodeMeta(task="bench-v1", instruction="push the block to the mark"))
        run(writer, states)
        whole = writer.commit(SUCCESS, tags)
    rows = {
        f"{index:016x}": replace(whole, id=f"{index:016x}", start=index * length, length=length)
        for index in range(number)
    }
    with Disk(fsync=False) as disk:
        write_root(path, replace(read_root(path), table=EpisodeTable(rows)), disk)
    opens = cpu_ms(lambda: ZarrStore.open(path), 1)
    quality(ZarrStore.open(path))  # so that the writer has statistics to go on with
    store = ZarrStore.open(path)
    waits, added = [], 10
    written, cpu = bytes_written(), time.process_time()
    with store.writer() as writer:
        for _ in range(added):
            writer.begin(EpisodeMeta(task="bench-v1", instruction="push the block to the mark"))
            run(writer, states[:length])
            started = time.perf_counter()
            writer.commit(SUCCESS, tags)
            waits.append(time.perf_counter() - started)
    return {
        f"grown_{number}_bytes_an_episode": (bytes_written() - written) / added,
        f"grown_{number}_bytes_of_the_root_file": (path / "zarr.json").stat().st_size,
        f"grown_{number}_commit_s": statistics.median(waits),
        f"grown_{number}_cpu_ms_an_episode": (time.process_time() - cpu) / added * 1e3,
        f"grown_{number}_open_cpu_ms": opens,
        f"grown_{number}_files": sum(1 for file in path.rglob("*") if file.is_file()),
    }


def bytes_written() -> int:
    """By this process until now, whatever way."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def recording_and_sampling(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    films = {camera: film(rng, STEPS) for camera in CAMERAS}
    answer: dict[str, Any] = {}
    for codec, suffix in (("jpeg", ""), ("jpegxl", "_jpegxl"), ("h264", "_video"), ("av1", "_av1")):
        store = ZarrStore.create(folder / f"{codec}.zarr", dataset_spec(ImageCodec(codec)))  # type: ignore[arg-type]
        recorded = record(store, films, fsync=True, pace_s=PACE_S)
        answer |= {
            f"record_cpu_ms_per_step{suffix}": recorded["cpu_ms_per_step"],
            f"stop_to_ready_s{suffix}": recorded["stop_s"],
            f"stop_to_ready_worst_s{suffix}": recorded["stop_worst_s"],
            f"bytes{suffix or '_jpeg'}": folder_bytes(store.path),
            f"rmse{suffix or '_jpeg'}": rmse(store, films),
            f"sample_disk_cpu_ms{suffix}": sampling_cpu_ms(store, 0, "uint8", BATCHES if codec[0] == "j" else 2),
        }
        answer[f"files{suffix or '_jpeg'}"] = sum(1 for file in store.path.rglob("*") if file.is_file())
    store = ZarrStore.open(folder / "jpeg.zarr")
    answer["sample_ram_cpu_ms"] = sampling_cpu_ms(store, 1 << 30, "float32")
    answer["sample_ram_uint8_cpu_ms"] = sampling_cpu_ms(store, 1 << 30, "uint8")
    answer["vectors_over_numpy_gather"] = vectors_over_gather(store)
    without = ZarrStore.create(folder / "nosync.zarr", dataset_spec(ImageCodec()))
    answer["stop_to_ready_without_fsync_s"] = record(without, films, fsync=False, pace_s=PACE_S)["stop_s"]
    answer |= {"replay_us_per_batch": replay_us_per_batch(1), "replay_us_per_batch_of_20": replay_us_per_batch(20)}
    answer |= overload(folder)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--kills", type=int, default=0, help="also kill so many writers, about a second each")
    parser.add_argument("--large", action="store_true", help="also a million steps, some minutes")
    parser.add_argument("--grown", type=int, nargs="+", default=[], help="numbers of episodes, and nothing else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answer: dict[str, Any] = {}
        for number in arguments.grown:
            answer |= grown(folder, number)
        if not arguments.grown:
            answer = recording_and_sampling(folder)
            if arguments.kills:
                answer |= kills(folder, arguments.kills)
            if arguments.large:
                answer |= large(folder)
    if arguments.json:
        print(json.dumps(answer))
    else:
        for key, value in answer.items():
            print(f"{key:34} {value:.4g}" if isinstance(value, float) else f"{key:34} {value}")


if __name__ == "__main__":
    main()
