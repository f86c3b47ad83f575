from __future__ import annotations

from dataclasses import replace
import math
import re

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from depth_refiner_ros.data import ColorImage, DepthImage, Header, PinholeCamera, RigidTransform
from depth_refiner_ros.geometry import (
    TransformTree,
    check_camera_fits,
    fill_nearest,
    points_from_depth,
    register_color,
    register_depth,
    registered,
    resize_without_blending,
    same_intrinsics,
)

HEADER = Header(0, 'depth')
NAN = np.float32(np.nan)


def camera(width=64, height=48, f=50.0, **changes):
    centre = {'cx': (width - 1) / 2, 'cy': (height - 1) / 2}
    return PinholeCamera(HEADER, width, height, f, f, **{**centre, **changes})


def transform(*translation_m, rotation=None, parent='color', child='depth'):
    rotation = np.eye(3) if rotation is None else rotation
    return RigidTransform(Header(0, parent), child, rotation, np.array(translation_m, np.float64))


HERE = transform(0.0, 0.0, 0.0)


def wall(depth_m, width=64, height=48):
    return np.full((height, width), depth_m, np.float32)


# -------------------------------------------------------------------------- points_from_depth


def test_points_of_hand_computed_pixels():
    pinhole = PinholeCamera(HEADER, 4, 3, fx=2.0, fy=4.0, cx=1.0, cy=0.5)
    depth_m = np.full((3, 4), np.nan, np.float32)
    depth_m[2, 3] = 2.0
    depth_m[0, 1] = 0.5
    points_m = points_from_depth(depth_m, pinhole)

    assert points_m.dtype == np.float32
    assert points_m.shape == (3, 4, 3)
    # x = (3 - 1) / 2 * 2 = 2 m right, y = (2 - 0.5) / 4 * 2 = 0.75 m down
    np.testing.assert_array_equal(points_m[2, 3], [2.0, 0.75, 2.0])
    # on the principal column, (0 - 0.5) / 4 * 0.5 = 0.0625 m above the axis
    np.testing.assert_array_equal(points_m[0, 1], [0.0, -0.0625, 0.5])
    assert np.isnan(points_m[0, 0]).all()
    assert np.isfinite(points_m).all(-1).sum() == 2


def test_points_do_not_write_into_the_depth_and_cameras_do_not_mix():
    depth_m = wall(1.0)
    depth_m.flags.writeable = False
    one = points_from_depth(depth_m, camera())
    other = points_from_depth(depth_m, camera(f=100.0))
    again = points_from_depth(depth_m, camera())
    np.testing.assert_array_equal(one, again)
    np.testing.assert_allclose(other[..., :2], one[..., :2] / 2)


@pytest.mark.parametrize(
    'call',
    [
        lambda depth_m, small: points_from_depth(depth_m, small),
        lambda depth_m, small: register_depth(depth_m, small, camera(), HERE),
        lambda depth_m, small: check_camera_fits(depth_m, small),
        lambda depth_m, small: register_color(
            np.zeros((48, 64, 3), np.uint8), small, depth_m, camera(), HERE
        ),
        lambda depth_m, small: register_color(
            np.zeros((24, 32, 3), np.uint8), small, depth_m, small, HERE
        ),
    ],
)
def test_a_camera_of_another_size_is_refused(call):
    message = (
        'the image is 64x48 but its camera_info says 32x24; '
        'pair each image with the camera_info of its own stream'
    )
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        call(wall(1.0), camera(32, 24))


def test_a_camera_of_another_size_is_refused_even_where_there_is_no_depth():
    rgb = np.zeros((24, 32, 3), np.uint8)
    with pytest.raises(ValueError, match='the image is 64x48'):
        register_color(rgb, camera(32, 24), wall(NAN), camera(32, 24), HERE)


# ----------------------------------------------------------------------------- register_depth


