from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from depth_refiner_ros.data import (
    TRUST,
    Calibration,
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    PointCloud,
    Provenance,
    ProvenanceImage,
    RigidTransform,
    StddevImage,
    at_most,
    deviations_m,
    least_trusted,
    origins,
    trusted,
)

HEADER = Header(1_500_000_000, 'camera_depth_optical_frame')

ARRAY_FIELDS = [
    (DepthImage, 'depth_m', np.zeros((2, 3), np.float32)),
    (StddevImage, 'stddev_m', np.zeros((2, 3), np.float32)),
    (ProvenanceImage, 'provenance', np.zeros((2, 3), np.uint8)),
    (ColorImage, 'rgb', np.zeros((2, 3, 3), np.uint8)),
    (PointCloud, 'points_m', np.zeros((2, 3, 3), np.float32)),
]


@pytest.mark.parametrize(('kind', 'name', 'array'), ARRAY_FIELDS)
def test_array_is_a_read_only_view_and_the_callers_stays_writeable(kind, name, array):
    array = array.copy()
    held = getattr(kind(HEADER, array), name)

    assert np.shares_memory(held, array)
    assert array.flags.writeable
    array[0, 0] = 7  # the caller may go on: it is a view, not a copy
    assert (held[0, 0] == 7).all()
    with pytest.raises(ValueError, match='read-only'):
        held[0, 0] = 1


@pytest.mark.parametrize(('kind', 'name', 'array'), ARRAY_FIELDS)
def test_fields_cannot_be_replaced_in_place(kind, name, array):
    value = kind(HEADER, array)
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, array)


def test_a_read_only_array_is_accepted():
    depth_m = np.ones((2, 3), np.float32)
    depth_m.flags.writeable = False
    again = replace(DepthImage(HEADER, depth_m), encoding='16UC1')
    assert np.shares_memory(again.depth_m, depth_m)


