from __future__ import annotations

import array
from dataclasses import replace
import re
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from depth_refiner_ros import rvl
from depth_refiner_ros.data import (
    Calibration,
    ColorImage,
    DepthImage,
    HandMarkers,
    HandPoses,
    Hands,
    Header,
    PinholeCamera,
    PointCloud,
    ProvenanceImage,
    RigidTransform,
    StddevImage,
)
from depth_refiner_ros.geometry import rotation_from_quaternion
from depth_refiner_ros.messages import (
    _COLOR_CHANNELS,
    MESSAGE_TYPE,
    MessageFamily,
    decode,
    encode,
    encode_compressed,
    metres_from_counts,
    transforms,
)

typesys = pytest.importorskip('rosbags.typesys')

STORES = {
    'ROS 1': typesys.get_typestore(typesys.Stores.ROS1_NOETIC),
    'ROS 2': typesys.get_typestore(typesys.Stores.ROS2_JAZZY),
}
ROS2 = STORES['ROS 2']
HEADER = Header(1_700_000_000_123_456_789, 'camera_optical_frame')


def family(octets=lambda pixels: pixels.reshape(-1).view(np.uint8)):
    """The ROS 2 classes of rosbags, filled as rosbags fills them."""

    def make(message_type, /, **values):
        return ROS2.types[message_type](**values)

    return MessageFamily(
        make=make,
        octets=octets,
        floats=lambda numbers: np.array(list(numbers), np.float64),
    )


@pytest.fixture(params=STORES.values(), ids=STORES.keys())
def store(request):
    return request.param


def header_message(store, value=HEADER):
    time = store.types['builtin_interfaces/msg/Time'](*divmod(value.stamp_ns, 1_000_000_000))
    sequence = {'seq': 3} if store is STORES['ROS 1'] else {}
    make = store.types['std_msgs/msg/Header']
    return make(stamp=time, frame_id=value.frame_id, **sequence)


def delivered(store, msg):
    """Send a message through its wire format, as a bag would."""
    if store is STORES['ROS 1']:
        return store.deserialize_ros1(store.serialize_ros1(msg, msg.__msgtype__), msg.__msgtype__)
    return store.deserialize_cdr(store.serialize_cdr(msg, msg.__msgtype__), msg.__msgtype__)


def image(store, rows, encoding, *, width=None, padding=0, last_padding=None, big=False):
    """An Image from an array of rows, (H, ...), each followed by bytes of padding."""
    rows = np.asarray(rows)
    rows = rows.astype(rows.dtype.newbyteorder('>' if big else '<'))
    octets = [row.tobytes() for row in rows]
    step = len(octets[0]) + padding
    data = b''.join(row + b'\xee' * padding for row in octets)
    if last_padding is not None:
        data = data[: len(data) - padding + last_padding]
    return store.types['sensor_msgs/msg/Image'](
        header=header_message(store),
        height=len(rows),
        width=rows.shape[1] if width is None else width,
        encoding=encoding,
        is_bigendian=int(big),
        step=step,
        data=np.frombuffer(data, np.uint8),
    )


def compressed(store, text, octets):
    data = np.frombuffer(bytes(octets), np.uint8)
    make = store.types['sensor_msgs/msg/CompressedImage']
    return make(header=header_message(store), format=text, data=data)


def png(pixels, suffix='.png'):
    return cv2.imencode(suffix, pixels)[1].tobytes()


def refused(value_type, msg, text):
    """Check that a message is refused with one sentence that names its topic."""
    with pytest.raises(ValueError, match=f'^{re.escape("/camera: " + text)}$') as error:
        decode(value_type, msg, '/camera')
    assert error.value.__cause__ is None
    assert '\n' not in str(error.value)


# ---------------------------------------------------------------------------------- raw depth

MM = np.array([[0, 1, 1234], [65535, 256, 500]], np.uint16)
METRES = np.array([[np.nan, 0.001, 1.234], [65.535, 0.256, 0.5]], np.float32)


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


