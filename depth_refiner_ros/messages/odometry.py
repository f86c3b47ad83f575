"""Odometry: where a camera has gone, with covariance."""

from __future__ import annotations

from typing import Any

from ..data import CameraOdometry
from ..geometry import quaternion_from_rotation
from .family import MESSAGE_TYPE, MessageFamily, header_message


def odometry_message(value: CameraOdometry, family: MessageFamily) -> Any:
    """Build a nav_msgs/Odometry; the twist is in the camera's own frame."""
    pose, velocity = value.pose, [float(number) for number in value.velocity]
    names = ('x', 'y', 'z', 'w')

    def make(kind: str, numbers: Any) -> Any:
        named = dict(zip(names, map(float, numbers), strict=False))
        return family.make(f'geometry_msgs/msg/{kind}', **named)

    return family.make(
        MESSAGE_TYPE[CameraOdometry],
        header=header_message(value.header, family),
        child_frame_id=pose.child_frame_id,
        pose=family.make(
            'geometry_msgs/msg/PoseWithCovariance',
            pose=family.make(
                'geometry_msgs/msg/Pose',
                position=make('Point', pose.translation_m),
                orientation=make('Quaternion', quaternion_from_rotation(pose.rotation)),
            ),
            covariance=family.floats(value.covariance.ravel()),
        ),
        twist=family.make(
            'geometry_msgs/msg/TwistWithCovariance',
            twist=family.make(
                'geometry_msgs/msg/Twist',
                linear=make('Vector3', velocity[:3]),
                angular=make('Vector3', velocity[3:]),
            ),
            covariance=family.floats(value.velocity_covariance.ravel()),
        ),
    )
