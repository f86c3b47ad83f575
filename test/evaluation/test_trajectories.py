from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.data import Header, RigidTransform
from depth_refiner_ros.evaluation import extras
from depth_refiner_ros.evaluation.trajectories import Trajectory, matrix, trajectory_errors

EPOCH_NS = 1_700_000_000_000_000_000


@pytest.fixture(scope='module')
def evo():
    try:
        return extras.evo('evo_rpe')
    except FileNotFoundError as error:
        pytest.skip(str(error))


def turn(axis, angle):
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def pose(rotation, position_m):
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = rotation, position_m
    return made


def walk(count, noise_m=0.0, noise_rad=0.0, seed=0):
    rng = np.random.default_rng(seed)
    poses = []
    for i in range(count):
        position = np.array([0.1 * i, 0.3 * np.sin(0.2 * i), 0.05 * np.cos(0.3 * i)])
        rotation = turn((0.1, 1, 0.2), 0.04 * i) @ turn(rng.normal(size=3), noise_rad)
        poses.append(pose(rotation, position + noise_m * rng.normal(size=3)))
    stamps_ns = [EPOCH_NS + round(i * 1e9 / 10) for i in range(count)]
    return Trajectory(stamps_ns, np.array(poses))


def rpe(estimated, recorded, pairs):
    """Translation (mm) and rotation (degrees): Sturm et al. 2012, equations 1 and 2."""
    translations, angles = [], []
    for i, j in pairs:
        moved = np.linalg.inv(recorded[i]) @ recorded[j]
        error = np.linalg.inv(moved) @ (np.linalg.inv(estimated[i]) @ estimated[j])
        translations.append(np.linalg.norm(error[:3, 3]))
        angles.append(np.arccos(np.clip((np.trace(error[:3, :3]) - 1) / 2, -1, 1)))
    rms = [np.sqrt(np.mean(np.square(values))) for values in (translations, angles)]
    return 1e3 * rms[0], np.degrees(rms[1])


def ate_mm(estimated, recorded):
    """Horn's alignment, by singular values."""
    a, b = estimated[:, :3, 3], recorded[:, :3, 3]
    u, _, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    residual = (a - a.mean(0)) @ rotation.T - (b - b.mean(0))
    return 1e3 * np.sqrt(np.mean(np.sum(residual**2, axis=1)))


def test_evo_agrees_with_the_formulas(evo):
    recorded, here = walk(40), walk(40, noise_m=0.01, noise_rad=0.02)
    # Where the world's origin is does not matter.
    elsewhere = pose(turn((1, 2, 3), 1.0), (5, -3, 2)) @ here.world_from_camera
    estimated = Trajectory(here.stamps_ns, elsewhere)
    errors = trajectory_errors(estimated, recorded)
    a, b = estimated.world_from_camera, recorded.world_from_camera
    steps = [(i, i + 1) for i in range(39)]
    seconds = [(i, i + 10) for i in range(30)]
    assert (errors.poses, errors.interval_s) == (40, pytest.approx(0.1))
    expected = rpe(a, b, steps)
    assert (errors.rpe_frame_rmse_mm, errors.rpe_frame_rmse_deg) == pytest.approx(expected)
    expected = rpe(a, b, seconds)
    assert (errors.rpe_second_rmse_mm, errors.rpe_second_rmse_deg) == pytest.approx(expected)
    assert errors.ate_rmse_mm == pytest.approx(ate_mm(a, b))


def test_a_metre_is_one_of_the_recorded_path(evo):
    # Along x at 0.25 m a frame; the estimate goes 1 % too far, and trembles.
    x_m = np.arange(13) * 0.25
    recorded = np.array([pose(np.eye(3), (x, 0, 0)) for x in x_m])
    estimated = np.array(
        [pose(np.eye(3), (1.01 * x, 0.1 * (i % 2), 0)) for i, x in enumerate(x_m)]
    )
    stamps_ns = [EPOCH_NS + i * 50_000_000 for i in range(13)]
    errors = trajectory_errors(Trajectory(stamps_ns, estimated), Trajectory(stamps_ns, recorded))
    # A metre is four frames, after which the tremble is back where it was: 10 mm a metre are left.
    assert errors.rpe_metre_rmse_mm == pytest.approx(10, rel=1e-6)
    assert errors.rpe_frame_rmse_mm == pytest.approx(np.hypot(2.5, 100), rel=1e-6)
    assert errors.path_m == pytest.approx(3)


def test_only_common_stamps_count_and_a_second_may_be_too_long(evo):
    recorded, estimated = walk(9), walk(9, noise_m=0.01)
    every_third = Trajectory(estimated.stamps_ns[::3], estimated.world_from_camera[::3])
    errors = trajectory_errors(every_third, recorded)
    assert (errors.poses, errors.interval_s) == (3, pytest.approx(0.3))
    pairs = [(0, 3), (3, 6)]
    expected, _ = rpe(estimated.world_from_camera, recorded.world_from_camera, pairs)
    assert errors.rpe_frame_rmse_mm == pytest.approx(expected)
    assert np.isnan(errors.rpe_second_rmse_mm)
    assert np.isnan(errors.rpe_metre_rmse_deg)


def test_one_pose_is_no_trajectory(evo):
    with pytest.raises(ValueError, match='share 1 stamps'):
        trajectory_errors(walk(1), walk(4))


def test_a_failing_program_is_quoted(evo, monkeypatch, tmp_path):
    program = tmp_path / 'evo_ape'
    program.write_text('#!/bin/sh\necho starting\necho "no disk left" >&2\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setattr('depth_refiner_ros.evaluation.trajectories.evo', lambda name: str(program))
    with pytest.raises(RuntimeError, match='evo_ape failed: no disk left'):
        trajectory_errors(walk(4), walk(4))


def test_without_evo_the_message_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr('sys.executable', str(tmp_path / 'python'))
    with pytest.raises(FileNotFoundError, match='pip install evo'):
        trajectory_errors(walk(4), walk(4))


def test_tum_format(tmp_path):
    # A quarter turn about z: quaternion (0, 0, sin 45°, cos 45°).
    quarter = pose(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), (1, 2, 3))
    Trajectory([EPOCH_NS + 33_333_333], quarter[None]).write_tum(tmp_path / 'a', EPOCH_NS)
    numbers = [float(word) for word in (tmp_path / 'a').read_text().split()]
    half = np.sqrt(0.5)
    assert numbers == pytest.approx([0.033333333, 1, 2, 3, 0, 0, half, half])


def test_trajectories_are_checked():
    with pytest.raises(ValueError, match='2 stamps need as many 4x4 poses'):
        Trajectory([1, 2], np.eye(4)[None])
    with pytest.raises(ValueError, match='must rise'):
        Trajectory([2, 2], np.array([np.eye(4)] * 2))


def test_matrix():
    rotation, translation_m = turn((0, 1, 0), 0.3), np.array([1.0, 2, 3])
    transform = RigidTransform(Header(0, 'a'), 'b', rotation, translation_m)
    point_m = np.array([0.4, 0.5, 0.6])
    moved_m = matrix(transform) @ [*point_m, 1]
    np.testing.assert_allclose(moved_m[:3], rotation @ point_m + translation_m)
