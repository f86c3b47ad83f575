from __future__ import annotations

import itertools
import json

import cv2
import numpy as np
import pytest

from depth_refiner_ros.filters.inpaint import inpaint

NO_LIMIT = {'max_hole_px': 0.0, 'max_distance_m': 0.0}


def plane(height: int = 60, width: int = 80) -> np.ndarray:
    """A tilted plane: 1/z = 0.5 + 0.001 x + 0.002 y, so 2 m at the origin."""
    y, x = np.mgrid[:height, :width]
    return (1 / (0.5 + 0.001 * x + 0.002 * y)).astype(np.float32)


def with_hole(depth_m: np.ndarray, *box: slice) -> np.ndarray:
    holed = depth_m.copy()
    holed[box] = np.nan
    return holed


def box_in_front_of_a_wall() -> np.ndarray:
    """A box at 1 m in front of a wall at 2 m, with the shadow it casts to its left."""
    depth_m = np.full((60, 120), 2, np.float32)
    depth_m[20:60, 70:100] = 1
    # 44 px m * (1/1 - 1/2) per m = 22 px
    depth_m[20:60, 48:70] = np.nan
    return depth_m


@pytest.mark.parametrize(
    'box',
    [
        (slice(20, 40), slice(30, 50)),
        (slice(0, 15), slice(10, 40)),
        (slice(30, 60), slice(60, 80)),
        (slice(25, 26), slice(0, 80)),
    ],
)
def test_a_plane_is_continued(box):
    truth_m = plane()
    result = inpaint(with_hole(truth_m, *box), **NO_LIMIT)
    assert result.filled.sum() == truth_m[box].size
    # The median at the border of the image moves a plane by at most two pixels' slope: 0.2 %.
    np.testing.assert_allclose(result.depth_m, truth_m, rtol=5e-3)
    inside = np.zeros_like(result.filled)
    inside[2:-2, 2:-2] = True
    np.testing.assert_allclose(result.depth_m[inside], truth_m[inside], rtol=1e-4)


def test_one_pixel_worked_out_by_hand():
    # 1/z = 1 + 0.01 x, the hole at x = 20: z = 1 / 1.2
    inverse = np.tile(1 + 0.01 * np.arange(41, dtype=np.float32), (41, 1))
    result = inpaint(with_hole(1 / inverse, slice(20, 21), slice(20, 21)), **NO_LIMIT)
    assert result.depth_m[20, 20] == pytest.approx(0.833333, rel=1e-5)


def test_the_shadow_of_a_box_is_wall():
    depth_m = box_in_front_of_a_wall()
    result = inpaint(depth_m, **NO_LIMIT)
    filled_m = result.depth_m[result.filled]
    assert np.all(np.isclose(filled_m, 1, rtol=1e-4) | np.isclose(filled_m, 2, rtol=1e-4))
    assert (filled_m > 1.5).mean() > 0.7


def test_without_a_shadow_the_edge_lies_halfway():
    # The same hole mirrored: a foreground to the left casts no shadow to its right.
    result = inpaint(box_in_front_of_a_wall()[:, ::-1], **NO_LIMIT)
    background = result.depth_m[40, 50:72] > 1.5
    assert 8 <= background.sum() <= 14


def test_no_depth_lies_between_two_surfaces():
    depth_m = np.full((80, 80), 3, np.float32)
    depth_m[:, 40:] = 1
    rng = np.random.default_rng(0)
    depth_m[cv2.dilate((rng.random((80, 80)) < 0.02).astype(np.uint8), np.ones((5, 5))) > 0] = (
        np.nan
    )
    result = inpaint(depth_m, **NO_LIMIT)
    filled_m = result.depth_m[result.filled]
    assert np.all(np.isclose(filled_m, 1, rtol=1e-4) | np.isclose(filled_m, 3, rtol=1e-4))


def test_color_says_where_the_edge_is():
    truth_m = np.full((60, 120), 2, np.float32)
    truth_m[:, :62] = 1
    color = np.full((60, 120, 3), 40, np.uint8)
    color[:, :62] = (200, 60, 30)
    depth_m = with_hole(truth_m, slice(None), slice(50, 100))
    # The hole's middle is column 75.
    blind = inpaint(depth_m, **NO_LIMIT).depth_m
    assert (np.abs(blind - truth_m) > 0.5).mean() > 0.08
    seeing = inpaint(depth_m, color=color, **NO_LIMIT).depth_m
    assert (np.abs(seeing - truth_m) > 0.5).mean() < 0.02


