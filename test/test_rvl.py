from __future__ import annotations

import struct
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
import pytest

from depth_refiner_ros import rvl


class PublishedCodec:
    """The listing of Wilson's paper, "Fast Lossless Depth Image Compression", line by line."""

    def __init__(self, words=()):
        self.words = list(words)
        self.word = 0
        self.nibbles_written = 0
        self.nibbles_read = 0

    def encode_vle(self, value):
        while True:
            nibble = value & 0x7
            value >>= 3
            if value:
                nibble |= 0x8
            self.word = self.word << 4 | nibble
            self.nibbles_written += 1
            if self.nibbles_written == 8:
                self.words.append(self.word)
                self.nibbles_written = self.word = 0
            if not value:
                return

    def decode_vle(self):
        value, bits = 0, 29
        while True:
            if not self.nibbles_read:
                self.word = self.words.pop(0)
                self.nibbles_read = 8
            nibble = self.word & 0xF0000000
            value |= (nibble << 1 & 0xFFFFFFFF) >> bits
            self.word = self.word << 4 & 0xFFFFFFFF
            self.nibbles_read -= 1
            bits -= 3
            if not nibble & 0x80000000:
                return value

    def compress(self, pixels):
        at, end, previous = 0, len(pixels), 0
        while at != end:
            zeros = 0
            while at != end and not pixels[at]:
                at, zeros = at + 1, zeros + 1
            self.encode_vle(zeros)
            nonzeros = 0
            while at + nonzeros != end and pixels[at + nonzeros]:
                nonzeros += 1
            self.encode_vle(nonzeros)
            for pixel in pixels[at : at + nonzeros]:
                delta = pixel - previous
                self.encode_vle(delta << 1 ^ delta >> 31)
                previous = pixel
            at += nonzeros
        if self.nibbles_written:
            self.words.append(self.word << 4 * (8 - self.nibbles_written))
        return struct.pack(f'<{len(self.words)}I', *self.words)

    def decompress(self, count):
        pixels, previous = [], 0
        while len(pixels) < count:
            pixels += [0] * self.decode_vle()
            for _ in range(self.decode_vle()):
                positive = self.decode_vle()
                previous += positive >> 1 ^ -(positive & 1)
                pixels.append(previous)
        return pixels


def published_encode(values):
    return PublishedCodec().compress(values.ravel().tolist())


def published_decode(data, count):
    return PublishedCodec(struct.unpack(f'<{len(data) // 4}I', data)).decompress(count)


