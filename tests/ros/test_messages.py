"""Message classes: defaults, keyword construction, checked assignment (the behaviour that rclpy shares)."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, Quaternion
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String, UInt8MultiArray
from std_srvs.srv import SetBool, Trigger


def test_defaults() -> None:
    message = JointState()
    assert message.header == Header()
    assert list(message.name) == []
    assert len(message.position) == 0
    assert PoseStamped().pose.orientation.w == 1.0
    assert Quaternion().x == 0.0
    assert DiagnosticStatus().level == b"\x00"
    assert DiagnosticStatus.ERROR == b"\x02"
    assert len(CameraInfo().k) == 9
    assert Trigger.Response().success is False


def test_keyword_construction_and_equality() -> None:
    message = String(data="a")
    assert message == String(data="a")
    assert message != String(data="b")
    assert message != Header()
    assert "data='a'" in repr(message)
    with pytest.raises(AttributeError):
        message.text = "a"


def test_defaults_are_not_shared() -> None:
    one, other = JointState(), JointState()
    one.header.frame_id = "base"
    one.name.append("joint")
    assert other.header.frame_id == ""
    assert list(other.name) == []


def test_fields_and_types() -> None:
    fields = JointState.get_fields_and_field_types()
    assert fields["header"] == "std_msgs/Header"
    assert fields["name"] == "sequence<string>"
    assert fields["position"] == "sequence<double>"
    assert CameraInfo.get_fields_and_field_types()["k"] == "double[9]"


@pytest.mark.parametrize(
    "values", [[1.0, 2.0], (1.0, 2.0), array("d", [1.0, 2.0]), np.array([1.0, 2.0])], ids=lambda v: type(v).__name__
)
def test_sequences_of_numbers(values: object) -> None:
    message = JointState()
    message.position = values
    assert list(message.position) == [1.0, 2.0]
    assert deserialize_message(serialize_message(message), JointState) == message


def test_image_bytes() -> None:
    pixels = np.arange(12, dtype=np.uint8)
    for data in (pixels.tobytes(), array("B", pixels.tobytes()), pixels.tolist()):
        image = Image(height=2, width=2, encoding="rgb8", step=6, data=data)
        assert np.array_equal(np.frombuffer(image.data, np.uint8), pixels)


def test_nested_messages_round_trip() -> None:
    status = DiagnosticStatus(level=DiagnosticStatus.WARN, name="cam", values=[KeyValue(key="fps", value="29.7")])
    message = DiagnosticArray(status=[status])
    again = deserialize_message(serialize_message(message), DiagnosticArray)
    assert again == message
    assert again.status[0].level == DiagnosticStatus.WARN


def test_service_parts() -> None:
    assert SetBool.Request(data=True).data is True
    assert Trigger.Response(success=True, message="done").message == "done"


@given(
    st.lists(st.floats(allow_nan=False, width=64), max_size=20),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)
def test_round_trip_keeps_every_value(numbers: list[float], text: str) -> None:
    message = JointState(name=[text], position=numbers)
    again = deserialize_message(serialize_message(message), JointState)
    assert list(again.position) == numbers
    assert list(again.name) == [text]


@given(st.binary(max_size=64))
def test_bytes_round_trip(data: bytes) -> None:
    again = deserialize_message(serialize_message(UInt8MultiArray(data=data)), UInt8MultiArray)
    assert bytes(again.data) == data


def test_numbers_of_python_integers() -> None:
    assert list(Float64MultiArray(data=[0.1, -2.0]).data) == [0.1, -2.0]
