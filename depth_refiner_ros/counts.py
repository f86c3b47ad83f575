"""Counts of a depth image as cameras and files have them, and metres."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .data import DepthEncoding, Float32Array

MILLIMETRE_M = 0.001

_FARTHEST_MM_M = np.float32(65.535)


def metres_from_counts(
    counts: npt.NDArray[Any], unit_m: float = MILLIMETRE_M, *, no_return: tuple[int, ...] = (0,)
) -> Float32Array:
    """Return the float32 nearest to counts times their unit, NaN where there is no return.

    Args:
        counts: Unsigned integers of any shape.
        unit_m: Metres of one count.
        no_return: The counts that stand for it.
    """
    per_metre = round(1 / unit_m)
    if counts.dtype.itemsize <= 2 and abs(per_metre * unit_m - 1) < 1e-6:
        # 0.001 has no exact float, 1000 has; and the quotient of two floats is rounded once.
        depth_m = counts.astype(np.float32)  # always a copy, in native byte order
        depth_m /= np.float32(per_metre)
    else:
        depth_m = (counts * np.float64(unit_m)).astype(np.float32)
    for count in no_return:
        depth_m[counts == count] = np.nan
    return np.asarray(depth_m)


def raw_from_metres(depth_m: Float32Array, encoding: DepthEncoding) -> npt.NDArray[Any]:
    """Turn metres into 16UC1 millimetres (0 where NaN or beyond 65.535 m) or 32FC1 metres."""
    if encoding == '32FC1':
        return np.ascontiguousarray(depth_m)
    # Rounds and saturates in one pass, NaN to 0.
    scaled = cv2.multiply(depth_m, 1000.0, dtype=cv2.CV_16U)  # type: ignore[call-overload]
    mm = np.asarray(scaled, np.uint16)
    with np.errstate(invalid='ignore'):
        mm[depth_m > _FARTHEST_MM_M] = 0
    return mm


def metres_from_raw(raw: npt.NDArray[Any], unit_m: float) -> Float32Array:
    """Turn the pixels of a depth image, counts or floats, into metres with NaN for no return."""
    if raw.dtype.kind == 'u':
        return metres_from_counts(raw, unit_m or MILLIMETRE_M)
    if unit_m:
        depth_m = (raw * np.float64(unit_m)).astype(np.float32)
    else:
        depth_m = raw.astype(np.float32)  # always a copy, in native byte order
    with np.errstate(invalid='ignore'):
        depth_m[~((depth_m > 0) & (depth_m < np.inf))] = np.nan
    return np.asarray(depth_m)