def scene(height=48, width=64, holes=0.2, seed=0):
    """Surfaces with noise, in millimetres, with holes in runs."""
    rng = np.random.default_rng(seed)
    mm = 900 + 3 * np.arange(width) + 400 * (np.arange(height)[:, None] > height // 2)
    mm = mm + rng.integers(-4, 5, (height, width))
    mm[np.repeat(rng.random((height, width // 4)) < holes, 4, axis=1)] = 0
    return mm.astype(np.uint16)


EXTREMES = {
    'zeros': np.zeros((3, 5), np.uint16),
    'no zeros': np.full((3, 5), 800, np.uint16),
    'one zero': np.zeros((1, 1), np.uint16),
    'one pixel': np.full((1, 1), 1, np.uint16),
    'one farthest pixel': np.full((1, 1), 65535, np.uint16),
    'largest steps': np.array([[0, 65535, 1, 65535, 0, 1, 65535, 0]], np.uint16),
    'hole first': np.array([[0, 0, 7, 8]], np.uint16),
    'hole last': np.array([[7, 8, 0, 0]], np.uint16),
    'hole in the middle keeps the last value': np.array([[7, 0, 0, 7]], np.uint16),
    'long runs': np.repeat(np.array([0, 5, 0, 9], np.uint16), 5000)[None],
    'scene': scene(),
}


@pytest.mark.parametrize('values', EXTREMES.values(), ids=EXTREMES.keys())
def test_bytes_are_those_of_the_published_codec(values):
    data = rvl.encode(values)
    assert data == published_encode(values)
    assert published_decode(data, values.size) == values.ravel().tolist()
    decoded = rvl.decode(data, values.size)
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, values.ravel())


def test_a_stream_by_hand():
    # 1 zero, 2 others: +3 -> 6, then 3 -> 1 is -2 -> 3; nibbles 1 2 6 3 and padding
    assert rvl.encode(np.array([[0, 3, 1]], np.uint16)) == bytes([0x00, 0x00, 0x63, 0x12])
    # 0 zeros, 1 other: +36 -> 72 = 0b1001000: groups 0, 1, 1, lowest first, two flagged
    assert rvl.encode(np.array([[36]], np.uint16)) == bytes([0x00, 0x10, 0x89, 0x01])


images = arrays.arrays(
    np.uint16,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    elements=st.one_of(st.just(0), st.integers(0, 65535), st.integers(900, 1100)),
)


@given(images)
def test_any_image_survives_and_matches_the_published_codec(values):
    data = rvl.encode(values)
    assert data == published_encode(values)
    np.testing.assert_array_equal(rvl.decode(data, values.size), values.ravel())


def test_memory_order_does_not_matter():
    values = scene()
    turned = np.asfortranarray(values)
    np.testing.assert_array_equal(rvl.decode(rvl.encode(turned), values.size), values.ravel())
    assert rvl.encode(values[::2, ::3]) == rvl.encode(values[::2, ::3].copy())


def test_data_may_be_a_view_and_may_carry_a_tail():
    values = scene()
    data = rvl.encode(values)
    np.testing.assert_array_equal(
        rvl.decode(memoryview(b'head' + data + b'tail!')[4:], values.size), values.ravel()
    )


def test_nothing_to_say():
    assert rvl.encode(np.zeros((0, 4), np.uint16)) == b''
    assert rvl.decode(b'', 0).size == 0


# ------------------------------------------------------------------------------ hostile data


@pytest.mark.parametrize('data', [b'', b'\x00', b'\x00\x00\x00', b'\xff' * 8, b'\x88' * 400])
def test_data_without_a_pixel(data):
    with pytest.raises(ValueError, match=r'^RVL data ends after 0 of 5 pixels$'):
        rvl.decode(data, 5)


def test_every_truncation_is_noticed():
    values = scene(8, 16)
    data = rvl.encode(values)
    for size in range(len(data) - 4 + 1):
        with pytest.raises(ValueError, match=r'^RVL data '):
            rvl.decode(data[:size], values.size)


def test_a_stream_that_stands_still_ends():
    with pytest.raises(ValueError, match=r'^RVL data stands still after 0 of 5 pixels$'):
        rvl.decode(b'\x00' * 4096, 5)


def test_counts_that_exceed_the_image_are_refused():
    values = scene(8, 16)
    with pytest.raises(ValueError, match=r'^RVL data does not add up to 127 pixels$'):
        rvl.decode(rvl.encode(values), 127)
    with pytest.raises(ValueError, match=r'^RVL data .* after 128 of 129 pixels$'):
        rvl.decode(rvl.encode(values), 129)


def test_a_run_of_four_billion_pixels_costs_nothing():
    codec = PublishedCodec()
    for number in (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF):
        codec.encode_vle(number)
    data = struct.pack('<5I', *codec.words, codec.word << 28)
    for hostile in (data, b'\xff' * 16 + data, b'\x00' * 4 + data):
        tracemalloc.start()
        with pytest.raises(ValueError, match=r'^RVL data'):
            rvl.decode(hostile, 1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


def gives_an_image_or_a_value_error(data, count):
    try:
        values = rvl.decode(data, count)
    except ValueError:
        return
    assert values.shape == (count,)


@given(st.binary(max_size=400), st.integers(0, 2000))
def test_random_data_gives_an_image_or_a_value_error(data, count):
    gives_an_image_or_a_value_error(data, count)


@given(st.integers(0, 10_000), st.data())
def test_flipped_bits_give_an_image_or_a_value_error(seed, data):
    values = scene(12, 16, seed=seed)
    corrupt = bytearray(rvl.encode(values))
    for _ in range(data.draw(st.integers(1, 5))):
        corrupt[data.draw(st.integers(0, len(corrupt) - 1))] ^= data.draw(st.integers(1, 255))
    gives_an_image_or_a_value_error(bytes(corrupt), values.size)
