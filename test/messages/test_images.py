from __future__ import annotations

import array
from dataclasses import replace
import struct

import numpy as np
import pytest

from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    PointCloud,
    ProvenanceImage,
    StddevImage,
)
from depth_refiner_ros.messages import (
    MESSAGE_TYPE,
    decode,
    encode,
)
from depth_refiner_ros.messages.images import _COLOR_CHANNELS

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
    image,
    png,
    refused,
)


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize(('padding', 'last_padding'), [(0, None), (2, None), (5, None), (5, 0)])
@pytest.mark.parametrize('encoding', ['16UC1', 'mono16'])
def test_millimetres(store, encoding, padding, last_padding, big):
    msg = image(store, MM, encoding, padding=padding, last_padding=last_padding, big=big)
    depth = decode(DepthImage, delivered(store, msg))
    np.testing.assert_array_equal(depth.depth_m, METRES)
    assert depth.depth_m.dtype == np.float32
    assert depth.header == HEADER
    assert depth.encoding == '16UC1'


@pytest.mark.parametrize(
    ('unit_m', 'expected_m'),
    [
        # 0, 1, 1234, 65535, 256 and 500 counts, by hand.
        (0.00025, [np.nan, 0.00025, 0.3085, 16.38375, 0.064, 0.125]),
        (0.0001, [np.nan, 0.0001, 0.1234, 6.5535, 0.0256, 0.05]),
        (0.01, [np.nan, 0.01, 12.34, 655.35, 2.56, 5.0]),
        # An SR300's own unit, of which no whole number makes a metre.
        (0.00012498, [np.nan, 0.00012498, 0.15422532, 8.1905643, 0.03199488, 0.06249]),
    ],
)
def test_a_unit_of_its_own(store, unit_m, expected_m):
    expected_m = np.array(expected_m).astype(np.float32).reshape(2, 3)
    header_octets = struct.pack('<i2f', 0, 0, 0)
    for msg in (
        image(store, MM, 'mono16', big=True),
        compressed(store, '16UC1; compressedDepth png', header_octets + png(MM)),
    ):
        depth = decode(DepthImage, delivered(store, msg), depth_unit_m=unit_m)
        np.testing.assert_array_equal(depth.depth_m, expected_m)
        assert depth.encoding == '16UC1'
    metres = image(store, np.array([[1500.0, np.nan]], np.float32), '32FC1')
    depth = decode(DepthImage, delivered(store, metres), depth_unit_m=0.001)
    np.testing.assert_array_equal(depth.depth_m, np.array([[1.5, np.nan]], np.float32))


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize(('padding', 'last_padding'), [(0, None), (3, None), (8, 0)])
def test_metres(store, padding, last_padding, big):
    no_return = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.5]
    rows = np.array([no_return, [1.25, 1e-3, 65.535, 1e4, 3e38, 1e-40]], np.float32)
    msg = image(store, rows, '32FC1', padding=padding, last_padding=last_padding, big=big)
    depth = decode(DepthImage, delivered(store, msg))
    assert np.isnan(depth.depth_m[0]).all()
    np.testing.assert_array_equal(depth.depth_m[1], rows[1])
    assert depth.encoding == '32FC1'


def test_a_message_keeps_its_pixels_when_the_value_changes(store):
    msg = image(store, np.ones((2, 3), np.float32), '32FC1')
    before = msg.data.copy()
    depth = decode(DepthImage, msg)
    assert not np.shares_memory(depth.depth_m, msg.data)  # holes are written into a copy
    np.testing.assert_array_equal(msg.data, before)


