"""Publishes a RealSense as a ROS 2 node, where its driver is not installed."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from ..data import ColorImage, DepthImage, PinholeCamera
from ..messages import MESSAGE_TYPE, encode
from ..parameters import declared_parameters, updated_parameters
from ..stage import Topic
from .live import Frame, reopened
from .realsense import RealSense, RealSenseParameters, sdk
from .ros_node import FAMILY, descriptor, message_class, spin
from .stopping import Stopping

OUTPUTS = {
    'depth': Topic(DepthImage, 'depth/image_rect'),
    'camera': Topic(PinholeCamera, 'depth/camera_info'),
    'color': Topic(ColorImage, 'color/image_rect'),
    'color_camera': Topic(PinholeCamera, 'color/camera_info'),
}
"""What the stages subscribe to, in the same namespace."""


class RealSenseNode(Node):  # type: ignore[misc]
    """Publishes frames of a camera, or of a recording until it ends; a lost camera is reopened.

    Its parameters are `RealSenseParameters`, read once.

    Raises:
        ValueError: If a parameter is not allowed, or pyrealsense2 is missing.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        sdk()
        known = declared_parameters(RealSenseParameters)
        given = {
            key: item.value for key, item in self._parameter_overrides.items() if key in known
        }
        self._settings = updated_parameters(RealSenseParameters(), given)
        for key, declared in known.items():
            value = getattr(self._settings, key)
            self.declare_parameter(key, value, descriptor(declared), ignore_override=True)
        self._outputs = {
            port: self.create_publisher(
                message_class(MESSAGE_TYPE[topic.type]), topic.name, qos_profile_sensor_data
            )
            for port, topic in OUTPUTS.items()
        }
        self._stopped = threading.Event()
        self._camera = threading.Thread(target=self._work, name='camera', daemon=True)
        self._camera.start()

    def destroy_node(self) -> None:
        """Stop the camera before what it publishes with goes."""
        self._stopped.set()
        self._camera.join()
        super().destroy_node()

    def _work(self) -> None:
        for frame in reopened(lambda: RealSense(self._settings), self._stopped, self._report):
            self._publish(frame)
            if self._stopped.is_set():
                return
        self.get_logger().info('no more frames')

    def _report(self, trouble: str) -> None:
        if trouble:
            self.get_logger().error(f'{trouble}; trying again')

    def _publish(self, frame: Frame) -> None:
        for port, publisher in self._outputs.items():
            if port in frame and publisher.get_subscription_count():
                publisher.publish(encode(frame[port], FAMILY))


def run(name: str, stopping: Stopping, args: list[str] | None = None) -> int:
    """Run the node until a signal stops it; return the exit code."""
    return spin(name, lambda: RealSenseNode(name), stopping, args)
