"""Hands without a sensor, of the sensor held out, and recorded."""

from dataclasses import fields
import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from depth_refiner_ros.data import Header, PinholeCamera
from training.sensors import TimeOfFlightParameters
from training.synth2real.domains import (
    STAND_IN,
    CleanHands,
    RecordedHands,
    StandInHands,
    counts_of,
    depth_of,
    nearest_hand,
)
from training.synth2real.hand_metrics import hole_share, kernel_distance, patch_features


@pytest.mark.parametrize('kind', [CleanHands, StandInHands])
def test_a_batch_is_a_function_of_seed_and_number(kind):
    data = kind(14, 3, seed=5, size_px=48)
    crops, again = data[2], kind(14, 3, seed=5, size_px=48)[2]
    assert crops.depth.shape == (3, 1, 48, 48)
    assert crops.depth.dtype == torch.float32
    assert crops.joints_px.shape == (3, 14, 2)
    assert torch.equal(crops.depth, again.depth)
    assert torch.equal(crops.joints_px, again.joints_px)
    assert not torch.equal(data[3].joints_px, crops.joints_px)
    assert not torch.equal(kind(14, 3, seed=6, size_px=48)[2].joints_px, crops.joints_px)
    assert kind(21, 2, seed=0, size_px=32)[0].joints_px.shape == (2, 21, 2)


@pytest.mark.parametrize('kind', [CleanHands, StandInHands])
def test_joints_lie_on_the_hand_and_around_the_middle(kind):
    crops = kind(14, 12, seed=1, size_px=96)[0]
    torch.testing.assert_close(
        crops.joints_px.mean((1, 2)), torch.full((12,), 47.5), rtol=0, atol=6
    )
    near = torch.nn.functional.max_pool2d((crops.depth != 0).float(), 5, 1, 2)
    at = crops.joints_px.round().long().clamp(0, 95)
    on = near[torch.arange(12)[:, None], 0, at[..., 1], at[..., 0]]
    assert on.mean() > 0.9


def test_sizes_show_the_same_hands():
    small, large = (CleanHands(14, 2, 3, size_px=size)[0] for size in (32, 96))
    torch.testing.assert_close(3 * (small.joints_px + 0.5), large.joints_px + 0.5)
    # The middle of three pixels is where the one is.
    both = (small.depth != 0) & (large.depth[:, :, 1::3, 1::3] != 0)
    off_m = (small.depth - large.depth[:, :, 1::3, 1::3]).abs()[both]
    assert off_m.max() < 1e-4


def test_the_stand_in_looks_like_itself_and_not_like_clean_hands():
    clean, held_out = (
        kind(14, 24, seed=2, size_px=112)[0].depth for kind in (CleanHands, StandInHands)
    )
    assert hole_share(held_out) > 1.3 * hole_share(clean)
    assert held_out[held_out != 0].min() > -1.6
    assert held_out[held_out != 0].max() < -0.8
    other = patch_features(StandInHands(14, 24, seed=3, size_px=112)[0].depth)
    own = kernel_distance(patch_features(held_out), other)
    assert kernel_distance(patch_features(clean), other) > 3 * own


def test_no_drawn_camera_is_the_one_held_out():
    drawn = TimeOfFlightParameters()
    outside = 0
    for field in fields(drawn):
        span, own = getattr(drawn, field.name), getattr(STAND_IN, field.name)
        if field.type in ('Span', tuple) and own != span:
            assert own[0] == own[1], field.name
            assert not span[0] <= own[0] <= span[1], field.name
            outside += 1
    assert outside >= 10


def test_what_is_kept_is_rendered_once_and_comes_again(monkeypatch):
    data = CleanHands(14, 2, seed=0, size_px=32, keep=3)
    fresh = CleanHands(14, 2, seed=0, size_px=32)
    first = [data[n] for n in range(3)]
    monkeypatch.setattr(data, '_rendered', None)  # nothing is rendered from here on
    again = data[4]
    assert torch.equal(again.depth, first[1].depth)
    assert torch.equal(again.joints_px, fresh[1].joints_px)
    assert (again.depth - fresh[1].depth).abs().max() < 0.5e-4 + 1e-6
    data.augment = True
    assert not torch.equal(data[4].joints_px, data[1].joints_px)  # the same hand, turned otherwise


