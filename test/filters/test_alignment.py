import numpy as np
import pytest

from depth_refiner_ros.filters.alignment import Alignment, fit_alignment


def slope(shape=(40, 50)):
    rows = np.linspace(1.0, 4.0, shape[0], dtype=np.float32)
    return np.repeat(rows[:, None], shape[1], 1)


def test_finds_scale_and_shift_of_inverse_depth():
    estimate_m = slope()
    measured_m = (1 / (0.8 / estimate_m + 0.05)).astype(np.float32)
    found = fit_alignment(estimate_m, measured_m)
    assert found.scale == pytest.approx(0.8, rel=1e-3)
    assert found.shift == pytest.approx(0.05, abs=1e-3)
    assert found.error < 1e-3
    np.testing.assert_allclose(found(estimate_m), measured_m, rtol=1e-3)


def test_what_the_estimate_missed_does_not_pull():
    estimate_m = slope()
    measured_m = (1 / (0.8 / estimate_m + 0.05)).astype(np.float32)
    measured_m[:, :15] = 0.6  # a person in front, a third of the picture
    found = fit_alignment(estimate_m, measured_m)
    assert found.scale == pytest.approx(0.8, rel=0.02)
    assert found.shift == pytest.approx(0.05, abs=0.01)


def test_a_flat_estimate_takes_the_median_scale():
    found = fit_alignment(np.full((10, 10), 2.0, np.float32), np.full((10, 10), 3.0, np.float32))
    np.testing.assert_allclose(found(np.array([[2.0]], np.float32)), 3.0, rtol=1e-3)


def test_a_shift_that_makes_no_sense_is_left_out():
    # The best line through these has a negative scale: nearer where it should be farther.
    measured_m = 1.5 * slope() + np.where(slope() < 2.5, 2.0, -2.0).astype(np.float32)
    found = fit_alignment(slope(), measured_m)
    assert found.shift == 0
    assert found.scale > 0


def wrong_in_fifty(measured_m):
    """Two per cent of the measurements say anything between 0.3 and 8 m."""
    rng = np.random.default_rng(3)
    wrong = rng.random(measured_m.shape) < 0.02
    return np.where(wrong, rng.uniform(0.3, 8, measured_m.shape), measured_m).astype(np.float32)


@pytest.mark.parametrize(('scale', 'shift'), [(0.04, 0.21), (12.0, -0.3), (900.0, 0.0)])
def test_relative_inverse_depth_finds_its_metres_among_wrong_measurements(scale, shift):
    truth_m = slope()
    estimate = (scale / (1 / truth_m - shift)).astype(np.float32)
    found = fit_alignment(estimate, wrong_in_fifty(truth_m), 'affine_inverse')
    assert (found.scale, found.shift) == pytest.approx((scale, shift), rel=1e-3, abs=1e-4)
    np.testing.assert_allclose(found(estimate), truth_m, rtol=1e-3)


def test_relative_depth_finds_its_metres_among_wrong_measurements():
    truth_m = slope()
    estimate = ((truth_m + 0.4) / 7).astype(np.float32)
    found = fit_alignment(estimate, wrong_in_fifty(truth_m), 'affine')
    assert (found.scale, found.shift) == pytest.approx((7, -0.4), rel=1e-3)
    np.testing.assert_allclose(found(estimate), truth_m, rtol=1e-3)


@pytest.mark.parametrize('ambiguity', ['affine', 'affine_inverse'])
def test_relative_depth_without_anything_to_hold_on_to_stays_relative(ambiguity):
    # A wall tells no scale, and what grows where it should shrink is no depth.
    assert fit_alignment(slope(), np.full((40, 50), 2, np.float32), ambiguity) is None
    assert fit_alignment(slope(), 6 - slope(), ambiguity) is None


@pytest.mark.parametrize(
    'measured_m',
    [np.full((10, 10), np.nan), np.zeros((10, 10)), np.full((10, 10), 1e6), np.full((1, 1), 1.0)],
)
def test_nothing_to_align_to(measured_m):
    estimate_m = np.full(measured_m.shape, 1.0, np.float32)
    assert fit_alignment(estimate_m, measured_m.astype(np.float32)) is None


def test_beyond_infinity_is_no_depth():
    # 1 / 10 - 0.15 is behind the camera; 1 / 5 - 0.15 is 20 m away.
    moved_m = Alignment(1.0, -0.15, 0.0)(np.array([10.0, 5.0, np.nan], np.float32))
    assert np.isnan(moved_m[[0, 2]]).all()
    assert moved_m[1] == pytest.approx(20.0, rel=1e-5)
