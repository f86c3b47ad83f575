"""Kinematics worked out by hand, limits, and what sampling promises."""

import math

import pytest
import torch

from training.render.hand_skeleton import (
    BASES_MM,
    BONES,
    CAPSULE_PARTS,
    INDEX,
    JOINTS,
    LENGTHS_MM,
    LIMITS_DEG,
    MIDDLE,
    PARTS,
    REFERENCE_LENGTH_MM,
    TIP_RADII_MM,
    Shape,
    frames,
    pose,
)
from training.render.hands import (
    Kind,
    penetration_m,
    sample_angles,
    sample_hands,
    sample_shapes,
    sample_turns,
)

TIP = JOINTS.index('middle_tip')


def joints_mm(angles):
    return 1e3 * frames(Shape.reference(len(angles)), angles)[1][:, :21]


def at_rest(count=1):
    return torch.zeros(count, 24)


def hands_at(angles, right=True):
    shape = Shape.reference(len(angles))._replace(right=torch.full((len(angles),), right))
    eye = torch.eye(3).expand(len(angles), 3, 3)
    return pose(shape, angles, eye, torch.zeros(len(angles), 3))


def test_a_straight_finger_is_as_long_as_its_bones():
    joints = joints_mm(at_rest())[0]
    bones = torch.tensor(LENGTHS_MM[2]) - torch.tensor([0, 0, TIP_RADII_MM[2]])
    expected = torch.tensor(BASES_MM[2]) + torch.tensor([0, float(bones.sum()), 0])
    torch.testing.assert_close(joints[TIP], expected, rtol=0, atol=1e-3)
    end = joints[TIP, 1] + TIP_RADII_MM[2]
    assert float(end) == pytest.approx(REFERENCE_LENGTH_MM, abs=0.5)


def test_a_right_angle_at_the_second_joint_points_out_of_the_palm():
    angles = at_rest()
    angles[0, MIDDLE + 2] = math.pi / 2
    joints = joints_mm(angles)[0]
    x, y, z = BASES_MM[2]
    proximal, middle, distal = LENGTHS_MM[2]
    rest = middle + distal - TIP_RADII_MM[2]
    expected = torch.tensor([x, y + proximal, z + rest])
    torch.testing.assert_close(joints[TIP], expected, rtol=0, atol=1e-3)


def test_three_right_angles_bring_the_tip_back():
    angles = at_rest()
    angles[0, MIDDLE + 1 : MIDDLE + 4] = math.pi / 2
    joints = joints_mm(angles)[0]
    x, y, z = BASES_MM[2]
    proximal, middle, distal = LENGTHS_MM[2]
    last = distal - TIP_RADII_MM[2]
    expected = torch.tensor([x, y - middle, z + proximal - last])
    torch.testing.assert_close(joints[TIP], expected, rtol=0, atol=1e-3)


def test_abduction_turns_to_the_thumb():
    angles = at_rest()
    angles[0, MIDDLE] = math.radians(20)
    offset = joints_mm(angles)[0, TIP] - torch.tensor(BASES_MM[2])
    assert math.degrees(math.atan2(offset[0], offset[1])) == pytest.approx(20, abs=1e-3)
    assert offset[2].abs() < 1e-3


def test_palmar_abduction_of_the_thumb_leaves_the_plane_of_the_palm():
    angles = at_rest()
    angles[0, 1] = math.radians(50)
    bone = joints_mm(angles)[0, 2] - joints_mm(angles)[0, 1]
    expected = LENGTHS_MM[0][0] * torch.tensor(
        [0, math.cos(math.radians(50)), math.sin(math.radians(50))]
    )
    torch.testing.assert_close(bone, expected, rtol=0, atol=1e-3)


def test_a_left_hand_is_the_mirror_image():
    angles, _ = sample_angles(3, 16)
    right, left = hands_at(angles), hands_at(angles, right=False)
    mirror = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(left.joints_m, right.joints_m * mirror)
    torch.testing.assert_close(left.capsules_m, right.capsules_m * mirror)