def test_registering_into_the_same_camera_changes_nothing():
    rng = np.random.default_rng(0)
    depth_m = rng.uniform(0.3, 8.0, (48, 64)).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < 0.3] = np.nan
    before = depth_m.copy()
    moved_m = register_depth(depth_m, camera(), camera(), HERE)
    np.testing.assert_array_equal(moved_m, depth_m)
    np.testing.assert_array_equal(depth_m, before)
    assert moved_m.dtype == np.float32


def test_a_baseline_shifts_by_the_disparity():
    # 50 px * 0.1 m / 1.0 m = 5 px to the right; the five left columns see nothing.
    moved_m = register_depth(wall(1.0), camera(), camera(), transform(0.1, 0.0, 0.0))
    assert np.isnan(moved_m[:, :5]).all()
    assert (moved_m[:, 5:] == 1.0).all()
    # twice as far, 2 m, moves 2.5 px: see the cracks below; four times as far, 1.25 px
    moved_m = register_depth(wall(4.0), camera(), camera(), transform(0.0, -0.08, 0.0))
    assert (moved_m[:47] == 4.0).all()  # one pixel up
    assert np.isnan(moved_m[47]).all()


@pytest.mark.parametrize('depth_m', [0.4, 2.0, 2.0 / 3, 1.2345])
def test_a_shift_by_half_a_pixel_opens_no_cracks(depth_m):
    # At 2 m the shift is 2.5 px: every pixel lands exactly between two.
    moved_m = register_depth(wall(depth_m), camera(), camera(), transform(0.1, 0.0, 0.0))
    first = int(np.ceil(50 * 0.1 / depth_m))
    assert (moved_m[:, first:] == np.float32(depth_m)).all()


def test_what_leaves_the_image_on_one_side_does_not_come_back_on_the_other():
    for shift in (transform(-0.5, 0.0, 0.0), transform(0.0, 0.5, 0.0)):
        moved_m = register_depth(wall(1.0), camera(), camera(), shift)  # 25 px
        seen = np.isfinite(moved_m)
        assert seen.sum() in ((64 - 25) * 48, 64 * (48 - 25))
    assert np.isnan(register_depth(wall(1.0), camera(), camera(), transform(9.0, 0, 0))).all()


def test_depth_changes_by_the_way_the_camera_moves_forward():
    # The source camera stands 0.5 m in front of the target.
    moved_m = register_depth(wall(1.5), camera(), camera(), transform(0.0, 0.0, 0.5))
    assert (moved_m[12:36, 16:48] == 2.0).all()
    # 1.5 / 2.0 of 64 px: pixels -23.625 .. 23.625 from the centre
    assert np.isnan(moved_m[:, :8]).all()
    assert np.isnan(moved_m[:, 56:]).all()


def test_moving_towards_a_surface_opens_no_cracks():
    moved_m = register_depth(wall(1.0), camera(), camera(), transform(0.0, 0.0, -0.3))
    assert np.isfinite(moved_m).all()


def test_what_ends_up_behind_the_camera_is_not_seen():
    for z_m in (-2.0, -1.0):
        moved_m = register_depth(wall(1.0), camera(), camera(), transform(0.0, 0.0, z_m))
        assert np.isnan(moved_m).all()


def test_what_nearly_touches_the_target_does_not_cover_its_image():
    depth_m = wall(NAN)
    depth_m[20, 30] = 1.0
    moved_m = register_depth(depth_m, camera(), camera(), transform(0.03, 0.07, -0.995))
    assert np.isfinite(moved_m).sum() <= 9


@pytest.mark.parametrize('near_first', [True, False])
def test_near_hides_far_whatever_comes_first(near_first):
    # 5 px and 1 px of disparity: columns 5..14 of the target are claimed by both.
    depth_m = np.full((1, 20), np.nan, np.float32)
    pinhole = camera(20, 1)
    if near_first:
        depth_m[0, :5], depth_m[0, 5:] = 1.0, 5.0
        expected = [NAN] * 5 + [1.0] * 5 + [5.0] * 10
    else:
        depth_m[0, :10], depth_m[0, 10:] = 5.0, 1.0
        expected = [NAN] + [5.0] * 10 + [NAN] * 4 + [1.0] * 5
    moved_m = register_depth(depth_m, pinhole, pinhole, transform(0.1, 0.0, 0.0))
    np.testing.assert_array_equal(moved_m[0], np.array(expected, np.float32))


