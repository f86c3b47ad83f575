from __future__ import annotations

import sys

import numpy as np
import pytest

from depth_refiner_ros.data import ColorImage, DepthImage, Header, PinholeCamera
from depth_refiner_ros.evaluation.peers import (
    PEERS,
    IPBasic,
    IPBasicDense,
    JointBilateral,
    JointBilateralParameters,
    Librealsense,
    LibrealsenseFarthest,
    LibrealsenseLeft,
    LibrealsenseNearest,
    LibrealsenseTemporal,
    NavierStokes,
    Nearest,
    Raw,
    Telea,
)
from depth_refiner_ros.stage import compose, topic_inputs

HEADER = Header(1_000, 'camera_depth_optical_frame')
NAN = np.float32(np.nan)
LEAVE_MEASUREMENTS = ('raw', 'nearest', 'navier_stokes', 'telea', 'joint_bilateral')


def run(stage, depth_m, rgb=None, color_frame=HEADER.frame_id):
    depth_m = np.asarray(depth_m, np.float32)
    height, width = depth_m.shape
    camera = PinholeCamera(HEADER, width, height, 500, 500, width / 2, height / 2)
    color = None if rgb is None else ColorImage(Header(0, color_frame), rgb)
    outputs = stage(depth=DepthImage(HEADER, depth_m, '16UC1'), camera=camera, color=color)
    assert set(outputs) == set(stage.outputs)
    assert outputs['depth'].header == HEADER
    assert outputs['depth'].encoding == '16UC1'
    return outputs['depth'].depth_m


def wall_with_hole(distance_m=2.0):
    depth_m = np.full((40, 60), distance_m, np.float32)
    depth_m[10:25, 20:45] = NAN
    return depth_m


def box_below_a_far_wall():
    """2 m in the upper half; 1 m in the lower with a hole that touches both."""
    depth_m = np.full((40, 80), 2, np.float32)
    depth_m[20:] = 1
    depth_m[20:30, 30:50] = NAN
    return depth_m


@pytest.fixture(params=PEERS)
def peer(request):
    if request.param.startswith('librealsense'):
        pytest.importorskip('pyrealsense2')
    return request.param


def test_a_wall_stays_a_wall(peer):
    depth_m = wall_with_hole()
    result_m = run(PEERS[peer](), depth_m)
    assert result_m.shape == depth_m.shape
    assert result_m.dtype == np.float32
    if peer in ('raw', 'librealsense_unfilled'):
        np.testing.assert_array_equal(np.isnan(result_m), np.isnan(depth_m))
    else:
        assert np.isfinite(result_m).all()
    # librealsense counts in millimetres and rounds down on the way back from disparity.
    tolerance_m = 1.1e-3 if 'librealsense' in peer else 1e-4
    np.testing.assert_allclose(result_m[np.isfinite(result_m)], 2, atol=tolerance_m)


@pytest.mark.parametrize('name', LEAVE_MEASUREMENTS)
def test_measured_pixels_stay_untouched(name):
    rng = np.random.default_rng(0)
    depth_m = rng.uniform(0.5, 5, (40, 60)).astype(np.float32)
    hole = rng.random(depth_m.shape) < 0.4
    depth_m[hole] = NAN
    rgb = rng.integers(0, 255, (40, 60, 3), np.uint8)
    result_m = run(PEERS[name](), depth_m, rgb)
    np.testing.assert_array_equal(result_m[~hole], depth_m[~hole])


def test_frames_without_holes_and_without_depth(peer):
    stage = PEERS[peer]()
    assert np.isfinite(run(stage, np.full((30, 40), 2, np.float32))).all()
    # A temporal filter remembers; a stage that saw nothing yet has nothing to give.
    assert np.isnan(run(PEERS[peer](), np.full((30, 40), NAN))).all()


def test_a_camera_of_another_size_is_refused(peer):
    camera = PinholeCamera(HEADER, 64, 48, 500, 500, 32, 24)
    with pytest.raises(ValueError, match='camera_info'):
        PEERS[peer]()(DepthImage(HEADER, np.ones((40, 60), np.float32)), camera)


def test_peers_run_where_pipelines_do():
    pipeline = compose({'first': Nearest, 'second': Raw})()
    assert set(topic_inputs(type(pipeline))) == {'depth', 'camera', 'color', 'color_camera'}
    camera = PinholeCamera(HEADER, 60, 40, 500, 500, 30, 20)
    outputs = pipeline(depth=DepthImage(HEADER, wall_with_hole()), camera=camera)
    assert np.isfinite(outputs['second.depth'].depth_m).all()


