from __future__ import annotations

import json

import numpy as np
import pytest

from depth_refiner_ros.metrics import (
    StddevCalibration,
    from_json,
    stddev_calibration,
    to_json,
)

NAN = np.nan


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def gaussian(
    seed: int, believed: float = 1.0, pixels: int = 200_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, standard deviation and reference, where errors scale with the standard deviation."""
    rng = np.random.default_rng(seed)
    stddev_m = rng.lognormal(-4, 0.7, (1, pixels))
    depth_m = 3 + stddev_m * rng.standard_normal((1, pixels))
    reference_m = np.full((1, pixels), 3.0)
    images = depth_m, stddev_m * believed, reference_m
    return tuple(image.astype(np.float32) for image in images)  # type: ignore[return-value]


def sparsified(
    depth_m: np.ndarray, stddev_m: np.ndarray, reference_m: np.ndarray, power: int
) -> float:
    """AUSE by sorting all pixels."""
    error = np.abs(depth_m.astype(float) - reference_m).ravel() ** power
    curves = []
    for key in (stddev_m.ravel(), error):
        kept = error[np.argsort(key)]
        sizes = [round((1 - removed / 100) * len(kept)) for removed in range(100)]
        curve = np.array([kept[:size].mean() for size in sizes]) ** (1 / power)
        curves.append(curve / curve[0])
    difference = curves[0] - curves[1]
    return float(((difference[1:] + difference[:-1]) / 2).sum() / 100)


def test_worked_out_by_hand():
    # Errors 1, 1, 3 sigma; the fourth pixel has no standard deviation, the fifth no reference.
    calibration = stddev_calibration(
        row(1.25, 1.5, 5.0, 1.0, 1.0), row(0.25, 0.5, 1.0, NAN, 1.0), row(1, 1, 2, 1, NAN)
    )
    metrics = calibration.metrics()
    assert metrics['stddev_coverage'] == pytest.approx(3 / 4)
    assert metrics['within_1_sigma'] == pytest.approx(2 / 3)
    assert metrics['within_2_sigma'] == pytest.approx(2 / 3)
    log_sigma = np.log(0.25 * 0.5 * 1.0)
    gaussian_nats = 1.5 * np.log(2 * np.pi) + log_sigma + (1 + 1 + 9) / 2
    laplace_nats = 1.5 * np.log(2) + log_sigma + np.sqrt(2) * (1 + 1 + 3)
    assert metrics['nll_gaussian'] == pytest.approx(gaussian_nats / 3)
    assert metrics['nll_laplace'] == pytest.approx(laplace_nats / 3)
    # The standard deviations order the pixels as their errors do.
    assert metrics['ause_mae'] == pytest.approx(0, abs=1e-9)
    assert metrics['ause_rmse'] == pytest.approx(0, abs=1e-9)


def test_honest_gaussian_errors():
    metrics = stddev_calibration(*gaussian(0)).metrics()
    assert metrics['within_1_sigma'] == pytest.approx(0.683, abs=0.003)
    assert metrics['within_2_sigma'] == pytest.approx(0.954, abs=0.003)
    for believed in (0.5, 2.0):
        biased = stddev_calibration(*gaussian(0, believed)).metrics()
        assert metrics['nll_gaussian'] < biased['nll_gaussian']
        # The order of the pixels, all that sparsification sees, is the same.
        assert biased['ause_mae'] == pytest.approx(metrics['ause_mae'], abs=1e-3)


@pytest.mark.parametrize(('name', 'power'), [('ause_mae', 1), ('ause_rmse', 2)])
def test_ause_equals_sorting_all_pixels(name, power):
    images = gaussian(1)
    expected = sparsified(*images, power)
    assert stddev_calibration(*images).metrics()[name] == pytest.approx(expected, abs=1e-3)


def test_curves():
    curves = stddev_calibration(*gaussian(2)).sparsification()
    assert curves.by_stddev[0] == curves.oracle[0] == pytest.approx(1)
    assert (np.diff(curves.oracle) < 0).all()
    assert (curves.by_stddev >= curves.oracle - 1e-9).all()


def test_a_standard_deviation_that_knows_nothing_keeps_the_error():
    depth_m, stddev_m, reference_m = gaussian(3)
    curves = stddev_calibration(depth_m, np.ones_like(stddev_m), reference_m).sparsification()
    assert curves.by_stddev == pytest.approx(np.ones(100))


def test_frames_pool():
    frames = [gaussian(seed, pixels=1000) for seed in (4, 5)]
    pooled = sum((stddev_calibration(*frame) for frame in frames), StddevCalibration())
    whole = stddev_calibration(*(np.hstack(images) for images in zip(*frames, strict=True)))
    assert pooled.metrics() == pytest.approx(whole.metrics())
    restored = from_json(StddevCalibration, json.loads(json.dumps(to_json(pooled))))
    assert restored.metrics() == pooled.metrics()


def test_region():
    images = gaussian(6, pixels=100)
    region = np.arange(100)[None] < 30
    assert stddev_calibration(*images, region).count == 30


def test_nothing_to_say():
    assert all(np.isnan(value) for value in StddevCalibration().metrics().values())
    perfect = stddev_calibration(row(1, 2), row(0.1, 0.1), row(1, 2)).metrics()
    assert perfect['ause_mae'] == perfect['ause_rmse'] == 0
