from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.data import Header, PinholeCamera
from depth_refiner_ros.filters.motion import STANDING_STILL, Motion
from depth_refiner_ros.filters.noise import SENSORS
from depth_refiner_ros.filters.temporal import TemporalFilter

SHAPE = (96, 128)
SIGMA_M = 0.004
FRAME_NS = 33_333_333


def sigma(value_m: float = SIGMA_M) -> np.ndarray:
    return np.full(SHAPE, value_m, np.float32)


def noisy(truth: np.ndarray | float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(SHAPE)
    return (truth + SIGMA_M * noise).astype(np.float32)


def run(temporal: TemporalFilter, truth: np.ndarray | float, frames: int, start: int = 0):
    for index in range(start, start + frames):
        result = temporal(noisy(truth, index), sigma(), index * FRAME_NS)
    return result


def test_the_first_frame_passes_unchanged():
    depth = noisy(1.0, 0)
    got = TemporalFilter()(depth, sigma(), 0)
    np.testing.assert_array_equal(got.depth_m, depth)
    np.testing.assert_allclose(got.stddev_m, SIGMA_M, rtol=1e-6)


def test_noise_shrinks_with_evidence_as_the_standard_deviation_says():
    temporal = TemporalFilter()
    previous = np.inf
    for index in range(10):
        depth, stddev = temporal(noisy(1.0, index), sigma(), index * FRAME_NS)
        assert stddev.mean() < previous
        previous = stddev.mean()
    error = depth - 1.0
    assert abs(error.mean()) < 1e-4
    assert error.std() == pytest.approx(stddev.mean(), rel=0.15)
    # A mean of ten frames leaves 0.32 of the noise; watching for motion costs some of that.
    assert error.std() < 0.42 * SIGMA_M


def test_memory_bounds_the_evidence():
    depth, stddev = run(TemporalFilter(memory_frames=4), 1.0, 40)
    # Gain 1/4 for ever: 1 / (2 * 4 - 1) of the variance is left, and sqrt(1/4) is claimed.
    assert stddev.mean() == pytest.approx(0.5 * SIGMA_M, rel=0.1)
    assert (depth - 1.0).std() < 0.5 * SIGMA_M


def test_one_frame_of_memory_is_no_memory():
    depth, _ = run(TemporalFilter(memory_frames=1), 1.0, 3)
    np.testing.assert_allclose(depth, noisy(1.0, 2), atol=2e-5)


@pytest.mark.parametrize('moved_m', [0.03, -0.03, 0.5, -0.5])
def test_what_moved_leaves_no_ghost(moved_m):
    temporal = TemporalFilter()
    scene = np.full(SHAPE, 1.5)
    scene[30:60, 40:60] = 1.2
    run(temporal, scene, 10)
    changed = np.full(SHAPE, 1.5)
    changed[30:60, 50:70] = 1.2 + moved_m
    frame = noisy(changed, 99)
    depth, stddev = temporal(frame, sigma(), 10 * FRAME_NS)
    differs = changed != scene
    np.testing.assert_array_equal(depth[differs], frame[differs])
    np.testing.assert_allclose(stddev[differs], SIGMA_M, rtol=1e-6)
    still = np.zeros(SHAPE, bool)
    still[80:, 100:] = True
    assert stddev[still].mean() < 0.5 * SIGMA_M


def test_a_slow_drift_within_the_noise_is_followed():
    temporal = TemporalFilter()
    run(temporal, 1.0, 15)
    for index in range(15, 45):
        truth = 1.0 + 0.5 * SIGMA_M * (index - 14)
        depth, _ = temporal(noisy(truth, index), sigma(), index * FRAME_NS)
    assert abs((depth - truth).mean()) < 0.75 * SIGMA_M
    # Never worse than the frame that came in.
    assert np.sqrt(((depth - truth) ** 2).mean()) < SIGMA_M


def test_one_quantisation_step_is_not_taken_for_motion():
    noise = SENSORS['kinect_v1']
    rng = np.random.default_rng(0)
    disparity_px = 14.4 + 0.06 * rng.standard_normal((30, *SHAPE))
    frames = (43.5 / (np.round(8 * disparity_px) / 8)).astype(np.float32)
    temporal, errors = TemporalFilter(), []
    for index, frame in enumerate(frames):
        got, _ = temporal(
            frame,
            noise.stddev_m(frame, 580.0),
            index * FRAME_NS,
            quantization_m=noise.quantization_m(frame, 580.0),
        )
        errors.append(np.abs(got - 43.5 / 14.4).mean())
    assert errors[-1] < 0.4 * errors[0]


def test_a_lost_return_is_not_made_up_and_starts_anew():
    temporal = TemporalFilter()
    run(temporal, 1.0, 10)
    gone = noisy(1.0, 10)
    gone[10:20, 10:20] = np.nan
    depth, stddev = temporal(gone, sigma(), 10 * FRAME_NS)
    assert np.isnan(depth[10:20, 10:20]).all()
    assert np.isnan(stddev[10:20, 10:20]).all()
    assert np.isfinite(depth).sum() == depth.size - 100
    back = noisy(1.0, 11)
    depth, _ = temporal(back, sigma(), 11 * FRAME_NS)
    np.testing.assert_array_equal(depth[10:20, 10:20], back[10:20, 10:20])


def test_a_dropout_is_bridged_for_as_many_frames_as_asked():
    temporal = TemporalFilter(bridge_frames=2)
    before = run(temporal, 1.0, 10)
    lost = np.full(SHAPE, np.nan, np.float32)
    for index in (10, 11):
        depth, stddev = temporal(lost, lost, index * FRAME_NS)
        np.testing.assert_array_equal(depth, before.depth_m)
        assert (stddev > before.stddev_m).all()
    depth, _ = temporal(lost, lost, 12 * FRAME_NS)
    assert np.isnan(depth).all()
    fresh = noisy(1.0, 13)
    depth, _ = temporal(fresh, sigma(), 13 * FRAME_NS)
    np.testing.assert_array_equal(depth, fresh)


@pytest.mark.parametrize('stamp_ns', [9 * FRAME_NS - 1, 9 * FRAME_NS + 500_000_001])
def test_time_that_runs_backwards_or_jumps_empties_the_filter(stamp_ns):
    temporal = TemporalFilter(max_gap_s=0.5)
    run(temporal, 1.0, 10)
    frame = noisy(1.0, 50)
    depth, _ = temporal(frame, sigma(), stamp_ns)
    np.testing.assert_array_equal(depth, frame)


def test_another_size_and_reset_empty_the_filter():
    temporal = TemporalFilter()
    run(temporal, 1.0, 10)
    small = noisy(1.0, 50)[:40, :50].copy()
    depth, _ = temporal(small, sigma()[:40, :50].copy(), 10 * FRAME_NS)
    np.testing.assert_array_equal(depth, small)
    temporal.reset()
    again = small + np.float32(0.001)
    depth, _ = temporal(again, sigma()[:40, :50].copy(), 11 * FRAME_NS)
    np.testing.assert_array_equal(depth, again)


def test_a_floor_stays():
    temporal = TemporalFilter()
    for index in range(20):
        _, stddev = temporal(noisy(1.0, index), sigma(), index * FRAME_NS, floor_m=sigma(0.002))
    assert stddev.min() == np.float32(0.002)
    assert np.median(stddev) == np.float32(0.002)


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (97, 3)])
@pytest.mark.parametrize('value', [1.0, np.nan, np.inf, 0.0])
def test_any_shape_and_nothing_at_all(shape, value):
    temporal = TemporalFilter()
    depth = np.full(shape, value, np.float32)
    stddev = np.full(shape, 0.001 * value, np.float32)
    depth.flags.writeable = stddev.flags.writeable = False
    for index in range(3):
        got = temporal(depth, stddev, index * FRAME_NS, floor_m=stddev, quantization_m=stddev)
        assert got.depth_m.shape == shape
        assert np.isfinite(got.depth_m).all() == (value == 1.0)


