"""Spatial denoising that leaves planes and edges where they are."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..data import Float32Array
from ..kernels import FloatImage, FloatImageOut, FloatImagesOut, FloatRow, FloatRowOut, kernel
from .noise import FARTHEST_M, NEAREST_M

# A pair of neighbours that disagrees by more than this has another surface or an outlier in it.
GATE_STDDEVS = np.float32(3)
SHORTFALL = np.float32(2.4)
# Stands in for no return: too far to agree with any neighbour.
_NOWHERE_M, _NOWHERE_PER_M = np.float32(1e4), np.float32(1e-4)
_HOLE_SHARE = np.float32(0.2)
_NEAREST_M, _FARTHEST_M = np.float32(NEAREST_M), np.float32(FARTHEST_M)
_NAN, _ZERO, _HALF, _ONE = np.float32(np.nan), np.float32(0), np.float32(0.5), np.float32(1)


class Denoised(NamedTuple):
    """Depth after filtering and its standard deviation, both (H, W) float32 metres."""

    depth_m: Float32Array
    stddev_m: Float32Array


def smooth(
    depth_m: Float32Array,
    stddev_m: Float32Array,
    *,
    strength: float = 1.0,
    scales: int = 2,
    correlation_px: float = 0.0,
    floor_m: Float32Array | None = None,
    quantization_m: Float32Array | None = None,
) -> Denoised:
    """Average each pixel with pairs of opposite neighbours that agree with it.

    Inverse depth is affine in pixel coordinates on a plane, so the mean of two opposite
    neighbours is the pixel itself however the plane is slanted. A pair takes part by the weight
    max(0, 1 - (residual / gate)^2) of its residual in standard deviations: one across an edge, or
    with a hole in it, has none, and what comes out is never a mean of two surfaces. The pairs are
    1, 3, 9 ... px away, each scale working on the result of the one before (an edge-avoiding
    a-trous transform, Dammertz et al. 2010, with symmetric neighbours, Harwood et al. 1987).

    Args:
        depth_m: (H, W) float32 metres, NaN where there is no return.
        stddev_m: (H, W) float32 metres, standard deviation of each pixel.
        strength: 0 leaves the depth alone, 1 gives a pair the weight of the pixel.
        scales: Number of distances; 1, 2, 3 reach 1, 4, 13 px.
        correlation_px: Distance at which the noise is still correlated by 1/e. Enters only the
            standard deviation that comes out.
        floor_m: (H, W) float32 metres, standard deviation that no averaging removes.
        quantization_m: (H, W) float32 metres. Changes within half of it are left undone: there
            the pixel already agrees with its surroundings, and only what rounding cannot explain
            is removed. None removes the staircase too.

    Returns:
        Depth and standard deviation, NaN where the depth was.

    Raises:
        ValueError: If `strength` or `scales` is out of range.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f'strength is {strength}; it must be between 0 and 1')
    if scales < 1:
        raise ValueError(f'scales is {scales}; it must be 1 or more')
    offsets_px = _offsets_px(scales)
    border, reach = offsets_px[-1], sum(offsets_px)
    width = depth_m.shape[1]
    # The rows in work, which stay in the cache: after each of the two directions of each scale.
    rows = np.full((2 * scales + 1, reach + border + 1, width + 2 * border), _NOWHERE_PER_M)
    per_gates, weights = np.ones((2, reach + 1, width), np.float32)
    smoothed, stddev = np.empty((2, *depth_m.shape), np.float32)
    nothing = np.zeros_like(depth_m) if floor_m is None or quantization_m is None else depth_m
    _smooth(
        depth_m,
        stddev_m,
        nothing if floor_m is None else floor_m,
        nothing if quantization_m is None else quantization_m,
        scales,
        0.5 * strength,
        _stddev_ratio(scales, strength, correlation_px),
        rows,
        per_gates,
        weights,
        smoothed,
        stddev,
    )
    return Denoised(smoothed, stddev)