def test_nearest_measurement():
    np.testing.assert_array_equal(run(Nearest(), [[1, NAN, NAN, 3]] * 3), [[1, 1, 3, 3]] * 3)


@pytest.mark.parametrize('stage', [NavierStokes, Telea])
def test_inpainting_continues_a_gentle_plane(stage):
    depth_m = np.broadcast_to(2 + 0.002 * np.arange(60), (40, 60)).astype(np.float32)
    holed_m = depth_m.copy()
    holed_m[20, 30] = NAN
    assert run(stage(), holed_m)[20, 30] == pytest.approx(depth_m[20, 30], abs=1e-3)


@pytest.mark.parametrize('distance_m', [0.3, 4.0, 90.0])
def test_telea_is_right_at_any_range(distance_m):
    # OpenCV errs by counts: two of them, 1/65535 of the range each, at every front it marches.
    result_m = run(Telea(), wall_with_hole(distance_m))
    np.testing.assert_allclose(result_m, distance_m, rtol=20 / 65535)


@pytest.mark.parametrize(('stage', 'last_near'), [(IPBasic, 11), (IPBasicDense, 9)])
def test_ip_basic_at_an_edge(stage, last_near):
    # 1 m up to column 9, 3 m from there on. The published diamond moves the edge by two pixels;
    # OpenCV's 5 px Gaussian is (1 4 6 4 1) / 16, so 5/16 of the other side come in next to it.
    depth_m = np.full((40, 60), 3, np.float32)
    depth_m[:, :10] = 1
    row_m = run(stage(), depth_m)[20]
    np.testing.assert_allclose(
        row_m[last_near - 2 : last_near + 4],
        [1, 1 + 2 / 16, 1 + 10 / 16, 3 - 10 / 16, 3 - 2 / 16, 3],
        rtol=1e-5,
    )


def test_ip_basic_reaches_twenty_pixels():
    # Diamond 2, 7x7 kernel 3, 31x31 kernel 15: columns 10 to 29.
    depth_m = np.full((40, 60), NAN)
    depth_m[:, :10] = 2
    published_m = run(IPBasic(), depth_m)
    assert np.isfinite(published_m[:, :30]).all()
    assert np.isnan(published_m[:, 30:]).all()
    np.testing.assert_allclose(run(IPBasicDense(), depth_m), 2, rtol=1e-5)


def test_ip_basic_draws_columns_upwards():
    # 60 rows up is farther than its kernels reach.
    depth_m = np.full((80, 60), NAN)
    depth_m[60:] = 2
    np.testing.assert_allclose(run(IPBasic(), depth_m), 2, rtol=1e-5)


@pytest.mark.parametrize('stage', [IPBasic, IPBasicDense])
@pytest.mark.parametrize('distance_m', [0.05, 19.95, 25.0])
def test_ip_basic_takes_what_is_out_of_range_for_empty(stage, distance_m):
    depth_m = np.full((40, 60), 2, np.float32)
    depth_m[20, 30] = distance_m
    np.testing.assert_allclose(run(stage(), depth_m), 2, rtol=1e-5)
    assert np.isnan(run(stage(), np.full((40, 60), distance_m))).all()


def test_one_pixel_of_the_joint_bilateral_by_hand():
    # Above it 1 m at distance 1, above right 2 m at distance sqrt 2; exp(-1/2) and exp(-1).
    depth_m = [[NAN, 1, 2], [NAN, NAN, NAN], [NAN, NAN, NAN]]
    stage = JointBilateral(JointBilateralParameters(radius_px=1, sigma_px=1.0))
    near, far = np.exp(-0.5), np.exp(-1)
    assert run(stage, depth_m)[1, 1] == pytest.approx((near + 2 * far) / (near + far))
    # The colour above differs by (9, 12, 0) = 15, one sigma: another exp(-1/2).
    rgb = np.zeros((3, 3, 3), np.uint8)
    rgb[0, 1] = (9, 12, 0)
    assert run(stage, depth_m, rgb)[1, 1] == pytest.approx(
        (near**2 + 2 * far) / (near**2 + far), rel=1e-5
    )


def test_colour_decides_between_the_surfaces_in_the_window():
    # The hole spans columns 33 to 36; 34 is nearer to the box on its left, but in the colour of
    # the wall.
    depth_m = np.full((30, 60), 3, np.float32)
    depth_m[:, :34] = 1
    depth_m[:, 33:37] = NAN
    rgb = np.full((30, 60, 3), 200, np.uint8)
    rgb[:, :34] = 20
    stage = JointBilateral()
    assert stage.guided is None
    np.testing.assert_allclose(run(stage, depth_m, rgb)[:, 33:37], [[1, 3, 3, 3]] * 30, rtol=1e-3)
    assert stage.guided
    # Without colour, or with that of another camera, distance alone decides.
    for color in (None, rgb):
        result_m = run(stage, depth_m, color, color_frame='camera_color_optical_frame')
        assert stage.guided is False
        assert (result_m[:, 34] < 1.5).all()


