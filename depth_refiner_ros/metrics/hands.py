"""Errors of hand keypoints.

Joints are arrays (N, J, D): N frames of J joints, D = 3 for millimetres in space and 2 for pixels.
A joint that was not found is NaN: it is left out of the mean errors and counts as wrong wherever
shares are counted, so `joints_within(errors, [inf])` is the share that was found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..data import Float64Array, Header, PinholeCamera
from .accumulate import trapezoid

Joints = npt.NDArray[np.floating]

NYU_CAMERA = PinholeCamera(
    Header(0, 'nyu_hand'), width=640, height=480, fx=588.03, fy=587.07, cx=320.0, cy=240.0
)
"""Camera of the NYU hand pose data set: Tompson et al., "Real-Time Continuous Pose Recovery of
Human Hands Using Convolutional Networks", ACM ToG 2014. Its y axis points up."""


def xyz_from_uvd(uvd: Joints, camera: PinholeCamera, *, y_up: bool = False) -> Float64Array:
    """Move image positions with depth into space.

    Args:
        uvd: Shape (..., 3), column and row in pixels, depth along the optical axis in any unit.
        camera: Intrinsics.
        y_up: Whether y points up, as in the NYU data set, and not down, as in an optical frame.

    Returns:
        Shape (..., 3), in the unit of the depth.
    """
    u, v, d = np.moveaxis(np.asarray(uvd, np.float64), -1, 0)
    y = (v - camera.cy) * d / camera.fy
    return np.stack([(u - camera.cx) * d / camera.fx, -y if y_up else y, d], axis=-1)


def uvd_from_xyz(xyz: Joints, camera: PinholeCamera, *, y_up: bool = False) -> Float64Array:
    """Project points into the image and keep their depth; the inverse of `xyz_from_uvd`."""
    x, y, d = np.moveaxis(np.asarray(xyz, np.float64), -1, 0)
    y = -y if y_up else y
    return np.stack([x / d * camera.fx + camera.cx, y / d * camera.fy + camera.cy, d], axis=-1)


def joint_errors(joints: Joints, reference: Joints) -> Float64Array:
    """Return the Euclidean distance of every joint from its reference.

    Args:
        joints: Shape (N, J, D), millimetres or pixels; NaN where a joint was not found.
        reference: Shape (N, J, D), the same unit.

    Returns:
        Shape (N, J), in that unit; NaN where a joint was not found.

    Raises:
        ValueError: If the shapes differ.
    """
    if joints.shape != reference.shape:
        raise ValueError(f'joints are {joints.shape}, their reference is {reference.shape}')
    difference = np.asarray(joints, np.float64) - np.asarray(reference, np.float64)
    return np.asarray(np.linalg.norm(difference, axis=-1))


def mean_joint_error(errors: Float64Array) -> float:
    """Return the mean over all frames and joints, (N, J), that were found; NaN if none was."""
    found = errors[~np.isnan(errors)]
    return float(found.mean()) if found.size else float('nan')


def per_joint_error(errors: Float64Array) -> Float64Array:
    """Return the mean over the frames, (J,), of the errors (N, J) of each joint."""
    return np.array([mean_joint_error(of_joint) for of_joint in errors.T])


def frames_within(errors: Float64Array, thresholds: npt.ArrayLike) -> Float64Array:
    """Return the share of frames whose worst joint is within each threshold.

    Taylor et al., "The Vitruvian Manifold", CVPR 2012; the curve of NYU, ICVL and MSRA tables.

    Args:
        errors: Shape (N, J).
        thresholds: Shape (T,), the same unit; inclusive.

    Returns:
        Shape (T,), 0 to 1; NaN without frames.
    """
    return _share_within(errors.max(axis=1), thresholds)


def joints_within(errors: Float64Array, thresholds: npt.ArrayLike) -> Float64Array:
    """Return the share of joints within each threshold: PCK.

    Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", PAMI 2013;
    with absolute thresholds as in Zimmermann and Brox, "Learning to Estimate 3D Hand Pose from
    Single RGB Images", ICCV 2017: in pixels if the errors are, in millimetres if they are.

    Args:
        errors: Shape (N, J).
        thresholds: Shape (T,), the same unit; inclusive.

    Returns:
        Shape (T,), 0 to 1; NaN without frames.
    """
    return _share_within(errors.ravel(), thresholds)


def area_under_curve(thresholds: npt.ArrayLike, shares: Float64Array) -> float:
    """Return the mean height, 0 to 1, of a curve over its thresholds, by trapezoids.

    Zimmermann and Brox, ICCV 2017, take PCK from 20 to 50 mm. A figure means nothing without its
    thresholds.
    """
    x = np.asarray(thresholds, np.float64)
    return trapezoid(shares, x) / float(x[-1] - x[0])


def _share_within(errors: Float64Array, thresholds: npt.ArrayLike) -> Float64Array:
    if not errors.size:
        return np.full(np.shape(thresholds), np.nan)
    # NaN sorts last, so what was not found is within nothing.
    return np.searchsorted(np.sort(errors), np.asarray(thresholds), 'right') / errors.size
