import math

import numpy as np
import pytest

from depth_refiner_ros.filters.depth_of_field import (
    MAX_BLUR_PX,
    blur,
    circle_of_confusion_px,
)

RED, GREEN = (255, 0, 0), (0, 255, 0)


def halves(left, right):
    """An image whose left and right halves differ, and the discs of both."""
    rgb = np.empty((96, 160, 3), np.uint8)
    diameter_px = np.empty((96, 160), np.float32)
    for side, (color, disc_px) in ((np.s_[:, :80], left), (np.s_[:, 80:], right)):
        rgb[side], diameter_px[side] = color, disc_px
    return rgb, diameter_px


def light(rgb):
    """Linear light of the picture's red, 1 for white."""
    return (rgb[..., 0] / 255.0) ** 2


# ------------------------------------------------------------------------------- thin lens


def test_circle_of_confusion_of_a_normal_lens():
    # 50 mm at f/2, focused at 2 m. At 4 m: 0.05^2 * 2 / (2 * 4 * 1.95) = 0.32051 mm, and 700 px
    # of focal length make it 700 / 50 = 14 px a millimetre. At 1 m: 0.64103 mm.
    depth_m = np.array([1, 2, 4, 1e9], np.float32)
    lens = {'focus_m': 2, 'focal_px': 700, 'focal_m': 0.05}
    diameter_px = circle_of_confusion_px(depth_m, f_number=2, **lens)
    np.testing.assert_allclose(diameter_px, [-8.97436, 0, 4.48718, 8.97436], rtol=1e-4, atol=1e-5)
    stopped_down = circle_of_confusion_px(depth_m, f_number=8, **lens)
    np.testing.assert_allclose(stopped_down, diameter_px / 4, atol=1e-5)


def test_a_lens_has_limits():
    depth_m = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match='a lens of 50 mm cannot focus at 40 mm'):
        circle_of_confusion_px(depth_m, focus_m=0.04, f_number=2, focal_px=700, focal_m=0.05)
    with pytest.raises(ValueError, match='must be positive'):
        circle_of_confusion_px(depth_m, focus_m=1, f_number=0, focal_px=700, focal_m=0.05)


# -------------------------------------------------------------------------------- blurring


def test_what_is_in_focus_stays_as_it_is():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (60, 80, 3), np.uint8)
    np.testing.assert_array_equal(blur(rgb, np.zeros((60, 80), np.float32)), rgb)
    for elsewhere_px in (22, -22):
        diameter_px = np.zeros((60, 80), np.float32)
        diameter_px[:, 40:] = elsewhere_px
        # The next larger layer has a radius of 16 px.
        reach_px = 1 if elsewhere_px > 0 else 16 + 4
        out = blur(rgb, diameter_px, highlights=5)
        difference = out[:, : 40 - reach_px].astype(int) - rgb[:, : 40 - reach_px]
        assert np.abs(difference).max() <= 1
        assert out[:, 60:].std() < rgb[:, 60:].std() / 3


@pytest.mark.parametrize('most_px', [1, 5, 9, 30, 128])
def test_an_even_picture_stays_even(most_px):
    rng = np.random.default_rng(most_px)
    patches = rng.uniform(-most_px, most_px, (9, 11)).astype(np.float32)
    diameter_px = np.kron(patches, np.ones((11, 13), np.float32))
    rgb = np.full((*diameter_px.shape, 3), (200, 90, 17), np.uint8)
    assert np.abs(blur(rgb, diameter_px, highlights=3).astype(int) - rgb).max() <= 1


