"""Names of nodes, namespaces and topics: validity and expansion (https://design.ros2.org/articles/topic_and_service_names.html)."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SUBSTITUTION = re.compile(r"\{([^{}]*)\}")
MAX_NAME_LENGTH = 255


def node_name_fault(name: str) -> str | None:
    """Why the name is no node name, or None."""
    if not isinstance(name, str) or not name:
        return "node name must not be empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"node name must not be longer than {MAX_NAME_LENGTH} characters"
    return None if _TOKEN.match(name) else "node name must have letters, digits and '_' only and not start with a digit"


def namespace_fault(namespace: str) -> str | None:
    """Why the namespace is invalid, or None."""
    if not namespace.startswith("/"):
        return "namespace must be absolute, it must lead with a '/'"
    if namespace == "/":
        return None
    return topic_fault(namespace)


def topic_fault(name: str) -> str | None:
    """Why a topic or service name is invalid, or None. `~` and `{node}` are allowed."""
    if not name:
        return "topic name must not be empty string"
    if name.endswith("/"):
        return "topic name must not end with a forward slash"
    if unknown := set(_SUBSTITUTION.findall(name)) - {"node", "ns", "namespace"}:
        return f"topic name has the unknown substitution {{{min(unknown)}}}; known: {{node}}, {{ns}}, {{namespace}}"
    body = name[2:] if name.startswith("~/") else name.removeprefix("/")
    if name == "~":
        return None
    for token in body.split("/"):
        if not token:
            return "topic name must not contain repeated '/'"
        if not _TOKEN.match(_SUBSTITUTION.sub("x", token)):
            return f"topic name has the part {token!r}: letters, digits and '_' only, not starting with a digit"
    return None


def expand(name: str, node: str, namespace: str) -> str:
    """The absolute name of a topic or service of a node. The name must be valid."""

    def substitute(match: re.Match[str]) -> str:
        values = {"node": node, "ns": namespace, "namespace": namespace}
        return values[match[1]]

    if name == "~" or name.startswith("~/"):
        name = f"{namespace.rstrip('/')}/{node}{name[1:]}"
    name = _SUBSTITUTION.sub(substitute, name)
    if not name.startswith("/"):
        name = f"{namespace.rstrip('/')}/{name}"
    return name.replace("//", "/")
