"""Brings depth that was estimated from colour to the scale of depth that was measured."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from ..data import Float32Array, Float64Array

Ambiguity = Literal['none', 'affine_inverse', 'affine']
"""What an estimate leaves open: nothing (metres that may be off), or scale and shift of inverse
depth, or scale and shift of depth."""

_POINTS = 4000
"""Measurements that are used, spread over the image: more change nothing but the time."""
_FEWEST = 20
_ITERATIONS = 10
_ITERATIONS_OF_RELATIVE = 40
"""Estimates without metres start far from what fits."""
_SOFTNESS = 0.02
"""Errors below this share of the depth count as squares: they are noise."""
_OUTLIER = 6.0
"""Measurements that are off by this many median errors are of what the estimate missed."""
_SCALES = (0.2, 5.0)
"""Scales of metric estimates that are accepted."""
_LEAST_SPREAD = 0.02
"""Depths that differ by less than this share do not determine a shift."""
_FARTHEST_M = 50.0


class Alignment(NamedTuple):
    """What an estimate is to be changed by.

    Attributes:
        scale: Scale of inverse depth, or of depth.
        shift: Added to it, 1/m or m.
        error: Mean error of the aligned estimate at measurements, a share of depth.
        inverse: Whether 1 / z becomes scale / z + shift; else z becomes scale z + shift.
    """

    scale: float
    shift: float
    error: float
    inverse: bool = True

    def __call__(self, depth_m: Float32Array) -> Float32Array:
        """Return an estimate aligned; where that would lie behind the camera or far off, NaN."""
        scale, shift = np.float32(self.scale), np.float32(self.shift)
        with np.errstate(divide='ignore', invalid='ignore'):
            if self.inverse:
                aligned_m = np.asarray(1 / (scale / depth_m + shift), np.float32)
            else:
                aligned_m = np.asarray(scale * depth_m + shift, np.float32)
            aligned_m[~((aligned_m > 0) & (aligned_m < _FARTHEST_M))] = np.nan
        return aligned_m


def fit_alignment(
    estimate_m: Float32Array, measured_m: Float32Array, ambiguity: Ambiguity = 'none'
) -> Alignment | None:
    """Find the scale and shift that bring an estimate to measurements.

    The sum of absolute errors relative to depth is made small (by reweighted least squares), so
    that measurements of what the estimate missed, up to half of them, do not pull at the rest.
    Scale and shift of inverse depth is what pictures leave open (Ranftl et al., MiDaS, 2020); it
    is fitted to metric estimates, too, whose scale has to be believable.

    Args:
        estimate_m: (H, W), NaN where nothing is estimated.
        measured_m: (H, W), NaN where nothing was measured.
        ambiguity: What the estimate leaves open.

    Returns:
        None if fewer than 20 pixels have both, or nothing believable fits.
    """
    both = np.flatnonzero(
        np.isfinite(estimate_m) & np.isfinite(measured_m) & (measured_m > 0) & (estimate_m > 0)
    )
    if len(both) < _FEWEST:
        return None
    taken = both[:: max(1, len(both) // _POINTS)]
    z_m = measured_m.ravel()[taken].astype(np.float64)
    estimated = estimate_m.ravel()[taken].astype(np.float64)
    if ambiguity == 'none':
        return _metric(z_m, estimated)
    low, high = np.quantile(z_m, (0.05, 0.95))
    if high <= low * (1 + _LEAST_SPREAD):
        return None  # a wall alone: its distance does not tell the scale of what is before it
    inverse = ambiguity == 'affine_inverse'
    unit = float(np.median(estimated))  # theirs may be anything
    estimated = estimated / unit
    # A share of the depth: z (scale / estimate + shift), or its inverse, should be one.
    rows = np.stack([z_m / estimated, z_m] if inverse else [estimated / z_m, 1 / z_m], 1)
    solution = np.asarray(np.linalg.lstsq(rows, np.ones_like(z_m), rcond=None)[0], np.float64)
    solution = _least_absolute(rows, solution, _ITERATIONS_OF_RELATIVE)
    off = np.abs(1 - rows @ solution)
    kept = off <= max(_OUTLIER * float(np.median(off)), 1e-6)
    solution = np.asarray(
        np.linalg.lstsq(rows[kept], np.ones(int(kept.sum())), rcond=None)[0], np.float64
    )
    if not solution[0] > 0:
        return None
    found = rows @ solution
    error = np.abs((1 / np.maximum(found, 0.05) if inverse else found) - 1)
    scale = float(solution[0]) * unit if inverse else float(solution[0]) / unit
    return Alignment(scale, float(solution[1]), float(error.mean()), inverse)


def _metric(
    z_m: Float64Array, estimated_m: Float64Array, *, shift: bool = True
) -> Alignment | None:
    rows: Float64Array = np.stack([z_m / estimated_m, z_m][: 1 + shift], 1)
    solution = np.array([np.median(1 / rows[:, 0]), 0.0][: 1 + shift])
    solution = _least_absolute(rows, solution, _ITERATIONS)
    scale, shift_per_m = float(solution[0]), float(solution[1]) if shift else 0.0
    if not _SCALES[0] <= scale <= _SCALES[1]:
        return _metric(z_m, estimated_m, shift=False) if shift else None
    error = np.abs(1 / np.maximum(rows @ solution, 0.05) - 1)
    return Alignment(scale, shift_per_m, float(error.mean()))


def _least_absolute(rows: Float64Array, solution: Float64Array, iterations: int) -> Float64Array:
    """Return what makes the sum of |1 - rows @ solution| small, from a first solution on."""
    for _ in range(iterations):
        weight = 1 / np.maximum(np.abs(1 - rows @ solution), _SOFTNESS)
        weighted = rows * weight[:, None]
        # Of all that fit, the smallest: a flat estimate says nothing of the shift.
        solution = np.linalg.lstsq(rows.T @ weighted, weighted.sum(0), rcond=1e-6)[0]
    return solution
