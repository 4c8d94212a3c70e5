"""Bags: what is converted equals what the recorder makes of the same messages; contracts; hostile and broken files."""

from __future__ import annotations

import random
import re
import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import lz4.frame
import numpy as np
import pytest
from backports import zstd
from bags import PERIOD_NS, Sample, event, header, joint_states, message, picture, twin_episode, write_bag
from painted import SIZE, SUCCESS, dataset_spec, painted_number
from robolearn_nodes import topics
from robolearn_nodes.recording import Recording

from robolearn.datasets import contract as contracts
from robolearn.datasets.contract import Contract, graph_contract, load_contract
from robolearn.datasets.convert import export_dataset, import_dataset, rosbag
from robolearn.datasets.convert.source import ImportSettings
from robolearn.datasets.diff import diff
from robolearn.datasets.store import EpisodeMeta, ImageCodec
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.messages import coded_size, compressed_image, header_ns
from robolearn.specs import depth_spec
from robolearn.sync import EpisodeJoin

LOSSLESS = ImageCodec("jpegxl")


def two_episodes(jitter: Any = lambda: 0) -> Iterator[Sample]:
    yield from twin_episode("first", 0, 6, jitter)
    yield from twin_episode("second", 20, 4, jitter)


def record_live(path: Path, contract: Contract, samples: list[Sample]) -> ZarrStore:
    """What the recorder's node does with the messages of a graph."""
    store = ZarrStore.create(path, contract.spec)
    period_ns = round(1e9 / contract.spec.interface.control_hz)
    with store.writer() as writer:
        recording: Recording | None = None
        for topic, kind, received, body in samples:
            if topic == contracts.EPISODE and body.event == 0:
                meta = EpisodeMeta("push-v1", "push it", 7, id=body.episode_id)
                writer.begin(meta)
                recording = Recording(writer, contract.observed, contract.make_join())
                recording.begin(header_ns(body))
            elif topic == contracts.EPISODE:
                assert recording is not None
                if contract.sync == "exact":
                    assert recording.reached(header_ns(body), period_ns)
                recording.end(header_ns(body))
                recording.commit(SUCCESS)
                recording = None
            elif recording is not None:
                stamp = received if contract.sync == "grid" else -1
                recording.push(topic, header_ns(body), contract.read(topic, body, kind), stamp)
    return store


def test_topics_are_those_of_the_graph() -> None:
    for name in ("JOINT_STATES", "COMMAND", "COMMAND_SENT", "GROUND_TRUTH", "EPISODE"):
        assert getattr(contracts, name) == f"/{getattr(topics, name)}"
    assert contracts.image_topic("front") == f"/{topics.image_topic('front')}"
    assert contracts.depth_topic("front") == f"/{topics.depth_topic('front')}"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_of_the_twin_becomes_what_was_recorded_live(tmp_path: Path, storage: str) -> None:
    contract = graph_contract(dataset_spec(LOSSLESS))
    samples = list(two_episodes())
    live = record_live(tmp_path / "live", contract, samples)
    write_bag(tmp_path / "bag", iter(samples), storage, packed=storage == "sqlite3")
    settings = ImportSettings(contract=tmp_path / "live", image_codec=LOSSLESS)
    done = import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings)
    assert (done.episodes, done.steps, done.lost) == (2, 10, [])
    assert diff(live.path, tmp_path / "d") == []
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    assert [row.id for row in store.episodes] == ["first", "second"]
    assert [painted_number(image) for image in store.read(0)["image_front"]] == list(range(6))
    assert store.read(0)["action"][:, 0].tolist() == list(range(6))
    assert store.read(0)["action_source"].tolist() == [2] * 6
    assert store.read_valid(0)["image_wrist"].tolist() == [True, True, False, True, True, True]
    one_file = next((tmp_path / "bag").glob("*.mcap" if storage == "mcap" else "*.db3"))
    if storage == "mcap":
        import_dataset("rosbag", one_file, tmp_path / "again", settings)
        assert diff(tmp_path / "again", tmp_path / "d") == []


