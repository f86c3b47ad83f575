"""Bounds what a recording's compressed chunks unpack to.

rosbags unpacks a chunk whole before it compares its size with what the recording declares, if at
all: a few kilobytes could fill the memory. Its tables of decompressors are where that is decided.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable
from pathlib import Path
import shutil
from typing import Any

import lz4.frame
from rosbags.rosbag1 import reader as rosbag1
from rosbags.rosbag2 import storage_mcap

LARGEST_BYTES = 1 << 30
"""No chunk may be larger, whatever it declares: recorders write about a megabyte."""

_PIECE_BYTES = 8 << 20


def unpacked(
    decompressor: Callable[[], Any], packed: bytes, declared: int = LARGEST_BYTES
) -> bytes:
    """Unpack as much as was declared, and no more.

    Args:
        decompressor: Makes one of bz2, lz4.frame or zstd, which unpack alike.
        packed: One or more frames.
        declared: Bytes they should unpack to.

    Raises:
        ValueError: If there is more, or the data end early.
    """
    limit = min(declared, LARGEST_BYTES)
    pieces: list[bytes] = []
    size, left = 0, packed
    while left:
        unpack = decompressor()
        while not unpack.eof:
            piece = unpack.decompress(left, max_length=min(limit - size + 1, _PIECE_BYTES))
            left = b''
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise ValueError(f'a chunk of {len(packed)} bytes unpacks to more than {limit}')
            if not piece and not unpack.eof:
                raise ValueError(f'a chunk of {len(packed)} bytes ends early')
        left = unpack.unused_data
    return pieces[0] if len(pieces) == 1 else b''.join(pieces)


ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
"""How a zstd frame starts; no CDR message does."""


def _zstd() -> Any:
    # Older versions of rosbags have another zstd, which cannot be bounded this way.
    module = vars(storage_mcap).get('zstd')
    if module is None:
        raise ValueError('it is compressed with zstd, which needs a newer rosbags')
    return module


def unpacked_zstd(packed: bytes) -> bytes:
    """Unpack a message; see `unpacked`."""
    return unpacked(_zstd().ZstdDecompressor, packed)


def unpack_zstd_file(packed: Path, file: Path) -> None:
    """Unpack a file into another.

    Raises:
        ValueError: If it is damaged.
        OSError: If there is no room.
    """
    with _zstd().open(packed, 'rb') as source, file.open('wb') as target:
        shutil.copyfileobj(source, target)


def bound_chunks() -> None:
    """Make rosbags unpack within bounds."""
    lz4_frame = lz4.frame.LZ4FrameDecompressor
    storage_mcap.DECOMPRESSORS['lz4'] = lambda data, size: unpacked(lz4_frame, data, size)
    if module := vars(storage_mcap).get('zstd'):
        zstd = module.ZstdDecompressor
        storage_mcap.DECOMPRESSORS['zstd'] = lambda data, size: unpacked(zstd, data, size)
    rosbag1.decompressors['lz4'] = lambda data: unpacked(lz4_frame, data)
    rosbag1.decompressors['bz2'] = lambda data: unpacked(bz2.BZ2Decompressor, data)