def test_data_of_rclpy():
    msg = image(ROS2, MM, '16UC1')
    for data in (array.array('B', msg.data.tobytes()), msg.data.tobytes(), memoryview(msg.data)):
        np.testing.assert_array_equal(decode(DepthImage, replace(msg, data=data)).depth_m, METRES)


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        (
            {'encoding': 'rgb8'},
            "encoding 'rgb8' is not a depth image; accepted: 16UC1, mono16 (millimetres) and "
            '32FC1 (metres)',
        ),
        (
            {'encoding': ''},
            "encoding '' is not a depth image; accepted: 16UC1, mono16 (millimetres) and "
            '32FC1 (metres)',
        ),
        ({'width': 0}, 'image is 0x2; expected at least one pixel'),
        ({'height': 0}, 'image is 3x0; expected at least one pixel'),
        ({'step': 5}, 'step is 5 bytes but a row of 3 16UC1 pixels has 6'),
        (
            {'step': 0, 'data': np.zeros(14, np.uint8)},
            'step is 0 bytes but a row of 3 16UC1 pixels has 6',
        ),
        ({'encoding': '32FC1'}, 'step is 6 bytes but a row of 3 32FC1 pixels has 12'),
        ({'step': 7}, '3x2 16UC1 with step 7 needs 13 bytes, got 12'),
        ({'height': 3}, '3x3 16UC1 with step 6 needs 18 bytes, got 12'),
        (
            {'height': 4_000_000_000, 'step': 4_000_000_000},
            '3x4000000000 16UC1 with step 4000000000 needs 15999999996000000006 bytes, got 12',
        ),
        ({'data': np.zeros(0, np.uint8)}, '3x2 16UC1 with step 6 needs 12 bytes, got 0'),
        ({'data': np.zeros(11, np.uint8)}, '3x2 16UC1 with step 6 needs 12 bytes, got 11'),
    ],
)
def test_a_malformed_depth_image_is_refused(store, changes, text):
    refused(DepthImage, replace(image(store, MM, '16UC1'), **changes), text)


def test_a_step_that_was_left_out_is_that_of_rows_without_padding():
    whole = image(ROS2, MM, '16UC1')
    depth = decode(DepthImage, replace(whole, step=0))
    np.testing.assert_array_equal(depth.depth_m, decode(DepthImage, whole).depth_m)


def test_a_message_of_another_type_is_refused():
    cloud = encode(PointCloud(HEADER, np.zeros((1, 1, 3), np.float32)), family())
    info = encode(PinholeCamera(HEADER, 4, 3, 2.0, 2.0, 1.0, 1.0), family())
    depth = image(ROS2, MM, '16UC1')
    packed = compressed(ROS2, 'jpeg', png(np.zeros((2, 2, 3), np.uint8), '.jpg'))
    for value_type, msg in [
        (DepthImage, cloud),
        (DepthImage, info),
        (ColorImage, info),
        (PinholeCamera, depth),
        (PointCloud, depth),
        (PointCloud, info),
        (StddevImage, packed),
        (ProvenanceImage, packed),
    ]:
        refused(
            value_type,
            msg,
            f'a {type(msg).__name__} cannot be read as {value_type.__name__}; '
            f'expected {MESSAGE_TYPE[value_type]}',
        )


def test_every_millimetre_survives():
    counts = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    msg = image(ROS2, counts, '16UC1')
    again = encode(decode(DepthImage, msg), family())
    np.testing.assert_array_equal(again.data, msg.data)
    assert (again.encoding, again.step, again.is_bigendian) == ('16UC1', 512, 0)


def test_metres_that_millimetres_cannot_hold_become_no_return():
    depth_m = np.array([[65.535, 65.536, 1e9, np.inf, -1.0, np.nan, 0.0, 0.0004, 0.0006]])
    msg = encode(DepthImage(HEADER, depth_m.astype(np.float32), '16UC1'), family())
    assert msg.data.view('<u2').tolist() == [65535, 0, 0, 0, 0, 0, 0, 0, 1]


def test_millimetres_are_rounded_not_cut():
    depth_m = np.array([[1.0006, 1.0004, 0.9999]], np.float32)
    msg = encode(DepthImage(HEADER, depth_m, '16UC1'), family())
    assert msg.data.view('<u2').tolist() == [1001, 1000, 1000]


