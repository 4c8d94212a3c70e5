"""The nodes must run on native rclpy too: they may not take attributes that its Node uses for itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import robolearn_nodes
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node

TAKEN = """
_allow_undeclared_parameters _clients _clock _context _default_callback_group _descriptors _guards _logger
_logger_service _on_set_parameters_callbacks _parameter_event_publisher _parameter_overrides _parameter_service
_callbacks _managed_entities _state_machine _service_change_state _service_get_state
_parameters _post_set_parameters_callbacks _pre_set_parameters_callbacks _publishers _rate_group _services
_subscriptions _time_source _timers _type_description_service
clients context default_callback_group executor guards handle publishers services subscriptions timers waitables
"""
SOURCES = sorted(Path(robolearn_nodes.__file__).parent.glob("*_node.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_attribute_of_rclpy_is_taken(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    own = set(re.findall(r"self\.(\w+)\s*(?::[^=\n]+)?=[^=]", text)) | set(re.findall(r"    def (\w+)\(self", text))
    assert len(own) > 3
    assert not own & set(TAKEN.split())


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_private_name_of_the_client_at_hand_is_taken(source: Path, ros: None) -> None:
    text = source.read_text(encoding="utf-8")
    kind = LifecycleNode if "(LifecycleNode)" in text else Node
    node = kind("names")
    own = set(re.findall(r"self\.(_\w+)\s*(?::[^=\n]+)?=[^=]", text)) | set(re.findall(r"    def (_\w+)\(self", text))
    theirs = {*vars(node), *dir(kind)}
    node.destroy_node()
    assert not {name for name in own & theirs if not name.startswith("__")}
