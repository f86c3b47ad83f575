"""Writes rosbag2 recordings that a full disk does not cost, and copies channels it cannot read.

rosbags leaves a file without its index, or rolls all of it back, when one write fails, and wants a
definition of every type. Here a write that fails costs the last few megabytes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from functools import cache
from io import BufferedWriter, BytesIO, StringIO
from itertools import chain
import os
from pathlib import Path
import shutil
import sqlite3
import struct
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionMode
from rosbags.rosbag2.metadata import dump_qos_v9
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk, Schema, write_schema
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from ruamel.yaml import YAML

from .connections import encoding

_FORMATS = {
    'ros2msg': MessageDefinitionFormat.MSG,
    'ros2idl': MessageDefinitionFormat.IDL,
    'omgidl': MessageDefinitionFormat.IDL,
}

_RESERVE_BYTES = 64 << 10
"""Given back on a full disk, for what must still be written: an index, metadata.yaml."""

_CHUNK_BYTES = 1 << 20
"""From here on a chunk of an mcap recording is written, as rosbags does."""

_COMMIT_BYTES = 1 << 20
"""What a full disk costs a sqlite3 recording at most."""


class Channel(NamedTuple):
    """A topic as it is recorded.

    Attributes:
        topic: Absolute name.
        type: Message type.
        definition: Its definition; empty where nobody knows it.
        language: What the definition is written in, as MCAP names it: ros2msg, ros2idl, ros1msg,
            protobuf, jsonschema; empty where there is none.
        digest: The type's RIHS01 hash; empty where nobody knows it.
        encoding: What the messages are serialized with, as MCAP names it: cdr, ros1, protobuf.
        qos: Offered by the publishers.
    """

    topic: str
    type: str
    definition: str | bytes
    language: str
    digest: str
    encoding: str
    qos: list[Qos]


class _Octets(str):
    """A definition that is no text; rosbags encodes every definition on its way to the file."""

    octets: bytes

    def encode(self, *_: Any, **__: Any) -> bytes:
        return self.octets


def _as_text(definition: str | bytes) -> str:
    if isinstance(definition, str):
        return definition
    text = _Octets()
    text.octets = definition
    return text


class _Left(NamedTuple):
    """What a storage holds after it gave messages back."""

    counts: dict[int, int]
    start_ns: int
    end_ns: int


class _Chunk(NamedTuple):
    """A chunk in the file."""

    offset: int
    counts: dict[int, int]
    start_ns: int
    end_ns: int


class _Parts(BytesIO):
    """What a chunk is made of, as it came, so that nothing is copied before it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Any] = []
        self._size = 0

    def write(self, data: Any, /) -> int:
        self.parts.append(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size


# Records of MCAP (https://mcap.dev/spec) begin with an opcode and the length of what follows.
_MESSAGE = struct.Struct('<BQHIQQ')
_CHUNK = struct.Struct('<BQQQQIIQ')
_INDEX = struct.Struct('<BQHI')
_RECORD_BYTES = struct.calcsize('<BQ')


class _Mcap(McapWriter):
    """Can give back its last chunks, and writes messages without copying them.

    The bytes are those of rosbags, which copies each message four times before it is written:
    more than the stages move.
    """

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        self.chunk.bio = _Parts()
        self.languages: dict[str, str] = {}
        self._written: list[_Chunk] = []
        self.bio.flush()
        self._end = self.bio.tell()

    def add_msgtype(self, connection: Connection) -> None:
        # rosbags knows two languages, and calls everything by one of them.
        language = self.languages[connection.msgtype]
        name, definition = connection.msgtype, connection.msgdef.data
        self.schemas.append(Schema(len(self.schemas) + 1, name, language, definition))
        write_schema(self.chunk.bio, self.schemas[-1])

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        chunk, channel = self.chunk, connection.id
        self.message_start_time = min(timestamp, self.message_start_time)
        self.message_end_time = max(timestamp, self.message_end_time)
        self.channel_stats[channel] += 1
        chunk.message_start_time = min(timestamp, chunk.message_start_time)
        chunk.message_end_time = max(timestamp, chunk.message_end_time)
        chunk.msgs[channel].append((timestamp, chunk.bio.tell()))
        length = _MESSAGE.size - _RECORD_BYTES + len(data)
        chunk.bio.write(_MESSAGE.pack(0x05, length, channel, 0, timestamp, timestamp))
        chunk.bio.write(data)
        if chunk.bio.tell() > _CHUNK_BYTES:
            self.close_chunk()

    def close_chunk(self) -> None:
        chunk, size, start = self.chunk, self.chunk.bio.tell(), self._end
        span_ns = chunk.message_start_time, chunk.message_end_time
        length = _CHUNK.size - _RECORD_BYTES + size
        # Neither a checksum nor the name of a compression.
        self.bio.write(_CHUNK.pack(0x06, length, *span_ns, size, 0, 0, size))
        self.bio.writelines(cast('_Parts', chunk.bio).parts)
        index = end = start + _RECORD_BYTES + length
        offsets = b''
        for channel, messages in chunk.msgs.items():
            offsets += struct.pack('<HQ', channel, end)
            entries = struct.pack(f'<{2 * len(messages)}Q', *chain(*messages))
            length = _INDEX.size - _RECORD_BYTES + len(entries)
            self.bio.write(_INDEX.pack(0x07, length, channel, len(entries)) + entries)
            end += _RECORD_BYTES + length
        self.bio.flush()
        summary = struct.pack('<QQQQI', *span_ns, start, index - start, len(offsets)) + offsets
        summary += struct.pack('<QIQQ', end - index, 0, size, size)
        record = BytesIO()
        record.write(summary)
        self.chunks.append(record)
        counts = {channel: len(messages) for channel, messages in chunk.msgs.items()}
        self._written.append(_Chunk(start, counts, *span_ns))
        self._end = end
        self.chunk = PendingChunk(2**63 - 1, 0, _Parts(), defaultdict(list))

    def give_back(self) -> _Left | None:
        """Drop the chunk that did not fit, or else the last one; None if there is none."""
        with suppress(OSError):
            self.bio.close()  # drops its buffer, too
        if self.chunk.msgs:
            self.chunk = PendingChunk(2**63 - 1, 0, _Parts(), defaultdict(list))
        elif self._written:
            self._end = self._written.pop().offset
            self.chunks.pop()
        else:
            return None
        os.truncate(self.path, self._end)
        self.bio = cast('BufferedWriter', self.path.open('r+b'))
        self.bio.seek(self._end)
        counts: Counter[int] = Counter()
        for chunk in self._written:
            counts.update(chunk.counts)
        self.channel_stats = {channel: counts[channel] for channel in self.channel_stats}
        self.message_start_time = min((c.start_ns for c in self._written), default=2**63 - 1)
        self.message_end_time = max((c.end_ns for c in self._written), default=0)
        return _Left(dict(counts), self.message_start_time, self.message_end_time)


class _Sqlite3(Sqlite3Writer):
    """Commits now and then, so that there is something to go back to."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        # As rosbag2 does: to wait for the disk at every commit would take longer than the stages.
        self.conn.execute('PRAGMA synchronous = OFF')
        self.languages: dict[str, str] = {}
        self._uncommitted_bytes = 0

    def add_msgtype(self, connection: Connection) -> None:
        if self.languages[connection.msgtype] in _FORMATS:  # readers refuse all others
            super().add_msgtype(connection)

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        super().write(connection, timestamp, data)
        self._uncommitted_bytes += len(data)
        if self._uncommitted_bytes > _COMMIT_BYTES:
            self.conn.commit()
            self._uncommitted_bytes = 0

    def close(self, version: int, metadata: str) -> None:
        try:
            super().close(version, metadata)
        except sqlite3.Error:
            if self._uncommitted_bytes:
                raise
            # The file is whole without its copy of metadata.yaml.
            self.abort()

    def give_back(self) -> _Left | None:
        """Drop what was not committed; None if all was."""
        if not self._uncommitted_bytes:
            return None
        self.conn.rollback()
        self._uncommitted_bytes = 0
        rows = self.conn.execute(
            'SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages '
            'GROUP BY topic_id'
        ).fetchall()
        return _Left(
            {topic: count for topic, count, _, _ in rows},
            min((start_ns for _, _, start_ns, _ in rows), default=2**63 - 1),
            max((end_ns for _, _, _, end_ns in rows), default=0),
        )


class Rosbag2Writer(Writer):
    """Writes a rosbag2 folder as rosbags does, keeping what fits on a full disk.

    Call `open`, `add`, `write` and `close`, all of them on one thread.

    Args:
        path: The folder to make.
        storage: 'mcap' or 'sqlite3'.
    """

    STORAGE_PLUGINS = MappingProxyType(
        {StoragePlugin.MCAP: _Mcap, StoragePlugin.SQLITE3: _Sqlite3}
    )

    def __init__(self, path: Path, storage: str) -> None:
        plugin = StoragePlugin.MCAP if storage == 'mcap' else StoragePlugin.SQLITE3
        super().__init__(path, version=9, storage_plugin=plugin)
        self._reserve = path / '.reserve'

    @property
    def message_count(self) -> int:
        """Messages that are in the recording, as far as is known."""
        return sum(self.counts.values())

    def open(self) -> None:
        """Make the folder and its file.

        Raises:
            OSError, sqlite3.Error, WriterError: If that cannot be.
        """
        super().open()
        try:
            self._reserve.write_bytes(bytes(_RESERVE_BYTES))
        except OSError:
            self.abort()
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def add(self, channel: Channel) -> Connection:
        """Add a topic."""
        storage: Any = self.storage
        definition = MessageDefinition(
            _FORMATS.get(channel.language, MessageDefinitionFormat.NONE),
            _as_text(channel.definition),
        )
        connection = Connection(
            id=len(self.connections) + 1,
            topic=channel.topic,
            msgtype=channel.type,
            msgdef=definition,
            digest=channel.digest,
            msgcount=0,
            ext=ConnectionExtRosbag2(channel.encoding, channel.qos),
            owner=self,
        )
        if channel.type not in self.added_types:
            storage.languages[channel.type] = channel.language
            storage.add_msgtype(connection)
            self.added_types.add(channel.type)
        storage.add_connection(connection, _qos_text(tuple(channel.qos)))
        self.connections.append(connection)
        self.counts[connection.id] = 0
        return connection

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        """Write a message.

        Raises:
            OSError, sqlite3.Error: If it cannot be written; the recording then ends before it,
                and `close` is what is left to do.
        """
        try:
            super().write(connection, timestamp, data)
        except (OSError, sqlite3.Error):
            self._give_back()
            raise

    def close(self) -> None:
        """Finish the recording with all that fits.

        Raises:
            OSError, sqlite3.Error: If not all of it did.
        """
        self._reserve.unlink(missing_ok=True)
        # Readers refuse a folder whose metadata.yaml names what is no ROS message.
        self.connections = [c for c in self.connections if encoding(c) == 'cdr']
        failure: Exception | None = None
        while self.storage is not None:
            try:
                super().close()
            except (OSError, sqlite3.Error) as error:  # noqa: PERF203
                failure = failure or error
                if not self._give_back():
                    self.abort()
        if failure is not None:
            raise failure

    def _give_back(self) -> bool:
        """Make room by dropping the newest messages; False if there are none to drop."""
        storage: Any = self.storage
        left: _Left | None = storage.give_back() if storage is not None else None
        if left is None:
            return False
        self.counts = {number: left.counts.get(number, 0) for number in self.counts}
        self.min_timestamp, self.max_timestamp = left.start_ns, left.end_ns
        return True


@cache
def _qos_text(qos: tuple[Qos, ...]) -> str:
    """Return profiles as a recording has them; a few milliseconds for what is mostly the same."""
    text = StringIO()
    yaml = YAML(typ='safe')
    yaml.default_flow_style = False
    yaml.dump(dump_qos_v9(list(qos)), text)
    return text.getvalue().strip()
