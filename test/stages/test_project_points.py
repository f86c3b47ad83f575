from dataclasses import replace

import numpy as np
import pytest

from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
)
from depth_refiner_ros.stages.project_points import ProjectPoints, ProjectPointsParameters

HEADER = Header(5, 'camera')
CAMERA = PinholeCamera(HEADER, 4, 3, 2.0, 2.0, 1.0, 1.0)


def depth(values=2.0):
    return DepthImage(HEADER, np.broadcast_to(np.float32(values), (3, 4)).copy())


def test_hand_computed_point():
    cloud = ProjectPoints()(depth(), CAMERA)['points']
    np.testing.assert_array_equal(cloud.points_m[2, 3], [2.0, 1.0, 2.0])
    assert cloud.points_m.shape == (3, 4, 3)
    assert cloud.rgb is None


def test_stride_keeps_every_nth_pixel_and_its_colour():
    rgb = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    stage = ProjectPoints(ProjectPointsParameters(stride_px=2))
    cloud = stage(depth(), CAMERA, color=ColorImage(HEADER, rgb))['points']
    assert cloud.points_m.shape == (2, 2, 3)
    np.testing.assert_array_equal(cloud.points_m[1, 1], [1.0, 1.0, 2.0])
    np.testing.assert_array_equal(cloud.rgb[1, 1], rgb[2, 2])


def test_distance_range_is_inclusive():
    values = np.float32([[0.5, 1.0, 2.0, 3.0]] * 3)
    stage = ProjectPoints(ProjectPointsParameters(min_distance_m=1.0, max_distance_m=2.0))
    z_m = stage(depth(values), CAMERA)['points'].points_m[0, :, 2]
    np.testing.assert_array_equal(z_m, [np.nan, 1.0, 2.0, np.nan])


def test_minimum_alone_keeps_the_far():
    stage = ProjectPoints(ProjectPointsParameters(min_distance_m=1.0))
    assert np.isfinite(stage(depth(50.0), CAMERA)['points'].points_m).all()


def test_leaves_inpainted_points_out_on_request():
    marks = np.full((3, 4), Provenance.MEASURED, np.uint8)
    marks[1, 1] = Provenance.INPAINTED
    provenance = ProvenanceImage(HEADER, marks)
    for wanted in (True, False):
        stage = ProjectPoints(ProjectPointsParameters(inpainted=wanted))
        points_m = stage(depth(), CAMERA, provenance=provenance)['points'].points_m
        assert np.isfinite(points_m[1, 1]).all() == wanted
        assert np.isfinite(points_m[0, 0]).all()


@pytest.mark.parametrize(
    ('trust', 'codes'),
    [
        ('measured', {1}),
        ('refined', {1, 2}),
        ('inpainted', {1, 2, 3}),
        ('aligned', {1, 2, 3, 5}),
        ('estimated', {1, 2, 3, 4, 5}),
        ('relative', {0, 1, 2, 3, 4, 5, 6, 7, 8}),  # everything that has depth
    ],
)
def test_trust_is_an_ordered_threshold(trust, codes):
    marks = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [8, 1, 1, 1]], np.uint8)
    provenance = ProvenanceImage(HEADER, marks)

    def published(**parameters):
        stage = ProjectPoints(ProjectPointsParameters(trust=trust, **parameters))
        points_m = stage(depth(), CAMERA, provenance=provenance)['points'].points_m
        return set(marks[np.isfinite(points_m[..., 2])])

    assert published() == codes
    assert published(inpainted=False) == codes & {1, 2}  # the stricter of the two counts


def test_colour_of_another_frame_or_size_is_left_out():
    rgb = np.zeros((3, 4, 3), np.uint8)
    other = ColorImage(Header(5, 'color_camera'), rgb)
    assert ProjectPoints()(depth(), CAMERA, color=other)['points'].rgb is None
    small = ColorImage(HEADER, rgb[:2].copy())
    assert ProjectPoints()(depth(), CAMERA, color=small)['points'].rgb is None


def test_colour_of_another_camera_in_the_same_frame_is_left_out():
    color = ColorImage(HEADER, np.zeros((3, 4, 3), np.uint8))
    for camera, used in ((CAMERA, True), (replace(CAMERA, cx=CAMERA.cx + 2), False)):
        cloud = ProjectPoints()(depth(), CAMERA, color=color, color_camera=camera)['points']
        assert (cloud.rgb is not None) == used


def test_wrong_sizes_are_one_sentence():
    with pytest.raises(ValueError, match='camera_info says'):
        ProjectPoints()(DepthImage(HEADER, np.ones((5, 5), np.float32)), CAMERA)
    provenance = ProvenanceImage(HEADER, np.zeros((1, 1), np.uint8))
    stage = ProjectPoints(ProjectPointsParameters(inpainted=False))
    with pytest.raises(ValueError, match='provenance is'):
        stage(depth(), CAMERA, provenance=provenance)
