"""Figures of what refining does, on crops whose figures are known."""

import math

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.datasets.hands import CROP_PX
from training.networks.hourglass import heatmaps_of
from training.synth2real.hand_metrics import (
    change_mm,
    drift_px,
    edges,
    hole_share,
    kernel_distance,
    patch_features,
)


def square():
    """A hand of 20x20 px at 0.6 m, its right half 20 mm behind."""
    depth = torch.zeros(1, 1, 32, 32)
    depth[..., 6:26, 6:16] = -1.4
    depth[..., 6:26, 16:26] = -1.38
    return depth


def test_edges_are_two_pixels_on_either_side():
    found = edges(square())[0, 0]
    assert found[15].nonzero()[:, 0].tolist() == [6, 7, 14, 15, 16, 17, 24, 25]
    assert found[:, 10].nonzero()[:, 0].tolist() == [6, 7, 24, 25]
    # 400 px less the flats: 16 rows of twice 6.
    assert found.sum() == 400 - 16 * 12
    slope = torch.full((1, 1, 32, 32), -1.4) + 0.007 * torch.arange(32)
    assert not edges(slope).any()


def test_changes_are_counted_apart_in_millimetres():
    before = square()
    after = before + torch.where(edges(before), 0.004, 0.001) * (before != 0)
    found = change_mm(before, after)
    assert found['edges'] == pytest.approx(4, abs=1e-3)
    assert found['flats'] == pytest.approx(1, abs=1e-3)
    after[..., :16, :] = 0  # what became a hole did not move
    assert change_mm(before, after) == pytest.approx(found, abs=1e-3)
    assert math.isnan(change_mm(before, torch.zeros_like(before))['flats'])


def test_holes_are_counted_inside_hands_only():
    depth = square()
    assert hole_share(depth) == 0
    depth[..., 10:12, 10:15] = 0
    assert hole_share(depth) == pytest.approx(10 / 400)
    assert math.isnan(hole_share(torch.zeros(1, 1, 32, 32)))


def test_holes_at_the_border_of_the_crop_are_counted():
    depth = torch.full((1, 1, 32, 32), -1.4)
    depth[..., 0, 10:12] = 0
    assert hole_share(depth) == pytest.approx(2 / 1024)


def waves(noise_m, seed, count=6):
    generator = torch.Generator().manual_seed(seed)
    ramp = 0.002 * torch.rand(count, 1, 1, 1, generator=generator) * torch.arange(48)
    depth = -1.4 + ramp.expand(count, 1, 48, 48)
    return depth + noise_m * torch.randn(depth.shape, generator=generator)


def test_features_do_not_see_distance_but_grain():
    depth = waves(0.002, 0)
    features = patch_features(depth)
    assert features.shape == (6 * 9, 512)
    torch.testing.assert_close(patch_features(depth + 0.3), features, atol=0.02, rtol=0)
    # A plane has no grain: the highest coefficient is rounding's.
    assert patch_features(waves(0.0, 0))[:, 255].max() < 0.05
    assert features[:, 255].mean() > 0.5
    # Less than a quarter is hand, or nothing is.
    assert len(patch_features(torch.zeros(2, 1, 48, 48))) == 0


def test_the_kernel_distance_is_that_of_its_formula():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 3, generator=generator), torch.randn(4, 3, generator=generator) + 1

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    within_x = sum(k(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_y = sum(k(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(k(a, b) for a in x for b in y) / 20
    assert kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * between, rel=1e-5)
    assert math.isnan(kernel_distance(x[:1], y))


def test_the_distance_falls_as_grain_becomes_like():
    real = patch_features(waves(0.002, 1))
    distances = [
        kernel_distance(patch_features(waves(noise, 2)), real) for noise in (0, 0.001, 0.002)
    ]
    assert distances[0] > 2 * distances[1] > 4 * max(distances[2], 0)
    assert abs(distances[2]) < 0.05 * distances[0]


def test_drift_is_in_pixels_of_the_whole_crop():
    def network(depth):
        """Find one joint at the column that the first pixel tells."""
        column = 224 * depth[:, :, 0, 0]
        joints_px = torch.stack([column, torch.full_like(column, 112)], 2)
        return heatmaps_of(joints_px, CROP_PX)[:, None]

    before = torch.full((3, 1, 56, 56), 0.25)
    # 0.125 of 224 px are 28 px, 8 whole pixels of the heatmap.
    assert drift_px(network, before, before + 0.125) == pytest.approx(28, abs=1e-3)
    assert drift_px(network, before, before) == 0
