"""Runs a pipeline over a recorded bag, without ROS, as fast as it goes and never dropping a frame.

Reads ROS 1 .bag files and rosbag2 recordings (sqlite3 and mcap) and writes rosbag2 recordings.
Time is the recording's, so the same bag gives the same bytes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
import errno
from functools import cached_property
from itertools import count
import os
from pathlib import Path
import re
import shutil
import sqlite3
import struct
from tempfile import TemporaryDirectory
from threading import Semaphore
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ..config import encoded_as, resolve
from ..data import RigidTransform
from ..discovery import CAMERA_INFO, info_topic
from ..geometry import TransformTree
from ..messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    MESSAGE_TYPE,
    MessageFamily,
    decode,
    encode,
    transforms,
    transforms_message,
)
from ..pairing import RecordingSynchronizer, Size, Stream
from ..stage import Pipeline, Topic
from ..synchronizer import SLOP_S, anchor_of
from .chunks import ZSTD_MAGIC, bound_chunks, unpack_zstd_file, unpacked_zstd
from .readers import NoRoomError, Rosbag2Reader, accept_foreign_schemas, encoding
from .storages import Channel, Rosbag2Writer
from .waiting import Waiting

if TYPE_CHECKING:
    from rosbags.interfaces.typing import Typesdict

bound_chunks()
accept_foreign_schemas()

STORE = get_typestore(Stores.ROS2_JAZZY)

FAMILY = MessageFamily(
    make=lambda name, /, **fields: STORE.types[name](**fields),
    octets=lambda array: np.ascontiguousarray(array).reshape(-1).view(np.uint8),
    floats=lambda values: np.array(tuple(values), np.float64),
)

TF_TOPICS = ('/tf_static', '/tf')
TF_TYPE = 'tf2_msgs/msg/TFMessage'
_RENAMED_TYPES = {'tf/msg/tfMessage': TF_TYPE}  # before tf2, in recordings like TUM's


class BagError(ValueError):
    """A bag that cannot be read, written or used as asked; the text says what to do."""


class RunError(BagError):
    """A run that had begun and cannot go on; the text says what of it is kept."""


# -------------------------------------------------------------------------------- reading


class Recording(AnyReader):
    """A recording that reports whatever its bytes trip over as what it is: damage.

    Decompression, SQLite and deserialization all have exceptions of their own, and a flipped bit
    may raise any of them, or none that is about files. What is not ROS and what has no readable
    definition is no damage: it is among the connections and can be copied, but not deserialized.

    Args:
        paths: A recording of any kind, or the files of one without its metadata.yaml.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(paths, default_typestore=STORE)
        if self.is2:
            self.readers = [Rosbag2Reader(path) for path in paths]
        self._unreadable_types: dict[str, str] = {}

    def _open(self) -> None:
        assert self.stack
        for reader in self.readers:
            self.stack.enter_context(reader)
        self.connections = [c for reader in self.readers for c in reader.connections]
        encodings = {encoding(c) for c in self.connections}
        if encodings:  # an mcap file may hold ROS 1
            self.is2 = 'ros1' not in encodings or 'cdr' in encodings
        self._register_types([c for c in self.connections if self.is_ros(c)])

    def is_ros(self, connection: Connection) -> bool:
        """Return whether a topic's messages are those of the recording's version of ROS."""
        return encoding(connection) == ('cdr' if self.is2 else 'ros1')

    def _register_types(self, connections: Sequence[Connection]) -> None:
        """Learn the types; those whose definition cannot be read are remembered as such."""
        none = MessageDefinitionFormat.NONE
        parsed: dict[str, Typesdict] = {}
        for connection in connections:
            if connection.msgdef.format is not none:
                with self._type_may_fail(connection.msgtype):
                    parsed[connection.msgtype] = _types(connection)
        types: Typesdict = {}
        if any(connection.msgdef.format is none for connection in connections):
            types |= STORE.fielddefs
        for found in parsed.values():
            types |= found
        self.typestore = get_typestore(Stores.EMPTY)
        try:
            self.typestore.register(types)
        except Exception:  # one of them; which, only trying tells
            self.typestore = get_typestore(Stores.EMPTY)
            for name, found in parsed.items():
                with self._type_may_fail(name):
                    self.typestore.register(found)
        for connection in connections:
            if connection.digest and connection.msgdef.format is not none:
                with self._type_may_fail(connection.msgtype):
                    self._check_digest(connection)

    @contextmanager
    def _type_may_fail(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the parser raises whatever it trips over
            reason = ' '.join(str(error).split())[:200].rstrip('.') or type(error).__name__
            self._unreadable_types.setdefault(name, reason)

    def _check_digest(self, connection: Connection) -> None:
        name = connection.msgtype
        if self.is2:
            digest = self.typestore.hash_rihs01(name)
        else:
            digest = self.typestore.generate_msgdef(name)[1]
        if digest != connection.digest:
            raise ValueError(f'its hash is {digest}, not the recorded {connection.digest}')

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Read messages; see `AnyReader.messages`.

        Raises:
            BagError: If the recording is damaged.
        """
        try:
            for connection, log_ns, raw in super().messages(connections, start, stop):
                # A file whose messages are compressed says so in metadata.yaml only.
                if raw[:4] == ZSTD_MAGIC and encoding(connection) == 'cdr':
                    raw = unpacked_zstd(raw)
                yield connection, log_ns, raw
        except Exception as error:
            raise BagError(_unreadable(Path(str(self.paths[0])), error)) from None

    @cached_property
    def ros2_types(self) -> Typestore:
        """The recording's types as ROS 2 has them.

        In a ROS 1 recording, Header has a seq and some fields other names.
        """
        if self.is2:
            return self.typestore
        types = dict(self.typestore.fielddefs)
        for old, new in _RENAMED_TYPES.items():
            if old in types:
                types[new] = types.pop(old)
        for name, (_, fields) in types.items():
            known = STORE.fielddefs.get(name)
            same = known and [kind for _, kind in known[1]] == [kind for _, kind in fields]
            if known and (same or name == 'std_msgs/msg/Header'):
                types[name] = known
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        return store

    def deserialize(self, rawdata: bytes, typ: str) -> object:
        """Deserialize a message; see `AnyReader.deserialize`.

        Raises:
            BagError: If the message is damaged, or its type unknown.
        """
        if typ in self._unreadable_types or typ not in self.typestore.types:
            reason = self._unreadable_types.get(typ, 'the recording does not define it')
            raise BagError(f'{self.paths[0]}: {typ} cannot be read: {reason}')
        try:
            return super().deserialize(rawdata, typ)
        except Exception as error:
            raise BagError(_unreadable(Path(str(self.paths[0])), error)) from None


def _types(connection: Connection) -> Typesdict:
    """Parse a definition."""
    text, name = connection.msgdef.data, connection.msgtype
    if connection.msgdef.format is MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, name)
    rule = '=' * 80 + '\n'
    if not text.startswith(f'{rule}IDL: '):
        return get_types_from_idl(text)
    found: Typesdict = {}
    for part in text.split(rule)[1:]:
        found |= get_types_from_idl(part.partition('\n')[2])
    return found


@contextmanager
def open_bag(path: Path) -> Iterator[Recording]:
    """Open a recording of any kind.

    Raises:
        BagError: If there is none, or it is damaged or of no known format.
    """
    if not path.exists():
        raise BagError(f'{path} does not exist')
    paths = [path]
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        # A recorder that was killed has not written it.
        paths = sorted(p for p in path.iterdir() if p.suffix in ('.mcap', '.db3'))
        if not paths:
            raise BagError(
                f'{path} has no metadata.yaml and no .mcap or .db3 file: it is no recording'
            )
    with ExitStack() as stack:
        try:
            if path.suffix == '.zstd':
                paths = [stack.enter_context(_unpacked(path))]
            recording = Recording(paths)
            recording.open()
        except PermissionError:
            raise
        except NoRoomError as error:
            raise BagError(str(error)) from None
        except Exception as error:
            raise BagError(_unreadable(paths[0], error)) from None
        stack.callback(_close_quietly, recording)
        yield recording


def _close_quietly(recording: Recording) -> None:
    with suppress(Exception):
        recording.close()


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Unpack a file that rosbag2 compressed whole."""
    with TemporaryDirectory(prefix='depth_refiner_') as folder:
        file = Path(folder, path.stem)
        unpack_zstd_file(path, file)
        yield file


# How a file of each kind starts, and what often saves one that was cut off.
_RESCUE = {
    '.mcap': (b'\x89MCAP0\r\n', 'mcap recover {path} -o saved.mcap'),
    '.bag': (b'#ROSBAG V2.0\n', 'rosbag reindex {path}'),
    '.db3': (b'SQLite format 3\0', "sqlite3 {path} '.recover' | sqlite3 saved.db3"),
}


def _unreadable(path: Path, error: BaseException) -> str:
    if path.suffix not in _RESCUE:
        reason = ' '.join(str(error).split())[:200].rstrip('.') or type(error).__name__
        return f'{path} is not a readable bag: {reason}'
    magic, rescue = _RESCUE[path.suffix]
    with path.open('rb') as file:
        start = file.read(len(magic))
    if not start:
        return f'{path} is empty'
    if start != magic:
        return f'{path} is not a bag: it does not start as {path.suffix} files do'
    reason = ' '.join(str(error).split())[:200].rstrip('.') or type(error).__name__
    return (
        f'{path} is damaged ({reason}); '
        f'a recording that was cut off can often be saved with: {rescue.format(path=path)}'
    )


def rescue(path: Path) -> str:
    """Return the command that often saves a recording that was cut off."""
    return _RESCUE[path.suffix][1].format(path=path)


def tf_connections(reader: AnyReader, *topics: str) -> list[Connection]:
    """Return the connections that carry transforms."""
    kinds = (TF_TYPE, *_RENAMED_TYPES)
    return [c for c in reader.connections if c.topic in topics and c.msgtype in kinds]


def static_transforms(
    reader: AnyReader, later: Callable[[], Iterable[RigidTransform]] | None = None
) -> TransformTree:
    """Return the tree of all static transforms, which hold for the whole recording.

    Args:
        reader: An open recording.
        later: See `TransformTree`.
    """
    tree = TransformTree(later=later)
    static = tf_connections(reader, '/tf_static')
    if static:
        for connection, _, raw in reader.messages(connections=static):
            tree.update(transforms(reader.deserialize(raw, connection.msgtype)))
    return tree


class Result(NamedTuple):
    """What a pipeline made of one frame.

    Attributes:
        log_ns: When the recording got the last message that the frame needed, calibrations aside.
        inputs: The values that went in, by port; optional ones may be None.
        outputs: The values that came out, by `<stage>.<port>`.
    """

    log_ns: int
    inputs: dict[str, Any]
    outputs: dict[str, Any]


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
                raise BagError(_unreadable(Path(str(self._reader.paths[0])), error)) from None
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
    """Return what tells a connection from those of other files, too."""
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


def replay(frames: Frames, pipeline: Pipeline) -> Iterator[Result]:
    """Feed a recording to a pipeline.

    Raises:
        BagError: If a frame cannot be decoded or processed: silence would falsify an evaluation.
    """
    for log_ns, matched in frames:
        try:
            values = frames.decoded(matched)
            outputs = pipeline(frames.transforms, **values)
            for port, reason in pipeline.left_out.items():
                frames.note_unread(port, reason)
        except (LookupError, ValueError) as error:
            stamp = next(msg for msg in matched.values() if msg is not None).header.stamp
            seconds = stamp.sec + stamp.nanosec / 1e9
            raise BagError(f'frame at {seconds:.6f} s: {error}') from None
        yield Result(log_ns, values, outputs)


def recorded(reader: AnyReader, topic: str) -> list[Connection]:
    """Return the connections of a topic, or of its first compressed transport, or none.

    Those that have messages come first: image_transport advertises every transport of an image,
    and a recorder that takes all topics notes them, empty as they are.
    """
    names = (topic, f'{topic}/compressedDepth', f'{topic}/compressed')
    found = [[c for c in reader.connections if c.topic == name] for name in names]
    found.sort(key=lambda connections: not any(c.msgcount for c in connections))  # stable
    return next((connections for connections in found if connections), [])


def contents(reader: AnyReader) -> tuple[dict[str, str], dict[str, str]]:
    """Return the message type of every topic that has messages, and the encoding of its images."""
    filled = [c for c in reader.connections if c.msgcount]
    encodings: dict[str, str] = {}
    for connection in filled:
        if connection.msgtype not in (IMAGE, COMPRESSED_IMAGE):
            continue
        if connection.topic in encodings:
            continue
        for _, _, raw in reader.messages(connections=[connection]):
            image: Any = reader.deserialize(raw, connection.msgtype)
            encodings[connection.topic] = getattr(image, 'encoding', '') or getattr(
                image, 'format', ''
            )
            break
    return {c.topic: c.msgtype for c in filled}, encodings


_SDK_SENSOR = re.compile(r'(.*/device_\d+/sensor_\d+)/')


def recorded_depth_unit_m(reader: AnyReader, topic: str) -> float:
    """Return the metres of one count of a depth topic, 0 where the recording does not say.

    realsense-viewer and the SDK record the sensor's options beside its images.
    """
    sensor = _SDK_SENSOR.match(topic)
    if sensor is None:
        return 0.0
    names = [f'{sensor[1]}/option/{name}/value' for name in ('Depth Units', 'Depth_Units')]
    options = [c for c in reader.connections if c.topic in names and c.msgcount]
    for connection, _, raw in reader.messages(connections=options) if options else ():
        option: Any = reader.deserialize(raw, connection.msgtype)
        unit_m = float(f'{option.data:.6g}')  # a float32: in six digits it is 0.00025 again
        return unit_m if 0 < unit_m <= 1 else 0.0
    return 0.0


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


# -------------------------------------------------------------------------------- writing


def _qos(durability: QosDurability) -> Qos:
    forever = QosTime(2147483647, 4294967295)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1,
        reliability=QosReliability.RELIABLE,
        durability=durability,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )


