"""Files of robomimic's neighbours: there and back, files of others, hostile and broken ones."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from painted import CAMERAS, SIZE, SUCCESS, dataset, dataset_spec, paint, painted_number, stamps, step
from test_faults import failing

from robolearn.datasets import edit
from robolearn.datasets.convert import FORMATS, export_dataset, import_dataset, readable, writable
from robolearn.datasets.convert.source import ImportSettings
from robolearn.datasets.diff import diff
from robolearn.datasets.store import CLOSING_ROW, EpisodeMeta, ImageCodec
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.specs import ArraySpec, depth_spec
from robolearn.types import EpisodeOutcome

h5py = pytest.importorskip("h5py")

LOSSLESS = ImportSettings(image_codec=ImageCodec("jpegxl"))
ZARR2 = os.environ.get("ROBOLEARN_ZARR2_PYTHON")  # an interpreter that has zarr 2, which diffusion_policy uses


@pytest.fixture
def store(tmp_path: Path) -> ZarrStore:
    """Two episodes with rewards; in the second one a picture and an action are lost."""
    spec = dataset_spec(ImageCodec("jpegxl"))
    spec = replace(spec, extra={"reward": ArraySpec(())})
    store = ZarrStore.create(tmp_path / "d", spec)
    with store.writer() as writer:
        for first, length in ((0, 3), (3, 70)):
            writer.begin(EpisodeMeta("push-v1", f"push it {first}", first, tags={"table": 3}))
            for number in range(first, first + length):
                values = step(number) | {"reward": np.float32(number)}
                if number == 6:
                    del values["image_wrist"]
                if number == 9:
                    del values["action"]
                writer.append(values, stamps(number), stamps(number + 1))  # type: ignore[arg-type]
            writer.commit(SUCCESS if first else EpisodeOutcome(None, False, True, "stopped"))
    return store


@pytest.mark.parametrize("name", ["robomimic", "minari", "d4rl", "diffusion_policy", "lerobot"])
def test_depth_comes_back_as_it_was_or_is_told_as_lost(tmp_path: Path, name: str) -> None:
    spec = replace(dataset_spec(), extra={"depth_front": depth_spec(SIZE, SIZE)})
    store, depth = ZarrStore.create(tmp_path / "d", spec), np.random.default_rng(0).integers(0, 65_536, (3, SIZE, SIZE))
    with store.writer() as writer:
        writer.begin(EpisodeMeta(task="push-v1"))
        for number in range(3):
            writer.append(step(number) | {"depth_front": depth[number]}, stamps(number) | {"depth_front": 7})
        writer.commit(SUCCESS)
    lost = export_dataset(store, name, tmp_path / "out").lost
    told = import_dataset(name, tmp_path / "out", tmp_path / "back").lost
    back = ZarrStore.open(tmp_path / "back")
    if name in ("d4rl", "lerobot"):
        assert any(line.startswith("depth_front is left out") for line in lost)
        assert "depth_front" not in back.spec.fields
    else:
        assert not any("depth" in line for line in (*lost, *told))
        assert back.spec.extra == spec.extra
        np.testing.assert_array_equal(back.read(0)["depth_front"], depth)


@pytest.mark.parametrize("name", ["robomimic", "minari", "d4rl", "diffusion_policy"])
def test_there_and_back(store: ZarrStore, tmp_path: Path, name: str) -> None:
    done: list[tuple[int, int]] = []
    lost = export_dataset(store, name, tmp_path / "out", progress=lambda *now: done.append(now)).lost
    assert any(line.startswith("action: 1 masked steps") for line in lost)
    told = [line for line in lost if line.startswith("2 episodes have no observation after their last action")]
    assert len(told) == (name != "diffusion_policy")
    assert done[-1] == (73, 73)
    assert import_dataset(name, tmp_path / "out", tmp_path / "back").lost == []
    back = ZarrStore.open(tmp_path / "back")
    assert verify(back.path).ok
    if name == "d4rl":
        assert [line for line in lost if "no pictures" in line] == [
            f"{camera} is left out: D4RL holds no pictures" for camera in CAMERAS
        ]
        assert set(store.spec.fields) - set(back.spec.fields) == set(CAMERAS)
    else:
        assert back.spec == store.spec
        assert back.episodes == store.episodes
    for index in range(2):
        for read in ("read", "read_stamps", "read_valid"):
            for field, values in getattr(back, read)(index).items():
                np.testing.assert_array_equal(values, getattr(store, read)(index)[field], err_msg=f"{read} {field}")
    with pytest.raises(DatasetError, match="exists"):
        export_dataset(store, name, tmp_path / "out")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "file", "array"),
    [
        ("robomimic", "out", "data/demo_0/actions"),
        ("minari", "out/data/main_data.hdf5", "episode_0/actions"),
        ("d4rl", "out", "actions"),
        ("diffusion_policy", "out", "data/action"),
    ],
)
def test_a_masked_action_is_the_one_before_it(tmp_path: Path, name: str, file: str, array: str) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec(cameras=()))
    with store.writer() as writer:
        writer.begin(EpisodeMeta(tags={CLOSING_ROW: True}))
        for number in range(1, 6):
            values = {"proprio": np.full(4, number, np.float32), "action": np.full(2, number, np.float32)}
            writer.append({"proprio": values["proprio"]} if number in (3, 5) else values, {})
        writer.commit(SUCCESS)
    export_dataset(store, name, tmp_path / "out")
    opened: Any = h5py.File(tmp_path / file) if (tmp_path / file).is_file() else zarr.open_group(tmp_path / file)
    assert opened[array][:, 0].tolist() == [1, 2, 2, 4, *([4] if name == "diffusion_policy" else [])]


@pytest.mark.parametrize("name", ["robomimic", "minari", "d4rl", "diffusion_policy"])
def test_an_episode_that_ended_before_its_first_action(tmp_path: Path, name: str) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec(cameras=()))
    with store.writer() as writer:
        for first, length in ((0, 3), (3, 1), (4, 2)):
            writer.begin(EpisodeMeta(tags={CLOSING_ROW: True}))
            for number in range(first, first + length):
                values = {"proprio": np.full(4, number, np.float32), "action": np.full(2, number, np.float32)}
                writer.append(values if number < first + length - 1 else {"proprio": values["proprio"]}, {})
            writer.commit(SUCCESS)
    lost = export_dataset(store, name, tmp_path / "out").lost
    import_dataset(name, tmp_path / "out", tmp_path / "back")
    back = ZarrStore.open(tmp_path / "back")
    transitions = name in ("robomimic", "d4rl")  # which have no place for it
    kept = [0, 2] if transitions else [0, 1, 2]
    assert [row.id for row in back.episodes] == [store.episodes[index].id for index in kept]
    assert any("1 episodes without an action are left out" in line for line in lost) == transitions
    for index, original in enumerate(kept):
        np.testing.assert_array_equal(back.read(index)["proprio"], store.read(original)["proprio"])
    edit.delete(tmp_path / "d", [0, 2])
    if transitions:
        with pytest.raises(DatasetError, match="has no episode with an action"):
            export_dataset(ZarrStore.open(tmp_path / "d"), name, tmp_path / "nothing")


def test_a_dry_run_writes_nothing(store: ZarrStore, tmp_path: Path) -> None:
    for name in writable():
        assert export_dataset(store, name, tmp_path / "out", dry_run=True).steps == 73
    export_dataset(store, "robomimic", tmp_path / "file")
    assert import_dataset("robomimic", tmp_path / "file", tmp_path / "out", dry_run=True).steps == 73
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["d", "file"]


def test_the_table() -> None:
    assert set(readable()) | set(writable()) == set(FORMATS)
    with pytest.raises(UnknownNameError, match="did you mean lerobot"):
        import_dataset("lerobto", Path(), Path())
    with pytest.raises(DatasetError, match="rate is -3 Hz"):
        import_dataset("ogbench", Path(), Path("nowhere"), ImportSettings(control_hz=-3))
    with pytest.raises(DatasetError, match="does not write it"):
        export_dataset(None, "ogbench", Path())  # type: ignore[arg-type]


def test_minari_opens_ours(store: ZarrStore, tmp_path: Path) -> None:
    minari = pytest.importorskip("minari")
    export_dataset(store, "minari", tmp_path / "out")
    opened = minari.MinariDataset(tmp_path / "out/data")
    assert opened.total_episodes == 2
    assert opened.total_steps == 73
    episodes = list(opened.iterate_episodes())
    assert [len(episode.rewards) for episode in episodes] == [3, 70]
    assert [painted_number(image) for image in episodes[1].observations["image_front"]] == [*range(3, 73), 72]
    assert episodes[1].actions.shape == (70, 2)
    assert episodes[1].rewards[-1] == 72
    assert [bool(e.terminations[-1]) for e in episodes] == [False, True]
    assert opened.spec.action_space.shape == (2,)
    assert opened.spec.observation_space["image_front"].dtype == np.uint8


@pytest.mark.parametrize(("name", "wanted"), [("push_it.v2 (1).zarr", "push-it-v2-1"), ("押す", "dataset")])
def test_minari_knows_the_name(tmp_path: Path, name: str, wanted: str) -> None:
    minari = pytest.importorskip("minari")
    export_dataset(dataset(tmp_path / name, [2]), "minari", tmp_path / "out")
    assert minari.MinariDataset(tmp_path / "out/data").spec.dataset_id == f"robolearn/{wanted}-v0"


def minari_file(file: Path) -> None:
    """Two episodes of 3 actions and 4 observations, a dict of dicts with pictures, as Minari writes them."""
    (file.parent / "metadata.json").write_text(json.dumps({"dataset_id": "me/reach-v0", "data_format": "hdf5"}))
    with h5py.File(file, "w") as out:
        for episode in range(2):
            group = out.create_group(f"episode_{episode}")
            group.attrs["seed"] = 7
            numbers = np.arange(4 * episode, 4 * episode + 4)
            group["observations/arm/joints"] = np.repeat(numbers[:, None], 2, axis=1).astype(np.float64)
            group["observations/camera"] = np.stack([paint(number) for number in numbers])
            group["observations/goal"] = numbers[:, None].astype(np.float32)
            group["actions"] = np.repeat(numbers[:3, None], 2, axis=1).astype(np.float32)
            group["rewards"] = numbers[:3].astype(np.float64)
            group["terminations"] = np.array([False, False, episode == 0])
            group["truncations"] = np.array([False, False, episode == 1])
            group["infos/success"] = np.array([False, False, False, episode == 0])


def test_a_minari_dataset_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "in/data").mkdir(parents=True)
    minari_file(tmp_path / "in/data/main_data.hdf5")
    done = import_dataset("minari", tmp_path / "in", tmp_path / "d", LOSSLESS)
    assert done.steps == 8
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    names = store.spec.interface.observation["proprio"].names
    assert names == ("observations/arm/joints.0", "observations/arm/joints.1", "observations/goal.0")
    for index, row in enumerate(store.episodes):
        numbers = [4 * index + k for k in range(4)]
        read = store.read(index)
        assert [painted_number(image) for image in read["image_observations_camera"]] == numbers
        assert read["proprio"][:, 2].tolist() == numbers
        assert read["action"][:3, 0].tolist() == read["reward"][:3].tolist() == numbers[:3]
        assert store.read_valid(index)["action"].tolist() == [True, True, True, False]
        assert (row.success, row.terminated, row.truncated) == (index == 0, index == 0, index == 1)
        assert (row.seed, row.task) == (7, "me/reach-v0")


def d4rl_file(file: Path, following: bool = True) -> None:
    """Ends after rows 2 (terminal) and 6 (time-out); the last row, 8, is cut off."""
    numbers = np.arange(9, dtype=np.float32)
    with h5py.File(file, "w") as out:
        out["observations"] = np.repeat(numbers[:, None], 3, axis=1)
        out["actions"] = np.repeat(-numbers[:, None], 2, axis=1)
        out["rewards"] = numbers
        out["terminals"] = numbers == 2
        out["timeouts"] = numbers == 6
        out["infos/qpos"] = np.zeros((9, 4))
        if following:
            out["next_observations"] = np.repeat(numbers[:, None] + 0.5, 3, axis=1)


@pytest.mark.parametrize("following", [True, False])
def test_a_d4rl_file_of_somebody_else(tmp_path: Path, following: bool) -> None:
    d4rl_file(tmp_path / "hopper-medium-v2.hdf5", following)
    done = import_dataset("d4rl", tmp_path / "hopper-medium-v2.hdf5", tmp_path / "d", LOSSLESS)
    assert done.lost[0] == "infos is not kept"
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    assert [(row.length, row.terminated) for row in store.episodes] == [
        (3 + following, True),
        (4 + following, False),
        (2 + following, False),
    ]
    read = store.read(1)
    assert read["proprio"][:, 0].tolist() == [3, 4, 5, 6] + [6.5] * following
    assert read["reward"][:4].tolist() == [3, 4, 5, 6]
    assert store.read_valid(1)["action"].tolist() == [True] * 4 + [False] * following
    assert store.spec.robot.position_low == (-8, -8)


@pytest.mark.parametrize("name", ["d4rl", "robomimic"])
def test_the_observation_after_the_last_action_is_no_transition(tmp_path: Path, name: str) -> None:
    d4rl_file(tmp_path / "in")
    import_dataset("d4rl", tmp_path / "in", tmp_path / "d")
    lost = export_dataset(ZarrStore.open(tmp_path / "d"), name, tmp_path / "out").lost
    assert not any("after their last action" in line for line in lost)
    with h5py.File(tmp_path / "in") as wanted, h5py.File(tmp_path / "out") as found:
        if name == "d4rl":
            for array in ("observations", "actions", "rewards", "terminals"):
                np.testing.assert_array_equal(found[array][:], wanted[array][:], err_msg=array)
            assert found["next_observations"][:, 0].tolist() == [1, 2, 2.5, 4, 5, 6, 6.5, 8, 8.5]
            assert np.flatnonzero(found["timeouts"][:]).tolist() == [6, 8]
        else:
            demo = found["data/demo_1"]
            assert (found["data"].attrs["total"], demo.attrs["num_samples"]) == (9, 4)
            assert demo["actions"][:, 0].tolist() == [-3, -4, -5, -6]
            assert demo["obs/proprio"][:, 0].tolist() == [3, 4, 5, 6]
            assert demo["next_obs/proprio"][:, 0].tolist() == [4, 5, 6, 6.5]
            assert (demo["rewards"][:].tolist(), demo["dones"][:].tolist()) == ([3, 4, 5, 6], [0, 0, 0, 1])
    import_dataset(name, tmp_path / "out", tmp_path / "back")
    assert diff(tmp_path / "d", tmp_path / "back") == []


def ogbench_file(file: Path, **changed: Any) -> None:
    """Two trajectories of 3 transitions, that is 4 rows each, as OGBench writes them."""
    numbers = np.arange(8, dtype=np.float32)
    arrays: dict[str, Any] = {
        "observations": np.repeat(numbers[:, None], 3, axis=1),
        "actions": np.repeat(-numbers[:, None], 2, axis=1),
        "terminals": np.isin(numbers, [3, 7]),
        "qpos": np.repeat(numbers[:, None], 5, axis=1).astype(np.float64),
    }
    np.savez_compressed(file, **{name: value for name, value in (arrays | changed).items() if value is not None})


@pytest.mark.parametrize("pictures", [False, True])
def test_an_ogbench_file(tmp_path: Path, pictures: bool) -> None:
    file = tmp_path / "cube-single-play-v0.npz"
    ogbench_file(file, **({"observations": np.stack([paint(n) for n in range(8)])} if pictures else {}))
    import_dataset("ogbench", file, tmp_path / "d", LOSSLESS)
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    assert store.spec.tasks == ("cube-single-play-v0",)
    for index in range(2):
        numbers = [4 * index + k for k in range(4)]
        read = store.read(index)
        if pictures:
            assert [painted_number(image) for image in read["image_observations"]] == numbers
        else:
            assert read["proprio"][:, 0].tolist() == numbers
        assert (-read["action"][:3, 1]).tolist() == numbers[:3]
        assert read["qpos"][:, 4].tolist() == numbers
        assert store.read_valid(index)["action"].tolist() == [True, True, True, False]


def replay_buffer(root: Path, **changed: Any) -> None:
    """A buffer as diffusion_policy makes it: grey levels as floats in chunks of many, stamps, two episodes."""
    group = zarr.open_group(str(root), mode="w", zarr_format=2)
    numbers = np.arange(8, dtype=np.float32)
    arrays: dict[str, Any] = {
        "action": np.repeat(numbers[:, None], 2, axis=1),
        "state": np.repeat(numbers[:, None], 5, axis=1),
        "img": np.stack([paint(number) for number in range(8)]).astype(np.float32),
        "timestamp": 1.7e9 + np.arange(8) * 0.1,
    }
    for name, value in (arrays | changed).items():
        group.create_array(f"data/{name}", data=value, chunks=(5, *value.shape[1:]))
    group.create_array("meta/episode_ends", data=np.array([3, 8]))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_replay_buffer_of_somebody_else(tmp_path: Path, zipped: bool) -> None:
    root = tmp_path / "pusht.zarr"
    replay_buffer(root)
    if zipped:
        with zipfile.ZipFile(tmp_path / "pusht.zarr.zip", "w") as archive:
            for file in sorted(root.rglob("*")):
                if file.is_file():
                    archive.write(file, str(file.relative_to(root)))
        root = tmp_path / "pusht.zarr.zip"
    import_dataset("diffusion_policy", root, tmp_path / "d", LOSSLESS)
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    assert store.spec.interface.control_hz == 10
    assert [row.length for row in store.episodes] == [3, 5]
    read = store.read(1)
    assert [painted_number(image) for image in read["image_img"]] == [3, 4, 5, 6, 7]
    assert read["action"][:, 0].tolist() == read["proprio"][:, 4].tolist() == [3, 4, 5, 6, 7]
    assert abs(store.read_stamps(1)["action"][0, 0] - (17 * 10**17 + 3 * 10**8)) < 1000


def test_timestamps_go_on_where_an_observation_is_lost(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec(cameras=()))
    with store.writer() as writer:
        for begin_ns in (17 * 10**17, None):
            writer.begin(EpisodeMeta())
            for number in range(6):
                lost = begin_ns is None or number in (0, 3)
                values = {"action": np.zeros(2, np.float32)} | ({} if lost else {"proprio": np.zeros(4, np.float32)})
                writer.append(values, {} if begin_ns is None or lost else {"proprio": begin_ns + number * 40_000_000})
            writer.commit(SUCCESS)
    export_dataset(store, "diffusion_policy", tmp_path / "out")
    found = np.asarray(zarr.open_group(tmp_path / "out")["data/timestamp"])
    assert found[:6] - 17e8 == pytest.approx([0.04 - 1 / 30, 0.04, 0.08, 0.12, 0.16, 0.2], abs=1e-5)
    assert found[6:] == pytest.approx(np.arange(6) / 30)


def test_grey_levels_from_0_to_1_are_no_night(tmp_path: Path) -> None:
    pictures = np.stack([paint(number) for number in range(8)])
    replay_buffer(tmp_path / "in", img=(pictures / 255).astype(np.float32))
    done = import_dataset("diffusion_policy", tmp_path / "in", tmp_path / "d", LOSSLESS)
    assert done.lost == ["data/img has levels from 0 to 1; they are taken times 255"]
    np.testing.assert_array_equal(ZarrStore.open(tmp_path / "d").read(1)["image_img"], pictures[3:])


@pytest.mark.skipif(ZARR2 is None, reason="ROBOLEARN_ZARR2_PYTHON names no interpreter with zarr 2")
def test_zarr_2_opens_ours(store: ZarrStore, tmp_path: Path) -> None:
    export_dataset(store, "diffusion_policy", tmp_path / "out")
    code = """
