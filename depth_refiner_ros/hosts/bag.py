"""Runs a pipeline over a recorded bag, without ROS, as fast as it goes and never dropping a frame.

Reads ROS 1 .bag files and rosbag2 recordings (sqlite3 and mcap) and writes rosbag2 recordings.
Time is the recording's, so the same bag gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
import errno
from functools import cached_property
from pathlib import Path
import shutil
import sqlite3
from threading import Semaphore
import time
from types import TracebackType
from typing import Any, NamedTuple, cast

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from ..config import encoded_as, resolve
from ..data import RigidTransform
from ..geometry import TransformTree
from ..messages import (
    COMPRESSED_IMAGE,
    MESSAGE_TYPE,
    MessageFamily,
    decode,
    encode,
    transforms,
    transforms_message,
)
from ..stage import DEADLINE_S, SLOP_S, Pipeline, Synchronizer, Topic
from .chunks import bound_chunks

bound_chunks()

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


# -------------------------------------------------------------------------------- reading


class Recording(AnyReader):
    """A recording that reports whatever its bytes trip over as what it is: damage.

    Decompression, SQLite and deserialization all have exceptions of their own, and a flipped bit
    may raise any of them, or none that is about files.
    """

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
            yield from super().messages(connections, start, stop)
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
            BagError: If the message is damaged.
        """
        try:
            return super().deserialize(rawdata, typ)
        except Exception as error:
            raise BagError(_unreadable(Path(str(self.paths[0])), error)) from None


@contextmanager
def open_bag(path: Path) -> Iterator[Recording]:
    """Open a recording of any kind.

    Raises:
        BagError: If there is none, or it is damaged or of no known format.
    """
    if not path.exists():
        raise BagError(f'{path} does not exist')
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        raise BagError(
            f'{path} has no metadata.yaml: name the .mcap or .db3 file in it, '
            f'or repair it with: ros2 bag reindex {path}'
        )
    try:
        recording = Recording([path], default_typestore=STORE)
        recording.open()
    except PermissionError:
        raise
    except Exception as error:
        raise BagError(_unreadable(path, error)) from None
    try:
        yield recording
    finally:
        with suppress(Exception):
            recording.close()


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


def tf_connections(reader: AnyReader, *topics: str) -> list[Connection]:
    """Return the connections that carry transforms."""
    kinds = (TF_TYPE, *_RENAMED_TYPES)
    return [c for c in reader.connections if c.topic in topics and c.msgtype in kinds]


def static_transforms(reader: AnyReader) -> TransformTree:
    """Return the tree of all static transforms, which hold for the whole recording."""
    tree = TransformTree()
    static = tf_connections(reader, '/tf_static')
    if static:
        for connection, _, raw in reader.messages(connections=static):
            tree.update(transforms(reader.deserialize(raw, connection.msgtype)))
    return tree


class Result(NamedTuple):
    """What a pipeline made of one frame.

    Attributes:
        log_ns: When the recording got the last message that the frame needed.
        inputs: The values that went in, by port; optional ones may be None.
        outputs: The values that came out, by `<stage>.<port>`.
    """

    log_ns: int
    inputs: dict[str, Any]
    outputs: dict[str, Any]


