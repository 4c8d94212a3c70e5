"""The vendors' own SDKs talk to the stand-in motors: our reading of the protocols is theirs."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from robolearn.robots.standin import StandInBus


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wait for an answer twice as many milliseconds as this constant of their modules says."""
    for name in ("dynamixel_sdk", "scservo_sdk"):
        if importlib.util.find_spec(name) is not None:
            monkeypatch.setattr(importlib.import_module(f"{name}.port_handler"), "LATENCY_TIMER", 500)


def open_port(sdk: Any, bus: StandInBus) -> Any:
    port = sdk.PortHandler(bus.port)
    assert port.setBaudRate(1_000_000)
    return port


def test_dynamixel_sdk_moves_the_stand_in() -> None:
    sdk = pytest.importorskip("dynamixel_sdk")
    with StandInBus("dynamixel_x") as bus:
        port = open_port(sdk, bus)
        handler = sdk.PacketHandler(2.0)
        assert handler.ping(port, 3) == (1200, sdk.COMM_SUCCESS, 0)
        for motor_id in bus.motors:
            assert handler.write1ByteTxRx(port, motor_id, 64, 1) == (sdk.COMM_SUCCESS, 0)
        _, error = handler.write1ByteTxRx(port, 1, 11, 4)  # a stored register while the torque is on
        assert error == sdk.ERRNUM_ACCESS
        writer = sdk.GroupSyncWrite(port, handler, 116, 4)
        for motor_id in bus.motors:
            writer.addParam(motor_id, [motor_id, 8, 0, 0])
        assert writer.txPacket() == sdk.COMM_SUCCESS
        assert handler.read4ByteTxRx(port, 2, 116)[0] == 2048 + 2
        reader = sdk.GroupSyncRead(port, handler, 116, 4)
        for motor_id in bus.motors:
            reader.addParam(motor_id)
        assert reader.txRxPacket() == sdk.COMM_SUCCESS
        assert [reader.getData(i, 116, 4) for i in bus.motors] == [2048 + i for i in bus.motors]
        port.closePort()


def test_feetech_sdk_moves_the_stand_in() -> None:
    sdk = pytest.importorskip("scservo_sdk")
    with StandInBus("sts3215") as bus:
        port = open_port(sdk, bus)
        handler = sdk.PacketHandler(0)
        assert handler.ping(port, 3) == (777, sdk.COMM_SUCCESS, 0)
        for motor_id in bus.motors:
            assert handler.write1ByteTxRx(port, motor_id, 40, 1) == (sdk.COMM_SUCCESS, 0)
        writer = sdk.GroupSyncWrite(port, handler, 42, 2)
        for motor_id in bus.motors:
            writer.addParam(motor_id, [motor_id, 8])
        assert writer.txPacket() == sdk.COMM_SUCCESS
        assert handler.read2ByteTxRx(port, 2, 42)[0] == 2048 + 2
        reader = sdk.GroupSyncRead(port, handler, 42, 2)
        for motor_id in bus.motors:
            reader.addParam(motor_id)
        assert reader.txRxPacket() == sdk.COMM_SUCCESS
        assert [reader.getData(i, 42, 2) for i in bus.motors] == [2048 + i for i in bus.motors]
        bus.motors[4].fault_bits = 0b100
        assert handler.ping(port, 4)[2] == 0b100
        port.closePort()