def test_every_count_in_every_unit_is_the_nearest_float():
    counts = np.arange(65536, dtype=np.uint16)
    for per_metre in (100, 1000, 4000, 5000, 8000, 10000):
        exact_m = (counts / np.float64(per_metre)).astype(np.float32)
        exact_m[0] = np.nan
        np.testing.assert_array_equal(metres_from_counts(counts, 1 / per_metre), exact_m)


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


# -------------------------------------------------------------------------------- raw colour

RGB = np.array([[[255, 0, 10], [1, 200, 30]], [[40, 50, 60], [7, 8, 9]]], np.uint8)
GREY = np.array([[0, 255], [128, 7]], np.uint8)
ALPHA = np.full((2, 2, 1), 99, np.uint8)
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


# ------------------------------------------------------- standard deviation and provenance


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


# --------------------------------------------------------------------------- compressed colour


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


# ---------------------------------------------------------------------------- compressed depth


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


# ---------------------------------------------------------------------------------- CameraInfo

D = (0.1, -0.2, 0.001, -0.002, 0.05)
K = (500.0, 0.0, 321.0, 0.0, 501.0, 241.0, 0.0, 0.0, 1.0)
R = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
P = (480.0, 0.0, 320.0, -24.0, 0.0, 481.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def camera_info(store, *, d=D, k=K, r=R, p=P, binning=(0, 0), roi=(0, 0, 0, 0, False), size=None):
    width, height = size or (640, 480)
    names = 'DKRP' if store is STORES['ROS 1'] else 'dkrp'
    matrices = dict(zip(names, (np.array(m, np.float64) for m in (d, k, r, p)), strict=True))
    return store.types['sensor_msgs/msg/CameraInfo'](
        header=header_message(store),
        height=height,
        width=width,
        distortion_model='plumb_bob',
        binning_x=binning[0],
        binning_y=binning[1],
        roi=store.types['sensor_msgs/msg/RegionOfInterest'](*roi),
        **matrices,
    )


def intrinsics(camera):
    return camera.fx, camera.fy, camera.cx, camera.cy


def test_the_projection_matrix_of_the_rectified_image_counts(store):
    camera = decode(PinholeCamera, delivered(store, camera_info(store)))
    assert (camera.width, camera.height) == (640, 480)
    assert intrinsics(camera) == (480.0, 481.0, 320.0, 240.0)
    assert camera.header == HEADER
    assert camera.calibration == Calibration('plumb_bob', D, K, R, P, 640, 480)


def test_a_principal_point_outside_the_image_is_refused(store):
    # Made for 640x480, said of 160x120: a quarter is fx 131.25, cx (319.5 + 0.5) / 4 - 0.5.
    k = (525.0, 0.0, 319.5, 0.0, 525.0, 239.5, 0.0, 0.0, 1.0)
    p = (0.0,) * 12
    refused(
        PinholeCamera,
        camera_info(store, k=k, p=p, size=(160, 120)),
        'the principal point, cx 319.5 cy 239.5, is outside the 160x120 image: the intrinsics are '
        'those of 640x480 pixels: publish those of the stream; scaled, they are fx 131.2 fy 131.2 '
        'cx 79.5 cy 59.5',
    )
    # A window of a whole image may lie beside its principal point.
    roi = (400, 300, 120, 160, True)
    camera = decode(PinholeCamera, camera_info(store, k=k, p=p, roi=roi))
    assert (camera.cx, camera.cy) == (319.5 - 400, 239.5 - 300)


def test_where_p_is_zero_k_counts(store):
    camera = decode(PinholeCamera, delivered(store, camera_info(store, p=(0.0,) * 12)))
    assert intrinsics(camera) == (500.0, 501.0, 321.0, 241.0)


def test_binning(store):
    camera = decode(PinholeCamera, delivered(store, camera_info(store, binning=(2, 4))))
    assert (camera.width, camera.height) == (320, 120)
    assert intrinsics(camera) == (240.0, 481.0 / 4, 160.0, 60.0)
    for none in ((1, 1), (0, 1)):
        camera = decode(PinholeCamera, camera_info(store, binning=none))
        assert intrinsics(camera) == (480.0, 481.0, 320.0, 240.0)


def test_region_of_interest(store):
    # RegionOfInterest is x_offset, y_offset, height, width
    info = camera_info(store, roi=(100, 40, 200, 300, True))
    camera = decode(PinholeCamera, delivered(store, info))
    assert (camera.width, camera.height) == (300, 200)
    assert intrinsics(camera) == (480.0, 481.0, 220.0, 200.0)


def test_binning_of_a_region_of_interest(store):
    # both are given in full-resolution pixels: first cut, then bin
    info = camera_info(store, roi=(100, 40, 200, 300, True), binning=(2, 2))
    camera = decode(PinholeCamera, delivered(store, info))
    assert (camera.width, camera.height) == (150, 100)
    assert intrinsics(camera) == (240.0, 240.5, 110.0, 100.0)


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        (
            {'k': (0.0,) * 9, 'p': (0.0,) * 12},
            'camera_info has no focal length (K and P are zero): calibrate the camera',
        ),
        ({'size': (0, 480)}, 'camera size must be positive, got 0x480'),
        (
            {'p': (float('nan'), *P[1:])},
            'focal length must be positive, got fx=nan fy=481; is the camera calibrated?',
        ),
        (
            {'p': (-480.0, *P[1:])},
            'focal length must be positive, got fx=-480 fy=481; is the camera calibrated?',
        ),
        (
            {'p': (480.0, 0.0, float('inf'), *P[3:])},
            'intrinsics must be finite, got fx=480 fy=481 cx=inf cy=240; '
            'is the camera calibrated?',
        ),
    ],
)
def test_a_camera_info_without_a_calibration_is_refused(store, changes, text):
    refused(PinholeCamera, camera_info(store, **changes), text)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'d': ()},
        {'d': (0.1,) * 8, 'p': (0.0,) * 12},
        {'binning': (2, 2), 'roi': (100, 40, 200, 300, True)},
    ],
)
def test_a_camera_info_is_passed_on_as_it_came(store, changes):
    came = camera_info(store, **changes)
    goes = delivered(ROS2, encode(decode(PinholeCamera, delivered(store, came)), family()))
    expected = camera_info(ROS2, **changes)
    for name in 'dkrp':
        np.testing.assert_array_equal(getattr(goes, name), getattr(expected, name))
    for name in ('header', 'width', 'height', 'binning_x', 'binning_y', 'roi'):
        assert getattr(goes, name) == getattr(expected, name)
    assert goes.distortion_model == 'plumb_bob'


