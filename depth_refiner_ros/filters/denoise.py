"""Spatial denoising that leaves planes and edges where they are."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from ..data import Float32Array, UInt8Array
from .noise import FARTHEST_M, NEAREST_M

# A pair of neighbours that disagrees by more than this has another surface or an outlier in it.
GATE_STDDEVS = 3.0
SHORTFALL = 2.4
# Stands in for no return: too far to agree with any neighbour.
_NOWHERE_M = 1e4
# Rows filtered at a time: their work arrays fit the cache of one core.
BAND_ROWS = 96


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
    smoothed = np.full(depth_m.shape, np.nan, np.float32)
    stddev = np.full(depth_m.shape, np.nan, np.float32)
    height, width = depth_m.shape
    reach = sum(_offsets_px(scales))

    # Allocated once for all bands: fresh pages cost more than the arithmetic on them.
    work = np.empty((7, min(height, BAND_ROWS + 2 * reach), width), np.float32)
    for start in range(0, height, BAND_ROWS):
        stop = min(start + BAND_ROWS, height)
        rows = slice(max(0, start - reach), min(height, stop + reach))
        valid, depth, left = _average_pairs(
            depth_m[rows],
            stddev_m[rows],
            None if quantization_m is None else quantization_m[rows],
            strength,
            _offsets_px(scales),
            work,
        )
        # Pixels whose pairs lack weight are those with the larger errors: on a plane of white
        # noise the scatter is that of a mean lacking SHORTFALL times the weight.
        left -= np.float32(1)
        left *= np.float32(SHORTFALL)
        left += np.float32(1)
        cv2.threshold(left, 0, 0, cv2.THRESH_TOZERO, dst=left)
        left *= np.float32(_stddev_ratio(scales, strength, correlation_px) - 1)
        left += np.float32(1)
        left *= stddev_m[rows]
        if floor_m is not None:
            np.maximum(left, np.minimum(floor_m[rows], stddev_m[rows]), out=left)
        inner = slice(start - rows.start, stop - rows.start)
        cv2.copyTo(depth[inner], valid[inner], smoothed[start:stop])
        cv2.copyTo(left[inner], valid[inner], stddev[start:stop])
    return Denoised(smoothed, stddev)


def _average_pairs(
    depth_m: Float32Array,
    stddev_m: Float32Array,
    quantization_m: Float32Array | None,
    strength: float,
    offsets_px: list[int],
    work: Float32Array,
) -> tuple[UInt8Array, Float32Array, Float32Array]:
    """Return where there is a depth, the filtered depth, and the mean weight of the pairs.

    The last two lie in `work`, which the next call overwrites.
    """
    height, width = depth_m.shape
    sigma, per_gate, raw, residual, weight, weights, half_step = work[:, :height]
    border = max(offsets_px)
    valid: UInt8Array = np.asarray(cv2.inRange(depth_m, NEAREST_M, FARTHEST_M), np.uint8)
    padded = np.full((height + 2 * border, width + 2 * border), _NOWHERE_M, np.float32)
    inverse = padded[border:-border, border:-border]
    cv2.copyTo(depth_m, valid, inverse)
    sigma.fill(1)
    cv2.copyTo(stddev_m, valid, sigma)
    # However uncertain a pixel is, it must not agree with a hole.
    np.multiply(inverse, np.float32(0.2 / GATE_STDDEVS), out=weight)
    np.minimum(sigma, weight, out=sigma)
    np.multiply(inverse, inverse, out=per_gate)
    per_gate /= sigma
    per_gate *= np.float32(1 / GATE_STDDEVS)
    np.divide(np.float32(1), padded, out=padded)
    np.copyto(raw, inverse)

    weights.fill(0)
    half = 0.5 * strength
    for offset in offsets_px:
        for dy, dx in ((0, offset), (offset, 0)):
            first = padded[border - dy :, border - dx :][:height, :width]
            second = padded[border + dy :, border + dx :][:height, :width]
            cv2.addWeighted(first, 0.5, second, 0.5, 0, dst=residual)
            cv2.subtract(residual, inverse, dst=residual)
            np.multiply(residual, per_gate, out=weight)
            np.multiply(weight, weight, out=weight)
            np.subtract(np.float32(1), weight, out=weight)
            cv2.threshold(weight, 0, 0, cv2.THRESH_TOZERO, dst=weight)
            cv2.add(weights, weight, dst=weights)
            residual *= weight
            cv2.scaleAdd(residual, half, inverse, dst=inverse)
    weights *= np.float32(1 / (2 * len(offsets_px)))

    if quantization_m is not None:
        np.multiply(quantization_m, raw, out=half_step)
        half_step *= raw
        half_step *= np.float32(0.5)
        change = cv2.subtract(inverse, raw, dst=residual)
        undone = cv2.min(change, half_step, dst=weight)
        np.negative(half_step, out=half_step)
        cv2.max(undone, half_step, dst=undone)
        cv2.subtract(inverse, undone, dst=inverse)
    return valid, np.divide(np.float32(1), inverse, out=residual), weights


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
