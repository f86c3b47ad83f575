import numpy as np
import pytest

from depth_refiner_ros.data import HAND_BONES, Header, PinholeCamera
from depth_refiner_ros.filters.hands import (
    BONE_LENGTHS_MM,
    CENTER,
    WINDOW_M,
    WINDOW_PX,
    OneEuro,
    candidates,
    confidence_of,
    detector_image,
    joints_of,
    plausible,
    projected,
    window,
)

CAMERA = PinholeCamera(Header(0, 'camera'), 640, 480, 560.0, 560.0, 319.5, 239.5)
CENTER_M = np.array([0.1, -0.05, 0.7])


def flat_hand(scale=1.0):
    """Joints of a hand whose bones have the lengths of the hand of reference."""
    points_m = np.zeros((21, 3), np.float32)
    points_m[:, 2] = 0.7
    for number, (start, end) in enumerate(HAND_BONES):
        finger = number // 4
        angle = 0.3 * (finger - 2)
        step = 1e-3 * scale * BONE_LENGTHS_MM[number]
        points_m[end] = points_m[start] + [step * np.sin(angle), -step * np.cos(angle), 0]
    return points_m


def test_the_detector_sees_every_camera_alike():
    # 640x480 at 560 px is 160x120 at 140 px, and 8 rows more make a multiple of 16.
    depth_m = np.full((480, 640), 2.0, np.float32)
    image_m = detector_image(depth_m, CAMERA)
    assert image_m.shape == (128, 160)
    assert np.isnan(image_m[120:]).all()
    assert (image_m[:120] == 2.0).all()
    assert detector_image(np.full((1, 1), 2.0, np.float32), CAMERA).shape == (16, 16)


def test_candidates_by_hand():
    image_m = np.full((128, 160), 2.0, np.float32)
    image_m[44, 60] = 0.68  # the nearest pixel of cell (11, 15)
    hand = np.zeros((32, 40), np.float32)
    hand[11, 15], hand[11, 16], hand[30, 1] = 0.9, 0.8, 0.2
    offset = np.zeros((2, 32, 40), np.float32)
    offset[:, 11, 15] = [0.25, -0.5]
    behind_m = np.full((32, 40), 0.02, np.float32)
    (found,) = candidates(image_m, hand, offset, behind_m, CAMERA, threshold=0.3)
    assert found.probability == pytest.approx(0.9)
    # Column 15.75 cells is 63 small pixels is 252 pixels from the edge, so pixel 251.5.
    z_m = 0.70
    u, v = 251.5, 4 * 4 * 11.0 - 0.5
    wanted_m = [(u - 319.5) / 560 * z_m, (v - 239.5) / 560 * z_m, z_m]
    np.testing.assert_allclose(found.center_m, wanted_m, rtol=1e-5)


def test_candidates_need_depth():
    nothing_m = np.full((16, 16), np.nan, np.float32)
    hand = np.ones((4, 4), np.float32)
    zeros = np.zeros((4, 4), np.float32)
    offset = np.zeros((2, 4, 4), np.float32)
    assert candidates(nothing_m, hand, offset, zeros, CAMERA, threshold=0.5) == []


def test_a_window_spans_its_cube():
    depth_m = np.full((480, 640), np.nan, np.float32)
    u, v = 319.5 + 560 * 0.1 / 0.7, 239.5 - 560 * 0.05 / 0.7
    depth_m[round(v) - 10 : round(v) + 11, round(u) - 10 : round(u) + 11] = 0.7 + WINDOW_M / 2
    seen = window(depth_m, CAMERA, CENTER_M)
    assert seen.shape == (WINDOW_PX, WINDOW_PX)
    assert seen[48, 48] == pytest.approx(0.5, rel=1e-5)
    # 21 px of 232 px are 8.7 of 96.
    assert 7 <= (seen[48] < 1).sum() <= 10
    assert seen[0, 0] == 1


def test_windows_over_the_edge_and_of_tiny_images():
    assert (window(np.full((1, 1), 0.7, np.float32), CAMERA, CENTER_M) <= 1).all()
    far_left_m = np.array([-3.0, 0.0, 0.7])
    assert (window(np.full((480, 640), 0.7, np.float32), CAMERA, far_left_m) == 1).all()


def test_joints_come_back_where_they_were():
    points_m = flat_hand()
    center_m = points_m[CENTER].astype(np.float64)
    pixels = projected(points_m, CAMERA)
    half_px = WINDOW_M * 560 / 0.7
    center_px = pixels[CENTER]
    place = np.empty((21, 3), np.float32)
    place[:, :2] = (pixels - center_px) / half_px
    place[:, 2] = (points_m[:, 2] - 0.7) / WINDOW_M
    again_m, again_px = joints_of(place, CAMERA, center_m)
    np.testing.assert_allclose(again_m, points_m, atol=1e-5)
    np.testing.assert_allclose(again_px, pixels, atol=1e-2)


def test_plausible_bones_stay_and_others_are_brought_to_what_can_be():
    hand_m = flat_hand(0.9)
    np.testing.assert_allclose(plausible(hand_m), hand_m, atol=1e-6)
    stretched_m = hand_m.copy()
    stretched_m[8] = stretched_m[7] + [0, -0.1, 0]  # an index fingertip 100 mm long
    length_mm = 1e3 * np.linalg.norm(plausible(stretched_m)[8] - stretched_m[7])
    assert length_mm == pytest.approx(0.9 * 12.7 * 1.35, rel=1e-3)
    assert plausible(flat_hand(3.0)) is None
    assert plausible(np.zeros((21, 3), np.float32)) is None


def test_confidence_is_a_probability_of_two_centimetres():
    # A spread of 20 mm: 1 - 1/e.
    assert confidence_of(np.float32([0.02 / WINDOW_M]))[0] == pytest.approx(1 - np.exp(-1))


def test_one_euro_by_hand():
    smooth = OneEuro(1.0, per_m_s=0.0)
    first, second = np.zeros((21, 3), np.float32), np.ones((21, 3), np.float32)
    assert (smooth(first, 0.0) == 0).all()
    # r = 2 pi 1 Hz 0.1 s; r / (r + 1).
    rate = 0.2 * np.pi
    np.testing.assert_allclose(smooth(second, 0.1), rate / (rate + 1), rtol=1e-5)
    quick = OneEuro(1.0, per_m_s=25.0)
    quick(first, 0.0)
    assert quick(second, 0.1).min() > 0.9
    assert (OneEuro(0.0)(second, 0.1) == 1).all()
