from __future__ import annotations

import struct

import numpy as np
import pytest

from depth_refiner_ros import rvl
from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
)
from depth_refiner_ros.messages import (
    decode,
    encode_compressed,
)

from .builders import (
    ALPHA,
    GREY,
    HEADER,
    METRES,
    MM,
    RGB,
    ROS2,
    compressed,
    delivered,
    family,
    png,
    refused,
)


@pytest.mark.parametrize('text', ['png', 'rgb8; png compressed bgr8', 'bgr8; png compressed bgr8'])
def test_png_color(store, text):
    msg = compressed(store, text, png(RGB[..., ::-1]))
    color = decode(ColorImage, delivered(store, msg))
    np.testing.assert_array_equal(color.rgb, RGB)
    assert color.header == HEADER


@pytest.mark.parametrize('text', ['jpeg', 'rgb8; jpeg compressed bgr8', 'jpg'])
def test_jpeg_color(store, text):
    red = np.full((16, 24, 3), (200, 40, 20), np.uint8)
    msg = compressed(store, text, png(red[..., ::-1], '.jpg'))
    color = decode(ColorImage, delivered(store, msg))
    assert color.rgb.shape == (16, 24, 3)
    assert np.abs(color.rgb.astype(int) - red).max() <= 3


def test_grey_and_transparent_pngs_become_color(store):
    grey = decode(ColorImage, compressed(store, 'png', png(GREY)))
    np.testing.assert_array_equal(grey.rgb, GREY[..., None].repeat(3, -1))
    with_alpha = png(np.concatenate([RGB[..., ::-1], ALPHA], -1))
    np.testing.assert_array_equal(
        decode(ColorImage, compressed(store, 'png', with_alpha)).rgb, RGB
    )


@pytest.mark.parametrize('octets', [b'', b'\x00', b'\x89PNG\r\n\x1a\n', b'hello, world' * 9])
@pytest.mark.parametrize('value_type', [ColorImage, DepthImage])
def test_what_is_no_image_is_refused(store, value_type, octets):
    refused(
        value_type,
        compressed(store, 'jpeg', octets),
        f'{len(octets)} bytes of compressed image are not a readable PNG or JPEG',
    )


def config(a=0.0, b=0.0, magic=0):
    """ConfigHeader of compressed_depth_image_transport."""
    return struct.pack('<iff', magic, a, b)


def rvl_image(raw):
    height, width = raw.shape
    return struct.pack('<II', width, height) + rvl.encode(raw)


@pytest.mark.parametrize('text', ['png', '16UC1; png compressed ', 'mono16; png compressed'])
def test_plain_png_depth(store, text):
    depth = decode(DepthImage, delivered(store, compressed(store, text, png(MM))))
    np.testing.assert_array_equal(depth.depth_m, METRES)
    assert (depth.encoding, depth.header) == ('16UC1', HEADER)


@pytest.mark.parametrize(
    ('text', 'pack'),
    [
        ('16UC1; compressedDepth', png),  # up to Noetic, and drivers that copied it
        ('16UC1; compressedDepth png', png),
        ('16UC1;compressedDepth png', png),
        ('mono16; compressedDepth png', png),
        ('16UC1; compressedDepth rvl', rvl_image),
    ],
)
@pytest.mark.parametrize('magic', [0, 1, -7])
def test_compressed_depth_in_millimetres(store, text, pack, magic):
    # the parameters mean nothing here; drivers leave them uninitialised
    octets = config(float('nan'), 1e30, magic) + pack(MM)
    depth = decode(DepthImage, delivered(store, compressed(store, text, octets)))
    np.testing.assert_array_equal(depth.depth_m, METRES)
    assert depth.encoding == '16UC1'


# As compressed_depth_image_transport computes them from depth_quantization and depth_max.
A = 100.0 * (100.0 + 1.0)
B = 1.0 - A / 10.0


