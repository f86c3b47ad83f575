"""Transforms between frames, as tf publishes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..data import RigidTransform
from ..geometry import quaternion_from_rotation, rotation_from_quaternion
from .family import MessageFamily, header, header_message


def transforms(msg: Any) -> list[RigidTransform]:
    """Read a tf2_msgs/TFMessage, leaving out what has no unit quaternion, to tf2's tolerance."""
    found = []
    for item in msg.transforms:
        q, t = item.transform.rotation, item.transform.translation
        x, y, z, w = float(q.x), float(q.y), float(q.z), float(q.w)
        translation_m = np.array([t.x, t.y, t.z], np.float64)
        is_unit = abs(x * x + y * y + z * z + w * w - 1) <= 1e-2
        if not is_unit or not np.isfinite(translation_m).all():
            continue
        rotation = rotation_from_quaternion(x, y, z, w)
        found.append(RigidTransform(header(item), item.child_frame_id, rotation, translation_m))
    return found


def transforms_message(items: Iterable[RigidTransform], family: MessageFamily) -> Any:
    """Build a tf2_msgs/TFMessage."""
    messages = []
    for item in items:
        x, y, z, w = quaternion_from_rotation(item.rotation)
        tx, ty, tz = (float(t) for t in item.translation_m)
        rotation = family.make('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w)
        translation = family.make('geometry_msgs/msg/Vector3', x=tx, y=ty, z=tz)
        transform = family.make(
            'geometry_msgs/msg/Transform', translation=translation, rotation=rotation
        )
        messages.append(
            family.make(
                'geometry_msgs/msg/TransformStamped',
                header=header_message(item.header, family),
                child_frame_id=item.child_frame_id,
                transform=transform,
            )
        )
    return family.make('tf2_msgs/msg/TFMessage', transforms=messages)
