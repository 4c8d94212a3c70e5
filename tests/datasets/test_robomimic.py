from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from painted import SUCCESS, dataset, dataset_spec, stamps, step

from robolearn.datasets.convert import export_dataset, import_dataset
from robolearn.datasets.convert.source import ImportSettings
from robolearn.datasets.store import EpisodeMeta, ImageCodec
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.types import EpisodeOutcome

h5py = pytest.importorskip("h5py")


def test_there_and_back_loses_nothing(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec(ImageCodec("jpegxl")))
    with store.writer() as writer:
        for first, length in ((0, 3), (3, 11)):
            writer.begin(EpisodeMeta("push-v1", "push it", first, tags={"table": 3}))
            for number in range(first, first + length):
                values = step(number)
                if number == 4:
                    del values["image_wrist"]
                writer.append(values, stamps(number), stamps(number + 1))  # type: ignore[arg-type]
            writer.commit(SUCCESS if first else EpisodeOutcome(None, False, True, "stopped"))
    lost = export_dataset(store, "robomimic", tmp_path / "d.hdf5").lost
    assert [line.partition(";")[0] for line in lost[1:]] == ["image_wrist: 1 masked steps"]
    assert import_dataset("robomimic", tmp_path / "d.hdf5", tmp_path / "back").lost == []
    back = ZarrStore.open(tmp_path / "back")
    assert verify(back.path).ok
    assert back.spec == store.spec
    assert back.episodes == store.episodes
    for index in range(2):
        for read in ("read", "read_stamps", "read_valid"):
            theirs = getattr(back, read)(index)
            for name, values in getattr(store, read)(index).items():
                np.testing.assert_array_equal(theirs[name], values, err_msg=name)
    with h5py.File(tmp_path / "d.hdf5") as file:
        assert file["data"].attrs["total"] == 14
        assert set(file["mask/train"][()]) | set(file["mask/valid"][()]) == {b"demo_0", b"demo_1"}
        assert file["data/demo_1/rewards"][()].tolist() == [0.0] * 10 + [1.0]
        np.testing.assert_array_equal(file["data/demo_1/next_obs/proprio"][:-1], file["data/demo_1/obs/proprio"][1:])


def foreign(file: Path, demos: int = 12) -> None:
    with h5py.File(file, "w") as out:
        data = out.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for number in range(demos):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = np.full((5, 7), number / demos)
            demo["rewards"] = np.array([0, 0, 0, 0, number % 2], np.float64)
            demo["obs/robot0_eef_pos"] = np.full((5, 3), number, np.float64)
            demo["obs/robot0_gripper_qpos"] = np.zeros((5, 2))
            demo["obs/agentview_image"] = np.full((5, 8, 8, 3), number, np.uint8)


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    foreign(tmp_path / "lift.hdf5")
    settings = ImportSettings(image_codec=ImageCodec("jpegxl"))
    done = import_dataset("robomimic", tmp_path / "lift.hdf5", tmp_path / "d", settings)
    assert any("20 Hz is assumed" in line for line in done.lost)
    assert (done.episodes, done.steps) == (12, 60)
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    assert store.spec.tasks == ("Lift",)
    assert store.spec.interface.observation["proprio"].names[:2] == ("robot0_eef_pos.0", "robot0_eef_pos.1")
    assert [episode.success for episode in store.episodes] == [False, True] * 6
    for index in range(12):  # demo_10 comes after demo_9, not after demo_1
        read = store.read(index)
        assert (read["image_agentview"] == index).all()
        assert read["reward"].tolist() == [0, 0, 0, 0, index % 2]
        assert (read["proprio"][:, :3] == index).all()


def test_what_robosuite_and_its_kin_say_beside_the_arrays(tmp_path: Path) -> None:
    foreign(tmp_path / "lift.hdf5", demos=4)
    with h5py.File(tmp_path / "lift.hdf5", "a") as file:
        data = file["data"]
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 50}})
        data.attrs["problem_info"] = json.dumps({"language_instruction": "lift the cube"})
        data["demo_1"].attrs["ep_meta"] = json.dumps({"lang": "put it down"})
        data["demo_2/rewards"][()] = [0, 0.125, 0.25, 0.5, 0.25]  # shaped: near, and never there
    done = import_dataset("robomimic", tmp_path / "lift.hdf5", tmp_path / "d")
    assert not any("Hz is assumed" in line for line in done.lost)
    store = ZarrStore.open(tmp_path / "d")
    assert store.spec.interface.control_hz == 50
    assert np.diff(store.read_stamps(0)["action"][:, 0]).tolist() == [20_000_000] * 4
    assert [row.instruction for row in store.episodes] == ["lift the cube", "put it down", *["lift the cube"] * 2]
    assert [row.success for row in store.episodes] == [False, True, None, True]
    assert [row.terminated for row in store.episodes] == [False, True, False, True]
    slower = ImportSettings(control_hz=10)
    import_dataset("robomimic", tmp_path / "lift.hdf5", tmp_path / "slow", slower)
    assert ZarrStore.open(tmp_path / "slow").spec.interface.control_hz == 10


