from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from depth_refiner_ros.data import Header, PinholeCamera, RigidTransform
from depth_refiner_ros.filters.noise import nguyen_stddev_m
from depth_refiner_ros.geometry import register_depth
from depth_refiner_ros.simulation import (
    BASELINE_M,
    DISPARITY_M_PX,
    EPOCH_NS,
    FRAME_ID,
    ROOM,
    Box,
    Cylinder,
    Rendering,
    Shape,
    Solid,
    Sphere,
    Surface,
    fixed_noise,
    measure,
    noise_field,
    projector_shadow,
    ray_cast,
    render,
    simulate,
    with_person,
)

HEADER = Header(0, 'camera')
GREY = Surface((128, 128, 128))
AHEAD = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
DOWN = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])


def camera(width: int = 201, height: int = 101, focal_px: float = 100.0) -> PinholeCamera:
    return PinholeCamera(
        HEADER, width, height, focal_px, focal_px, (width - 1) / 2, (height - 1) / 2
    )


def pose(rotation: np.ndarray = AHEAD, x: float = 0, y: float = 0, z: float = 0) -> RigidTransform:
    return RigidTransform(HEADER, 'camera', rotation.copy(), np.array([x, y, z], np.float64))


def solid(shape: Shape, x: float, y: float, z: float, yaw_rad: float = 0.0) -> Solid:
    return Solid(shape, (x, y, z), GREY, yaw_rad)


def wall(depth_m: float) -> Solid:
    return solid(Box((9, 0.1, 9)), 0, depth_m + 0.1, 0)


# ------------------------------------------------------------------------------- ray casting


def test_the_depth_of_a_wall_is_the_same_everywhere() -> None:
    depth_m, owner = ray_cast([wall(2)], camera(), pose())

    np.testing.assert_allclose(depth_m, 2, rtol=1e-6)
    assert (owner == 0).all()


def test_a_ray_past_the_middle_of_a_sphere() -> None:
    depth_m, _ = ray_cast([solid(Sphere(0.5), 0, 3, 0)], camera(), pose())

    assert depth_m[50, 100] == pytest.approx(2.5, rel=1e-6)
    # |t (0.1, 1) - (0, 3)| = 0.5, so 1.01 t^2 - 6 t + 8.75 = 0
    assert depth_m[50, 110] == pytest.approx((6 - np.sqrt(0.65)) / 2.02, rel=1e-6)
    assert depth_m[40, 100] == pytest.approx((6 - np.sqrt(0.65)) / 2.02, rel=1e-6)


def test_a_turned_box_shows_its_edge() -> None:
    box = solid(Box((0.1, 0.1, 0.5)), 0, 2, 0, yaw_rad=np.pi / 4)

    depth_m, _ = ray_cast([box], camera(), pose())

    assert depth_m[50, 100] == pytest.approx(2 - 0.1 * np.sqrt(2), rel=1e-6)
    # Off the edge the face recedes at 45 degrees: z = 2 - 0.1 sqrt(2) + |x|, x = 0.02 z
    assert depth_m[50, 102] == pytest.approx((2 - 0.1 * np.sqrt(2)) / 0.98, rel=1e-6)


@pytest.mark.parametrize(('lid', 'depth_m'), [(True, 0.8), (False, 1.0)])
def test_one_looks_into_a_mug_but_not_into_a_tin(lid: bool, depth_m: float) -> None:
    cylinder = solid(Cylinder(0.2, 0.1, lid=lid), 0, 0, 0.1)

    seen_m, _ = ray_cast([cylinder], camera(), pose(DOWN, z=1))

    assert seen_m[50, 100] == pytest.approx(depth_m, rel=1e-6)
    if not lid:  # The ray of slope 0.22 clears the rim, at 0.25, and meets the wall from inside.
        assert seen_m[50, 122] == pytest.approx(0.2 / 0.22, rel=1e-5)


def test_a_pole_seen_from_the_side() -> None:
    depth_m, _ = ray_cast([solid(Cylinder(0.02, 1), 0, 2, 0)], camera(), pose())

    assert depth_m[50, 100] == pytest.approx(1.98, rel=1e-6)
    assert depth_m[20, 100] == pytest.approx(1.98, rel=1e-6)


def test_the_nearest_surface_wins_and_nothing_is_nan() -> None:
    near, far = solid(Sphere(0.2), 0, 1, 0), solid(Sphere(0.4), 0, 2, 0)

    for scene in ([near, far], [far, near]):
        depth_m, owner = ray_cast(scene, camera(), pose())
        assert depth_m[50, 100] == pytest.approx(0.8, rel=1e-6)
        assert scene[owner[50, 100]] is near
        assert np.isnan(depth_m[0, 0])
        assert owner[0, 0] == -1