def test_the_same_frames_give_the_same_bits():
    first = run(TemporalFilter(), 1.0, 6)
    second = run(TemporalFilter(), 1.0, 6)
    np.testing.assert_array_equal(first.depth_m, second.depth_m)
    np.testing.assert_array_equal(first.stddev_m, second.stddev_m)


def test_what_was_returned_does_not_change_later():
    temporal = TemporalFilter()
    first, _ = temporal(noisy(1.0, 0), sigma(), 0)
    kept = first.copy()
    temporal(noisy(1.0, 1), sigma(), FRAME_NS)
    np.testing.assert_array_equal(first, kept)


CAMERA = PinholeCamera(Header(0, 'eye'), SHAPE[1], SHAPE[0], 100.0, 100.0, 63.5, 47.5)


def moved(x_m: float = 0.0, y_m: float = 0.0, z_m: float = 0.0, variance: float = 0.0) -> Motion:
    depth_variance = np.full((24, 32), variance, np.float32)
    return Motion(np.eye(3), np.array([x_m, y_m, z_m]), np.zeros((6, 6)), 0, '', depth_variance)


def slanted(x_m: float) -> np.ndarray:
    """A plane z = 2 + 0.5 x as a camera sees it that went to the right by x_m."""
    ray = (np.arange(SHAPE[1]) - CAMERA.cx) / CAMERA.fx
    return np.broadcast_to((2 + 0.5 * x_m) / (1 - 0.5 * ray), SHAPE).astype(np.float32)


