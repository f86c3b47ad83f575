from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from depth_refiner_ros.evaluation.odometry import Odometry
from depth_refiner_ros.evaluation.trajectories import matrix
from depth_refiner_ros.simulation import simulate


@pytest.fixture(scope='module')
def frames():
    pytest.importorskip('open3d', reason='odometry needs Open3D: pip install open3d-cpu')
    return list(simulate(9, rate_hz=15, width=320, height=240))


def step_errors_mm(frames, trajectory):
    true = [matrix(frame.world_from_camera) for frame in frames]
    errors = []
    for i in range(1, len(true)):
        moved = np.linalg.inv(true[i - 1]) @ true[i]
        poses = trajectory.world_from_camera
        estimated = np.linalg.inv(poses[i - 1]) @ poses[i]
        errors.append(1e3 * np.linalg.norm((np.linalg.inv(moved) @ estimated)[:3, 3]))
    return np.array(errors)


def tracked(frames, method, depth):
    odometry = Odometry(method)
    for frame in frames:
        stamp_ns = frame.depth.header.stamp_ns
        odometry.add(stamp_ns, depth(frame), frame.camera, frame.color.rgb)
    return odometry


# Depth edges mislead the hybrid method, as its docstring says; the camera moves by 8 mm a frame.
@pytest.mark.parametrize(('method', 'bound_mm'), [('hybrid', 5), ('point_to_plane', 1)])
def test_true_depth_gives_the_true_motion(frames, method, bound_mm):
    odometry = tracked(frames, method, lambda frame: frame.truth_m)
    trajectory = odometry.trajectory()
    assert odometry.lost == 0
    assert list(trajectory.stamps_ns) == [frame.depth.header.stamp_ns for frame in frames]
    motion_mm = 1e3 * np.linalg.norm(
        np.diff([f.world_from_camera.translation_m for f in frames], axis=0), axis=1
    )
    errors_mm = step_errors_mm(frames, trajectory)
    assert motion_mm.mean() > 8
    assert errors_mm.mean() < bound_mm, errors_mm


def test_noise_costs_accuracy(frames):
    rng = np.random.default_rng(0)

    def noisy(frame):
        spread_m = 0.03 * rng.standard_normal(frame.truth_m.shape)
        return (frame.truth_m + spread_m).astype(np.float32)

    clean, rough = (
        step_errors_mm(frames, tracked(frames, 'point_to_plane', depth).trajectory())
        for depth in (lambda frame: frame.truth_m, noisy)
    )
    assert rough.mean() > 2 * clean.mean()


def test_a_frame_without_depth_is_lost_and_the_camera_stands_still(frames):
    odometry = Odometry('point_to_plane')
    blind = np.full_like(frames[0].truth_m, np.nan)
    for i, frame in enumerate(frames[:4]):
        odometry.add(i, blind if i == 1 else frame.truth_m, frame.camera)
    # Neither into nor out of the blind frame can anything be aligned.
    assert odometry.lost == 2
    poses = odometry.trajectory().world_from_camera
    np.testing.assert_array_equal(poses[:3], [np.eye(4)] * 3)
    assert not np.array_equal(poses[3], np.eye(4))


def test_inputs_are_checked(frames):
    frame = frames[0]
    with pytest.raises(ValueError, match='needs colour'):
        Odometry('hybrid').add(0, frame.truth_m, frame.camera)
    smaller = replace(frame.camera, width=160)
    with pytest.raises(ValueError, match='320x240'):
        Odometry('point_to_plane').add(0, frame.truth_m, smaller)


def test_nothing_tracked():
    pytest.importorskip('open3d', reason='odometry needs Open3D: pip install open3d-cpu')
    assert Odometry().trajectory().world_from_camera.shape == (0, 4, 4)


def test_without_open3d_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'open3d', None)
    with pytest.raises(ModuleNotFoundError, match='pip install open3d-cpu'):
        Odometry()
