"""register_depth and register_color: their geometry is tested in test_geometry."""

from dataclasses import replace

import numpy as np
import pytest

from depth_refiner_ros.config import pipeline_type
from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    RigidTransform,
)
from depth_refiner_ros.geometry import TransformTree
from depth_refiner_ros.stages.estimate_depth import EstimateDepth, EstimateDepthParameters
from depth_refiner_ros.stages.register_color import RegisterColor
from depth_refiner_ros.stages.register_depth import RegisterDepth

DEPTH_HEADER, COLOR_HEADER = Header(7, 'depth'), Header(6, 'color')
CAMERA = PinholeCamera(DEPTH_HEADER, 32, 24, 40.0, 40.0, 15.5, 11.5)
COLOR_CAMERA = PinholeCamera(COLOR_HEADER, 32, 24, 40.0, 40.0, 15.5, 11.5)
# 0.1 m beside it at 2 m: 40 * 0.1 / 2 = 2 px of parallax.
COLOR_FROM_DEPTH = RigidTransform(COLOR_HEADER, 'depth', np.eye(3), np.array([-0.1, 0.0, 0.0]))


def test_depth_moves_by_the_parallax_and_takes_the_colour_frame():
    depth_m = np.full((24, 32), 2.0, np.float32)
    depth_m[5, 10] = np.nan
    depth = DepthImage(DEPTH_HEADER, depth_m, '16UC1')
    out = RegisterDepth()(depth, CAMERA, COLOR_CAMERA, COLOR_FROM_DEPTH)
    assert out['depth'].header == Header(7, 'color')
    assert out['camera'].header == Header(7, 'color')
    assert out['depth'].encoding == '16UC1'
    assert np.isnan(out['depth'].depth_m[5, 8])
    assert np.isnan(out['depth'].depth_m[:, 30:]).all()
    assert np.nansum(out['depth'].depth_m == 2.0) == 24 * 30 - 1


def test_colour_is_looked_up_where_the_pixel_is_seen():
    rgb = np.zeros((24, 32, 3), np.uint8)
    rgb[:, :, 0] = np.arange(32)
    depth = DepthImage(DEPTH_HEADER, np.full((24, 32), 2.0, np.float32))
    color = ColorImage(COLOR_HEADER, rgb)
    out = RegisterColor()(depth, CAMERA, color, COLOR_CAMERA, COLOR_FROM_DEPTH)
    assert out['color'].header == DEPTH_HEADER
    np.testing.assert_array_equal(out['color'].rgb[3, 2:, 0], np.arange(30))
    # From here on the colour looks through the depth camera's lens.
    assert out['color_camera'] == replace(CAMERA, header=DEPTH_HEADER)


def test_registered_colour_has_the_depth_cameras_intrinsics_even_where_it_did_not_come():
    depth = DepthImage(DEPTH_HEADER, np.ones((24, 32), np.float32))
    assert RegisterColor()(depth, CAMERA) == {'color_camera': CAMERA}
    color = ColorImage(COLOR_HEADER, np.zeros((12, 16, 3), np.uint8))
    color_camera = COLOR_CAMERA.scaled(16, 12)
    out = RegisterColor()(depth, CAMERA, color, color_camera, COLOR_FROM_DEPTH)
    assert out['color'].rgb.shape == (24, 32, 3)
    assert out['color_camera'] == CAMERA


def test_colour_registered_to_depth_gives_depth_from_colour_in_its_view():
    tree = TransformTree([COLOR_FROM_DEPTH])
    pipeline = pipeline_type('register_color,estimate_depth')()
    seen = []

    def model(color, intrinsics):
        seen.append(tuple(intrinsics))
        flat_m = np.full(color.shape[:2], 3.0, np.float32)
        return {'estimate_m': flat_m, 'stddev_m': 0.1 * flat_m}

    pipeline.stages['estimate_depth'] = EstimateDepth(EstimateDepthParameters(align=False), model)
    depth_m = np.full((24, 32), 2.0, np.float32)
    depth_m[3, 4] = np.nan
    given = {'depth': DepthImage(DEPTH_HEADER, depth_m), 'camera': CAMERA}
    color = ColorImage(COLOR_HEADER, np.zeros((12, 16, 3), np.uint8))
    color_camera = replace(COLOR_CAMERA.scaled(16, 12), fx=99.0)
    out = pipeline(tree, **given, color=color, color_camera=color_camera)
    assert out['estimate_depth.camera'] == CAMERA
    assert out['estimate_depth.depth'].depth_m[3, 4] == 3.0
    # 32 columns are brought to 640: 40 px are 800, whatever the colour camera's focal length.
    assert seen[0][0] == pytest.approx(800)
    out = pipeline(tree, **given, color=None, color_camera=color_camera)
    np.testing.assert_array_equal(out['estimate_depth.depth'].depth_m, depth_m)
    assert out['estimate_depth.provenance'].provenance[3, 4] == 0
