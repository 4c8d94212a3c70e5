"""`rclpy.parameter_service`: the six services by which other nodes read and set a node's parameters."""

from __future__ import annotations

from typing import Any

from robolearn.ros.messages import message_class, service_class

from .exceptions import ParameterNotDeclaredException, ParameterUninitializedException
from .parameter import PARAMETER_SEPARATOR_STRING, Parameter
from .parameter_store import ParameterStore, result
from .qos import qos_profile_parameters

SERVICES = {
    "describe_parameters": "DescribeParameters",
    "get_parameters": "GetParameters",
    "get_parameter_types": "GetParameterTypes",
    "list_parameters": "ListParameters",
    "set_parameters": "SetParameters",
    "set_parameters_atomically": "SetParametersAtomically",
}


class ParameterService:
    """Belongs to one node."""

    def __init__(self, node: Any, store: ParameterStore) -> None:
        self._store = store
        for name, kind in SERVICES.items():
            node.create_service(
                service_class(f"rcl_interfaces/srv/{kind}"),
                f"~/{name}",
                getattr(self, f"_{name}"),
                qos_profile=qos_profile_parameters,
            )

    def _describe_parameters(self, request: Any, response: Any) -> Any:
        try:
            response.descriptors = [self._store.describe(name) for name in request.names]
        except ParameterNotDeclaredException:
            response.descriptors = []
        return response

    def _get_parameters(self, request: Any, response: Any) -> Any:
        try:
            response.values = [self._get(name).get_parameter_value() for name in request.names]
        except ParameterNotDeclaredException:
            response.values = []
        return response

    def _get(self, name: str) -> Parameter:
        try:
            return self._store.get(name)
        except ParameterUninitializedException:
            return Parameter(name)

    def _get_parameter_types(self, request: Any, response: Any) -> Any:
        try:
            response.types = [self._get(name).type_.value for name in request.names]
        except ParameterNotDeclaredException:
            response.types = []
        return response

    def _list_parameters(self, request: Any, response: Any) -> Any:
        response.result = list_parameters(self._store, list(request.prefixes), int(request.depth))
        return response

    def _set_parameters(self, request: Any, response: Any) -> Any:
        response.results = [self._set([message]) for message in request.parameters]
        return response

    def _set_parameters_atomically(self, request: Any, response: Any) -> Any:
        response.result = self._set(list(request.parameters))
        return response

    def _set(self, messages: list[Any]) -> Any:
        try:
            return self._store.set_atomically([Parameter.from_parameter_msg(message) for message in messages])
        except ParameterNotDeclaredException as error:
            return result(False, str(error))
        except (ValueError, RuntimeError) as error:
            return result(False, f"not a parameter value: {error}")


def list_parameters(store: ParameterStore, prefixes: list[str], depth: int) -> Any:
    """Names below the prefixes, down to a depth of separators; a depth of 0 has no limit."""
    separator = PARAMETER_SEPARATOR_STRING
    names = []
    for name in store.values:
        if prefixes:
            below = [name[len(p) + 1 :] for p in prefixes if name.startswith(p + separator)]
            if name not in prefixes and not any(not depth or rest.count(separator) < depth for rest in below):
                continue
        elif depth and name.count(separator) >= depth:
            continue
        names.append(name)
    found = sorted({name.rpartition(separator)[0] for name in names if separator in name})
    return message_class("rcl_interfaces/msg/ListParametersResult")(names=names, prefixes=found)
