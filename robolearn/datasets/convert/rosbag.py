"""rosbag2 recordings (MCAP or sqlite3): reading, by a contract that says which topic is which field.

Without episode events all of a bag is one episode. With them (`robolearn_msgs/EpisodeEvent`) every STARTED begins one
and every ENDED ends it, as in the recorder of the running graph. The bag's own time of a message is its receive stamp.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.contract import Contract, Stream, graph_contract, load_contract
from robolearn.datasets.convert.guard import MAX_CHUNK_BYTES, MAX_RATIO, MAX_UNPACKED_BYTES, check_links
from robolearn.datasets.convert.source import ImportSettings, Samples, Source, SourceEpisode, Step
from robolearn.datasets.store import EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.messages import READERS, header_ns, stamp_ns
from robolearn.sync import EARLY_SAMPLES, FAR_NS, UNKNOWN_NS, EpisodeJoin
from robolearn.types import EpisodeOutcome

STARTED, ENDED = 0, 1
SAMPLES = 256  # of a sensor of its own rate that are handed over at once
EARLY_NS = 2_000_000_000  # how long before the word that it began samples of an episode may come
END_PATIENCE_NS = 5_000_000_000  # how long after the end its samples may come
ASTRAY = {  # messages that are left out, and why
    "late": "came when their step was over",
    "backwards": "have a stamp before that of the last one, and are left out",
    "dropped": f"are in no step: two of one stamp, or a leap of more than {FAR_NS * 1e-9:g} s; cut the bag there",
}
ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([code]) + b"\x2a\x4d\x18" for code in range(0x50, 0x60)))  # how it begins
EVENT = "robolearn_msgs/msg/EpisodeEvent"

Message = tuple[str, str, int, Any]
"""Topic, type, receive stamp [ns] and the message."""


@contextlib.contextmanager
def read(path: Path, settings: ImportSettings) -> Iterator[Source]:
    """Open a bag: its folder, or one file.

    `settings.contract` is a YAML file, or a dataset that was recorded from robolearn's graph, whose fields and topics
    are taken.
    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    if settings.contract is None:
        raise DatasetError(f"{path}: a bag needs a contract that says which topic is which field: --contract FILE.yaml")
    check_links(path)
    _check_packed(path)
    _bound_unpacking()
    with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
        contract = _contract(reader, settings)
        kinds = {connection.topic: connection.msgtype for connection in reader.connections}
        missing = [topic for topic in contract.streams if topic not in kinds]
        if missing:
            raise DatasetError(f"{path} has no topic {', '.join(missing)}; it has {', '.join(sorted(kinds))}")
        for topic, stream in contract.streams.items():
            if stream.type and stream.type != kinds[topic]:
                raise DatasetError(f"{path}: {topic} is {kinds[topic]}, the contract says {stream.type}")
            if kinds[topic] not in READERS and not stream.select:
                raise DatasetError(f"{path}: {topic} is {kinds[topic]}; select the numbers of it that are the field")
        if contract.episodes and kinds.get(contract.episodes) != EVENT:
            contract = replace(contract, episodes="")
        steps = int(reader.duration * 1e-9 * contract.spec.interface.control_hz)
        lost = [
            f"topic {topic} is not kept"
            for topic in sorted(kinds)
            if topic not in (*contract.streams, contract.episodes)
        ]
        yield Source(contract.spec, steps, _Bag(path, reader, contract, lost).episodes(), lost)


def _contract(reader: Any, settings: ImportSettings) -> Contract:
    assert settings.contract is not None
    if settings.contract.is_dir():
        store = ZarrStore.open(settings.contract)
        tags = [episode.tags.get("sync") for episode in store.episodes]
        return graph_contract(store.spec, "grid" if "grid" in tags else "exact")
    return load_contract(settings.contract, lambda stream: _picture_size(reader, stream))


def _picture_size(reader: Any, stream: Stream) -> tuple[int, int]:
    """(H, W) of the first picture of a topic, or of its first depth."""
    connections = [connection for connection in reader.connections if connection.topic == stream.topic]
    for connection, _, raw in reader.messages(connections):
        reads = READERS.get(connection.msgtype)
        if reads is None:
            break
        picture = reads(reader.deserialize(raw, connection.msgtype), stream.field, ())[stream.field]
        return picture.shape[0], picture.shape[1]
    raise DatasetError(
        f"{stream.topic} has no picture from which to tell the size; give it in the contract: size: [H, W]"
    )