def test_a_camera_without_a_calibration_becomes_an_undistorted_one():
    camera = PinholeCamera(HEADER, 320, 240, 250.0, 260.0, 159.5, 119.5)
    msg = delivered(ROS2, encode(camera, family()))
    assert msg.k.tolist() == [250.0, 0.0, 159.5, 0.0, 260.0, 119.5, 0.0, 0.0, 1.0]
    assert msg.p.tolist() == [250.0, 0.0, 159.5, 0, 0, 260.0, 119.5, 0, 0, 0, 1.0, 0]
    assert msg.r.tolist() == np.eye(3).ravel().tolist()
    assert msg.d.tolist() == [0.0] * 5
    assert (msg.width, msg.height, msg.distortion_model) == (320, 240, 'plumb_bob')
    again = decode(PinholeCamera, msg)
    assert replace(again, calibration=None) == camera


# --------------------------------------------------------------------------------- PointCloud2

POINTS_M = np.array([[[1.0, -2.0, 3.0], [np.nan] * 3], [[0.5, 0.25, 0.125], [4, 5, 6]]])
POINTS_M = POINTS_M.astype(np.float32)


def test_a_cloud_as_rviz_reads_it():
    msg = delivered(ROS2, encode(PointCloud(HEADER, POINTS_M), family()))
    assert [(f.name, f.offset, f.datatype, f.count) for f in msg.fields] == [
        ('x', 0, 7, 1),
        ('y', 4, 7, 1),
        ('z', 8, 7, 1),
    ]
    assert (msg.width, msg.height, msg.point_step, msg.row_step) == (2, 2, 12, 24)
    assert not msg.is_bigendian
    assert not msg.is_dense
    assert msg.data.size == 48
    assert msg.data[:12].tobytes() == struct.pack('<3f', 1.0, -2.0, 3.0)
    assert msg.data[24:36].tobytes() == struct.pack('<3f', 0.5, 0.25, 0.125)
    again = decode(PointCloud, msg)
    np.testing.assert_array_equal(again.points_m, POINTS_M)
    assert again.rgb is None
    assert again.header == HEADER


