"""Calibrations, as camera_info."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Calibration, Header, PinholeCamera
from ..geometry import size_around
from .family import MESSAGE_TYPE, MessageFamily, header, header_message


def read_camera(msg: Any) -> PinholeCamera:
    """Read a CameraInfo, of ROS 1 or ROS 2."""
    # ROS 1 spells the matrices in capitals.
    d, k, r, p = (
        tuple(float(x) for x in getattr(msg, name if hasattr(msg, name) else name.upper()))
        for name in 'dkrp'
    )
    roi = msg.roi
    calibration = Calibration(
        msg.distortion_model,
        d,
        k,
        r,
        p,
        int(msg.width),
        int(msg.height),
        int(msg.binning_x),
        int(msg.binning_y),
        (roi.x_offset, roi.y_offset, roi.height, roi.width, bool(roi.do_rectify)),
    )
    # P belongs to the rectified image; drivers of a single camera often leave it zero.
    fx, fy, cx, cy = [p[i] for i in (0, 5, 2, 6)] if p[0] else [k[i] for i in (0, 4, 2, 5)]
    if not fx or not fy:
        raise ValueError(
            'camera_info has no focal length (K and P are zero): calibrate the camera'
        )
    if calibration.width > 0 and calibration.height > 0:
        _check_centre((fx, fy, cx, cy), calibration.width, calibration.height)
    bin_x, bin_y = max(1, calibration.binning_x), max(1, calibration.binning_y)
    width = (roi.width or calibration.width) // bin_x
    height = (roi.height or calibration.height) // bin_y
    return PinholeCamera(
        header(msg),
        width,
        height,
        fx / bin_x,
        fy / bin_y,
        (cx - roi.x_offset) / bin_x,
        (cy - roi.y_offset) / bin_y,
        calibration,
    )


def _check_centre(intrinsics: tuple[float, ...], width: int, height: int) -> None:
    """Refuse a principal point outside the image: points would be several times too wide."""
    if not np.isfinite(intrinsics).all():
        return  # PinholeCamera says so
    fx, fy, cx, cy = intrinsics
    if 0 <= cx <= width and 0 <= cy <= height:
        return
    size = size_around(cx, cy)
    remedy = 'publish those of the stream'
    if size is not None and size[0] * height == size[1] * width:
        fitting = PinholeCamera(Header(0, ''), *size, fx, fy, cx, cy).scaled(width, height)
        remedy += (
            f'; scaled, they are fx {fitting.fx:.1f} fy {fitting.fy:.1f} '
            f'cx {fitting.cx:.1f} cy {fitting.cy:.1f}'
        )
    raise ValueError(
        f'the principal point, cx {cx:g} cy {cy:g}, is outside the {width}x{height} image: the '
        'intrinsics are those of '
        + (f'{size[0]}x{size[1]} pixels' if size else 'another resolution')
        + f': {remedy}'
    )


def camera_message(value: PinholeCamera, family: MessageFamily) -> Any:
    """Build a CameraInfo: the one that came in, where the value carries it."""
    c = value.calibration or Calibration(
        distortion_model='plumb_bob',
        d=(0.0,) * 5,
        k=(value.fx, 0.0, value.cx, 0.0, value.fy, value.cy, 0.0, 0.0, 1.0),
        r=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        p=(value.fx, 0.0, value.cx, 0.0, 0.0, value.fy, value.cy, 0.0, 0.0, 0.0, 1.0, 0.0),
        width=value.width,
        height=value.height,
    )
    x_offset, y_offset, roi_height, roi_width, do_rectify = c.roi
    return family.make(
        MESSAGE_TYPE[PinholeCamera],
        header=header_message(value.header, family),
        height=c.height,
        width=c.width,
        distortion_model=c.distortion_model,
        d=family.floats(c.d),
        k=family.floats(c.k),
        r=family.floats(c.r),
        p=family.floats(c.p),
        binning_x=c.binning_x,
        binning_y=c.binning_y,
        roi=family.make(
            'sensor_msgs/msg/RegionOfInterest',
            x_offset=x_offset,
            y_offset=y_offset,
            height=roi_height,
            width=roi_width,
            do_rectify=do_rectify,
        ),
    )