def one_by_one(depth_m: np.ndarray) -> np.ndarray:
    """Fill every hole as `inpaint` says, a pixel at a time and with OpenCV's transforms."""
    hole = ~(depth_m > 0)
    inverse = np.pad(np.divide(1, depth_m, out=np.zeros_like(depth_m), where=~hole), 1)
    _, labels = cv2.distanceTransformWithLabels(
        (inverse == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    away_px, _ = cv2.distanceTransformWithLabels((inverse == 0).astype(np.uint8), cv2.DIST_L2, 5)
    measured = np.argwhere(inverse > 0)

    def slope(y: int, x: int, axis: int) -> float:
        sparse = np.pad(inverse[::2, ::2], ((3, 4), (3, 4)))
        window = sparse[y // 2 : y // 2 + 8, x // 2 : x // 2 + 8]
        here = window[:7, :7]
        there = window[1:, :7] if axis == 0 else window[:7, 1:]
        same = np.abs(there - here) < 0.04 * np.minimum(here, there)
        return (there - here)[same].sum() / (2 * same.sum()) if same.sum() >= 5 else 0.0

    chosen = inverse.copy()
    for y, x in np.argwhere(hole) + 1:
        source_y, source_x = measured[labels[y, x] - 1]
        there = inverse[source_y, source_x]
        plane = there + slope(source_y, source_x, 1) * (x - source_x)
        plane += slope(source_y, source_x, 0) * (y - source_y)
        offers = [(np.clip(plane, there / 1.5, there * 1.5), 1 / away_px[y, x])]
        ends = {}
        for dy, dx in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            end_y, end_x = y + dy, x + dx
            while 0 < end_y < inverse.shape[0] - 1 and 0 < end_x < inverse.shape[1] - 1:
                if inverse[end_y, end_x]:
                    break
                end_y, end_x = end_y + dy, end_x + dx
            ends[dy, dx] = end_y, end_x, abs(end_y - y) + abs(end_x - x)
        for (dy, dx), (end_y, end_x, apart_px) in ends.items():
            there = inverse[end_y, end_x]
            steepest = there * 0.5 / (apart_px + ends[-dy, -dx][2] - 1)
            rise = np.clip(slope(end_y, end_x, 0 if dy else 1), -steepest, steepest)
            offers.append((there - rise * (dy + dx) * apart_px, (there > 0) / apart_px))
        values, weights = np.array(offers).T
        left, right = inverse[y, ends[0, -1][1]], inverse[y, ends[0, 1][1]]
        width_px = ends[0, -1][2] + ends[0, 1][2] - 1
        if left > 0 and right - left > max(0.05 * right, width_px / 45):
            weights[values < np.sqrt(left * right)] *= 4
        costs = np.abs(values - values[:, None]) @ weights
        chosen[y, x] = values[np.where(weights > 0, costs, np.inf).argmin()]
    inner = chosen[1:-1, 1:-1].copy()
    return np.where(hole, 1 / cv2.medianBlur(inner, 5), depth_m)


def test_every_pixel_is_what_it_is_one_by_one():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:36, :52]
    depth_m = 1 / (0.4 + 0.003 * x + 0.002 * y + 0.5 * ((x > 20) & (x < 40) & (y > 12)))
    depth_m = (depth_m + rng.normal(0, 0.003, depth_m.shape)).astype(np.float32)
    depth_m[
        cv2.dilate((rng.random(depth_m.shape) < 0.01).astype(np.uint8), np.ones((6, 9))) > 0
    ] = 0
    depth_m[16:32, 8:21] = np.nan
    depth_m[:6, 40:] = np.nan
    assert 0.2 < (~(depth_m > 0)).mean() < 0.7
    result = inpaint(depth_m, **NO_LIMIT)
    expected_m = one_by_one(np.nan_to_num(depth_m))
    # Where two candidates cost the same, rounding decides.
    off = np.abs(result.depth_m - expected_m) > 1e-4 * expected_m
    assert off.mean() < 0.002


def test_measured_pixels_keep_every_bit():
    rng = np.random.default_rng(1)
    depth_m = rng.uniform(0.3, 8, (97, 131)).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < 0.3] = np.nan
    stddev_m = rng.uniform(0.001, 0.1, depth_m.shape).astype(np.float32)
    before = depth_m.copy(), stddev_m.copy()
    result = inpaint(depth_m, stddev_m=stddev_m, **NO_LIMIT)
    measured = ~np.isnan(depth_m)
    assert result.depth_m[measured].tobytes() == depth_m[measured].tobytes()
    assert result.stddev_m[measured].tobytes() == stddev_m[measured].tobytes()
    assert np.array_equal(result.filled, ~measured)
    assert np.isfinite(result.depth_m).all()
    assert np.isfinite(result.stddev_m).all()
    np.testing.assert_array_equal(depth_m, before[0])
    np.testing.assert_array_equal(stddev_m, before[1])


def test_every_run_gives_the_same_bits():
    rng = np.random.default_rng(2)
    depth_m = rng.uniform(0.5, 4, (240, 320)).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < 0.5] = np.nan
    color = rng.integers(0, 256, (240, 320, 3), np.uint8)
    first, second = (inpaint(depth_m, color=color, **NO_LIMIT) for _ in range(2))
    assert first.depth_m.tobytes() == second.depth_m.tobytes()
    assert first.stddev_m.tobytes() == second.stddev_m.tobytes()


