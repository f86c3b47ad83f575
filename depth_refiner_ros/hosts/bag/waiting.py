"""Holds messages until their frame is complete: in memory up to a bound, then on disk."""

from __future__ import annotations

from collections.abc import Hashable
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, Protocol

from rosbags.interfaces import Connection

MEMORY_BYTES = 256 << 20
"""What may wait in memory: two seconds of 640x480 colour and depth at 30 Hz are 90 MB."""


class Reader(Protocol):
    """What deserializes messages."""

    def deserialize(self, rawdata: bytes, typ: str) -> object:
        """Deserialize a message."""


class _Held(NamedTuple):
    """A message; where it lies in the file, if it has no octets."""

    log_ns: int
    type: str
    octets: bytes | None
    start: int
    size: int


class Waiting:
    """Messages that wait, by key. Use as a context: leaving it frees the disk."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._held: dict[Hashable, _Held] = {}
        self._read: dict[Hashable, Any] = {}
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held

    def put(self, key: Hashable, connection: Connection, log_ns: int, raw: bytes) -> None:
        """Hold a message.

        Raises:
            OSError: If there is no room on the disk.
        """
        if self._bytes + len(raw) <= MEMORY_BYTES:
            self._bytes += len(raw)
            self._held[key] = _Held(log_ns, connection.msgtype, raw, 0, len(raw))
            return
        if self._file is None:
            self._file = TemporaryFile(prefix='depth_refiner_')  # noqa: SIM115 - see __exit__
        start = self._file.seek(0, 2)
        self._file.write(raw)
        self._held[key] = _Held(log_ns, connection.msgtype, None, start, len(raw))

    def log_ns(self, key: Hashable) -> int:
        """Return when a message was recorded."""
        return self._held[key].log_ns

    def read(self, key: Hashable) -> Any:
        """Return a message, and go on holding it."""
        if key not in self._read:
            held = self._held[key]
            octets = held.octets
            if octets is None:
                assert self._file is not None
                self._file.seek(held.start)
                octets = self._file.read(held.size)
            self._read[key] = self._reader.deserialize(octets, held.type)
        return self._read[key]

    def take(self, key: Hashable) -> Any:
        """Return a message, and hold it no longer."""
        message = self.read(key)
        del self._read[key]
        held = self._held.pop(key)
        self._bytes -= len(held.octets or b'')
        return message
