"""Aligns an estimate from colour to the measurements around holes, and tests what it is worth.

An estimate knows shapes that local cues do not: which surface goes on inside a hole. It is off by
more than a scale and a shift, though, and by different ones on different surfaces. So scale and
shift are found anew in every place, from the measurements near it that lie on the same surface of
the estimate: sums over measurements spread along rows and columns and fade where the estimate
steps (a domain transform, Gastal and Oliveira 2011), so that nothing comes across an edge.

What it is worth is tested on the measurements: near a hole by how far it misses them, and all over
the image by their steps. Where measurements step from one surface to another, so does an estimate
that sees what they see; one that does not gets no vote, however well it fits elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ..data import BoolArray, Float32Array
from ..kernels import FloatImage, FloatImagesOut, kernel
from .alignment import fit_alignment

_CELLS = 160
"""Columns that an image is reduced to: more find the same scales and shifts."""
_REACH, _NEAR = 20.0, 5.0
"""Cells over which scale and shift are found, and errors are."""
_STEP = 0.15
"""A step of this share of inverse depth keeps out as much as the whole reach."""
_ROUNDS = 3
_SOFTNESS = 0.01
"""Errors below this share count as squares: they are noise."""
_RIGID = 0.05
"""How much a surface must vary, a share squared, to tell a scale of its own."""
_SCALES = (0.3, 3.0)
_NO_SUPPORT = 1e-5
"""So little support that nothing is known."""
_LARGEST_ERROR = 0.5
_EDGE = 1.1
"""Measurements in a window that differ by this factor are of two surfaces."""
_WINDOW, _SLACK = 5, 2
"""Cells in which a step is looked for, and by how many the estimate's may lie elsewhere."""
_FEWEST_EDGES = 20
_NOWHERE = np.float32(1e9)
_MISSED, _MISSED_OF_NONE = 0.5, 0.5
"""Share of the steps that may be missed; what is thought of where there are no steps."""
_WEIGHT_PER_PX = 0.5
"""Of an estimate without error: that of a measurement two pixels away."""
_LEAST_PER_PX = 0.005
"""Less than that of a measurement 200 px away is no vote."""
_ERROR = 0.01
"""An error of this share halves the weight."""
GUIDED_PER_PX = 0.25
"""From this weight on a guide counts as believed."""


class Guide(NamedTuple):
    """An estimate that votes on holes.

    Attributes:
        inverse_depth: (H, W) float32, 1/m; any number where it has no vote.
        weight: (H, W) float32, 1/px, beside that of a measurement, which is one over its distance;
            0 for no vote.
        error: (H, W) float32, how far it misses the measurements around, a share of the depth.
        missed: How far it misses measured steps between surfaces, and they its own: 0 where they
            are the same, 1 where it says no more than their mean.
    """

    inverse_depth: Float32Array
    weight: Float32Array
    error: Float32Array
    missed: float


def fit_guide(estimate_m: Float32Array, measured_m: Float32Array) -> Guide | None:
    """Align an estimate to the measurements around every place.

    Args:
        estimate_m: (H, W) float32, metres that may be off by scale and shift of inverse depth; NaN
            where nothing is estimated.
        measured_m: (H, W) float32 metres, NaN where nothing was measured.

    Returns:
        None where nothing believable fits.
    """
    alignment = fit_alignment(estimate_m, measured_m)
    if alignment is None:
        return None
    whole = _inverse(alignment(estimate_m))
    step = max(1, round(measured_m.shape[1] / _CELLS))
    guess = whole[::step, ::step].copy()
    truth = _inverse(measured_m[::step, ::step])
    both: BoolArray = (truth > 0) & (guess > 0)
    if not both.any():
        return None
    # A chessboard: half of the cells fit, the other half say how well.
    tested = both & (np.indices(both.shape).sum(0) % 2 > 0)
    scale, shift = _local_fit(guess, truth, both & ~tested)
    fitted = scale * guess + shift
    seen = tested.astype(np.float32)
    off, off_alone = _misses(fitted, truth) * seen, _misses(guess, truth)[tested]
    # Of a surface that nobody measured only the alignment of the whole image is known.
    alone = float((off_alone**2).mean()) if len(off_alone) else _LARGEST_ERROR**2
    sums = _spread(np.stack([seen, off * off]).astype(np.float32), guess, _NEAR)
    error = np.sqrt((sums[1] + _NO_SUPPORT * alone) / (sums[0] + _NO_SUPPORT))
    # Both ways: one that steps everywhere would foretell all.
    missed = max(
        _missed_steps(fitted, truth, both, tested), _missed_steps(truth, fitted, both, tested)
    )
    error = error * (1 + (missed / _MISSED) ** 4)
    weight = _WEIGHT_PER_PX / (1 + (error / _ERROR) ** 3)
    inverse_depth = _grown(scale, whole.shape) * whole + _grown(shift, whole.shape)
    votes = (whole > 0) & (inverse_depth > 0.02) & (_grown(weight, whole.shape) > _LEAST_PER_PX)
    return Guide(
        inverse_depth.astype(np.float32),
        np.where(votes, _grown(weight, whole.shape), 0).astype(np.float32),
        _grown(error, whole.shape).astype(np.float32),
        missed,
    )