def test_wide_holes_stay_empty_and_get_no_rim():
    depth_m = np.full((100, 120), 2, np.float32)
    depth_m[20:60, 30:70] = np.nan  # 40 px wide
    depth_m[40:44, 70:110] = np.nan  # a branch of it, 4 px wide
    depth_m[80:90, 10:20] = np.nan  # 10 px wide
    result = inpaint(depth_m, max_hole_px=10, max_distance_m=0)
    expected = np.zeros(depth_m.shape, bool)
    expected[40:44, 70:110] = True
    expected[80:90, 10:20] = True
    np.testing.assert_array_equal(result.filled, expected)
    np.testing.assert_array_equal(np.isnan(result.depth_m), np.isnan(depth_m) & ~expected)
    assert np.isnan(result.stddev_m[~expected]).all()


@pytest.mark.parametrize('width', [4, 5])
@pytest.mark.parametrize('limit_px', [4, 5, 5.9])
def test_the_widest_hole_that_is_filled(width, limit_px):
    depth_m = with_hole(plane(), slice(20, 20 + width), slice(30, 30 + width))
    result = inpaint(depth_m, max_hole_px=limit_px, max_distance_m=0)
    assert result.filled.any() == result.filled[20:, 30:][:width, :width].all()
    assert result.filled.any() == (width <= limit_px)


def test_nothing_is_invented_beyond_the_farthest_distance():
    depth_m = with_hole(plane(), slice(10, 50), slice(20, 60))
    result = inpaint(depth_m, max_hole_px=0, max_distance_m=1.7)
    # 1/z >= 1/1.7 = 0.588
    assert 0 < result.filled.sum() < 1600
    assert result.depth_m[result.filled].max() <= 1.7
    assert np.isnan(result.depth_m[10, 20])
    assert result.filled[49, 59]


@pytest.mark.parametrize('off', [0.0, np.inf])
def test_limits_that_are_off(off):
    depth_m = np.full((50, 50), np.nan, np.float32)
    depth_m[3, 44] = 7
    result = inpaint(depth_m, max_hole_px=off, max_distance_m=off)
    assert result.filled.sum() == 2499
    np.testing.assert_allclose(result.depth_m, 7, rtol=1e-6)


def test_doubt_grows_away_from_the_support():
    depth_m = with_hole(plane(100, 100), slice(20, 80), slice(20, 80))
    stddev_m = inpaint(depth_m, **NO_LIMIT).stddev_m
    inwards = stddev_m[50, 20:48]
    assert np.all(np.diff(inwards) > 0)
    assert inwards[-1] > 2 * inwards[0]


def test_doubt_grows_where_the_candidates_disagree():
    flat = np.full((60, 80), 2, np.float32)
    edge = flat.copy()
    edge[:, 40:] = 1
    box = slice(20, 40), slice(30, 50)
    agreed = inpaint(with_hole(flat, *box), **NO_LIMIT)
    torn = inpaint(with_hole(edge, *box), **NO_LIMIT)
    assert torn.stddev_m[30, 39] > 5 * agreed.stddev_m[30, 39]