def test_what_lies_behind_is_not_seen() -> None:
    depth_m, _ = ray_cast([solid(Sphere(0.2), 0, -1, 0)], camera(), pose())

    assert np.isnan(depth_m).all()


# ------------------------------------------------------------------------------------ shadow


def test_the_shadow_lies_left_of_what_casts_it_and_is_as_wide_as_the_disparities_differ() -> None:
    sensor = camera(640, 480, 575.8)
    board = solid(Box((0.1, 0.0005, 0.5)), 0, 1.0005, 0)
    scene = [wall(2), board]
    depth_m, owner = ray_cast(scene, sensor, pose())

    shadow = projector_shadow(scene, depth_m, sensor, pose())

    row = shadow[240]
    columns = np.flatnonzero(row)
    left_edge = np.flatnonzero(owner[240] == 1)[0]
    width_px = BASELINE_M * 575.8 * (1 / 1 - 1 / 2)  # 21.6
    assert abs(row.sum() - width_px) <= 1
    assert columns[-1] == left_edge - 1
    assert (np.diff(columns) == 1).all()


def test_the_shadow_of_the_room_agrees_with_the_order_of_disparities() -> None:
    frame = next(simulate(1, width=320, height=240))
    z = frame.truth_m
    shadow = projector_shadow(ROOM, z, frame.camera, frame.world_from_camera)

    # A pixel is hidden if one to its right lands at its column of the projector, or left of it.
    landing_px = np.arange(320) - frame.camera.fx * BASELINE_M / z
    leftmost_px = np.minimum.accumulate(landing_px[:, ::-1], axis=1)[:, ::-1]
    expected = np.zeros_like(shadow)
    expected[:, :-1] = leftmost_px[:, 1:] <= landing_px[:, :-1]

    assert shadow.mean() > 0.01
    assert (shadow == expected).mean() > 0.985
    assert (shadow & expected).sum() > 0.8 * (shadow | expected).sum()


# ------------------------------------------------------------------------------------ sensor


def seen(depth_m: np.ndarray | float, echo: float = 1.0) -> Rendering:
    z = np.broadcast_to(np.float32(depth_m), (480, 640)).copy()
    return Rendering(
        z,
        np.zeros((480, 640, 3), np.uint8),
        np.full(z.shape, echo, np.float32),
        np.zeros(z.shape, np.bool_),
    )


def measured(rendering: Rendering, seed: int = 1, sensor: int = 9) -> np.ndarray:
    fixed = fixed_noise(np.random.default_rng(sensor), 480, 640)
    return measure(rendering, fixed, np.random.default_rng(seed))


@pytest.mark.parametrize('depth_m', [0.8, 1.3, 2.1, 3.0, 4.0])
def test_the_noise_is_as_large_as_nguyen_measured(depth_m: float) -> None:
    errors_m = measured(seen(depth_m)) - depth_m

    expected_m = 0.0012 + 0.0019 * (depth_m - 0.4) ** 2
    assert np.nanstd(errors_m) == pytest.approx(expected_m, rel=0.1)
    assert abs(np.nanmean(errors_m)) < 0.2 * expected_m


def test_depth_comes_in_steps_of_an_eighth_of_a_pixel() -> None:
    depth_m = measured(seen(3.0))

    values_m = np.unique(depth_m[np.isfinite(depth_m)])
    eighths = np.arange(60, 200)
    allowed_mm = np.round(1000 * 8 * DISPARITY_M_PX / eighths)
    assert np.isin(np.round(values_m * 1000), allowed_mm).all()
    assert len(values_m) > 3
    # z^2 / (8 f b) is 26 mm at 3 m
    nearest = np.abs(values_m - 3).argsort()[:2]
    assert abs(np.diff(values_m[nearest])[0]) == pytest.approx(0.026, abs=0.002)


@pytest.mark.parametrize(('depth_m', 'echo'), [(0.4, 1.0), (4.9, 1.0), (2.0, 0.0005)])
def test_nothing_is_measured_out_of_range_or_on_what_swallows_light(
    depth_m: float, echo: float
) -> None:
    assert np.isnan(measured(seen(depth_m, echo))).all()


def test_the_right_border_has_no_data() -> None:
    depth_m = measured(seen(2.0))

    assert np.isnan(depth_m[:, -8:]).all()
    assert np.isfinite(depth_m[:, :-8]).all()


