"""Pixels that float in the air between a foreground and a background."""

from __future__ import annotations

import cv2
import numpy as np

from ..data import BoolArray, Float32Array
from .noise import FARTHEST_M, NEAREST_M

# (dy, dx) of the four lines through a pixel.
_LINES = ((0, 1), (1, 0), (1, 1), (1, -1))
# A mixed edge is one or two pixels wide: the first spacing sees it beside thin objects too. A
# third spacing finds more, of which more than half lies on a surface.
_SPACINGS_PX = (1, 2)
_BORDER_PX = 2 * max(_SPACINGS_PX)
_NEIGHBOURHOOD = np.ones((2 * max(_SPACINGS_PX) + 1,) * 2, np.uint8)


def flying_pixels(
    depth_m: Float32Array,
    stddev_m: Float32Array,
    *,
    gate_stddevs: float = 4.0,
    min_jump: float = 0.025,
    max_slope_ratio: float = 0.2,
) -> BoolArray:
    """Find pixels that lie on neither of the two surfaces a depth edge separates.

    A flying pixel mixes the light of two surfaces. Along a line through it inverse depth falls
    from a flat stretch to another flat stretch, and the pixel stands strictly between them. Thin
    structures stand in front of both sides and grazing surfaces keep their slope beyond the
    pixel, so both survive. So does a pixel beside a hole, where the second surface is unknown.

    Args:
        depth_m: (H, W) float32 metres, NaN where there is no return.
        stddev_m: (H, W) float32 metres, standard deviation of a reading.
        gate_stddevs: The pixel must be this many standard deviations off either surface.
        min_jump: It must also be this fraction of its depth off either surface.
        max_slope_ratio: Slope of a surface, as a share of the step between it and the pixel, up
            to which it counts as flat. On a plane seen at any angle the share is 1.

    Returns:
        (H, W) bool, True where the pixel flies. Never True where there is no return.
    """
    height, width = depth_m.shape
    stride = width + 2 * _BORDER_PX
    # Inverse depth is affine on a plane; zero, infinitely far, stands for no return.
    padded = np.full((height + 2 * _BORDER_PX, stride), np.inf, np.float32)
    inside = padded[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX]
    cv2.copyTo(depth_m, cv2.inRange(depth_m, NEAREST_M, FARTHEST_M), inside)
    np.divide(np.float32(1), padded, out=padded)

    # Few pixels have something nearer and something farther around: the lines are followed there.
    above = cv2.dilate(padded, _NEIGHBOURHOOD)
    below = cv2.erode(padded, _NEIGHBOURHOOD)
    cv2.subtract(above, padded, dst=above)
    cv2.subtract(padded, below, dst=below)
    between = cv2.min(above, below)
    inverses = padded.ravel()
    pixels = np.flatnonzero(between > padded * np.float32(min_jump))
    rows, columns = np.divmod(pixels, stride)
    rows -= _BORDER_PX
    columns -= _BORDER_PX
    own = inverses.take(pixels)
    tolerance = stddev_m[rows, columns] * own
    tolerance *= np.float32(gate_stddevs)
    np.fmax(tolerance, np.float32(min_jump), out=tolerance)
    tolerance *= own

    flies = np.zeros(len(pixels), np.bool_)
    for dy, dx in _LINES:
        for spacing in _SPACINGS_PX:
            step = (dy * stride + dx) * spacing
            first = inverses.take(pixels - step)
            second = inverses.take(pixels + step)
            rise, fall = first - own, own - second
            smaller = np.minimum(np.abs(rise), np.abs(fall))
            stands_between = (rise * fall > 0) & (smaller > tolerance) & (first * second > 0)
            subset = np.flatnonzero(stands_between & ~flies)
            rise, fall = np.abs(rise[subset]), np.abs(fall[subset])
            beyond_first = np.abs(inverses.take(pixels[subset] - 2 * step) - first[subset])
            beyond_second = np.abs(inverses.take(pixels[subset] + 2 * step) - second[subset])
            ratio = np.float32(max_slope_ratio)
            flies[subset] = (beyond_first < ratio * rise) & (beyond_second < ratio * fall)

    flying = np.zeros(depth_m.shape, np.bool_)
    flying[rows[flies], columns[flies]] = True
    return flying