def test_a_colored_cloud_as_rviz_reads_it():
    msg = delivered(ROS2, encode(PointCloud(HEADER, POINTS_M, RGB), family()))
    assert [(f.name, f.offset, f.datatype, f.count) for f in msg.fields] == [
        ('x', 0, 7, 1),
        ('y', 4, 7, 1),
        ('z', 8, 7, 1),
        ('rgb', 12, 7, 1),
    ]
    assert (msg.point_step, msg.row_step) == (16, 32)
    # 0x00RRGGBB, little endian: blue, green, red, 0
    assert msg.data[:16].tobytes() == struct.pack('<3f', 1.0, -2.0, 3.0) + bytes([10, 0, 255, 0])
    assert msg.data[28:32].tobytes() == bytes([30, 200, 1, 0])
    again = decode(PointCloud, msg)
    np.testing.assert_array_equal(again.points_m, POINTS_M)
    np.testing.assert_array_equal(again.rgb, RGB)


def cloud(store, columns, *, width, height=1, point_step, row_padding=0, big=False):
    """A PointCloud2 of columns (name, offset, datatype, values)."""
    order = '>' if big else '<'
    points = np.zeros((height, width, point_step), np.uint8)
    for _, offset, datatype, values in columns:
        packed = np.asarray(values, order + {6: 'u4', 7: 'f4', 8: 'f8'}[datatype])
        size = packed.itemsize
        octets = np.frombuffer(packed.tobytes(), np.uint8).reshape(height, width, size)
        points[..., offset : offset + size] = octets
    rows = points.reshape(height, width * point_step)
    rows = np.concatenate([rows, np.full((height, row_padding), 0xEE, np.uint8)], 1)
    make_field = store.types['sensor_msgs/msg/PointField']
    return store.types['sensor_msgs/msg/PointCloud2'](
        header=header_message(store),
        height=height,
        width=width,
        fields=[make_field(name=n, offset=o, datatype=t, count=1) for n, o, t, _ in columns],
        is_bigendian=big,
        point_step=point_step,
        row_step=rows.shape[1],
        data=rows.reshape(-1),
        is_dense=True,
    )


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('datatype', [6, 7])
def test_a_cloud_of_another_layout(store, big, datatype):
    # PCL aligns to 16 bytes, orders freely, and stores colour as uint32 or float32
    red = np.array([0x00FF8001] * 6, np.uint32)
    columns = [
        ('z', 4, 7, [3, 4, 5, 6, 7, 8]),
        ('x', 8, 7, [1, 2, 3, 4, 5, 6]),
        ('y', 16, 7, [9, 8, 7, 6, 5, 4]),
        ('rgb', 24, datatype, red.view(np.float32) if datatype == 7 else red),
        ('t', 32, 8, [0.0] * 6),
    ]
    msg = cloud(store, columns, width=3, height=2, point_step=48, row_padding=5, big=big)
    value = decode(PointCloud, delivered(store, msg))
    np.testing.assert_array_equal(value.points_m[1, 2], [6.0, 4.0, 8.0])
    np.testing.assert_array_equal(value.points_m[0, 0], [1.0, 9.0, 3.0])
    assert (value.rgb == (255, 128, 1)).all()


def xyz(*names, datatype=7):
    size = 8 if datatype == 8 else 4
    return [(name, i * size, datatype, [1.0, 2.0]) for i, name in enumerate(names)]