def test_a_bag_of_unequal_clocks_becomes_what_was_recorded_live(tmp_path: Path) -> None:
    draw = random.Random(0)
    samples = list(two_episodes(lambda: draw.randrange(-12_000_000, 12_000_000)))
    contract = graph_contract(dataset_spec(LOSSLESS), "grid")
    live = record_live(tmp_path / "live", contract, samples)
    write_bag(tmp_path / "bag", iter(samples))
    (tmp_path / "contract.yaml").write_text(CONTRACT + "episodes: /episode\n")
    settings = ImportSettings(contract=tmp_path / "contract.yaml", image_codec=LOSSLESS)
    import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings)
    rows = {(each.episode, each.field) for each in diff(live.path, tmp_path / "d")}
    assert not rows & {(name, field) for name in ("first", "second") for field in contract.spec.fields}
    assert not {field for name, field in rows if name}, rows
    assert ZarrStore.open(tmp_path / "d").read_stamps(0)["proprio"][0, 1] > 0


def with_depth(samples: Iterable[Sample]) -> Iterator[Sample]:
    """And depth of the front camera, in millimetres and in metres, with every picture of it but the one of step 3."""
    for topic, kind, received, body in samples:
        yield topic, kind, received, body
        number = painted_number(body.data.reshape(SIZE, SIZE, 3)) if topic == contracts.image_topic("front") else 3
        if number != 3:
            shape = {"header": body.header, "height": SIZE, "width": SIZE, "is_bigendian": 0}
            for name, encoding, dtype, unit in (("depth", "16UC1", "<u2", 1), ("registered", "32FC1", "<f4", 1000)):
                data = (painted_depth(number) / unit).astype(dtype)
                data[data == 0] = np.nan if encoding == "32FC1" else 0
                pixels = {"encoding": encoding, "step": data.strides[0], "data": data.reshape(-1).view(np.uint8)}
                yield f"/camera/front/{name}/image_raw", kind, received, message(kind, **shape, **pixels)


def painted_depth(number: int) -> np.ndarray:
    """(SIZE, SIZE) [mm] that tells the number; its first pixel was not measured."""
    depth = np.full((SIZE, SIZE), 1000 + number)
    depth[0, 0], depth[-1, -1] = 0, 65_535
    return depth


@pytest.mark.parametrize("sync", ["exact", "grid"])
def test_depth_of_a_bag_becomes_what_was_recorded_live(tmp_path: Path, sync: Any) -> None:
    spec = replace(dataset_spec(LOSSLESS), extra={"depth_front": depth_spec(SIZE, SIZE)})
    contract = graph_contract(spec, sync)
    assert contract.spec.interface == dataset_spec().interface  # who learns or acts sees nothing of it
    samples = list(with_depth(two_episodes()))
    known = [sample for sample in samples if sample[0] != "/camera/front/registered/image_raw"]
    live = record_live(tmp_path / "live", contract, known)
    write_bag(tmp_path / "bag", iter(samples))
    for name in ("depth", "registered"):
        topic = f"/camera/front/{name}/image_raw"
        text = CONTRACT.replace("sync: grid", f"sync: {sync}") + f"  {topic}: {{field: depth_front}}\n"
        (tmp_path / "contract.yaml").write_text(text + "episodes: /episode\n")
        settings = ImportSettings(contract=tmp_path / "contract.yaml", image_codec=LOSSLESS)
        done = import_dataset("rosbag", tmp_path / "bag", tmp_path / name, settings)
        store = ZarrStore.open(tmp_path / name)
        assert store.spec == live.spec
        assert verify(store.path).ok
        assert {each.field for each in diff(live.path, store.path) if each.episode} <= {"tags"}
        valid = store.read_valid(0)["depth_front"].tolist()
        assert valid == ([True] * 6 if sync == "grid" else [True, True, True, False, True, True])
        shown = [0, 1, 2, 2, 4, 5]  # on the grid the newest is held
        for step in np.flatnonzero(valid):
            np.testing.assert_array_equal(store.read(0)["depth_front"][step], painted_depth(shown[step]))
        assert not any("do not fit" in line for line in done.lost)


