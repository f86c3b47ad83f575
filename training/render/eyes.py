"""Grey pictures of eyes and where they look: small, synthetic, made up of a few analytic surfaces.

    eyes = sample_eyes(torch.Generator().manual_seed(0), 64)
    grey = photographed(render_eyes(eyes), torch.Generator().manual_seed(1))
    python -m training.render.eye_sheet eyes.png

An eyeball with a flat iris, a cornea that mirrors lamps, and two lids, seen from far away by the
camera that MPIIGaze's pictures are normalised to: x right, y down, z forward, 35x55 px. All are
left eyes, inner corner on the left; mirror them for right ones. Sizes are those of adults; there
is no refraction, no iris below the cornea's dome and no face.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from .hands import Draw

ROWS_PX, COLUMNS_PX = 35, 55
PIXEL_MM = 37.5 / COLUMNS_PX
"""MPIIGaze's normalised pictures show 37.5 mm of a face 600 mm away."""
CORNEA_MM = 7.8
"""Radius of curvature, from a centre that keeps its edge on the iris's."""
_FINER = 2
"""Rays a pixel, in either direction."""
Vectors = tuple[Tensor, Tensor, Tensor]
"""Their x, y and z, at each ray."""


class Eyes(NamedTuple):
    """Eyes in the camera's frame, one a row; lengths in mm, greys 0 to 1.

    Attributes:
        gaze: (B, 3) unit vectors of optical axes; towards the camera is -z.
        ball_mm: (B, 3) column, row and radius of eyeballs.
        iris_mm: (B,) radii.
        pupil_mm: (B,) radii.
        corners_mm: (B, 2, 2) inner and outer corners of the lids.
        opening_mm: (B, 2) of the upper and the lower lid, from the line between the corners.
        crease_mm: (B,) of the fold above the upper lid.
        brow_mm: (B,) row of the eyebrow.
        greys: (B, 4) of skin, sclera, iris and brow.
        lamps: (B, 2, 3) directions to lamps.
        power: (B, 3) light of all directions, and of either lamp.
        gloss: (B, 2) how sharp and how bright the lamps' images in the cornea are.
        lashes: (B, 4) their grey, length in mm, number in a mm, and phase.
        fibres: (B, 6, 3) waves of the iris around the pupil: number, phase, height.
        pores: (B, 5, 4) waves of the skin: along columns and rows in 1/mm, phase, height.
    """

    gaze: Tensor
    ball_mm: Tensor
    iris_mm: Tensor
    pupil_mm: Tensor
    corners_mm: Tensor
    opening_mm: Tensor
    crease_mm: Tensor
    brow_mm: Tensor
    greys: Tensor
    lamps: Tensor
    power: Tensor
    gloss: Tensor
    lashes: Tensor
    fibres: Tensor
    pores: Tensor


def gaze_of(yaw_deg: Tensor, pitch_deg: Tensor) -> Tensor:
    """Return unit vectors (B, 3) of gaze turned to the right of the picture and up, (B,) each."""
    yaw, pitch = torch.deg2rad(yaw_deg), torch.deg2rad(pitch_deg)
    return _columns(pitch.cos() * yaw.sin(), -pitch.sin(), -pitch.cos() * yaw.cos())