@pytest.mark.parametrize(
    ('stage', 'expected_m'),
    [(LibrealsenseLeft, 1), (LibrealsenseNearest, 1), (LibrealsenseFarthest, 2)],
)
def test_librealsense_hole_filling_modes(stage, expected_m):
    pytest.importorskip('pyrealsense2')
    result_m = run(stage(), box_below_a_far_wall())
    # The farthest value comes down from above; the left column of a hole can take it too.
    np.testing.assert_allclose(result_m[20:30, 31:50], expected_m, atol=2e-3)


def test_librealsense_leaves_what_its_hole_filling_cannot_reach():
    pytest.importorskip('pyrealsense2')
    depth_m = np.full((40, 80), 2, np.float32)
    depth_m[:10, 30:50] = NAN
    # Mode 2 looks at the pixel above first and takes its 0 for the nearest.
    assert np.isnan(run(LibrealsenseNearest(), depth_m)[:10, 30:50]).all()
    # Mode 1 leaves out the first row, mode 0 only the first column.
    np.testing.assert_array_equal(
        np.isnan(run(LibrealsenseFarthest(), depth_m)[:10, 30:50]).any(axis=1),
        [True] + 9 * [False],
    )
    assert np.isfinite(run(LibrealsenseLeft(), depth_m)).all()


def test_librealsense_smooths_in_disparity_and_keeps_edges():
    pytest.importorskip('pyrealsense2')
    rng = np.random.default_rng(0)
    truth_m = np.full((60, 80), 1, np.float32)
    truth_m[:, 40:] = 3
    noisy_m = truth_m + rng.normal(0, 0.005, truth_m.shape).astype(np.float32)
    result_m = run(Librealsense(), noisy_m)
    for side in (slice(5, 35), slice(45, 75)):
        assert np.std(result_m[:, side]) < 0.8 * np.std(noisy_m[:, side])
    assert np.abs(result_m - truth_m).max() < 0.1


def test_librealsense_knows_no_depth_beyond_its_counts():
    pytest.importorskip('pyrealsense2')
    depth_m = np.full((40, 60), 2, np.float32)
    depth_m[10, 30] = 70  # 70000 counts of 1 mm
    assert np.isnan(run(Librealsense(), depth_m)[10, 30])


def test_librealsense_temporal_remembers_one_stream_and_one_camera():
    pytest.importorskip('pyrealsense2')
    holed_m = box_below_a_far_wall()
    seen_m = np.where(np.isnan(holed_m), 1, holed_m)
    hole = (slice(20, 30), slice(31, 50))

    fresh = LibrealsenseTemporal()
    np.testing.assert_allclose(run(fresh, holed_m)[hole], 2, atol=2e-3)

    stage = LibrealsenseTemporal()
    for _ in range(5):
        run(stage, seen_m)
    np.testing.assert_allclose(run(stage, holed_m)[hole], 1, atol=2e-3)
    # Another camera is another stream: a fresh chain, of the new size.
    assert run(stage, holed_m[:, 5:]).shape == (40, 75)
    np.testing.assert_allclose(run(stage, holed_m)[hole], 2, atol=2e-3)


def test_librealsense_without_temporal_filter_repeats_itself():
    pytest.importorskip('pyrealsense2')
    rng = np.random.default_rng(0)
    depth_m = rng.uniform(1, 1.1, (40, 60)).astype(np.float32)
    stage = LibrealsenseFarthest()
    first_m = run(stage, depth_m)
    run(stage, depth_m[::-1])
    np.testing.assert_array_equal(run(stage, depth_m), first_m)
    np.testing.assert_array_equal(run(LibrealsenseFarthest(), depth_m), first_m)


def test_librealsense_that_stays_silent_is_an_error(monkeypatch):
    pytest.importorskip('pyrealsense2')

    class Silent:
        def wait_for_frame(self, timeout_ms):
            raise RuntimeError(f"Frame didn't arrive within {timeout_ms}")

    stage = Librealsense()
    run(stage, wall_with_hole())
    monkeypatch.setattr(stage._chain, 'queue', Silent())
    with pytest.raises(TimeoutError, match='2000 ms'):
        run(stage, wall_with_hole())


def test_absent_pyrealsense2_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyrealsense2', None)
    with pytest.raises(ValueError, match=r"pip install 'depth_refiner_ros\[realsense\]'"):
        Librealsense()
