from __future__ import annotations

import math

import numpy as np
import pytest

from depth_refiner_ros.data import Header, PinholeCamera
from depth_refiner_ros.filters.motion import (
    STANDING_STILL,
    EgoMotion,
    estimate_motion,
    surface,
)
from depth_refiner_ros.filters.noise import SENSORS
from depth_refiner_ros.geometry import points_from_depth
from depth_refiner_ros.simulation import ROOM, simulate, with_person

NOISE = SENSORS['kinect_v1']
FRAME_NS = 33_333_333
WIDTH, HEIGHT = 320, 240


def camera(stamp_ns: int = 0, width: int = WIDTH, height: int = HEIGHT) -> PinholeCamera:
    f = 288.0 * width / WIDTH
    return PinholeCamera(
        Header(stamp_ns, 'eye'), width, height, f, f, (width - 1) / 2, (height - 1) / 2
    )


def planes(pose: np.ndarray, *normals_and_distances: tuple[tuple[float, float, float], float]):
    """Depth of the nearest of some planes n x = d, seen from a pose, without noise."""
    rays = points_from_depth(np.ones((HEIGHT, WIDTH), np.float32), camera()).astype(np.float64)
    depth = np.full((HEIGHT, WIDTH), np.inf)
    for normal, distance in normals_and_distances:
        n = np.asarray(normal, float)
        along = rays @ pose[:3, :3].T @ n
        with np.errstate(divide='ignore'):
            z = (distance - n @ pose[:3, 3]) / along
        depth = np.where((z > 0) & (z < depth), z, depth)
    return depth.astype(np.float32)


CORNER = (((0, 0, 1), 2.0), ((1, 0, 0.2), 0.9), ((0, 1, 0.1), 0.8))