@given(seed=st.integers(0, 10_000), f=st.floats(20, 120), tx=st.floats(-0.3, 0.3))
def test_every_target_pixel_holds_the_nearest_depth_that_covers_it(seed, f, tx):
    """Against a loop over pixels in double precision; what lies on an edge may go either way."""
    rng = np.random.default_rng(seed)
    depth_m = rng.choice(np.array([0.5, 1.0, 3.0, np.nan], np.float32), (6, 8))
    source, target = camera(8, 6), camera(12, 7, f=f)
    moved_m = register_depth(depth_m, source, target, transform(tx, 0.01, 0.0))

    def splatted(margin):
        nearest = np.full((7, 12), np.inf)
        half = max(1.0, f / 50.0) / 2 + margin
        for (v, u), z in np.ndenumerate(depth_m.astype(np.float64)):
            if np.isnan(z):
                continue
            centre_u = ((u - source.cx) / 50 * z + tx) / z * f + target.cx
            centre_v = ((v - source.cy) / 50 * z + 0.01) / z * f + target.cy
            for row in range(7):
                for column in range(12):
                    if abs(row - centre_v) <= half and abs(column - centre_u) <= half:
                        nearest[row, column] = min(nearest[row, column], z)
        return nearest

    at_most, at_least = splatted(-0.001), splatted(0.051)
    have = np.where(np.isnan(moved_m), np.inf, moved_m)
    assert (have <= at_most).all()
    assert (have >= at_least).all()


@pytest.mark.parametrize('factor', [1.1, 1.25, 1.447, 1.5, 2, 2.16, 3])
def test_a_target_of_higher_resolution_shows_no_pinholes(factor):
    target = camera().scaled(round(64 * factor), round(48 * factor))
    moved_m = register_depth(wall(1.37), camera(), target, HERE)
    assert (moved_m == np.float32(1.37)).all()


def test_doubling_repeats_every_pixel():
    depth_m = np.random.default_rng(1).uniform(1, 2, (48, 64)).astype(np.float32)
    moved_m = register_depth(depth_m, camera(), camera().scaled(128, 96), HERE)
    np.testing.assert_array_equal(moved_m, depth_m.repeat(2, 0).repeat(2, 1))


def test_halving_keeps_the_nearest_of_each_block():
    depth_m = np.random.default_rng(2).uniform(1, 2, (48, 64)).astype(np.float32)
    moved_m = register_depth(depth_m, camera(), camera().scaled(32, 24), HERE)
    blocks_m = depth_m.reshape(24, 2, 32, 2).min((1, 3))
    np.testing.assert_array_equal(moved_m, blocks_m)


def test_a_quarter_turn_about_the_optical_axis_turns_the_image():
    depth_m = np.random.default_rng(3).uniform(1, 2, (32, 32)).astype(np.float32)
    # x to y and y to -x: what is right goes down
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    square = camera(32, 32)
    moved_m = register_depth(depth_m, square, square, transform(0, 0, 0, rotation=turn))
    np.testing.assert_array_equal(moved_m, np.rot90(depth_m, -1))


def test_a_pan_gives_depth_along_the_new_axis():
    # Looking 30 degrees to the side at one point straight ahead at 2 m.
    depth_m = wall(NAN, 65, 49)
    depth_m[24, 32] = 2.0
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    pan = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    pinhole = camera(65, 49)
    moved_m = register_depth(depth_m, pinhole, pinhole, transform(0, 0, 0, rotation=pan))
    # tan 30 * 50 px = 28.9 px to the right, 2 cos 30 = 1.732 m along the axis
    rows, columns = np.nonzero(np.isfinite(moved_m))
    assert (rows == 24).all()
    assert 32 + 29 in columns
    np.testing.assert_allclose(moved_m[rows, columns], 1.7320508, rtol=1e-6)