def test_the_observation_after_the_last_action_is_kept(tmp_path: Path) -> None:
    foreign(tmp_path / "lift.hdf5", demos=2)
    with h5py.File(tmp_path / "lift.hdf5", "a") as file:
        file["mask/train"] = np.array([b"demo_0"])
        for demo in file["data"].values():
            for name, values in demo["obs"].items():
                demo[f"next_obs/{name}"] = values[()] + np.array(9, values.dtype)
    done = import_dataset(
        "robomimic", tmp_path / "lift.hdf5", tmp_path / "d", ImportSettings(20.0, ImageCodec("jpegxl"))
    )
    assert done.lost == ["filter keys (mask) are not kept"]
    store = ZarrStore.open(tmp_path / "d")
    assert (done.steps, verify(store.path).ok) == (12, True)
    read, valid = store.read(1), store.read_valid(1)
    assert read["proprio"][:, 0].tolist() == [1] * 5 + [10]
    assert read["image_agentview"][:, 0, 0, 0].tolist() == [1] * 5 + [10]
    assert valid["action"].tolist() == [True] * 5 + [False]
    assert store.episodes[1].tags["closing_row"]


def test_hostile_and_broken_files(tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        foreign(tmp_path / name, 2)
        return tmp_path / name

    (tmp_path / "secret.hdf5").write_bytes(b"")
    foreign(tmp_path / "victim.hdf5", 2)
    files = {}
    with h5py.File(broken("external"), "a") as file:
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = h5py.ExternalLink(str(tmp_path / "victim.hdf5"), "/data/demo_0/actions")
        files["external"] = "demo_1/actions is a link"
    with h5py.File(broken("raw"), "a") as file:
        del file["data/demo_0/actions"]
        file["data/demo_0"].create_dataset(
            "actions", (5, 7), "f8", external=[(str(tmp_path / "victim.hdf5"), 0, h5py.h5f.UNLIMITED)]
        )
        files["raw"] = "demo_0/actions is no array that lies in this file"
    with h5py.File(broken("short"), "a") as file:
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = np.zeros((4, 7))
        files["short"] = "demo_1: its fields have unequal lengths"
    with h5py.File(broken("wide"), "a") as file:
        del file["data/demo_1/obs/robot0_eef_pos"]
        file["data/demo_1/obs/robot0_eef_pos"] = np.zeros((5, 9))
        files["wide"] = "episode 1: proprio is float32"
    with h5py.File(broken("text"), "a") as file:
        del file["data/demo_0/actions"]
        file["data/demo_0/actions"] = np.array([b"rm -rf"] * 5)
        files["text"] = "wanted numbers"
    with h5py.File(broken("empty"), "a") as file:
        del file["data"]
        files["empty"] = "/data is missing"
    with h5py.File(broken("huge"), "a") as file:
        del file["data/demo_1/obs/robot0_eef_pos"]
        file["data/demo_1/obs"].create_dataset("robot0_eef_pos", (10**9, 3), "f8", chunks=(1024, 3))
        files["huge"] = "demo_1/obs/robot0_eef_pos declares 22.4 GiB, but holds"
    export_dataset(dataset(tmp_path / "d", [2]), "robomimic", tmp_path / "ours")
    with h5py.File(tmp_path / "ours", "a") as file:
        spec = json.loads(file["data"].attrs["robolearn"])
        spec["interface"]["observation"]["image_front"]["shape"] = [10**5, 10**5, 3]
        file["data"].attrs["robolearn"] = json.dumps(spec)
        files["ours"] = r"image_front declares the shape \(1, 100000, 100000, 3\); a step of it would not fit"
    (tmp_path / "cut").write_bytes((tmp_path / "victim.hdf5").read_bytes()[:500])
    (tmp_path / "no").write_text("not HDF5")
    files |= {"cut": "cannot be read", "no": "cannot be read", "nowhere": "does not exist"}
    for name, says in files.items():
        with pytest.raises(DatasetError, match=says) as error:
            import_dataset("robomimic", tmp_path / name, tmp_path / "out")
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_an_action_that_never_changes_has_limits_that_can_be_learned_in(tmp_path: Path) -> None:
    foreign(tmp_path / "d.hdf5", demos=1)  # whose actions are all 0
    import_dataset("robomimic", tmp_path / "d.hdf5", tmp_path / "d.zarr")
    robot = ZarrStore.open(tmp_path / "d.zarr").spec.robot
    assert robot.position_low == (-0.01,) * 7
    assert robot.position_high == (0.01,) * 7


def test_a_folder_is_no_file_of_robomimic(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is a folder, robomimic's datasets are files"):
        import_dataset("robomimic", tmp_path, tmp_path / "d.zarr")
