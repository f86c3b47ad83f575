"""Conversions between messages and values, and nothing else knows encoding, step and endianness.

A message is read by its field names, so the classes of rclpy and those of rosbags (ROS 1 and
ROS 2) serve alike; only building one needs to know which family it belongs to. cv_bridge is not
used: it copies twice, and its binary breaks with NumPy 2 on the distributions in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..data import (
    CameraOdometry,
    ColorImage,
    DepthImage,
    HandMarkers,
    HandPoses,
    Hands,
    PinholeCamera,
    PointCloud,
    ProvenanceImage,
    StddevImage,
)
from .cameras import camera_message, read_camera
from .clouds import cloud_message, read_cloud
from .compressed import encode_compressed
from .family import COMPRESSED_IMAGE, IMAGE, MESSAGE_TYPE, MessageFamily, header, is_compressed
from .hands import hands_message, markers_message, poses_message
from .images import (
    color_message,
    depth_message,
    provenance_message,
    read_color,
    read_depth,
    read_provenance,
    read_stddev,
    stddev_message,
)
from .odometry import odometry_message
from .tf import transforms, transforms_message

__all__ = [
    'COMPRESSED_IMAGE',
    'IMAGE',
    'MESSAGE_TYPE',
    'MessageFamily',
    'decode',
    'encode',
    'encode_compressed',
    'header',
    'is_compressed',
    'transforms',
    'transforms_message',
]

T = TypeVar('T')

_DECODERS: dict[type, Callable[[Any], Any]] = {
    DepthImage: read_depth,
    StddevImage: read_stddev,
    ProvenanceImage: read_provenance,
    ColorImage: read_color,
    PinholeCamera: read_camera,
    PointCloud: read_cloud,
}
_ENCODERS: dict[type, Callable[[Any, MessageFamily], Any]] = {
    DepthImage: depth_message,
    StddevImage: stddev_message,
    ProvenanceImage: provenance_message,
    ColorImage: color_message,
    PinholeCamera: camera_message,
    PointCloud: cloud_message,
    Hands: hands_message,
    HandMarkers: markers_message,
    HandPoses: poses_message,
    CameraOdometry: odometry_message,
}


def decode(
    value_type: type[T], msg: Any, topic: str = 'message', *, depth_unit_m: float = 0.0
) -> T:
    """Turn a message of either family into a value.

    Args:
        value_type: A class of `data`.
        msg: An Image, CompressedImage, CameraInfo or PointCloud2.
        topic: Where it came from, for the text of errors.
        depth_unit_m: Metres of one count of a depth image; 0: what its encoding says by REP 118,
            millimetres for 16UC1 and mono16, metres for 32FC1. The value keeps its encoding: it
            is published in that encoding's own unit.

    Raises:
        ValueError: If the message cannot be that value: one sentence that names the topic, what
            came and what is accepted.
    """
    try:
        if value_type is DepthImage:
            value: Any = read_depth(msg, depth_unit_m)
        else:
            value = _DECODERS[value_type](msg)
    except ValueError as error:
        raise ValueError(f'{topic}: {error}') from None
    except AttributeError:
        raise ValueError(
            f'{topic}: a {type(msg).__name__} cannot be read as {value_type.__name__}; '
            f'expected {MESSAGE_TYPE.get(value_type, "another type")}'
        ) from None
    return value  # type: ignore[no-any-return]


def encode(value: Any, family: MessageFamily) -> Any:
    """Turn a value into a message of a family."""
    return _ENCODERS[type(value)](value, family)
