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
    assert found.shift_per_m == pytest.approx(0.05, abs=1e-3)
    assert found.error < 1e-3
    np.testing.assert_allclose(found(estimate_m), measured_m, rtol=1e-3)


def test_what_the_estimate_missed_does_not_pull():
    estimate_m = slope()
    measured_m = (1 / (0.8 / estimate_m + 0.05)).astype(np.float32)
    measured_m[:, :15] = 0.6  # a person in front, a third of the picture
    found = fit_alignment(estimate_m, measured_m)
    assert found.scale == pytest.approx(0.8, rel=0.02)
    assert found.shift_per_m == pytest.approx(0.05, abs=0.01)


def test_a_flat_estimate_takes_the_median_scale():
    found = fit_alignment(np.full((10, 10), 2.0, np.float32), np.full((10, 10), 3.0, np.float32))
    np.testing.assert_allclose(found(np.array([[2.0]], np.float32)), 3.0, rtol=1e-3)


def test_scale_alone_on_request():
    found = fit_alignment(slope(), 1.5 * slope(), shift=False)
    assert found.scale == pytest.approx(1 / 1.5, rel=1e-3)
    assert found.shift_per_m == 0


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