def test_a_slanted_plane_is_averaged_as_the_camera_moves_along_it():
    temporal, rng = TemporalFilter(), np.random.default_rng(0)
    for index in range(12):
        # 0.55 px a frame at two metres: every fraction of a pixel comes up.
        truth = slanted(0.011 * index)
        depth = truth + SIGMA_M * rng.standard_normal(SHAPE).astype(np.float32)
        got = temporal(
            depth, sigma(), index * FRAME_NS, motion=moved(0.011 if index else 0), camera=CAMERA
        )
    error = (got.depth_m - truth)[:, 10:-16]
    assert abs(error.mean()) < 2e-4
    assert error.std() < 0.4 * SIGMA_M
    # Standing still it would lag by millimetres, and know it.
    still = TemporalFilter()
    for index in range(12):
        lagging = still(slanted(0.011 * index), sigma(), index * FRAME_NS)
    assert abs((lagging.depth_m - truth)[:, 10:-16].mean()) > 2e-4


def test_depth_changes_by_as_much_as_the_camera_comes_nearer():
    temporal = TemporalFilter()
    for index in range(10):
        frame = np.full(SHAPE, 2 - 0.03 * index, np.float32)
        got = temporal(
            frame, sigma(), index * FRAME_NS, motion=moved(z_m=0.03 if index else 0), camera=CAMERA
        )
    np.testing.assert_allclose(got.depth_m[8:-8, 8:-8], 1.73, atol=1e-5)
    assert got.stddev_m[8:-8, 8:-8].max() < 0.4 * SIGMA_M


def test_the_state_goes_where_the_points_go_and_edges_are_not_blended():
    scene = np.full(SHAPE, 2.0, np.float32)
    scene[:, 60:] = 1.0
    temporal = TemporalFilter()
    for index in range(10):
        temporal(scene, sigma(), index * FRAME_NS)
    # To the left by 20 mm: two pixels to the right near by, one far away.
    shifted = np.full(SHAPE, 2.0, np.float32)
    shifted[:, 62:] = 1.0
    depth, stddev = temporal(shifted, sigma(), 10 * FRAME_NS, motion=moved(-0.02), camera=CAMERA)
    np.testing.assert_array_equal(np.unique(depth), np.float32([1, 2]))
    np.testing.assert_array_equal(depth, shifted)
    assert stddev[40, 30] < 0.4 * SIGMA_M
    assert stddev[40, 90] < 0.4 * SIGMA_M
    # The background that was hidden has no past, that beside it has.
    assert stddev[40, 61] == pytest.approx(SIGMA_M, rel=1e-6)
    assert stddev[40, 60] < 0.4 * SIGMA_M


