"""Reads recordings that rosbags refuses, or reads less of than there is.

MCAP files may hold channels that are not ROS, definitions nobody can parse, or ROS 1; a recorder
that was killed leaves the end of a .db3 file in a file beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
import shutil
import sqlite3
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, BinaryIO

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import Reader, storage_mcap
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from rosbags.typesys.msg import normalize_msgtype

from .connections import encoding

_FORMATS = {
    'ros1msg': MessageDefinitionFormat.MSG,
    'ros2msg': MessageDefinitionFormat.MSG,
    'ros2idl': MessageDefinitionFormat.IDL,
    'omgidl': MessageDefinitionFormat.IDL,
}


class NoRoomError(OSError):
    """There is no room for the copy that must be read; the text says what to do."""


def accept_foreign_schemas() -> None:
    """Make rosbags take schemas that are not ROS for what they are, instead of for damage."""

    def definition(schema: Any) -> MessageDefinition:
        kind = _FORMATS.get(schema.encoding) if schema is not None else None
        if kind is None:
            return MessageDefinition(MessageDefinitionFormat.NONE, '')
        return MessageDefinition(kind, schema.data)

    def text(bio: BinaryIO) -> str:
        # A protobuf schema is no text; what it was comes back with the same error handler.
        return storage_mcap.read_bytes(bio).decode(errors='surrogateescape')

    storage_mcap.get_msgdef = definition
    storage_mcap.read_string = text


class _AnyProfile:
    """An MCAP file whose header says ros2, the only profile that rosbags opens."""

    # After magic, opcode and length of the record; it is never shorter than two empty strings.
    _AT, _ROS2 = 17, b'\x04\0\0\0ros2'

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        at = self._file.tell()
        data = self._file.read(size)
        start, end = max(at, self._AT), min(at + len(data), self._AT + len(self._ROS2))
        if start < end:
            ros2 = self._ROS2[start - self._AT : end - self._AT]
            data = data[: start - at] + ros2 + data[end - at :]
        return data


class _Mcap(McapReader):
    """Opens every profile; schemas that are not ROS hold the bytes they had."""

    def _open(self) -> None:
        file: Any = self.bio
        self.bio = _AnyProfile(file)  # type: ignore[assignment]
        super()._open()
        self.bio = file
        for number, schema in self.schemas.items():
            if schema.encoding not in _FORMATS:
                octets: Any = schema.data.encode(errors='surrogateescape')
                self.schemas[number] = schema._replace(data=octets)
        for name in (name for c in self.connections for name in (c.topic, c.msgtype)):
            if not name.isprintable():
                raise ReaderError(f'{name!r} is no name')
        self.connections = [
            c._replace(msgtype=normalize_msgtype(c.msgtype)) if encoding(c) == 'ros1' else c
            for c in self.connections
        ]


class _Sqlite3(Sqlite3Reader):
    """Reads what a killed recorder left in a -wal or -journal file beside the database, too.

    SQLite would write into the recording's folder for it, so a copy is read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._original = path
        self._stack = ExitStack()

    def open(self) -> None:
        with ExitStack() as stack:
            self.path = stack.enter_context(_whole_database(self._original))
            with _readable_definitions():
                super().open()
            self._stack = stack.pop_all()

    def close(self) -> None:
        with self._stack:
            super().close()


@contextmanager
def _whole_database(path: Path) -> Iterator[Path]:
    """Copy a database with what is beside it, if there is anything."""
    beside = [path.with_name(f'{path.name}{end}') for end in ('-wal', '-journal')]
    beside = [file for file in beside if file.exists() and file.stat().st_size]
    if not beside:
        yield path
        return
    names = ' and '.join(file.name for file in beside)
    with TemporaryDirectory(prefix='depth_refiner_') as folder:
        copy = Path(folder, path.name)
        try:
            for file in (path, *beside):
                shutil.copyfile(file, Path(folder, file.name))
            with sqlite3.connect(copy) as database:
                database.execute('PRAGMA journal_mode = DELETE')
            database.close()
        except PermissionError:
            raise
        except OSError as error:
            raise NoRoomError(
                f'{names} holds the end of what was recorded, and the copy that would be read '
                f'does not fit into {Path(folder).parent} ({error.strerror}): set TMPDIR to a '
                'larger disk, or put it into the recording with: '
                f"sqlite3 {path} 'PRAGMA journal_mode = DELETE'"
            ) from None
        yield copy


@contextmanager
def _readable_definitions() -> Iterator[None]:
    """Hide definitions in languages rosbags does not know: rosbag2 writes `unknown` for some."""
    from rosbags.rosbag2 import storage_sqlite3

    hooks: Any = getattr(vars(storage_sqlite3).get('apsw'), 'connection_hooks', [])

    def hide(connection: Any) -> None:
        with suppress(Exception):  # before version 4 of the schema there is no such table
            connection.execute(
                'CREATE TEMP VIEW message_definitions AS SELECT * FROM main.message_definitions '
                "WHERE encoding IN ('ros2msg', 'ros2idl')"
            )

    hooks.append(hide)
    try:
        yield
    finally:
        hooks.remove(hide)


class _Directory(DirectoryReader):
    """Counts what is in the files: metadata.yaml may be older than they are."""

    STORAGE_PLUGINS = MappingProxyType({'mcap': _Mcap, 'sqlite3': _Sqlite3})

    def open(self) -> None:
        super().open()
        for i, connection in enumerate(self.connections):
            count = sum(
                other.msgcount
                for storage in self.storages
                for other in storage.connections
                if (other.topic, other.msgtype) == (connection.topic, connection.msgtype)
            )
            self.connections[i] = connection._replace(msgcount=count)


class Rosbag2Reader(Reader):
    """Reads a rosbag2 folder or one of its files."""

    STORAGE_PLUGINS = MappingProxyType({'dir': _Directory, '.mcap': _Mcap, '.db3': _Sqlite3})
