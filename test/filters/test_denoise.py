from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.filters import denoise
from depth_refiner_ros.filters.denoise import smooth
from depth_refiner_ros.filters.noise import SENSORS

HEIGHT, WIDTH = 120, 160


def plane(slope_x: float = 6e-4, slope_y: float = -3e-4) -> np.ndarray:
    """A slanted plane near 1 m: affine in inverse depth."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (1 / (0.95 + slope_x * x + slope_y * y)).astype(np.float32)


def uniform(value_m: float) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), value_m, np.float32)


def noisy(truth: np.ndarray, stddev_m: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(truth.shape)
    return truth + np.float32(stddev_m) * noise.astype(np.float32)


@pytest.mark.parametrize('scales', [1, 2, 3])
@pytest.mark.parametrize('slopes', [(0.0, 0.0), (6e-4, -3e-4), (5e-3, 2e-3)])
def test_an_exact_plane_stays_where_it_is(scales, slopes):
    truth = plane(*slopes)
    depth, stddev = smooth(truth, uniform(0.002), scales=scales)
    assert depth.dtype == stddev.dtype == np.float32
    np.testing.assert_allclose(depth, truth, rtol=2e-6)


@pytest.mark.parametrize('scales', [1, 2, 3])
@pytest.mark.parametrize('strength', [0.3, 1.0])
def test_white_noise_shrinks_by_what_the_standard_deviation_says(scales, strength):
    truth = plane()
    depth, stddev = smooth(noisy(truth, 0.002), uniform(0.002), scales=scales, strength=strength)
    inside = np.s_[15:-15, 15:-15]
    error = (depth - truth)[inside]
    assert abs(error.mean()) < 1e-4
    assert error.std() == pytest.approx(stddev[inside].mean(), rel=0.15)
    assert error.std() < 0.002 * (1 - 0.4 * strength)


def test_the_full_weight_leaves_what_the_kernel_leaves():
    # [1 2 1] / 4 in both directions: (6 / 16)^2 of the variance.
    assert denoise._stddev_ratio(1, 1.0, 0.0) == pytest.approx(6 / 16)
    # [1 2 1] convolved with [1 0 0 2 0 0 1]: 36 / 256 of the variance in each direction.
    assert denoise._stddev_ratio(2, 1.0, 0.0) == pytest.approx(36 / 256)
    assert denoise._stddev_ratio(2, 0.0, 0.0) == pytest.approx(1)


def test_correlated_noise_is_not_promised_to_average_out():
    noise, inside = uniform(0.002), np.s_[5:-5, 5:-5]
    independent = smooth(plane(), noise).stddev_m[inside].mean()
    correlated = smooth(plane(), noise, correlation_px=2.2).stddev_m[inside].mean()
    assert correlated > 2 * independent
    floored = smooth(plane(), noise, floor_m=uniform(0.0015)).stddev_m[inside]
    np.testing.assert_allclose(floored, 0.0015, rtol=1e-6)


@pytest.mark.parametrize('step_m', [0.02, 0.2, 2.0])
def test_a_step_edge_is_not_blended(step_m):
    truth = uniform(1.0)
    truth[:, 80:] += step_m
    depth, _ = smooth(noisy(truth, 0.001), uniform(0.001))
    assert np.abs(depth - truth).max() < 0.005
    assert np.abs(depth - truth)[:, 76:84].mean() < 0.001


def test_a_line_one_pixel_wide_survives():
    truth = uniform(1.5)
    truth[:, 50] = 1.0
    truth[30] = 1.2
    depth, _ = smooth(truth, uniform(0.002))
    np.testing.assert_allclose(depth, truth, rtol=1e-6)


def test_what_rounding_explains_is_left_alone():
    noise = SENSORS['kinect_v1']
    disparity_px = np.round(8 * 43.5 / plane(2e-4, 0)) / 8
    depth = (43.5 / disparity_px).astype(np.float32)
    sigma, step = noise.stddev_m(depth, 580.0), noise.quantization_m(depth, 580.0)
    kept, _ = smooth(depth, sigma, quantization_m=step)
    np.testing.assert_allclose(kept, depth, rtol=1e-6)
    # A pixel more than a step off is noise all the same.
    speckled = depth.copy()
    speckled[60, 80] += 1.3 * step[60, 80]
    corrected, _ = smooth(speckled, sigma, quantization_m=step)
    moved = corrected[60, 80] - speckled[60, 80]
    assert -1.3 * step[60, 80] < moved < -0.1 * step[60, 80]


def test_without_return_nothing_appears_and_nothing_leaks():
    truth = noisy(plane(), 0.001)
    holed = truth.copy()
    holed[40:60, 50:90] = np.nan
    holed[0] = np.inf
    holed[1] = 0
    depth, stddev = smooth(holed, uniform(0.001))
    hole = ~(np.isfinite(holed) & (holed > 0))
    assert np.isnan(depth[hole]).all()
    assert np.isnan(stddev[hole]).all()
    assert np.isfinite(depth[~hole]).all()
    assert np.abs(depth - truth)[~hole].max() < 0.005


def test_an_uncertain_pixel_does_not_take_part_of_a_hole():
    depth = uniform(1.0)
    depth[60] = np.nan
    smoothed, _ = smooth(depth, uniform(1.0))
    np.testing.assert_allclose(smoothed[np.isfinite(depth)], 1.0, rtol=1e-6)


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (7, 1), (2, 3), (97, 5)])
@pytest.mark.parametrize('value', [1.0, np.nan, np.inf])
def test_any_shape_and_nothing_at_all(shape, value):
    depth = np.full(shape, value, np.float32)
    smoothed, stddev = smooth(depth, np.full(shape, 0.001, np.float32), scales=3)
    assert smoothed.shape == stddev.shape == shape
    expected = np.full(shape, value if np.isfinite(value) else np.nan)
    np.testing.assert_allclose(smoothed, expected)


@pytest.mark.parametrize('scales', [1, 2, 3])
def test_pairs_agree_with_a_loop_over_pixels(scales):
    """In double precision, pass by pass over the whole image, with holes and an edge."""
    depth, sigma = noisy(plane(), 0.002)[:23, :31].copy(), 0.002
    depth[:, 20:] += 0.5
    depth[5:8, 3:9] = np.nan
    z = np.where(np.isnan(depth), 1e4, depth).astype(np.float64)
    gate = 3 * np.where(np.isnan(depth), 1 / 3, np.minimum(sigma, 0.2 / 3 * z)) / z**2
    inverse = 1 / z
    for offset in [1, 3, 9][:scales]:
        for dy, dx in ((0, offset), (offset, 0)):
            padded = np.pad(inverse, 9, constant_values=1e-4)
            first = padded[9 - dy : 32 - dy, 9 - dx : 40 - dx]
            second = padded[9 + dy : 32 + dy, 9 + dx : 40 + dx]
            residual = (first + second) / 2 - inverse
            agreement = np.maximum(1 - (residual / gate) ** 2, 0)
            inverse = inverse + 0.5 * agreement * residual
    got, _ = smooth(depth, np.full_like(depth, sigma), scales=scales)
    np.testing.assert_allclose(got, np.where(np.isnan(depth), np.nan, 1 / inverse), rtol=2e-6)


def test_inputs_are_read_only():
    depth, sigma = noisy(plane(), 0.002), uniform(0.002)
    depth.flags.writeable = sigma.flags.writeable = False
    first = smooth(depth, sigma, floor_m=sigma, quantization_m=sigma)
    second = smooth(depth, sigma, floor_m=sigma, quantization_m=sigma)
    np.testing.assert_array_equal(first.depth_m, second.depth_m)


def test_strength_zero_changes_nothing():
    depth = noisy(plane(), 0.002)
    smoothed, stddev = smooth(depth, uniform(0.002), strength=0.0)
    np.testing.assert_allclose(smoothed, depth, rtol=1e-6)
    np.testing.assert_allclose(stddev, 0.002, rtol=1e-6)


@pytest.mark.parametrize('wrong', [{'strength': 1.5}, {'strength': -0.1}, {'scales': 0}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        smooth(plane(), uniform(0.002), **wrong)
