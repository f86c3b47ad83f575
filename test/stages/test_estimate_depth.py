import numpy as np
import pytest

from depth_refiner_ros.config import pipeline_type
from depth_refiner_ros.data import ColorImage, DepthImage, Header, PinholeCamera, Provenance
from depth_refiner_ros.stages.estimate_depth import EstimateDepth, EstimateDepthParameters

HEADER = Header(5_000_000_000, 'color_frame')
CAMERA = PinholeCamera(HEADER, 64, 48, 60.0, 62.0, 31.5, 23.5)
COLOR = ColorImage(HEADER, np.zeros((48, 64, 3), np.uint8))


def rows_model(color, intrinsics):
    """Say 1 m at the top to 3 m at the bottom, in 48 steps, with a tenth of doubt."""
    height, width = color.shape[:2]
    step = np.arange(height) * 48 // height
    depth_m = np.repeat(np.linspace(1, 3, 48, dtype=np.float32)[step][:, None], width, 1)
    return {'estimate_m': depth_m, 'stddev_m': 0.1 * depth_m}


def stage(model=rows_model, **changed):
    return EstimateDepth(EstimateDepthParameters(**changed), model)


def measured(depth_m, stamp_ns=HEADER.stamp_ns, frame='color_frame'):
    return DepthImage(Header(stamp_ns, frame), depth_m.astype(np.float32), '16UC1')


def test_alone_it_believes_the_model():
    out = stage()(COLOR, CAMERA)
    np.testing.assert_allclose(out['depth'].depth_m[[0, -1], 0], [1, 3])
    np.testing.assert_allclose(out['stddev'].stddev_m[-1, 0], 0.3, rtol=1e-6)
    assert (out['provenance'].provenance == Provenance.ESTIMATED).all()
    assert out['depth'].encoding == '32FC1'
    assert out['camera'].fx == 60.0


def test_takes_scale_from_what_was_measured():
    truth_m = 2 * rows_model(COLOR.rgb, None)['estimate_m']
    holed_m = truth_m.copy()
    holed_m[:, 20:] = np.nan
    out = stage()(COLOR, CAMERA, depth=measured(holed_m))
    np.testing.assert_allclose(out['depth'].depth_m, truth_m, rtol=1e-3)
    provenance = out['provenance'].provenance
    assert (provenance[:, :20] == Provenance.MEASURED).all()
    assert (provenance[:, 20:] == Provenance.ALIGNED).all()
    assert out['depth'].encoding == '16UC1'
    # The fit is exact, so little doubt is left of the model's tenth.
    assert (out['stddev'].stddev_m[:, 20:] < 0.01 * truth_m[:, 20:]).all()


def test_without_keeping_measurements_every_pixel_is_said():
    truth_m = 2 * rows_model(COLOR.rgb, None)['estimate_m']
    out = stage(keep_measured=False)(COLOR, CAMERA, depth=measured(truth_m))
    assert (out['provenance'].provenance == Provenance.ALIGNED).all()


def test_depth_of_another_camera_is_not_mixed_in():
    out = stage()(COLOR, CAMERA, depth=measured(np.full((48, 64), 9.0), frame='depth_frame'))
    assert (out['provenance'].provenance == Provenance.ESTIMATED).all()


def test_relative_depth_says_that_it_is_no_metres():
    out = stage(mode='relative')(COLOR, CAMERA, depth=measured(np.full((48, 64), 9.0)))
    assert np.median(out['depth'].depth_m) == pytest.approx(1.0)
    assert (out['provenance'].provenance == Provenance.RELATIVE).all()
    assert out['depth'].encoding == '32FC1'


def test_scale_is_smoothed_over_time():
    run = stage(keep_measured=False, smoothing_s=1.0)
    truth_m = rows_model(COLOR.rgb, None)['estimate_m']
    start_ns = HEADER.stamp_ns

    def at(stamp_ns, factor):
        color = ColorImage(Header(stamp_ns, 'color_frame'), COLOR.rgb)
        return run(color, CAMERA, depth=measured(factor * truth_m, stamp_ns))['depth'].depth_m

    np.testing.assert_allclose(at(start_ns, 1.0), truth_m, rtol=2e-3)
    # After one time constant 1 - 1/e of the way from scale 1 to 1/2 of inverse depth.
    inverse = 1 - (1 - np.exp(-1)) * 0.5
    np.testing.assert_allclose(at(start_ns + 10**9, 2.0), truth_m / inverse, rtol=5e-3)
    # A jump back in time starts anew.
    np.testing.assert_allclose(at(start_ns - 10**10, 3.0), 3 * truth_m, rtol=2e-3)


def test_the_last_scale_serves_for_a_while():
    run = stage()
    truth_m = rows_model(COLOR.rgb, None)['estimate_m']
    run(COLOR, CAMERA, depth=measured(2 * truth_m))

    def after(seconds):
        stamp_ns = HEADER.stamp_ns + int(seconds * 1e9)
        out = run(ColorImage(Header(stamp_ns, 'color_frame'), COLOR.rgb), CAMERA)
        return out['depth'].depth_m[-1, 0], out['provenance'].provenance[0, 0]

    assert after(1.0) == (pytest.approx(6.0, rel=1e-2), Provenance.ALIGNED)
    assert after(9.0) == (pytest.approx(3.0), Provenance.ESTIMATED)