def test_no_depth_registers_to_no_depth():
    assert np.isnan(register_depth(wall(NAN), camera(), camera(10, 5), HERE)).all()


# ----------------------------------------------------------------------------- register_color


def gradient(width=64, height=48):
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = np.arange(width)
    rgb[..., 1] = np.arange(height)[:, None]
    rgb[..., 2] = 200
    return rgb


def test_color_of_the_same_camera_is_itself():
    same = register_color(gradient(), camera(), wall(1.5), camera(), HERE)
    np.testing.assert_array_equal(same, gradient())


def test_color_is_looked_up_at_the_disparity():
    # 50 px * 0.1 m / 1 m: a depth pixel's colour is 5 px further right.
    looked_up = register_color(gradient(), camera(), wall(1.0), camera(), transform(0.1, 0, 0))
    np.testing.assert_array_equal(looked_up[:, :59], gradient()[:, 5:])
    assert (looked_up[:, 60:] == 0).all()  # the colour camera does not look there


def test_color_in_another_resolution_and_turned():
    big = camera().scaled(128, 96)
    looked_up = register_color(gradient(128, 96), big, wall(2.0), camera(), HERE)
    # pixel u covers 2u and 2u + 1: their mean, 2u + 0.5, rounded either way
    assert np.abs(looked_up[..., 0] - (2 * np.arange(64) + 0.5)).max() <= 0.5
    assert np.abs(looked_up[..., 1] - (2 * np.arange(48)[:, None] + 0.5)).max() <= 0.5
    assert (looked_up[..., 2] == 200).all()

    upside_down = transform(0, 0, 0, rotation=np.diag([-1.0, -1.0, 1.0]))
    turned = register_color(gradient(), camera(), wall(2.0), camera(), upside_down)
    np.testing.assert_array_equal(turned, gradient()[::-1, ::-1])


def test_a_pixel_without_depth_takes_its_neighbours_parallax():
    holed_m = wall(1.0)
    holed_m[10:20, 10:20] = np.nan
    shift = transform(0.1, 0, 0)
    np.testing.assert_array_equal(
        register_color(gradient(), camera(), holed_m, camera(), shift),
        register_color(gradient(), camera(), wall(1.0), camera(), shift),
    )


def test_color_without_any_depth_is_black():
    black = register_color(gradient(), camera(), wall(NAN, 20, 10), camera(20, 10), HERE)
    assert black.shape == (10, 20, 3)
    assert black.dtype == np.uint8
    assert not black.any()


def test_color_behind_the_color_camera_is_black():
    behind = transform(0.0, 0.0, -3.0)
    assert not register_color(gradient(), camera(), wall(1.0), camera(), behind).any()


# ------------------------------------------------------------------------------- fill_nearest


def check_filled(depth_m):
    """Every hole holds the depth of a measured pixel that is as near as OpenCV's 5x5 mask can say.

    Borgefors (1986): the 5x5 chamfer distance is within 2 % of the Euclidean, so the pixel it
    finds is at most a little farther than the nearest.
    """
    filled_m = fill_nearest(depth_m)
    rows, columns = np.nonzero(np.isfinite(depth_m))
    for (row, column), value in np.ndenumerate(filled_m):
        distance = np.hypot(rows - row, columns - column)
        of_value = distance[depth_m[rows, columns] == value].min()
        assert of_value <= distance.min() * 1.05
    return filled_m


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    holes=st.floats(0, 0.97),
)
def test_holes_take_the_nearest_measured_depth(seed, height, width, holes):
    rng = np.random.default_rng(seed)
    depth_m = rng.permutation(height * width).reshape(height, width).astype(np.float32) + 1
    depth_m[rng.random(depth_m.shape) < holes] = np.nan
    if np.isnan(depth_m).all():
        depth_m[rng.integers(height), rng.integers(width)] = 5.0
    before = depth_m.copy()
    filled_m = check_filled(depth_m)
    np.testing.assert_array_equal(depth_m, before)
    np.testing.assert_array_equal(filled_m[~np.isnan(depth_m)], depth_m[~np.isnan(depth_m)])


