from dataclasses import replace

import numpy as np
import pytest

from depth_refiner_ros.data import DepthImage, Header, PinholeCamera, Provenance
from depth_refiner_ros.filters.noise import SENSORS
from depth_refiner_ros.simulation import simulate
from depth_refiner_ros.stages.refine_depth import RefineDepth, RefineDepthParameters

HEADER = Header(1_000_000_000, 'camera')
CAMERA = PinholeCamera(Header(0, 'camera'), 64, 48, 525.0, 525.0, 31.5, 23.5)


def frame(depth_m, stamp_ns=1_000_000_000, encoding='16UC1'):
    return DepthImage(Header(stamp_ns, 'camera'), depth_m.astype(np.float32), encoding)


def wall(distance_m=2.0):
    return np.full((48, 64), distance_m, np.float32)


@pytest.mark.parametrize('sensor', SENSORS)
def test_clean_wall_stays_and_noise_shrinks(sensor):
    parameters = RefineDepthParameters(sensor=sensor, keep_quantization=False)
    out = RefineDepth(parameters)(frame(wall()), CAMERA)
    np.testing.assert_allclose(out['depth'].depth_m, 2.0, atol=1e-5)
    sigma = SENSORS[sensor].stddev_m(wall(), CAMERA.fx)[24, 32]
    assert 0 < out['stddev'].stddev_m[24, 32] < sigma


def test_header_encoding_and_camera_go_through():
    out = RefineDepth()(frame(wall()), CAMERA)
    assert out['depth'].encoding == '16UC1'
    assert out['depth'].header == HEADER
    assert out['camera'].header == HEADER
    assert out['camera'].fx == CAMERA.fx


def test_provenance_tells_measured_refined_and_invalid():
    rng = np.random.default_rng(0)
    depth_m = wall() + rng.normal(0, 0.004, (48, 64))
    depth_m[10, 10] = np.nan
    out = RefineDepth(RefineDepthParameters(keep_quantization=False))(frame(depth_m), CAMERA)
    provenance = out['provenance'].provenance
    assert provenance[10, 10] == Provenance.INVALID
    assert np.isnan(out['stddev'].stddev_m[10, 10])
    assert (provenance == Provenance.REFINED).mean() > 0.9
    nothing = RefineDepthParameters(
        flying_pixel_filter=False, spatial_filter=False, temporal_filter=False
    )
    out = RefineDepth(nothing)(frame(depth_m), CAMERA)
    assert (out['provenance'].provenance == Provenance.MEASURED).sum() == 48 * 64 - 1
    np.testing.assert_array_equal(out['depth'].depth_m, depth_m.astype(np.float32))


def test_time_averages_what_stands_still_and_drops_what_moved():
    rng = np.random.default_rng(0)
    stage = RefineDepth(RefineDepthParameters(spatial_filter=False, flying_pixel_filter=False))
    noise_m = SENSORS['kinect_v1'].stddev_m(wall(), CAMERA.fx)[0, 0]
    for i in range(20):
        depth_m = wall() + rng.normal(0, noise_m, (48, 64))
        out = stage(frame(depth_m, i * 33_000_000), CAMERA)
    assert out['depth'].depth_m.std() < 0.5 * noise_m
    moved_m = wall()
    moved_m[10:30, 10:30] = 1.5
    out = stage(frame(moved_m, 20 * 33_000_000), CAMERA)
    np.testing.assert_allclose(out['depth'].depth_m[10:30, 10:30], 1.5, atol=1e-6)


def walked(motion: str, move: str = 'walking') -> tuple[RefineDepth, list[np.ndarray], list]:
    """Errors and what is put out of six frames of a simulated camera, after the third."""
    stage, errors, outputs = RefineDepth(RefineDepthParameters(motion=motion)), [], []
    for number, shot in enumerate(simulate(6, width=320, height=240, move=move)):
        out = stage(shot.depth, shot.camera)
        outputs.append(out['depth'].depth_m)
        if number >= 3:
            off = outputs[-1] - shot.truth_m
            errors.append(off[np.abs(shot.depth.depth_m - shot.truth_m) < 0.1])
    return stage, errors, outputs


def test_the_filter_goes_along_with_a_camera_that_walks():
    def variance(errors):
        return np.nanmean([np.nanmean(off**2) for off in errors])

    followed, ignored = walked('auto'), walked('none')
    assert variance(followed[1]) < 0.4 * variance(ignored[1])
    assert 'by depth: ' in followed[0].status['motion']
    assert ignored[0].status == {}


