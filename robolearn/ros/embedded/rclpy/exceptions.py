"""Exceptions with rclpy's names."""

from __future__ import annotations


class NotInitializedException(Exception):
    """`rclpy.init()` has not been called on the context."""

    def __init__(self, *args: object) -> None:
        super().__init__("rclpy.init() has not been called", *args)


class RCLError(RuntimeError):
    """A call that the client library refuses."""


class InvalidHandle(RuntimeError):
    """The entity was destroyed."""


class NameValidationException(Exception):
    """A node, namespace or topic name that ROS does not allow."""

    def __init__(self, name_type: str, name: str, error_msg: str, invalid_index: int = 0) -> None:
        super().__init__(f"Invalid {name_type}: {error_msg}: {name!r}")
        self.name_type, self.name, self.error_msg, self.invalid_index = name_type, name, error_msg, invalid_index


class InvalidNodeNameException(NameValidationException):
    def __init__(self, name: str, error_msg: str, invalid_index: int = 0) -> None:
        super().__init__("node name", name, error_msg, invalid_index)


class InvalidNamespaceException(NameValidationException):
    def __init__(self, name: str, error_msg: str, invalid_index: int = 0) -> None:
        super().__init__("namespace", name, error_msg, invalid_index)


class InvalidTopicNameException(NameValidationException):
    def __init__(self, name: str, error_msg: str, invalid_index: int = 0) -> None:
        super().__init__("topic name", name, error_msg, invalid_index)


class InvalidServiceNameException(NameValidationException):
    def __init__(self, name: str, error_msg: str, invalid_index: int = 0) -> None:
        super().__init__("service name", name, error_msg, invalid_index)


class NoTypeSupportImportedException(Exception):
    """A type that is no message, service or action class."""


class ParameterException(Exception):
    """Base of the parameter errors."""

    def __init__(self, error_msg: str, parameters: object, *args: object) -> None:
        super().__init__(f"{error_msg}: {parameters}", *args)


class ParameterNotDeclaredException(ParameterException):
    def __init__(self, parameters: object) -> None:
        super().__init__("Invalid access to undeclared parameter(s)", parameters)


class ParameterAlreadyDeclaredException(ParameterException):
    def __init__(self, parameters: object) -> None:
        super().__init__("Parameter(s) already declared", parameters)


class InvalidParameterException(ParameterException):
    def __init__(self, parameter: object) -> None:
        super().__init__("Invalid parameter name", parameter)


class InvalidParameterTypeException(ParameterException):
    def __init__(self, desired_parameter: object, expected_type: str) -> None:
        super().__init__(
            f"Trying to set parameter to a wrong type, expecting type '{expected_type}'", desired_parameter
        )


class InvalidParameterValueException(ParameterException):
    def __init__(self, parameter: object, value: object, reason: str) -> None:
        super().__init__(f"Invalid parameter value ({value}) for parameter. Reason: {reason}", parameter)


class ParameterImmutableException(ParameterException):
    def __init__(self, parameter: object) -> None:
        super().__init__("Attempted to modify read-only parameter", parameter)


class ParameterUninitializedException(ParameterException):
    def __init__(self, parameter: object) -> None:
        super().__init__("The parameter is statically typed and has no value", parameter)


class ROSInterruptException(Exception):
    """A wait ended because the context was shut down."""

    def __init__(self) -> None:
        super().__init__("rclpy.shutdown() has been called")


class TimeSourceChangedException(Exception):
    """The clock changed between system and simulated time during a sleep."""