@pytest.mark.parametrize(
    ('text', 'pack'),
    [
        ('32FC1; compressedDepth', png),
        ('32FC1; compressedDepth png', png),
        ('32FC1; compressedDepth rvl', rvl_image),
    ],
)
def test_compressed_depth_in_quantised_inverse_metres(store, text, pack):
    raw = np.array([[0, 1, 4041, 9091, 65535]], np.uint16)
    octets = config(A, B) + pack(raw)
    depth = decode(DepthImage, delivered(store, compressed(store, text, octets)))
    # a / (raw - b): 10100 / 1010 = 10 m; / 5050 = 2 m; / 10100 = 1 m; / 66544 = 0.1518 m
    expected = [np.nan, 10.0, 2.0, 1.0, 0.15177927]
    np.testing.assert_allclose(depth.depth_m[0], expected, rtol=1e-6)
    assert depth.encoding == '32FC1'


def test_inverse_depth_of_infinity_and_behind_is_no_return(store):
    octets = config(100.0, 5.0) + png(np.array([[3, 5, 7]], np.uint16))
    depth = decode(DepthImage, compressed(store, '32FC1; compressedDepth png', octets))
    np.testing.assert_array_equal(depth.depth_m, [[np.nan, np.nan, 50.0]])


@pytest.mark.parametrize(
    ('text', 'octets', 'message'),
    [
        ('16UC1; compressedDepth png', b'', 'compressedDepth of 0 bytes has no header'),
        (
            '16UC1; compressedDepth rvl',
            b'12345678901',
            'compressedDepth of 11 bytes has no header',
        ),
        (
            '16UC1; compressedDepth png',
            config(),
            '0 bytes of compressed image are not a readable PNG or JPEG',
        ),
        (
            '16UC1; compressedDepth png',
            config() + rvl_image(MM),
            '20 bytes of compressed image are not a readable PNG or JPEG',
        ),
        ('16UC1; compressedDepth rvl', config() + b'1234567', 'RVL image of 7 bytes has no size'),
        (
            '16UC1; compressedDepth rvl',
            config() + rvl_image(MM)[:-4],
            'RVL data does not add up to 6 pixels',
        ),
        (
            '16UC1; compressedDepth rvl',
            config() + rvl_image(MM)[:8],
            'RVL data ends after 0 of 6 pixels',
        ),
        (
            '16UC1; compressedDepth rvl',
            config() + struct.pack('<II', 0xFFFFFFFF, 0xFFFFFFFF) + bytes(100),
            'RVL image claims 4294967295x4294967295 pixels in 108 bytes',
        ),
        (
            '16UC1; compressedDepth rvl',
            config() + struct.pack('<II', 0, 7) + bytes(100),
            'RVL image claims 0x7 pixels in 108 bytes',
        ),
        (
            '16UC1; compressedDepth png',
            config() + png(RGB),
            "format '16UC1; compressedDepth png' holds a uint8 image of 3 dimensions; "
            'a depth image has one channel of 16 bits',
        ),
        (
            'jpeg',
            png(GREY, '.jpg'),
            "format 'jpeg' holds a uint8 image of 2 dimensions; "
            'a depth image has one channel of 16 bits',
        ),
        (
            '32FC1; compressedDepth png',
            config(0.0, 0.0) + png(MM),
            "format '32FC1; compressedDepth png' needs quantisation parameters, got 0 and 0",
        ),
        (
            '32FC1; compressedDepth rvl',
            config(float('nan'), 1.0) + rvl_image(MM),
            "format '32FC1; compressedDepth rvl' needs quantisation parameters, got nan and 1",
        ),
    ],
)
def test_malformed_compressed_depth_is_refused(store, text, octets, message):
    refused(DepthImage, compressed(store, text, octets), message)


