"""What messages of every type share: their types, headers, and how a family builds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy.typing as npt

from ..data import (
    CameraOdometry,
    ColorImage,
    DepthImage,
    HandMarkers,
    HandPoses,
    Hands,
    Header,
    PinholeCamera,
    PointCloud,
    ProvenanceImage,
    StddevImage,
)

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'

MESSAGE_TYPE = {
    DepthImage: IMAGE,
    StddevImage: IMAGE,
    ProvenanceImage: IMAGE,
    ColorImage: IMAGE,
    PinholeCamera: 'sensor_msgs/msg/CameraInfo',
    PointCloud: 'sensor_msgs/msg/PointCloud2',
    Hands: 'sensor_msgs/msg/PointCloud2',
    HandMarkers: 'visualization_msgs/msg/MarkerArray',
    HandPoses: 'geometry_msgs/msg/PoseArray',
    CameraOdometry: 'nav_msgs/msg/Odometry',
}
"""The message type each value is published as."""


class MessageFamily(NamedTuple):
    """How messages of one family (rclpy's, rosbags') are built.

    Attributes:
        make: Build a message from its type's name, a positional-only argument since PointField
            has a field `name`, and its fields.
        octets: Turn a contiguous array into what the family wants as `uint8[] data`.
        floats: Turn numbers into what the family wants as `float64[]`.
    """

    make: Callable[..., Any]
    octets: Callable[[npt.NDArray[Any]], Any]
    floats: Callable[[Iterable[float]], Any]


def is_compressed(msg: Any) -> bool:
    """Return whether an image came as a CompressedImage."""
    return hasattr(msg, 'format')


def header(msg: Any) -> Header:
    """Read the header of a message."""
    stamp = msg.header.stamp
    return Header(stamp.sec * 1_000_000_000 + stamp.nanosec, msg.header.frame_id)


def header_message(value: Header, family: MessageFamily) -> Any:
    """Build a std_msgs/Header."""
    sec, nanosec = divmod(value.stamp_ns, 1_000_000_000)
    time = family.make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
    return family.make('std_msgs/msg/Header', stamp=time, frame_id=value.frame_id)


def point_field(name: str, offset: int, datatype: int, family: MessageFamily) -> Any:
    """Build a PointField: where in a point its field `name` lies, and of which type it is."""
    return family.make(
        'sensor_msgs/msg/PointField', name=name, offset=offset, datatype=datatype, count=1
    )