def test_a_wide_hole_is_split_down_the_middle():
    depth_m = wall(NAN, 41, 5)
    depth_m[:, 0], depth_m[:, 40] = 1.0, 2.0
    filled_m = fill_nearest(depth_m)
    assert (filled_m[:, :20] == 1.0).all()
    assert (filled_m[:, 21:] == 2.0).all()


def test_nothing_to_fill_and_nothing_to_fill_from():
    full_m = wall(1.0)
    np.testing.assert_array_equal(fill_nearest(full_m), full_m)
    assert fill_nearest(wall(NAN)) is None


# ------------------------------------------------------------------------------ TransformTree

TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def test_a_frame_sits_in_itself_unmoved():
    here = TransformTree().lookup('anywhere', 'anywhere')
    np.testing.assert_array_equal(here.rotation, np.eye(3))
    np.testing.assert_array_equal(here.translation_m, np.zeros(3))


def test_lookup_in_both_directions():
    tree = TransformTree([transform(1.0, 2.0, 3.0, rotation=TURN, parent='base', child='cam')])
    base_from_cam = tree.lookup('base', 'cam')
    assert (base_from_cam.header.frame_id, base_from_cam.child_frame_id) == ('base', 'cam')
    np.testing.assert_array_equal(base_from_cam.rotation, TURN)
    np.testing.assert_array_equal(base_from_cam.translation_m, [1.0, 2.0, 3.0])
    cam_from_base = tree.lookup('cam', 'base')
    assert (cam_from_base.header.frame_id, cam_from_base.child_frame_id) == ('cam', 'base')
    np.testing.assert_array_equal(cam_from_base.translation_m, [-2.0, 1.0, -3.0])


def realsense():
    """The tree of a camera driver: two optical frames under one link, two levels down each."""
    return TransformTree(
        [
            transform(0.0, 0.015, 0.0, parent='link', child='color_frame'),
            transform(0.0, 0.0, 0.0, rotation=TURN, parent='color_frame', child='color_optical'),
            transform(0.0, -0.01, 0.0, parent='link', child='depth_frame'),
            transform(0.0, 0.0, 0.0, rotation=TURN, parent='depth_frame', child='depth_optical'),
            transform(5.0, 0.0, 0.0, parent='base', child='link'),
        ]
    )


def test_lookup_over_a_common_ancestor():
    color_from_depth = realsense().lookup('color_optical', 'depth_optical')
    ids = color_from_depth.header.frame_id, color_from_depth.child_frame_id
    assert ids == ('color_optical', 'depth_optical')
    np.testing.assert_allclose(color_from_depth.rotation, np.eye(3), atol=1e-15)
    # depth lies 25 mm along -y of the link; the turned frames call that axis -x
    np.testing.assert_allclose(color_from_depth.translation_m, [-0.025, 0.0, 0.0], atol=1e-15)


def test_lookup_along_a_chain():
    tree = realsense()
    np.testing.assert_allclose(
        tree.lookup('base', 'depth_optical').translation_m, [5.0, -0.01, 0.0], atol=1e-15
    )
    back = tree.lookup('depth_optical', 'base') @ tree.lookup('base', 'depth_optical')
    np.testing.assert_allclose(back.translation_m, np.zeros(3), atol=1e-15)


def test_frames_without_a_connection():
    tree = realsense()
    tree.update([transform(0.0, 0.0, 0.0, parent='map', child='odom')])
    assert tree.lookup('map', 'link') is None
    assert tree.lookup('link', 'map') is None
    assert tree.lookup('link', 'never_heard_of') is None
    assert tree.lookup('never_heard_of', 'link') is None
    tree.update([transform(0.0, 0.0, 1.0, parent='odom', child='base')])
    np.testing.assert_allclose(tree.lookup('map', 'link').translation_m, [5.0, 0.0, 1.0])


