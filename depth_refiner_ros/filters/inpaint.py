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
    PlaceImage,
    PlaceImageOut,
    kernel,
)
from .guide import Guide

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
# The measurements whose surfaces a hole pixel may take.
_NEAREST, _LEFT, _RIGHT, _UP, _DOWN = range(5)
_SOURCES = 5
# A place is a row and a column in one number.
_ROW, _COLUMN = 16, 0xFFFF
# Pixels whose medians are found together: few enough for the cache, and all vectors full.
_BLOCK, _VECTORS = 256, 64
# Where the median of 5x5 values can be when their columns and rows are sorted.
_MIDDLE = (3, 4, 7, 8, 9, 11, 12, 13, 15, 16, 17, 20, 21)
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
    guide: Guide | None = None,
    max_hole_px: float,
    max_distance_m: float,
) -> Inpainting:
    """Fills holes with the surfaces around them, and estimates the error of the result.

    Measured pixels are returned as they came, to the bit. With both limits off every pixel of an
    image with at least one measurement is filled.

    Args:
        depth_m: (H, W) float32 metres along the optical axis. What is not finite and positive is
            a hole.
        stddev_m: (H, W) float32 metres, standard deviation of the measurements.
        color: (H, W, 3) uint8 RGB, registered to the depth image.
        guide: One more candidate for every pixel, with a weight of its own.
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

    if guide is None:
        guided = guided_weight = np.empty((0, 0), np.float32)
    else:
        guided, guided_weight = guide.inverse_depth, guide.weight
    if color is None:
        picture = np.empty((0, 0, 3), np.uint8)
    else:  # without the noise of its pixels
        picture = np.asarray(cv2.GaussianBlur(np.ascontiguousarray(color), (3, 3), 0), np.uint8)
    chosen, stddev_share, source_m = np.empty((3, np.count_nonzero(hole)), np.float32)
    candidates = np.ones((2 * _SOURCES + 4, width + _VECTORS), np.float32)
    _choose(
        turns, inverse, filled_stddev_m, slopes, distance, nearest, up, down, picture, guided,
        guided_weight, candidates, chosen, stddev_share, source_m,
    )  # fmt: skip
    window = np.ones((27, _BLOCK + width + _VECTORS), np.float32)
    _settle(
        turns, filled, max_distance_m or math.inf, chosen, stddev_share, source_m, inverse, window,
        filled_m, filled_stddev_m,
    )  # fmt: skip
    if 0 < max_distance_m < math.inf:
        filled &= filled_m <= max_distance_m
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
    for y in range(depth_m.shape[0]):
        row, its_stddev_m = depth_m[y], stddev_m[y]
        inverse_row, hole_row = inverse[y + _BORDER, _BORDER:], hole[y + _BORDER, _BORDER:]
        kept_m, kept_stddev_m = measured_m[y], measured_stddev_m[y]
        for x in range(len(row)):
            measured = (row[x] > _ZERO) & (row[x] < _INF)
            inverse_row[x] = _ONE / row[x] if measured else _ZERO
            hole_row[x] = not measured
            kept_m[x] = row[x] if measured else _NAN
            kept_stddev_m[x] = its_stddev_m[x] if measured else _NAN


@kernel
def _look_up(
    turns: IndexRow, hole: Mask, distance: IntImageOut, nearest: PlaceImageOut, up: PlaceImageOut
) -> None:
    pitch = hole.shape[1]
    for run in range(len(turns) // 2):
        y = turns[2 * run] // pitch
        start, stop = turns[2 * run] + 1 - y * pitch, turns[2 * run + 1] + 1 - y * pitch
        # From two columns before the run on.
        far, near = distance[y - 2, start - 2 :], distance[y - 1, start - 2 :]
        hole_above, above, here = hole[y - 1, start:], up[y - 1, start:], distance[y, start - 2 :]
        for x in range(stop - start):
            up[y, start + x] = above[x] if hole_above[x] else y - 1
            at = _at(y, start + x)
            best, by = _FAR, at
            best, by = _shorter(far[x + 1] + _KNIGHT, at + _at(-2, -1), best, by)
            best, by = _shorter(far[x + 3] + _KNIGHT, at + _at(-2, 1), best, by)
            best, by = _shorter(near[x] + _KNIGHT, at + _at(-1, -2), best, by)
            best, by = _shorter(near[x + 1] + _DIAGONAL, at + _at(-1, -1), best, by)
            best, by = _shorter(near[x + 2] + _STRAIGHT, at + _at(-1, 0), best, by)
            best, by = _shorter(near[x + 3] + _DIAGONAL, at + _at(-1, 1), best, by)
            best, by = _shorter(near[x + 4] + _KNIGHT, at + _at(-1, 2), best, by)
            best, by = _shorter(here[x + 1] + _STRAIGHT, at + _at(0, -1), best, by)
            by_y, by_x = by >> _ROW, by & _COLUMN
            nearest[y, start + x] = nearest[by_y, by_x] if distance[by_y, by_x] > 0 else by
            here[x + 2] = best


@kernel
def _look_down(
    turns: IndexRow, hole: Mask, distance: IntImageOut, nearest: PlaceImageOut, down: PlaceImageOut
) -> None:
    pitch = hole.shape[1]
    for run in range(len(turns) // 2 - 1, -1, -1):
        y = turns[2 * run] // pitch
        start, stop = turns[2 * run] + 1 - y * pitch, turns[2 * run + 1] + 1 - y * pitch
        far, near = distance[y + 2, start - 2 :], distance[y + 1, start - 2 :]
        here, hole_below, below = (
            distance[y, start - 2 :],
            hole[y + 1, start:],
            down[y + 1, start:],
        )
        for x in range(stop - start - 1, -1, -1):
            down[y, start + x] = below[x] if hole_below[x] else y + 1
            at = _at(y, start + x)
            best, by = here[x + 2], at
            best, by = _shorter(far[x + 3] + _KNIGHT, at + _at(2, 1), best, by)
            best, by = _shorter(far[x + 1] + _KNIGHT, at + _at(2, -1), best, by)
            best, by = _shorter(near[x + 4] + _KNIGHT, at + _at(1, 2), best, by)
            best, by = _shorter(near[x + 3] + _DIAGONAL, at + _at(1, 1), best, by)
            best, by = _shorter(near[x + 2] + _STRAIGHT, at + _at(1, 0), best, by)
            best, by = _shorter(near[x + 1] + _DIAGONAL, at + _at(1, -1), best, by)
            best, by = _shorter(near[x] + _KNIGHT, at + _at(1, -2), best, by)
            best, by = _shorter(here[x + 3] + _STRAIGHT, at + _at(0, 1), best, by)
            by_y, by_x = by >> _ROW, by & _COLUMN
            nearest[y, start + x] = nearest[by_y, by_x] if distance[by_y, by_x] > 0 else by
            here[x + 2] = best


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
        for axis in range(2):
            here, other = sparse[y], sparse[y, 1:] if axis == 0 else sparse[y + 1]
            step, same = steps[2 * axis, _REACH:], steps[2 * axis + 1, _REACH:]
            for x in range(width):
                # Nothing is the same as no measurement.
                is_same = abs(other[x] - here[x]) < _SURFACE_STEP * min(here[x], other[x])
                step[x] = other[x] - here[x] if is_same else _ZERO
                same[x] = _ONE if is_same else _ZERO
        for kind in range(4):
            row, along = steps[kind], sums[kind, y + _REACH]
            for x in range(width):
                along[x] = row[x] + row[x + 1] + row[x + 2]
                along[x] += row[x + 3] + row[x + 4] + row[x + 5] + row[x + 6]
    for y in range(height):
        for axis in range(2):
            slope, step, same = slopes[axis, y], sums[2 * axis, y:], sums[2 * axis + 1, y:]
            for x in range(width):
                total, count = _ZERO, _ZERO
                for reach in range(2 * _REACH + 1):
                    total += step[reach, x]
                    count += same[reach, x]
                slope[x] = total / (_TWO * count) if count >= _SLOPE_SUPPORT else _ZERO


@kernel
def _choose(
    turns: IndexRow,
    inverse: FloatImage,
    stddev_m: FloatImage,
    slopes: FloatImages,
    distance: IntImage,
    nearest: PlaceImage,
    up: PlaceImage,
    down: PlaceImage,
    picture: ByteImages,
    guided: FloatImage,
    guided_weight: FloatImage,
    candidates: FloatImageOut,
    chosen: FloatRowOut,
    stddev_share: FloatRowOut,
    source_m: FloatRowOut,
) -> None:
    pitch, done, count = inverse.shape[1], 0, 0
    values, apart_px = candidates[:_SOURCES], candidates[_SOURCES : 2 * _SOURCES]
    background, away_px = candidates[2 * _SOURCES], candidates[2 * _SOURCES + 1]
    offered, its_weight = candidates[2 * _SOURCES + 2], candidates[2 * _SOURCES + 3]
    for run in range(len(turns) // 2):
        y = turns[2 * run] // pitch
        left, right = turns[2 * run] - y * pitch, turns[2 * run + 1] + 1 - y * pitch
        before, after = inverse[y, left], inverse[y, right]
        slope_before = slopes[0, y - 1 >> 1, left - 1 >> 1]
        slope_after = slopes[0, y - 1 >> 1, right - 1 >> 1]
        behind = _shadowed_background(before, after, right - left - 1)
        for x in range(left + 1, right):
            source = nearest[y, x]
            source_y, source_x = source >> _ROW, source & _COLUMN
            source_m[done + count] = stddev_m[source_y - _BORDER, source_x - _BORDER]
            away_px[count] = _PX * np.float32(distance[y, x])
            there = inverse[source_y, source_x]
            plane = there + slopes[0, source_y - 1 >> 1, source_x - 1 >> 1] * np.float32(
                x - source_x
            )
            plane += slopes[1, source_y - 1 >> 1, source_x - 1 >> 1] * np.float32(y - source_y)
            values[_NEAREST, count] = min(
                max(plane, there / _MAX_CONTINUATION), there * _MAX_CONTINUATION
            )
            apart_px[_NEAREST, count] = away_px[count]

            length = right - left - 1
            values[_LEFT, count] = _continued(before, slope_before, left, x, length)
            values[_RIGHT, count] = _continued(after, slope_after, right, x, length)
            apart_px[_LEFT, count] = _seen_apart(before, x - left)
            apart_px[_RIGHT, count] = _seen_apart(after, right - x)

            top, bottom = np.int64(up[y, x]), np.int64(down[y, x])
            above, below, length = inverse[top, x], inverse[bottom, x], bottom - top - 1
            slope_above = slopes[1, top - 1 >> 1, x - 1 >> 1]
            slope_below = slopes[1, bottom - 1 >> 1, x - 1 >> 1]
            values[_UP, count] = _continued(above, slope_above, top, y, length)
            values[_DOWN, count] = _continued(below, slope_below, bottom, y, length)
            apart_px[_UP, count] = _seen_apart(above, y - top)
            apart_px[_DOWN, count] = _seen_apart(below, bottom - y)
            if len(picture) > 0:
                apart_px[_NEAREST, count] *= _unlikeness(picture, y, x, source_y, source_x)
                apart_px[_LEFT, count] *= _unlikeness(picture, y, x, y, left)
                apart_px[_RIGHT, count] *= _unlikeness(picture, y, x, y, right)
                apart_px[_UP, count] *= _unlikeness(picture, y, x, top, x)
                apart_px[_DOWN, count] *= _unlikeness(picture, y, x, bottom, x)
            if len(guided) > 0:
                offered[count] = guided[y - _BORDER, x - _BORDER]
                its_weight[count] = guided_weight[y - _BORDER, x - _BORDER]
            background[count] = behind
            count += 1
        if run + 1 == len(turns) // 2 or turns[2 * run + 2] // pitch > y:
            decided, its_share = chosen[done:], stddev_share[done:]
            if len(guided) > 0:
                _vote_guided(
                    values, apart_px, background, away_px, offered, its_weight, decided,
                    its_share, count,
                )  # fmt: skip
            else:
                _vote(values, apart_px, background, away_px, decided, its_share, count)
            done, count = done + count, 0


def _continued(
    there: np.float32, slope: np.float32, source_px: int, here_px: int, length_px: int
) -> np.float32:
    """Continue the surface at one end of a run, no steeper than its length allows."""
    steepest = there * (_MAX_CONTINUATION - _ONE) / np.float32(length_px)
    slope = min(max(slope, -steepest), steepest)
    offset = there - slope * np.float32(source_px - 1)
    continued: np.float32 = slope * np.float32(here_px - 1) + offset
    return continued


def _seen_apart(there: np.float32, apart_px: int) -> np.float32:
    # The border of the image, where nothing is seen, is far away.
    apart: np.float32 = np.float32(apart_px) if there > _ZERO else _INF
    return apart


def _shadowed_background(left: np.float32, right: np.float32, width_px: int) -> np.float32:
    """Inverse depth behind which lies the background of a shadow; 0 for no shadow."""
    step = right - left
    shadow = (left > _ZERO) & (step > _SHADOW_STEP * right)
    shadow &= np.float32(width_px) < _SHADOW_PX_M * step
    between: np.float32 = np.float32(math.sqrt(left * right)) if shadow else _ZERO
    return between


def _unlikeness(picture: ByteImages, y: int, x: int, source_y: int, source_x: int) -> np.float32:
    """Return by how many times a source seems farther away for its colour."""
    y, x = y - _BORDER, x - _BORDER
    source_y = min(max(source_y - _BORDER, 0), picture.shape[0] - 1)
    source_x = min(max(source_x - _BORDER, 0), picture.shape[1] - 1)
    apart = 0
    for channel in range(3):
        apart += abs(
            np.int32(picture[y, x, channel]) - np.int32(picture[source_y, source_x, channel])
        )
    ratio = np.float32(apart) * _PER_COLOR_SCALE
    times: np.float32 = _ONE + ratio * ratio
    return times


def _vote(
    values: FloatImage,
    apart_px: FloatImage,
    background: FloatRow,
    away_px: FloatRow,
    chosen: FloatRowOut,
    stddev_share: FloatRowOut,
    count: int,
) -> None:
    """Choose the weighted median: it has the least weighted distance to all the others."""
    for x in range(count):
        choice, least, total = _ZERO, _INF, _ZERO
        for number in range(_SOURCES):
            cost = _ZERO
            for other in range(_SOURCES):
                weight = _ONE / apart_px[other, x]
                weight *= _SHADOW_WEIGHT if values[other, x] < background[x] else _ONE
                cost += abs(values[number, x] - values[other, x]) * weight
            weight = _ONE / apart_px[number, x]
            weight *= _SHADOW_WEIGHT if values[number, x] < background[x] else _ONE
            better = (weight > _ZERO) & (cost < least)
            choice = values[number, x] if better else choice
            least = cost if better else least
            total += weight
        chosen[x] = choice
        spread = least / total / choice
        stddev_share[x] = _STDDEV_FLOOR + _STDDEV_PER_PX * away_px[x] + _STDDEV_PER_SPREAD * spread


def _vote_guided(
    values: FloatImage,
    apart_px: FloatImage,
    background: FloatRow,
    away_px: FloatRow,
    offered: FloatRow,
    its_weight: FloatRow,
    chosen: FloatRowOut,
    stddev_share: FloatRowOut,
    count: int,
) -> None:
    """As `_vote`, with one candidate more: apart, for most frames have no guide."""
    for x in range(count):
        choice, least, total, its_cost = _ZERO, _INF, its_weight[x], _ZERO
        for number in range(_SOURCES):
            cost = abs(values[number, x] - offered[x]) * its_weight[x]
            for other in range(_SOURCES):
                weight = _ONE / apart_px[other, x]
                weight *= _SHADOW_WEIGHT if values[other, x] < background[x] else _ONE
                cost += abs(values[number, x] - values[other, x]) * weight
            weight = _ONE / apart_px[number, x]
            weight *= _SHADOW_WEIGHT if values[number, x] < background[x] else _ONE
            its_cost += abs(values[number, x] - offered[x]) * weight
            better = (weight > _ZERO) & (cost < least)
            choice = values[number, x] if better else choice
            least = cost if better else least
            total += weight
        better = (its_weight[x] > _ZERO) & (its_cost < least)
        choice = offered[x] if better else choice
        least = its_cost if better else least
        chosen[x] = choice
        spread = least / total / choice
        stddev_share[x] = _STDDEV_FLOOR + _STDDEV_PER_PX * away_px[x] + _STDDEV_PER_SPREAD * spread


@kernel
def _settle(
    turns: IndexRow,
    wanted: Mask,
    farthest_m: np.float32,
    chosen: FloatRowOut,
    stddev_share: FloatRow,
    source_m: FloatRow,
    inverse: FloatImageOut,
    window: FloatImageOut,
    filled_m: FloatImageOut,
    filled_stddev_m: FloatImageOut,
) -> None:
    """Take a stray choice back: the median around it makes no value that no pixel has."""
    pitch, count = inverse.shape[1], 0
    for run in range(len(turns) // 2):
        y = turns[2 * run] // pitch
        for x in range(turns[2 * run] + 1 - y * pitch, turns[2 * run + 1] + 1 - y * pitch):
            is_wanted = wanted[y - _BORDER, x - _BORDER]
            inverse[y, x] = chosen[count] if is_wanted else _ZERO
            chosen[count] = chosen[count] if is_wanted else _NAN
            count += 1
    _repeat_border(inverse)
    done = first = count = 0
    for run in range(len(turns) // 2):
        y = turns[2 * run] // pitch
        left, right = turns[2 * run] - y * pitch - 1, turns[2 * run + 1] - y * pitch - 1
        for down in range(5):
            for across in range(5):
                row = window[5 * down + across, count:]
                _copy(inverse[y + down - 2, left + across : right + across], row)
        count += right - left
        if count < _BLOCK and run + 1 < len(turns) // 2:
            continue
        _median(window, -(-count // _VECTORS) * _VECTORS)
        z_m, stddev_m = window[25], window[26]
        for i in range(count):
            # Zero stands for pixels that stay empty.
            inverse_depth = (
                window[_MIDDLE[1], i] if window[_MIDDLE[1], i] > _ZERO else chosen[done + i]
            )
            z_m[i] = _ONE / inverse_depth
            known = (chosen[done + i] > _ZERO) & (z_m[i] <= farthest_m)
            own_m, its_m = z_m[i] * stddev_share[done + i], source_m[done + i]
            its_m = its_m if its_m == its_m else _ZERO  # not NaN
            stddev_m[i] = math.sqrt(own_m * own_m + its_m * its_m) if known else _NAN
            z_m[i] = z_m[i] if known else _NAN
        done, count = done + count, 0
        for written in range(first, run + 1):
            y = turns[2 * written] // pitch
            left, right = (
                turns[2 * written] - y * pitch - 1,
                turns[2 * written + 1] - y * pitch - 1,
            )
            end = count + right - left
            _copy(z_m[count:end], filled_m[y - _BORDER, left:])
            _copy(stddev_m[count:end], filled_stddev_m[y - _BORDER, left:])
            count = end
        first, count = run + 1, 0


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
    """Bring the medians of 25 rows into the one of `_MIDDLE` that comes second.

    Columns and then rows of the window are sorted, which leaves `_MIDDLE`. Neither the least nor
    the greatest of more than half of them is the median: both are dropped for one of the others,
    until three are left.
    """
    for number in range(5):
        _sort_five(rows, number, 5, count)
    for number in range(5):
        _sort_five(rows, 5 * number, 1, count)
    for size in range(8, 2, -1):
        half = size // 2
        for number in range(half):
            _sort(rows[_MIDDLE[number]], rows[_MIDDLE[size - 1 - number]], count)
        for number in range(1, size - half):
            _sort(rows[_MIDDLE[0]], rows[_MIDDLE[number]], count)
        for number in range(half, size - 1):
            _sort(rows[_MIDDLE[number]], rows[_MIDDLE[size - 1]], count)
        if size > 3:
            _copy(rows[_MIDDLE[16 - size], :count], rows[_MIDDLE[0]])


def _sort_five(rows: FloatImageOut, first: int, step: int, count: int) -> None:
    for x in range(count):
        a, b, c = rows[first, x], rows[first + step, x], rows[first + 2 * step, x]
        d, e = rows[first + 3 * step, x], rows[first + 4 * step, x]
        a, b = min(a, b), max(a, b)
        d, e = min(d, e), max(d, e)
        c, e = min(c, e), max(c, e)
        c, d = min(c, d), max(c, d)
        b, e = min(b, e), max(b, e)
        a, d = min(a, d), max(a, d)
        a, c = min(a, c), max(a, c)
        b, d = min(b, d), max(b, d)
        b, c = min(b, c), max(b, c)
        rows[first, x], rows[first + step, x], rows[first + 2 * step, x] = a, b, c
        rows[first + 3 * step, x], rows[first + 4 * step, x] = d, e


def _sort(low: FloatRowOut, high: FloatRowOut, count: int) -> None:
    for x in range(count):
        low[x], high[x] = min(low[x], high[x]), max(low[x], high[x])


def _copy(row: FloatRow, out: FloatRowOut) -> None:
    for x in range(len(row)):
        out[x] = row[x]
