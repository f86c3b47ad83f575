"""Pictures of hands: what is seen of them, and what is around."""

import math

import numpy as np
import pytest
import torch

from training.hands.shards import room_depths
from training.render.capsules import crop_intrinsics
from training.render.hand_images import (
    Surroundings,
    _flat,
    project,
    regions_around,
    render_hands,
    sample_surroundings,
)
from training.render.hand_skeleton import PARTS, Shape, pose
from training.render.hands import sample_hands

INTRINSICS = torch.tensor([[[300.0, 0, 63.5], [0, 300, 63.5], [0, 0, 1]]])


def raised_hand():
    """A right hand, fingers straight and up, its palm to the camera, half a metre away."""
    turn = torch.diag(torch.tensor([1.0, -1, -1]))[None]
    angles = torch.zeros(1, 24)
    angles[0, 0], angles[0, 20] = math.radians(45), math.radians(-70)
    return pose(Shape.reference(), angles, turn, torch.tensor([[0, 0.08, 0.5]]))


def nothing(**given):
    fields = {
        'capsules_m': torch.zeros(1, 0, 2, 3),
        'radii_m': torch.zeros(1, 0, 2),
        'boxes_m': torch.zeros(1, 0, 3),
        'turns': torch.zeros(1, 0, 3, 3),
        'halves_m': torch.zeros(1, 0, 3),
        'planes': torch.zeros(1, 0, 4),
    }
    return Surroundings(**(fields | given))


def test_joints_of_an_open_hand_are_visible_and_on_their_parts():
    hand = raised_hand()
    images = render_hands(hand, INTRINSICS)
    assert images.visible.all()
    column, row = images.joints_px[0].round().long().unbind(1)
    parts = images.parts[0, row, column].tolist()
    assert parts[8] == PARTS.index('index_distal')
    assert parts[12] == PARTS.index('middle_distal')
    assert parts[20] == PARTS.index('pinky_distal')
    assert parts[4] == PARTS.index('thumb_distal')


def test_depth_is_the_skin_before_a_joint():
    hand = raised_hand()
    images = render_hands(
        hand, INTRINSICS, torch.tensor([[40.0, 0, 80, 40]]), height=320, width=320
    )
    column, row = images.joints_px[0, 11].round().long()
    # The middle finger's last joint: 8.6 mm of flesh around it.
    expected = float(hand.joints_m[0, 11, 2] - hand.joint_radii_m[0, 11])
    assert float(images.depth_m[0, row, column]) == pytest.approx(expected, abs=3e-4)


def test_what_is_before_a_hand_hides_its_joints():
    hand = raised_hand()
    plane = torch.tensor([[[0.0, 0, 1, 0.3]]])
    images = render_hands(hand, INTRINSICS, around=nothing(planes=plane))
    assert not images.visible.any()
    assert (images.parts == -1).all()
    torch.testing.assert_close(images.depth_m, torch.full_like(images.depth_m, 0.3))


def test_a_rod_before_a_fingertip_hides_it_alone():
    hand = raised_hand()
    tip = hand.joints_m[:, 8]
    ends = (0.6 * tip)[:, None, None] + torch.tensor([[0.01, 0, 0], [-0.01, 0, 0]])
    radii = torch.full((1, 1, 2), 0.004)
    images = render_hands(hand, INTRINSICS, around=nothing(capsules_m=ends, radii_m=radii))
    assert not images.visible[0, 8]
    assert images.visible[0, [0, 4, 12, 16, 20]].all()


def test_joints_out_of_the_picture_are_not_visible():
    hand = raised_hand()
    low = torch.tensor([[0.0, 64, 128, 192]])
    images = render_hands(hand, INTRINSICS, low)
    assert images.visible[0, 0]
    assert not images.visible[0, 12]


def test_a_background_is_seen_beside_the_hand_only():
    hand = raised_hand()
    alone = render_hands(hand, INTRINSICS)
    both = render_hands(hand, INTRINSICS, background_m=torch.full((1, 128, 128), 2.0))
    on_hand = alone.parts >= 0
    assert torch.equal(both.depth_m[on_hand], alone.depth_m[on_hand])
    assert (both.depth_m[~on_hand] == 2).all()
    assert alone.depth_m[~on_hand].isnan().all()


def test_a_box_ahead_shows_its_face_and_its_corner():
    ray = torch.tensor([[[[0.0, 0], [0.09, 0.09], [0.12, 0]]]])
    box = {'boxes_m': torch.tensor([[[0, 0, 1.0]]]), 'halves_m': torch.full((1, 1, 3), 0.1)}
    straight = _flat(nothing(turns=torch.eye(3)[None, None], **box), ray)
    torch.testing.assert_close(straight, torch.tensor([[[0.9, 0.9, torch.inf]]]))
    s = math.sqrt(0.5)
    turn = torch.tensor([[[[s, 0, s], [0, 1, 0], [-s, 0, s]]]])
    turned = _flat(nothing(turns=turn, **box), ray)
    assert float(turned[0, 0, 0]) == pytest.approx(1 - 0.1 * math.sqrt(2), abs=1e-6)


def test_regions_hold_all_joints():
    hands, intrinsics = sample_hands(3, 40)
    region = regions_around(hands, intrinsics)
    joints_px = project(hands.joints_m, crop_intrinsics(intrinsics, region, 128, 128))
    assert (joints_px > 0).all()
    assert (joints_px < 127).all()


def test_surroundings_are_the_same_for_a_seed_and_leave_hands_mostly_visible():
    hands, intrinsics = sample_hands(5, 60)
    around, again = (sample_surroundings(7, hands, intrinsics) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(around, again, strict=True))
    region = regions_around(hands, intrinsics)
    alone = render_hands(hands, intrinsics, region)
    images = render_hands(hands, intrinsics, region, around=around)
    assert (images.parts >= 0).sum() > 0.75 * (alone.parts >= 0).sum()
    assert (images.depth_m.isfinite()).float().mean() > alone.depth_m.isfinite().float().mean()
    nearer = images.depth_m[alone.parts >= 0] <= alone.depth_m[alone.parts >= 0]
    assert nearer.all()


def test_tables_and_walls_never_cut_a_hand():
    hands, intrinsics = sample_hands(6, 50)
    planes = sample_surroundings(8, hands, intrinsics).planes
    inside = (hands.capsules_m.flatten(1, 2) @ planes[:, :, :3].mT) - planes[:, None, :, 3]
    assert (inside <= 1e-5).all()


class Rooms:
    """Two frames, 480x640, whose depth is 1 m + a millimetre a column."""

    size = (480, 640)

    def __len__(self):
        return 2

    def crop(self, index, measurement, top, left, height, width):
        columns = 1 + 1e-3 * np.arange(left, left + width, dtype=np.float32)
        truth = torch.from_numpy(np.tile(columns, (height, 1)))[None]
        return None, truth, truth


def test_rooms_lie_behind_the_hand():
    hands, _ = sample_hands(2, 3)
    region = torch.tensor([[10.0, 20, 138, 148], [600, 400, 700, 500], [99.5, 99.5, 163.5, 163.5]])
    rooms = room_depths(0, Rooms(), hands, region, height=64, width=64)
    far = (hands.capsules_m[..., 2] + hands.radii_m).amax((1, 2))
    assert rooms.shape == (3, 64, 64)
    assert (rooms.amin((1, 2)) >= far - 1e-5).all()
    # One pixel of the last window is one of the room's.
    steps = rooms[2].diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 1e-3), rtol=0, atol=1e-5)