def test_the_palm_of_a_raised_right_hand_has_its_thumb_on_the_right():
    """As one sees someone else's right hand; of one's own, from behind, it is on the left."""
    turn = torch.diag(torch.tensor([1.0, -1, -1]))[None]
    shape = Shape.reference()
    hand = pose(shape, at_rest(), turn, torch.tensor([[0, 0, 0.5]]))
    assert hand.joints_m[0, 4, 0] > hand.joints_m[0, 20, 0]
    assert hand.joints_m[0, TIP, 1] < 0
    assert torch.linalg.det(hand.camera_from_hand)[0] == pytest.approx(1)


def test_bones_keep_their_lengths():
    shape = sample_shapes(5, 64)
    angles, _ = sample_angles(6, 64)
    turn = sample_turns(7, 64)
    hands = pose(shape, angles, turn, torch.randn(64, 3))
    for start, end in BONES:
        if start == 0:
            continue
        chain, bone = divmod(start - 1, 4)
        length = (hands.joints_m[:, end] - hands.joints_m[:, start]).norm(dim=1)
        torch.testing.assert_close(length, shape.lengths_m[:, chain, bone], rtol=0, atol=1e-6)
    index = (hands.joints_m[:, 5] - hands.joints_m[:, 0]).norm(dim=1)
    torch.testing.assert_close(index, shape.bases_m[:, 1].norm(dim=1), rtol=0, atol=1e-6)


def test_angles_stay_within_limits():
    angles, kinds = sample_angles(11, 500)
    limits = torch.deg2rad(LIMITS_DEG)
    assert (angles >= limits[:, 0] - 1e-5).all()
    assert (angles <= limits[:, 1] + 1e-5).all()
    assert set(kinds.tolist()) == set(Kind)


def test_limits_are_those_of_the_literature():
    for finger in range(INDEX, 20, 4):
        assert LIMITS_DEG[finger : finger + 3].tolist() == [[-20, 20], [-10, 90], [0, 110]]


def test_fingers_barely_run_into_each_other():
    angles, _ = sample_angles(12, 300)
    thumb_m, fingers_m = penetration_m(Shape.reference(300), angles)
    assert torch.quantile(torch.maximum(thumb_m, fingers_m), 0.99) < 0.0045


def test_penetration_of_crossed_fingers_is_found():
    angles = at_rest(2)
    # Index and middle finger turned to each other: their ends overlap.
    angles[1, INDEX], angles[1, MIDDLE] = math.radians(-15), math.radians(15)
    _, fingers_m = penetration_m(Shape.reference(2), angles)
    assert fingers_m[0] < 0.004
    assert fingers_m[1] > 0.01


def test_lengths_of_sampled_hands():
    shape = sample_shapes(1, 400)
    length_mm = REFERENCE_LENGTH_MM * shape.scale
    assert length_mm.min() >= 160
    assert length_mm.max() <= 210
    assert 0.4 < shape.right.float().mean() < 0.6


def test_a_seed_makes_the_same_hands_again():
    (first, _), (second, _), (other, _) = (sample_hands(seed, 5) for seed in (4, 4, 5))
    assert torch.equal(first.capsules_m, second.capsules_m)
    assert torch.equal(first.right, second.right)
    assert not torch.equal(first.joints_m, other.joints_m)


def test_sampled_hands_are_in_front_of_the_camera_and_in_the_image():
    hands, intrinsics = sample_hands(9, 300)
    assert (hands.capsules_m[..., 2] - hands.radii_m).min() > 0.099
    knuckle = (intrinsics @ hands.joints_m[:, 9, :, None])[..., 0]
    place = knuckle[:, :2] / knuckle[:, 2:]
    assert ((place >= 0) & (place < torch.tensor([640, 480]))).all()
    assert (hands.joints_m[:, 9, 2] >= 0.249).all()


def test_shapes_of_what_the_renderer_is_given():
    hands, intrinsics = sample_hands(0, 3)
    assert hands.joints_m.shape == (3, 21, 3)
    assert hands.capsules_m.shape == (3, len(CAPSULE_PARTS), 2, 3)
    assert hands.radii_m.shape == (3, len(CAPSULE_PARTS), 2)
    assert set(CAPSULE_PARTS.tolist()) == set(range(len(PARTS)))
    assert intrinsics.shape == (3, 3, 3)
    one = hands.take(torch.tensor([1]))
    assert torch.equal(one.joints_m[0], hands.joints_m[1])
