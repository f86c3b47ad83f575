from types import SimpleNamespace

import numpy as np
import pytest

from depth_refiner_ros import load_pipeline
from depth_refiner_ros.data import Hands, Header, PinholeCamera, Provenance
from depth_refiner_ros.stages import STAGES
from depth_refiner_ros.stages.estimate_depth import EstimateDepth
from depth_refiner_ros.stages.inpaint_depth import InpaintDepth
from depth_refiner_ros.stages.track_hands import TrackHands

CAMERA = (60.0, 60.0, 31.5, 23.5)
CLASSICAL = {'inpaint_depth.model': ''}


def wall_with_a_hole():
    depth = np.full((48, 64), 1500, np.uint16)
    depth[20:24, 30:36] = 0
    return depth


def test_three_lines():
    pipeline = load_pipeline('refine_depth,inpaint_depth,project_points', CLASSICAL)
    result = pipeline(wall_with_a_hole(), camera=CAMERA)
    assert set(result) >= {'depth', 'stddev', 'provenance', 'points', 'refine_depth.depth'}
    np.testing.assert_allclose(result['depth'], 1.5, atol=1e-3)
    assert result['provenance'][21, 32] == Provenance.INPAINTED
    assert np.isnan(result['refine_depth.depth'][21, 32])
    np.testing.assert_allclose(result['points'][0, 0], [-31.5 / 40, -23.5 / 40, 1.5], rtol=1e-3)


def test_metres_and_millimetres_are_the_same():
    millimetres = wall_with_a_hole()
    metres = millimetres / 1000  # holes are 0 here, NaN inside
    a, b = (
        load_pipeline('refine_depth,inpaint_depth', CLASSICAL)(d, camera=CAMERA)
        for d in (millimetres, metres)
    )
    np.testing.assert_array_equal(a['depth'], b['depth'])


def test_from_a_file_and_keywords(tmp_path):
    path = tmp_path / 'p.yaml'
    path.write_text('/**:\n  ros__parameters:\n    stages: inpaint_depth\n')
    pipeline = load_pipeline(path, CLASSICAL, inpaint_depth={'max_distance_m': 1})
    assert list(pipeline.pipeline.stages) == ['inpaint_depth']
    result = pipeline(wall_with_a_hole(), camera=CAMERA)
    assert np.isnan(result['depth'][21, 32])


RGB = np.zeros((48, 64, 3), np.uint8)
METRES = np.where(wall_with_a_hole() > 0, np.float32(1.5), np.float32(np.nan))
MILLIMETRES = wall_with_a_hole()


def copied(depth=METRES, camera=CAMERA, **more):
    """What a stage that changes nothing is given."""
    pipeline = load_pipeline(
        'refine_depth',
        {'refine_depth.spatial_filter': False, 'refine_depth.temporal_filter': False},
        refine_depth={'flying_pixel_filter': False},
    )
    return pipeline(depth, camera, **more)


@pytest.mark.parametrize(
    'given',
    [
        METRES.astype(np.float64),
        METRES.astype(np.float16),
        METRES.astype('>f4'),
        METRES.tolist(),
        np.asfortranarray(METRES),
        np.repeat(METRES, 2, 1)[:, ::2],
        np.nan_to_num(METRES, nan=-1.0),
        np.nan_to_num(METRES, nan=np.inf),
        np.ma.masked_array(np.nan_to_num(METRES, nan=7.0), mask=np.isnan(METRES)),
        *(MILLIMETRES.astype(kind) for kind in ('u2', '>u2', 'u4', 'i2', 'i4')),
        np.where(MILLIMETRES == 0, -5, MILLIMETRES.astype(np.int16)),
        np.ma.masked_equal(MILLIMETRES, 0),
    ],
)
def test_depth_in_every_type(given):
    np.testing.assert_array_equal(copied(given).depth, METRES)


def test_the_unit_of_depth_can_be_said():
    quarter = (4 * MILLIMETRES.astype(np.int64)).astype(np.uint16)
    np.testing.assert_allclose(copied(quarter, depth_unit_m=0.00025).depth, METRES, rtol=1e-6)
    tall = np.nan_to_num(1000 * METRES)
    np.testing.assert_array_equal(copied(tall, depth_unit_m=0.001).depth, METRES)
    np.testing.assert_array_equal(
        copied(MILLIMETRES.astype(np.int64), depth_unit_m=1e-3).depth, METRES
    )
    assert copied(np.full((48, 64), 150.0), depth_unit_m=np.float32(1)).depth[0, 0] == 150


