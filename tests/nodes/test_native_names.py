"""The nodes must run on native rclpy too: they may not take attributes that its Node uses for itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import robolearn_nodes

TAKEN = """
_allow_undeclared_parameters _clients _clock _context _default_callback_group _descriptors _guards _logger
_logger_service _on_set_parameters_callbacks _parameter_event_publisher _parameter_overrides _parameter_service
_parameters _post_set_parameters_callbacks _pre_set_parameters_callbacks _publishers _rate_group _services
_subscriptions _time_source _timers _type_description_service
clients context default_callback_group executor guards handle publishers services subscriptions timers waitables
"""
SOURCES = sorted(Path(robolearn_nodes.__file__).parent.glob("*_node.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_attribute_of_rclpy_is_taken(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    own = set(re.findall(r"self\.(\w+)\s*(?::[^=\n]+)?=[^=]", text)) | set(re.findall(r"    def (\w+)\(self", text))
    assert len(own) > 5
    assert not own & set(TAKEN.split())