def test_depth_of_another_size_is_none_and_is_told(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", with_depth(two_episodes()))
    text = CONTRACT + "  /camera/front/depth/image_raw: {field: depth_front, size: [8, 8]}\n"
    (tmp_path / "contract.yaml").write_text(text)
    settings = ImportSettings(contract=tmp_path / "contract.yaml")
    done = import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings)
    assert any("depth_front is (16, 16), the dataset wants (8, 8)" in line for line in done.lost)
    (tmp_path / "contract.yaml").write_text(CONTRACT.replace("image_front", "depth_front"))
    with pytest.raises(DatasetError, match="depth of  is 'rgb8', expected 16UC1"):
        import_dataset("rosbag", tmp_path / "bag", tmp_path / "e", settings)


CONTRACT = """
task: push-v1
control_hz: 30
robot: {name: arm, joints: [shoulder, gripper], position_low: [-1.0e+5, -1.0e+5], position_high: [1.0e+5, 1.0e+5],
        max_speed: [1, 1]}
sync: grid
clock: /joint_states
streams:
  /joint_states: {field: proprio}
  /camera/front/image_raw: {field: image_front}
  /camera/wrist/image_raw: {field: image_wrist, size: [16, 16]}
  /joint_command: {field: action}
  /joint_command_sent: {field: action_sent}
"""

FORCE = CONTRACT.replace(
    "  /camera/wrist/image_raw: {field: image_wrist, size: [16, 16]}\n",
    """
  /force: {field: force, select: [wrench.force.x, wrench.force.z], unit: N, align: nearest, tolerance_s: 0.02}
""",
)


