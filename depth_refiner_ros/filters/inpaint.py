"""Fills the holes of a depth image by choosing, for every pixel, the surface that it lies on.

A hole is a question of choice, not of interpolation: its pixels lie on the surfaces around it, and
a value between two surfaces lies on neither. Every hole pixel therefore collects candidates: the
nearest measurement and the first ones to the left, to the right, above and below, each continued
as a plane (in inverse depth a plane is affine in pixel coordinates). Near candidates, and with a
registered colour image those of the pixel's own colour, weigh more. The weighted median wins: one
of the candidates, never a blend of two.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import itertools
import math
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from ..data import BoolArray, Float32Array, UInt8Array

Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]
IndexArray = npt.NDArray[np.int64]
T = TypeVar('T', np.uint8, np.float32)

# A slope is a mean over this window: wide enough to average the disparity steps of structured
# light, narrow enough to stay on one surface. A smaller share of support is no slope at all.
_SLOPE_WINDOW = 7
_SLOPE_SUPPORT = 0.1
# Neighbours whose inverse depths differ by more than this share lie on two surfaces.
_SURFACE_STEP = 0.02
# A plane is not continued beyond this multiple of the depth of its source, nor nearer than its
# inverse.
_MAX_CONTINUATION = 1.5
# The sum of the absolute differences of R, G and B that halves a candidate's weight.
_COLOR_SCALE = 60.0
# A second viewpoint, projector or imager, to the right of the first leaves a shadow to the left of
# a foreground, as wide as baseline times focal length times the step in inverse depth: 44 px m for
# a Kinect v1 or an Xtion, 30 for a RealSense D435. There the background weighs more. It does not
# take all, since the match also fails on the foreground's rim.
_SHADOW_PX_M = 45.0
_SHADOW_STEP = 0.05
_SHADOW_WEIGHT = 4.0
# Standard deviation of a filled depth, as a share of it: at its support, for every pixel away from
# it, and for the candidates' mean distance from the chosen one. On the recording where that is
# hardest two thirds of the errors lie within one.
_STDDEV_FLOOR = 0.005
_STDDEV_PER_PX = 0.0004
_STDDEV_PER_SPREAD = 2.0
# Hole pixels that are decided together: few enough for the cache, enough to keep both threads out
# of the interpreter.
_BLOCK = 16384


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


class _Surfaces(NamedTuple):
    """What candidates are made of: flat images with a border of zeros, which ends every run.

    Attributes:
        inverse_depth: Float32Array, 1/m, 0 where nothing was measured.
        slope_x, slope_y: Float32Array, 1/m per px.
        color: Three int16 planes, or none.
    """

    inverse_depth: Float32Array
    slope_x: Float32Array
    slope_y: Float32Array
    color: tuple[Int16Array, ...]


class _End(NamedTuple):
    """The measurements at one end of every run of hole pixels in one direction.

    Attributes:
        position: Float32Array, coordinate in px along which the run is counted.
        offset, slope: Float32Array, the surface there, as offset + slope * coordinate (1/m).
        seen: Float32Array, weight at a distance of 1 coordinate; 0 where the image ends.
        color: Three int16 planes, or none.
    """

    position: Float32Array
    offset: Float32Array
    slope: Float32Array
    seen: Float32Array
    color: tuple[Int16Array, ...]


class _Sight(NamedTuple):
    """What every hole pixel sees in one direction and in the opposite one.

    Attributes:
        run: (N,) int32, the run of hole pixels that each lies on.
        coordinate: (N,) float32, its coordinate along the run.
        ends: The measurement before and after each run.
    """

    run: Int32Array
    coordinate: Float32Array
    ends: tuple[_End, _End]


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

    depth_m = np.ascontiguousarray(depth_m)
    measured = np.isfinite(depth_m) & (depth_m > 0)
    hole = ~measured
    filled_m = np.where(measured, depth_m, np.float32(np.nan))
    filled_stddev_m = np.full(depth_m.shape, np.nan, np.float32)
    if stddev_m is not None:
        np.copyto(filled_stddev_m, stddev_m, where=measured)
    filled = narrow(hole, max_hole_px)
    if not measured.any() or not filled.any():
        return Inpainting(filled_m, filled_stddev_m, np.zeros_like(hole))

    chosen_m, chosen_stddev_m = _choose(filled_m, stddev_m, hole, filled, color)
    at = np.flatnonzero(filled)
    if 0 < max_distance_m < math.inf:
        accepted = chosen_m <= max_distance_m
        filled.ravel()[at] = accepted
        at, chosen_m, chosen_stddev_m = at[accepted], chosen_m[accepted], chosen_stddev_m[accepted]
    filled_m.ravel()[at] = chosen_m
    filled_stddev_m.ravel()[at] = chosen_stddev_m
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


def _choose(
    measured_m: Float32Array,
    stddev_m: Float32Array | None,
    hole: BoolArray,
    wanted: BoolArray,
    color: UInt8Array | None,
) -> tuple[Float32Array, Float32Array]:
    """Chooses depths and standard deviations (N,) for the wanted hole pixels, in scan order."""
    inverse = np.zeros((hole.shape[0] + 2, hole.shape[1] + 2), np.float32)
    inner = inverse[1:-1, 1:-1]
    np.reciprocal(measured_m, out=inner)
    np.copyto(inner, np.float32(0), where=hole)
    gaps = _bordered(hole.view(np.uint8), 0)
    at = np.flatnonzero(_bordered(wanted.view(np.uint8), 0).view(np.bool_))
    y, x = np.divmod(at.astype(np.int32), np.int32(gaps.shape[1]))
    y, x = y.astype(np.float32), x.astype(np.float32)
    chosen, spread = np.empty((2, at.size), np.float32)

    with ThreadPoolExecutor(1) as worker:
        search = worker.submit(_nearest, inverse > 0, at)
        surfaces = _Surfaces(inverse.ravel(), *_slopes(inverse), _smoothed(color))
        nearest = search.result()

        sighted = worker.submit(_line_of_sight, surfaces, gaps, at, x, down=False)
        vertical = _line_of_sight(surfaces, gaps, at, y, down=True)
        horizontal = sighted.result()
        background = _shadowed_background(horizontal)

        def vote(blocks: list[slice]) -> None:
            for block in blocks:
                values, weights = _candidates(
                    surfaces, horizontal, vertical, nearest, at, block, gaps.shape[1]
                )
                behind = values < background.take(horizontal.run[block])
                weights *= np.where(behind, np.float32(_SHADOW_WEIGHT), np.float32(1))
                chosen[block], spread[block] = _weighted_median(values, weights)

        blocks = [slice(start, start + _BLOCK) for start in range(0, at.size, _BLOCK)]
        half = worker.submit(vote, blocks[::2])
        vote(blocks[1::2])
        half.result()

    flat = inverse.ravel()
    flat[at] = chosen
    # A stray choice is taken back, and the median makes no value that no pixel has.
    inner[:] = cv2.medianBlur(inner.copy(), 5)
    median = flat.take(at)
    # Zero stands for pixels that stay empty.
    depth_m: Float32Array = np.reciprocal(np.where(median > 0, median, chosen))
    source, distance_px = nearest
    doubt = _STDDEV_FLOOR + _STDDEV_PER_PX * distance_px + _STDDEV_PER_SPREAD * spread / chosen
    deviation_m = depth_m * doubt
    if stddev_m is not None:
        source_stddev_m = np.nan_to_num(_bordered(stddev_m, 0).ravel().take(source))
        np.hypot(deviation_m, source_stddev_m, out=deviation_m)
    return depth_m, deviation_m


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


def _bordered(image: npt.NDArray[T], value: float) -> npt.NDArray[T]:
    bordered = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=value)
    return bordered.view(image.dtype)


def _smoothed(color: UInt8Array | None) -> tuple[Int16Array, ...]:
    """Removes the pixel noise of a colour image."""
    if color is None:
        return ()
    planes = cv2.split(cv2.GaussianBlur(np.ascontiguousarray(color), (3, 3), 0))
    return tuple(
        _bordered(np.asarray(plane, np.uint8), 0).ravel().astype(np.int16) for plane in planes
    )


def _nearest(valid: BoolArray, at: IndexArray) -> tuple[IndexArray, Float32Array]:
    """Finds the measurement nearest to each hole pixel: its flat index and distance in px."""
    distance_px, labels = cv2.distanceTransformWithLabels(
        np.logical_not(valid).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # OpenCV numbers the measured pixels in scan order, from one.
    label = np.asarray(labels, np.int32).ravel().take(at)
    distance = np.asarray(distance_px, np.float32).ravel().take(at)
    return np.flatnonzero(valid).take(label - 1), distance


def _slopes(inverse: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Slopes of inverse depth along x and y (1/m per px), each a mean over one surface.

    Every second row and column are enough for a mean.

    Returns:
        Two images of half the height and width, rounded up.
    """
    sparse = np.ascontiguousarray(inverse[::2, ::2])
    slopes = []
    for axis in (1, 0):
        before = sparse[:, :-1] if axis else sparse[:-1]
        after = sparse[:, 1:] if axis else sparse[1:]
        step = after - before
        # Also false where either is zero, which is no measurement.
        same = np.abs(step) < 2 * _SURFACE_STEP * np.minimum(before, after)
        step *= same
        total, count = (
            cv2.boxFilter(
                cv2.copyMakeBorder(image, 0, 1 - axis, 0, axis, cv2.BORDER_CONSTANT, value=0),
                cv2.CV_32F,
                (_SLOPE_WINDOW, _SLOPE_WINDOW),
                normalize=False,
                borderType=cv2.BORDER_CONSTANT,
            )
            for image in (step, same.view(np.uint8))
        )
        enough = count >= _SLOPE_SUPPORT * _SLOPE_WINDOW**2
        slopes.append(total * enough / (2 * np.maximum(count, 1)))
    return slopes[0], slopes[1]