# Two pixels share U and V. BT.601, studio range: a red and a darker red, then white and black.
YUYV = np.array([[[81, 90], [50, 240]], [[235, 128], [16, 128]]], np.uint8)
YUV_AS_RGB = np.array([[[254, 0, 0], [218, 0, 0]], [[255, 255, 255], [0, 0, 0]]])

COLOR_ROWS = {
    'rgb8': (RGB, RGB),
    'bgr8': (RGB[..., ::-1], RGB),
    '8UC3': (RGB[..., ::-1], RGB),
    'rgba8': (np.concatenate([RGB, ALPHA], -1), RGB),
    'bgra8': (np.concatenate([RGB[..., ::-1], ALPHA], -1), RGB),
    'mono8': (GREY, GREY[..., None].repeat(3, -1)),
    '8UC1': (GREY, GREY[..., None].repeat(3, -1)),
    'yuv422_yuy2': (YUYV, YUV_AS_RGB),
    'yuyv': (YUYV, YUV_AS_RGB),
    'yuv422': (YUYV[..., ::-1], YUV_AS_RGB),
    'uyvy': (YUYV[..., ::-1], YUV_AS_RGB),
}


def test_every_accepted_encoding_is_tested():
    assert COLOR_ROWS.keys() == _COLOR_CHANNELS.keys()


@pytest.mark.parametrize('big', [False, True])  # says nothing about bytes
@pytest.mark.parametrize(('padding', 'last_padding'), [(0, None), (3, None), (4, 0)])
@pytest.mark.parametrize('encoding', _COLOR_CHANNELS)
def test_color(store, encoding, padding, last_padding, big):
    rows, expected = COLOR_ROWS[encoding]
    msg = image(store, rows, encoding, padding=padding, last_padding=last_padding, big=big)
    color = decode(ColorImage, delivered(store, msg))
    assert color.header == HEADER
    assert color.rgb.dtype == np.uint8
    # OpenCV's fixed-point YUV may round either way
    tolerance = 1 if 'y' in encoding else 0
    assert np.abs(color.rgb.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ('y', 'u', 'v', 'rgb'),
    [
        # R = 1.164 (Y-16) + 1.596 (V-128), G = ... - 0.392 (U-128) - 0.813 (V-128),
        # B = ... + 2.017 (U-128): ITU-R BT.601
        (126, 128, 128, (128, 128, 128)),
        (126, 160, 128, (128, 116, 193)),
        (126, 128, 160, (179, 102, 128)),
        (41, 240, 110, (0, 0, 255)),
    ],
)
def test_yuv_by_hand(y, u, v, rgb):
    for encoding, pair in (('yuv422_yuy2', [[y, u], [y, v]]), ('yuv422', [[u, y], [v, y]])):
        color = decode(ColorImage, image(ROS2, np.array([pair], np.uint8), encoding))
        assert np.abs(color.rgb[0].astype(int) - rgb).max() <= 1


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        (
            {'encoding': '16UC1'},
            "encoding '16UC1' is not a colour image; accepted: rgb8, bgr8, 8UC3, rgba8, bgra8, "
            'mono8, 8UC1, yuv422, uyvy, yuv422_yuy2, yuyv',
        ),
        ({'width': 3}, 'step is 6 bytes but a row of 3 rgb8 pixels has 9'),
        ({'height': 3}, '2x3 rgb8 with step 6 needs 18 bytes, got 12'),
        ({'encoding': 'bgra8'}, 'step is 6 bytes but a row of 2 bgra8 pixels has 8'),
        (
            {'encoding': 'yuv422', 'width': 3},
            'yuv422 stores pixels in pairs, but the width is 3',
        ),
    ],
)
def test_a_malformed_color_image_is_refused(store, changes, text):
    refused(ColorImage, replace(image(store, RGB, 'rgb8'), **changes), text)


