"""SimGAN's crops, augmentation, and batches by number."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.datasets.hands import CROP_PX, NYU_CAMERA, HandSample, NyuHands
from training.synth2real.crops import (
    HandCrops,
    LabelledHands,
    SyntheticHands,
    augmented,
    crop,
    unnormalized_m,
)


def sample(rendered=True):
    """A hand of one pixel's depth each, 0.6 m away on the optical axis; a wall at 1.5 m."""
    depth_m = np.full((480, 640), 1.5, np.float32)
    depth_m[230:250, 310:330] = 0.6
    depth_m[235, 315] = np.nan
    model = np.full((480, 640), np.nan, np.float32)
    model[230:250, 310:325] = 0.59
    joints_m = np.zeros((14, 3))
    joints_m[:, 2] = 0.6
    joints_m[0, 0], joints_m[1, 0] = 0.03, -0.03
    image = joints_m @ NYU_CAMERA.T
    return HandSample(
        'a', depth_m, NyuHands.licence, intrinsics=NYU_CAMERA, joints_m=joints_m,
        joints_px=image[:, :2] / image[:, 2:], rendered_m=model if rendered else None,
    )  # fmt: skip


def test_what_the_rendered_hand_covers_is_kept():
    depth, joints_px = crop(sample())
    assert depth.shape == (CROP_PX, CROP_PX)
    assert np.unique(depth).tolist() == pytest.approx([-1.4, 0])
    # 15 of 294 columns, 20 of 293.5 rows, less a hole: (15 * 20 - 1) / (294 * 293.5).
    assert (depth != 0).mean() == pytest.approx(299 / (294.0 * 293.5), rel=0.1)
    assert joints_px[2].tolist() == pytest.approx([111.5, 111.5])
    # 0.03 m of 0.3 m of 224 px.
    assert joints_px[0].tolist() == pytest.approx([111.5 + 22.4, 111.5])


def test_without_a_rendered_hand_what_is_near_is_kept():
    depth, _ = crop(sample(rendered=False))
    assert (depth != 0).mean() == pytest.approx(399 / (294.0 * 293.5), rel=0.1)


def test_the_pixel_of_a_joint_goes_where_the_joint_goes():
    frame = sample(rendered=False)
    frame.depth_m[:] = np.nan
    column, row = frame.joints_px[0].round().astype(int)
    frame.depth_m[row - 1 : row + 2, column - 1 : column + 2] = 0.6
    depth, joints_px = crop(frame)
    rows, columns = np.nonzero(depth)
    assert abs(columns.mean() - joints_px[0, 0]) <= 1
    assert abs(rows.mean() - joints_px[0, 1]) <= 1


def test_a_crop_over_the_edge_is_empty_there():
    frame = sample(rendered=False)
    joints_m = frame.joints_m - np.array([0.32, 0, 0])  # the middle is 6 px from the left edge
    moved = HandSample(
        'a', np.full((480, 640), 0.6, np.float32), frame.licence, intrinsics=NYU_CAMERA,
        joints_m=joints_m, joints_px=frame.joints_px,
    )  # fmt: skip
    depth, _ = crop(moved)
    empty = (depth == 0).all(0)
    assert empty[:100].all()
    assert not empty[115:].any()


def dots(joints_px):
    depth = torch.zeros(len(joints_px), 1, CROP_PX, CROP_PX)
    for image, joints in zip(depth, joints_px, strict=True):
        for u, v in joints.round().long().tolist():
            image[0, v - 2 : v + 3, u - 2 : u + 3] = -1
    return HandCrops(depth, joints_px)


def test_augmentation_moves_pictures_as_it_moves_joints():
    generator = torch.Generator().manual_seed(0)
    joints_px = torch.randint(80, 144, (6, 1, 2), generator=generator).float()
    moved = augmented(dots(joints_px), generator)
    assert not torch.allclose(moved.joints_px, joints_px)
    for image, joints in zip(moved.depth, moved.joints_px, strict=True):
        rows, columns = (image[0] != 0).nonzero(as_tuple=True)
        middle = torch.stack([columns.float().mean(), rows.float().mean()])
        torch.testing.assert_close(middle, joints[0], rtol=0, atol=0.8)


def test_augmentation_turns_as_far_as_the_paper_says():
    generator = torch.Generator().manual_seed(1)
    joints_px = torch.tensor([[[60.0, 111], [160, 111]]]).repeat(300, 1, 1)
    crops = HandCrops(torch.zeros(300, 1, 8, 8), joints_px * 8 / 224)
    axis = augmented(crops, generator).joints_px.diff(dim=1)[:, 0]
    turn = torch.rad2deg(torch.atan2(axis[:, 1], axis[:, 0]))
    assert turn.abs().max() <= 20.01
    assert turn.max() > 18
    assert turn.min() < -18


def test_rendered_hands_are_near_the_middle_and_the_same_again():
    data = SyntheticHands(14, 4, seed=3, augment=False)
    crops, again = data[7], data[7]
    assert torch.equal(crops.depth, again.depth)
    assert torch.equal(crops.joints_px, again.joints_px)
    assert not torch.equal(crops.joints_px, data[8].joints_px)
    assert crops.depth.shape == (4, 1, CROP_PX, CROP_PX)
    torch.testing.assert_close(
        crops.joints_px.mean((1, 2)), torch.full((4,), 111.5), rtol=0, atol=12
    )
    assert ((crops.depth != 0).flatten(1).sum(1) > 500).all()
    depth_m = unnormalized_m(crops.depth)
    assert depth_m.isfinite().equal(crops.depth != 0)
    assert depth_m[depth_m.isfinite()].min() > 0.2
    assert SyntheticHands(21, 2, seed=0)[0].joints_px.shape == (2, 21, 2)


class Recorded:
    """Ten hands whose joints tell their number."""

    def __len__(self):
        return 10

    def hand(self, index):
        frame = sample()
        frame.joints_px[:] = index
        return frame


def numbers(crops):
    # Joints in pixels of the image: crop joints differ from them by the same shift and scale.
    return crops.joints_px[:, 5, 0].tolist()


def test_an_epoch_shows_every_hand_once():
    data = LabelledHands(Recorded(), 5, seed=0, augment=False)
    shown = numbers(data[0]) + numbers(data[1])
    assert len(data) == 2
    assert sorted(shown) == shown  # in order where nothing is learned from it
    data = LabelledHands(Recorded(), 5, seed=0)
    orders = [[data._order(epoch)[n] for n in range(10)] for epoch in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]
    assert torch.equal(data[3].joints_px, LabelledHands(Recorded(), 5, seed=0)[3].joints_px)