def test_shadow_is_a_hole() -> None:
    rendering = seen(2.0)
    rendering.shadow[:, 100:140] = True

    depth_m = measured(rendering)

    assert np.isnan(depth_m[:, 105:135]).all()
    assert np.isfinite(depth_m[:, 150:600]).all()


def test_edges_fray_and_fly_but_only_there() -> None:
    z = np.full((480, 640), 2.0)
    z[:, 300:] = 1.0

    depth_m = measured(seen(z))

    between = (depth_m > 1.1) & (depth_m < 1.9)
    at_edge = np.zeros_like(between)
    at_edge[:, 296:304] = True
    assert 100 < between.sum() < 480
    assert not (between & ~at_edge).any()
    assert 100 < np.isnan(depth_m[:, :600]).sum() < 480
    starts = np.argmax(depth_m < 1.1, axis=1)
    assert 0.4 < starts.std() < 2
    assert abs(starts.mean() - 300) < 1


def test_noise_has_unit_variance_and_the_correlation_asked_for() -> None:
    noise = noise_field(np.random.default_rng(1), (480, 640), 2.0)

    assert noise.std() == pytest.approx(1, rel=0.03)
    # White noise smoothed by a Gaussian of s correlates as exp(-lag^2 / (4 s^2)).
    assert (noise[:, 2:] * noise[:, :-2]).mean() == pytest.approx(np.exp(-1 / 4), abs=0.04)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_half_of_the_noise_stays_with_the_sensor() -> None:
    first, second, other = (
        measured(seen(1.0), seed, sensor)[:, :-8] for seed, sensor in ((1, 9), (2, 9), (3, 8))
    )

    # Less than a half: a fifth of the variance at 1 m is the quantisation's.
    assert 0.3 < correlation(first, second) < 0.5
    assert abs(correlation(first, other)) < 0.05


def test_noise_is_as_smooth_as_that_of_an_xtion() -> None:
    error_m = measured(seen(2.4))[:, :-8]

    # Disparities of a wall, recorded by an Xtion on a tripod: 0.72, 0.52 and 0.23.
    assert correlation(error_m[:, 1:], error_m[:, :-1]) == pytest.approx(0.72, abs=0.08)
    assert correlation(error_m[:, 2:], error_m[:, :-2]) == pytest.approx(0.52, abs=0.08)
    assert correlation(error_m[:, 4:], error_m[:, :-4]) == pytest.approx(0.23, abs=0.08)


# ---------------------------------------------------------------------------------- recording


def test_the_same_seed_gives_the_same_frames_to_the_bit() -> None:
    first, again, other = (
        list(simulate(2, seed=seed, width=160, height=120)) for seed in (3, 3, 4)
    )

    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.depth.depth_m, two.depth.depth_m)
        np.testing.assert_array_equal(one.color.rgb, two.color.rgb)
    assert not np.array_equal(first[0].depth.depth_m, other[0].depth.depth_m, equal_nan=True)
    assert not np.array_equal(first[0].depth.depth_m, first[1].depth.depth_m, equal_nan=True)


def test_what_a_frame_says_of_itself() -> None:
    frames = list(simulate(3, rate_hz=10, width=160, height=120))

    for number, frame in enumerate(frames):
        assert frame.depth.header == Header(EPOCH_NS + number * 100_000_000, FRAME_ID)
        assert frame.color.header == frame.camera.header == frame.depth.header
        assert frame.depth.encoding == '16UC1'
        assert frame.depth.depth_m.shape == frame.truth_m.shape == (120, 160)
        assert frame.color.rgb.shape == (120, 160, 3)
        assert (frame.camera.fx, frame.camera.cx) == (pytest.approx(143.95), 79.5)
        assert frame.world_from_camera.child_frame_id == FRAME_ID
        counts = frame.depth.depth_m * 1000
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)


def test_the_holes_and_errors_are_those_of_a_kinect() -> None:
    frame = next(simulate(1))
    error_m = np.abs(frame.depth.depth_m - frame.truth_m)
    relative = error_m / nguyen_stddev_m(frame.truth_m)

    assert 0.05 < np.isnan(frame.depth.depth_m).mean() < 0.2
    assert np.isfinite(frame.truth_m).all()
    # The median of a Gaussian's absolute value is 0.67 of its standard deviation.
    assert 0.5 < np.nanmedian(relative) < 0.8
    assert 0.005 < (relative > 10).mean() < 0.05  # frayed edges and flying pixels