# Bounds what waits to be written, so that a slow disk slows the run down instead of filling the
# memory.
_WAITING_MESSAGES = 32

# What a user may mean to write, and nobody here can.
_OTHER_FILES = {'.bag', '.db', '.sqlite3', '.zstd', '.zst', '.gz', '.bz2', '.lz4', '.xz', '.zip'}


class BagWriter(AbstractContextManager['BagWriter']):
    """Writes values and raw messages to a new recording, on a thread of its own.

    Entering the context creates the recording. Leaving it finishes the recording whatever the
    reason: a run that is interrupted or fails, on a full disk too, leaves a readable bag with
    what was written until then; one that wrote nothing leaves no bag.

    Args:
        path: A name that ends in .mcap or .db3 gives a single file; any other a rosbag2 folder.
        storage: 'mcap' or 'sqlite3', for a folder.

    Attributes:
        path: The same.
        message_count: Messages written.
        left_out: Why topics of `write_raw` lack messages, by topic, with the number of them.
        rescued: What an earlier run that was killed left half written, under its new name.

    Raises:
        BagError: If the path exists, has the ending of another kind of file or, on entering,
            cannot be written.
    """

    def __init__(self, path: Path, *, storage: str = 'mcap') -> None:
        self.path = path
        self.message_count = 0
        self.left_out: dict[str, tuple[str, int]] = {}
        self.rescued: Path | None = None
        self._suffix = path.suffix if path.suffix in ('.mcap', '.db3') else ''
        if os.path.lexists(path):
            raise BagError(f'{path} exists already; remove it or choose another name')
        if self._suffix == '.mcap' and storage != 'mcap':
            raise BagError(f'{path} names an mcap file; for {storage} choose a name without .mcap')
        _check_ending(path)
        self._folder = path.with_name(f'.{path.name}.partial') if self._suffix else path
        self._storage = 'sqlite3' if self._suffix == '.db3' else storage
        self._channels: dict[str, Channel] = {}
        self._copied: dict[tuple[int, int], Channel] = {}
        self._connections: dict[tuple[str, str, str], Connection] = {}
        self._writer: Rosbag2Writer | None = None
        self._error: BaseException | None = None
        # One thread does everything that touches the file: SQLite insists on it, and the order of
        # the bytes must not depend on a race.
        self._worker = ThreadPoolExecutor(1, 'bag-writer')
        self._room = Semaphore(_WAITING_MESSAGES)

    def __enter__(self) -> BagWriter:
        try:
            self._worker.submit(self._open).result()
        except (OSError, WriterError, sqlite3.Error) as error:
            self._worker.shutdown()
            raise BagError(f'cannot write {self.path}: {_reason(error)}') from None
        except KeyboardInterrupt as interruption:
            self.__exit__(type(interruption), interruption, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interruption: KeyboardInterrupt | None = None
        closing = self._worker.submit(self._close, kind is not None)
        while not closing.done():
            try:
                wait([closing])
            except KeyboardInterrupt as later:  # noqa: PERF203 - it comes once all is safe
                interruption = later
        self._worker.shutdown()
        if self._error is not None and (kind is None or issubclass(kind, RunError)):
            self._raise()
        if interruption is not None:
            raise interruption

    @property
    def kept(self) -> str:
        """What a user who finds a run ended wants to know."""
        if not self.message_count:
            return 'nothing was written'
        return f'{self.path} holds the {self.message_count} messages written before'

    def write(self, topic: str, log_ns: int, value: Any) -> None:
        """Write a value as the message it is published as.

        Raises:
            BagError: If the recording cannot be written, now or for an earlier message.
        """
        self._put(self._channel(topic, MESSAGE_TYPE[type(value)]), log_ns, value)

    def write_transforms(
        self, topic: str, log_ns: int, transforms: Sequence[RigidTransform]
    ) -> None:
        """Write transforms to /tf or /tf_static; see `write`."""
        static = QosDurability.TRANSIENT_LOCAL if topic == '/tf_static' else None
        channel = self._channel(topic, TF_TYPE, static)
        message = transforms_message(transforms, FAMILY)
        self._put(channel, log_ns, STORE.serialize_cdr(message, TF_TYPE))

    def write_raw(self, source: Recording, kept: Connection, log_ns: int, raw: bytes) -> None:
        """Write a message of another recording as it is; see `write`.

        What is not CDR or ROS 1 stays what it is, and so does what nobody has a definition of.
        """
        key = id(kept.owner), kept.id
        if key not in self._copied:
            self._copied[key] = copied_channel(source, kept)
        channel = self._copied[key]
        if not source.is2 and channel.encoding == 'cdr':
            try:
                raw = bytes(source.ros2_types.ros1_to_cdr(raw, channel.type))
            except Exception:  # damage has no exception of its own
                self._leave_out(kept.topic, f'it is no readable {kept.msgtype}')
                return
        self._put(channel, log_ns, raw)

    def _leave_out(self, topic: str, reason: str) -> None:
        _, count = self.left_out.get(topic, (reason, 0))
        self.left_out[topic] = reason, count + 1

    def _channel(
        self, topic: str, message_type: str, durability: QosDurability | None = None
    ) -> Channel:
        channel = self._channels.get(topic)
        if channel is None:
            definition, digest = _definition(STORE, message_type)
            qos = [_qos(durability or QosDurability.VOLATILE)]
            channel = self._channels[topic] = Channel(
                topic, message_type, definition, 'ros2msg', digest, 'cdr', qos
            )
        elif channel.type != message_type:
            raise BagError(f'{topic} is already recorded as {channel.type}, not {message_type}')
        return channel

    def _put(self, channel: Channel, log_ns: int, payload: Any) -> None:
        if self._error is not None:
            self._raise()
        self._room.acquire()
        self._worker.submit(self._write, channel, log_ns, payload)

    # -- on the worker's thread

    def _open(self) -> None:
        if self._suffix and self._folder.exists():
            self.rescued = _moved_aside(self._folder, self.path)
        writer = Rosbag2Writer(self._folder, self._storage)
        writer.open()
        self._writer = writer

    def _write(self, channel: Channel, log_ns: int, payload: Any) -> None:
        writer = self._writer
        assert writer is not None
        try:
            if self._error is not None:
                return
            if not isinstance(payload, bytes | memoryview):
                payload = STORE.serialize_cdr(encode(payload, FAMILY), channel.type)
            key = channel.topic, channel.type, channel.encoding
            connection = self._connections.get(key)
            if connection is None:
                connection = self._connections[key] = writer.add(channel)
            writer.write(connection, log_ns, payload)
        except Exception as error:
            self._error = error
        finally:
            self.message_count = writer.message_count
            self._room.release()

    def _close(self, in_vain: bool) -> None:
        """Finish the recording, or remove it where a failed run wrote nothing."""
        writer = self._writer
        if writer is None:
            return
        try:
            writer.close()
        except Exception as error:
            self._error = self._error or error
        self.message_count = writer.message_count
        try:
            if (in_vain or self._error is not None) and not self.message_count:
                shutil.rmtree(self._folder)
            elif self._suffix:
                (inner,) = self._folder.glob(f'*{self._suffix}')
                inner.rename(self.path)
                shutil.rmtree(self._folder)
        except Exception as error:
            self._error = self._error or error

    def _raise(self) -> None:
        assert self._error is not None
        raise RunError(f'cannot write {self.path}: {_reason(self._error)}; {self.kept}') from None


def _check_ending(path: Path) -> None:
    lower = path.suffix.lower()
    if lower in ('.mcap', '.db3') and path.suffix != lower:
        raise BagError(f'{path}: readers want the ending in small letters: {path.stem}{lower}')
    if lower in _OTHER_FILES:
        ros1 = 'ROS 1 bags are read but not written; ' if lower == '.bag' else ''
        stem = path.name.partition('.')[0]
        raise BagError(
            f'cannot write {path}: {ros1}name it {stem}.mcap or {stem}.db3 for a single file, '
            f'{stem} for a rosbag2 folder'
        )


def _moved_aside(partial: Path, path: Path) -> Path | None:
    """Keep what a run that was killed had written beside the new recording."""
    kept = None
    for inner in partial.glob(f'*{path.suffix}'):
        names = (path.with_name(f'{path.stem}_cut_{n}{path.suffix}') for n in count(1))
        kept = inner.rename(next(name for name in names if not os.path.lexists(name)))
    shutil.rmtree(partial)
    return kept


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 'the disk is full'
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).rstrip('.') or type(error).__name__
    return 'the disk is full' if 'disk is full' in text else text


