"""Brings depth known but for scale and shift to measurements."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..data import Float32Array, Float64Array

_POINTS = 4000
"""Measurements that are looked at, spread over the image: more change nothing but the time."""
_FEWEST = 20
_ITERATIONS = 10
_SOFTNESS = 0.02
"""Errors below this share of the depth count as squares: they are noise."""
_SCALES = (0.2, 5.0)
"""Scales that are believed."""
_FARTHEST_M = 50.0


class Alignment(NamedTuple):
    """What an estimate is to be changed by: 1 / z becomes scale / z + shift.

    Attributes:
        scale: Of inverse depth.
        shift_per_m: Added to inverse depth, 1/m.
        error: Mean error of the aligned estimate at measurements, a share of depth.
    """

    scale: float
    shift_per_m: float
    error: float

    def __call__(self, depth_m: Float32Array) -> Float32Array:
        """Return an estimate aligned; where that would lie behind the camera or far off, NaN."""
        with np.errstate(divide='ignore', invalid='ignore'):
            inverse = np.float32(self.scale) / depth_m + np.float32(self.shift_per_m)
            aligned_m: Float32Array = (1 / inverse).astype(np.float32)
        aligned_m[~(inverse > 1 / _FARTHEST_M)] = np.nan
        return aligned_m


def fit_alignment(
    estimate_m: Float32Array, measured_m: Float32Array, *, shift: bool = True
) -> Alignment | None:
    """Find scale and shift of inverse depth that bring an estimate to measurements.

    The sum of absolute errors relative to depth is made small (by reweighted least squares), so
    that measurements of what the estimate missed, up to half of them, do not pull at the rest.
    Scale and shift of inverse depth is what pictures leave open (Ranftl et al., MiDaS, 2020).

    Args:
        estimate_m: (H, W), NaN where nothing is said.
        measured_m: (H, W), NaN where nothing was measured.
        shift: Else only the scale is found.

    Returns:
        None if fewer than 20 pixels have both, or no believable scale fits.
    """
    both = np.flatnonzero(
        np.isfinite(estimate_m) & np.isfinite(measured_m) & (measured_m > 0) & (estimate_m > 0)
    )
    if len(both) < _FEWEST:
        return None
    taken = both[:: max(1, len(both) // _POINTS)]
    z_m = measured_m.ravel()[taken].astype(np.float64)
    # A share of the depth: scale * z / estimate + shift * z should be one.
    columns = [z_m / estimate_m.ravel()[taken], z_m][: 1 + shift]
    rows: Float64Array = np.stack(columns, 1)
    weight = np.ones_like(z_m)
    solution = np.array([np.median(1 / columns[0]), 0.0][: 1 + shift])
    for _ in range(_ITERATIONS):
        weight = 1 / np.maximum(np.abs(1 - rows @ solution), _SOFTNESS)
        weighted = rows * weight[:, None]
        # Of all that fit, the smallest: a flat estimate says nothing of the shift.
        solution = np.linalg.lstsq(rows.T @ weighted, weighted.sum(0), rcond=1e-6)[0]
    scale, shift_per_m = float(solution[0]), float(solution[1]) if shift else 0.0
    if not _SCALES[0] <= scale <= _SCALES[1]:
        return fit_alignment(estimate_m, measured_m, shift=False) if shift else None
    found = rows @ solution
    error = np.abs(1 / np.maximum(found, 0.05) - 1)
    return Alignment(scale, shift_per_m, float(error.mean()))
