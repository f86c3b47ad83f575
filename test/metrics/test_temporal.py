from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.metrics import Flicker, TemporalNoise

NAN = np.nan


def flicker(frames: list[list[float]], static: list[bool] | None = None) -> TemporalNoise:
    watch = Flicker(None if static is None else np.array([static]))
    for row in frames:
        watch.add(np.array([row], np.float32))
    return watch.result()


def test_worked_out_by_hand():
    noise = flicker([[1.0, 2.0, NAN], [1.1, 2.0, 3.0], [1.0, NAN, 3.0]])
    metrics = noise.metrics()
    # |changes| 0.1, 0.1 | 0 | 0; six transitions of which two gain or lose the depth.
    assert metrics['flicker_mm'] == pytest.approx(50, rel=1e-5)
    assert metrics['blink_rate'] == pytest.approx(2 / 6)
    # Standard deviations of (1, 1.1, 1), (2, 2) and (3, 3).
    assert metrics['temporal_stddev_mm'] == pytest.approx(1000 * np.sqrt(0.01 / 3) / 3, rel=1e-5)


def test_only_static_pixels_count():
    noise = flicker([[1.0, 2.0], [1.1, 4.0]], [True, False])
    assert noise.transitions == 1
    assert noise.metrics()['flicker_mm'] == pytest.approx(100, rel=1e-5)


def test_a_gap_is_not_bridged():
    assert flicker([[1.0], [NAN], [2.0]]).compared == 0


def test_independent_noise():
    rng = np.random.default_rng(0)
    watch = Flicker()
    for _ in range(30):
        watch.add(rng.normal(5, 0.01, (100, 100)).astype(np.float32))
    metrics = watch.result().metrics()
    assert metrics['flicker_mm'] == pytest.approx(10 * 2 / np.sqrt(np.pi), rel=0.01)
    # Mean of the sample standard deviation of 30 values: c4(30) = 0.9914.
    assert metrics['temporal_stddev_mm'] == pytest.approx(9.914, rel=0.01)


def test_sequences_pool():
    first, second = flicker([[1.0], [1.1]]), flicker([[2.0, 2.0], [2.4, 2.4]])
    assert (first + second).metrics()['flicker_mm'] == pytest.approx(300, rel=1e-5)


def test_too_short_to_say():
    for noise in (Flicker().result(), flicker([[1.0]])):
        assert all(np.isnan(value) for value in noise.metrics().values())


def test_sizes_must_agree():
    with pytest.raises(ValueError, match='one size'):
        flicker([[1.0], [1.0, 2.0]])