def copied_channel(source: Recording, kept: Connection) -> Channel:
    """Return how a topic of another recording is recorded: as there, or ROS 1 turned into CDR."""
    qos = getattr(kept.ext, 'offered_qos_profiles', None)
    if not qos:
        latched = kept.topic == '/tf_static' or getattr(kept.ext, 'latching', False)
        qos = [_qos(QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE)]
    text, encoding = kept.msgdef.data, getattr(kept.ext, 'serialization_format', 'ros1')
    if encoding == 'ros1' and not source.is2:
        message_type = _RENAMED_TYPES.get(kept.msgtype, kept.msgtype)
        with suppress(Exception):  # rosbags raises whatever its parser trips over
            text, digest = _definition(source.ros2_types, message_type)
            return Channel(kept.topic, message_type, text, 'ros2msg', digest, 'cdr', qos)
    if encoding != 'cdr':
        is_ros1_bag = encoding == 'ros1' and not source.is2
        language, definition = ('ros1msg', text) if is_ros1_bag else _foreign_definition(kept)
        return Channel(kept.topic, kept.msgtype, definition, language, '', encoding, qos)
    digest = kept.digest
    if kept.msgdef.format is MessageDefinitionFormat.NONE:
        language, text = '', ''
        with suppress(Exception):
            text, digest = _definition(STORE, kept.msgtype)
            language = 'ros2msg'
    elif kept.msgdef.format is MessageDefinitionFormat.MSG:
        language = 'ros2msg'
    else:
        language = 'ros2idl' if text.startswith('=' * 80) else 'omgidl'
    if not digest:
        with suppress(Exception):
            digest = source.typestore.hash_rihs01(kept.msgtype)
    return Channel(kept.topic, kept.msgtype, text, language, digest, 'cdr', qos)


