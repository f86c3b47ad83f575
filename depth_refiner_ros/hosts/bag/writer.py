"""Writes recordings of rosbag2, mcap or sqlite3, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
import errno
from itertools import count
import os
from pathlib import Path
import shutil
import sqlite3
from threading import Semaphore
from types import TracebackType
from typing import Any

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

from ...data import RigidTransform
from ...messages import (
    MESSAGE_TYPE,
    encode,
    transforms_message,
)
from ..typestore import FAMILY, STORE, TF_TYPE, definition_of
from .connections import encoding, is_latched, offered_qos
from .errors import BagError, RunError
from .recording import RENAMED_TYPES, Recording
from .storages import Channel, Rosbag2Writer


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
            definition, digest = definition_of(STORE, message_type)
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
    latched = QosDurability.TRANSIENT_LOCAL if is_latched(kept) else QosDurability.VOLATILE
    qos = offered_qos(kept) or [_qos(latched)]
    text, serialization = kept.msgdef.data, encoding(kept)
    if serialization == 'ros1' and not source.is2:
        message_type = RENAMED_TYPES.get(kept.msgtype, kept.msgtype)
        with suppress(Exception):  # rosbags raises whatever its parser trips over
            text, digest = definition_of(source.ros2_types, message_type)
            return Channel(kept.topic, message_type, text, 'ros2msg', digest, 'cdr', qos)
    if serialization != 'cdr':
        is_ros1_bag = serialization == 'ros1' and not source.is2
        language, definition = ('ros1msg', text) if is_ros1_bag else _foreign_definition(kept)
        return Channel(kept.topic, kept.msgtype, definition, language, '', serialization, qos)
    digest = kept.digest
    if kept.msgdef.format is MessageDefinitionFormat.NONE:
        language, text = '', ''
        with suppress(Exception):
            text, digest = definition_of(STORE, kept.msgtype)
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