def test_truth_and_pose_of_two_frames_agree() -> None:
    frames = list(simulate(11, width=320, height=240))
    first, last = frames[0], frames[-1]
    last_from_first = last.world_from_camera.inverse() @ first.world_from_camera

    moved_m = register_depth(first.truth_m, first.camera, last.camera, last_from_first)

    assert np.linalg.norm(last_from_first.translation_m) > 0.01
    assert np.nanmedian(np.abs(moved_m - last.truth_m)) < 3e-3


def test_the_hand_moves_smoothly_and_looks_level() -> None:
    poses = [f.world_from_camera for f in simulate(20, width=32, height=24)]

    for a, b in pairwise(poses):
        assert np.linalg.norm(a.translation_m - b.translation_m) < 0.015
        np.testing.assert_allclose(a.rotation @ a.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(a.rotation) == pytest.approx(1)
        assert a.rotation[2, 1] < -0.9  # the image's down is the world's


def test_the_lamp_casts_a_shadow_and_the_projector_none_of_it() -> None:
    # From the lamp at (0.9, -0.4, 2.6) the middle of the board hides (-0.45, 2, 0.2) of the wall.
    board = solid(Box((0.3, 0.02, 0.3)), 0, 1.2, 1)
    row, column = 40, 77

    lit, shaded = render([wall(2)], camera(), pose()), render([wall(2), board], camera(), pose())

    assert shaded.rgb[row, column].mean() == pytest.approx(
        0.62 * lit.rgb[row, column].mean(), rel=0.05
    )
    np.testing.assert_array_equal(shaded.rgb[90, 190], lit.rgb[90, 190])
    assert shaded.depth_m[row, column] == lit.depth_m[row, column]
    assert not shaded.shadow[row, column]


def test_light_comes_back_less_from_far_tilted_and_dark_surfaces() -> None:
    white, dark = (Surface((128, 128, 128), infrared=share) for share in (1.0, 0.1))

    def echo(depth_m: float, yaw_rad: float, surface: Surface) -> float:
        board = Solid(Box((0.5, 0.0005, 0.5)), (0, depth_m + 0.0005, 0), surface, yaw_rad)
        return float(render([board], camera(), pose()).echo[50, 100])

    assert echo(1, 0, white) == pytest.approx(1, rel=1e-3)
    assert echo(2, 0, white) == pytest.approx(1 / 4, rel=1e-3)
    assert echo(1, np.pi / 3, white) == pytest.approx(1 / 2, rel=1e-2)
    assert echo(1, 0, dark) == pytest.approx(1 / 10, rel=1e-3)


def test_a_camera_moves_as_it_is_asked_to():
    def poses(move: str) -> tuple[np.ndarray, np.ndarray]:
        found = [f.world_from_camera for f in simulate(4, width=32, height=24, move=move)]
        return (
            np.diff([p.translation_m for p in found], axis=0),
            np.array([a.rotation.T @ b.rotation for a, b in pairwise(found)]),
        )

    steps_m, turns = poses('still')
    assert not steps_m.any()
    steps_m, turns = poses('rotation')
    assert not steps_m.any()
    # 12 degrees of amplitude at 2.5 rad/s are 1 degree a frame in the middle.
    assert np.degrees(np.arccos((np.trace(turns[0]) - 1) / 2)) == pytest.approx(1.0, abs=0.05)
    steps_m, turns = poses('translation')
    np.testing.assert_allclose(turns, np.eye(3)[None].repeat(3, 0), atol=1e-12)
    assert steps_m[0] == pytest.approx([0.5 / 30, 0, 0], rel=0.01)
    for move in ('walking', 'shaking'):
        steps_m, turns = poses(move)
        assert (np.linalg.norm(steps_m, axis=1) > 0.002).all()
        assert (np.abs(turns - np.eye(3)).max(axis=(1, 2)) > 5e-4).all()
    with pytest.raises(ValueError, match='no move'):
        next(simulate(1, move='flying'))


def test_a_person_walks_through():
    with_and_without = [
        list(simulate(2, rate_hz=1, width=160, height=120, move='still', scene=scene))
        for scene in (ROOM, with_person())
    ]
    (_, empty), (before, there) = with_and_without
    hidden = there.truth_m < empty.truth_m - 0.05
    # Where the person stands after a second: 15 cm left of the middle, a metre away.
    assert hidden.mean() > 0.1
    assert np.nanmin(there.truth_m[hidden]) == pytest.approx(0.9, abs=0.2)
    assert (before.truth_m < empty.truth_m - 0.05).mean() < 0.02
