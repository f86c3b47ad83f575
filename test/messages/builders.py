"""Messages of both versions of ROS, as recordings hold them."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from depth_refiner_ros.data import (
    Header,
)
from depth_refiner_ros.messages import (
    MessageFamily,
    decode,
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


MM = np.array([[0, 1, 1234], [65535, 256, 500]], np.uint16)
METRES = np.array([[np.nan, 0.001, 1.234], [65.535, 0.256, 0.5]], np.float32)
RGB = np.array([[[255, 0, 10], [1, 200, 30]], [[40, 50, 60], [7, 8, 9]]], np.uint8)
GREY = np.array([[0, 255], [128, 7]], np.uint8)
ALPHA = np.full((2, 2, 1), 99, np.uint8)