class Frames:
    """The messages of a recording, paired as a stage's inputs but not yet decoded.

    Iterate to get (log time in ns, message or None by port), in the recording's order.

    Args:
        reader: An open recording.
        inputs: The inputs to pair.
        topics: Absolute topic of every input port.
        slop_s: See `Synchronizer`.
        deadline_s: See `Synchronizer`.
        keep: Called with (connection, log time in ns, raw message) for every message that is not
            an input, in the recording's order.

    Attributes:
        frame_count: Messages of the anchor, the most frames there can be.
        synchronizer: What pairs them, and counts what it could not pair.
        topics: The topic that each port is read from; optional ones may be missing.
        transforms: Static transforms, and moving ones up to the last frame.

    Raises:
        BagError: If the recording lacks a required topic, or has it with another type.
    """

    def __init__(
        self,
        reader: AnyReader,
        inputs: Mapping[str, Topic],
        topics: Mapping[str, str],
        *,
        slop_s: float = SLOP_S,
        deadline_s: float = DEADLINE_S,
        keep: Callable[[Connection, int, bytes], None] | None = None,
    ) -> None:
        self._reader = reader
        self._inputs = inputs
        self._keep = keep
        self._connections = _input_connections(reader, inputs, topics)
        present = {
            port: inputs[port]
            for port, found in self._connections.items()
            if not inputs[port].optional or any(connection.msgcount for connection in found)
        }
        self.synchronizer: Synchronizer[Any] = Synchronizer(
            present, slop_s=slop_s, deadline_s=deadline_s, all_speak=True
        )
        anchor = self._connections[self.synchronizer.anchor]
        self.frame_count = sum(connection.msgcount for connection in anchor)
        self.topics = {port: found[0].topic for port, found in self._connections.items()}
        self.transforms = static_transforms(reader)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        port_of = {c.id: port for port, found in self._connections.items() for c in found}
        moving = tf_connections(self._reader, '/tf')
        wanted = [c for found in self._connections.values() for c in found] + moving
        log_ns = 0
        for connection, log_ns, raw in self._reader.messages(
            connections=() if self._keep else wanted
        ):
            port = port_of.get(connection.id)
            if connection in moving:
                message = self._reader.deserialize(raw, connection.msgtype)
                self.transforms.update(transforms(message))
            if port is None:
                if self._keep:
                    self._keep(connection, log_ns, raw)
                continue
            message = self._reader.deserialize(raw, connection.msgtype)
            stamp = cast('Any', message).header.stamp
            stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
            for matched in self.synchronizer.feed(port, stamp_ns, message, log_ns):
                yield log_ns, matched
        for matched in self.synchronizer.finish():
            yield log_ns, matched

    def decoded(self, matched: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a frame's messages.

        Raises:
            ValueError: If a message cannot be read as its port's value.
        """
        return {
            port: None if msg is None else decode(self._inputs[port].type, msg, self.topics[port])
            for port, msg in matched.items()
        }


def replay(frames: Frames, pipeline: Pipeline) -> Iterator[Result]:
    """Feed a recording to a pipeline.

    Raises:
        BagError: If a frame cannot be decoded or processed: silence would falsify an evaluation.
    """
    for log_ns, matched in frames:
        try:
            values = frames.decoded(matched)
            outputs = pipeline(frames.transforms, **values)
        except (LookupError, ValueError) as error:
            stamp = next(msg for msg in matched.values() if msg is not None).header.stamp
            seconds = stamp.sec + stamp.nanosec / 1e9
            raise BagError(f'frame at {seconds:.6f} s: {error}') from None
        yield Result(log_ns, values, outputs)


def recorded(reader: AnyReader, topic: str) -> list[Connection]:
    """Return the connections of a topic, or of its first compressed transport, or none."""
    for candidate in (topic, f'{topic}/compressedDepth', f'{topic}/compressed'):
        if connections := [c for c in reader.connections if c.topic == candidate]:
            return connections
    return []


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


class _Channel(NamedTuple):
    """A topic of the recording, and what `Writer.add_connection` wants to know of it."""

    topic: str
    type: str
    options: dict[str, Any]


# Bounds what waits to be written, so that a slow disk slows the run down instead of filling the
# memory.
_WAITING_MESSAGES = 32


class BagWriter(AbstractContextManager['BagWriter']):
    """Writes values and raw messages to a new recording, on a thread of its own.

    Entering the context creates the recording. Leaving it finishes the recording whatever the
    reason, so that an interrupted run leaves a readable bag with everything up to the
    interruption; a failed run that wrote nothing leaves no bag.

    Args:
        path: A name that ends in .mcap gives a single file; any other a rosbag2 folder.
        storage: 'mcap' or 'sqlite3', for a folder.

    Raises:
        BagError: If the path exists or, on entering, cannot be written.
    """

    def __init__(self, path: Path, *, storage: str = 'mcap') -> None:
        self.path = path
        self.message_count = 0
        self._single = path.suffix == '.mcap'
        if path.exists():
            raise BagError(f'{path} exists already; remove it or choose another name')
        if self._single and storage != 'mcap':
            raise BagError(f'{path} names an mcap file; for {storage} choose a name without .mcap')
        self._folder = path.with_name(f'.{path.name}.partial') if self._single else path
        self._plugin = StoragePlugin.MCAP if storage == 'mcap' else StoragePlugin.SQLITE3
        self._channels: dict[str, _Channel] = {}
        self._connections: dict[str, Connection] = {}
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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._worker.submit(self._close).result()
        except Exception as failure:
            self._error = self._error or failure
        self._worker.shutdown()
        if not self.message_count and (kind is not None or self._error is not None):
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._single:
                self.path.unlink(missing_ok=True)
        if self._error is not None and kind is None:
            self._raise()

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
        """Write a message of another recording as it is; see `write`."""
        channel = self._channels.get(kept.topic)
        if channel is None:
            message_type = _RENAMED_TYPES.get(kept.msgtype, kept.msgtype)
            definition, digest = _definition(source.ros2_types, message_type)
            qos = getattr(kept.ext, 'offered_qos_profiles', None)
            if not qos:
                latched = kept.topic == '/tf_static' or getattr(kept.ext, 'latching', False)
                qos = [_qos(QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE)]
            options = {'msgdef': definition, 'rihs01': digest, 'offered_qos_profiles': qos}
            channel = self._channels[kept.topic] = _Channel(kept.topic, message_type, options)
        if not source.is2:
            raw = bytes(source.ros2_types.ros1_to_cdr(raw, channel.type))
        self._put(channel, log_ns, raw)

    def _channel(
        self, topic: str, message_type: str, durability: QosDurability | None = None
    ) -> _Channel:
        channel = self._channels.get(topic)
        if channel is None:
            qos = [_qos(durability or QosDurability.VOLATILE)]
            options = {'typestore': STORE, 'offered_qos_profiles': qos}
            channel = self._channels[topic] = _Channel(topic, message_type, options)
        elif channel.type != message_type:
            raise BagError(f'{topic} is already recorded as {channel.type}, not {message_type}')
        return channel

    def _put(self, channel: _Channel, log_ns: int, payload: Any) -> None:
        if self._error is not None:
            self._raise()
        self._room.acquire()
        self._worker.submit(self._write, channel, log_ns, payload)

    # -- on the worker's thread

    def _open(self) -> None:
        if self._single and self._folder.exists():
            shutil.rmtree(self._folder)
        self._writer = Writer(self._folder, version=9, storage_plugin=self._plugin)
        self._writer.open()

    def _write(self, channel: _Channel, log_ns: int, payload: Any) -> None:
        try:
            if self._error is not None:
                return
            if not isinstance(payload, bytes | memoryview):
                payload = STORE.serialize_cdr(encode(payload, FAMILY), channel.type)
            connection = self._connections.get(channel.topic)
            if connection is None:
                connection = self._connections[channel.topic] = self._writer.add_connection(
                    channel.topic, channel.type, **channel.options
                )
            self._writer.write(connection, log_ns, payload)
            self.message_count += 1
        except Exception as error:
            self._error = error
        finally:
            self._room.release()

    def _close(self) -> None:
        self._writer.close()
        if self._single:
            (inner,) = self._folder.glob('*.mcap')
            inner.rename(self.path)
            shutil.rmtree(self._folder)

    def _raise(self) -> None:
        assert self._error is not None
        raise BagError(
            f'cannot write {self.path}: {_reason(self._error)}; '
            f'{self.message_count} messages were written'
        ) from None


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return 'the disk is full'
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).rstrip('.') or type(error).__name__
    return 'the disk is full' if 'disk is full' in text else text


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
