import math

import numpy as np
import pytest

pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.sensors.statistics import (
    UNITS,
    edge_profiles,
    fattening,
    find_edges,
    holes,
    inverse_depth,
    measured,
    noise_by_distance,
    over_time,
    surface_noise,
    surface_stddev_m,
    wasserstein,
)

NAN = math.nan


def box_before_wall(left=40, right=80, near_m=1.0, far_m=2.0):
    depth_m = np.full((60, 120), far_m, np.float32)
    depth_m[10:50, left:right] = near_m
    return depth_m


def test_inverse_depth_is_nothing_where_there_is_no_return():
    depth_m = np.array([[2.0, NAN, 0.0, -1.0, np.inf, 0.25]], np.float32)
    np.testing.assert_array_equal(inverse_depth(depth_m), [[0.5, 0, 0, 0, 0, 4]])


def test_holes_are_counted_measured_and_their_depth_in_pixels_told():
    depth_m = np.ones((10, 20), np.float32)
    depth_m[2:5, 3:6] = NAN  # nine pixels
    depth_m[7, 10:12] = 0  # two
    found = holes(depth_m)
    assert found['hole_share'] == pytest.approx([11 / 200])
    assert sorted(found['hole_area_log10_px']) == pytest.approx([math.log10(2), math.log10(9)])
    # The middle of the nine is two pixels from a measurement, all others one.
    assert sorted(found['hole_distance_px']) == pytest.approx([1] * 10 + [2], abs=0.01)
    assert holes(np.ones((4, 4), np.float32)).keys() == {'hole_share'}
    assert holes(np.full((4, 4), np.nan, np.float32))['hole_share'] == [1.0]


def test_noise_of_a_plane_is_that_of_its_inverse_depth():
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:200, :240]
    plane = 0.5 + 0.0004 * u - 0.0003 * v
    white = rng.standard_normal(plane.shape)
    found = surface_noise((1 / (plane + 0.002 * white)).astype(np.float32))
    # A window's mean takes 1 / 81 of the variance; 0.002 per metre are 2 per km.
    assert np.median(found['noise_per_km']) == pytest.approx(2 * math.sqrt(80 / 81), rel=0.02)
    # Less its mean over 9x9, white noise correlates with its neighbour by
    # (-2 / 81 + 72 / 81^2) / (80 / 81).
    assert found['noise_correlation_1px'] == pytest.approx([-0.0139], abs=0.015)
    along_rows = (white[:, 1:] + white[:, :-1]) / math.sqrt(2)
    found = surface_noise((1 / (plane[:, 1:] + 0.002 * along_rows)).astype(np.float32))
    # A half along rows and nothing along columns, less what the window takes.
    assert found['noise_correlation_1px'] == pytest.approx([0.25], abs=0.03)
    assert found['noise_correlation_4px'] == pytest.approx([0], abs=0.04)


def test_noise_is_in_metres_at_its_distance():
    rng = np.random.default_rng(1)
    depth_m = np.full((120, 160), 2.0) + 0.004 * rng.standard_normal((120, 160))
    depth_m = depth_m.astype(np.float32)
    depth_m[:, 80] = NAN
    stddev_m = surface_stddev_m(depth_m)
    assert np.isnan(stddev_m[:, 80]).all()
    assert np.nanmedian(stddev_m) == pytest.approx(0.004, rel=0.03)
    binned = noise_by_distance(depth_m, stddev_m, np.array([0.5, 1.5, 2.5, 3.5]))
    assert binned[1] == pytest.approx(np.nanmedian(stddev_m), rel=1e-6)
    assert np.isnan(binned[[0, 2]]).all()


def test_edges_have_a_gap_and_flying_pixels():
    #         0    1    2    3    4    5    6     7    8    9    10   11
    row = [1.0, 1.0, 1.0, 1.0, NAN, NAN, 1.4, NAN, 2.0, 2.0, 2.0, 2.0]
    depth_m = np.array([row, row[::-1], [2.0] * 12], np.float32)
    edges = find_edges(depth_m)
    assert edges.row.tolist() == [0, 1]
    assert edges.left.tolist() == [3, 3]
    assert edges.right.tolist() == [8, 8]
    assert edges.near_left.tolist() == [True, False]
    assert edges.gap_px.tolist() == [3, 3]
    assert edges.flying_px.tolist() == [1, 1]


def test_a_step_too_small_or_a_hole_within_a_surface_is_no_edge():
    small = np.array([[2.0] * 5 + [2.2] * 5], np.float32)  # 0.045 per metre
    hole = np.array([[2.0] * 5 + [NAN] * 3 + [2.0] * 5], np.float32)
    assert find_edges(small).row.size == 0
    assert find_edges(hole).row.size == 0


