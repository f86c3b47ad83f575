"""Bounds what a recording's compressed chunks unpack to.

rosbags unpacks a chunk whole before it compares its size with what the recording declares, if at
all: a few kilobytes could fill the memory. Its tables of decompressors are where that is decided.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable
from io import BytesIO
from typing import Any

import lz4.frame
from rosbags.rosbag1 import reader as rosbag1
from rosbags.rosbag2 import storage_mcap

LARGEST_BYTES = 1 << 30
"""No chunk may be larger, whatever it declares: recorders write about a megabyte."""

_PIECE_BYTES = 1 << 20


def unpacked(opened: Callable[[Any], Any], packed: bytes, declared: int = LARGEST_BYTES) -> bytes:
    """Unpack as much as was declared, and no more.

    Raises:
        ValueError: If there is more.
    """
    limit = min(declared, LARGEST_BYTES)
    pieces = bytearray()
    with opened(BytesIO(packed)) as file:
        while piece := file.read(_PIECE_BYTES):
            pieces += piece
            if len(pieces) > limit:
                raise ValueError(f'a chunk of {len(packed)} bytes unpacks to more than {limit}')
    return bytes(pieces)


def bound_chunks() -> None:
    """Make rosbags unpack within bounds."""
    # The zstd that rosbags itself found; it depends on the versions of both and of Python.
    zstd: Any = getattr(storage_mcap, 'zstd', None) or vars(storage_mcap)['zstandard']
    storage_mcap.DECOMPRESSORS['lz4'] = lambda data, size: unpacked(lz4.frame.open, data, size)
    storage_mcap.DECOMPRESSORS['zstd'] = lambda data, size: unpacked(zstd.open, data, size)
    rosbag1.decompressors['lz4'] = lambda data: unpacked(lz4.frame.open, data)
    rosbag1.decompressors['bz2'] = lambda data: unpacked(bz2.open, data)
