"""What the embedded message classes promise beyond rclpy: nothing wrong is ever stored, arrays are not copied."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from hypothesis import given
from hypothesis import strategies as st
from robolearn_msgs.msg import ActionChunk, EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from sensor_msgs.msg import CameraInfo, Image, JointState
from shape_msgs.msg import Mesh
from std_msgs.msg import Float32, Int8, String, UInt8

from robolearn.errors import UnknownNameError
from robolearn.ros import definitions, messages


@pytest.mark.parametrize(
    ("cls", "field", "value", "error"),
    [
        (String, "data", 3, TypeError),
        (String, "data", b"bytes", TypeError),
        (Int8, "data", 200, ValueError),
        (UInt8, "data", -1, ValueError),
        (UInt8, "data", 1.0, TypeError),
        (Float32, "data", "1.0", TypeError),
        (Float32, "data", True, TypeError),
        (Float32, "data", 1e39, ValueError),
        (JointState, "header", String(), TypeError),
        (JointState, "name", "joint", TypeError),
        (JointState, "name", ["a", 1], TypeError),
        (JointState, "position", "abc", TypeError),
        (JointState, "position", ["a"], TypeError),
        (JointState, "position", [None], TypeError),
        (JointState, "position", [[1.0], [1.0, 2.0]], TypeError),
        (JointState, "position", 1.0, TypeError),
        (Image, "data", [256], ValueError),
        (Image, "data", [0.5], TypeError),
        (Image, "data", np.array([1.0]), TypeError),
        (CameraInfo, "k", [1.0] * 8, ValueError),
        (DiagnosticStatus, "level", 1, TypeError),
        (DiagnosticStatus, "level", b"ab", ValueError),
        (DiagnosticStatus, "values", [1], TypeError),
    ],
)
def test_a_wrong_value_is_refused_and_the_field_kept(cls: Any, field: str, value: Any, error: type[Exception]) -> None:
    message = cls()
    before = messages.clone(message)
    with pytest.raises(error, match=rf"{cls.__name__}\.{field}: wanted"):
        setattr(message, field, value)
    assert message == before


def test_whole_numbers_become_floats_not_garbage() -> None:
    message = JointState(position=np.array([1, 2], dtype=np.int64), velocity=[3, 4])
    assert message.position.dtype == message.velocity.dtype == np.float64
    assert message.position.tolist() == [1.0, 2.0]
    assert Float32(data=2).data == 2.0


def test_arrays_are_kept_without_a_copy() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    image = Image(data=pixels)
    assert np.shares_memory(image.data, pixels)
    assert image.data.shape == (30_000,)
    data = bytes(messages.serialize(image))
    received = messages.deserialize(data, Image)
    assert np.shares_memory(received.data, np.frombuffer(data, np.uint8))


def test_a_clone_is_independent() -> None:
    message = JointState(name=["a"], position=[1.0])
    copy = messages.clone(message)
    message.position[0] = 2.0
    message.name.append("b")
    message.header.frame_id = "changed"
    assert copy == JointState(name=["a"], position=[1.0])


def test_a_spoiled_list_is_refused_when_sent() -> None:
    message = JointState(name=["a"])
    message.name.append(3)
    with pytest.raises(TypeError, match="cannot be serialised"):
        messages.serialize(message)


@given(st.binary(max_size=200))
def test_random_bytes_parse_or_raise_value_error(data: bytes) -> None:
    for cls in (JointState, Image, DiagnosticStatus, EpisodeEvent, StopEpisode.Request):
        try:
            messages.deserialize(data, cls)
        except ValueError:
            continue


@given(st.integers(min_value=0, max_value=99))
def test_truncated_bytes_parse_or_raise_value_error(length: int) -> None:
    data = bytes(messages.serialize(JointState(name=["shoulder", "gripper"], position=[1.0, 2.0])))
    try:
        messages.deserialize(data[:length], JointState)
    except ValueError:
        return
    assert length >= len(data) - 3  # only padding may be missing


def test_a_sequence_of_more_items_than_there_are_bytes_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="a sequence of 4294967295 at byte 8"):
        messages.deserialize(b"\0\1\0\0\xff\xff\xff\xff", Mesh)


def test_our_own_messages() -> None:
    chunk = ActionChunk(joint_names=["a"], num_actions=2, actions=[0.5, 1.5])
    assert chunk.actions.dtype == np.float32
    assert EpisodeEvent.ENDED == 1
    assert StartEpisode.Request(task="push-v1", seed=-3).seed == -3
    assert isinstance(StopEpisode.Request().event, EpisodeEvent)


def test_user_packages_and_actions(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lab_msgs"
    (package / "msg").mkdir(parents=True)
    (package / "action").mkdir()
    (package / "msg" / "Limits.msg").write_text("float64[<=2] bounds\nstring<=3 unit rad\nint32 rank 7\nuint8 A=1\n")
    (package / "action" / "Go.action").write_text("Limits limits\n---\nbool ok\n---\nfloat32 done\n")
    (package / "msg" / "Broken.msg").write_text("float65 x y z\n")
    monkeypatch.setenv("ROBOLEARN_MSGS_PATH", str(tmp_path))
    definitions.search_path.cache_clear()
    limits = messages.message_class("lab_msgs/msg/Limits")
    assert (limits().unit, limits().rank, limits.A) == ("rad", 7, 1)
    with pytest.raises(ValueError, match="at most 2"):
        limits(bounds=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="at most 3"):
        limits(unit="degree")
    go = messages.action_class("lab_msgs/action/Go")
    assert go.Impl.SendGoalService.Request(goal=go.Goal(limits=limits(rank=1))).goal.limits.rank == 1
    with pytest.raises((ValueError, UnknownNameError), match="Broken"):
        messages.message_class("lab_msgs/msg/Broken")
    monkeypatch.delenv("ROBOLEARN_MSGS_PATH")
    definitions.search_path.cache_clear()


def test_our_messages_are_found_where_an_install_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "share" / "robolearn" / "ros_ws" / "src" / "robolearn_msgs"
    (installed / "msg").mkdir(parents=True)
    for packages in ("lib/python3.12/site-packages", ""):  # of a virtual environment or ~/.local, of a --target
        monkeypatch.setattr(definitions, "__file__", str(tmp_path / packages / "robolearn" / "ros" / "definitions.py"))
        definitions.search_path.cache_clear()
        assert definitions.search_path()["robolearn_msgs"] == installed
    monkeypatch.undo()
    definitions.search_path.cache_clear()


def test_unknown_names_show_near_misses() -> None:
    with pytest.raises(ImportError, match="JointStat"):
        from sensor_msgs.msg import JointStat  # noqa: F401
    with pytest.raises(UnknownNameError, match="sensor_msgs/msg/JointState"):
        messages.message_class("sensor_msgs/msg/JointStat")


@cache
def wide_class() -> Any:
    lines = (
        "int8 a",
        'wstring text "hi"',
        " wstring[] texts  # some",
        "string narrow",
        "wstring NAME='n'",
        "int8 wstring_b",
    )
    definition = definitions.parse("test_msgs/msg/Wide", "\n".join(["# of wstring", *lines, ""]))
    assert dict(definition.fields)["narrow"][1] == ("string", 0)
    return messages._define(definition)


@given(st.text(max_size=20), st.lists(st.text(max_size=3), max_size=3), st.integers(-128, 127))
def test_wide_strings_are_utf16_units_of_32_bits(text: str, texts: list[str], number: int) -> None:
    cls = wide_class()
    assert (cls().text, cls.NAME) == ("hi", "n")
    message = cls(a=number, text=text, texts=texts, narrow="x", wstring_b=number)
    data = bytes(messages.serialize(message))
    units = np.frombuffer(text.encode("utf-16-le"), "<u2")
    assert data[8:12] == len(units).to_bytes(4, "little")
    assert np.frombuffer(data[12 : 12 + 4 * len(units)], "<u4").tolist() == units.tolist()
    assert messages.deserialize(data, cls) == message
    for end in range(4, len(data)):
        with pytest.raises(ValueError, match="are no test_msgs"):
            messages.deserialize(data[:end], cls)


def test_a_wide_string_from_elsewhere() -> None:
    cls = messages.message_class("example_interfaces/msg/WString")
    assert cls.get_fields_and_field_types() == {"data": "wstring"}
    big = b"\0\0\0\0" + (3).to_bytes(4, "big") + b"".join(code.to_bytes(4, "big") for code in (0xE9, 0xD83D, 0xDE00))
    assert messages.deserialize(big, cls) == cls(data="é\U0001f600")
    for unit in (0x10000, 0xD800):  # beyond 16 bits, and half a pair
        with pytest.raises(ValueError, match="are no example_interfaces"):
            messages.deserialize(b"\0\1\0\0" + (1).to_bytes(4, "little") + unit.to_bytes(4, "little"), cls)
    with pytest.raises(ValueError, match="wstring with a bound, which is not supported"):
        definitions.parse("test_msgs/msg/Bounded", "wstring<=5 text\n")


def test_big_endian_bytes_are_read_and_written_back_little_endian() -> None:
    data = bytes.fromhex("00000000" + "00000001" + "00000002" + "00000002" + "6100" + "0000")
    data += bytes.fromhex("00000000" + "00000001" + "3ff8000000000000" + "00000000" + "00000000")
    message: Any = messages.deserialize(data, JointState)
    assert (message.header.stamp.sec, message.header.frame_id, message.position.tolist()) == (1, "a", [1.5])
    assert messages.deserialize(bytes(messages.serialize(message)), JointState) == message


def test_a_received_message_can_be_copied_before_and_after_its_arrays_were_read() -> None:
    message: Any = messages.deserialize(bytes(messages.serialize(JointState(name=["a"], position=[1.5]))), JointState)
    assert copy.deepcopy(message) == message
    assert copy.deepcopy(message) == messages.clone(message) == pickle.loads(pickle.dumps(message))
    assert not message.position.flags.writeable


def test_an_array_changed_in_place_is_sent_as_it_is_and_a_byte_holds_all_values() -> None:
    info = CameraInfo(k=[1.0] * 9)
    info.k[8] = 7.0
    again: Any = messages.deserialize(bytes(messages.serialize(info)), CameraInfo)
    assert again.k.tolist() == [1.0] * 8 + [7.0]
    status = DiagnosticStatus(level=b"\xff")
    assert messages.deserialize(bytes(messages.serialize(status)), DiagnosticStatus) == status
