from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from depth_refiner_ros.data import (
    Calibration,
    PinholeCamera,
)
from depth_refiner_ros.messages import (
    decode,
    encode,
)

from .builders import (
    HEADER,
    ROS2,
    STORES,
    delivered,
    family,
    header_message,
    refused,
)

D = (0.1, -0.2, 0.001, -0.002, 0.05)
K = (500.0, 0.0, 321.0, 0.0, 501.0, 241.0, 0.0, 0.0, 1.0)
R = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
P = (480.0, 0.0, 320.0, -24.0, 0.0, 481.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def camera_info(store, *, d=D, k=K, r=R, p=P, binning=(0, 0), roi=(0, 0, 0, 0, False), size=None):
    width, height = size or (640, 480)
    names = 'DKRP' if store is STORES['ROS 1'] else 'dkrp'
    matrices = dict(zip(names, (np.array(m, np.float64) for m in (d, k, r, p)), strict=True))
    return store.types['sensor_msgs/msg/CameraInfo'](
        header=header_message(store),
        height=height,
        width=width,
        distortion_model='plumb_bob',
        binning_x=binning[0],
        binning_y=binning[1],
        roi=store.types['sensor_msgs/msg/RegionOfInterest'](*roi),
        **matrices,
    )


def intrinsics(camera):
    return camera.fx, camera.fy, camera.cx, camera.cy


def test_the_projection_matrix_of_the_rectified_image_counts(store):
    camera = decode(PinholeCamera, delivered(store, camera_info(store)))
    assert (camera.width, camera.height) == (640, 480)
    assert intrinsics(camera) == (480.0, 481.0, 320.0, 240.0)
    assert camera.header == HEADER
    assert camera.calibration == Calibration('plumb_bob', D, K, R, P, 640, 480)


def test_a_principal_point_outside_the_image_is_refused(store):
    # Made for 640x480, said of 160x120: a quarter is fx 131.25, cx (319.5 + 0.5) / 4 - 0.5.
    k = (525.0, 0.0, 319.5, 0.0, 525.0, 239.5, 0.0, 0.0, 1.0)
    p = (0.0,) * 12
    refused(
        PinholeCamera,
        camera_info(store, k=k, p=p, size=(160, 120)),
        'the principal point, cx 319.5 cy 239.5, is outside the 160x120 image: the intrinsics are '
        'those of 640x480 pixels: publish those of the stream; scaled, they are fx 131.2 fy 131.2 '
        'cx 79.5 cy 59.5',
    )
    # A window of a whole image may lie beside its principal point.
    roi = (400, 300, 120, 160, True)
    camera = decode(PinholeCamera, camera_info(store, k=k, p=p, roi=roi))
    assert (camera.cx, camera.cy) == (319.5 - 400, 239.5 - 300)


def test_where_p_is_zero_k_counts(store):
    camera = decode(PinholeCamera, delivered(store, camera_info(store, p=(0.0,) * 12)))
    assert intrinsics(camera) == (500.0, 501.0, 321.0, 241.0)


def test_binning(store):
    camera = decode(PinholeCamera, delivered(store, camera_info(store, binning=(2, 4))))
    assert (camera.width, camera.height) == (320, 120)
    assert intrinsics(camera) == (240.0, 481.0 / 4, 160.0, 60.0)
    for none in ((1, 1), (0, 1)):
        camera = decode(PinholeCamera, camera_info(store, binning=none))
        assert intrinsics(camera) == (480.0, 481.0, 320.0, 240.0)


def test_region_of_interest(store):
    # RegionOfInterest is x_offset, y_offset, height, width
    info = camera_info(store, roi=(100, 40, 200, 300, True))
    camera = decode(PinholeCamera, delivered(store, info))
    assert (camera.width, camera.height) == (300, 200)
    assert intrinsics(camera) == (480.0, 481.0, 220.0, 200.0)


def test_binning_of_a_region_of_interest(store):
    # both are given in full-resolution pixels: first cut, then bin
    info = camera_info(store, roi=(100, 40, 200, 300, True), binning=(2, 2))
    camera = decode(PinholeCamera, delivered(store, info))
    assert (camera.width, camera.height) == (150, 100)
    assert intrinsics(camera) == (240.0, 240.5, 110.0, 100.0)


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        (
            {'k': (0.0,) * 9, 'p': (0.0,) * 12},
            'camera_info has no focal length (K and P are zero): calibrate the camera',
        ),
        ({'size': (0, 480)}, 'camera size must be positive, got 0x480'),
        (
            {'p': (float('nan'), *P[1:])},
            'focal length must be positive, got fx=nan fy=481; is the camera calibrated?',
        ),
        (
            {'p': (-480.0, *P[1:])},
            'focal length must be positive, got fx=-480 fy=481; is the camera calibrated?',
        ),
        (
            {'p': (480.0, 0.0, float('inf'), *P[3:])},
            'intrinsics must be finite, got fx=480 fy=481 cx=inf cy=240; '
            'is the camera calibrated?',
        ),
    ],
)
def test_a_camera_info_without_a_calibration_is_refused(store, changes, text):
    refused(PinholeCamera, camera_info(store, **changes), text)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'d': ()},
        {'d': (0.1,) * 8, 'p': (0.0,) * 12},
        {'binning': (2, 2), 'roi': (100, 40, 200, 300, True)},
    ],
)
def test_a_camera_info_is_passed_on_as_it_came(store, changes):
    came = camera_info(store, **changes)
    goes = delivered(ROS2, encode(decode(PinholeCamera, delivered(store, came)), family()))
    expected = camera_info(ROS2, **changes)
    for name in 'dkrp':
        np.testing.assert_array_equal(getattr(goes, name), getattr(expected, name))
    for name in ('header', 'width', 'height', 'binning_x', 'binning_y', 'roi'):
        assert getattr(goes, name) == getattr(expected, name)
    assert goes.distortion_model == 'plumb_bob'


def test_a_camera_without_a_calibration_becomes_an_undistorted_one():
    camera = PinholeCamera(HEADER, 320, 240, 250.0, 260.0, 159.5, 119.5)
    msg = delivered(ROS2, encode(camera, family()))
    assert msg.k.tolist() == [250.0, 0.0, 159.5, 0.0, 260.0, 119.5, 0.0, 0.0, 1.0]
    assert msg.p.tolist() == [250.0, 0.0, 159.5, 0, 0, 260.0, 119.5, 0, 0, 0, 1.0, 0]
    assert msg.r.tolist() == np.eye(3).ravel().tolist()
    assert msg.d.tolist() == [0.0] * 5
    assert (msg.width, msg.height, msg.distortion_model) == (320, 240, 'plumb_bob')
    again = decode(PinholeCamera, msg)
    assert replace(again, calibration=None) == camera
