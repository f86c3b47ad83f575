from __future__ import annotations

import numpy as np

from depth_refiner_ros.data import CameraOdometry, Header, RigidTransform
from depth_refiner_ros.messages import encode

from .builders import family


def test_an_odometry_message_has_pose_twist_and_both_covariances():
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    pose = RigidTransform(
        Header(1_500_000_000, 'depth_odom'), 'eye', quarter, np.array([1.0, 2, 3])
    )
    covariance = np.arange(36.0).reshape(6, 6)
    value = CameraOdometry(pose, covariance, np.arange(6.0), 2 * covariance)
    got = encode(value, family())
    assert got.__msgtype__ == 'nav_msgs/msg/Odometry'
    assert (got.header.stamp.sec, got.header.stamp.nanosec) == (1, 500_000_000)
    assert (got.header.frame_id, got.child_frame_id) == ('depth_odom', 'eye')
    p, q = got.pose.pose.position, got.pose.pose.orientation
    assert (p.x, p.y, p.z) == (1, 2, 3)
    np.testing.assert_allclose((q.x, q.y, q.z, q.w), (0, 0, 0.5**0.5, 0.5**0.5), atol=1e-12)
    twist = got.twist.twist
    assert (twist.linear.x, twist.linear.y, twist.linear.z) == (0, 1, 2)
    assert (twist.angular.x, twist.angular.y, twist.angular.z) == (3, 4, 5)
    np.testing.assert_array_equal(got.pose.covariance, np.arange(36.0))
    np.testing.assert_array_equal(got.twist.covariance, 2 * np.arange(36.0))