def test_a_later_transform_of_the_same_frame_replaces_the_earlier():
    tree = TransformTree([transform(1.0, 0.0, 0.0, parent='a', child='b')])
    tree.update([transform(2.0, 0.0, 0.0, parent='a', child='b')])
    np.testing.assert_array_equal(tree.lookup('a', 'b').translation_m, [2.0, 0.0, 0.0])
    tree.update([transform(3.0, 0.0, 0.0, parent='elsewhere', child='b')])
    assert tree.lookup('a', 'b') is None
    assert tree.lookup('elsewhere', 'b') is not None


def test_a_loop_neither_hangs_nor_hides_what_is_connected():
    tree = TransformTree(
        [
            transform(1.0, 0.0, 0.0, parent='a', child='b'),
            transform(1.0, 0.0, 0.0, parent='b', child='a'),
            transform(1.0, 0.0, 0.0, parent='b', child='c'),
            transform(1.0, 0.0, 0.0, parent='self', child='self'),
        ]
    )
    np.testing.assert_array_equal(tree.lookup('b', 'c').translation_m, [1.0, 0.0, 0.0])
    assert tree.lookup('c', 'nowhere') is None
    assert tree.lookup('a', 'self') is None


def test_lookup_does_not_depend_on_stamps():
    old = transform(1.0, 0.0, 0.0, parent='a', child='b')
    tree = TransformTree([replace(old, header=Header(9, 'a')), old])
    assert tree.lookup('a', 'b') is not None


@pytest.mark.parametrize(
    ('changes', 'same'),
    [
        ({}, True),
        ({'cx': 320.4}, True),
        ({'cx': 322.0}, False),
        # 615 against 616: the first column, 319.5 px from the centre, moves 319.5 / 615 = 0.52 px.
        ({'fx': 616.0}, True),
        # 615 against 618: 3 * 319.5 / 615 = 1.56 px.
        ({'fx': 618.0}, False),
        ({'fy': 385.0, 'fx': 385.0}, False),
        ({'height': 400}, False),
    ],
)
def test_two_cameras_are_one_if_every_pixel_sees_the_same_to_one_pixel(changes, same):
    camera = PinholeCamera(Header(0, 'optical'), 640, 480, 615.0, 615.0, 319.5, 239.5)
    assert same_intrinsics(camera, replace(camera, **changes)) == same


def test_registered_means_size_frame_and_intrinsics():
    header = Header(0, 'optical')
    depth = DepthImage(header, np.ones((48, 64), np.float32))
    color = ColorImage(header, np.zeros((48, 64, 3), np.uint8))
    camera = PinholeCamera(header, 64, 48, 60.0, 60.0, 31.5, 23.5)
    other = replace(camera, fx=96.0, fy=96.0)
    assert registered(color, depth)
    assert registered(color, depth, camera, camera)
    assert not registered(color, depth, other, camera)
    assert not registered(replace(color, header=Header(0, 'rgb')), depth, camera, camera)
    assert not registered(replace(color, rgb=color.rgb[:40]), depth, camera, camera)