def test_an_empty_cloud(store):
    msg = cloud(store, [(n, 4 * i, 7, []) for i, n in enumerate('xyz')], width=0, point_step=12)
    assert decode(PointCloud, delivered(store, msg)).points_m.shape == (1, 0, 3)


@pytest.mark.parametrize(
    ('columns', 'changes', 'text'),
    [
        (xyz('x', 'i'), {}, 'point cloud has no float32 field y, z'),
        (xyz('x', 'y', 'z', datatype=8), {}, 'point cloud has no float32 field x, y, z'),
        (xyz('x', 'y', 'z', datatype=6), {}, 'point cloud has no float32 field x, y, z'),
        (
            xyz('x', 'y', 'z'),
            {'data': np.zeros(47, np.uint8)},
            'point cloud of 2x1 does not fit its 47 bytes',
        ),
        (
            xyz('x', 'y', 'z'),
            {'point_step': 11},
            'point cloud of 2x1 does not fit its 48 bytes',
        ),
        (
            xyz('x', 'y', 'z'),
            {'width': 3},
            'point cloud of 3x1 does not fit its 48 bytes',
        ),
        (
            xyz('x', 'y', 'z'),
            {'height': 4_000_000_000, 'row_step': 4_000_000_000},
            'point cloud of 2x4000000000 does not fit its 48 bytes',
        ),
    ],
)
def test_a_malformed_cloud_is_refused(store, columns, changes, text):
    msg = cloud(store, columns, width=2, point_step=24)
    refused(PointCloud, replace(msg, **changes), text)


# ------------------------------------------------------------------------------------------ tf

HALF = 0.5**0.5


def placed(store, rotation, translation_m=(1.0, 2.0, 3.0), child='camera'):
    types = store.types
    return types['geometry_msgs/msg/TransformStamped'](
        header=header_message(store, Header(5_000_000_007, 'base')),
        child_frame_id=child,
        transform=types['geometry_msgs/msg/Transform'](
            translation=types['geometry_msgs/msg/Vector3'](*translation_m),
            rotation=types['geometry_msgs/msg/Quaternion'](*rotation),
        ),
    )


def tf_message(*items):
    return SimpleNamespace(transforms=list(items))  # rosbags' ROS 1 store has no TFMessage


