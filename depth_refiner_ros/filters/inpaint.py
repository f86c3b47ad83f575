"""Fills the holes of a depth image by choosing, for every pixel, the surface that it lies on.

A hole is a question of choice, not of interpolation: its pixels lie on the surfaces around it, and
a value between two surfaces lies on neither. Every hole pixel therefore collects candidates: the
nearest measurement and the first ones to the left, to the right, above and below, each continued
as a plane (in inverse depth a plane is affine in pixel coordinates). Near candidates, and with a
registered colour image those of the pixel's own colour, weigh more. The weighted median wins: one
of the candidates, never a blend of two.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from ..data import BoolArray, Float32Array, UInt8Array
from ..kernels import (
    ByteImage,
    ByteImages,
    FloatImage,
    FloatImageOut,
    FloatImages,
    FloatImagesOut,
    FloatRow,
    FloatRowOut,
    IndexRow,
    IntImage,
    IntImageOut,
    Mask,
    MaskOut,
    MaskRowOut,
    PlaceImage,
    PlaceImageOut,
    PlaceRow,
    kernel,
)

# A slope is a mean over a window of seven: wide enough to average the disparity steps of
# structured light, narrow enough to stay on one surface. Less support is no slope at all.
_REACH = 3
_SLOPE_SUPPORT = np.float32(4.9)
# Neighbours whose inverse depths differ by more than this share lie on two surfaces; slopes look
# at every second one.
_SURFACE_STEP = np.float32(2 * 0.02)
# A plane is not continued beyond this multiple of the depth of its source, nor nearer than its
# inverse.
_MAX_CONTINUATION = np.float32(1.5)
# The sum of the absolute differences of R, G and B that halves a candidate's weight.
_PER_COLOR_SCALE = np.float32(1 / 60.0)
# A second viewpoint, projector or imager, to the right of the first leaves a shadow to the left of
# a foreground, as wide as baseline times focal length times the step in inverse depth: 44 px m for
# a Kinect v1 or an Xtion, 30 for a RealSense D435. There the background weighs more. It does not
# take all, since the match also fails on the foreground's rim.
_SHADOW_PX_M = np.float32(45)
_SHADOW_STEP = np.float32(0.05)
_SHADOW_WEIGHT = np.float32(4)
# Standard deviation of a filled depth, as a share of it: at its support, for every pixel away from
# it, and for the candidates' mean distance from the chosen one. On the recording where that is
# hardest two thirds of the errors lie within one.
_STDDEV_FLOOR = np.float32(0.005)
_STDDEV_PER_PX = np.float32(0.0004)
_STDDEV_PER_SPREAD = np.float32(2)
# Images have a border of this many pixels that are no measurements and no holes.
_BORDER = 2
# Lengths of steps to neighbours, fractions of 65536 px: a path of such steps is as long as the
# straight line to some 2 % (Borgefors 1986; OpenCV's DIST_L2 with a mask of 5).
_STRAIGHT, _DIAGONAL, _KNIGHT = 65536, 91750, 143976
_PX = np.float32(1 / 65536)
_FAR = 1 << 30
# The measurements that offer a surface to a hole pixel.
_NEAREST, _LEFT, _RIGHT, _UP, _DOWN = range(5)
_SOURCES = 5
# A place is a row and a column in one number.
_ROW, _COLUMN = 16, 0xFFFF
# Pixels whose medians are found together: few enough for the cache, and all vectors full.
_BLOCK, _VECTORS = 256, 64
_NAN, _INF = np.float32(np.nan), np.float32(np.inf)
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


class Inpainting(NamedTuple):
    """A depth image with its holes filled.

    Attributes:
        depth_m: (H, W) float32, the input where it was measured, the chosen depth where it was
            filled, NaN elsewhere.
        stddev_m: (H, W) float32, standard deviation of the filled depth; where nothing was filled
            the input's standard deviation, NaN if there was none.
        filled: (H, W) bool, True where the depth is not a measurement.
    """

    depth_m: Float32Array
    stddev_m: Float32Array
    filled: BoolArray


def inpaint(
    depth_m: Float32Array,
    *,
    stddev_m: Float32Array | None = None,
    color: UInt8Array | None = None,
    max_hole_px: float,
    max_distance_m: float,
) -> Inpainting:
    """Fills holes with the surfaces around them, and says how far to trust the result.

    Measured pixels are returned as they came, to the bit. With both limits off every pixel of an
    image with at least one measurement is filled.

    Args:
        depth_m: (H, W) float32 metres along the optical axis. What is not finite and positive is
            a hole.
        stddev_m: (H, W) float32 metres, standard deviation of the measurements.
        color: (H, W, 3) uint8 RGB, registered to the depth image.
        max_hole_px: Widest hole that is filled. Parts of a hole into which a larger square fits
            stay empty, its narrow branches are filled, and no rim of invented depth grows around a
            large hole. 0 or infinity fills them all.
        max_distance_m: Pixels whose depth would be greater stay empty. 0 or infinity fills them
            all.

    Raises:
        ValueError: The shapes differ, or a limit is negative or NaN.
    """
    if depth_m.ndim != 2 or (stddev_m is not None and stddev_m.shape != depth_m.shape):
        raise ValueError('depth_m and stddev_m must be images of the same height and width.')
    if color is not None and color.shape != (*depth_m.shape, 3):
        raise ValueError(
            f'color must be registered to the depth image, {(*depth_m.shape, 3)}, '
            f'but its shape is {color.shape}.'
        )
    if not (max_hole_px >= 0 and max_distance_m >= 0):
        raise ValueError('max_hole_px and max_distance_m must be 0 or greater.')

    height, width = depth_m.shape
    bordered = height + 2 * _BORDER, width + 2 * _BORDER
    inner = np.s_[_BORDER : _BORDER + height, _BORDER : _BORDER + width]
    inverse, hole = np.zeros(bordered, np.float32), np.zeros(bordered, np.bool_)
    filled_m, filled_stddev_m = np.empty((2, height, width), np.float32)
    if stddev_m is None:
        stddev_m = np.full(depth_m.shape, np.nan, np.float32)
    _measure(depth_m, stddev_m, inverse, hole, filled_m, filled_stddev_m)
    filled = narrow(hole[inner], max_hole_px)
    count = int(np.count_nonzero(filled))
    if not count or hole[inner].all():
        return Inpainting(filled_m, filled_stddev_m, np.zeros_like(filled))

    # Where runs of hole pixels begin and end along the rows.
    flat = hole.ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    distance = np.full(bordered, _FAR, np.int32)
    distance[inner] = 0
    nearest, up, down = np.empty((3, *bordered), np.uint32)
    _look_up(turns, hole, distance, nearest, up)
    _look_down(turns, hole, distance, nearest, down)

    half = (height + 3) // 2, (width + 3) // 2
    sparse = np.zeros((half[0] + 1, half[1] + 1), np.float32)
    steps = np.zeros((4, half[1] + 2 * _REACH), np.float32)
    sums = np.zeros((4, half[0] + 2 * _REACH, half[1]), np.float32)
    slopes = np.empty((2, *half), np.float32)
    _find_slopes(inverse, sparse, steps, sums, slopes)

    if color is None:
        guide = np.empty((0, 0, 3), np.uint8)
    else:  # without the noise of its pixels
        guide = np.asarray(cv2.GaussianBlur(np.ascontiguousarray(color), (3, 3), 0), np.uint8)
    longest = width + _VECTORS
    sources = np.empty((_SOURCES, longest), np.uint32)
    offers, row = np.ones((2, _SOURCES, longest), np.float32), np.ones((4, longest), np.float32)
    chosen, doubt = np.empty((2, height, width), np.float32)
    _choose(
        turns,
        inverse,
        slopes,
        distance,
        nearest,
        up,
        down,
        guide,
        sources,
        offers,
        row,
        chosen,
        doubt,
    )
    window = np.zeros((26, _BLOCK + longest), np.float32)
    _settle(
        turns,
        nearest,
        chosen,
        doubt,
        stddev_m,
        max_distance_m or math.inf,
        inverse,
        window[25],
        window,
        filled_m,
        filled_stddev_m,
        filled,
    )
    return Inpainting(filled_m, filled_stddev_m, filled)


def narrow(hole: BoolArray, max_hole_px: float) -> BoolArray:
    """Marks the parts of holes that no square wider than max_hole_px fits into; 0: all of them."""
    if max_hole_px == 0 or max_hole_px >= max(hole.shape):
        return np.array(hole)
    side = math.floor(max_hole_px) + 1
    square = np.ones((side, side), np.uint8)
    # Opposite corners as anchors, so that the opening is centred for even sides too.
    fits = cv2.erode(hole.view(np.uint8), square, anchor=(0, 0), borderValue=0)
    wide = cv2.dilate(fits, square, anchor=(side - 1, side - 1), borderValue=0)
    narrow: BoolArray = hole & (wide == 0)
    return narrow


def without_strays(depth_m: Float32Array, filled: BoolArray) -> Float32Array:
    """Takes back filled pixels that stand alone: the median around them, which some pixel has.

    Args:
        depth_m: (H, W) metres, NaN where there is nothing.
        filled: (H, W), which pixels may change.
    """
    inverse = np.zeros(depth_m.shape, np.float32)
    np.divide(1, depth_m, out=inverse, where=np.isfinite(depth_m))
    median = np.asarray(cv2.medianBlur(inverse, 5), np.float32)
    changed = filled & (median > 0)
    result: Float32Array = np.divide(1, median, out=depth_m.copy(), where=changed)
    return result


@kernel
def _measure(
    depth_m: FloatImage,
    stddev_m: FloatImage,
    inverse: FloatImageOut,
    hole: MaskOut,
    measured_m: FloatImageOut,
    measured_stddev_m: FloatImageOut,
) -> None:
    height, width = depth_m.shape
    for y in range(height):
        for x in range(width):
            z_m = depth_m[y, x]
            measured = (z_m > _ZERO) & (z_m < _INF)
            inverse[y + _BORDER, x + _BORDER] = _ONE / z_m if measured else _ZERO
            hole[y + _BORDER, x + _BORDER] = not measured
            measured_m[y, x] = z_m if measured else _NAN
            measured_stddev_m[y, x] = stddev_m[y, x] if measured else _NAN


@kernel
def _look_up(
    turns: IndexRow, hole: Mask, distance: IntImageOut, nearest: PlaceImageOut, up: PlaceImageOut
) -> None:
    pitch = hole.shape[1]
    for run in range(len(turns) // 2):
        y = turns[2 * run] // pitch
        for x in range(turns[2 * run] + 1 - y * pitch, turns[2 * run + 1] + 1 - y * pitch):
            up[y, x] = up[y - 1, x] if hole[y - 1, x] else y - 1
            place = (y << _ROW) + x
            best, by = _FAR, place
            best, by = _shorter(distance[y - 2, x - 1] + _KNIGHT, _at(y - 2, x - 1), best, by)
            best, by = _shorter(distance[y - 2, x + 1] + _KNIGHT, _at(y - 2, x + 1), best, by)
            best, by = _shorter(distance[y - 1, x - 2] + _KNIGHT, _at(y - 1, x - 2), best, by)
            best, by = _shorter(distance[y - 1, x - 1] + _DIAGONAL, _at(y - 1, x - 1), best, by)
            best, by = _shorter(distance[y - 1, x] + _STRAIGHT, _at(y - 1, x), best, by)
            best, by = _shorter(distance[y - 1, x + 1] + _DIAGONAL, _at(y - 1, x + 1), best, by)
            best, by = _shorter(distance[y - 1, x + 2] + _KNIGHT, _at(y - 1, x + 2), best, by)
            best, by = _shorter(distance[y, x - 1] + _STRAIGHT, _at(y, x - 1), best, by)
            by_y, by_x = by >> _ROW, by & _COLUMN
            nearest[y, x] = nearest[by_y, by_x] if distance[by_y, by_x] > 0 else by
            distance[y, x] = best


@kernel
def _look_down(
    turns: IndexRow, hole: Mask, distance: IntImageOut, nearest: PlaceImageOut, down: PlaceImageOut
) -> None:
    pitch = hole.shape[1]
    for run in range(len(turns) // 2 - 1, -1, -1):
        y = turns[2 * run] // pitch
        for x in range(turns[2 * run + 1] - y * pitch, turns[2 * run] - y * pitch, -1):
            down[y, x] = down[y + 1, x] if hole[y + 1, x] else y + 1
            place = (y << _ROW) + x
            best, by = distance[y, x], place
            best, by = _shorter(distance[y + 2, x + 1] + _KNIGHT, _at(y + 2, x + 1), best, by)
            best, by = _shorter(distance[y + 2, x - 1] + _KNIGHT, _at(y + 2, x - 1), best, by)
            best, by = _shorter(distance[y + 1, x + 2] + _KNIGHT, _at(y + 1, x + 2), best, by)
            best, by = _shorter(distance[y + 1, x + 1] + _DIAGONAL, _at(y + 1, x + 1), best, by)
            best, by = _shorter(distance[y + 1, x] + _STRAIGHT, _at(y + 1, x), best, by)
            best, by = _shorter(distance[y + 1, x - 1] + _DIAGONAL, _at(y + 1, x - 1), best, by)
            best, by = _shorter(distance[y + 1, x - 2] + _KNIGHT, _at(y + 1, x - 2), best, by)
            best, by = _shorter(distance[y, x + 1] + _STRAIGHT, _at(y, x + 1), best, by)
            by_y, by_x = by >> _ROW, by & _COLUMN
            nearest[y, x] = nearest[by_y, by_x] if distance[by_y, by_x] > 0 else by
            distance[y, x] = best


def _at(y: int, x: int) -> int:
    return (y << _ROW) + x


def _shorter(length: int, by: int, least: int, least_by: int) -> tuple[int, int]:
    closer = length < least
    return (length if closer else least), (by if closer else least_by)


@kernel
def _find_slopes(
    inverse: FloatImage,
    sparse: FloatImageOut,
    steps: FloatImageOut,
    sums: FloatImagesOut,
    slopes: FloatImagesOut,
) -> None:
    """Find slopes of inverse depth along x and y, each a mean over one surface.

    Every second row and column are enough for a mean.
    """
    height, width = slopes.shape[1:]
    for y in range(height):
        for x in range(width):
            sparse[y, x] = inverse[2 * y + 1, 2 * x + 1]
    for y in range(height):
        _step(sparse[y], sparse[y, 1:], steps[0, _REACH:], steps[1, _REACH:])
        _step(sparse[y], sparse[y + 1], steps[2, _REACH:], steps[3, _REACH:])
        for kind in range(4):
            _sum_along(steps[kind], sums[kind, y + _REACH])
    for y in range(height):
        for axis in range(2):
            _slope(sums[2 * axis, y:], sums[2 * axis + 1, y:], slopes[axis, y])


def _step(before: FloatRow, after: FloatRow, step: FloatRowOut, same: FloatRowOut) -> None:
    for x in range(len(after) - 1):
        # Nothing is the same as no measurement.
        is_same = abs(after[x] - before[x]) < _SURFACE_STEP * min(before[x], after[x])
        step[x] = after[x] - before[x] if is_same else _ZERO
        same[x] = _ONE if is_same else _ZERO


def _sum_along(row: FloatRow, sums: FloatRowOut) -> None:
    for x in range(len(sums)):
        sums[x] = (
            row[x] + row[x + 1] + row[x + 2] + row[x + 3] + row[x + 4] + row[x + 5] + row[x + 6]
        )


def _slope(steps: FloatImage, same: FloatImage, slope: FloatRowOut) -> None:
    for x in range(len(slope)):
        total, count = _ZERO, _ZERO
        for y in range(2 * _REACH + 1):
            total += steps[y, x]
            count += same[y, x]
        slope[x] = total / (_TWO * count) if count >= _SLOPE_SUPPORT else _ZERO


@kernel
def _choose(
    turns: IndexRow,
    inverse: FloatImage,
    slopes: FloatImages,
    distance: IntImage,
    nearest: PlaceImage,
    up: PlaceImage,
    down: PlaceImage,
    guide: ByteImages,
    sources: PlaceImageOut,
    offers: FloatImagesOut,
    row: FloatImageOut,
    chosen: FloatImageOut,
    doubt: FloatImageOut,
) -> None:
    pitch = inverse.shape[1]
    values, weights = offers[0], offers[1]
    background, away_px, chosen_row, doubt_row = row[0], row[1], row[2], row[3]
    first = 0
    while first < len(turns) // 2:
        # All runs of a row.
        y, count, run = turns[2 * first] // pitch, 0, first
        while run < len(turns) // 2 and turns[2 * run] // pitch == y:
            left, right = turns[2 * run] - y * pitch, turns[2 * run + 1] + 1 - y * pitch
            end = count + right - left - 1
            for x in range(left + 1, right):
                away_px[count + x - left - 1] = _PX * np.float32(distance[y, x])
            _offer_plane(
                y,
                left + 1,
                nearest[y, left + 1 : right],
                away_px[count:end],
                inverse,
                slopes,
                values[_NEAREST, count:end],
                weights[_NEAREST, count:end],
            )
            _offer_along_row(
                left,
                right,
                left,
                inverse[y, left],
                slopes[0, y - 1 >> 1, left - 1 >> 1],
                values[_LEFT, count:end],
                weights[_LEFT, count:end],
            )
            _offer_along_row(
                left,
                right,
                right,
                inverse[y, right],
                slopes[0, y - 1 >> 1, right - 1 >> 1],
                values[_RIGHT, count:end],
                weights[_RIGHT, count:end],
            )
            _offer_along_column(
                y,
                left + 1,
                up[y, left + 1 : right],
                down[y, left + 1 : right],
                inverse,
                slopes[1],
                values[_UP, count:end],
                weights[_UP, count:end],
            )
            _offer_along_column(
                y,
                left + 1,
                down[y, left + 1 : right],
                up[y, left + 1 : right],
                inverse,
                slopes[1],
                values[_DOWN, count:end],
                weights[_DOWN, count:end],
            )
            background[count:end] = _shadowed_background(
                inverse[y, left], inverse[y, right], right - left - 1
            )
            if len(guide) > 0:
                for x in range(left + 1, right):
                    at = count + x - left - 1
                    sources[_NEAREST, at] = nearest[y, x]
                    sources[_LEFT, at], sources[_RIGHT, at] = _at(y, left), _at(y, right)
                    sources[_UP, at], sources[_DOWN, at] = _at(up[y, x], x), _at(down[y, x], x)
                for number in range(_SOURCES):
                    _prefer_likeness(
                        guide,
                        guide[y - _BORDER, left + 1 - _BORDER :],
                        sources[number, count:end],
                        weights[number, count:end],
                    )
            count, run = end, run + 1
        full = -(-count // _VECTORS) * _VECTORS
        _vote(values, weights, background[:full], away_px, chosen_row, doubt_row)
        count = 0
        for done in range(first, run):
            left, right = turns[2 * done] - y * pitch, turns[2 * done + 1] + 1 - y * pitch
            end = count + right - left - 1
            _copy(chosen_row[count:end], chosen[y - _BORDER, left + 1 - _BORDER :])
            _copy(doubt_row[count:end], doubt[y - _BORDER, left + 1 - _BORDER :])
            count = end
        first = run


def _offer_plane(
    y: int,
    first_x: int,
    source: PlaceRow,
    away_px: FloatRow,
    inverse: FloatImage,
    slopes: FloatImages,
    value: FloatRowOut,
    weight: FloatRowOut,
) -> None:
    for i in range(len(source)):
        source_y, source_x = source[i] >> _ROW, source[i] & _COLUMN
        there = inverse[source_y, source_x]
        slope_x = slopes[0, source_y - 1 >> 1, source_x - 1 >> 1]
        slope_y = slopes[1, source_y - 1 >> 1, source_x - 1 >> 1]
        plane = there + slope_x * np.float32(first_x + i - source_x)
        plane += slope_y * np.float32(y - source_y)
        value[i] = min(max(plane, there / _MAX_CONTINUATION), there * _MAX_CONTINUATION)
        weight[i] = _ONE / away_px[i]


def _offer_along_row(
    left: int,
    right: int,
    source: int,
    there: np.float32,
    slope: np.float32,
    value: FloatRowOut,
    weight: FloatRowOut,
) -> None:
    steepest = there * (_MAX_CONTINUATION - _ONE) / np.float32(right - left - 1)
    slope = min(max(slope, -steepest), steepest)
    offset = there - slope * np.float32(source - 1)
    # The border of the image, where nothing is seen, has no weight.
    seen = _ONE if there > _ZERO else _ZERO
    for i in range(len(value)):
        value[i] = slope * np.float32(left + i) + offset
        weight[i] = seen / abs(np.float32(left + 1 + i - source))


def _offer_along_column(
    y: int,
    first_x: int,
    source_y: PlaceRow,
    opposite_y: PlaceRow,
    inverse: FloatImage,
    slopes: FloatImage,
    value: FloatRowOut,
    weight: FloatRowOut,
) -> None:
    for i in range(len(source_y)):
        there = inverse[source_y[i], first_x + i]
        height = np.float32(abs(np.int64(opposite_y[i]) - np.int64(source_y[i])) - 1)
        steepest = there * (_MAX_CONTINUATION - _ONE) / height
        slope = slopes[source_y[i] - 1 >> 1, first_x + i - 1 >> 1]
        slope = min(max(slope, -steepest), steepest)
        offset = there - slope * np.float32(source_y[i] - 1)
        value[i] = slope * np.float32(y - 1) + offset
        seen = _ONE if there > _ZERO else _ZERO
        weight[i] = seen / np.float32(abs(y - np.int64(source_y[i])))


def _shadowed_background(left: np.float32, right: np.float32, width_px: int) -> np.float32:
    """Inverse depth behind which lies the background of a shadow; 0 for no shadow."""
    step = right - left
    shadow = (left > _ZERO) & (step > _SHADOW_STEP * right)
    shadow &= np.float32(width_px) < _SHADOW_PX_M * step
    between: np.float32 = np.float32(math.sqrt(left * right)) if shadow else _ZERO
    return between


def _prefer_likeness(
    guide: ByteImages, colors: ByteImage, source: PlaceRow, weight: FloatRowOut
) -> None:
    height, width = guide.shape[:2]
    for i in range(len(source)):
        y = min(max(np.int64(source[i] >> _ROW) - _BORDER, 0), height - 1)
        x = min(max(np.int64(source[i] & _COLUMN) - _BORDER, 0), width - 1)
        apart = abs(np.int32(colors[i, 0]) - np.int32(guide[y, x, 0]))
        apart += abs(np.int32(colors[i, 1]) - np.int32(guide[y, x, 1]))
        apart += abs(np.int32(colors[i, 2]) - np.int32(guide[y, x, 2]))
        ratio = np.float32(apart) * _PER_COLOR_SCALE
        weight[i] *= _ONE / (_ONE + ratio * ratio)


def _vote(
    values: FloatImage,
    weights: FloatImage,
    background: FloatRow,
    away_px: FloatRow,
    chosen: FloatRowOut,
    doubt: FloatRowOut,
) -> None:
    """Choose the weighted median: it has the least weighted distance to all the others."""
    for x in range(len(background)):
        choice, least, total = _ZERO, _INF, _ZERO
        for number in range(_SOURCES):
            cost = _ZERO
            for other in range(_SOURCES):
                distance = abs(values[number, x] - values[other, x])
                behind = values[other, x] < background[x]
                cost += distance * (weights[other, x] * (_SHADOW_WEIGHT if behind else _ONE))
            behind = values[number, x] < background[x]
            weight = weights[number, x] * (_SHADOW_WEIGHT if behind else _ONE)
            better = (weight > _ZERO) & (cost < least)
            choice = values[number, x] if better else choice
            least = cost if better else least
            total += weight
        chosen[x] = choice
        spread = least / total / choice
        doubt[x] = _STDDEV_FLOOR + _STDDEV_PER_PX * away_px[x] + _STDDEV_PER_SPREAD * spread


@kernel
def _settle(
    turns: IndexRow,
    nearest: PlaceImage,
    chosen: FloatImage,
    doubt: FloatImage,
    stddev_m: FloatImage,
    farthest_m: np.float32,
    inverse: FloatImageOut,
    source_m: FloatRowOut,
    window: FloatImageOut,
    filled_m: FloatImageOut,
    filled_stddev_m: FloatImageOut,
    filled: MaskOut,
) -> None:
    """Take a stray choice back: the median around it makes no value that no pixel has."""
    pitch = inverse.shape[1]
    for run in range(len(turns) // 2):
        y = turns[2 * run] // pitch
        for x in range(turns[2 * run] + 1 - y * pitch, turns[2 * run + 1] + 1 - y * pitch):
            wanted = filled[y - _BORDER, x - _BORDER]
            inverse[y, x] = chosen[y - _BORDER, x - _BORDER] if wanted else _ZERO
    _repeat_border(inverse)
    first = count = 0
    for run in range(len(turns) // 2):
        y = turns[2 * run] // pitch
        left, right = turns[2 * run] - y * pitch, turns[2 * run + 1] + 1 - y * pitch
        for down in range(5):
            for across in range(5):
                _copy(
                    inverse[y + down - 2, left + across - 1 : right + across - 2],
                    window[5 * down + across, count:],
                )
        for x in range(left + 1, right):
            source = nearest[y, x]
            source_m[count] = stddev_m[(source >> _ROW) - _BORDER, (source & _COLUMN) - _BORDER]
            count += 1
        if count < _BLOCK and run + 1 < len(turns) // 2:
            continue
        _median(window, -(-count // _VECTORS) * _VECTORS)
        count = 0
        for done in range(first, run + 1):
            y = turns[2 * done] // pitch
            x, end = turns[2 * done] - y * pitch - 1, turns[2 * done + 1] - y * pitch - 1
            _fill(
                window[1, count:],
                chosen[y - _BORDER, x:],
                doubt[y - _BORDER, x:],
                source_m[count:],
                farthest_m,
                filled_m[y - _BORDER, x:end],
                filled_stddev_m[y - _BORDER, x:],
                filled[y - _BORDER, x:],
            )
            count += end - x
        first, count = run + 1, 0


def _fill(
    median: FloatRow,
    chosen: FloatRow,
    doubt: FloatRow,
    source_m: FloatRow,
    farthest_m: np.float32,
    filled_m: FloatRowOut,
    filled_stddev_m: FloatRowOut,
    filled: MaskRowOut,
) -> None:
    for x in range(len(filled_m)):
        # Zero stands for pixels that stay empty.
        z_m = _ONE / (median[x] if median[x] > _ZERO else chosen[x])
        known = filled[x] & (z_m <= farthest_m)
        own_m, its_m = z_m * doubt[x], source_m[x] if source_m[x] == source_m[x] else _ZERO
        filled_m[x] = z_m if known else _NAN
        filled_stddev_m[x] = math.sqrt(own_m * own_m + its_m * its_m) if known else _NAN
        filled[x] = known


def _repeat_border(image: FloatImageOut) -> None:
    bottom, right = image.shape[0] - _BORDER, image.shape[1] - _BORDER
    for border in range(_BORDER):
        for y in range(_BORDER, bottom):
            image[y, border] = image[y, _BORDER]
            image[y, right + border] = image[y, right - 1]
    for border in range(_BORDER):
        _copy(image[_BORDER], image[border])
        _copy(image[bottom - 1], image[bottom + border])


def _median(rows: FloatImageOut, count: int) -> None:
    """Bring the medians of 25 rows into the second.

    Neither the least nor the greatest of more than half of the values is the median: both are
    dropped for one of the others, until three are left.
    """
    for size in range(14, 2, -1):
        for number in range(1, size):
            _sort(rows[0, :count], rows[number, :count])
        for number in range(1, size - 1):
            _sort(rows[number, :count], rows[size - 1, :count])
        if size > 3:
            _copy(rows[28 - size, :count], rows[0])


def _copy(row: FloatRow, out: FloatRowOut) -> None:
    for x in range(len(row)):
        out[x] = row[x]


def _sort(low: FloatRowOut, high: FloatRowOut) -> None:
    for i in range(len(low)):
        lower, higher = min(low[i], high[i]), max(low[i], high[i])
        low[i], high[i] = lower, higher
