from dataclasses import replace
import random

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.render import Renderer, World
from training.render.cameras import View, gather, hand_held_path, look_at, sample_view
from training.render.scenes import sample_scene
from training.render.solids import Lamp, Material, Scene, box, ellipsoid

HEIGHT, WIDTH = 50, 70
FX, FY, CX, CY = 61.0, 64.0, 33.4, 26.7
FLOOR = box((0, 0, -0.5), (90, 90, 0.5), Material())


def world(*solids):
    lamps = [Lamp((0, 0, 3), (1, 1, 1))] * 3
    numbered = [solid._replace(instance=i) for i, solid in enumerate(solids)]
    return World.from_scenes([Scene(solids=numbered, lamps=lamps)])


def view(eye_m=(0.3, -0.2, 1.5), target_m=(1.5, 1.0, 0.0), roll_rad=0.3):
    return View((FX, FY, CX, CY), eye_m, target_m, roll_rad, 0.3, (1, 1, 1), 0.0)


def cameras(**given):
    return gather([view(**given)], [0], HEIGHT, WIDTH)


def rays():
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(u - CX) / FX, (v - CY) / FY, np.ones(u.shape)])


def test_a_tilted_floor_is_as_deep_as_its_plane_equation_says():
    seen, _ = Renderer().depth(world(FLOOR), cameras())
    pose = np.array(look_at((0.3, -0.2, 1.5), (1.5, 1.0, 0.0), 0.3))
    falling = np.einsum('i,ivu->vu', pose[2, :3], rays())  # metres of height per metre of depth
    want_m = 1.5 / -falling
    met = (falling < 0) & (want_m < 50)
    assert met.mean() > 0.9
    np.testing.assert_allclose(seen[0, 0].numpy()[met], want_m[met], rtol=1e-4)


@pytest.mark.parametrize('pixel', [(33, 26), (4, 45), (66, 3)])
def test_pixel_centres_are_at_whole_numbers(pixel):
    (u, v), depth_m = pixel, 1.2
    pose = np.array(look_at((0.3, -0.2, 1.5), (1.5, 1.0, 0.0), 0.3))
    point = depth_m * np.array([(u - CX) / FX, (v - CY) / FY, 1])
    center_m = tuple(pose[:, :3] @ point + pose[:, 3])
    # A third of a pixel in radius: the pixel's own ray meets it, those of its neighbours do not.
    radius_m = depth_m / FX / 3
    ball = ellipsoid(center_m, (radius_m,) * 3, Material())
    seen = Renderer()(world(FLOOR, ball), cameras())
    rows, columns = (seen.instances[0, 0] == 1).nonzero(as_tuple=True)
    assert (columns.tolist(), rows.tolist()) == ([u], [v])


def test_a_camera_beside_another_sees_a_disparity_of_focal_length_times_baseline_over_depth():
    pair = cameras(eye_m=(0.0, 0.0, 1.0), target_m=(5.0, 0.0, 1.0), roll_rad=0.0)
    post = box((2.1, 0, 1), (0.1, 0.3, 9), Material())  # its face is at 2 m
    left, _ = Renderer().depth(world(FLOOR, post), pair)
    # 61 px * 0.1967 m / 2 m is 6 px.
    right, _ = Renderer().depth(world(FLOOR, post), pair.moved((12 / FX, 0, 0)))
    on_post = (left[0, 0] - 2).abs() < 1e-3
    assert on_post.any(1).all()
    moved = (right[0, 0] - 2).abs() < 1e-3
    assert torch.equal(moved[:, :-6], on_post[:, 6:])


def test_pictures_of_any_size_are_those_of_whole_tiles():
    small = cameras()
    large = replace(small, height=64, width=80)
    scene = world(FLOOR, ellipsoid((1.0, 0.6, 0.3), (0.3, 0.3, 0.3), Material()))
    part, whole = Renderer()(scene, small), Renderer()(scene, large)
    for name in ('depth_m', 'normals', 'instances', 'albedo'):
        cut = getattr(whole, name)[..., :HEIGHT, :WIDTH]
        torch.testing.assert_close(getattr(part, name), cut, equal_nan=True)


def test_poses_are_rotations_that_roll_about_the_line_of_sight():
    straight, rolled = (np.array(look_at((1, 2, 3), (2, 0, 1), roll)) for roll in (0.0, 0.4))
    for pose in (straight, rolled):
        np.testing.assert_allclose(pose[:, :3].T @ pose[:, :3], np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:, :3]) == pytest.approx(1)
    assert straight[2, 0] == 0  # level
    assert straight[:, 0] @ rolled[:, 0] == pytest.approx(np.cos(0.4))
    np.testing.assert_allclose(straight[:, 2], rolled[:, 2])
    down = np.array(look_at((1, 1, 2), (1, 1, 0)))
    assert np.isfinite(down).all()
    np.testing.assert_allclose(down[:, 2], [0, 0, -1])


def test_a_hand_moves_smoothly_from_where_it_starts():
    start = view()
    path = hand_held_path(random.Random(3), start, 60, rate_hz=30.0)
    assert path[0] == start
    eyes = np.array([seen.eye_m for seen in path])
    speed_m_s = np.linalg.norm(np.diff(eyes, axis=0), axis=1) * 30
    assert 0.001 < speed_m_s.mean() < 0.5
    # Sway and tremor: 0.012 (2 pi 0.8)^2 + 0.0015 (2 pi 4)^2 = 1.25 m/s^2 along each axis.
    acceleration = np.abs(np.diff(eyes, n=2, axis=0)) * 900
    assert acceleration.max() <= 1.26
    assert hand_held_path(random.Random(3), start, 60) == path
    assert hand_held_path(random.Random(4), start, 60) != path


def test_sampled_eyes_are_in_the_room():
    for index in range(30):
        scene = sample_scene(6, index)
        seen = sample_view(random.Random(index), scene, 480, 640)
        half = np.array(scene.size_m) / 2
        assert (np.abs(seen.eye_m[:2]) <= half[:2]).all()
        assert 0 < seen.eye_m[2] < scene.size_m[2]


def test_views_into_the_room_are_from_its_sides_and_level():
    eyes = []
    for index in range(60):
        scene = sample_scene(6, index)
        seen = sample_view(random.Random(index), scene, 480, 640, room_share=1.0)
        assert 0.6 <= seen.eye_m[2] <= 1.8
        eyes.append(np.abs(seen.eye_m[:2]) / (np.array(scene.size_m[:2]) / 2 - 0.3))
    # The root of a uniform number has a mean of 2/3.
    assert np.mean(eyes) == pytest.approx(2 / 3, abs=0.07)