def a_minute_of_a_robot() -> Iterator[Sample]:
    """30 Hz joints, a camera of 10 Hz, a force sensor of 300 Hz that pauses, commands without a header."""
    wrench = "geometry_msgs/msg/WrenchStamped"
    zero = message("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    samples: list[Sample] = []
    for step in range(60):
        stamp = 10**12 + step * PERIOD_NS
        samples.append(("/joint_states", "sensor_msgs/msg/JointState", stamp + 500, joint_states(step, stamp)))
        if step % 3 == 0:
            samples.append(("/camera/front/image_raw", "sensor_msgs/msg/Image", stamp + 600, picture(step, stamp)))
        targets = message("std_msgs/msg/Float64MultiArray", data=np.full(2, step, np.float64),
                          layout=message("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0))  # fmt: skip
        samples.append(("/targets", "std_msgs/msg/Float64MultiArray", stamp + 700, targets))
    for number in range(600):
        stamp = 10**12 + number * PERIOD_NS // 10
        if not 200 <= number < 300:
            force = message("geometry_msgs/msg/Vector3", x=float(number), y=0.0, z=-float(number))
            body = message(
                wrench, header=header(stamp), wrench=message("geometry_msgs/msg/Wrench", force=force, torque=zero)
            )
            samples.append(("/force", wrench, stamp + 100, body))
    yield from sorted(samples, key=lambda sample: sample[2])


def test_a_bag_of_somebody_else(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", a_minute_of_a_robot())
    text = FORCE.replace("/joint_command: {field: action}", "/targets: {field: action, time: receive}")
    (tmp_path / "contract.yaml").write_text(text.replace("  /joint_command_sent: {field: action_sent}\n", ""))
    settings = ImportSettings(contract=tmp_path / "contract.yaml", image_codec=LOSSLESS)
    import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings)
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    assert store.spec.fields["force"].names == ("wrench.force.x", "wrench.force.z")
    read, valid, stamps = store.read(0), store.read_valid(0), store.read_stamps(0)
    assert read["proprio"][:, 0].tolist() == list(range(60))
    assert read["action"][:, 0].tolist() == list(range(60))
    assert [painted_number(p) for p in read["image_front"]] == [step // 3 * 3 for step in range(60)]  # held
    assert (
        stamps["proprio"][3:, 0] - stamps["image_front"][3:, 0] == [(s % 3) * PERIOD_NS for s in range(3, 60)]
    ).all()
    lost = [step for step in range(60) if not valid["force"][step]]
    assert lost == list(range(21, 30))  # nothing within 20 ms
    assert read["force"][~np.isin(np.arange(60), [*lost, 20, 30]), 0].tolist() == [
        10 * step for step in range(60) if step not in (*lost, 20, 30)
    ]


def test_of_a_long_pause_between_episodes_its_end_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = list(twin_episode("first", 0, 4))
    for step in range(5, 605):
        stamp = (step + 1) * PERIOD_NS
        samples.append((contracts.image_topic("front"), "sensor_msgs/msg/Image", stamp, picture(step, stamp)))
    samples += twin_episode("second", 605, 4)
    live = record_live(tmp_path / "live", graph_contract(dataset_spec(LOSSLESS)), samples)
    write_bag(tmp_path / "bag", iter(samples))
    pushed: list[int] = []
    push = EpisodeJoin.push

    def counted(join: EpisodeJoin, topic: str, stamp_ns: int, *rest: Any) -> Any:
        pushed.append(stamp_ns)
        return push(join, topic, stamp_ns, *rest)

    monkeypatch.setattr(EpisodeJoin, "push", counted)
    import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", ImportSettings(contract=live.path))
    assert diff(live.path, tmp_path / "d") == []
    assert 0 < sum(5 * PERIOD_NS < stamp <= 605 * PERIOD_NS for stamp in pushed) <= 70  # of 600


def test_what_comes_behind_a_leap_of_time_is_told(tmp_path: Path) -> None:
    def paused() -> Iterator[Sample]:
        yield from a_minute_of_a_robot()
        for step in range(60, 90):
            stamp = 10**12 + step * PERIOD_NS + 61 * 10**9
            yield "/joint_states", "sensor_msgs/msg/JointState", stamp + 500, joint_states(step, stamp)

    write_bag(tmp_path / "bag", paused())
    text = FORCE.replace("/joint_command: {field: action}", "/targets: {field: action, time: receive}")
    (tmp_path / "contract.yaml").write_text(text.replace("  /joint_command_sent: {field: action_sent}\n", ""))
    settings = ImportSettings(contract=tmp_path / "contract.yaml", image_codec=LOSSLESS)
    done = import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings)
    assert done.steps == 60
    assert [line.partition(":")[0] for line in done.lost] == ["/joint_states"]
    assert "30 messages are in no step: two of one stamp, or a leap of more than 60 s" in done.lost[0]


def test_a_sensor_keeps_its_own_rate(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", a_minute_of_a_robot())
    text = FORCE.replace("align: nearest, tolerance_s: 0.02", "align: interpolate, tolerance_s: 0.02, rate_hz: 300")
    text = text.replace("/joint_command: {field: action}", "/targets: {field: action, time: receive}")
    (tmp_path / "contract.yaml").write_text(text.replace("  /joint_command_sent: {field: action_sent}\n", ""))
    settings = ImportSettings(contract=tmp_path / "contract.yaml", image_codec=LOSSLESS)
    import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings)
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    values, times = store.read_stream(0, "force")
    assert values[:, 0].tolist() == [number for number in range(600) if not 200 <= number < 300]
    assert times[:, 0].tolist() == [10**12 + int(number) * PERIOD_NS // 10 for number in values[:, 0]]
    assert (times[:, 1] == times[:, 0] + 100).all()
    aligned = store.read(0, ["force"])["force"]
    np.testing.assert_allclose(aligned[:20, 0], np.arange(20) * 10, atol=0.01)
    lost = export_dataset(store, "robomimic", tmp_path / "file").lost
    assert "stream force is not kept: robomimic has one rate for all" in lost
    import_dataset("robomimic", tmp_path / "file", tmp_path / "back")


@pytest.mark.parametrize("latency_ns", [0, 5_000_000])
def test_a_sensor_of_its_own_rate_begins_and_ends_with_the_episode(tmp_path: Path, latency_ns: int) -> None:
    zero = message("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    samples = [*twin_episode("first", 0, 4), *twin_episode("second", 20, 4)]
    for number in range(300):  # ten a step, from before the first episode to behind the second one
        stamp = number * PERIOD_NS // 10 + 500_000
        if number == 33:
            stamp -= PERIOD_NS  # of a clock that was set back for a moment
        force = message("geometry_msgs/msg/Vector3", x=float(number), y=0.0, z=0.0)
        wrench = message("geometry_msgs/msg/Wrench", force=force, torque=zero)
        body = message("geometry_msgs/msg/WrenchStamped", header=header(stamp), wrench=wrench)
        received = number * PERIOD_NS // 10 + 500_000 + latency_ns
        samples.append(("/force", "geometry_msgs/msg/WrenchStamped", received, body))
    write_bag(tmp_path / "bag", iter(sorted(samples, key=lambda sample: sample[2])))
    force_line = "  /force: {field: force, select: [wrench.force.x], rate_hz: 300}\n"
    (tmp_path / "contract.yaml").write_text(f"{CONTRACT}{force_line}episodes: /episode\n")
    settings = ImportSettings(contract=tmp_path / "contract.yaml", image_codec=LOSSLESS)
    done = import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings)
    assert done.lost == ["/force: 1 messages have a stamp before that of the last one, and are left out"]
    store = ZarrStore.open(tmp_path / "d")
    first, second = (store.read_stream(index, "force")[0][:, 0].tolist() for index in range(2))
    assert first == [number for number in range(10, 50) if number != 33]  # from the first stamp to before the last
    assert second == list(range(210, 250))


def test_what_was_discarded_or_never_moved_is_left_out(tmp_path: Path) -> None:
    unwanted = list(twin_episode("unwanted", 10, 4))
    topic, kind, received, ended = unwanted[-1]
    unwanted[-1] = topic, kind, received, replace(ended, discarded=True)
    stamp = 20 * PERIOD_NS
    empty = [(topic, kind, stamp, event(number, "empty", stamp)) for number in (0, 1)]
    samples = [*twin_episode("first", 0, 4), *unwanted, *empty, *twin_episode("second", 30, 4)]
    contract = graph_contract(dataset_spec(LOSSLESS))
    ZarrStore.create(tmp_path / "contract", contract.spec)
    write_bag(tmp_path / "bag", iter(samples))
    done = import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", ImportSettings(contract=tmp_path / "contract"))
    assert (done.episodes, done.steps) == (2, 8)
    assert done.lost == ["2 episodes are left out: discarded when they were recorded, or without a step"]
    store = ZarrStore.open(tmp_path / "d")
    assert [(row.id, row.length) for row in store.episodes] == [("first", 4), ("second", 4)]
    assert store.read(1)["action"][:, 0].tolist() == [30, 31, 32, 33]
    assert verify(store.path).ok


BROKEN_CONTRACTS = {
    "not a mapping": ("[1, 2]", "no mapping"),
    "no YAML": ("a: [", "no YAML"),
    "no robot": (CONTRACT.replace("robot:", "machine:"), "'machine'"),
    "unknown key": (CONTRACT.replace("field: proprio", "field: proprio, speed: 3"), "'speed'"),
    "twice": (CONTRACT.replace("image_wrist", "image_front"), "filled by more than one"),
    "clock": (CONTRACT.replace("clock: /joint_states", "clock: /tick"), "/tick is none of the streams"),
    "align": (CONTRACT.replace("{field: image_front}", "{field: image_front, align: newest}"), "'newest'"),
    "limits": (CONTRACT.replace("max_speed: [1, 1]", "max_speed: [1]"), "one entry a joint"),
    "select": (CONTRACT.replace("field: proprio", "field: effort"), "select names no numbers"),
    "type": (CONTRACT.replace("control_hz: 30", "control_hz: fast"), "wrong type"),
    "topic": (CONTRACT.replace("/camera/front", "/camera/top"), "no picture"),
    "message type": (
        CONTRACT.replace("{field: proprio}", "{field: proprio, type: a/msg/B}"),
        "the contract says a/msg/B",
    ),
}


@pytest.mark.parametrize("name", BROKEN_CONTRACTS)
def test_broken_contracts(tmp_path: Path, name: str) -> None:
    text, says = BROKEN_CONTRACTS[name]
    write_bag(tmp_path / "bag", two_episodes())
    (tmp_path / "contract.yaml").write_text(text)
    with pytest.raises(DatasetError) as error:
        import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", ImportSettings(contract=tmp_path / "contract.yaml"))
    assert says in str(error.value)
    assert not (tmp_path / "d").exists()


def test_hostile_and_broken_bags(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    settings = ImportSettings(contract=tmp_path / "contract.yaml")
    samples = list(two_episodes())

    def bag(name: str, storage: str = "mcap") -> Path:
        write_bag(tmp_path / name, iter(samples), storage)
        return tmp_path / name

    cases = {}
    for storage in ("mcap", "sqlite3"):
        file = next(bag(f"cut_{storage}", storage).glob("*[mdb][cb][a3]*"))
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
        cases[f"cut_{storage}"] = "cannot be read as rosbag"
    file = next(bag("linked").glob("*.mcap"))
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    cases["linked"] = "lies outside of it"
    metadata = bag("gone") / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("gone.mcap", "../../etc/passwd"))
    cases["gone"] = "cannot be read as rosbag"
    (tmp_path / "empty").mkdir()
    cases["empty"] = "cannot be read as rosbag"
    (tmp_path / "text").write_text("no bag")
    cases["text"] = "cannot be read as rosbag"
    for name, says in cases.items():
        with pytest.raises(DatasetError) as error:
            import_dataset("rosbag", tmp_path / name, tmp_path / "out", settings)
        assert says in str(error.value), name
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()
    with pytest.raises(DatasetError, match="needs a contract"):
        import_dataset("rosbag", tmp_path / "linked", tmp_path / "out")


def mcap_of_a_chunk(file: Path, name: str, packed: bytes, size: int) -> None:
    """An MCAP file whose only chunk says that it has `size` bytes."""

    def record(code: int, body: bytes) -> bytes:
        return struct.pack("<BQ", code, len(body)) + body

    told = struct.pack("<QQQI", 0, 1, size, 0) + struct.pack("<I", len(name)) + name.encode()
    magic = b"\x89MCAP0\r\n"
    parts = [
        magic,
        record(1, struct.pack("<I4sI", 4, b"ros2", 0)),
        record(6, told + struct.pack("<Q", len(packed)) + packed),
    ]
    file.write_bytes(b"".join([*parts, record(15, bytes(4)), record(2, bytes(20)), magic]))


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_a_chunk_is_not_unpacked_beyond_what_it_says(tmp_path: Path, name: str) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    compress = {"zstd": zstd.compress, "lz4": lz4.frame.compress}[name]
    mcap_of_a_chunk(tmp_path / "bomb.mcap", name, compress(bytes(1 << 26)), 1000)
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"bomb.mcap cannot be .* unpacks to more than 1000 bytes"):
        import_dataset(
            "rosbag", tmp_path / "bomb.mcap", tmp_path / "out", ImportSettings(contract=tmp_path / "contract.yaml")
        )
    assert tracemalloc.get_traced_memory()[1] < 1 << 25
    tracemalloc.stop()


def test_a_message_is_not_unpacked_beyond_what_fits_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    write_bag(tmp_path / "bag", two_episodes(), packed=True)
    monkeypatch.setattr(rosbag, "MAX_CHUNK_BYTES", 700)
    with pytest.raises(DatasetError, match=r"bag cannot be read .* unpacks to more than 700 bytes"):
        import_dataset(
            "rosbag", tmp_path / "bag", tmp_path / "out", ImportSettings(contract=tmp_path / "contract.yaml")
        )


def test_a_packed_file_of_another_name_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    write_bag(tmp_path / "bag", two_episodes())
    file = next((tmp_path / "bag").glob("*.mcap"))
    (tmp_path / "bag" / "bag.data").write_bytes(zstd.compress(file.read_bytes()))
    metadata = (tmp_path / "bag" / "metadata.yaml").read_text().replace(file.name, "bag.data")
    metadata = re.sub("compression_format:.*", "compression_format: zstd", metadata)
    (tmp_path / "bag" / "metadata.yaml").write_text(re.sub("compression_mode:.*", "compression_mode: FILE", metadata))
    file.unlink()
    settings = ImportSettings(contract=tmp_path / "contract.yaml")
    assert import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings).episodes == 1
    monkeypatch.setattr(rosbag, "MAX_UNPACKED_BYTES", 1000)
    monkeypatch.setattr(rosbag, "MAX_RATIO", 1)
    with pytest.raises(DatasetError, match=r"bag.data unpacks to more than"):
        import_dataset("rosbag", tmp_path / "bag", tmp_path / "out", settings)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_picture_of_an_absurd_size_is_not_decoded(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    coded = cv2.imencode(ending, np.zeros((21, 35, 3), np.uint8))[1].tobytes()
    assert coded_size(coded) == (21, 35)
    assert coded_size(coded[:20]) is None
    size = struct.pack(">HH", 21, 35) if ending == ".jpg" else struct.pack(">II", 35, 21)
    coded = coded.replace(
        size, struct.pack(">HH", 40000, 50000) if ending == ".jpg" else struct.pack(">II", 50000, 40000)
    )
    monkeypatch.setattr(cv2, "imdecode", None)
    message = SimpleNamespace(data=coded, format=ending, header=SimpleNamespace(frame_id="front"))
    with pytest.raises(SpecError, match="is 40000x50000, wanted at most"):
        compressed_image(message)


def test_messages_of_rubbish_are_counted_and_nothing_shifts(tmp_path: Path) -> None:
    samples = list(two_episodes())
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    number = next(n for n, sample in enumerate(samples) if sample[0] == "/camera/front/image_raw" and n > 6)
    samples[number][3].height = 9  # a camera that changes its size
    samples[number + 1][3].encoding = "16UC1"
    write_bag(tmp_path / "bag", iter(samples))
    settings = ImportSettings(contract=tmp_path / "contract.yaml", image_codec=LOSSLESS)
    done = import_dataset("rosbag", tmp_path / "bag", tmp_path / "d", settings)
    for why in (r"image_front is (9, 16, 3), the dataset wants (16, 16, 3)", "image of  is '16UC1', expected rgb8 or"):
        assert any(f"1 messages do not fit: {why}" in line for line in done.lost)
    write_bag(tmp_path / "whole", two_episodes())
    import_dataset("rosbag", tmp_path / "whole", tmp_path / "w", settings)
    store, whole = ZarrStore.open(tmp_path / "d"), ZarrStore.open(tmp_path / "w")
    assert verify(store.path).ok
    masks, masks_before, read = store.read_valid(0), whole.read_valid(0), store.read(0)
    lost = {name: int((masks_before[name] & ~masks[name]).sum()) for name in masks}
    assert {name: count for name, count in lost.items() if count} == {
        "image_front": 1,
        "image_wrist": 2,
    }  # of which one is held
    for name, values in whole.read(0).items():
        there = masks.get(name, np.ones(len(values), bool))
        np.testing.assert_array_equal(read[name][there], values[there])


def test_contract_of_a_file_is_that_of_the_graph(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT + "episodes: /episode\n")
    read = load_contract(tmp_path / "contract.yaml", lambda stream: (16, 16))
    graph = graph_contract(dataset_spec(), "grid")
    assert read.spec == graph.spec
    period = round(1e9 / 30)
    assert {t: s.rule(period) for t, s in read.streams.items()} == {t: s.rule(period) for t, s in graph.streams.items()}
    assert (read.sync, read.clock, read.episodes) == (graph.sync, graph.clock, graph.episodes)
