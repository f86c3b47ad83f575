"""cv_bridge and sensor_msgs_py, which every ROS user has, as independent oracles."""

import array

import numpy as np
import pytest

cv_bridge = pytest.importorskip('cv_bridge')
pytest.importorskip('sensor_msgs_py')

from geometry_msgs.msg import PoseArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from sensor_msgs_py import point_cloud2
from visualization_msgs.msg import MarkerArray

from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    HandMarkers,
    HandPoses,
    Hands,
    Header,
    PointCloud,
)
from depth_refiner_ros.hosts.ros_node import FAMILY
from depth_refiner_ros.messages import decode, encode

HEADER = Header(1_500_000_001, 'camera')


def image(encoding, pixels, *, padding=0, big_endian=False):
    """Build an Image as a driver would, rows padded, in either byte order."""
    if big_endian:
        pixels = pixels.astype(pixels.dtype.newbyteorder('>'))
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step, message.is_bigendian = rows.shape[1], int(big_endian)
    message.data = array.array('B', rows.tobytes())
    return message


@pytest.mark.parametrize('padding', [0, 12])  # cv_bridge reads whole pixels of padding only
@pytest.mark.parametrize(
    ('encoding', 'channels'),
    [
        ('rgb8', 3),
        ('bgr8', 3),
        ('rgba8', 4),
        ('bgra8', 4),
        ('mono8', 1),
        ('yuv422', 2),
        ('yuv422_yuy2', 2),
    ],
)
def test_color_equals_cv_bridge(encoding, channels, padding):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, channels), np.uint8)
    message = image(encoding, pixels, padding=padding)
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')
    np.testing.assert_array_equal(decode(ColorImage, message).rgb, expected)


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('padding', [0, 4])
@pytest.mark.parametrize(('encoding', 'scale'), [('16UC1', 1e-3), ('mono16', 1e-3), ('32FC1', 1)])
def test_depth_equals_cv_bridge(encoding, scale, padding, big_endian):
    rng = np.random.default_rng(1)
    if encoding == '32FC1':
        pixels = rng.uniform(0.3, 8, (5, 7)).astype(np.float32)
        pixels[2, 3] = np.nan
    else:
        pixels = rng.integers(1, 65536, (5, 7)).astype(np.uint16)
        pixels[2, 3] = 0
    message = image(encoding, pixels, padding=padding, big_endian=big_endian)
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(message).astype(np.float64) * scale
    expected[2, 3] = np.nan
    np.testing.assert_allclose(decode(DepthImage, message).depth_m, expected, rtol=2e-7)


def test_depth_reads_back_through_cv_bridge():
    depth_m = np.array([[1.234, np.nan], [0.5, 65.0]], np.float32)
    bridge = cv_bridge.CvBridge()
    millimetres = encode(DepthImage(HEADER, depth_m, '16UC1'), FAMILY)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(millimetres), [[1234, 0], [500, 65000]])
    metres = encode(DepthImage(HEADER, depth_m, '32FC1'), FAMILY)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(metres), depth_m)


@pytest.mark.parametrize('colored', [False, True])
def test_cloud_reads_back_through_sensor_msgs_py(colored):
    points_m = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    points_m[0, 1] = np.nan
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) if colored else None
    message = encode(PointCloud(HEADER, points_m, rgb), FAMILY)
    assert (message.height, message.width) == (2, 4)
    read = point_cloud2.read_points(message)
    np.testing.assert_array_equal(
        np.stack([read['x'], read['y'], read['z']], -1).reshape(2, 4, 3), points_m
    )
    if colored:
        packed = np.ascontiguousarray(read['rgb']).view(np.uint32).reshape(2, 4)
        np.testing.assert_array_equal(packed >> 16 & 255, rgb[..., 0])
        np.testing.assert_array_equal(packed >> 8 & 255, rgb[..., 1])
        np.testing.assert_array_equal(packed & 255, rgb[..., 2])
    assert message.header.stamp.sec == 1
    assert message.header.stamp.nanosec == 500_000_001


def test_hands_read_back_through_sensor_msgs_py_and_serialize():
    points_m = np.random.default_rng(2).uniform(0, 1, (2, 21, 3)).astype(np.float32)
    hands = Hands(
        HEADER,
        points_m,
        100 * points_m[..., :2],
        np.full((2, 21), 0.5, np.float32),
        np.array([0.9, 0.1], np.float32),
        np.array([3, 8], np.int32),
    )
    read = point_cloud2.read_points(encode(hands, FAMILY)).reshape(2, 21)
    np.testing.assert_array_equal(read['z'], points_m[..., 2])
    np.testing.assert_array_equal(read['joint'][1], np.arange(21))
    assert read['hand'][:, 0].tolist() == [3, 8]
    # rclpy checks every field of these when they are turned into octets.
    markers = deserialize_message(
        serialize_message(encode(HandMarkers(hands), FAMILY)), MarkerArray
    )
    assert len(markers.markers) == 5
    poses = deserialize_message(serialize_message(encode(HandPoses(hands), FAMILY)), PoseArray)
    assert len(poses.poses) == 2
    assert encode(Hands.none(HEADER), FAMILY).height == 0
