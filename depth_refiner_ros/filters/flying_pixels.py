"""Pixels that float in the air between a foreground and a background."""

from __future__ import annotations

import numpy as np

from ..data import BoolArray, Float32Array
from ..kernels import FloatImage, FloatImageOut, FloatRow, FloatRowOut, MaskOut, MaskRowOut, kernel
from .noise import FARTHEST_M, NEAREST_M

# (dy, dx) of the four lines through a pixel.
_LINES = ((0, 1), (1, 0), (1, 1), (1, -1))
# A mixed edge is one or two pixels wide: the first spacing sees it beside thin objects too. A
# third spacing finds more, of which more than half lies on a surface.
_SPACINGS_PX = (1, 2)
_BORDER_PX = 2 * max(_SPACINGS_PX)
_NEAREST_M, _FARTHEST_M = np.float32(NEAREST_M), np.float32(FARTHEST_M)
_ZERO, _ONE = np.float32(0), np.float32(1)


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
    flying = np.zeros(depth_m.shape, np.bool_)
    bordered = np.zeros((height + 2 * _BORDER_PX, width + 2 * _BORDER_PX), np.float32)
    tolerance = np.empty(width, np.float32)
    _find(depth_m, stddev_m, gate_stddevs, min_jump, max_slope_ratio, bordered, tolerance, flying)
    return flying


@kernel
def _find(
    depth_m: FloatImage,
    stddev_m: FloatImage,
    gate_stddevs: np.float32,
    min_jump: np.float32,
    max_slope_ratio: np.float32,
    inverse: FloatImageOut,
    tolerance: FloatRowOut,
    flying: MaskOut,
) -> None:
    height, border = depth_m.shape[0], _BORDER_PX
    # Inverse depth is affine on a plane; zero, infinitely far, stands for no return.
    for y in range(height):
        z_m, own = depth_m[y], inverse[y + border, border:]
        for x in range(len(z_m)):
            valid = (z_m[x] >= _NEAREST_M) & (z_m[x] <= _FARTHEST_M)
            own[x] = _ONE / z_m[x] if valid else _ZERO
    for y in range(height):
        scatter_m, own = stddev_m[y], inverse[y + border, border:]
        for x in range(len(scatter_m)):
            jump = gate_stddevs * scatter_m[x] * own[x]
            tolerance[x] = (jump if jump > min_jump else min_jump) * own[x]
        for spacing in _SPACINGS_PX:
            for down, right in _LINES:
                dy, dx = down * spacing, right * spacing
                _between(
                    inverse[y + border - 2 * dy, border - 2 * dx :],
                    inverse[y + border - dy, border - dx :],
                    own,
                    inverse[y + border + dy, border + dx :],
                    inverse[y + border + 2 * dy, border + 2 * dx :],
                    tolerance,
                    max_slope_ratio,
                    flying[y],
                )


def _between(
    beyond_first: FloatRow,
    first: FloatRow,
    own: FloatRow,
    second: FloatRow,
    beyond_second: FloatRow,
    tolerance: FloatRow,
    max_slope_ratio: np.float32,
    flying: MaskRowOut,
) -> None:
    for x in range(len(flying)):
        rise, fall = first[x] - own[x], own[x] - second[x]
        known = first[x] * second[x] > _ZERO
        between = (rise * fall > _ZERO) & (min(abs(rise), abs(fall)) > tolerance[x])
        flat = abs(beyond_first[x] - first[x]) < max_slope_ratio * abs(rise)
        flat &= abs(beyond_second[x] - second[x]) < max_slope_ratio * abs(fall)
        flying[x] |= known & between & flat