import sys, zarr
root = zarr.open(sys.argv[1], "r")
assert zarr.__version__.startswith("2"), zarr.__version__
for key, value in root["data"].items():
    assert value.shape[0] == root["meta"]["episode_ends"][-1], key
assert (root["data/action"][40] == 40).all() and (root["data/image_front"][1][0, 0] == 255).all()
assert list(root["meta"]["episode_ends"][:]) == [3, 73]
"""
    assert ZARR2 is not None
    subprocess.run([ZARR2, "-c", code, str(tmp_path / "out")], check=True, env={**os.environ, "PYTHONPATH": ""})


class Evil:
    """Leaves a trace when somebody unpickles it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def npz_that_lies(file: Path) -> None:
    """An archive whose header says 10^10 rows."""
    ogbench_file(file)
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**10, 3)}
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            if name == "observations.npy":
                with archive.open(name, "w") as out:
                    np.lib.format.write_array_header_1_0(out, header)  # type: ignore[arg-type]
                    out.write(b"\0" * 96)
            else:
                archive.writestr(name, data)


def npz_with_a_long_header(file: Path) -> None:
    """An array whose description is a hundred million spaces, packed."""
    ogbench_file(file, observations=None)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        magic = np.lib.format.magic(2, 0) + (10**8).to_bytes(4, "little")
        archive.writestr("observations.npy", magic + b" " * 10**8)