K = np.array([[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
ROS_CAMERA = SimpleNamespace(k=K.ravel(), p=np.zeros(12), width=64, height=48, d=np.zeros(5))
RECTIFIED = np.array([[60, 0, 31.5, 0], [0, 60, 23.5, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize(
    'camera',
    [
        PinholeCamera(Header(0, 'any'), 64, 48, *CAMERA),
        np.float32(CAMERA),
        [np.float32(number) for number in CAMERA],
        K,
        K.astype(np.float32).tolist(),
        K.ravel(),
        ROS_CAMERA,
        SimpleNamespace(K=(9 * K).ravel(), P=RECTIFIED.ravel(), width=64, height=48),
        SimpleNamespace(k=K, width=64, height=48),
    ],
)
def test_a_camera_in_every_form(camera):
    result = load_pipeline('project_points')(METRES, camera)
    np.testing.assert_allclose(result.points[0, 0], [-31.5 / 40, -23.5 / 40, 1.5], rtol=1e-6)


def flat_model(color, intrinsics):
    assert intrinsics[0] == pytest.approx(600)  # 64 columns are brought to 640
    flat_m = np.full(color.shape[:2], 3.0, np.float32)
    return {'estimate_m': flat_m, 'stddev_m': 0.1 * flat_m}


def blind():
    """Hand tracking whose models see nothing."""
    return TrackHands(joints=lambda **inputs: None, detector=lambda **inputs: None)


@pytest.mark.parametrize('stage', STAGES)
def test_every_stage_runs(stage):
    classical = {'inpaint_depth.model': ''} if stage == 'inpaint_depth' else {}
    pipeline = load_pipeline(stage, classical)
    if stage == 'estimate_depth':
        pipeline.pipeline.stages[stage] = EstimateDepth(model=flat_model)
        alone = pipeline(None, CAMERA, color=RGB)
        assert (alone.depth == 3.0).all()
        assert alone.camera.fx == 60.0
    if stage == 'track_hands':
        pipeline.pipeline.stages[stage] = blind()
    result = pipeline(METRES, CAMERA, color=RGB)
    ports = set(STAGES[stage].outputs) - {'markers', 'poses', 'odometry'}  # off by default
    if stage == 'register_depth':
        ports -= {'stddev', 'provenance'}  # of depth that came without
    assert set(result) == ports | {f'{stage}.{port}' for port in ports}
    for port in ports - {'color_camera'}:
        assert getattr(result, port) is result[port]
    if stage == 'estimate_depth':
        # Three metres are brought to the scale of the wall around the hole.
        assert result.depth[21, 32] == pytest.approx(1.5)
        assert result.provenance[21, 32] == Provenance.ALIGNED


def test_results_have_names_and_types():
    pipeline = load_pipeline(['refine_depth', 'project_points', 'track_hands'])
    pipeline.pipeline.stages['track_hands'] = blind()
    result = pipeline(METRES, CAMERA, color=RGB)
    assert list(result) == list(result.keys())
    assert len(result) == len(set(result))
    assert result.depth is result['depth']
    assert 'hands.points' not in result
    assert result.points_rgb.shape == (48, 64, 3)
    assert isinstance(result.hands, Hands)
    assert result.hands.points_m.shape == (0, 21, 3)
    assert result.hands.pixels_px.shape == (0, 21, 2)
    assert (result.hands.confidence.shape, result.hands.right.shape) == ((0, 21), (0,))
    assert result.hands.ids.dtype == np.int32
    result.depth[0, 0] = 7.0  # the caller's own
    assert result['refine_depth.depth'][0, 0] != 7.0
    with pytest.raises(
        AttributeError, match=r'made blurred of this frame; there is depth, camera'
    ):
        _ = result.blurred
    with pytest.raises(KeyError):
        result['blurred']
    assert result.get('blurred') is None


def test_depth_is_moved_into_a_colour_camera_of_its_own():
    pipeline = load_pipeline('register_depth')
    pose = np.eye(4)
    pose[0, 3] = -0.05  # 60 px * 0.05 m / 1.5 m = 2 px
    result = pipeline(METRES, CAMERA, color_camera=CAMERA, color_from_depth=pose)
    assert np.isnan(result.depth[20:24, 28:34]).all()
    assert (result.depth[20:24, :28] == 1.5).all()
    with pytest.raises(ValueError, match='register_depth needs color_from_depth'):
        pipeline(METRES, CAMERA, color_camera=CAMERA)
    with pytest.raises(ValueError, match='not orthonormal'):
        pipeline(METRES, CAMERA, color_camera=CAMERA, color_from_depth=2 * np.eye(4))


@pytest.mark.parametrize(
    ('source', 'parameters', 'by_stage'),
    [
        ('refine_depth', {'refine_depth.sensor': 'kinect_v2'}, {}),
        (['refine_depth'], {'refine_depth': {'sensor': 'kinect_v2'}}, {}),
        (('refine_depth',), None, {'refine_depth': {'sensor': 'kinect_v2'}}),
        ('refine_depth', None, {'refine_depth.sensor': 'kinect_v2'}),
        ({'stages': ['refine_depth'], 'refine_depth': {'sensor': 'kinect_v2'}}, None, {}),
        ({'stages': 'refine_depth', 'refine_depth.sensor': np.str_('kinect_v2')}, None, {}),
    ],
)
def test_parameters_in_every_form(source, parameters, by_stage):
    pipeline = load_pipeline(source, parameters, **by_stage).pipeline
    assert list(pipeline.stages) == ['refine_depth']
    assert pipeline.parameters.refine_depth.sensor == 'kinect_v2'


def test_numpy_scalars_are_parameters():
    pipeline = load_pipeline(
        'refine_depth',
        refine_depth={
            'spatial_strength': np.float32(0.5),
            'temporal_filter': np.bool_(False),
            'spatial_scales': np.int64(3),
        },
    )
    refine = pipeline.pipeline.parameters.refine_depth
    assert (refine.spatial_strength, refine.temporal_filter, refine.spatial_scales) == (
        0.5,
        False,
        3,
    )


@pytest.mark.parametrize('shape', [(1, 7), (1, 640), (7, 1), (1, 1), (2, 3)])
def test_small_images_work_with_a_model(shape):
    def model(depth_m, color):
        assert depth_m.shape == color.shape[:2]
        estimate_m = np.full_like(depth_m, 2.0)
        return {'estimate_m': estimate_m, 'stddev_m': estimate_m, 'wrong': 0 * estimate_m}

    pipeline = load_pipeline('inpaint_depth')
    pipeline.pipeline.stages['inpaint_depth'] = InpaintDepth(model=model)
    result = pipeline(np.full(shape, np.nan), (9.0, 9.0, shape[1] / 2, shape[0] / 2))
    assert result.depth.shape == shape
    assert (result.depth == 2.0).all()
    assert (result.provenance == Provenance.INPAINTED).all()


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: load_pipeline('refine'), "unknown stage 'refine'"),
        (lambda: load_pipeline(refine_depth={'sensr': 'x'}), 'did you mean refine_depth.sensor'),
        (lambda: load_pipeline(refine_depth=True), 'must be its parameters by name, got True'),
        (lambda: load_pipeline(refine_depth=['sensor']), 'must be its parameters by name'),
        (lambda: load_pipeline('refine_depth', 'sensor'), 'parameters must be names and values'),
        (lambda: load_pipeline('refine_depth', {1: 2}), 'names of parameters must be text'),
        (lambda: load_pipeline(None), 'made from names of stages or a parameter file, got None'),
        (lambda: load_pipeline(['refine_depth', 3]), 'stages must be names'),
        (lambda: load_pipeline([]), 'needs at least one stage'),
        (
            lambda: load_pipeline('refine_depth', track_hands={'max_hands': 3}),
            'track_hands is not among the stages refine_depth',
        ),
        (lambda: copied(np.zeros((4, 4, 3))), r'depth must be \(H, W\)'),
        (lambda: copied(METRES[..., None]), 'take the axis of one away'),
        (lambda: copied(np.zeros((4, 4), np.int64)), 'depth must be .* say depth_unit_m='),
        (lambda: copied(np.zeros((4, 4), np.uint8)), '8 bits are a picture'),
        (lambda: copied(np.zeros((4, 4), np.uint8), depth_unit_m=0.01), '8 bits are a picture'),
        (lambda: copied(np.zeros((4, 4), bool)), 'depth must be'),
        (lambda: copied(np.zeros((4, 4), complex)), 'depth must be'),
        (lambda: copied([[1.0, 2.0], [3.0]]), 'different lengths'),
        (lambda: copied([]), 'depth must be'),
        (lambda: copied(np.zeros((0, 4))), 'depth is empty'),
        (lambda: copied(1000 * METRES), 'give depth_unit_m=0.001 if these are millimetres'),
        (lambda: copied(np.linspace(300, 900, 3072).reshape(48, 64)), 'depth_unit_m=0.001'),
        (lambda: copied(depth_unit_m=0), 'depth_unit_m must be above 0'),
        (lambda: copied(None), 'refine_depth needs depth'),
        (lambda: copied(camera=None), 'camera is missing'),
        (lambda: copied(camera=(1, 2, 3)), 'the depth camera must be'),
        (lambda: copied(camera='kinect'), 'the depth camera must be'),
        (lambda: copied(camera=K.T), 'matrix of the depth camera must be'),
        (
            lambda: copied(camera=(60, 60, 319.5, 239.5)),
            'outside its 64x48 image; is this the cal',
        ),
        (lambda: copied(camera=(-60, 60, 31.5, 23.5)), 'focal length must be positive'),
        (
            lambda: copied(camera=PinholeCamera(Header(0, ''), 320, 240, *CAMERA)),
            'depth image is 64x48, but its camera is for 320x240',
        ),
        (lambda: copied(METRES[:24], camera=ROS_CAMERA), 'is 64x24, but its camera is for 64x48'),
        (lambda: copied(color=RGB[:24]), 'color is 64x24, depth 64x48'),
        (lambda: copied(color=np.zeros((48, 64, 3))), r'\(255 \* color\)'),
        (lambda: copied(color=np.zeros((48, 64, 4), np.uint8)), 'fourth channel'),
        (lambda: copied(color=RGB[..., 0]), 'repeat grey'),
        (lambda: copied(stamp_s=float('nan')), 'stamp_s must be a finite'),
        (lambda: load_pipeline('blur_background')(METRES, CAMERA), 'blur_background needs color'),
        (lambda: load_pipeline('estimate_depth')(METRES, CAMERA), 'estimate_depth needs color'),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_principal_point_far_from_the_middle_is_told():
    with pytest.warns(UserWarning, match='far from the middle of its 64x48 image'):
        copied(camera=(60, 60, 15.5, 11.5))