def test_doubt_includes_that_of_the_source():
    depth_m = with_hole(plane(), slice(20, 30), slice(30, 40))
    sure = inpaint(depth_m, **NO_LIMIT)
    unsure = inpaint(depth_m, stddev_m=np.full_like(depth_m, 0.5), **NO_LIMIT)
    np.testing.assert_allclose(
        unsure.stddev_m[sure.filled],
        np.hypot(sure.stddev_m[sure.filled], 0.5),
        rtol=1e-5,
    )
    assert np.isnan(sure.stddev_m[~sure.filled]).all()


@pytest.mark.parametrize('empty', [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_what_is_no_measurement_is_a_hole(empty):
    depth_m = plane()
    depth_m[10:20, 10:20] = empty
    result = inpaint(depth_m, **NO_LIMIT)
    assert result.filled.sum() == 100
    assert np.isnan(inpaint(depth_m, max_hole_px=3, max_distance_m=0).depth_m).sum() == 100


def test_memory_layout_does_not_matter():
    rng = np.random.default_rng(3)
    depth_m = with_hole(plane(), slice(20, 40), slice(30, 50))
    color = rng.integers(0, 256, (60, 80, 3), np.uint8)
    expected = inpaint(depth_m, color=color, **NO_LIMIT)
    result = inpaint(np.asfortranarray(depth_m), color=np.asfortranarray(color), **NO_LIMIT)
    np.testing.assert_array_equal(result.depth_m, expected.depth_m)
    np.testing.assert_array_equal(result.stddev_m, expected.stddev_m)


def test_nothing_measured_nothing_filled():
    result = inpaint(np.full((20, 30), np.nan, np.float32), **NO_LIMIT)
    assert np.isnan(result.depth_m).all()
    assert np.isnan(result.stddev_m).all()
    assert not result.filled.any()


def test_nothing_to_fill():
    result = inpaint(plane(), **NO_LIMIT)
    np.testing.assert_array_equal(result.depth_m, plane())
    assert not result.filled.any()


@pytest.mark.parametrize(('height', 'width'), itertools.product([1, 2, 3, 7], repeat=2))
def test_tiny_images(height, width):
    color = np.zeros((height, width, 3), np.uint8)
    for hole in range(height * width):
        depth_m = np.full((height, width), 1.5, np.float32)
        depth_m.flat[hole] = np.nan
        result = inpaint(depth_m, color=color, **NO_LIMIT)
        assert result.depth_m.shape == result.stddev_m.shape == (height, width)
        if height * width > 1:
            np.testing.assert_allclose(result.depth_m, 1.5, rtol=1e-6)
        else:
            assert np.isnan(result.depth_m).all()


def test_an_empty_image():
    assert inpaint(np.empty((0, 0), np.float32), **NO_LIMIT).depth_m.shape == (0, 0)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'stddev_m': np.zeros((3, 3), np.float32)}, 'same height'),
        ({'color': np.zeros((4, 4), np.uint8)}, 'registered'),
        ({'max_hole_px': -1.0}, '0 or greater'),
        ({'max_distance_m': np.nan}, '0 or greater'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        inpaint(np.ones((4, 4), np.float32), **{**NO_LIMIT, **arguments})


def test_beats_the_nearest_measurement_on_real_holes(recording):
    folder = recording('kinect_v1_kitchen')
    unit_m = json.loads((folder / 'camera.json').read_text())['depth_unit_m']
    ours, baseline = [], []
    for path in sorted((folder / 'reference').glob('*.png'))[::9]:
        reference_m, depth_m = (
            cv2.imread(str(folder / kind / path.name), cv2.IMREAD_UNCHANGED).astype(np.float32)
            * unit_m
            for kind in ('reference', 'depth')
        )
        scored = (depth_m == 0) & (reference_m > 0) & (reference_m < 4)
        _, labels = cv2.distanceTransformWithLabels(
            (depth_m == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest_m = depth_m[depth_m > 0][labels - 1]
        filled_m = inpaint(depth_m, **NO_LIMIT).depth_m
        ours.append(np.abs(filled_m - reference_m)[scored])
        baseline.append(np.abs(nearest_m - reference_m)[scored])
    assert np.concatenate(ours).mean() < 0.97 * np.concatenate(baseline).mean()