def test_resizing_keeps_planes_planes_and_edges_sharp():
    # Inverse depth is affine in the pixels: 1 / z = 0.5 + 0.002 x, centres at whole numbers.
    x = np.arange(8)
    plane_m = np.tile((1 / (0.5 + 0.002 * x)).astype(np.float32), (4, 1))
    found_m = resize_without_blending(plane_m, (8, 16))
    inside = (np.arange(16) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(
        found_m[:, 1:-1], np.tile(1 / (0.5 + 0.002 * inside), (8, 1))[:, 1:-1], rtol=1e-6
    )
    step_m = np.array([[1, 1, 2, np.nan]], np.float32)
    np.testing.assert_array_equal(
        resize_without_blending(step_m, (2, 8)), [[1, 1, 1, 1, 2, 2, np.nan, np.nan]] * 2
    )
    np.testing.assert_array_equal(resize_without_blending(step_m, (1, 2)), [[1, np.nan]])
    np.testing.assert_array_equal(resize_without_blending(step_m[:, :1], (2, 3)), np.ones((2, 3)))


def placed(parent, child, x_m):
    return RigidTransform(Header(0, parent), child, np.eye(3), np.array([x_m, 0.0, 0.0]))


@pytest.mark.parametrize('slash', ['', '/'])
@pytest.mark.parametrize('asked', ['', '/'])
def test_a_slash_before_a_frame_does_not_count(slash, asked):
    tree = TransformTree(
        [placed(f'{slash}world', 'depth', 1), placed('world', f'{slash}color', 3)]
    )
    found = tree.lookup(f'{asked}color', 'depth')
    assert found.translation_m.tolist() == [-2, 0, 0]


def test_what_comes_later_serves_only_until_it_is_needed_no_more():
    calls = []

    def later():
        calls.append(1)
        yield placed('world', 'depth', 5)
        yield placed('world', '/color', 7)
        yield placed('world', '/color', 8)

    tree = TransformTree([placed('world', 'depth', 1)], later=later)
    assert tree.lookup('world', 'depth').translation_m[0] == 1
    assert calls == []
    # the first of what is missing, and nothing of what is known
    assert tree.lookup('depth', 'color').translation_m[0] == 6
    assert tree.lookup('world', 'nowhere') is None
    assert calls == [1]
    tree.update([placed('world', 'color', 9)])
    assert tree.lookup('depth', 'color').translation_m[0] == 8


def odometry(stamp_ms: int, x_m: float, yaw_deg: float = 0.0) -> RigidTransform:
    yaw = math.radians(yaw_deg)
    turn = np.array(
        [[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]]
    )
    header = Header(stamp_ms * 1_000_000, 'odom')
    return RigidTransform(header, 'base', turn, np.array([x_m, 0.0, 0.0]))


MOUNT = RigidTransform(Header(0, 'base'), 'camera', np.eye(3), np.array([0.0, 0.0, 1.0]))


def test_tf_is_interpolated_between_two_times():
    tree = TransformTree([MOUNT, odometry(1000, 1.0, 0), odometry(1100, 1.2, 30)])
    found = tree.lookup_at('odom', 'camera', 1_025_000_000)
    assert found.translation_m == pytest.approx([1.05, 0, 1])
    angle_deg = math.degrees(math.atan2(found.rotation[1, 0], found.rotation[0, 0]))
    assert angle_deg == pytest.approx(7.5)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-12)
    # The latest is what it was.
    assert tree.lookup('odom', 'camera').translation_m == pytest.approx([1.2, 0, 1])


@pytest.mark.parametrize(
    ('stamp_ms', 'x_m'), [(1000, 1.0), (1100, 1.2), (1150, 1.3), (1250, None), (999, None)]
)
def test_tf_goes_on_for_a_tenth_of_a_second_and_is_not_known_before(stamp_ms, x_m):
    tree = TransformTree([MOUNT, odometry(1000, 1.0), odometry(1100, 1.2)])
    found = tree.lookup_at('odom', 'camera', stamp_ms * 1_000_000)
    assert (found is None) == (x_m is None)
    if found is not None:
        assert found.translation_m[0] == pytest.approx(x_m)


def test_tf_is_not_known_in_a_long_gap_after_a_jump_or_without_a_path():
    tree = TransformTree([MOUNT, odometry(1000, 1.0), odometry(1600, 2.0)])
    assert tree.lookup_at('odom', 'camera', 1_300_000_000) is None
    assert tree.lookup_at('map', 'camera', 1_600_000_000) is None
    tree.update([odometry(100, 0.0), odometry(200, 0.1)])  # the clock went back
    assert tree.lookup_at('odom', 'camera', 150_000_000).translation_m[0] == pytest.approx(0.05)
    assert tree.lookup_at('odom', 'camera', 1_000_000_000) is None
    still = TransformTree([MOUNT])
    assert still.lookup_at('base', 'camera', 5).translation_m[2] == 1.0


def test_old_tf_is_forgotten():
    tree = TransformTree([odometry(10 * i, 0.01 * i) for i in range(1000)])
    assert tree.lookup_at('odom', 'base', 9_000_000_000).translation_m[0] == pytest.approx(9.0)
    assert tree.lookup_at('odom', 'base', 7_000_000_000) is None
