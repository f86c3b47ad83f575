"""Finds what a lens shall be focused on."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..data import Float32Array

# A slice of space as deep as a head.
_SLICE_M = 0.15
# Objects are looked for in an image of about this width.
_COARSE_WIDTH = 160
# Half the side of the window around a point to focus on, as a share of the image's width.
_POINT_SHARE = 0.012


def depth_around_m(depth_m: Float32Array, x_px: float, y_px: float) -> float:
    """Return the median depth around a point, in the smallest window that has any.

    Args:
        depth_m: (H, W) float32 metres, NaN where unknown.
        x_px: Column of the point.
        y_px: Row of the point.

    Returns:
        Metres; NaN if there is no depth at all.

    Raises:
        ValueError: If the point is outside the image.
    """
    height, width = depth_m.shape
    column, row = round(x_px), round(y_px)
    if not (0 <= column < width and 0 <= row < height):
        raise ValueError(
            f'the point to focus on, ({x_px:g}, {y_px:g}), is outside the image, {width}x{height}'
        )
    reach = max(1, round(_POINT_SHARE * width))
    while True:
        top, left = max(row - reach, 0), max(column - reach, 0)
        window = depth_m[top : row + reach + 1, left : column + reach + 1]
        seen = window[np.isfinite(window)]
        if seen.size:
            return float(np.median(seen))
        if window.size == depth_m.size:
            return math.nan
        reach *= 2


def nearest_object_m(depth_m: Float32Array, focal_px: float, *, size_m: float = 0.12) -> float:
    """Return the depth of the nearest thing that faces the camera and is as large as a face.

    Space is searched from near to far in slices as deep as a head, for one in which a square of
    that size is filled. Specks, cables and receding floors fill none.

    Args:
        depth_m: (H, W) float32 metres, NaN where unknown.
        focal_px: Focal length in px.
        size_m: Side of the square.

    Returns:
        Median depth of the object, metres; NaN if there is none.
    """
    stride = max(1, round(depth_m.shape[1] / _COARSE_WIDTH))
    coarse_m = depth_m[::stride, ::stride]
    ordered_m = np.sort(coarse_m[np.isfinite(coarse_m)])
    first = 0
    while first < ordered_m.size:
        near_m = float(ordered_m[first])
        far_m = near_m + _SLICE_M
        side = max(1, round(size_m * focal_px / (stride * far_m)))
        if np.searchsorted(ordered_m, far_m) - first >= side**2:
            inside = np.asarray(cv2.inRange(coarse_m, near_m, far_m), np.uint8)
            solid = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
            square = np.ones((side, side), np.uint8)
            # Opposite anchors, so that what is grown back is where it was.
            fits = cv2.erode(solid, square, anchor=(0, 0), borderValue=0)
            if fits.any():
                filled = cv2.dilate(fits, square, anchor=(side - 1, side - 1), borderValue=0)
                return float(np.median(coarse_m[(filled > 0) & (inside > 0)]))
        # The next slice begins half a slice on, or where there is something again.
        first = max(first + 1, int(np.searchsorted(ordered_m, near_m + _SLICE_M / 2)))
    return math.nan


class FocusPull:
    """Moves the focus to where it is wanted without jumping, evenly in dioptres.

    The same depths at the same times give the same focus.
    """

    def __init__(self, *, max_gap_s: float = 0.5) -> None:
        """Start without a focus.

        Args:
            max_gap_s: A longer time between two frames, or one that runs backwards, starts anew.
        """
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._stamp_ns = 0
        self._dioptres = math.nan

    def __call__(self, wanted_m: float, stamp_ns: int, *, time_s: float) -> float:
        """Return the focus of a frame.

        Args:
            wanted_m: Depth to focus on, metres; NaN keeps the focus where it is.
            stamp_ns: Time of the frame.
            time_s: Time in which the focus covers 63 % of its way; 0 for at once.

        Returns:
            Metres; NaN as long as nothing was wanted.
        """
        gap_ns = stamp_ns - self._stamp_ns
        self._stamp_ns = stamp_ns
        wanted = 1 / wanted_m
        if not 0 <= gap_ns <= self._max_gap_ns or math.isnan(self._dioptres):
            self._dioptres = wanted
        elif not math.isnan(wanted):
            share = 1 - math.exp(-gap_ns / (time_s * 1e9)) if time_s > 0 else 1
            self._dioptres += share * (wanted - self._dioptres)
        return 1 / self._dioptres
