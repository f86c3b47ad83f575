from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.filters.noise import (
    SENSORS,
    StereoNoise,
    nguyen_stddev_m,
)


def depth(*values_m: float) -> np.ndarray:
    return np.array([values_m], np.float32)


@pytest.mark.parametrize('name', SENSORS)
def test_every_sensor_gives_float32_metres_that_grow_with_distance(name):
    noise = SENSORS[name]
    z = depth(1.0, 2.0, 4.0, np.nan)
    for values in (noise.stddev_m(z, 580.0), noise.floor_m(z, 580.0)):
        assert values.dtype == np.float32
        assert values.shape == z.shape
        assert (np.diff(values[0, :3]) > 0).all()
        assert 0 < values[0, 0] < 0.02
        assert np.isnan(values[0, 3])
    assert np.isnan(noise.quantization_m(z, 580.0)[0, 3])
    assert noise.source


@pytest.mark.parametrize('name', SENSORS)
def test_averaging_leaves_less_than_one_reading_has(name):
    z = depth(0.5, 1.0, 2.0, 3.0, 4.0)
    assert (SENSORS[name].floor_m(z, 580.0) < SENSORS[name].stddev_m(z, 580.0)).all()


@pytest.mark.parametrize('name', SENSORS)
def test_the_depth_that_was_asked_about_is_left_alone(name):
    z = depth(1.0, np.nan, 2.0)
    z.flags.writeable = False
    angle = np.zeros_like(z)
    SENSORS[name].stddev_m(z, 580.0, angle)
    SENSORS[name].floor_m(z, 580.0)
    SENSORS[name].quantization_m(z, 580.0)


def test_kinect_v1_follows_nguyen():
    noise = SENSORS['kinect_v1']
    # 1.2 + 1.9 * 0.6^2 and 1.2 + 1.9 * 2.6^2 millimetres.
    np.testing.assert_allclose(
        noise.stddev_m(depth(1.0, 3.0), 580.0), [[1.884e-3, 14.044e-3]], rtol=1e-5
    )
    # At 45 degrees angle / (pi/2 - angle) is 1, and 0.1 mm / sqrt(4) is 0.05 mm.
    inclined = noise.stddev_m(depth(4.0), 580.0, depth(np.pi / 4))
    np.testing.assert_allclose(inclined, [[1.2e-3 + 1.9e-3 * 3.6**2 + 0.05e-3]], rtol=1e-5)


def test_nguyens_formula_facing_the_camera():
    np.testing.assert_allclose(
        nguyen_stddev_m(depth(0.4, 1.4, 2.4)), [[0.0012, 0.0031, 0.0088]], rtol=1e-5
    )


def test_kinect_v1_reports_eighths_of_a_pixel():
    noise = SENSORS['kinect_v1']
    z = depth(1.0, 3.0, 5.0)
    step = noise.quantization_m(z, 580.0)
    np.testing.assert_allclose(step, [[2.8736e-3, 25.862e-3, 71.839e-3]], rtol=1e-4)
    # The step is the distance to the depth one eighth of a pixel of disparity further.
    disparity_px = 580 * 0.075 / z
    np.testing.assert_allclose(580 * 0.075 / (disparity_px - 0.125) - z, step, rtol=0.03)
    np.testing.assert_allclose(noise.floor_m(z, 580.0), step / 12**0.5, rtol=1e-6)


def test_kinect_v2_follows_fankhauser():
    noise = SENSORS['kinect_v2']
    # 1.5 - 0.5 z + 0.3 z^2 millimetres.
    np.testing.assert_allclose(
        noise.stddev_m(depth(1.0, 4.0), 365.0), [[1.3e-3, 4.3e-3]], rtol=1e-5
    )
    # At 45 degrees 0.1 z^1.5 more: 0.8 mm at 4 m.
    np.testing.assert_allclose(
        noise.stddev_m(depth(4.0), 365.0, depth(np.pi / 4)), [[5.1e-3]], rtol=1e-5
    )


def test_azure_kinect_reaches_its_specified_bound_at_the_end_of_its_range():
    np.testing.assert_allclose(
        SENSORS['azure_kinect'].stddev_m(depth(3.86), 505.0), [[17e-3]], rtol=1e-5
    )


def test_stereo_noise_follows_from_the_disparity():
    # 4 m^2 * 0.08 px / (640 px * 0.05 m) is 10 mm; rounding to 1 mm adds 0.29 mm in square.
    np.testing.assert_allclose(
        SENSORS['realsense_d400'].stddev_m(depth(2.0), 640.0),
        [[np.hypot(10e-3, 1e-3 / 12**0.5)]],
        rtol=1e-5,
    )
    # 1 m^2 / (640 px * 0.05 m * 32) is just under the millimetre the camera reports in.
    np.testing.assert_allclose(
        SENSORS['realsense_d400'].quantization_m(depth(1.0, 2.0), 640.0),
        [[1e-3, 4 / (640 * 0.05 * 32)]],
        rtol=1e-5,
    )


def test_stereo_noise_halves_with_twice_the_resolution():
    noise = StereoNoise(0.05, 0.08, 0.03, 1 / 32, 1e-6, 2.0, 'test')
    z = depth(1.0, 5.0)
    np.testing.assert_allclose(noise.stddev_m(z, 424.0), 2 * noise.stddev_m(z, 848.0), rtol=1e-4)


def test_a_grazing_ray_is_noisier_and_finite():
    for name in ('kinect_v1', 'kinect_v2'):
        angle = depth(0.0, np.deg2rad(60), np.deg2rad(80), np.deg2rad(90))
        stddev = SENSORS[name].stddev_m(depth(2, 2, 2, 2), 580.0, angle)
        assert np.isfinite(stddev).all()
        assert (np.diff(stddev[0, :3]) > 0).all()
        assert stddev[0, 3] == pytest.approx(stddev[0, 2], rel=1e-5)