def _runs(gaps: UInt8Array, stride: int) -> tuple[IndexArray, IndexArray]:
    """Finds unbroken lines of hole pixels that are `stride` apart in the flat image.

    Returns:
        Flat index of the first pixel and length of every run.
    """
    lines = cv2.transpose(gaps.reshape(-1, stride)).ravel()
    turns = np.flatnonzero(lines[1:] != lines[:-1]) + 1
    starts, stops = turns[::2], turns[1::2]
    column, row = np.divmod(starts, gaps.size // stride)
    return row * stride + column, stops - starts


def _line_of_sight(
    surfaces: _Surfaces, gaps: UInt8Array, at: IndexArray, coordinate: Float32Array, *, down: bool
) -> _Sight:
    """Finds what hole pixels see to the left and right, or looking up and down."""
    pitch = gaps.shape[1]
    stride = pitch if down else 1
    first, length = _runs(gaps, stride)
    pixel = np.arange(0, length.sum() * stride, stride)
    pixel += np.repeat(first - stride * (np.cumsum(length) - length), length)
    run = np.empty(gaps.size, np.int32)
    run[pixel] = np.repeat(np.arange(first.size, dtype=np.int32), length)
    ends = []
    for source in (first - stride, first + length * stride):
        y, x = np.divmod(source.astype(np.int32), np.int32(pitch))
        position = (y if down else x).astype(np.float32)
        inverse = surfaces.inverse_depth.take(source)
        sparse = surfaces.slope_x.shape[1] * (y >> 1) + (x >> 1)
        slope = (surfaces.slope_y if down else surfaces.slope_x).take(sparse)
        steepest = (inverse * np.float32(_MAX_CONTINUATION - 1) / length).astype(np.float32)
        slope = np.clip(slope, -steepest, steepest)
        ends.append(
            _End(
                position,
                inverse - slope * position,
                slope,
                (inverse > 0).astype(np.float32),
                tuple(plane.take(source) for plane in surfaces.color),
            )
        )
    return _Sight(run.take(at), coordinate, (ends[0], ends[1]))


def _shadowed_background(horizontal: _Sight) -> Float32Array:
    """Inverse depth behind which lies the background of a shadow, per run; 0 for no shadow."""
    left, right = (end.offset + end.slope * end.position for end in horizontal.ends)
    width_px = horizontal.ends[1].position - horizontal.ends[0].position - 1
    step = right - left
    shadow = (left > 0) & (step > _SHADOW_STEP * right) & (width_px < _SHADOW_PX_M * step)
    between = np.sqrt(np.maximum(left * right, 0))
    return np.asarray(np.where(shadow, between, 0), np.float32)


def _candidates(
    surfaces: _Surfaces,
    horizontal: _Sight,
    vertical: _Sight,
    nearest: tuple[IndexArray, Float32Array],
    at: IndexArray,
    block: slice,
    pitch: int,
) -> tuple[Float32Array, Float32Array]:
    """Inverse depths (1/m) offered to a block of n hole pixels, and their weights: (5, n)."""
    source, distance_px = nearest[0][block], nearest[1][block]
    at = at[block]
    pixel_color = [plane.take(at) for plane in surfaces.color]
    values, weights = np.empty((2, 5, at.size), np.float32)

    inverse = surfaces.inverse_depth.take(source)
    source_y, source_x = np.divmod(source.astype(np.int32), np.int32(pitch))
    sparse = (source_y >> 1) * np.int32(surfaces.slope_x.shape[1]) + (source_x >> 1)
    slope_x, slope_y = surfaces.slope_x.take(sparse), surfaces.slope_y.take(sparse)
    plane = inverse + slope_x * (horizontal.coordinate[block] - source_x.astype(np.float32))
    plane += slope_y * (vertical.coordinate[block] - source_y.astype(np.float32))
    limit = np.float32(_MAX_CONTINUATION)
    values[0] = np.minimum(np.maximum(plane, inverse / limit), inverse * limit)
    weights[0] = 1 / distance_px
    if pixel_color:
        weights[0] *= _likeness(pixel_color, [p.take(source) for p in surfaces.color])

    row = 1
    for sight in (horizontal, vertical):
        run, coordinate = sight.run[block].astype(np.int64), sight.coordinate[block]
        for end in sight.ends:
            np.multiply(end.slope.take(run), coordinate, out=values[row])
            values[row] += end.offset.take(run)
            distance = np.abs(coordinate - end.position.take(run))
            np.divide(end.seen.take(run), distance, out=weights[row])
            if pixel_color:
                weights[row] *= _likeness(pixel_color, [p.take(run) for p in end.color])
            row += 1
    return values, weights


def _likeness(pixel: list[Int16Array], source: list[Int16Array]) -> Float32Array:
    """Weight of a candidate, from the colours of its source and of the pixel it is offered to."""
    red, green, blue = (np.abs(a - b) for a, b in zip(pixel, source, strict=True))
    ratio = (red + green + blue) * np.float32(1 / _COLOR_SCALE)
    weight: Float32Array = np.reciprocal(1 + ratio * ratio)
    return weight


def _weighted_median(
    values: Float32Array, weights: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Chooses, for each column, the value with the least weighted distance to all the others.

    Returns:
        The values, and their weighted mean distance to the others.
    """
    cost = np.zeros_like(values)
    apart, share = np.empty((2, values.shape[1]), np.float32)
    for i, j in itertools.combinations(range(len(values)), 2):
        np.subtract(values[i], values[j], out=apart)
        np.abs(apart, out=apart)
        cost[i] += np.multiply(apart, weights[j], out=share)
        cost[j] += np.multiply(apart, weights[i], out=share)
    np.copyto(cost, np.float32(np.inf), where=weights == 0)
    median, least = values[0].copy(), cost[0].copy()
    for value, its_cost in zip(values[1:], cost[1:], strict=True):
        np.copyto(median, value, where=its_cost < least)
        np.minimum(least, its_cost, out=least)
    return median, least / weights.sum(axis=0)
