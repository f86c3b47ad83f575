"""Depth, standard deviation and provenance stay together whatever the order of the stages.

What is invented is known here without provenance: from the depth that goes into a stage and the
depth that comes out of it.
"""

from itertools import permutations

import numpy as np
import pytest

from depth_refiner_ros.config import pipeline_type
from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    RigidTransform,
    StddevImage,
)
from depth_refiner_ros.geometry import TransformTree, register_depth
from depth_refiner_ros.parameters import updated_parameters
from depth_refiner_ros.stage import compose
from depth_refiner_ros.stages import STAGES
from depth_refiner_ros.stages.estimate_depth import EstimateDepth
from depth_refiner_ros.stages.inpaint_depth import InpaintDepth
from depth_refiner_ros.stages.project_points import ProjectPoints

ORDERED = ('register_depth', 'refine_depth', 'inpaint_depth', 'estimate_depth')
CAMERA = PinholeCamera(Header(0, 'depth'), 32, 24, 40.0, 40.0, 15.5, 11.5)
COLOR_CAMERA = PinholeCamera(Header(0, 'color'), 36, 26, 44.0, 44.0, 17.5, 12.5)
# The colour camera stands 60 mm to the right and is turned by 3 degrees.
ANGLE = np.radians(3.0)
COLOR_FROM_DEPTH = RigidTransform(
    Header(0, 'color'),
    'depth',
    np.array(
        [[np.cos(ANGLE), 0, np.sin(ANGLE)], [0, 1, 0], [-np.sin(ANGLE), 0, np.cos(ANGLE)]],
        np.float64,
    ),
    np.array([-0.06, 0.0, 0.01]),
)
SETTINGS = {
    'refine_depth.temporal_bridge': 2,
    'refine_depth.keep_quantization': False,
    'inpaint_depth.model': '',
    'inpaint_depth.max_hole_px': 8.0,  # the wide hole stays one
}


def slope_model(color, intrinsics):
    depth_m = np.tile(np.linspace(1.8, 2.4, color.shape[1], dtype=np.float32), (color.shape[0], 1))
    depth_m[:2] = np.nan
    return {'estimate_m': depth_m, 'stddev_m': 0.1 * depth_m}


def doubting_model(depth_m, color):
    wrong = np.where(np.isnan(depth_m), np.float32(0), np.float32(0.1))
    wrong[4:7, :9] = 0.9  # measurements that it replaces
    return {
        'estimate_m': np.full_like(depth_m, 2.2),
        'stddev_m': np.full_like(depth_m, 0.1),
        'wrong': wrong,
    }


def frames(camera):
    """Two frames of a wall and a box before it, with holes, of which one opens in the second."""
    rng = np.random.default_rng(0)
    for stamp_ns in (10**9, 1_033_000_000):
        depth_m = np.full((camera.height, camera.width), 2.0, np.float32)
        depth_m[8:16, 12:20] = 1.2
        depth_m += rng.normal(0, 0.002, depth_m.shape).astype(np.float32)
        depth_m[5:8, 4:7] = np.nan
        depth_m[10:22, 22:31] = np.nan
        if stamp_ns > 10**9:
            depth_m[18:20, 6:9] = np.nan
        yield DepthImage(Header(stamp_ns, camera.header.frame_id), depth_m)


def invented_by(stage, invented, before, after):
    """Tell which pixels of a stage's depth nobody measured in this frame."""
    finite = np.isfinite(after.depth_m)
    if stage == 'register_depth':
        # What is seen is invented where without the invented pixels something else would be.
        seen = before.depth_m.copy()
        seen[invented] = np.nan
        source = COLOR_FROM_DEPTH if before.header.frame_id == 'depth' else HERE
        camera = CAMERA if before.header.frame_id == 'depth' else COLOR_CAMERA
        return finite & (register_depth(seen, camera, COLOR_CAMERA, source) != after.depth_m)
    if stage == 'estimate_depth':
        if before.header.frame_id != after.header.frame_id:
            return finite
        return finite & (invented | (after.depth_m != before.depth_m))
    if stage == 'inpaint_depth':
        return finite & (invented | (after.depth_m != before.depth_m))
    return finite & (invented | np.isnan(before.depth_m))  # refine_depth, with its bridge


HERE = RigidTransform(Header(0, 'color'), 'color', np.eye(3), np.zeros(3))
COLOR = np.full((26, 36, 3), 90, np.uint8)


def pipeline_with_points(order):
    """Return stages with a cloud of the depth before, between and behind them."""
    types = {'points_0': ProjectPoints}
    for number, stage in enumerate(order, 1):
        types |= {stage: STAGES[stage], f'points_{number}': ProjectPoints}
    made = compose(types)
    trust = {f'{name}.trust': 'refined' for name in types if name.startswith('points')}
    return made(updated_parameters(made.Parameters(), SETTINGS | trust))