@pytest.mark.parametrize(
    ('quaternion', 'rotation'),
    [
        ((0, 0, 0, 1), np.eye(3)),
        ((0, 0, 0, -1), np.eye(3)),
        ((HALF, 0, 0, HALF), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),  # y to z
        ((0, HALF, 0, HALF), [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),  # z to x
        ((0, 0, HALF, HALF), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),  # x to y
        # REP 103's optical frame in its link: z forward along x, x right along -y, y down
        ((-0.5, 0.5, -0.5, 0.5), [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    ],
)
def test_rotations_by_hand(store, quaternion, rotation):
    (found,) = transforms(tf_message(delivered(store, placed(store, quaternion))))
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-15)
    np.testing.assert_array_equal(found.translation_m, [1.0, 2.0, 3.0])
    assert found.header == Header(5_000_000_007, 'base')
    assert found.child_frame_id == 'camera'
    assert isinstance(found, RigidTransform)


def test_a_slightly_long_quaternion_still_makes_a_rotation(store):
    (found,) = transforms(tf_message(placed(store, (0.0, 0.0, 0.6 * 1.004, 0.8 * 1.004))))
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-15)
    # cos = 0.8^2 - 0.6^2, sin = 2 * 0.6 * 0.8
    np.testing.assert_allclose(found.rotation[:2, :2], [[0.28, -0.96], [0.96, 0.28]])


def test_what_is_no_rotation_or_place_is_left_out(store):
    nan, inf = float('nan'), float('inf')
    bad = [
        placed(store, (0, 0, 0, 0)),
        placed(store, (0, 0, 0, 2)),
        placed(store, (nan, 0, 0, 1)),
        placed(store, (nan, nan, nan, nan)),
        placed(store, (inf, 0, 0, 1)),
        placed(store, (0, 0, 0, 1), (nan, 0, 0)),
        placed(store, (0, 0, 0, 1), (0, inf, 0)),
    ]
    good = placed(store, (0, 0, 0, 1), child='good')
    assert [t.child_frame_id for t in transforms(tf_message(*bad, good))] == ['good']
    assert transforms(tf_message()) == []


def test_a_tf_message_from_a_bag():
    msg = ROS2.types['tf2_msgs/msg/TFMessage']([placed(ROS2, (0, 0, 0, 1))])
    assert len(transforms(delivered(ROS2, msg))) == 1


# --------------------------------------------------------------------------- building messages


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


# ------------------------------------------------------------------------------------- hands


def _two_hands() -> Hands:
    points_m = np.arange(2 * 21 * 3, dtype=np.float32).reshape(2, 21, 3) / 100
    return Hands(
        HEADER,
        points_m,
        points_m[..., :2] * 10,
        np.full((2, 21), 0.75, np.float32),
        np.array([0.9, 0.2], np.float32),
        np.array([4, 7], np.int32),
    )


def test_keypoints_are_a_cloud_of_named_fields() -> None:
    hands = _two_hands()
    msg = encode(hands, family())
    assert (msg.height, msg.width, msg.point_step, msg.row_step) == (2, 21, 36, 756)
    names = [field.name for field in msg.fields]
    assert names == ['x', 'y', 'z', 'u', 'v', 'confidence', 'right', 'joint', 'hand']
    assert [field.offset for field in msg.fields] == list(range(0, 36, 4))
    data = np.frombuffer(bytes(msg.data), np.uint8).reshape(2, 21, 36)
    floats = np.ascontiguousarray(data[..., :28]).view(np.float32)
    np.testing.assert_array_equal(floats[..., :3], hands.points_m)
    np.testing.assert_allclose(floats[1, 0, 3:], [*hands.pixels_px[1, 0], 0.75, 0.2])
    numbers = np.ascontiguousarray(data[..., 28:]).view(np.int32)
    assert numbers[1, 5].tolist() == [5, 7]


def test_no_hands_are_an_empty_cloud_and_a_wiped_screen() -> None:
    none = Hands.none(HEADER)
    msg = encode(none, family())
    assert (msg.height, len(msg.data)) == (0, 0)
    (marker,) = encode(HandMarkers(none), family()).markers
    assert marker.action == 3
    assert encode(HandPoses(none), family()).poses == []


def test_skeletons_are_lines_and_balls() -> None:
    hands = _two_hands()
    _, bones, joints, *others = encode(HandMarkers(hands), family()).markers
    assert len(others) == 2
    assert (bones.type, bones.id, len(bones.points), len(bones.colors)) == (5, 4, 40, 40)
    assert (joints.type, joints.id, len(joints.points)) == (7, 4, 21)
    # The last bone ends at the tip of the little finger.
    assert bones.points[-1].x == pytest.approx(float(hands.points_m[0, 20, 0]))
    assert joints.colors[0].a == pytest.approx(0.15 + 0.85 * 0.75)


def test_the_wrist_of_a_hand_points_along_it() -> None:
    points_m = np.zeros((1, 21, 3), np.float32)
    # A right hand held up, palm to the camera: fingers up the image, thumb to its right.
    points_m[0, :, 2] = 0.5
    points_m[0, [5, 9, 17], 0] = 0.03, 0.0, -0.03
    points_m[0, [5, 9, 17], 1] = -0.1
    hand = Hands(
        HEADER, points_m, points_m[..., :2].copy(), np.ones((1, 21), np.float32),
        np.array([1.0], np.float32), np.array([0], np.int32),
    )  # fmt: skip
    (pose,) = encode(HandPoses(hand), family()).poses
    q = pose.orientation
    rotation = rotation_from_quaternion(q.x, q.y, q.z, q.w)
    # x to the fingers, which is up; z out of the palm, which is towards the camera.
    np.testing.assert_allclose(rotation[:, 0], [0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(rotation[:, 2], [0, 0, -1], atol=1e-6)
    assert pose.position.z == 0.5
