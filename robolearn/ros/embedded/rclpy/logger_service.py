"""Services by which other nodes read and set the levels of a node's loggers."""

from __future__ import annotations

from typing import Any

from robolearn.ros.messages import message_class, service_class

from .logging import get_logger_level, set_logger_level
from .logging_severity import LoggingSeverity


class LoggerService:
    """Belongs to one node."""

    def __init__(self, node: Any) -> None:
        for name, kind, callback in (
            ("get_logger_levels", "GetLoggerLevels", self._get),
            ("set_logger_levels", "SetLoggerLevels", self._set),
        ):
            node.create_service(service_class(f"rcl_interfaces/srv/{kind}"), f"~/{name}", callback)

    def _get(self, request: Any, response: Any) -> Any:
        level = message_class("rcl_interfaces/msg/LoggerLevel")
        response.levels = [level(name=name, level=get_logger_level(name).value) for name in request.names]
        return response

    def _set(self, request: Any, response: Any) -> Any:
        outcome = message_class("rcl_interfaces/msg/SetLoggerLevelsResult")
        results = []
        for wanted in request.levels:
            known = wanted.level in LoggingSeverity._value2member_map_
            if known:
                set_logger_level(wanted.name, wanted.level)
            results.append(outcome(successful=known, reason="" if known else f"unknown level {wanted.level}"))
        response.results = results
        return response
