"""The calls of the Cyclone DDS library that its Python binding has not, or has with more copies than we want.

They go through ctypes, which releases the interpreter lock where the library may wait, as in a reliable write. A large
sample is taken in the library's own serialised form and copied once, into `bytes`; the binding copies it three times,
which for a small one is quicker than the calls.
"""

from __future__ import annotations

import ctypes
from typing import Any

from cyclonedds import _clayer
from cyclonedds.core import InstanceState, SampleState, ViewState
from cyclonedds.internal import DDS, dds_c_t

ANY = SampleState.Any | ViewState.Any | InstanceState.Any
TAKE_AT_ONCE = 16

Entity = ctypes.c_int32
Pointer = ctypes.c_void_p
Size = ctypes.c_size_t
Samples = Pointer * TAKE_AT_ONCE
Infos = dds_c_t.sample_info * TAKE_AT_ONCE
Sample: Any = dds_c_t.sample_buffer


class Piece(ctypes.Structure):
    """Where a serialised sample lies in the library."""

    _fields_ = (("start", Pointer), ("size", Size))


_library: Any = DDS._dll_handle
_at_once = ctypes.PyDLL(_library._name, handle=_library._handle)  # for what never waits: the interpreter lock is kept


def _call(name: str, result: Any, *arguments: Any, library: Any = _library) -> Any:
    function = library[name]
    function.restype, function.argtypes = result, arguments
    return function


dds_write = _call("dds_write", ctypes.c_int32, Entity, Pointer)
waitset_wait = _call("dds_waitset_wait", ctypes.c_int32, Entity, Pointer, Size, ctypes.c_int64)
waitset_attach = _call("dds_waitset_attach", ctypes.c_int32, Entity, Entity, ctypes.c_ssize_t)
waitset_detach = _call("dds_waitset_detach", ctypes.c_int32, Entity, Entity)
matched_publications = _call("dds_get_matched_publications", ctypes.c_int32, Entity, Pointer, Size)
matched_subscriptions = _call("dds_get_matched_subscriptions", ctypes.c_int32, Entity, Pointer, Size)
assert_liveliness = _call("dds_assert_liveliness", ctypes.c_int32, Entity)
status_of = {
    name: _call(f"dds_get_{name}_status", ctypes.c_int32, Entity, Pointer)
    for name in (
        *("requested_incompatible_qos", "requested_deadline_missed", "liveliness_changed", "sample_lost"),
        *("offered_incompatible_qos", "offered_deadline_missed", "liveliness_lost"),
        *("subscription_matched", "publication_matched"),
    )
}
_take = _call("dds_takecdr", ctypes.c_int32, Entity, Pointer, ctypes.c_uint32, Pointer, ctypes.c_uint32)
_size = _call("ddsi_serdata_size", ctypes.c_uint32, Pointer, library=_at_once)
_reference = _call("ddsi_serdata_to_ser_ref", Pointer, Pointer, Size, Size, Pointer, library=_at_once)
_end_reference = _call("ddsi_serdata_to_ser_unref", None, Pointer, Pointer, library=_at_once)
_release = _call("ddsi_serdata_unref", None, Pointer, library=_at_once)


def take(reader: int) -> list[tuple[bytes, Any]]:
    """Bytes and sample info of everything that has arrived at a reader; nothing if the reader was deleted meanwhile."""
    taken: list[tuple[bytes, Any]] = []
    while True:
        samples = _clayer.ddspy_take(reader, ANY, TAKE_AT_ONCE)
        if not isinstance(samples, list):  # an error code
            return taken
        taken.extend(sample for sample in samples if sample[1].valid_data)
        if len(samples) < TAKE_AT_ONCE:
            return taken


def take_large(reader: int) -> list[tuple[bytes, Any]]:
    """The same with one copy of each sample."""
    taken: list[tuple[bytes, Any]] = []
    piece = Piece()
    place = ctypes.byref(piece)
    while True:
        samples, infos = Samples(), Infos()
        count = _take(reader, samples, TAKE_AT_ONCE, infos, ANY)
        for index in range(count):
            sample, info = samples[index], infos[index]
            if info.valid_data:
                reference = _reference(sample, 0, _size(sample), place)
                taken.append((ctypes.string_at(piece.start, piece.size), info))
                _end_reference(reference, place)
            _release(sample)
        if count < TAKE_AT_ONCE:
            return taken
