"""Keeps what was compiled, by what it was compiled from.

An entry is one file: a line of JSON (facts, size, checksum), then the bytes. Its name is the hash
of its facts, so that another driver, model or precision is another entry, and none is ever out of
date. It is written beside its place and renamed: whoever reads finds all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
import stat
import tempfile
import time
from typing import Any

FOLDER_VARIABLE = 'DEPTH_REFINER_CACHE'
LARGEST_BYTES = 2 << 30
"""An engine of this package has some 10 MB; those of other drivers and cameras stay a while."""

_SUFFIX = '.entry'
_FORMAT = 1
_LONGEST_HEAD_BYTES = 1 << 20
_ABANDONED_S = 24 * 3600.0  # a file half written for so long has lost its writer

Facts = Mapping[str, Any]
"""What an entry was made from: texts, numbers and lists of them."""


class CacheError(ValueError):
    """What is kept must not be used; the text says why and what to do."""


@dataclass(frozen=True)
class CacheEntry:
    """An entry, its bytes unread.

    Attributes:
        path: The file.
        facts: What it was made from.
        size_bytes: Size of the file.
        used_s: When it was last read or written, seconds since 1970.
    """

    path: Path
    facts: dict[str, Any]
    size_bytes: int
    used_s: float


def cache_folder() -> Path:
    """Return where entries lie: $DEPTH_REFINER_CACHE, or in the user's cache folder (XDG)."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser()
    base = Path(os.environ.get('XDG_CACHE_HOME', ''))
    # The XDG specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / '.cache') / 'depth_refiner'


class DiskCache:
    """A folder of entries that forgets those unused the longest.

    Several processes may use one folder.

    Args:
        folder: Where; None for `cache_folder`. It is made when something is put into it.
        largest_bytes: What all entries together may take.
    """

    def __init__(self, folder: Path | None = None, largest_bytes: int = LARGEST_BYTES) -> None:
        self.folder = cache_folder() if folder is None else folder
        self.largest_bytes = largest_bytes

    def get(self, facts: Facts) -> bytes | None:
        """Return the bytes kept under these facts; an entry that is damaged is dropped.

        Raises:
            CacheError: If others may write to the folder.
        """
        path = self._path(facts)
        try:
            with path.open('rb') as file:
                self._check_private()
                head = _head(file.readline(_LONGEST_HEAD_BYTES))
                data = file.read()
        except OSError:
            return None
        if (
            head is None
            or head['facts'] != _plain(facts)
            or head['sha256'] != hashlib.sha256(data).hexdigest()
        ):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # the time of access is switched off on many systems
        return data

    def put(self, facts: Facts, data: bytes) -> Path:
        """Keep bytes under these facts, then drop what is too much.

        Raises:
            OSError: If they cannot be written; nothing is left behind then.
            CacheError: If others may write to the folder.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_private()
        path = self._path(facts)
        head = {
            'format': _FORMAT,
            'facts': _plain(facts),
            'sha256': hashlib.sha256(data).hexdigest(),
        }
        with tempfile.NamedTemporaryFile(
            prefix='.', suffix='.part', dir=self.folder, delete=False
        ) as file:
            part = Path(file.name)
            try:
                file.write(json.dumps(head).encode() + b'\n')
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # a robot is switched off at any moment
                file.close()
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        self._shrink(path)
        return path

    def entries(self) -> list[CacheEntry]:
        """Return all entries, the last used first."""
        return sorted(self._entries(), key=lambda entry: (-entry.used_s, entry.path))

    def clear(self) -> int:
        """Remove all entries; return how many there were."""
        count = 0
        for path in (*self.folder.glob(f'*{_SUFFIX}'), *self.folder.glob('.*.part')):
            with suppress(FileNotFoundError):
                path.unlink()
                count += path.suffix == _SUFFIX
        return count

    def _entries(self) -> Iterator[CacheEntry]:
        for path in self.folder.glob(f'*{_SUFFIX}'):
            try:
                with path.open('rb') as file:
                    head = _head(file.readline(_LONGEST_HEAD_BYTES))
                found = path.stat()
            except OSError:
                continue  # another process has just dropped it
            if head is not None:
                yield CacheEntry(path, head['facts'], found.st_size, found.st_mtime)

    def _shrink(self, kept: Path) -> None:
        free_bytes = self.largest_bytes - kept.stat().st_size
        for entry in self.entries():
            if entry.path == kept:
                continue
            free_bytes -= entry.size_bytes
            if free_bytes < 0:
                entry.path.unlink(missing_ok=True)
        for path in self.folder.glob('.*.part'):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()

    def _path(self, facts: Facts) -> Path:
        text = json.dumps(_plain(facts), sort_keys=True)
        return self.folder / (hashlib.sha256(text.encode()).hexdigest()[:32] + _SUFFIX)

    def _check_private(self) -> None:
        # An engine is a program: whoever may write it runs code in whoever loads it.
        if os.name == 'posix' and self.folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise CacheError(
                f'{self.folder} can be written by others, who could put programs into it: '
                f'chmod 700 {self.folder}, or set {FOLDER_VARIABLE} to another folder'
            )


def _head(line: bytes) -> dict[str, Any] | None:
    try:
        head = json.loads(line)
        known = head['format'] == _FORMAT and isinstance(head['facts'], dict) and head['sha256']
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return head if known else None


def _plain(facts: Facts) -> Any:
    """Return facts as they are after a trip through JSON: tuples as lists."""
    return json.loads(json.dumps(dict(facts)))
