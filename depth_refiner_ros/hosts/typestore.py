"""The types of ROS 2 messages, and how their messages are built and serialized without ROS."""

from __future__ import annotations

import numpy as np
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from ..messages import MessageFamily

STORE = get_typestore(Stores.ROS2_JAZZY)

FAMILY = MessageFamily(
    make=lambda name, /, **fields: STORE.types[name](**fields),
    octets=lambda array: np.ascontiguousarray(array).reshape(-1).view(np.uint8),
    floats=lambda values: np.array(tuple(values), np.float64),
)

TF_TYPE = 'tf2_msgs/msg/TFMessage'


def definition_of(store: Typestore, message_type: str) -> tuple[str, str]:
    """Return a ROS 2 message definition and its type hash."""
    text, _ = store.generate_msgdef(message_type, ros_version=2)
    return text, store.hash_rihs01(message_type)