@pytest.mark.parametrize('camera', [CAMERA, COLOR_CAMERA], ids=['apart', 'registered'])
def test_nothing_invented_passes_for_measured_in_any_order(camera):
    """Every ordered subset of the stages is the beginning of one of these pipelines."""
    tree = TransformTree([COLOR_FROM_DEPTH])
    counts = dict.fromkeys(('seen', 'invented', 'points'), 0)
    for order in permutations(ORDERED):
        pipeline = pipeline_with_points(order)
        stages = pipeline.stages
        stages['estimate_depth'] = EstimateDepth(model=slope_model)
        if camera is COLOR_CAMERA:
            stages['inpaint_depth'] = InpaintDepth(
                stages['inpaint_depth'].parameters, doubting_model
            )
        for depth in frames(camera):
            color = ColorImage(Header(depth.header.stamp_ns, 'color'), COLOR)
            outputs = pipeline(
                tree, depth=depth, camera=camera, color=color, color_camera=COLOR_CAMERA
            )
            before, invented = depth, np.zeros(depth.depth_m.shape, bool)
            for number, stage in enumerate(order):
                where = f'{stage} of {",".join(order)}'
                counts['points'] += check_points(
                    outputs[f'points_{number}.points'], before, invented, where
                )
                after = outputs[f'{stage}.depth']
                invented = invented_by(stage, invented, before, after)
                finite = np.isfinite(after.depth_m)
                view = outputs[f'{stage}.camera']
                assert (view.height, view.width) == finite.shape, where
                assert view.header == after.header, where
                provenance = outputs.get(f'{stage}.provenance')
                if provenance is None:
                    assert stage == 'register_depth', where  # of depth that had none
                    assert not invented.any(), where
                else:
                    marks, stddev = provenance.provenance, outputs[f'{stage}.stddev']
                    assert provenance.header == stddev.header == after.header, where
                    np.testing.assert_array_equal(marks != 0, finite, where)
                    np.testing.assert_array_equal(np.isfinite(stddev.stddev_m), finite, where)
                    assert (stddev.stddev_m[finite] > 0).all(), where
                    seen = (marks == Provenance.MEASURED) | (marks == Provenance.REFINED)
                    np.testing.assert_array_equal(seen, finite & ~invented, where)
                    counts['seen'] += seen.sum()
                    counts['invented'] += invented.sum()
                before = after
            check_points(outputs['points_4.points'], before, invented, f'the end of {order}')
    assert min(counts.values()) > 10_000, counts


def check_points(cloud, depth, invented, where):
    seen = np.isfinite(depth.depth_m) & ~invented
    np.testing.assert_array_equal(np.isfinite(cloud.points_m[..., 2]), seen, where)
    return seen.sum()


def marked(codes, shape, header):
    return ProvenanceImage(header, np.resize(np.array(codes, np.uint8), shape))


@pytest.mark.parametrize('stage', ORDERED)
def test_no_origin_gains_trust(stage):
    depth = next(iter(frames(COLOR_CAMERA)))
    came = marked(range(8), depth.depth_m.shape, depth.header)  # 7 is no origin
    pipeline_class = pipeline_type(stage)
    pipeline = pipeline_class(
        updated_parameters(
            pipeline_class.Parameters(),
            {name: value for name, value in SETTINGS.items() if name.startswith(stage)},
        )
    )
    if stage == 'estimate_depth':
        pipeline.stages[stage] = EstimateDepth(model=slope_model)
    color = ColorImage(depth.header, COLOR)
    given = {'depth': depth, 'camera': COLOR_CAMERA, 'provenance': came, 'color': color}
    outputs = pipeline(**given, color_camera=COLOR_CAMERA)
    marks, depth_m = outputs[f'{stage}.provenance'].provenance, outputs[f'{stage}.depth'].depth_m
    order = [1, 2, 3, 5, 4, 6]  # README's table, the most trusted first
    held = np.isfinite(depth_m) & (depth_m == depth.depth_m)
    assert held.sum() > 100
    for code in range(8):
        at = held & (came.provenance == code)
        least = order.index(code) if code in order else len(order) - 1
        assert {order.index(mark) for mark in marks[at]} <= set(range(least, len(order))), code


