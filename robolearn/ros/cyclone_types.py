"""Topic types for Cyclone DDS, built from our definitions.

The library wants a description of every type; rmw_cyclonedds_cpp announces none, so peers match by name. It also checks
each sample against it, and so must be the true one.
"""

from __future__ import annotations

from typing import Any

from cyclonedds.idl import make_idl_struct, types
from cyclonedds.idl.annotations import final
from rosbags.interfaces import Nodetype

from robolearn.ros import definitions, wire

idl: Any = types  # its classes are subscripted in a way that type checkers do not know
_structs: dict[tuple[str, bool], Any] = {}


def idl_struct(name: str, with_service_header: bool = False) -> Any:
    """The IDL struct of a message; services carry the client's handle and the sequence number in front."""
    key = (name, with_service_header)
    if key not in _structs:
        header: dict[str, Any] = {"client_": types.uint64, "sequence_": types.int64} if with_service_header else {}
        fields = {field: _idl_type(desc) for field, desc in definitions.store().fielddefs[name][1]}
        short = name.split("/")[-1] + "_"
        _structs[key] = final(make_idl_struct(short, wire.type_name(name), header | fields))
    return _structs[key]


def _idl_type(desc: definitions.FieldDesc) -> Any:
    kind, value = desc
    if kind == Nodetype.BASE:
        base, bound = value
        if base == "string":
            return idl.bounded_str[bound] if bound else str
        if base == "wstring":  # as rmw_cyclonedds_cpp writes it, up to Kilted
            return idl.sequence[types.uint32]
        return bool if base == "bool" else getattr(types, base)
    if kind == Nodetype.NAME:
        return idl_struct(value)
    element, size = _idl_type(value[0]), value[1]
    if kind == Nodetype.ARRAY:
        return idl.array[element, size]
    return idl.sequence[element, size] if size else idl.sequence[element]