def test_profiles_tell_left_from_right_and_ragged_from_straight():
    depth_m = box_before_wall()
    depth_m[10:50, 33:40] = NAN  # a shadow of seven pixels left of the box
    found = edge_profiles(depth_m)
    assert set(found['near_right_gap_px']) == {7}
    assert set(found['near_left_gap_px']) == {0}
    assert set(found['flying_px']) == {0}
    assert set(found['raggedness_px']) == {0}
    # Every other row of the box ends one pixel later: second differences of 2.
    depth_m[10:50:2, 80] = 1.0
    ragged = edge_profiles(depth_m)['raggedness_px']
    assert sorted(set(ragged)) == [0, 2]
    assert (ragged == 2).mean() == pytest.approx(0.5, abs=0.01)
    assert edge_profiles(np.full((60, 120), 2, np.float32)) == {}


@pytest.mark.parametrize('grown_px', [-3, 0, 2, 5])
def test_fattening_is_how_far_outlines_have_moved_outwards(grown_px):
    seen_m = box_before_wall(40 - grown_px, 80 + grown_px)
    assert set(fattening(seen_m, box_before_wall())['fattening_px']) == {grown_px}


def test_an_outline_of_another_depth_is_another_outline():
    assert fattening(box_before_wall(near_m=0.7), box_before_wall()) == {}


def test_flicker_noise_and_what_repeats_over_time():
    rng = np.random.default_rng(2)
    frames, shape = 8, (80, 100)
    fixed = rng.standard_normal(shape)
    inverse = [0.5 + 0.002 * (2 * fixed + rng.standard_normal(shape)) for _ in range(frames)]
    frames_m = [(1 / image).astype(np.float32) for image in inverse]
    for number in range(0, frames, 2):
        frames_m[number][:8, :10] = np.nan  # one pixel in a hundred comes and goes
    found = over_time(frames_m, np.ones(shape, np.bool_))
    assert found['flicker_share'] == pytest.approx([0.01] * 7)
    # 0.002 per metre are 2 per km.
    scatter = found['temporal_noise_per_km']
    assert np.sqrt(np.square(scatter).mean()) == pytest.approx(2, rel=0.03)
    assert np.mean(found['temporal_correlation_1px']) == pytest.approx(0, abs=0.02)
    # Variances of 4 and of 1.
    assert found['repeating_share'] == pytest.approx([0.8], abs=0.03)


def test_what_moves_is_left_out():
    rng = np.random.default_rng(4)
    frames_m = [(2 + 1e-3 * rng.standard_normal((30, 40))).astype(np.float32) for _ in range(5)]
    still = np.ones((30, 40), np.bool_)
    still[10:20] = False
    for number, frame_m in enumerate(frames_m):
        frame_m[10:20] += 0.01 * number
        frame_m[10:12] = np.nan if number % 2 else 2
    found = over_time(frames_m, still)
    assert found['temporal_noise_per_km'].max() < 1  # 1 mm at 2 m is 0.25 per km
    assert (found['flicker_share'] == 0).all()


def test_wasserstein_is_how_far_samples_must_be_carried():
    first = np.array([0.0, 1.0, 3.0])
    assert wasserstein(first, first + 5) == pytest.approx(5)
    assert wasserstein(first, first) == 0
    assert wasserstein(first, np.array([5.0, 6.0, 8.0, NAN])) == pytest.approx(5)
    # A uniform distribution over 0 to 1 and one over 0 to 2: the mean of q over 0 to 1.
    even = np.linspace(0, 1, 2001)
    assert wasserstein(even, 2 * even) == pytest.approx(0.5, abs=1e-3)
    assert wasserstein(2 * even, even) == pytest.approx(0.5, abs=1e-3)
    assert math.isnan(wasserstein(first, np.array([NAN])))


def test_all_that_is_measured_has_a_unit():
    rng = np.random.default_rng(3)
    frames_m = []
    for _ in range(5):
        frame_m = box_before_wall() + 0.003 * rng.standard_normal((60, 120)).astype(np.float32)
        frame_m[20:24, 60:64] = np.nan
        frames_m.append(frame_m)
    found = measured(frames_m, np.ones((60, 120), np.bool_), [box_before_wall()])
    assert found.keys() == UNITS.keys()
    assert found['hole_share'].shape == (5,)
    assert 'flicker_share' not in measured(frames_m[:4], np.ones((60, 120), np.bool_))
