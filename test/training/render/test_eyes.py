"""Rendered eyes: the iris is where the gaze points, lamps are where a cornea mirrors them."""

import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.render.eyes import (
    CORNEA_MM,
    PIXEL_MM,
    gaze_of,
    photographed,
    render_eyes,
    sample_eyes,
    sheet,
)

BALL_MM, IRIS_MM = 12.0, 5.8
IRIS_PLANE_MM = math.sqrt(BALL_MM**2 - IRIS_MM**2)


def plain(gaze, **changed):
    """An eye in the middle, wide open, black and white, evenly lit, of plain skin."""
    eye = sample_eyes(0, 1)
    given = {
        'gaze': gaze,
        'ball_mm': torch.tensor([[0, 0, BALL_MM]]),
        'iris_mm': torch.tensor([IRIS_MM]),
        'pupil_mm': torch.tensor([2.0]),
        'corners_mm': torch.tensor([[[-25.0, 0], [25, 0]]]),
        'opening_mm': torch.tensor([[30.0, 30.0]]),
        'brow_mm': torch.tensor([-100.0]),
        'greys': torch.tensor([[0.9, 0.9, 0.05, 0.9]]),
        'power': torch.tensor([[1.0, 0, 0]]),
        'lashes': torch.tensor([[1.0, 1, 1, 0]]),
        'fibres': torch.zeros(1, 6, 3),
        'pores': torch.zeros(1, 5, 4),
    }
    return eye._replace(**(given | changed))


def looking(yaw_deg, pitch_deg):
    return gaze_of(torch.tensor([float(yaw_deg)]), torch.tensor([float(pitch_deg)]))


def places_mm(mask):
    rows, columns = np.nonzero(mask)
    return (columns - 27) * PIXEL_MM, (rows - 17) * PIXEL_MM


def test_gaze_by_hand():
    half, root = 0.5, math.sqrt(3) / 2
    for (yaw_deg, pitch_deg), wanted in {
        (0, 0): (0, 0, -1),
        (30, 0): (half, 0, -root),
        (0, 30): (0, -half, -root),
        (-90, 0): (-1, 0, 0),
    }.items():
        np.testing.assert_allclose(looking(yaw_deg, pitch_deg)[0], wanted, atol=1e-6)


@pytest.mark.parametrize('angles', [(0, 0), (25, 0), (-25, 10), (0, -20)])
def test_the_iris_is_where_the_gaze_points(angles):
    gaze = looking(*angles)
    dark = render_eyes(plain(gaze))[0, 0].numpy() < 0.45
    x_mm, y_mm = places_mm(dark)
    wanted_mm = IRIS_PLANE_MM * gaze[0, :2].numpy()
    np.testing.assert_allclose([x_mm.mean(), y_mm.mean()], wanted_mm, atol=0.15)
    # A disc that is seen aslant.
    area_mm2 = math.pi * IRIS_MM**2 * -float(gaze[0, 2])
    assert dark.sum() * PIXEL_MM**2 == pytest.approx(area_mm2, rel=0.05)


def test_the_pupil_is_the_middle_of_the_iris():
    bright = torch.tensor([[0.9, 0.9, 0.5, 0.9]])
    black = render_eyes(plain(looking(0, 0), greys=bright))[0, 0].numpy() < 0.3
    x_mm, y_mm = places_mm(black)
    assert abs(x_mm.mean()) < 0.1
    assert abs(y_mm.mean()) < 0.1
    assert black.sum() * PIXEL_MM**2 == pytest.approx(math.pi * 2**2, rel=0.1)


def test_a_lamp_is_seen_where_the_cornea_halves_the_angle_to_it():
    # 30 degrees to the right: the normal is 15 degrees to the right.
    lamp = torch.tensor([0.5, 0, -math.sqrt(3) / 2])
    eye = plain(
        looking(10, 0),
        lamps=torch.stack([lamp, lamp])[None],
        power=torch.tensor([[0.5, 0.5, 0]]),
        gloss=torch.tensor([[500.0, 1.0]]),
    )
    dull = eye._replace(gloss=torch.tensor([[500.0, 0.0]]))
    glint = (render_eyes(eye) - render_eyes(dull))[0, 0].numpy()
    row, column = np.unravel_index(glint.argmax(), glint.shape)
    center_mm = IRIS_PLANE_MM - math.sqrt(CORNEA_MM**2 - IRIS_MM**2)
    wanted_mm = center_mm * math.sin(math.radians(10)) + CORNEA_MM * math.sin(math.radians(15))
    assert (column - 27) * PIXEL_MM == pytest.approx(wanted_mm, abs=0.75 * PIXEL_MM)
    assert abs(row - 17) <= 1
    assert glint.max() > 0.2


def test_closed_lids_hide_where_an_eye_looks():
    shut = torch.tensor([[-3.0, -3.0]])
    left, right = (render_eyes(plain(looking(yaw, 0), opening_mm=shut)) for yaw in (-20, 20))
    torch.testing.assert_close(left, right, atol=1e-4, rtol=0)
    assert not torch.allclose(
        render_eyes(plain(looking(-20, 0))), render_eyes(plain(looking(20, 0))), atol=0.1
    )


def test_light_from_the_right_falls_on_the_right():
    side = torch.tensor([0.8, 0, -0.6])
    eye = plain(
        looking(0, 0), lamps=torch.stack([side, side])[None], power=torch.tensor([[0.3, 0.6, 0]])
    )
    picture = render_eyes(eye)[0, 0]
    assert picture[17, 40] > picture[17, 14] + 0.2


def test_eyes_are_functions_of_their_seed():
    first, again, other = (render_eyes(sample_eyes(seed, 4)) for seed in (3, 3, 4))
    assert first.shape == (4, 1, 35, 55)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.1)
    torch.testing.assert_close(photographed(first, 5), photographed(first, 5))


def test_all_eyes_can_be_seen():
    eyes = sample_eyes(0, 200)
    grey = render_eyes(eyes)
    assert grey.isfinite().all()
    assert grey.min() >= 0
    assert grey.max() <= 1
    # Something is in each: no picture is of one grey.
    assert grey.flatten(1).std(1).min() > 0.02
    torch.testing.assert_close(eyes.gaze.norm(dim=1), torch.ones(200))
    yaw_deg = torch.rad2deg(torch.atan2(eyes.gaze[:, 0], -eyes.gaze[:, 2]))
    assert -35.1 < yaw_deg.min() < -30
    assert 30 < yaw_deg.max() < 35.1


def test_cameras_blur_and_add_noise():
    edge = torch.zeros(16, 1, 35, 55)
    edge[..., 28:] = 0.6
    seen = photographed(edge, 0)
    assert seen.shape == edge.shape
    assert 0 <= seen.min() < seen.max() <= 1
    flat = seen[..., 40:]
    assert (flat.flatten(1).std(1) > 0.002).all()
    # Half way up between the two pixels beside the edge, whatever the blur.
    halves = seen[..., 27:29].mean((1, 2, 3))
    middle = (seen[..., :20].mean((1, 2, 3)) + flat.mean((1, 2, 3))) / 2
    torch.testing.assert_close(halves, middle, atol=0.03, rtol=0)


def test_sheets_show_gaze_as_lines():
    grey = torch.zeros(5, 1, 35, 55)
    gaze = looking(30, 0).expand(5, 3)
    picture = sheet(grey, gaze, columns=2)
    assert picture.shape == (2 * 140, 2 * 220, 3)
    # 80 px sin 30 to the right of the middle.
    assert (picture[70, 112:148] == 255).all()
    assert not picture[70, 152:218].any()