@kernel
def _smooth(
    depth_m: FloatImage,
    stddev_m: FloatImage,
    floor_m: FloatImage,
    quantization_m: FloatImage,
    scales: int,
    share: np.float32,
    stddev_ratio: np.float32,
    rows: FloatImagesOut,
    per_gates: FloatImageOut,
    weights: FloatImageOut,
    smoothed_m: FloatImageOut,
    smoothed_stddev_m: FloatImageOut,
) -> None:
    height, width = depth_m.shape
    border = (rows.shape[2] - width) // 2
    ring, reach = rows.shape[1], weights.shape[0] - 1
    # Every pass follows the one before it as soon as the rows that it needs are there.
    for newest in range(-reach, height + reach):
        y = newest
        inverse = rows[0, y % ring, border : border + width]
        if 0 <= y < height:
            _read(depth_m[y], stddev_m[y], inverse, per_gates[y % (reach + 1)])
        else:
            inverse[:] = _NOWHERE_PER_M
        weights[y % (reach + 1)] = _ZERO
        offset = 1
        for scale in range(scales):
            before, after = rows[2 * scale], rows[2 * scale + 1]
            here = before[y % ring]
            _average(
                here[border - offset :],
                here[border:],
                here[border + offset :],
                per_gates[y % (reach + 1)],
                share,
                weights[y % (reach + 1)],
                after[y % ring, border : border + width],
            )
            y -= offset
            _average(
                after[(y - offset) % ring, border:],
                after[y % ring, border:],
                after[(y + offset) % ring, border:],
                per_gates[y % (reach + 1)],
                share,
                weights[y % (reach + 1)],
                rows[2 * scale + 2, y % ring, border : border + width],
            )
            offset *= 3
        if y >= 0:
            _write(
                depth_m[y],
                stddev_m[y],
                floor_m[y],
                quantization_m[y],
                rows[2 * scales, y % ring, border:],
                weights[y % (reach + 1)],
                _HALF / np.float32(scales),
                stddev_ratio,
                smoothed_m[y],
                smoothed_stddev_m[y],
            )


def _read(
    depth_m: FloatRow, stddev_m: FloatRow, inverse: FloatRowOut, per_gate: FloatRowOut
) -> None:
    for x in range(len(depth_m)):
        valid = (depth_m[x] >= _NEAREST_M) & (depth_m[x] <= _FARTHEST_M)
        z_m = depth_m[x] if valid else _NOWHERE_M
        inverse[x] = _ONE / z_m
        # However uncertain a pixel is, it must not agree with a hole.
        gate_m = GATE_STDDEVS * stddev_m[x] if valid else _ONE
        per_gate[x] = z_m * z_m / min(gate_m, _HOLE_SHARE * z_m)


def _average(
    before: FloatRow,
    here: FloatRow,
    after: FloatRow,
    per_gate: FloatRow,
    share: np.float32,
    weight: FloatRowOut,
    out: FloatRowOut,
) -> None:
    for x in range(len(out)):
        residual = _HALF * (before[x] + after[x]) - here[x]
        ratio = residual * per_gate[x]
        agreement = max(_ONE - ratio * ratio, _ZERO)
        weight[x] += agreement
        out[x] = here[x] + share * agreement * residual


def _write(
    depth_m: FloatRow,
    stddev_m: FloatRow,
    floor_m: FloatRow,
    quantization_m: FloatRow,
    inverse: FloatRow,
    weight: FloatRow,
    per_pair: np.float32,
    stddev_ratio: np.float32,
    smoothed_m: FloatRowOut,
    smoothed_stddev_m: FloatRowOut,
) -> None:
    for x in range(len(depth_m)):
        z_m = depth_m[x]
        valid = (z_m >= _NEAREST_M) & (z_m <= _FARTHEST_M)
        raw = _ONE / z_m
        half_step = _HALF * quantization_m[x] * raw * raw
        undone = min(max(inverse[x] - raw, -half_step), half_step)
        smoothed_m[x] = _ONE / (inverse[x] - undone) if valid else _NAN
        # Pixels whose pairs lack weight are those with the larger errors: on a plane of white
        # noise the scatter is that of a mean lacking SHORTFALL times the weight.
        left = max(_ONE + SHORTFALL * (weight[x] * per_pair - _ONE), _ZERO)
        left = stddev_m[x] * (_ONE + left * (stddev_ratio - _ONE))
        smoothed_stddev_m[x] = max(left, min(floor_m[x], stddev_m[x])) if valid else _NAN


def _offsets_px(scales: int) -> list[int]:
    return [3**scale for scale in range(scales)]


@lru_cache(maxsize=32)
def _stddev_ratio(scales: int, strength: float, correlation_px: float) -> float:
    """Standard deviation left when every pair takes part at full weight."""
    kernel = np.ones(1)
    for offset in _offsets_px(scales):
        pair = np.zeros(2 * offset + 1)
        pair[[0, -1]] = strength / 4
        pair[offset] = 1 - strength / 2
        kernel = np.convolve(kernel, pair)
    along = np.correlate(kernel, kernel, 'full')
    lag = np.arange(len(along)) - len(along) // 2
    distance = np.hypot(lag[:, None], lag)
    correlation = np.exp(-distance / correlation_px) if correlation_px > 0 else distance == 0
    return float(np.sqrt((np.outer(along, along) * correlation).sum()))
