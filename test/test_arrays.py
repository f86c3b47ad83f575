import numpy as np
import pytest

import depth_refiner_ros
from depth_refiner_ros.data import Provenance

CAMERA = (60.0, 60.0, 31.5, 23.5)


def wall_with_a_hole():
    depth = np.full((48, 64), 1500, np.uint16)
    depth[20:24, 30:36] = 0
    return depth


def test_three_lines():
    pipeline = depth_refiner_ros.load_pipeline('refine_depth,inpaint_depth,project_points')
    result = pipeline(wall_with_a_hole(), camera=CAMERA)
    assert set(result) >= {'depth', 'stddev', 'provenance', 'points', 'refine_depth.depth'}
    np.testing.assert_allclose(result['depth'], 1.5, atol=1e-3)
    assert result['provenance'][21, 32] == Provenance.INPAINTED
    assert np.isnan(result['refine_depth.depth'][21, 32])
    np.testing.assert_allclose(result['points'][0, 0], [-31.5 / 40, -23.5 / 40, 1.5], rtol=1e-3)


def test_metres_and_millimetres_are_the_same():
    millimetres = wall_with_a_hole()
    metres = millimetres / 1000  # holes are 0 here, NaN inside
    a, b = (depth_refiner_ros.load_pipeline()(d, camera=CAMERA) for d in (millimetres, metres))
    np.testing.assert_array_equal(a['depth'], b['depth'])


def test_from_a_file_and_keywords(tmp_path):
    path = tmp_path / 'p.yaml'
    path.write_text('/**:\n  ros__parameters:\n    stages: inpaint_depth\n')
    pipeline = depth_refiner_ros.load_pipeline(path, inpaint_depth={'max_distance_m': 1})
    assert list(pipeline.pipeline.stages) == ['inpaint_depth']
    result = pipeline(wall_with_a_hole(), camera=CAMERA)
    assert np.isnan(result['depth'][21, 32])


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: depth_refiner_ros.load_pipeline('refine'), "unknown stage 'refine'"),
        (
            lambda: depth_refiner_ros.load_pipeline(refine_depth={'sensr': 'x'}),
            'did you mean refine_depth.sensor',
        ),
        (
            lambda: depth_refiner_ros.load_pipeline()(np.zeros((4, 4, 3)), CAMERA),
            'depth must be',
        ),
        (
            lambda: depth_refiner_ros.load_pipeline()(np.zeros((4, 4), np.int64), CAMERA),
            'depth must be',
        ),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
