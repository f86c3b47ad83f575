"""The frames of a recording: its messages, paired as the inputs of a pipeline."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
import struct
from typing import Any, NamedTuple

from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
)

from ...data import RigidTransform
from ...discovery import CAMERA_INFO, info_topic
from ...messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    MESSAGE_TYPE,
    decode,
    transforms,
)
from ...pairing import RecordingSynchronizer, Size, Stream
from ...stage import Topic
from ...synchronizer import SLOP_S, anchor_of
from .errors import BagError, unreadable
from .recording import (
    Recording,
    recorded,
    recorded_depth_unit_m,
    static_transforms,
    tf_connections,
)
from .waiting import Waiting


class Frames:
    """The messages of a recording, paired as a stage's inputs but not yet decoded.

    Stamps are read first, of the whole recording, and then the messages: what comes late is
    waited for, and nothing is held that no frame needs. Iterate to get (log time in ns, message
    or None by port), in the order of the stamps.

    Args:
        reader: An open recording.
        inputs: The inputs to pair.
        topics: Absolute topic of every input port.
        slop_s: See `RecordingSynchronizer`.
        depth_unit_m: Metres of one count of the port `depth`; 0: what the recording says, else the
            encoding.
        keep: Called with (connection, log time in ns, raw message) for every message that is not
            an input, in the recording's order.

    Attributes:
        frame_count: Messages of the anchor, the most frames there can be.
        synchronizer: What paired them, and counted what it could not pair.
        topics: The topic that each port is read from; optional ones may be missing.
        empty: Required ports whose topics hold no message.
        transforms: Static transforms, and moving ones up to the last frame. Where they do not
            yet connect two frames, the first ones that do serve.
        depth_unit_m: Metres of one count of the port `depth`; 0: what its encoding says.
        unread: Why messages of optional inputs could not be read, by topic, with the number of
            them.

    Raises:
        BagError: If the recording lacks a required topic, or has it with another type.
    """

    def __init__(
        self,
        reader: Recording,
        inputs: Mapping[str, Topic],
        topics: Mapping[str, str],
        *,
        slop_s: float = SLOP_S,
        depth_unit_m: float = 0.0,
        keep: Callable[[Connection, int, bytes], None] | None = None,
    ) -> None:
        self._reader = reader
        self._inputs = inputs
        self._keep = keep
        self._moving = tf_connections(reader, '/tf')
        found = _input_connections(reader, inputs, topics)
        used = {_key(c): c for connections in found.values() for c in connections}
        self._wanted = list(used.values())
        # One camera_info serves two ports where depth and colour share a namespace.
        self._ports_of: dict[tuple[int, int], list[str]] = {}
        for port, connections in found.items():
            for connection in connections:
                self._ports_of.setdefault(_key(connection), []).append(port)
        self.topics = {port: connections[0].topic for port, connections in found.items()}
        present = {
            port: inputs[port]
            for port, connections in found.items()
            if not inputs[port].optional or any(c.msgcount for c in connections)
        }
        self._streams = {port: Stream() for port in found}
        self._damage: BagError | None = None
        try:
            self._read_stamps()
        except BagError as error:  # what comes before it is worth having
            self._damage = error
        image = self.topics[anchor_of(present)]
        sized = next((p for p in present if self.topics[p] == info_topic(image)), None)
        self.synchronizer = RecordingSynchronizer(
            present, self._streams, slop_s=slop_s, sized=sized
        )
        self.frame_count = len(self._streams[self.synchronizer.anchor].log_ns)
        self.empty = [
            port
            for port, connections in found.items()
            if not inputs[port].optional and not any(c.msgcount for c in connections)
        ]
        self.transforms = static_transforms(reader, later=self._first_transforms)
        self.depth_unit_m = depth_unit_m or recorded_depth_unit_m(
            reader, self.topics.get('depth', '')
        )
        self.unread: dict[str, tuple[str, int]] = {}

    def _read_stamps(self) -> None:
        is2 = self._reader.is2
        for connection, log_ns, raw in self._reader.messages(self._wanted):
            try:
                stamp_ns, size = _stamp_ns(raw, is2), _size(raw, connection, is2)
            except (IndexError, struct.error) as error:
                raise BagError(unreadable(Path(str(self._reader.paths[0])), error)) from None
            for port in self._ports_of[_key(connection)]:
                self._streams[port].add(stamp_ns, log_ns, size)

    def _first_transforms(self) -> Iterator[RigidTransform]:
        if self._moving:
            for connection, _, raw in self._reader.messages(self._moving):
                yield from transforms(self._reader.deserialize(raw, connection.msgtype))

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        sets = deque(self.synchronizer.sets)
        uses = Counter((p, n) for s in sets for p, n in s.numbers.items() if n is not None)
        moving = {_key(connection) for connection in self._moving}
        moves: deque[_Message] = deque()
        counts: Counter[str] = Counter()
        with Waiting(self._reader) as waiting:
            for connection, log_ns, raw in self._reader.messages(
                () if self._keep else [*self._wanted, *self._moving]
            ):
                if not (sets or self._keep):
                    break
                ports = self._ports_of.get(_key(connection), ())
                if _key(connection) in moving and sets:
                    moves.append(_Message('/tf', counts['/tf']))
                    counts['/tf'] += 1
                    waiting.put(moves[-1], connection, log_ns, raw)
                if not ports and self._keep:
                    self._keep(connection, log_ns, raw)
                for port in ports:
                    message = _Message(port, counts[port])
                    counts[port] += 1
                    if uses[message]:
                        waiting.put(message, connection, log_ns, raw)
                while sets and all(
                    n is None or _Message(p, n) in waiting for p, n in sets[0].numbers.items()
                ):
                    log_ns, numbers = sets.popleft()
                    while moves and waiting.log_ns(moves[0]) <= log_ns:
                        self.transforms.update(transforms(waiting.take(moves.popleft())))
                    yield log_ns, self._taken(numbers, uses, waiting)
        if self._damage is not None:
            raise self._damage

    def _taken(
        self, numbers: Mapping[str, int | None], uses: Counter[Any], waiting: Waiting
    ) -> dict[str, Any]:
        """Return the messages of a set; those that no other set needs wait no longer."""
        taken: dict[str, Any] = {}
        unstamped = self.synchronizer.unstamped
        for port, number in numbers.items():
            taken[port] = None
            if number is None:
                continue
            message = _Message(port, number)
            uses[message] -= 1
            taken[port] = waiting.read(message) if uses[message] else waiting.take(message)
        anchor = self.synchronizer.anchor
        if anchor in unstamped:  # when it was recorded is the only time there is
            number = numbers[anchor]
            assert number is not None
            log_ns = self._streams[anchor].log_ns[number]
            for port, value in taken.items():
                if port in unstamped and value is not None:
                    stamp = value.header.stamp
                    stamp.sec, stamp.nanosec = divmod(log_ns, 1_000_000_000)
        return taken

    def decoded(self, matched: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a frame's messages; an optional one that is unreadable is left out.

        Raises:
            ValueError: If a message cannot be read as its port's value.
        """
        return {port: self._decoded(port, message) for port, message in matched.items()}

    def _decoded(self, port: str, message: Any) -> Any:
        topic, name = self._inputs[port], self.topics.get(port, '')
        try:
            if message is None:
                return None
            unit_m = self.depth_unit_m if port == 'depth' else 0.0
            return decode(topic.type, message, name, depth_unit_m=unit_m)
        except ValueError as error:
            if not topic.optional:
                raise
            self.note_unread(port, str(error).removeprefix(f'{name}: '))
            return None

    def note_unread(self, port: str, reason: str) -> None:
        """Count a message that could not be used."""
        name = self.topics.get(port, port)
        first, count = self.unread.get(name, (reason, 0))
        self.unread[name] = first, count + 1