def _foreign_definition(kept: Connection) -> tuple[str, str | bytes]:
    """Return language and definition of a channel that is not ROS, as its mcap file has them."""
    for storage in getattr(kept.owner, 'storages', [kept.owner]):
        schemas = {schema.name: schema for schema in getattr(storage, 'schemas', {}).values()}
        if schema := schemas.get(kept.msgtype):
            return schema.encoding, schema.data
    return '', ''


def _definition(store: Typestore, message_type: str) -> tuple[str, str]:
    """Return a ROS 2 message definition and its type hash."""
    definition, _ = store.generate_msgdef(message_type, ros_version=2)
    return definition, store.hash_rihs01(message_type)


class Summary:
    """What a replay did, gathered while it runs."""

    def __init__(self) -> None:
        self.frames = 0
        self.stage_s: dict[str, list[float]] = {}
        self._started_s = time.perf_counter()
        self.wall_s = 0.0

    def add(self, pipeline: Pipeline) -> None:
        """Count one frame."""
        self.frames += 1
        for name, seconds in pipeline.last_s.items():
            self.stage_s.setdefault(name, []).append(seconds)
        self.wall_s = time.perf_counter() - self._started_s

    def finish(self) -> None:
        """Stop the clock, after the recording is closed."""
        self.wall_s = time.perf_counter() - self._started_s


def record(
    results: Iterable[Result],
    writer: BagWriter,
    outputs: Mapping[str, Topic],
    namespace: str,
    *,
    depth_encoding: str = 'same',
    only: Sequence[str] = (),
) -> Iterator[Result]:
    """Write every output of a replay and hand its results on.

    Args:
        results: A `replay`.
        writer: Where to.
        outputs: The pipeline's outputs.
        namespace: Namespace of the written topics.
        depth_encoding: 'same', '16UC1' or '32FC1'.
        only: Outputs to write, by `<stage>.<port>`; all if empty.
    """
    for result in results:
        for port, value in result.outputs.items():
            if only and port not in only:
                continue
            topic = resolve(outputs[port].name, namespace)
            writer.write(topic, result.log_ns, encoded_as(value, depth_encoding))
        yield result
