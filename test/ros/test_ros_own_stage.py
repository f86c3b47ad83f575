"""The stage of docs/write_a_stage.md as a node, started as the page says."""

from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
from rcl_interfaces.srv import GetParameters
import rclpy
from sensor_msgs.msg import CameraInfo, Image

from depth_refiner_ros.data import DepthImage, Header, PinholeCamera
from depth_refiner_ros.hosts.ros_node import FAMILY
from depth_refiner_ros.messages import encode

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'mask_uncertain.py'
WIDTH, HEIGHT = 64, 48


def test_runs_as_a_node_and_masks():
    command = [sys.executable, EXAMPLE, 'node', '--ros-args', '-r', '__ns:=/camera']
    command += ['-p', 'stages:=refine_depth,mask_uncertain']
    command += ['-p', 'mask_uncertain.max_stddev_m:=0.01']
    process = subprocess.Popen(command)
    rclpy.init()
    try:
        peer = rclpy.create_node('peer', namespace='/camera')
        images = peer.create_publisher(Image, 'depth/image_rect', 1)
        infos = peer.create_publisher(CameraInfo, 'depth/camera_info', 1)
        received = []
        peer.create_subscription(Image, 'depth_masked/image_rect', received.append, 1)
        parameters = peer.create_client(GetParameters, 'depth_refiner/get_parameters')
        assert parameters.wait_for_service(60.0)
        names = GetParameters.Request(names=['mask_uncertain.max_stddev_m'])
        answer = parameters.call_async(names)
        rclpy.spin_until_future_complete(peer, answer, timeout_sec=20.0)
        assert answer.result().values[0].double_value == 0.01

        # A Kinect's noise is 2 mm at 1 m and 25 mm at 4 m.
        depth_m = np.full((HEIGHT, WIDTH), 1.0, np.float32)
        depth_m[:, WIDTH // 2 :] = 4.0
        end_s, stamp_ns = time.monotonic() + 60.0, 1_000_000_000
        while not received:
            assert time.monotonic() < end_s, 'no masked depth'
            stamp_ns += 33_000_000
            header = Header(stamp_ns, 'camera_depth_optical_frame')
            images.publish(encode(DepthImage(header, depth_m, '16UC1'), FAMILY))
            camera = PinholeCamera(header, WIDTH, HEIGHT, 60.0, 60.0, 31.5, 23.5)
            infos.publish(encode(camera, FAMILY))
            rclpy.spin_once(peer, timeout_sec=0.1)
        pixels = np.frombuffer(received[0].data, np.uint16).reshape(HEIGHT, WIDTH)
        np.testing.assert_allclose(pixels[8:-8, 8:24], 1000, atol=5)
        assert not pixels[8:-8, 40:-8].any()
        peer.destroy_node()
    finally:
        rclpy.try_shutdown()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    assert process.returncode == 0