def test_on_a_tripod_the_motion_changes_nothing():
    followed, ignored = walked('auto', 'still'), walked('none', 'still')
    np.testing.assert_array_equal(followed[2], ignored[2])
    assert followed[0].status == {'motion': 'the camera stands still'}


def test_where_the_motion_is_not_known_the_frame_stands_alone():
    stage = RefineDepth(RefineDepthParameters(spatial_filter=False))
    for number in range(3):
        stage(frame(wall(), number * 33_000_000), CAMERA)
    other = frame(wall(2.003), 1_200_000_000)
    out = stage(other, CAMERA)
    np.testing.assert_array_equal(out['depth'].depth_m, other.depth_m)
    assert stage.status['motion'].startswith('not known (time jumped): averaging starts anew')


def by_tf(change=lambda number, pose: pose, motion='tf', frames=5) -> RefineDepth:
    """The stage after some frames of a walk, with tf as the true poses changed."""
    parameters = RefineDepthParameters(motion=motion, fixed_frame='map')
    stage, said = RefineDepth(parameters), []
    for number, shot in enumerate(simulate(frames, width=320, height=240, move='walking')):
        pose = change(number, shot.world_from_camera)
        stage(shot.depth, shot.camera, fixed_from_camera=pose)
        said.append(stage.status['motion'])
    return said


def moved_by(x_m: float, numbers: tuple[int, ...]):
    def change(number, pose):
        far = np.array([x_m if number in numbers else 0.0, 0.0, 0.0])
        return replace(pose, translation_m=pose.translation_m + far)

    return change


def test_tf_is_taken_as_it_is():
    assert all(text.startswith('by tf: ') for text in by_tf()[1:])


def test_tf_that_is_off_by_as_much_in_every_frame_does_no_harm():
    assert all(text.startswith('by tf: ') for text in by_tf(moved_by(0.05, range(9)))[1:])


def test_tf_that_is_missing_or_jumps_is_said():
    said = by_tf(lambda number, pose: None if number == 2 else pose)
    assert said[2].startswith('not known (tf does not have it)')
    # A motion takes two poses.
    assert said[3].startswith('not known (tf does not have it)')
    assert said[4].startswith('by tf: ')
    said = by_tf(moved_by(0.6, (3, 4)))
    assert 'tf does not agree with what is seen' in said[3]
    assert said[4].startswith('by tf: ')


def test_tf_is_where_the_search_starts_and_what_is_seen_decides():
    said = by_tf(moved_by(0.05, (3,)), motion='auto')
    assert all(text.startswith('by depth: ') for text in said[1:])
    assert 'tf says' not in said[2]
    assert 'tf says' in said[3]


def test_odometry_says_where_the_camera_went():
    stage = RefineDepth(RefineDepthParameters(odometry=True))
    shots = list(simulate(6, width=320, height=240, move='translation'))
    made = [stage(shot.depth, shot.camera) for shot in shots]
    assert 'odometry' not in made[0]
    last = made[-1]['odometry']
    start, end = shots[0].world_from_camera, shots[-1].world_from_camera
    went_m = start.rotation.T @ (end.translation_m - start.translation_m)
    assert last.pose.translation_m == pytest.approx(went_m, abs=0.01)
    assert last.velocity[0] == pytest.approx(0.5, abs=0.1)
    assert last.header == Header(shots[-1].depth.header.stamp_ns, 'depth_odom')
    stddev_m = np.sqrt(np.diag(last.covariance)[:3])
    assert (np.abs(last.pose.translation_m - went_m) < 4 * stddev_m).all()
    assert 'odometry' not in RefineDepth()(shots[0].depth, shots[0].camera)


def test_live_switch_forgets_the_past():
    stage = RefineDepth(RefineDepthParameters(spatial_filter=False))
    stage(frame(wall(2.0)), CAMERA)
    stage.parameters = RefineDepthParameters(spatial_filter=False, temporal_filter=False)
    stage(frame(wall(2.0), 1_033_000_000), CAMERA)
    stage.parameters = RefineDepthParameters(spatial_filter=False)
    out = stage(frame(wall(2.003), 1_066_000_000), CAMERA)
    np.testing.assert_allclose(out['depth'].depth_m, 2.003, atol=1e-6)


def test_nothing_measured_and_wrong_camera():
    out = RefineDepth()(frame(np.full((48, 64), np.nan)), CAMERA)
    assert np.isnan(out['depth'].depth_m).all()
    with pytest.raises(ValueError, match='the image is 5x4 but its camera_info says 64x48'):
        RefineDepth()(frame(np.ones((4, 5))), CAMERA)