def test_millimetres_survive_keeping():
    depth = -2 + 4 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    depth[0, 0, 0, :3] = torch.tensor([0, 1e-5, -1e-5])
    counts = counts_of(depth)
    assert counts.dtype == torch.int16
    kept = depth_of(counts)
    assert kept.dtype == torch.float32
    assert torch.equal(kept != 0, depth != 0)
    assert (kept - depth).abs().max() < 0.5e-3


CAMERA = PinholeCamera(Header(0, 'camera'), width=160, height=120, fx=120, fy=120, cx=80, cy=60)


def frame():
    """A body at 1.2 m, a hand of 30x20 px at 0.6 m that slopes, one flying pixel, a hole."""
    depth_m = np.full((120, 160), 1.2, np.float32)
    depth_m[50:80, 90:110] = 0.6 + 0.001 * np.arange(20, dtype=np.float32)
    depth_m[60, 100] = np.nan
    depth_m[5, 5] = 0.35
    return depth_m


def test_the_nearest_thing_is_cut_out():
    crop = nearest_hand(frame(), CAMERA, 60)
    # 300 mm at 0.61 m are 59 px of the sensor: about one of the crop each.
    assert (crop != 0).sum() == pytest.approx(30 * 20, rel=0.1)
    rows, columns = np.nonzero(crop)
    assert rows.mean() == pytest.approx(29.5, abs=0.6)
    assert columns.mean() == pytest.approx(29.5, abs=0.6)
    assert np.abs(np.sort(np.unique(crop[crop != 0])) + 1.4 - 0.001 * np.arange(20)).max() < 5e-7
    assert nearest_hand(np.full((120, 160), np.nan, np.float32), CAMERA, 60) is None
    empty = np.full((120, 160), np.nan, np.float32)
    empty[:10, :10] = 0.6
    assert nearest_hand(empty, CAMERA, 60) is None


def test_over_the_edge_of_the_image_is_nothing():
    depth_m = np.full((120, 160), np.nan, np.float32)
    depth_m[:30, :30] = 0.6
    crop = nearest_hand(depth_m, CAMERA, 60)
    rows, columns = np.nonzero(crop)
    assert (crop[:14] == 0).all()
    assert rows.max() < 46
    assert columns.min() > 13


def record(folder):
    (folder / 'depth').mkdir(parents=True)
    info = {'width': 160, 'height': 120, 'fx': 120, 'fy': 120, 'cx': 80, 'cy': 60}
    (folder / 'camera.json').write_text(json.dumps(info | {'depth_unit_m': 0.001}))
    for number in range(3):
        counts = np.nan_to_num(1000 * (frame() + 0.01 * number)).round().astype(np.uint16)
        cv2.imwrite(str(folder / 'depth' / f'{number:03}.png'), counts)
    return folder


def test_recorded_hands_are_shown_once_an_epoch_to_the_millimetre(tmp_path):
    data = RecordedHands(record(tmp_path / 'hands'), 3, seed=0, size_px=60)
    assert data.hands == 3
    assert len(data) == 1
    first, second = data[0], data[1]
    assert first.joints_px.shape == (3, 0, 2)
    wanted = [nearest_hand(frame() + np.float32(0.01 * n), CAMERA, 60) for n in range(3)]
    for batch in (first, second):
        found = sorted(batch.depth[:, 0], key=lambda crop: float(crop.min()))
        for crop, whole in zip(found, wanted, strict=True):
            assert np.abs(crop.numpy() - whole).max() < 0.5e-3
    with pytest.raises(FileNotFoundError):
        RecordedHands(tmp_path / 'none', 3, seed=0)


def test_hands_of_a_kinect_v2_are_found(recording):
    data = RecordedHands(recording('hands_kinect_v2'), 16, seed=0, size_px=112)
    assert data.hands == 150
    share = (data[0].depth != 0).float().mean((1, 2, 3))
    assert share.min() > 0.05
    assert share.max() < 0.4
