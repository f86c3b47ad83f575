from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from depth_refiner_ros.data import (
    Header,
    RigidTransform,
)
from depth_refiner_ros.messages import (
    transforms,
)

from .builders import (
    ROS2,
    delivered,
    header_message,
)

HALF = 0.5**0.5


def placed(store, rotation, translation_m=(1.0, 2.0, 3.0), child='camera'):
    types = store.types
    return types['geometry_msgs/msg/TransformStamped'](
        header=header_message(store, Header(5_000_000_007, 'base')),
        child_frame_id=child,
        transform=types['geometry_msgs/msg/Transform'](
            translation=types['geometry_msgs/msg/Vector3'](*translation_m),
            rotation=types['geometry_msgs/msg/Quaternion'](*rotation),
        ),
    )


def tf_message(*items):
    return SimpleNamespace(transforms=list(items))  # rosbags' ROS 1 store has no TFMessage


@pytest.mark.parametrize(
    ('quaternion', 'rotation'),
    [
        ((0, 0, 0, 1), np.eye(3)),
        ((0, 0, 0, -1), np.eye(3)),
        ((HALF, 0, 0, HALF), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),  # y to z
        ((0, HALF, 0, HALF), [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),  # z to x
        ((0, 0, HALF, HALF), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),  # x to y
        # REP 103's optical frame in its link: z forward along x, x right along -y, y down
        ((-0.5, 0.5, -0.5, 0.5), [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    ],
)
def test_rotations_by_hand(store, quaternion, rotation):
    (found,) = transforms(tf_message(delivered(store, placed(store, quaternion))))
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-15)
    np.testing.assert_array_equal(found.translation_m, [1.0, 2.0, 3.0])
    assert found.header == Header(5_000_000_007, 'base')
    assert found.child_frame_id == 'camera'
    assert isinstance(found, RigidTransform)


def test_a_slightly_long_quaternion_still_makes_a_rotation(store):
    (found,) = transforms(tf_message(placed(store, (0.0, 0.0, 0.6 * 1.004, 0.8 * 1.004))))
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-15)
    # cos = 0.8^2 - 0.6^2, sin = 2 * 0.6 * 0.8
    np.testing.assert_allclose(found.rotation[:2, :2], [[0.28, -0.96], [0.96, 0.28]])


def test_what_is_no_rotation_or_place_is_left_out(store):
    nan, inf = float('nan'), float('inf')
    bad = [
        placed(store, (0, 0, 0, 0)),
        placed(store, (0, 0, 0, 2)),
        placed(store, (nan, 0, 0, 1)),
        placed(store, (nan, nan, nan, nan)),
        placed(store, (inf, 0, 0, 1)),
        placed(store, (0, 0, 0, 1), (nan, 0, 0)),
        placed(store, (0, 0, 0, 1), (0, inf, 0)),
    ]
    good = placed(store, (0, 0, 0, 1), child='good')
    assert [t.child_frame_id for t in transforms(tf_message(*bad, good))] == ['good']
    assert transforms(tf_message()) == []


def test_a_tf_message_from_a_bag():
    msg = ROS2.types['tf2_msgs/msg/TFMessage']([placed(ROS2, (0, 0, 0, 1))])
    assert len(transforms(delivered(ROS2, msg))) == 1