def sample_eyes(
    generator: torch.Generator | int,
    count: int,
    *,
    yaw_deg: tuple[float, float] = (-35, 35),
    pitch_deg: tuple[float, float] = (-30, 20),
) -> Eyes:
    """Draw eyes that look anywhere in a range.

    Args:
        generator: Or a seed.
        count: How many.
        yaw_deg: From left to right in the picture.
        pitch_deg: From down to up.
    """
    draw = Draw(generator)

    def each(low: float, high: float) -> Tensor:
        return draw.uniform(low, high, count)

    gaze = gaze_of(each(*yaw_deg), each(*pitch_deg))
    # Heads turn too: lids shorten, and eyeballs, whose middles lie behind them, move.
    turn, nod = torch.deg2rad(each(-20, 20)), torch.deg2rad(each(-15, 15))
    middle_mm = _columns(draw.normal(0.8, count), draw.normal(0.8, count))
    behind_mm = 7 * _columns(turn.sin(), nod.sin())
    radius_mm = each(11.6, 12.6)
    half_mm = turn.cos() * each(13.5, 16)
    inner_mm, outer_mm = _columns(-half_mm, each(-0.2, 1.8)), _columns(half_mm, each(-1.8, 0.8))
    # Lids follow the gaze up and down, the upper one more.
    down_mm = radius_mm * gaze[:, 1]
    upper_mm = (nod.cos() * each(3.2, 6.2) - 0.65 * down_mm).clamp(1.2, 9)
    lower_mm = (nod.cos() * each(4.2, 6.0) + 0.5 * down_mm).clamp(2, 8)
    iris_mm, skin, ambient = each(5.5, 6.3), each(0.3, 0.8), each(0.35, 0.8)
    above = _columns(each(-1.2, 1.2), each(-1.3, 0.4), each(-1.2, -0.4))
    beside = _columns(each(-1, 1), each(-0.6, 0.8), each(-1.2, -0.6))
    return Eyes(
        gaze=gaze,
        ball_mm=torch.cat([middle_mm + behind_mm, radius_mm[:, None]], 1),
        iris_mm=iris_mm,
        pupil_mm=iris_mm * each(0.22, 0.55),
        corners_mm=_columns(middle_mm + inner_mm, middle_mm + outer_mm),
        opening_mm=_columns(upper_mm, lower_mm),
        crease_mm=each(1.5, 5),
        brow_mm=each(-17, -9.5),
        greys=_columns(skin, each(0.55, 0.95), each(0.08, 0.42), skin * each(0.3, 0.8)),
        lamps=functional.normalize(_columns(above, beside), dim=2),
        power=_columns(ambient, 1.1 - ambient, draw.chance(0.5, count) * each(0.05, 0.3)),
        gloss=_columns(torch.exp(each(4.8, 7)), each(0.2, 1)),
        lashes=_columns(each(0.2, 0.75), each(0.8, 3), each(0.5, 1.1), each(0, math.tau)),
        fibres=torch.stack(
            [
                torch.round(draw.uniform(5, 40, count, 6)),
                draw.uniform(0, math.tau, count, 6),
                draw.uniform(0, 0.12, count, 6),
            ],
            2,
        ),
        pores=torch.stack(
            [
                draw.normal(1.2, count, 5),
                draw.normal(1.2, count, 5),
                draw.uniform(0, math.tau, count, 5),
                draw.uniform(0, 0.02, count, 5),
            ],
            2,
        ),
    )


def render_eyes(eyes: Eyes) -> Tensor:
    """Return pictures (B, 1, 35, 55) float32, 0 to 1, as a camera without flaws sees eyes."""
    x_mm, y_mm = _rays(eyes.gaze.device)
    lids = _Lids(eyes, x_mm, y_mm)
    image = _skin(eyes, lids, x_mm, y_mm)
    image = torch.lerp(image, _eyeball(eyes, lids, x_mm, y_mm), lids.open)
    image = image * lids.lashes
    return functional.avg_pool2d(image.clamp(0, 1)[:, None], _FINER)


def photographed(grey: Tensor, generator: torch.Generator | int) -> Tensor:
    """Return pictures as a cheap camera takes them: blurred, over- or underexposed, noisy.

    Args:
        grey: (B, 1, H, W), 0 to 1.
        generator: Or a seed.
    """
    draw = Draw(generator)
    count = len(grey)
    reach = torch.arange(-3, 4, device=grey.device)
    spread_px = draw.uniform(0.3, 1.1, count, 1)
    kernel = torch.exp(-0.5 * (reach / spread_px).square())
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None]
    wide = functional.pad(grey, (3, 3, 3, 3), mode='replicate')[:, 0][None]
    blurred = functional.conv2d(wide, kernel[:, :, None], groups=count)
    blurred = functional.conv2d(blurred, kernel[..., None], groups=count)[0][:, None]
    gain, lift, noise = (
        draw.uniform(low, high, count, 1, 1, 1)
        for low, high in ((0.55, 1.2), (-0.05, 0.15), (0.003, 0.03))
    )
    grain = noise * torch.randn(grey.shape, generator=draw.generator, device=grey.device)
    return (gain * blurred + lift + grain).clamp(0, 1)