def test_the_uncertainty_of_the_motion_adds_to_that_of_the_state():
    results = []
    for variance in (0.0, SIGMA_M**2):
        temporal = TemporalFilter()
        for index in range(6):
            motion = moved(0.002, variance=variance) if index else STANDING_STILL
            frame = np.full(SHAPE, 1.0, np.float32)
            got = temporal(frame, sigma(), index * FRAME_NS, motion=motion, camera=CAMERA)
        results.append(got.stddev_m[48, 64])
    assert results[0] == pytest.approx(SIGMA_M / 6**0.5, rel=0.05)
    # The fixed point of p = (p + 1) / (p + 2) in variances of a reading is 0.618.
    assert results[1] == pytest.approx(SIGMA_M * 0.618**0.5, rel=0.02)


def test_what_moves_in_front_of_a_moving_camera_leaves_no_trail():
    temporal = TemporalFilter()
    for index in range(12):
        # 1 px a frame of the background; the thing in front moves by 6.
        scene = np.full(SHAPE, 2.0, np.float32)
        scene[30:60, 10 + 6 * index : 30 + 6 * index] = 1.2
        motion = moved(-0.02) if index else STANDING_STILL
        frame = scene + SIGMA_M * np.random.default_rng(index).standard_normal(SHAPE)
        depth, _ = temporal(
            frame.astype(np.float32), sigma(), index * FRAME_NS, motion=motion, camera=CAMERA
        )
        assert np.abs(depth - scene).max() < 6 * SIGMA_M


def test_a_motion_that_is_not_known_empties_the_filter():
    temporal = TemporalFilter()
    run(temporal, 1.0, 10)
    frame = noisy(1.0, 50)
    unknown = moved()._replace(trouble='too dark')
    depth, _ = temporal(frame, sigma(), 10 * FRAME_NS, motion=unknown, camera=CAMERA)
    np.testing.assert_array_equal(depth, frame)


def test_a_dropout_is_bridged_where_the_camera_moves_too():
    temporal = TemporalFilter(bridge_frames=2)
    run(temporal, 1.0, 10)
    lost = np.full(SHAPE, np.nan, np.float32)
    for index, known in ((10, True), (11, True), (12, False)):
        got, _ = temporal(lost, lost, index * FRAME_NS, motion=moved(0.003), camera=CAMERA)
        assert np.isfinite(got[20:-20, 20:-20]).all() == known
    assert np.isnan(got).all()


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (97, 3), (2, 2)])
@pytest.mark.parametrize('value', [1.0, np.nan, np.inf, 0.0])
@pytest.mark.parametrize('far_m', [0.001, -5.0, 1e6])
def test_any_shape_and_any_motion(shape, value, far_m):
    temporal = TemporalFilter(bridge_frames=1)
    view = PinholeCamera(Header(0, 'eye'), shape[1], shape[0], 5.0, 5.0, 1.0, 0.0)
    depth = np.full(shape, value, np.float32)
    for index in range(3):
        motion = moved(far_m, far_m, far_m)._replace(depth_variance=np.zeros((1, 1), np.float32))
        got = temporal(depth, depth, index * FRAME_NS, motion=motion, camera=view)
        assert np.isfinite(got.depth_m).all() == (value == 1.0)


@pytest.mark.parametrize(
    'wrong',
    [{'memory_frames': 0}, {'motion_window_px': 0}, {'bridge_frames': -1}, {'max_gap_s': 0}],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TemporalFilter(**wrong)


def test_a_static_recording_settles(recording):
    import cv2

    folder = recording('xtion_static_1')
    noise, temporal, raw, got = SENSORS['kinect_v1'], TemporalFilter(), [], []
    for index, path in enumerate(sorted((folder / 'depth').glob('*.png'))[:8]):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
        depth[depth == 0] = np.nan
        raw.append(depth)
        got.append(
            temporal(
                depth,
                noise.stddev_m(depth, 568.0),
                index * FRAME_NS,
                quantization_m=noise.quantization_m(depth, 568.0),
            ).depth_m
        )
    static = cv2.imread(str(folder / 'static_mask.png'), cv2.IMREAD_UNCHANGED) > 0
    flicker = [np.nanmean(np.abs(f[-1] - f[-2])[static]) for f in (raw, got)]
    assert flicker[1] < 0.5 * flicker[0]
