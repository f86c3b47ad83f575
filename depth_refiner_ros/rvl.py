"""RVL, the lossless run-length and variable-length code of compressedDepth.

A. D. Wilson, "Fast Lossless Depth Image Compression", ISS 2017. A stream is, over and over: the
number of zeros, the number of non-zeros, and for every non-zero its zig-zag difference to the last
one; each number in groups of three bits, lowest first, a fourth bit saying that more follow; eight
groups to a little-endian 32-bit word, highest first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .kernels import ByteRow, ByteRowOut, CountRow, CountRowOut, IndexRowOut, kernel

_MOST_BITS = 33  # of a number; what is above is not looked at
_LONGEST = 16  # more octets than three numbers take
_CUT, _WRONG, _STILL = 1, 2, 3  # why an image cannot be read; 0: it was


def encode(values: npt.NDArray[np.uint16]) -> bytes:
    """Compress an image, row by row, without its size."""
    flat = values.reshape(-1)
    # At worst every other pixel is 0: two counts and a difference, of 1, 1 and 6 groups.
    octets = np.zeros(4 * flat.size + _LONGEST, np.uint8)
    nibbles = np.zeros(1, np.int64)
    _encode(flat, octets, nibbles)
    words = -(-int(nibbles[0]) // 8)
    return octets[: 4 * words].tobytes()


def decode(data: bytes | memoryview, count: int) -> npt.NDArray[np.uint16]:
    """Expand `count` pixels.

    Raises:
        ValueError: If the data ends early or does not add up to `count` pixels.
    """
    values = np.zeros(count, np.uint16)
    result = np.zeros(2, np.int64)
    _decode(np.frombuffer(data, np.uint8), values, result)
    verdict, position = result.tolist()
    if verdict == _CUT:
        raise ValueError(f'RVL data ends after {position} of {count} pixels')
    if verdict == _WRONG:
        raise ValueError(f'RVL data does not add up to {count} pixels')
    if verdict == _STILL:
        raise ValueError(f'RVL data stands still after {position} of {count} pixels')
    return values


@kernel
def _decode(octets: ByteRow, values: CountRowOut, result: IndexRowOut) -> None:
    count = len(values)
    position, nibble, value = 0, 0, 0
    while position < count:
        zeros, nibble = _read(octets, nibble)
        nonzeros, nibble = _read(octets, nibble)
        if nonzeros < 0:
            result[0], result[1] = _CUT, position
            return
        if position + zeros + nonzeros > count:
            result[0] = _WRONG
            return
        if zeros + nonzeros == 0:
            result[0], result[1] = _STILL, position
            return
        position += zeros
        for at in range(position, position + nonzeros):
            zigzag, nibble = _read(octets, nibble)
            if zigzag < 0:
                result[0] = _WRONG
                return
            value += (zigzag >> 1) ^ -(zigzag & 1)
            values[at] = value & 0xFFFF
        position += nonzeros


def _read(octets: ByteRow, nibble: int) -> tuple[int, int]:
    """Return a number and where the next one begins; -1 where the data ends."""
    end = 2 * (len(octets) // 4 * 4)
    number, shift = 0, 0
    while nibble < end:
        octet = octets[_octet_of(nibble)]
        group = int(octet & 15 if nibble & 1 else octet >> 4)
        nibble += 1
        if shift < _MOST_BITS:
            number |= (group & 7) << shift
        shift += 3
        if group < 8:
            return number, nibble
    return -1, nibble


def _octet_of(nibble: int) -> int:
    return (nibble >> 3) * 4 + 3 - ((nibble & 7) >> 1)


@kernel
def _encode(values: CountRow, octets: ByteRowOut, nibbles: IndexRowOut) -> None:
    count = len(values)
    position, nibble, last = 0, 0, 0
    while position < count:
        start = position
        while position < count and values[position] == 0:
            position += 1
        nibble = _write(octets, nibble, position - start)
        start = position
        while position < count and values[position] != 0:
            position += 1
        nibble = _write(octets, nibble, position - start)
        for at in range(start, position):
            delta = int(values[at]) - last
            last = int(values[at])
            nibble = _write(octets, nibble, (delta << 1) ^ (delta >> 63))
    nibbles[0] = nibble


def _write(octets: ByteRowOut, nibble: int, number: int) -> int:
    """Write a number into octets of zero, and return where the next one begins."""
    while True:
        group = (number & 7) | (8 if number > 7 else 0)
        octets[_octet_of(nibble)] |= group if nibble & 1 else group << 4
        nibble += 1
        number >>= 3
        if number == 0:
            return nibble