def buffer_with(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        replay_buffer(root)
        file = root / "data/state/.zarray"
        data = json.loads(file.read_text())
        change(data)
        file.write_text(json.dumps(data))

    return make


def buffer_link(root: Path) -> None:
    replay_buffer(root)
    secret = root.parent / "secret"
    secret.write_bytes(b"secret" * 20)
    (root / "data/state/0.0").unlink()
    (root / "data/state/0.0").symlink_to(secret)


def h5(make: Callable[[Path], None], change: Callable[[Any], object]) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        make(file)
        with h5py.File(file, "a") as opened:
            change(opened)

    return spoil


def replaced(name: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[name]
        file[name] = value

    return change


def chunked(file: Any) -> None:
    """Rows in one chunk that has room for a billion of them, which take next to none while they are zero."""
    del file["observations"]
    file.create_dataset("observations", (9, 3), "u1", chunks=(10**9, 3), maxshape=(None, 3), compression="gzip")


HOSTILE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "npz pickled": (
        "ogbench",
        lambda file: ogbench_file(file, qpos=np.array([Evil(file.parent / "trace")] * 8, object)),
        "qpos has dtype object, wanted numbers; pickled objects are refused",
    ),
    "npz lies": ("ogbench", npz_that_lies, "observations declares 111.8 GiB"),
    "npz header": ("ogbench", npz_with_a_long_header, "observations has a header of 100000000 bytes, wanted"),
    "npz wide": ("ogbench", lambda f: ogbench_file(f, actions=np.zeros((8, 5000))), "actions have 5000 entries each"),
    "npz unequal": ("ogbench", lambda f: ogbench_file(f, actions=np.zeros((3, 2))), "rows of actions 3"),
    "npz lacks": ("ogbench", lambda f: ogbench_file(f, terminals=None), "has no array terminals"),
    "npz cut": ("ogbench", lambda f: (ogbench_file(f), f.write_bytes(f.read_bytes()[:300])), "cannot be read as"),
    "pickle": ("ogbench", lambda f: f.write_bytes(pickle.dumps(Evil(f.parent / "trace"))), "cannot be read as ogbench"),
    "d4rl link": (
        "d4rl",
        h5(d4rl_file, replaced("rewards", h5py.ExternalLink("/etc/passwd", "/x"))),
        "rewards is a link, which is refused",
    ),
    "d4rl chunk": ("d4rl", h5(d4rl_file, chunked), "is stored in chunks of (1000000000, 3); one would not fit"),
    "d4rl short": ("d4rl", h5(d4rl_file, replaced("actions", np.zeros((4, 2)))), "does not fit"),
    "d4rl text": ("d4rl", h5(d4rl_file, replaced("rewards", np.array([b"x"] * 9))), "rewards has dtype |S1"),
    "d4rl cut": ("d4rl", lambda f: (d4rl_file(f), f.write_bytes(f.read_bytes()[:900])), "cannot be read as d4rl"),
    "minari short": (
        "minari",
        h5(minari_file, replaced("episode_1/observations/goal", np.zeros((2, 1)))),
        "episode_1: observations/goal does not fit its 3 actions",
    ),
    "minari soft link": (
        "minari",
        h5(minari_file, replaced("episode_1/rewards", h5py.SoftLink("/episode_0/rewards"))),
        "rewards is a link",
    ),
    "minari virtual": (
        "minari",
        h5(minari_file, lambda file: _virtual(file)),
        "episode_0/rewards is no array that lies in this file",
    ),
    "zarr objects": (
        "diffusion_policy",
        buffer_with(lambda d: d.update(dtype="|O", filters=[{"id": "pickle", "protocol": 5}])),
        "data/state has dtype |O and filters",
    ),
    "zarr filter": ("diffusion_policy", buffer_with(lambda d: d.update(filters=[{"id": "pickle"}])), "data/state has"),
    "zarr coder": ("diffusion_policy", buffer_with(lambda d: d.update(compressor={"id": "evil"})), "coded by 'evil'"),
    "zarr chunk": ("diffusion_policy", buffer_with(lambda d: d.update(chunks=[10**9, 5])), "would not fit into memory"),
    "zarr shape": ("diffusion_policy", buffer_with(lambda d: d.update(shape=[10**10, 5])), "data/state declares 186"),
    "zarr length": ("diffusion_policy", buffer_with(lambda d: d.update(shape=[7, 5])), "does not fit the arrays"),
    "zarr damaged": ("diffusion_policy", buffer_with(lambda d: d.pop("chunks")), ".zarray is damaged"),
    "zarr link": ("diffusion_policy", buffer_link, "a link names 'data/state/0.0', which lies outside of it"),
    "zarr chunk damaged": (
        "diffusion_policy",
        lambda root: (replay_buffer(root), (root / "data/state/0.0").write_bytes(b"rubbish")),
        "cannot be read as diffusion_policy",
    ),
}


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(3,))
    del file["episode_0/rewards"]
    file.create_virtual_dataset("episode_0/rewards", layout)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_broken_files(tmp_path: Path, name: str) -> None:
    kind, make, says = HOSTILE[name]
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / ("file.npz" if kind == "ogbench" else "file")
    make(file)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(DatasetError) as error:
        import_dataset(kind, file, tmp_path / "out")
    assert says in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path not in before or path.is_file()}
    assert not set(after) - set(before), "something was left, or unpickled"
    assert all(after[path] == before[path] for path in after)


def test_a_full_disk_wants_room_and_nothing_else(tmp_path: Path) -> None:
    """Nobody is told to salvage what lies in a folder that is gone."""
    ogbench_file(tmp_path / "in.npz")
    told = []
    for number in range(10, 450, 20):  # changes of files that go well
        out = tmp_path / str(number)
        with failing(errno.ENOSPC, number, once=True):
            try:
                import_dataset("ogbench", tmp_path / "in.npz", out)
            except DatasetError as error:
                told.append(str(error).replace(str(out), "out"))
                assert not out.exists()
    assert len(told) > 10
    assert set(told) == {"out cannot be written: No space left on device; make room and try again, nothing is left"}


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = dataset(tmp_path / "d", [3, 4])

    def torn(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in writable():
        calls: list[int] = []

        def progress(done: int, total: int, calls: list[int] = calls) -> None:
            calls.append(done)
            torn()

        with pytest.raises(DatasetError, match="No space left on device; make room"):
            export_dataset(store, name, tmp_path / "out", progress=progress)
        assert calls
        assert [entry.name for entry in tmp_path.iterdir()] == ["d"]