def _rays(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return columns (1, 1, W) and rows (1, H, 1) of rays in mm from the picture's middle."""
    step_mm = PIXEL_MM / _FINER

    def places(count: int) -> Tensor:
        return (torch.arange(count, device=device) - (count - 1) / 2) * step_mm

    return places(_FINER * COLUMNS_PX)[None, None], places(_FINER * ROWS_PX)[None, :, None]


def _columns(*values: Tensor) -> Tensor:
    """Return numbers (B, ...) beside one another, (B, N, ...)."""
    return torch.stack(values, 1)


def _of(value: Tensor) -> Tensor:
    """Return a number of each eye (B,) beside rows and columns."""
    return value[:, None, None]


def _bell(distance: Tensor, width: Tensor | float) -> Tensor:
    return torch.exp(-(distance / width).square())


class _Lids:
    """Where lids are at each ray, and what they hide.

    Attributes:
        along: (B, 1, W) 0 at the inner corner, 1 at the outer one.
        upper_mm: (B, 1, W) rows of the edge.
        lower_mm: (B, 1, W) rows of the edge.
        crease_mm: (B, 1, W) rows of the fold.
        open: (B, H, W) share of the eyeball that is seen.
        lashes: (B, H, W) share of light that they let pass.
    """

    def __init__(self, eyes: Eyes, x_mm: Tensor, y_mm: Tensor) -> None:
        inner, outer = eyes.corners_mm.unbind(1)
        self.along = (x_mm - _of(inner[:, 0])) / _of(outer[:, 0] - inner[:, 0])
        t = self.along.clamp(0, 1)
        line_mm = torch.lerp(_of(inner[:, 1]), _of(outer[:, 1]), t)
        # Highest nearer to the nose, lowest nearer to the temple.
        above, below = _arch(t, 0.62, 0.78), _arch(t, 0.9, 0.6)
        self.upper_mm = line_mm - _of(eyes.opening_mm[:, 0]) * above
        self.lower_mm = line_mm + _of(eyes.opening_mm[:, 1]) * below
        self.crease_mm = self.upper_mm - _of(eyes.crease_mm) * (0.35 + 0.65 * above)
        soft_mm = 0.15
        self.open = torch.sigmoid((y_mm - self.upper_mm) / soft_mm)
        self.open = self.open * torch.sigmoid((self.lower_mm - y_mm) / soft_mm)
        self.open = self.open * ((self.along > 0) & (self.along < 1))

        grey, length_mm, number, phase = (_of(v) for v in eyes.lashes.unbind(1))
        there = torch.sigmoid(40 * self.along) * torch.sigmoid(40 * (1 - self.along))
        up_mm, down_mm = self.upper_mm - y_mm, y_mm - self.lower_mm
        fan = x_mm + 0.35 * (t - 0.4) * up_mm
        strand = 0.5 + 0.5 * torch.cos(math.tau * number * fan + phase)
        hair = torch.sigmoid((up_mm + 0.4) / 0.15) * torch.exp(-up_mm.clamp_min(0) / length_mm)
        few = torch.sigmoid(down_mm / 0.15) * torch.exp(-down_mm.clamp_min(0) / 0.7)
        dark = (0.3 + 0.7 * strand) * hair + 0.25 * strand * few + 0.4 * _bell(up_mm, 0.5)
        self.lashes = 1 - (1 - grey) * (there * dark).clamp(0, 1)


def _arch(t: Tensor, rise: float, fall: float) -> Tensor:
    """Return t^rise (1 - t)^fall, 1 at its highest."""
    top = rise / (rise + fall)
    return (t / top).pow(rise) * ((1 - t) / (1 - top)).pow(fall)


def _dot(vectors: Vectors, direction: Tensor) -> Tensor:
    """Return products (B, H, W) of vectors of all rays with one direction (B, 3) of each eye."""
    x, y, z = vectors
    return x * _of(direction[:, 0]) + y * _of(direction[:, 1]) + z * _of(direction[:, 2])


def _lit(eyes: Eyes, normal: Vectors) -> Tensor:
    """Return the light (B, H, W) that a matt surface sends to the camera."""
    light = _of(eyes.power[:, 0])
    for lamp in range(2):
        cosine = _dot(normal, eyes.lamps[:, lamp]).clamp_min(0)
        light = light + _of(eyes.power[:, 1 + lamp]) * cosine
    return light


def _skin(eyes: Eyes, lids: _Lids, x_mm: Tensor, y_mm: Tensor) -> Tensor:
    """Return lids, brow and what is around: a bulge over the eyeball, and the nose's flank."""
    right_mm, down_mm = x_mm - _of(eyes.ball_mm[:, 0]), y_mm - _of(eyes.ball_mm[:, 1])
    bulge_mm = 7 * torch.exp(-(right_mm.square() + 1.4 * down_mm.square()) / 13**2)
    nose = 0.06 * (-right_mm - 9).clamp_min(0)
    slope_x = 2 * right_mm / 13**2 * bulge_mm + nose
    slope_y = 2.8 * down_mm / 13**2 * bulge_mm + 0.03 * (-down_mm - 6).clamp_min(0)
    size = torch.sqrt(slope_x.square() + slope_y.square() + 1)
    light = _lit(eyes, (slope_x / size, slope_y / size, -1 / size))
    skin = _of(eyes.greys[:, 0]) * light
    for wave in eyes.pores.unbind(1):
        column, row, phase, height = (_of(v) for v in wave.unbind(1))
        skin = skin * (1 + height * torch.cos(column * x_mm + row * y_mm + phase))
    t = lids.along.clamp(0, 1)
    fold = _bell(y_mm - lids.crease_mm, 0.55) * (4 * t * (1 - t)).sqrt()
    skin = skin * (1 - 0.3 * fold)
    # The lower lid's edge is wet and catches light.
    skin = skin * (1 + 0.2 * _bell(y_mm - lids.lower_mm - 0.4, 0.4) * (4 * t * (1 - t)))
    brow = _bell(y_mm - _of(eyes.brow_mm) - 0.01 * x_mm.square(), 2.0)
    return torch.lerp(skin, _of(eyes.greys[:, 3]) * light, brow)


def _eyeball(eyes: Eyes, lids: _Lids, x_mm: Tensor, y_mm: Tensor) -> Tensor:
    """Return the eyeball as if there were no lids but for their shadow and the red in corners."""
    radius_mm = _of(eyes.ball_mm[:, 2])
    right_mm, down_mm = x_mm - _of(eyes.ball_mm[:, 0]), y_mm - _of(eyes.ball_mm[:, 1])
    near_mm = (radius_mm.square() - right_mm.square() - down_mm.square()).clamp_min(1).sqrt()
    light = _lit(eyes, (right_mm / radius_mm, down_mm / radius_mm, -near_mm / radius_mm))
    sclera = _of(eyes.greys[:, 1]) * (0.4 + 0.6 * light) * (0.7 + 0.3 * near_mm / radius_mm)

    # The iris is flat: rays meet its plane, which the gaze is normal to.
    gaze_x, gaze_y, gaze_z = (_of(v) for v in eyes.gaze.unbind(1))
    iris_mm, pupil_mm = _of(eyes.iris_mm), _of(eyes.pupil_mm)
    depth_mm = (radius_mm.square() - iris_mm.square()).sqrt()
    z_mm = (depth_mm - right_mm * gaze_x - down_mm * gaze_y) / gaze_z
    x = right_mm - depth_mm * gaze_x
    y = down_mm - depth_mm * gaze_y
    z = z_mm - depth_mm * gaze_z
    out_mm = (x.square() + y.square() + z.square()).sqrt()
    around = torch.atan2(y, x)
    fibres = torch.ones_like(out_mm)
    for wave in eyes.fibres.unbind(1):
        number, phase, height = (_of(v) for v in wave.unbind(1))
        fibres = fibres + height * torch.cos(number * around + phase + 0.4 * out_mm)
    fibres = fibres * (1 - 0.55 * _bell(out_mm - iris_mm, 0.7))
    fibres = fibres * (1 + 0.3 * _bell(out_mm - 1.35 * pupil_mm, 0.7))
    iris = _of(eyes.greys[:, 2]) * fibres * (0.5 + 0.5 * light)
    iris = torch.lerp(iris, torch.full_like(iris, 0.03), torch.sigmoid((pupil_mm - out_mm) / 0.15))
    ball = torch.lerp(sclera, iris, torch.sigmoid((iris_mm - out_mm) / 0.3))

    inner = eyes.corners_mm[:, 0]
    to_corner = ((x_mm - _of(inner[:, 0]) - 1) / 1.7).square()
    to_corner = to_corner + ((y_mm - _of(inner[:, 1])) / 1.2).square()
    flesh = 0.5 * (_of(eyes.greys[:, 0]) + _of(eyes.greys[:, 1])) * light
    ball = torch.lerp(ball, flesh, torch.exp(-to_corner))
    shadow = 0.5 * torch.exp(-(y_mm - lids.upper_mm).clamp_min(0) / 1.4)
    shadow = shadow + 0.2 * torch.exp(-(lids.lower_mm - y_mm).clamp_min(0) / 0.6)
    return ball * (1 - shadow) + _glints(eyes, right_mm, down_mm, out_mm)


def _glints(eyes: Eyes, right_mm: Tensor, down_mm: Tensor, out_mm: Tensor) -> Tensor:
    """Return the images of the lamps in the cornea, where its normal halves the angle to them."""
    iris_mm = _of(eyes.iris_mm)
    radius_mm = _of(eyes.ball_mm[:, 2])
    forward_mm = (radius_mm.square() - iris_mm.square()).sqrt()
    forward_mm = forward_mm - (CORNEA_MM**2 - iris_mm.square()).sqrt()
    x = (right_mm - forward_mm * _of(eyes.gaze[:, 0])) / CORNEA_MM
    y = (down_mm - forward_mm * _of(eyes.gaze[:, 1])) / CORNEA_MM
    z = -(1 - x.square() - y.square()).clamp_min(0).sqrt()
    on_cornea = torch.sigmoid((iris_mm - out_mm) / 0.3)
    glints = torch.zeros_like(x)
    for lamp in range(2):
        toward = eyes.lamps[:, lamp] - eyes.lamps.new_tensor([0, 0, 1])
        half = functional.normalize(toward, dim=1)
        cosine = _dot((x, y, z), half)
        there = (eyes.power[:, 1 + lamp] > 0) * eyes.gloss[:, 1]
        glints = glints + _of(there) * torch.exp(
            -_of(eyes.gloss[:, 0]) * (1 - cosine).clamp_min(0)
        )
    return glints * on_cornea


def sheet(grey: Tensor, *gazes: Tensor, columns: int = 8) -> npt.NDArray[np.uint8]:
    """Return pictures in RGB, four times as large, with gazes as lines: white, then yellow.

    Args:
        grey: (B, 1, H, W), 0 to 1.
        gazes: (B, 3) each.
        columns: Pictures beside one another; what does not fill a row is left out.
    """
    tiles = []
    for number, picture in enumerate((255 * grey[:, 0].clamp(0, 1)).round().byte().cpu().numpy()):
        tile = np.repeat(picture.repeat(4, 0).repeat(4, 1)[..., None], 3, 2)
        middle = np.array(tile.shape[1::-1]) / 2
        for gaze, color in zip(gazes, ((255, 255, 255), (255, 220, 0)), strict=False):
            end = middle + 80 * gaze[number, :2].cpu().numpy()
            cv2.line(tile, middle.astype(int).tolist(), end.astype(int).tolist(), color, 1)
        tiles.append(tile)
    rows = [np.hstack(tiles[n : n + columns]) for n in range(0, len(tiles), columns)]
    whole = [row for row in rows if row.shape == rows[0].shape]
    return np.asarray(np.vstack(whole), np.uint8)