@pytest.mark.parametrize('big', [False, True])
def test_standard_deviation(store, big):
    stddev_m = np.array([[0.0, 0.01, np.nan]], np.float32)
    msg = image(store, stddev_m, '32FC1', padding=4, big=big)
    value = decode(StddevImage, delivered(store, msg))
    np.testing.assert_array_equal(value.stddev_m, stddev_m)
    refused(
        StddevImage,
        replace(msg, encoding='16UC1'),
        "encoding '16UC1' is not a standard deviation; accepted: 32FC1",
    )


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_provenance(store, encoding):
    rows = np.array([[0, 1], [2, 3]], np.uint8)
    msg = image(store, rows, encoding, padding=1)
    np.testing.assert_array_equal(decode(ProvenanceImage, delivered(store, msg)).provenance, rows)
    refused(
        ProvenanceImage,
        replace(msg, encoding='rgb8'),
        "encoding 'rgb8' is not a provenance; accepted: mono8, 8UC1",
    )


@pytest.mark.parametrize(
    ('value', 'name', 'encoding', 'step'),
    [
        (DepthImage(HEADER, METRES), 'depth_m', '32FC1', 12),
        (DepthImage(HEADER, METRES, '16UC1'), 'depth_m', '16UC1', 6),
        (StddevImage(HEADER, METRES), 'stddev_m', '32FC1', 12),
        (ProvenanceImage(HEADER, GREY), 'provenance', 'mono8', 2),
        (ColorImage(HEADER, RGB), 'rgb', 'rgb8', 6),
    ],
)
def test_images_come_back_as_they_were(value, name, encoding, step):
    msg = encode(value, family())
    assert msg.__msgtype__ == MESSAGE_TYPE[type(value)] == 'sensor_msgs/msg/Image'
    assert (msg.encoding, msg.step, msg.is_bigendian) == (encoding, step, 0)
    assert msg.data.size == msg.step * msg.height
    again = decode(type(value), delivered(ROS2, msg))
    np.testing.assert_array_equal(getattr(again, name), getattr(value, name))
    assert again.header == value.header
    assert type(again) is type(value)


WIDE = np.random.default_rng(0).uniform(1, 2, (6, 8, 3)).astype(np.float32)
WIDE_U8 = (WIDE * 100).astype(np.uint8)
SLICES = {
    'every other pixel': np.s_[::2, ::2],
    'part of a single row': np.s_[:1, :3],
    'part of a single column': np.s_[:4, :1],
    'upside down': np.s_[::-1, ::-1],
}


@pytest.mark.parametrize('cut', SLICES.values(), ids=SLICES.keys())
@pytest.mark.parametrize(
    ('kind', 'name', 'array'),
    [
        (DepthImage, 'depth_m', WIDE[..., 0]),
        (lambda header, depth_m: DepthImage(header, depth_m, '16UC1'), 'depth_m', WIDE[..., 0]),
        (StddevImage, 'stddev_m', WIDE[..., 0]),
        (ProvenanceImage, 'provenance', WIDE_U8[..., 0]),
        (ColorImage, 'rgb', WIDE_U8),
        (PointCloud, 'points_m', WIDE),
        (lambda header, rgb: PointCloud(header, rgb.astype(np.float32), rgb), 'rgb', WIDE_U8),
    ],
)
def test_a_view_of_a_larger_array_is_packed_tightly(kind, name, array, cut):
    value = kind(HEADER, array[cut])

    def octets(pixels):
        assert pixels.flags.c_contiguous
        return np.frombuffer(pixels.tobytes(), np.uint8)

    msg = encode(value, family(octets))
    row_size = msg.row_step if isinstance(value, PointCloud) else msg.step
    assert msg.data.size == row_size * msg.height
    again = decode(type(value), delivered(ROS2, msg))
    tolerance = 0.0005 if getattr(value, 'encoding', '') == '16UC1' else 0
    np.testing.assert_allclose(
        getattr(again, name), getattr(value, name), rtol=0, atol=tolerance + 1e-9
    )


def test_stamps_survive_to_the_nanosecond():
    for stamp_ns in (0, 1, 999_999_999, 1_000_000_000, 2_147_483_647_999_999_999):
        value = DepthImage(Header(stamp_ns, ''), METRES)
        assert decode(DepthImage, delivered(ROS2, encode(value, family()))).header.stamp_ns == (
            stamp_ns
        )