def test_a_truncated_png_is_refused():
    raw = np.random.default_rng(0).integers(500, 5000, (40, 50)).astype(np.uint16)
    octets = png(raw)
    for size in (len(octets) // 2, len(octets) - 20):
        refused(
            DepthImage,
            compressed(ROS2, '16UC1; compressedDepth png', config() + octets[:size]),
            f'{size} bytes of compressed image are not a readable PNG or JPEG',
        )


def test_rvl_of_a_real_size(store):
    raw = np.zeros((480, 848), np.uint16)
    raw[100:300, 200:600] = np.random.default_rng(0).integers(400, 4000, (200, 400))
    msg = compressed(store, '16UC1; compressedDepth rvl', config() + rvl_image(raw))
    depth = decode(DepthImage, delivered(store, msg))
    np.testing.assert_array_equal(np.nan_to_num(depth.depth_m * 1000).round(), raw)


def depth_scene(encoding):
    rng = np.random.default_rng(0)
    depth_m = rng.uniform(0.16, 9.99, (30, 40)).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < 0.2] = np.nan
    if encoding == '16UC1':
        depth_m = np.rint(depth_m * 1000).astype(np.float32) / np.float32(1000)
    return depth_m


@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_compressed_millimetres_come_back_as_they_were(codec):
    depth = DepthImage(HEADER, depth_scene('16UC1'), '16UC1')
    msg = encode_compressed(depth, family(), codec)
    assert msg.format == f'16UC1; compressedDepth {codec}'
    again = decode(DepthImage, delivered(ROS2, msg))
    np.testing.assert_array_equal(again.depth_m, depth.depth_m)
    assert (again.encoding, again.header) == ('16UC1', HEADER)


@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_compressed_metres_come_back_within_one_quantum(codec):
    depth_m = depth_scene('32FC1')
    msg = encode_compressed(DepthImage(HEADER, depth_m), family(), codec)
    assert struct.unpack_from('<iff', msg.data) == (0, A, B)
    again_m = decode(DepthImage, delivered(ROS2, msg)).depth_m
    np.testing.assert_array_equal(np.isnan(again_m), np.isnan(depth_m))
    # One count of a / z is z^2 / a metres wide at z; counts are cut, so depth never shrinks.
    error_m = (again_m - depth_m)[np.isfinite(depth_m)]
    quantum_m = (again_m**2 / A)[np.isfinite(depth_m)]
    assert (error_m <= quantum_m).all()
    assert (error_m >= -1e-5).all()


@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_metres_out_of_the_quantised_range_become_no_return(codec):
    # 10100 / (65535 - b) = 0.1518 m is the nearest that a count can say
    depth_m = np.array([[0.1517, 0.1519, 9.999, 10.0, 50.0, np.inf, np.nan]], np.float32)
    msg = encode_compressed(DepthImage(HEADER, depth_m), family(), codec)
    again_m = decode(DepthImage, msg).depth_m[0]
    assert np.isfinite(again_m).tolist() == [False, True, True, False, False, False, False]


@pytest.mark.parametrize(('codec', 'tolerance'), [('jpeg', 4), ('png', 0)])
def test_compressed_color_comes_back(codec, tolerance):
    rgb = np.full((16, 16, 3), (180, 90, 20), np.uint8)
    msg = encode_compressed(ColorImage(HEADER, rgb), family(), codec)
    assert msg.format == f'rgb8; {codec} compressed bgr8'
    again = decode(ColorImage, delivered(ROS2, msg))
    assert again.header == HEADER
    assert np.abs(again.rgb.astype(int) - rgb).max() <= tolerance


def test_a_codec_that_does_not_fit_is_refused():
    depth = DepthImage(HEADER, METRES)
    with pytest.raises(ValueError, match=r"^depth is compressed as png or rvl, not 'jpeg'$"):
        encode_compressed(depth, family(), 'jpeg')
    with pytest.raises(ValueError, match=r"^colour is compressed as jpeg or png, not 'rvl'$"):
        encode_compressed(ColorImage(HEADER, RGB), family(), 'rvl')
