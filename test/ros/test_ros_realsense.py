"""The RealSense node, on a recording of the SDK's software device."""

from pathlib import Path
import time

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

pytest.importorskip('pyrealsense2', reason="pip install 'depth_refiner_ros[realsense]'")

from depth_refiner_ros.hosts.realsense_node import RealSenseNode

BAG = Path(__file__).parents[1] / 'hosts' / 'realsense.bag'


@pytest.fixture
def ros():
    rclpy.init(args=['--ros-args', '-r', '__ns:=/camera'])
    yield
    rclpy.try_shutdown()


def test_publishes_what_the_stages_subscribe_to(ros):
    got = {}
    peer = rclpy.create_node('peer')
    for message_type, topic in (
        (Image, 'depth/image_rect'),
        (CameraInfo, 'depth/camera_info'),
        (Image, 'color/image_rect'),
    ):
        got[topic] = []
        peer.create_subscription(message_type, topic, got[topic].append, qos_profile_sensor_data)
    node = RealSenseNode(
        'realsense_source', parameter_overrides=[Parameter('file', value=str(BAG))]
    )
    executor = SingleThreadedExecutor()
    executor.add_node(peer)
    end_s = time.monotonic() + 10
    while not all(got.values()) and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.1)
    node.destroy_node()
    peer.destroy_node()
    assert all(got.values())
    depth, info = got['depth/image_rect'][0], got['depth/camera_info'][0]
    assert (depth.encoding, depth.width, depth.height) == ('16UC1', 64, 48)
    assert info.k[0] == 60.0
    assert got['color/image_rect'][0].encoding == 'rgb8'


def test_a_parameter_that_is_not_allowed_is_refused(ros):
    with pytest.raises(ValueError, match='rate_hz must be between 0 and 300'):
        RealSenseNode('realsense_source', parameter_overrides=[Parameter('rate_hz', value=999)])