def posed(x=0.0, y=0.0, z=0.0, yaw_deg=0.0, roll_deg=0.0) -> np.ndarray:
    yaw, roll = math.radians(yaw_deg), math.radians(roll_deg)
    about_y = np.array(
        [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    )
    about_z = np.array(
        [[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]]
    )
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = about_y @ about_z, (x, y, z)
    return pose


def off(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Errors of a motion in millimetres and degrees."""
    error = found @ np.linalg.inv(truth)
    angle = math.acos(min(1.0, (np.trace(error[:3, :3]) - 1) / 2))
    return 1000 * float(np.linalg.norm(error[:3, 3])), math.degrees(angle)


def frames(count: int, move: str, scene=ROOM, seed: int = 0):
    """Simulated depth and exact poses."""
    for frame in simulate(count, width=WIDTH, height=HEIGHT, move=move, scene=scene, seed=seed):
        pose = np.eye(4)
        pose[:3, :3] = frame.world_from_camera.rotation
        pose[:3, 3] = frame.world_from_camera.translation_m
        yield frame.depth.depth_m, frame.camera, pose


def follow(ego: EgoMotion, depth_m: np.ndarray, view: PinholeCamera, **tf):
    return ego(depth_m, view, NOISE, view.header.stamp_ns, **tf)


def test_a_surface_faces_the_way_its_plane_does():
    normal = np.array([0.3, -0.2, 1.0])
    got = surface(planes(np.eye(4), (tuple(normal), 1.5)), camera(), NOISE)
    assert got.depth_m.shape == (120, 160)
    inside = got.normals[:, 2:-2, 2:-2].reshape(3, -1)
    expected = normal / np.linalg.norm(normal)
    np.testing.assert_allclose(inside, expected[:, None].repeat(inside.shape[1], 1), atol=2e-3)
    # A block of four pixels has its middle between them.
    fx, fy, cx, cy = got.camera
    z = 1.5 / (0.3 * (40 - cx) / fx - 0.2 * (30 - cy) / fy + 1.0)
    assert got.depth_m[30, 40] == pytest.approx(z, rel=1e-4)


def test_edges_and_holes_have_no_normal_and_are_not_blended():
    depth = np.full((HEIGHT, WIDTH), 1.0, np.float32)
    depth[:, 161:] = 2.0
    depth[100:110] = np.nan
    got = surface(depth, camera(), NOISE)
    assert set(np.unique(got.depth_m)) == {np.float32(0), np.float32(1), np.float32(2)}
    assert (got.normals[2, :, 79:82] == 0).all()
    assert (got.normals[2, 50:55] == 0).all()
    assert (got.normals[2, 10:40, 10:70] > 0.99).all()


@pytest.mark.parametrize(
    'truth',
    [
        posed(x=0.012),
        posed(y=-0.01, z=0.015),
        posed(yaw_deg=0.8),
        posed(x=-0.01, z=0.01, yaw_deg=-0.5, roll_deg=1.0),
    ],
)
def test_the_motion_in_front_of_a_corner_is_found(truth):
    before = surface(planes(np.eye(4), *CORNER), camera(), NOISE)
    got = estimate_motion(surface(planes(truth, *CORNER), camera(), NOISE), before)
    error_mm, error_deg = off(got.matrix(), truth)
    assert not got.trouble
    assert got.undetermined == 0
    assert error_mm < 0.5
    assert error_deg < 0.03


def test_a_plane_says_nothing_about_three_directions():
    wall = ((0.0, 0.0, 1.0), 1.5)
    before = surface(planes(np.eye(4), wall), camera(), NOISE)
    now = surface(planes(posed(x=0.01, z=0.02), wall), camera(), NOISE)
    got = estimate_motion(now, before, posed(x=0.004))
    assert got.undetermined == 3
    assert got.translation_m[2] == pytest.approx(0.02, abs=1e-3)
    # Along the wall it goes on as it did, and as uncertain as a hand's change of pace.
    assert got.translation_m[0] == pytest.approx(0.004, abs=1e-3)
    stddev = np.sqrt(np.diag(got.covariance))
    assert stddev[0] > 0.004
    assert stddev[1] > 0.004
    assert stddev[5] > 0.004
    assert stddev[2] < 0.001


def test_a_corridor_says_nothing_about_its_length():
    walls = (((1, 0, 0), 0.8), ((-1, 0, 0), 0.8), ((0, 1, 0), 0.7), ((0, -1, 0), 0.9))
    before = surface(planes(np.eye(4), *walls), camera(), NOISE)
    got = estimate_motion(surface(planes(posed(x=0.01, z=0.03), *walls), camera(), NOISE), before)
    assert got.undetermined == 1
    assert got.translation_m[0] == pytest.approx(0.01, abs=1e-3)
    assert got.covariance[2, 2] > 0.004**2


@pytest.mark.parametrize('move', ['hand_held', 'walking', 'rotation', 'translation'])
def test_simulated_cameras_are_followed_within_what_the_covariance_says(move):
    ego, there, distances = EgoMotion(), None, []
    for depth_m, view, pose in frames(9, move):
        motion = follow(ego, depth_m, view)
        if there is not None and motion is not STANDING_STILL:
            truth = np.linalg.inv(there) @ pose
            assert not motion.trouble
            error_mm, error_deg = off(motion.matrix(), truth)
            assert error_mm < 6
            assert error_deg < 0.2
            error = motion.matrix() @ np.linalg.inv(truth)
            turn = (
                error[2, 1] - error[1, 2],
                error[0, 2] - error[2, 0],
                error[1, 0] - error[0, 1],
            )
            vector = np.concatenate([error[:3, 3], np.array(turn) / 2])
            distances.append(vector @ np.linalg.solve(motion.covariance, vector))
        if motion is not STANDING_STILL:
            there = pose
    # Squared Mahalanobis distances of six dimensions: 6 in the mean where the covariance is right.
    assert np.median(distances) < 15
    assert ego.lost == 0


def test_a_jolt_is_caught():
    first, second = planes(np.eye(4), *CORNER), planes(posed(x=0.01, yaw_deg=3.5), *CORNER)
    ego = EgoMotion()
    follow(ego, first, camera())
    motion = follow(ego, second, camera(FRAME_NS))
    assert not motion.trouble
    assert off(motion.matrix(), posed(x=0.01, yaw_deg=3.5))[1] < 0.1


def test_a_tripod_stands_still_while_somebody_walks_through():
    ego = EgoMotion()
    got = [follow(ego, depth, view) for depth, view, _ in frames(18, 'still', with_person())]
    assert got[0].trouble
    assert all(motion is STANDING_STILL for motion in got[1:])
    assert np.linalg.norm(ego.pose[:3, 3]) < 0.003


def test_slow_motion_adds_up_until_it_shows():
    ego, moved = EgoMotion(), 0.0
    for number in range(8):
        depth = planes(posed(x=0.0008 * number), *CORNER)
        motion = follow(ego, depth, camera(number * FRAME_NS))
        moved += motion.translation_m[0]
    # Half a pixel at two metres is 3.5 mm.
    assert moved > 0.002
    assert ego.pose[0, 3] == pytest.approx(0.0056, abs=3e-4)


def test_what_cannot_be_known_is_said():
    here = planes(np.eye(4), *CORNER)
    ego = EgoMotion()
    assert 'first' in follow(ego, here, camera()).trouble
    late = follow(ego, here, camera(600_000_000))
    assert 'time' in late.trouble
    assert 'time' in follow(ego, here, camera(0)).trouble
    nothing = np.full_like(here, np.nan)
    assert 'few' in follow(ego, nothing, camera(FRAME_NS)).trouble
    small = follow(ego, here[:200, :300].copy(), camera(2 * FRAME_NS, 300, 200))
    assert 'another' in small.trouble
    assert ego.lost == 4
    np.testing.assert_array_equal(ego.pose, np.eye(4))


def test_another_view_is_not_taken_for_a_motion():
    ego = EgoMotion()
    follow(ego, planes(np.eye(4), *CORNER), camera())
    rng = np.random.default_rng(0)
    boxes = np.kron(rng.uniform(0.6, 3.5, (12, 16)), np.ones((20, 20))).astype(np.float32)
    assert follow(ego, boxes, camera(FRAME_NS)).trouble


def test_tf_is_followed_where_it_agrees_with_what_is_seen():
    truth = posed(x=0.02, yaw_deg=0.5)
    depths = planes(np.eye(4), *CORNER), planes(truth, *CORNER)
    base = posed(x=5.0, y=-3.0, yaw_deg=40)

    def followed(tf: np.ndarray | None):
        ego = EgoMotion()
        follow(ego, depths[0], camera(), fixed_from_camera=base, follow_fixed=True)
        view = camera(FRAME_NS)
        return follow(ego, depths[1], view, fixed_from_camera=tf, follow_fixed=True)

    got = followed(base @ truth)
    assert not got.trouble
    np.testing.assert_allclose(got.matrix(), truth, atol=1e-12)
    assert 'does not agree' in followed(base @ posed(x=0.3, z=0.3)).trouble
    assert 'does not have' in followed(None).trouble


def test_the_same_frames_give_the_same_bits():
    depths = [planes(posed(x=0.005 * i, yaw_deg=0.2 * i), *CORNER) for i in range(3)]
    runs = []
    for _ in range(2):
        ego = EgoMotion()
        runs.append([follow(ego, d, camera(i * FRAME_NS)).matrix() for i, d in enumerate(depths)])
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize('shape', [(1, 1), (3, 9), (97, 31)])
@pytest.mark.parametrize('value', [1.0, np.nan, np.inf, 0.0, -1.0])
def test_any_shape_and_nothing_at_all(shape, value):
    ego = EgoMotion()
    view = camera(0, shape[1], shape[0])
    for _ in range(2):
        motion = follow(ego, np.full(shape, value, np.float32), view)
        assert np.isfinite(motion.matrix()).all()
    assert motion.trouble or value == 1.0