@pytest.mark.parametrize('seed', range(4))
def test_shreds_of_depth_leave_no_dark_seams(seed):
    rng = np.random.default_rng(seed)
    rgb = np.full((50, 60, 3), (180, 90, 200), np.uint8)
    noisy = rng.uniform(-30, 30, (50, 60)).astype(np.float32)
    stripe = np.where(np.arange(60) // 3 == 7, np.float32(30), np.float32(seed - 2))
    stripe = np.tile(stripe, (50, 1))
    nothing = np.full((50, 60), 1e-30, np.float32)
    for diameter_px in (noisy, stripe, -stripe, nothing):
        assert np.abs(blur(rgb, diameter_px).astype(int) - rgb).max() <= 1


@pytest.mark.parametrize('sharp_px', [0, -2])
def test_a_sharp_foreground_keeps_its_colour_and_its_edge(sharp_px):
    rgb, diameter_px = halves((RED, sharp_px), (GREEN, 30))
    out = blur(rgb, diameter_px)
    soft_px = 1 if sharp_px == 0 else 4
    assert (np.abs(out[:, 80 + soft_px :].astype(int) - GREEN) <= 1).all()
    if sharp_px == 0:
        assert (out[:, : 80 - soft_px] == RED).all()


# 10.5 and 16 are radii of layers; what is mixed of two layers has the width of the disc, but not
# quite its profile.
@pytest.mark.parametrize(
    ('radius_px', 'tolerance'), [(5, 0.11), (11, 0.03), (13, 0.06), (16, 0.05)]
)
def test_a_blurred_foreground_spreads_over_a_sharp_background(radius_px, tolerance):
    # Before black, at a distance of t radii from its edge a disc of white covers
    # (acos(t) - t * sqrt(1 - t^2)) / pi.
    rgb, diameter_px = halves(((255,) * 3, -2 * radius_px), ((0,) * 3, 0))
    t = np.clip((np.arange(160) + 0.5 - 80) / radius_px, -1, 1)
    expected = (np.arccos(t) - t * np.sqrt(1 - t**2)) / math.pi
    got = light(blur(rgb, diameter_px))
    np.testing.assert_allclose(got, np.tile(expected, (96, 1)), atol=tolerance)
    assert np.abs(got - expected).mean() < 0.006
    # The next larger layer is at most 1.5 times as large.
    assert (got[:, 80 + math.ceil(1.5 * radius_px) + 4 :] == 0).all()


def test_the_background_goes_on_behind_a_blurred_foreground():
    rgb, diameter_px = halves((RED, -24), (GREEN, 0))
    out = blur(rgb, diameter_px)
    green, red = (out[48, :, 1] / 255.0) ** 2, (out[48, :, 0] / 255.0) ** 2
    np.testing.assert_allclose(green + red, 1, atol=0.02)
    assert green[74] > 0.1


@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize('radius_px', [2, 5, 7, 12, 24, 32, 36])
def test_a_point_of_light_becomes_a_disc(radius_px, sign):
    rgb = np.zeros((161, 161, 3), np.uint8)
    rgb[80, 80] = 255
    diameter_px = np.full((161, 161), 2 * sign * radius_px, np.float32)
    # White as bright as the disc has pixels, so that the disc is a mid grey.
    white = math.pi * radius_px**2
    square = light(blur(rgb, diameter_px, highlights=white))
    disc = square / (1 - (1 - 1 / white) * square)
    assert disc.sum() == pytest.approx(white, rel=0.02)
    y, x = np.mgrid[:161, :161]
    squares = (x - 80) ** 2 + (y - 80) ** 2
    # The mean squared distance from a disc's centre is half its radius squared.
    assert (disc * squares).sum() / disc.sum() == pytest.approx(radius_px**2 / 2, rel=0.05)
    # Of two layers mixed, or drawn with few samples, a disc is not quite even.
    if radius_px >= 12:
        inside = disc[squares < (0.7 * radius_px) ** 2]
        assert inside.std() < 0.25 * inside.mean()


def test_highlights_win_over_shadows():
    rgb, diameter_px = halves(((255,) * 3, 20), ((0,) * 3, 20))
    plain, brighter = (blur(rgb, diameter_px, highlights=h)[48, 80, 0] for h in (1, 10))
    assert plain == pytest.approx(255 * math.sqrt(0.5), abs=8)  # half the light, linear
    assert brighter > plain + 30


def test_no_seam_where_the_blur_grows():
    """A ramp of brightness over a floor that recedes through every layer stays a ramp."""
    x = np.linspace(0, 1, 320, dtype=np.float32)
    rgb = np.repeat((x**0.5 * 255).round().astype(np.uint8)[None, :, None], 120, 0).repeat(3, 2)
    diameter_px = np.repeat(np.linspace(-40, 40, 320, dtype=np.float32)[None], 120, 0)
    out = blur(rgb, diameter_px)[60, 30:290, 0].astype(int)
    assert np.abs(out - rgb[60, 30:290, 0]).max() <= 4
    assert np.abs(np.diff(out)).max() <= 3


def test_specks_of_depth_leave_no_sharp_specks():
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (64, 64, 3), np.uint8)
    clean = np.full((64, 64), 12, np.float32)
    specks = clean.copy()
    specks[10::10, 10::10] = 0
    np.testing.assert_array_equal(blur(rgb, specks), blur(rgb, clean))


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (7, 1), (2, 3), (17, 33)])
@pytest.mark.parametrize('disc_px', [-300, -9, 9, 300])
def test_tiny_images_and_huge_discs(shape, disc_px):
    rgb = np.full((*shape, 3), 77, np.uint8)
    out = blur(rgb, np.full(shape, disc_px, np.float32))
    assert out.shape == rgb.shape
    assert out.dtype == np.uint8
    assert np.abs(out.astype(int) - 77).max() <= 1


def test_same_bits_again_and_inputs_left_alone():
    rng = np.random.default_rng(2)
    rgb = rng.integers(0, 256, (50, 70, 3), np.uint8)
    diameter_px = np.kron(rng.uniform(-40, 40, (5, 7)), np.ones((10, 10))).astype(np.float32)
    before = rgb.copy(), diameter_px.copy()
    for array in (rgb, diameter_px):
        array.flags.writeable = False
    np.testing.assert_array_equal(blur(rgb, diameter_px), blur(rgb, diameter_px))
    np.testing.assert_array_equal(rgb, before[0])
    np.testing.assert_array_equal(diameter_px, before[1])


def test_greater_discs_are_as_the_greatest():
    rgb, diameter_px = halves((RED, -MAX_BLUR_PX), (GREEN, MAX_BLUR_PX))
    np.testing.assert_array_equal(blur(rgb, 2 * diameter_px), blur(rgb, diameter_px))


def test_blur_refuses_what_does_not_fit():
    rgb = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match=r'they are \(4, 6, 3\) and \(4, 5\)'):
        blur(rgb, np.zeros((4, 5), np.float32))
    with pytest.raises(ValueError, match=r'highlights must be 1 or more, got 0\.5'):
        blur(rgb, np.zeros((4, 6), np.float32), highlights=0.5)