def test_what_inpainting_makes_of_relative_depth_is_relative():
    depth = next(iter(frames(CAMERA)))
    for code in (Provenance.REFINED, Provenance.ALIGNED, Provenance.RELATIVE):
        came = ProvenanceImage(depth.header, np.full((24, 32), code, np.uint8))
        stage = InpaintDepth(InpaintDepth.Parameters(model=''))
        marks = stage(depth, CAMERA, provenance=came)['provenance'].provenance
        assert marks[0, 0] == code
        assert marks[6, 5] == max(code, Provenance.INPAINTED)


def test_scale_is_taken_from_what_was_measured_alone():
    depth_m = np.full((26, 36), 4.0, np.float32)
    depth_m[:, :18] = slope_model(COLOR, None)['estimate_m'][:, :18]
    depth_m[:2] = np.nan
    marks = np.full((26, 36), Provenance.INPAINTED, np.uint8)
    marks[:, :18] = Provenance.MEASURED
    header = Header(1, 'color')
    stage = EstimateDepth(EstimateDepth.Parameters(keep_measured=False), slope_model)
    out = stage(
        ColorImage(header, COLOR),
        COLOR_CAMERA,
        depth=DepthImage(header, depth_m),
        provenance=ProvenanceImage(header, marks),
    )
    estimate_m = slope_model(COLOR, None)['estimate_m']
    np.testing.assert_allclose(out['depth'].depth_m[2:], estimate_m[2:], rtol=0.01)


def test_registering_moves_deviation_with_the_depth():
    header = Header(1, 'depth')
    depth_m = np.full((24, 32), 2.0, np.float32)
    depth_m[10, 10] = 1.0
    stddev_m = np.full((24, 32), 0.01, np.float32)
    stddev_m[10, 10] = 0.5
    beside = RigidTransform(Header(0, 'color'), 'depth', np.eye(3), np.array([0.1, 0.0, 0.0]))
    tree = TransformTree([beside])
    pipeline = pipeline_type('register_depth')()
    camera = PinholeCamera(Header(0, 'color'), 32, 24, 40.0, 40.0, 15.5, 11.5)
    out = pipeline(
        tree,
        depth=DepthImage(header, depth_m),
        camera=CAMERA,
        color_camera=camera,
        stddev=StddevImage(header, stddev_m),
        provenance=ProvenanceImage(header, np.where(depth_m == 1, 3, 1).astype(np.uint8)),
    )
    # 40 px * 0.1 m is 4 px at 1 m and 2 px at 2 m; what lay 2 px beside the near one is hidden.
    assert out['register_depth.stddev'].stddev_m[10, 14] == np.float32(0.5)
    assert out['register_depth.provenance'].provenance[10, 14] == Provenance.INPAINTED
    assert out['register_depth.stddev'].stddev_m[10, 13] == np.float32(0.01)
    assert out['register_depth.depth'].depth_m[10, 13] == 2.0
    assert (out['register_depth.provenance'].provenance == 3).sum() == 1


def test_companions_of_another_size_or_view_are_refused():
    depth = next(iter(frames(CAMERA)))
    camera = CAMERA
    other = Header(depth.header.stamp_ns, 'color')
    for stage in ('refine_depth', 'inpaint_depth', 'project_points'):
        pipeline = pipeline_type(stage)()
        small = marked([1], (12, 16), depth.header)
        message = "provenance is 16x12 in frame 'depth', but its depth 32x24 in frame 'depth'"
        with pytest.raises(ValueError, match=message):
            pipeline(depth=depth, camera=camera, provenance=small)
        with pytest.raises(ValueError, match="in frame 'color', but its depth"):
            pipeline(depth=depth, camera=camera, provenance=marked([1], (24, 32), other))
    with pytest.raises(ValueError, match='stddev is 16x12'):
        pipeline_type('refine_depth')()(
            depth=depth,
            camera=camera,
            stddev=StddevImage(depth.header, np.ones((12, 16), np.float32)),
        )


def test_depth_without_its_own_provenance_counts_as_inpainted_where_others_had_it():
    pipeline_class = pipeline_type('project_points,refine_depth')
    pipeline = pipeline_class(
        updated_parameters(pipeline_class.Parameters(), {'project_points.trust': 'refined'})
    )
    first, second = frames(CAMERA)
    own = marked([Provenance.MEASURED], (24, 32), first.header)

    def seen(depth, provenance):
        out = pipeline(depth=depth, camera=CAMERA, provenance=provenance)
        marks = out['refine_depth.provenance'].provenance
        points = np.isfinite(out['project_points.points'].points_m).any()
        return points, set(np.unique(marks)) - {0}

    assert seen(first, None) == (True, {1, 2})  # as it comes from a sensor
    assert seen(first, own) == (True, {1, 2})
    assert seen(second, own) == (False, {3})  # of the frame before
    assert seen(second, None) == (False, {3})
    assert pipeline.without_provenance == 2
