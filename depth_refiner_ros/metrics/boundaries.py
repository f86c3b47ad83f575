"""How well depth keeps the edges of things."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import NamedTuple

import cv2
import numpy as np

from ..data import BoolArray, Float32Array
from .accumulate import IndexArray, has_depth, merged, ratio
from .depth import depth_edges, distance_px

# Bochkovskii et al., "Depth Pro", 2024: ten thresholds, each weighted by itself.
_F1_THRESHOLDS = np.linspace(1.05, 1.25, 10)
_F1_JUMPS = np.log(_F1_THRESHOLDS)

# Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation Methods", ECCV Workshops
# 2018: the edge detector of their evaluation script, and the neighbourhood of a reference edge.
_CANNY_SIGMA_PX = math.sqrt(2)
_CANNY_RADIUS_PX = round(4 * _CANNY_SIGMA_PX)
_CANNY_LOW, _CANNY_HIGH = 0.1, 0.2
_DBE_MAX_PX = 10.0


class BoundaryScore(NamedTuple):
    """Agreement of two images on where a foreground ends.

    Attributes:
        f1: Harmonic mean of the two below, averaged over the thresholds; the published figure.
        precision: Share of the predicted edges that are in the reference, averaged likewise.
        recall: Share of the reference's edges that are predicted, averaged likewise.
    """

    f1: float
    precision: float
    recall: float


def si_boundary_f1(depth_m: Float32Array, reference_m: Float32Array) -> BoundaryScore:
    """Compare the foreground-background relations of all neighbouring pixels.

    Bochkovskii et al., "Depth Pro: Sharp Monocular Metric Depth in Less Than a Second", 2024:
    a pixel is in front of its 4-neighbour if the neighbour is more than t times as far. Precision
    and recall are taken for each of the four directions and averaged, F1 follows from them, and
    the F1 of ten t from 1.05 to 1.25 are averaged with weights proportional to t. There is no
    tolerance: an edge one pixel off is both missed and invented.

    The paper's images are complete. Here a pair of pixels without a reference is left out, and one
    without a prediction predicts no edge, so that missing depth costs recall.

    Args:
        depth_m: Shape (H, W), any unit; NaN or 0 where there is no prediction.
        reference_m: Shape (H, W), any unit; NaN or 0 where unknown.

    Returns:
        The scores, 0 to 1; NaN if the reference has no edge at the lowest threshold.
    """
    depth = np.where(has_depth(depth_m), depth_m, np.float32(np.nan))
    reference = np.where(has_depth(reference_m), reference_m, np.float32(np.nan))
    # Rows: which of the four neighbours is behind; columns: thresholds.
    predicted, expected, agreed = (np.zeros((4, len(_F1_THRESHOLDS))) for _ in range(3))
    for axis in (0, 1):
        depth_jump, reference_jump = _jump(depth, axis), _jump(reference, axis)
        # Few pairs of neighbours are an edge in either image.
        either = (np.abs(depth_jump) > _F1_JUMPS[0]) | (np.abs(reference_jump) > _F1_JUMPS[0])
        either &= np.isfinite(reference_jump)
        depth_jump, reference_jump = depth_jump[either], reference_jump[either]
        for sign, row in ((1, axis), (-1, axis + 2)):
            passed = _thresholds_passed(sign * depth_jump)
            wanted = _thresholds_passed(sign * reference_jump)
            predicted[row] = _pairs_beyond(passed)
            expected[row] = _pairs_beyond(wanted)
            agreed[row] = _pairs_beyond(np.minimum(passed, wanted))
    if not expected.any():
        return BoundaryScore(math.nan, math.nan, math.nan)
    precision = (agreed / np.maximum(predicted, 1)).mean(axis=0)
    recall = (agreed / np.maximum(expected, 1)).mean(axis=0)
    both = np.maximum(precision + recall, np.finfo(float).tiny)
    weights = _F1_THRESHOLDS / _F1_THRESHOLDS.sum()
    return BoundaryScore(
        float(weights @ (2 * precision * recall / both)),
        float(weights @ precision),
        float(weights @ recall),
    )


def _jump(depth: Float32Array, axis: int) -> Float32Array:
    """Return the logarithm of the ratio of a pixel's depth to its predecessor's along an axis."""
    return np.diff(np.log(depth), axis=axis)


def _thresholds_passed(jump: Float32Array) -> IndexArray:
    # NaN, no prediction, would sort behind everything: it passes nothing.
    return np.searchsorted(_F1_JUMPS, np.nan_to_num(jump))


def _pairs_beyond(passed: IndexArray) -> IndexArray:
    """Return, by threshold, how many pairs pass it, from how many thresholds each pair passes."""
    counts = np.bincount(passed, minlength=len(_F1_THRESHOLDS) + 1)
    return counts[::-1].cumsum()[::-1][1:]


class BoundaryError(NamedTuple):
    """Distances between predicted and reference edges.

    Attributes:
        accuracy_px: Mean distance of a predicted edge pixel to the nearest reference edge, among
            those nearer than 10 px.
        completeness_px: Mean distance of a reference edge pixel to the nearest predicted edge.
    """

    accuracy_px: float
    completeness_px: float


def depth_boundary_error(predicted: BoolArray, reference: BoolArray) -> BoundaryError:
    """Compare edge maps by truncated chamfer distance: DBE of iBims-1.

    Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation Methods", ECCV Workshops
    2018. Distances are truncated for the accuracy only, as in the authors' script.

    Args:
        predicted: Shape (H, W), edges of the prediction, see `canny_edges`.
        reference: Shape (H, W), edges of the reference.

    Returns:
        Both errors; 10 px each if no predicted edge lies within 10 px of a reference edge, NaN if
        the reference has no edge.
    """
    if not reference.any():
        return BoundaryError(math.nan, math.nan)
    to_reference_px = distance_px(reference)[predicted]
    near_px = to_reference_px[to_reference_px < _DBE_MAX_PX]
    if not near_px.size:
        return BoundaryError(_DBE_MAX_PX, _DBE_MAX_PX)
    completeness_px = distance_px(predicted)[reference].mean(dtype=np.float64)
    return BoundaryError(float(near_px.mean(dtype=np.float64)), float(completeness_px))


def canny_edges(depth_m: Float32Array, range_m: tuple[float, float] | None = None) -> BoolArray:
    """Find edges as the evaluation of iBims-1 does.

    Canny, "A Computational Approach to Edge Detection", PAMI 1986, on depth scaled to 0 to 1:
    Gaussian of sigma sqrt(2) px, Sobel, maxima along the gradient, hysteresis from 0.1 to 0.2 (of
    the unscaled Sobel magnitude: an isolated step needs 10 % of the range).

    Missing depth takes no part in the smoothing, and no edge lies within a pixel of it.

    Args:
        depth_m: Shape (H, W), metres; NaN or 0 where unknown.
        range_m: Depths that become 0 and 1. Where omitted they are the least and the largest of
            the image: the authors' definition, blind to scale, in which one far outlier hides
            every edge. Metric depth is better given the range of its reference.

    Returns:
        Shape (H, W), True on thin edges.
    """
    valid = has_depth(depth_m)
    if not valid.any():
        return valid
    near_m, far_m = range_m or (float(depth_m[valid].min()), float(depth_m[valid].max()))
    if not far_m > near_m:
        return np.zeros_like(valid)
    scaled = np.clip((depth_m - np.float32(near_m)) / np.float32(far_m - near_m), 0, 1)
    scaled[~valid] = 0
    smooth = _blur(scaled) / np.maximum(_blur(valid.astype(np.float32)), np.float32(1e-12))
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REFLECT)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REFLECT)
    magnitude = cv2.magnitude(dx, dy)
    inside = cv2.erode(valid.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    inside[[0, -1]] = False
    inside[:, [0, -1]] = False
    thin = _maxima_along_gradient(dx, dy, magnitude, inside & (magnitude >= _CANNY_LOW))
    _, labels = cv2.connectedComponents(thin.astype(np.uint8), connectivity=8)
    strong = np.zeros(int(labels.max()) + 1, np.bool_)
    strong[labels[thin & (magnitude >= _CANNY_HIGH)]] = True
    return np.asarray(strong[labels])


def _blur(image: Float32Array) -> Float32Array:
    size = 2 * _CANNY_RADIUS_PX + 1
    return np.asarray(
        cv2.GaussianBlur(image, (size, size), _CANNY_SIGMA_PX, borderType=cv2.BORDER_CONSTANT),
        np.float32,
    )


def _maxima_along_gradient(
    dx: Float32Array, dy: Float32Array, magnitude: Float32Array, candidates: BoolArray
) -> BoolArray:
    """Keep candidates, none on the border, that no neighbour along their gradient exceeds."""
    v, u = np.nonzero(candidates)
    gx, gy, here = dx[v, u], dy[v, u], magnitude[v, u]
    step_u, step_v = np.where(gx < 0, -1, 1), np.where(gy < 0, -1, 1)
    flat = np.abs(gx) > np.abs(gy)
    # Along the gradient lies a point between the neighbour on its main axis and the diagonal one.
    share = np.minimum(np.abs(gx), np.abs(gy)) / np.maximum(np.abs(gx), np.abs(gy))
    straight_u, straight_v = np.where(flat, step_u, 0), np.where(flat, 0, step_v)
    largest = np.ones(len(v), np.bool_)
    for sign in (1, -1):
        straight = magnitude[v + sign * straight_v, u + sign * straight_u]
        diagonal = magnitude[v + sign * step_v, u + sign * step_u]
        largest &= straight + (diagonal - straight) * share <= here
    thin = np.zeros_like(candidates)
    thin[v[largest], u[largest]] = True
    return thin


@dataclass(frozen=True)
class FlyingPixels:
    """Pixels that float between two surfaces; add them to pool frames.

    Attributes:
        count: Predicted pixels near a depth discontinuity of the reference.
        flying: Those of them that fly.
    """

    count: int = 0
    flying: int = 0

    def __add__(self, other: FlyingPixels) -> FlyingPixels:
        """Pool the pixels of both."""
        return merged(self, other)

    def metrics(self) -> dict[str, float]:
        """Return `flying_pixel_rate`, the share of flying pixels; NaN where there is no edge."""
        return {'flying_pixel_rate': ratio(self.flying, self.count)}


def count_flying_pixels(
    depth_m: Float32Array,
    reference_m: Float32Array,
    *,
    radius_px: int = 3,
    jump: float = 1.1,
    tolerance: float = 0.02,
) -> FlyingPixels:
    """Count pixels that lie on neither of the surfaces that meet at an edge.

    There is no published definition to follow. This one: a predicted pixel counts if the square
    window around it holds a discontinuity of the reference (`depth_edges`), and it flies if its
    depth is between the nearest and the farthest reference of the window but differs from every
    one of them by more than the tolerance. Hence a pixel on the wrong side of an edge does not
    fly, nor does one on a slanted surface, nor one in front of or behind everything.

    Args:
        depth_m: Shape (H, W), metres; NaN or 0 where there is no prediction.
        reference_m: Shape (H, W), metres; NaN or 0 where unknown.
        radius_px: The window has 2 * radius_px + 1 pixels a side.
        jump: Ratio of depths that is a discontinuity; above (1 + tolerance)^2, for a pixel to have
            room between the surfaces.
        tolerance: Share of the reference by which a pixel is off a surface.
    """
    window = np.ones((2 * radius_px + 1,) * 2, np.uint8)
    near_edge = cv2.dilate(depth_edges(reference_m, jump=jump).astype(np.uint8), window) > 0
    near_edge &= has_depth(depth_m)
    known_m = np.where(has_depth(reference_m), reference_m, np.float32(np.nan))
    between = near_edge & (depth_m > cv2.erode(np.nan_to_num(known_m, nan=np.inf), window))
    between &= depth_m < cv2.dilate(np.nan_to_num(known_m), window)
    # Most pixels lie on the surface that the reference has at the very pixel.
    between &= ~(np.abs(depth_m - known_m) <= np.float32(tolerance) * known_m)
    v, u = np.nonzero(between)
    d = depth_m[v, u]
    padded = np.pad(known_m, radius_px, constant_values=np.nan)
    on_any = np.zeros(len(d), np.bool_)
    for dv, du in np.ndindex(window.shape):
        r = padded[v + dv, u + du]
        on_any |= np.abs(d - r) <= np.float32(tolerance) * r
    return FlyingPixels(int(np.count_nonzero(near_edge)), int(np.count_nonzero(~on_any)))