class _Bag:
    """Makes the episodes of a bag, one after the other, while it is read."""

    def __init__(self, path: Path, reader: Any, contract: Contract, lost: list[str]) -> None:
        self._path, self._reader, self._contract, self._lost = path, reader, contract, lost
        self._messages = self._read()
        self._early: deque[Message] = deque(maxlen=EARLY_SAMPLES)  # samples that may belong to the next episode
        self._unusable: Counter[str] = Counter()
        self._astray: dict[str, Counter[str]] = {why: Counter() for why in ASTRAY}  # by topic
        self._ahead: Message | None = None  # an event that was read too early
        self._own: dict[str, list[tuple[NDArray, int, int]]] = {}  # samples of sensors of their own rate
        self._newest_ns: dict[str, int] = {}  # their newest stamps
        self._start_ns = 0  # of the running episode
        self._end_ns: int | None = None  # once it is known
        self._period_ns = round(1e9 / contract.spec.interface.control_hz)
        rules = (contract.streams[topic].rule(self._period_ns) for topic in contract.joined)
        self._early_ns = EARLY_NS + max((rule.tolerance_ns for rule in rules), default=0)

    def episodes(self) -> Iterator[SourceEpisode]:
        """Every episode, to be read to its end before the next one is asked for."""
        if not self._contract.episodes:
            task = self._contract.spec.tasks[0] if self._contract.spec.tasks else ""
            meta = EpisodeMeta(task=task, instruction=self._contract.instruction, tags={"bag": self._path.name})
            episode = SourceEpisode(meta, iter(()), EpisodeOutcome(None, False, True))
            episode.steps = self._steps(episode, 0)
            yield episode
        else:
            while event := self._next_start():
                meta = EpisodeMeta(event.task, event.instruction, int(event.seed), id=event.episode_id)
                episode = SourceEpisode(meta, iter(()), EpisodeOutcome(None, False, True, "the bag ends before it"))
                episode.steps = self._steps(episode, stamp_ns(event.header.stamp))
                yield episode
        self._lost += [f"{topic}: {count} messages do not fit: {why}" for (topic, why), count in self._told().items()]
        for why, counts in self._astray.items():
            self._lost += [f"{topic}: {count} messages {ASTRAY[why]}" for topic, count in counts.items()]

    def _told(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for text, count in self._unusable.items():
            topic, _, why = text.partition("\n")
            counts[topic, why] += count
        return counts

    def _next_start(self) -> Any:
        """The event that begins the next episode; None where there is none. Samples before it are remembered."""
        while message := self._take():
            if message[0] != self._contract.episodes:
                self._remember(message)
            elif message[3].event == STARTED:
                return message[3]
        return None

    def _remember(self, message: Message) -> None:
        """Keep a sample for the next episode, and none that is too old for it: pictures are large."""
        self._early.append(message)
        while message[2] - self._early[0][2] > self._early_ns:
            self._early.popleft()

    def _steps(self, episode: SourceEpisode, start_ns: int) -> Iterator[Step | Samples]:
        contract = self._contract
        self._start_ns, self._end_ns = start_ns, None
        self._own, self._newest_ns = {}, {}
        join = EpisodeJoin(
            contract.make_join(), contract.observed, contract.topic_of("action"), contract.topic_of("action_sent")
        )
        join.begin(start_ns)
        early = list(self._early)
        self._early.clear()
        for message in early:
            yield from self._push(join, message)
        end_ns: int | None = None
        until_ns = 0
        while taken := self._take():
            topic, _, received_ns, event = message = taken
            if topic == contract.episodes:
                if event.event == STARTED:
                    self._ahead = message
                    break
                end_ns, until_ns = stamp_ns(event.header.stamp), received_ns + END_PATIENCE_NS
                self._end_ns = end_ns
                join.end(end_ns)
                success = bool(event.success) if getattr(event, "judged", True) else None
                episode.outcome = EpisodeOutcome(success, bool(event.terminated), bool(event.truncated), event.reason)
                episode.kept = not getattr(event, "discarded", False)
            else:
                yield from self._push(join, message)
                if end_ns is not None:
                    self._remember(message)
            if end_ns is not None and (self._reached(join, end_ns) or received_ns > until_ns):
                break
        for step in join.flush():
            yield *step, {}
        for field, samples in self._own.items():
            if number := sum(self._end_ns is None or stamp < self._end_ns for _, stamp, _ in samples):
                yield self._block(field, number)
        for what, counts in join.counts.items():
            self._astray[what].update(counts)

    def _reached(self, join: EpisodeJoin, end_ns: int) -> bool:
        """Whether all that belongs to the episode has come."""
        return join.reached(end_ns, self._period_ns) and all(stamp >= end_ns for stamp in self._newest_ns.values())

    def _push(self, join: EpisodeJoin, message: Message) -> Iterator[Step | Samples]:
        topic, kind, received_ns, body = message
        stream = self._contract.streams[topic]
        try:
            stamp = received_ns if stream.time == "receive" else header_ns(body)
        except SpecError as error:
            self._unusable[f"{topic}\n{error}"] += 1
            return
        try:
            fields = self._contract.read(topic, body, kind)
        except SpecError as error:
            self._unusable[f"{topic}\n{error}"] += 1
            fields = {}  # its tick goes on without it: masked and counted
        if stream.rate_hz:
            if fields and stamp >= self._start_ns:
                self._sample(topic, stream.field, (fields[stream.field], stamp, received_ns))
            if len(self._own.get(stream.field, ())) >= 2 * SAMPLES:
                yield self._block(stream.field, SAMPLES)  # the others may turn out to be behind the end
            return
        # what lockstep records live has no receive stamps: nobody waits for anything there
        received = UNKNOWN_NS if self._contract.sync == "exact" else received_ns
        for step in join.push(topic, stamp, fields, received):
            yield *step, {}

    def _sample(self, topic: str, field: str, sample: tuple[NDArray, int, int]) -> None:
        """Add what a sensor of its own rate brought."""
        stamp = sample[1]
        if stamp < self._newest_ns.get(field, stamp):
            self._astray["backwards"][topic] += 1
            return
        self._newest_ns[field] = stamp
        self._own.setdefault(field, []).append(sample)

    def _block(self, field: str, number: int) -> Samples:
        """Hand over its first samples."""
        block, self._own[field] = self._own[field][:number], self._own[field][number:]
        values, stamps, received = zip(*block, strict=True)
        return Samples(field, np.stack(values), stamps, received)

    def _take(self) -> Message | None:
        ahead, self._ahead = self._ahead, None
        return ahead or next(self._messages, None)

    def _read(self) -> Iterator[Message]:
        wanted = {*self._contract.streams, *([self._contract.episodes] if self._contract.episodes else ())}
        connections = [connection for connection in self._reader.connections if connection.topic in wanted]
        for connection, received_ns, raw in self._reader.messages(connections):
            try:
                body = self._reader.deserialize(raw, connection.msgtype)
            except Exception as error:  # noqa: BLE001, whatever untrusted bytes may lead to
                self._unusable[f"{connection.topic}\nnot a {connection.msgtype} ({error})"] += 1
                continue
            yield connection.topic, connection.msgtype, received_ns, body


def _check_packed(path: Path) -> None:
    """Refuse files that unpack to absurdly more than they hold, whatever their names, before they are unpacked to the
    disk."""
    from backports import zstd

    for file in sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else ():
        with file.open("rb") as opened:
            if opened.read(4) not in ZSTD:
                continue
        limit = max(MAX_UNPACKED_BYTES, MAX_RATIO * file.stat().st_size)
        with zstd.open(file, "rb") as unpacked:
            size = 0
            while part := unpacked.read(1 << 20):
                size += len(part)
                if size > limit:
                    raise DatasetError(f"{file} unpacks to more than {limit / 2**30:.0f} GiB; refused")


def _bound_unpacking() -> None:
    """Let the library unpack chunks and messages to no more than they say, and fit into memory: by itself it goes on as
    long as they do."""
    import bz2

    import lz4.frame
    from backports import zstd
    from rosbags.rosbag1 import reader as bag1
    from rosbags.rosbag2 import reader as bag2
    from rosbags.rosbag2 import storage_mcap

    lz4_chunk = partial(_unpacked, lz4.frame.LZ4FrameDecompressor)
    zstd_chunk = partial(_unpacked, zstd.ZstdDecompressor)
    storage_mcap.DECOMPRESSORS |= {"lz4": lz4_chunk, "zstd": zstd_chunk}
    bag1.decompressors |= {"bz2": partial(_unpacked, bz2.BZ2Decompressor), "lz4": lz4_chunk}
    bag2.zstd = SimpleNamespace(open=zstd.open, decompress=zstd_chunk)  # type: ignore[assignment]


def _unpacked(make: Callable[[], Any], data: bytes, size: int = MAX_CHUNK_BYTES) -> bytes:
    """What is packed in `data`, of `size` bytes at most, by the decompressors that `make` makes, one a frame.
    Raises MemoryError where it is more, and EOFError where it is cut off."""
    left, parts = min(size, MAX_CHUNK_BYTES), []
    while data:
        unpacker = make()
        parts.append(unpacker.decompress(data, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise MemoryError(f"a chunk or message unpacks to more than {min(size, MAX_CHUNK_BYTES)} bytes; refused")
        if not unpacker.eof:
            raise EOFError("a chunk or message is cut off")
        data = unpacker.unused_data
    return b"".join(parts)
