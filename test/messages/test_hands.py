from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.data import (
    HandMarkers,
    HandPoses,
    Hands,
)
from depth_refiner_ros.geometry import rotation_from_quaternion
from depth_refiner_ros.messages import (
    encode,
)

from .builders import (
    HEADER,
    family,
)


def _two_hands() -> Hands:
    points_m = np.arange(2 * 21 * 3, dtype=np.float32).reshape(2, 21, 3) / 100
    return Hands(
        HEADER,
        points_m,
        points_m[..., :2] * 10,
        np.full((2, 21), 0.75, np.float32),
        np.array([0.9, 0.2], np.float32),
        np.array([4, 7], np.int32),
    )


def test_keypoints_are_a_cloud_of_named_fields() -> None:
    hands = _two_hands()
    msg = encode(hands, family())
    assert (msg.height, msg.width, msg.point_step, msg.row_step) == (2, 21, 36, 756)
    names = [field.name for field in msg.fields]
    assert names == ['x', 'y', 'z', 'u', 'v', 'confidence', 'right', 'joint', 'hand']
    assert [field.offset for field in msg.fields] == list(range(0, 36, 4))
    data = np.frombuffer(bytes(msg.data), np.uint8).reshape(2, 21, 36)
    floats = np.ascontiguousarray(data[..., :28]).view(np.float32)
    np.testing.assert_array_equal(floats[..., :3], hands.points_m)
    np.testing.assert_allclose(floats[1, 0, 3:], [*hands.pixels_px[1, 0], 0.75, 0.2])
    numbers = np.ascontiguousarray(data[..., 28:]).view(np.int32)
    assert numbers[1, 5].tolist() == [5, 7]


def test_no_hands_are_an_empty_cloud_and_a_wiped_screen() -> None:
    none = Hands.none(HEADER)
    msg = encode(none, family())
    assert (msg.height, len(msg.data)) == (0, 0)
    (marker,) = encode(HandMarkers(none), family()).markers
    assert marker.action == 3
    assert encode(HandPoses(none), family()).poses == []


def test_skeletons_are_lines_and_balls() -> None:
    hands = _two_hands()
    _, bones, joints, *others = encode(HandMarkers(hands), family()).markers
    assert len(others) == 2
    assert (bones.type, bones.id, len(bones.points), len(bones.colors)) == (5, 4, 40, 40)
    assert (joints.type, joints.id, len(joints.points)) == (7, 4, 21)
    # The last bone ends at the tip of the little finger.
    assert bones.points[-1].x == pytest.approx(float(hands.points_m[0, 20, 0]))
    assert joints.colors[0].a == pytest.approx(0.15 + 0.85 * 0.75)


def test_the_wrist_of_a_hand_points_along_it() -> None:
    points_m = np.zeros((1, 21, 3), np.float32)
    # A right hand held up, palm to the camera: fingers up the image, thumb to its right.
    points_m[0, :, 2] = 0.5
    points_m[0, [5, 9, 17], 0] = 0.03, 0.0, -0.03
    points_m[0, [5, 9, 17], 1] = -0.1
    hand = Hands(
        HEADER, points_m, points_m[..., :2].copy(), np.ones((1, 21), np.float32),
        np.array([1.0], np.float32), np.array([0], np.int32),
    )  # fmt: skip
    (pose,) = encode(HandPoses(hand), family()).poses
    q = pose.orientation
    rotation = rotation_from_quaternion(q.x, q.y, q.z, q.w)
    # x to the fingers, which is up; z out of the palm, which is towards the camera.
    np.testing.assert_allclose(rotation[:, 0], [0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(rotation[:, 2], [0, 0, -1], atol=1e-6)
    assert pose.position.z == 0.5