def test_a_strided_array_is_accepted_without_a_copy():
    wide = np.zeros((4, 10), np.float32)
    assert np.shares_memory(DepthImage(HEADER, wide[::2, ::5]).depth_m, wide)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (
            lambda: DepthImage(HEADER, np.zeros((2, 3))),
            'DepthImage.depth_m must be (*, *) float32, got shape (2, 3) float64',
        ),
        (
            lambda: DepthImage(HEADER, np.zeros((2, 3, 1), np.float32)),
            'DepthImage.depth_m must be (*, *) float32, got shape (2, 3, 1) float32',
        ),
        (
            lambda: DepthImage(HEADER, [[1.0]]),
            'DepthImage.depth_m must be (*, *) float32, got list',
        ),
        (
            lambda: DepthImage(HEADER, None),
            'DepthImage.depth_m must be (*, *) float32, got NoneType',
        ),
        (
            lambda: DepthImage(HEADER, np.zeros((2, 3), '>f4')),
            'DepthImage.depth_m must be (*, *) float32, got shape (2, 3) >f4',
        ),
        (
            lambda: DepthImage(HEADER, np.zeros((2, 3), np.float32), 'mono16'),
            "depth encoding must be 16UC1 or 32FC1, got 'mono16'",
        ),
        (
            lambda: StddevImage(HEADER, np.zeros(3, np.float32)),
            'StddevImage.stddev_m must be (*, *) float32, got shape (3,) float32',
        ),
        (
            lambda: ProvenanceImage(HEADER, np.zeros((2, 3), np.bool_)),
            'ProvenanceImage.provenance must be (*, *) uint8, got shape (2, 3) bool',
        ),
        (
            lambda: ColorImage(HEADER, np.zeros((2, 3), np.uint8)),
            'ColorImage.rgb must be (*, *, 3) uint8, got shape (2, 3) uint8',
        ),
        (
            lambda: ColorImage(HEADER, np.zeros((2, 3, 4), np.uint8)),
            'ColorImage.rgb must be (*, *, 3) uint8, got shape (2, 3, 4) uint8',
        ),
        (
            lambda: PointCloud(
                HEADER, np.zeros((2, 3, 3), np.float32), np.zeros((3, 2, 3), np.uint8)
            ),
            'PointCloud.rgb must be (2, 3, 3) uint8, got shape (3, 2, 3) uint8',
        ),
        (
            lambda: RigidTransform(HEADER, 'c', np.eye(4), np.zeros(3)),
            'RigidTransform.rotation must be (3, 3) float64, got shape (4, 4) float64',
        ),
        (
            lambda: RigidTransform(HEADER, 'c', np.eye(3), np.zeros(3, np.float32)),
            'RigidTransform.translation_m must be (3) float64, got shape (3,) float32',
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_wanted_and_what_came(make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole text is compared
        make()
    assert str(error.value) == message


def test_a_cloud_holds_its_colour_read_only_too():
    rgb = np.zeros((2, 3, 3), np.uint8)
    cloud = PointCloud(HEADER, np.zeros((2, 3, 3), np.float32), rgb)
    assert not cloud.rgb.flags.writeable
    assert rgb.flags.writeable


def test_provenance_values_are_what_robots_mask_by():
    assert [(p.name, p.value) for p in Provenance] == [
        ('INVALID', 0),
        ('MEASURED', 1),
        ('REFINED', 2),
        ('INPAINTED', 3),
        ('ESTIMATED', 4),
        ('ALIGNED', 5),
        ('RELATIVE', 6),
    ]


# ------------------------------------------------------------------------------ PinholeCamera


def camera(**changes):
    values = {'width': 640, 'height': 480, 'fx': 500.0, 'fy': 510.0, 'cx': 319.5, 'cy': 239.5}
    return PinholeCamera(HEADER, **{**values, **changes})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'width': 0}, 'camera size must be positive, got 0x480'),
        ({'height': -1}, 'camera size must be positive, got 640x-1'),
        (
            {'fx': 0.0},
            'focal length must be positive, got fx=0 fy=510; is the camera calibrated?',
        ),
        (
            {'fy': float('nan')},
            'focal length must be positive, got fx=500 fy=nan; is the camera calibrated?',
        ),
        (
            {'fx': float('inf')},
            'intrinsics must be finite, got fx=inf fy=510 cx=319.5 cy=239.5; '
            'is the camera calibrated?',
        ),
        (
            {'cx': float('nan')},
            'intrinsics must be finite, got fx=500 fy=510 cx=nan cy=239.5; '
            'is the camera calibrated?',
        ),
    ],
)
def test_an_impossible_camera_is_refused(changes, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole text is compared
        camera(**changes)
    assert str(error.value) == message


def test_a_centred_camera_stays_centred_when_scaled():
    half = camera().scaled(320, 240)
    # The image spans -0.5 .. 639.5 before and -0.5 .. 319.5 after, so its centre is at 159.5.
    assert (half.width, half.height) == (320, 240)
    assert (half.fx, half.fy, half.cx, half.cy) == (250.0, 255.0, 159.5, 119.5)


def test_scaling_by_different_factors():
    scaled = camera(width=100, height=50, fx=90.0, fy=80.0, cx=10.0, cy=20.0).scaled(300, 25)
    # cx: (10 + 0.5) * 3 - 0.5 = 31; cy: (20 + 0.5) / 2 - 0.5 = 9.75
    assert (scaled.fx, scaled.fy, scaled.cx, scaled.cy) == (270.0, 40.0, 31.0, 9.75)


def test_a_point_stays_in_its_pixel_when_scaled():
    # The four pixels (2u..2u+1) of the double-size image are the one pixel u of the original.
    x_m, z_m = 0.31, 1.7
    u = x_m / z_m * camera().fx + camera().cx
    double = camera().scaled(1280, 960)
    u_double = x_m / z_m * double.fx + double.cx
    assert u_double == pytest.approx(2 * u + 0.5)


def test_scaling_drops_the_calibration_of_the_other_size_and_nothing_else():
    calibration = Calibration('plumb_bob', (), (0.0,) * 9, (0.0,) * 9, (0.0,) * 12, 640, 480)
    whole = camera(calibration=calibration)
    assert whole.scaled(320, 240).calibration is None
    assert whole.scaled(320, 240).header == HEADER
    assert whole.calibration is calibration


# ------------------------------------------------------------------------------ RigidTransform

# A quarter turn about z takes x to y and y to -x.
QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def placed(parent, child, rotation, *translation_m):
    return RigidTransform(Header(7, parent), child, rotation, np.array(translation_m))


def test_inverse_by_hand():
    # p_a = R p_b + (1, 2, 3), so the origin of a is seen from b at -R^T (1, 2, 3) = (-2, 1, -3).
    inverse = placed('a', 'b', QUARTER_TURN, 1.0, 2.0, 3.0).inverse()
    assert (inverse.header.frame_id, inverse.child_frame_id) == ('b', 'a')
    assert inverse.header.stamp_ns == 7
    np.testing.assert_array_equal(inverse.translation_m, [-2.0, 1.0, -3.0])
    np.testing.assert_array_equal(inverse.rotation, QUARTER_TURN.T)


def test_chain_by_hand():
    a_from_b = placed('a', 'b', QUARTER_TURN, 1.0, 2.0, 3.0)
    b_from_c = placed('b', 'c', np.eye(3), 10.0, 0.0, 0.0)
    a_from_c = a_from_b @ b_from_c
    assert (a_from_c.header.frame_id, a_from_c.child_frame_id) == ('a', 'c')
    # c's origin, (10, 0, 0) in b, turns to (0, 10, 0) and is then moved.
    np.testing.assert_array_equal(a_from_c.translation_m, [1.0, 12.0, 3.0])


def test_a_transform_after_its_inverse_is_nothing():
    # An arbitrary rotation: Rodrigues about (1, 2, 3) / sqrt(14) by 0.7 rad.
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.cross(np.eye(3), axis)
    rotation = np.eye(3) - np.sin(0.7) * cross + (1 - np.cos(0.7)) * cross @ cross
    a_from_b = placed('a', 'b', rotation, 0.1, -0.2, 0.3)
    nothing = a_from_b.inverse() @ a_from_b
    np.testing.assert_allclose(nothing.rotation, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(nothing.translation_m, np.zeros(3), atol=1e-15)


# ---------------------------------------------------------------------------------- companions

CODES = np.arange(8, dtype=np.uint8)  # 7 is none


def test_trust_is_an_order():
    assert trusted(CODES).tolist() == [False, True, True] + 5 * [False]
    assert trusted(CODES, Provenance.ALIGNED).nonzero()[0].tolist() == [1, 2, 3, 5]
    assert trusted(CODES, Provenance.RELATIVE).nonzero()[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(TRUST) == set(Provenance) - {Provenance.INVALID}
    assert at_most(CODES, Provenance.INPAINTED).tolist() == [0, 3, 3, 3, 4, 5, 6, 7]
    assert trusted(np.zeros((0, 3), np.uint8)).shape == (0, 3)


@pytest.mark.parametrize(
    ('codes', 'worst'), [([0], 0), ([0, 1], 1), ([2, 3], 3), ([3, 5], 5), ([4, 5], 4), ([6, 1], 6)]
)
def test_the_least_trusted_of_an_image(codes, worst):
    assert least_trusted(np.array([codes], np.uint8)) == worst


def test_origins_are_invalid_exactly_where_there_is_no_depth():
    depth = DepthImage(HEADER, np.array([[np.nan, 1, 1, 1]], np.float32))
    came = ProvenanceImage(HEADER, np.array([[1, 0, 9, 3]], np.uint8))
    assert origins(depth, came).tolist() == [[0, 6, 6, 3]]
    assert origins(depth, None).tolist() == [[0, 1, 1, 1]]


def test_deviations_are_there_exactly_where_there_is_depth():
    depth = DepthImage(HEADER, np.array([[np.nan, 1, 1, 1, 1]], np.float32))
    stated = StddevImage(HEADER, np.array([[1, 2, np.nan, 0, np.inf]], np.float32))
    model_m = np.full((1, 5), 0.5, np.float32)
    np.testing.assert_array_equal(
        deviations_m(depth, stated, model_m), np.array([[np.nan, 2, 0.5, 0.5, 0.5]], np.float32)
    )
    assert (model_m == 0.5).all()