@pytest.mark.parametrize(
    ('size', 'given', 'intrinsics'),
    [
        ((720, 1280), (360, 640), [450, 450, 319.5, 179.5]),
        ((240, 320), (480, 640), [1800, 1800, 639.5 * 2 + 0.5, 359.5 * 2 + 0.5]),
        ((480, 848), (480, 848), [900, 900, 639.5, 359.5]),
    ],
)
def test_pictures_are_brought_to_the_models_width_and_intrinsics_with_them(
    size, given, intrinsics
):
    seen = {}

    def model(color, intrinsics):
        seen.update(shape=color.shape, intrinsics=intrinsics)
        return rows_model(color, intrinsics)

    color = ColorImage(HEADER, np.zeros((*size, 3), np.uint8))
    camera = PinholeCamera(HEADER, size[1], size[0], 900.0, 900.0, 639.5, 359.5)
    out = stage(model)(color, camera)
    assert seen['shape'] == (*given, 3)
    np.testing.assert_allclose(seen['intrinsics'], intrinsics)
    assert out['depth'].depth_m.shape == size
    # Nearest: no value that the model did not say.
    assert len(np.unique(out['depth'].depth_m)) == 48


def test_without_a_model_measurements_pass():
    holed_m = np.full((48, 64), 2.0)
    holed_m[0] = np.nan
    run = stage(lambda **inputs: None)
    out = run(COLOR, CAMERA, depth=measured(holed_m))
    assert np.isnan(out['depth'].depth_m[0]).all()
    assert (out['depth'].depth_m[1:] == 2.0).all()
    assert (out['provenance'].provenance[0] == Provenance.INVALID).all()
    assert (out['provenance'].provenance[1:] == Provenance.MEASURED).all()
    missing = EstimateDepth(EstimateDepthParameters(model='no_such_model'))
    assert np.isnan(missing(COLOR, CAMERA)['depth'].depth_m).all()
    assert 'no_such_model' in missing.capabilities.trouble


def test_a_camera_of_another_size_is_refused():
    camera = PinholeCamera(HEADER, 32, 24, 30.0, 30.0, 16.0, 12.0)
    with pytest.raises(ValueError, match='another resolution'):
        stage()(COLOR, camera)


def test_feeds_a_cloud_without_any_depth_camera():
    pipeline = pipeline_type('estimate_depth,project_points')()
    pipeline.stages['estimate_depth'] = stage()
    out = pipeline(color=COLOR, color_camera=CAMERA)
    points_m = out['project_points.points'].points_m
    assert points_m.shape == (48, 64, 3)
    np.testing.assert_allclose(points_m[-1, 0, 2], 3.0)
    # (0 - 31.5) / 60 * 3 m
    np.testing.assert_allclose(points_m[-1, 0, 0], -1.575, rtol=1e-5)


def test_a_slow_model_is_asked_for_every_third_frame_and_its_age_is_said():
    stamps_ns, truth_m = [], rows_model(COLOR.rgb, None)['estimate_m']
    run = stage(lambda **inputs: stamps_ns.append(1) or rows_model(**inputs), every_frames=3)
    found = []
    for number in range(4):
        header = Header(HEADER.stamp_ns + number * 40_000_000, 'color_frame')
        out = run(ColorImage(header, COLOR.rgb), CAMERA)
        assert out['depth'].header == header
        np.testing.assert_array_equal(out['depth'].depth_m, truth_m)
        found.append((out['stddev'].stddev_m[-1, 0], run.capabilities.note))
    assert len(stamps_ns) == 2
    # A tenth of 3 m, and 0.5 m/s over 40 and 80 ms.
    deviations = [found_m for found_m, _ in found]
    wanted = [0.3, np.hypot(0.3, 0.02), np.hypot(0.3, 0.04), 0.3]
    np.testing.assert_allclose(deviations, wanted, rtol=1e-5)
    assert [note for _, note in found] == [
        '',
        'The estimate is 1 frame (40 ms) old.',
        'The estimate is 2 frames (80 ms) old.',
        '',
    ]


def test_a_held_estimate_is_aligned_to_the_measurements_of_each_frame():
    run = stage(every_frames=9, smoothing_s=0.0)
    truth_m = rows_model(COLOR.rgb, None)['estimate_m']
    for number, factor in enumerate((1.0, 2.0, 1.5)):
        stamp_ns = HEADER.stamp_ns + number * 10_000_000
        holed_m = factor * truth_m
        holed_m[:, 20:] = np.nan
        color = ColorImage(Header(stamp_ns, 'color_frame'), COLOR.rgb)
        out = run(color, CAMERA, depth=measured(holed_m, stamp_ns))
        np.testing.assert_allclose(out['depth'].depth_m, factor * truth_m, rtol=1e-3)
        assert (out['provenance'].provenance[:, 20:] == Provenance.ALIGNED).all()


def test_without_filling_depth_goes_out_as_it_came_and_the_estimate_beside_it():
    truth_m = 2 * rows_model(COLOR.rgb, None)['estimate_m']
    holed_m = truth_m.copy()
    holed_m[:, 20:] = np.nan
    depth = measured(holed_m)
    out = stage(fill=False)(COLOR, CAMERA, depth=depth)
    assert out['depth'] is depth
    assert (out['provenance'].provenance[:, 20:] == Provenance.INVALID).all()
    np.testing.assert_allclose(out['estimate'].depth_m, truth_m, rtol=1e-3)
    # Of another camera the depth keeps its own; alone there is the estimate to put out.
    own = PinholeCamera(Header(HEADER.stamp_ns, 'depth_frame'), 64, 48, 50.0, 50.0, 31.5, 23.5)
    out = stage(fill=False)(
        COLOR, CAMERA, depth=measured(holed_m, frame='depth_frame'), camera=own
    )
    assert (out['depth'].header.frame_id, out['camera'].fx) == ('depth_frame', 50.0)
    out = stage(fill=False)(COLOR, CAMERA)
    np.testing.assert_array_equal(out['depth'].depth_m, out['estimate'].depth_m)


def test_an_estimate_of_no_metres_is_no_guide():
    assert 'estimate' not in stage(mode='relative')(COLOR, CAMERA)
