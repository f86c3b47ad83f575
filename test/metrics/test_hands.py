from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depth_refiner_ros.metrics import (
    NYU_CAMERA,
    area_under_curve,
    frames_within,
    joint_errors,
    joints_within,
    mean_joint_error,
    per_joint_error,
    uvd_from_xyz,
    xyz_from_uvd,
)

NAN = np.nan
# Two frames of three joints: distances 0, 3, 5 and 1, 1, not found.
REFERENCE = np.zeros((2, 3, 3))
JOINTS = np.array([[[0, 0, 0], [0, 3, 0], [3, 0, 4]], [[1, 0, 0], [0, 0, -1], [NAN] * 3]])


def test_errors_worked_out_by_hand():
    errors = joint_errors(JOINTS, REFERENCE)
    assert errors == pytest.approx(np.array([[0, 3, 5], [1, 1, NAN]]), nan_ok=True)
    assert mean_joint_error(errors) == 2
    assert per_joint_error(errors).tolist() == [0.5, 2, 5]


def test_a_joint_that_was_not_found_is_wrong():
    errors = joint_errors(JOINTS, REFERENCE)
    assert frames_within(errors, [4.9, 5, 1000]).tolist() == [0, 0.5, 0.5]
    assert joints_within(errors, [0, 1, 4, np.inf]) == pytest.approx([1 / 6, 3 / 6, 4 / 6, 5 / 6])


def test_nothing_found():
    errors = np.full((2, 3), NAN)
    assert np.isnan(mean_joint_error(errors))
    assert frames_within(errors, [10]).tolist() == [0]
    assert np.isnan(joints_within(np.zeros((0, 3)), [10, 20])).all()


def test_errors_in_pixels():
    errors = joint_errors(np.array([[[3.0, 4.0]]]), np.zeros((1, 1, 2)))
    assert joints_within(errors, [4, 5]).tolist() == [0, 1]


def test_shapes_must_agree():
    with pytest.raises(ValueError, match='reference'):
        joint_errors(JOINTS, REFERENCE[:, :2])


def test_area_under_curve():
    # 0 up to 20, then a ramp to 1 at 40: mean height (0 + 0.5) / 2.
    assert area_under_curve([0, 20, 40], np.array([0.0, 0.0, 1.0])) == pytest.approx(0.25)
    assert area_under_curve([20, 50], np.array([1.0, 1.0])) == 1


def test_positions_in_the_image_and_in_space():
    uvd = np.array([[320.0, 240.0, 700.0], [320 + 58.803, 240 + 58.707, 1000.0]])
    expected = [[0, 0, 700], [100, 100, 1000]]
    assert xyz_from_uvd(uvd, NYU_CAMERA) == pytest.approx(np.array(expected, float))
    assert xyz_from_uvd(uvd, NYU_CAMERA, y_up=True)[1, 1] == pytest.approx(-100)
    for y_up in (False, True):
        there = xyz_from_uvd(uvd, NYU_CAMERA, y_up=y_up)
        assert uvd_from_xyz(there, NYU_CAMERA, y_up=y_up) == pytest.approx(uvd)


def read_nyu(path: Path) -> np.ndarray:
    return xyz_from_uvd(np.loadtxt(path).reshape(-1, 14, 3), NYU_CAMERA, y_up=True)


def test_published_errors_on_nyu(recording):
    """Frames within 20 mm are those of an independent evaluation of the same files."""
    folder = recording('nyu_hand_eval')
    published = {
        'V2V-PoseNet_8.419mm.txt': (8.419, 0.712),
        'DenseReg_10.214mm.txt': (10.214, None),
        'HandPointNet_10.540mm.txt': (10.540, 0.593),
        'Pose-REN_11.811mm.txt': (11.811, 0.487),
        'DeepPrior++_12.238mm.txt': (12.238, 0.447),
    }
    reference = read_nyu(folder / 'groundtruth_uvd.txt')
    assert reference.shape == (8252, 14, 3)
    for name, (mean_mm, share_within_20_mm) in published.items():
        errors_mm = joint_errors(read_nyu(folder / name), reference)
        assert round(mean_joint_error(errors_mm), 3) == mean_mm
        if share_within_20_mm:
            assert frames_within(errors_mm, [20]).round(3) == share_within_20_mm