def _misses(estimated: Float32Array, truth: Float32Array) -> Float32Array:
    off = np.abs(truth - estimated) / np.maximum(truth, np.float32(1e-3))
    return np.asarray(np.minimum(off, np.float32(_LARGEST_ERROR)), np.float32)


def _inverse(depth_m: Float32Array) -> Float32Array:
    known = np.isfinite(depth_m) & (depth_m > 0)
    return np.divide(1, depth_m, out=np.zeros(depth_m.shape, np.float32), where=known)


def _grown(image: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    step = -(-shape[0] // image.shape[0])
    return np.repeat(np.repeat(image, step, 0), step, 1)[: shape[0], : shape[1]]


def _local_fit(
    guess: Float32Array, truth: Float32Array, both: BoolArray
) -> tuple[Float32Array, Float32Array]:
    """Return scale and shift of inverse depth in every cell, robustly."""
    scale, shift = np.ones_like(guess), np.zeros_like(guess)
    for number in range(_ROUNDS):
        weight = both.astype(np.float32)
        if number:
            off = np.abs(truth - (scale * guess + shift)) / np.maximum(truth, np.float32(1e-3))
            weight = weight * np.float32(_SOFTNESS) / np.maximum(off, np.float32(_SOFTNESS))
        moments = [weight, weight * guess, weight * truth]
        moments += [moments[1] * guess, moments[1] * truth]
        total, x, y, xx, xy = _spread(np.stack(moments).astype(np.float32), guess, _REACH)
        total = np.maximum(total, np.float32(1e-9))
        x, y = x / total, y / total
        # A surface as good as flat tells no scale: then it is that of the whole image, one.
        rigid = np.float32(_RIGID) * x * x + np.float32(1e-8)
        varies = np.maximum(xx / total - x * x, 0)
        scale = np.clip((xy / total - x * y + rigid) / (varies + rigid), *_SCALES)
        known = total / (total + np.float32(_NO_SUPPORT))
        shift = known * (y - scale * x) + (1 - known) * (1 - scale) * x
    return scale.astype(np.float32), shift.astype(np.float32)


def _missed_steps(
    estimated: Float32Array, stepping: Float32Array, both: BoolArray, tested: BoolArray
) -> float:
    """Return how far an image is, at its steps, from what another says around there.

    As a share of how far it is from its own mean, which is what one without steps would say.
    """
    window = np.ones((_WINDOW, _WINDOW), np.uint8)
    known = np.where(both, stepping, np.float32(0))
    highest = np.asarray(cv2.dilate(known, window), np.float32)
    lowest = np.asarray(cv2.erode(np.where(both, stepping, _NOWHERE), window), np.float32)
    at = tested & (highest > _EDGE * lowest) & (stepping > 0)
    if at.sum() < _FEWEST_EDGES:
        return _MISSED_OF_NONE
    slack = np.ones((2 * _SLACK + 1, 2 * _SLACK + 1), np.uint8)
    high = np.asarray(cv2.dilate(np.where(both, estimated, -_NOWHERE), slack), np.float32)
    low = np.asarray(cv2.erode(np.where(both, estimated, _NOWHERE), slack), np.float32)
    outside = np.maximum(np.maximum(stepping - high, low - stepping), 0)[at] / stepping[at]
    count = cv2.boxFilter(both.astype(np.float32), -1, window.shape)
    mean = cv2.boxFilter(known, -1, window.shape) / np.maximum(count, np.float32(1e-6))
    apart = np.abs(stepping - mean)[at] / stepping[at]
    clipped = [float(np.minimum(share, _LARGEST_ERROR).mean()) for share in (outside, apart)]
    return clipped[0] / max(clipped[1], 1e-6)


def _spread(sums: Float32Array, guess: Float32Array, reach: float) -> Float32Array:
    """Return images, (N, H, W), spread over so many cells and over no step of the estimate."""
    fading = np.exp(-np.sqrt(2) / reach)

    def kept(one: Float32Array, other: Float32Array) -> Float32Array:
        steps = np.abs(one - other) / np.maximum(np.minimum(one, other), np.float32(1e-3))
        return np.asarray(fading ** (1 + reach / _STEP * steps), np.float32)

    _spread_in_place(sums, kept(guess[:, 1:], guess[:, :-1]), kept(guess[1:], guess[:-1]))
    return sums


@kernel
def _spread_in_place(sums: FloatImagesOut, across: FloatImage, down: FloatImage) -> None:
    """Mix every cell with the one before, there and back, along rows and then columns; twice."""
    count, height, width = sums.shape
    for _ in range(2):
        for number in range(count):
            for row in range(height):
                for column in range(1, width):
                    kept = across[row, column - 1]
                    before = sums[number, row, column - 1]
                    sums[number, row, column] += kept * (before - sums[number, row, column])
                for back in range(1, width):
                    column = width - 1 - back
                    kept = across[row, column]
                    after = sums[number, row, column + 1]
                    sums[number, row, column] += kept * (after - sums[number, row, column])
            for row in range(1, height):
                for column in range(width):
                    kept = down[row - 1, column]
                    before = sums[number, row - 1, column]
                    sums[number, row, column] += kept * (before - sums[number, row, column])
            for back in range(1, height):
                row = height - 1 - back
                for column in range(width):
                    kept = down[row, column]
                    after = sums[number, row + 1, column]
                    sums[number, row, column] += kept * (after - sums[number, row, column])