class _Message(NamedTuple):
    """A message by its number among those of its port."""

    port: str
    number: int


def _key(connection: Connection) -> tuple[int, int]:
    """Return what identifies a connection among those of all files."""
    return id(connection.owner), connection.id


def _stamp_ns(raw: bytes, is2: bool) -> int:
    """Return the stamp of a message that starts with a header; ROS 1 has a number before it."""
    order = '<' if not is2 or raw[1] & 1 else '>'
    seconds, nanoseconds = struct.unpack_from(f'{order}{"i" if is2 else "I"}I', raw, 4)
    return int(seconds * 1_000_000_000 + nanoseconds)


def _size(raw: bytes, connection: Connection, is2: bool) -> Size | None:
    """Return height and width of an Image or CameraInfo, which come after the header."""
    if connection.msgtype not in (IMAGE, CAMERA_INFO):
        return None
    order = '<' if not is2 or raw[1] & 1 else '>'
    (length,) = struct.unpack_from(f'{order}I', raw, 12)
    at = 16 + int(length)
    height, width = struct.unpack_from(f'{order}II', raw, at + (-at % 4 if is2 else 0))
    return int(height), int(width)


def _input_connections(
    reader: AnyReader, inputs: Mapping[str, Topic], topics: Mapping[str, str]
) -> dict[str, list[Connection]]:
    """Find the connections of every input: the topic itself, or its compressed transports."""
    found: dict[str, list[Connection]] = {}
    for port, topic in inputs.items():
        name = topics[port]
        connections = recorded(reader, name)
        accepted = {MESSAGE_TYPE[topic.type]}
        if MESSAGE_TYPE[topic.type].endswith('/Image'):
            accepted.add(COMPRESSED_IMAGE)
        if wrong := [c.msgtype for c in connections if c.msgtype not in accepted]:
            raise BagError(
                f'{name} is a {wrong[0]}; the port {port} takes {" or ".join(sorted(accepted))}'
            )
        if connections:
            found[port] = connections
        elif not topic.optional:
            has = ', '.join(sorted({c.topic for c in reader.connections})) or 'no topics at all'
            raise BagError(
                f'the bag has no {name} for the port {port}; it has {has}; '
                f'set topics.{port} or choose a camera'
            )
    return found
