"""What tells a depth camera's images from a perfect camera's, as samples of distributions.

The same measurements are made on real and on simulated images; `wasserstein` says how far apart
they are. None needs a reference, except `fattening`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Samples = npt.NDArray[np.float64]

UNITS: Mapping[str, str] = {
    'hole_share': '1',
    'hole_distance_px': 'px',
    'hole_area_log10_px': 'log10 px',
    'noise_per_km': '1/km of inverse depth',
    'noise_correlation_1px': '1',
    'noise_correlation_2px': '1',
    'noise_correlation_4px': '1',
    'near_left_gap_px': 'px',
    'near_right_gap_px': 'px',
    'flying_px': 'px',
    'raggedness_px': 'px',
    'temporal_noise_per_km': '1/km of inverse depth',
    'temporal_correlation_1px': '1',
    'temporal_correlation_4px': '1',
    'repeating_share': '1',
    'flicker_share': '1',
    'fattening_px': 'px',
}
"""Every statistic and its unit."""

_WINDOW_PX = 9
_SMOOTH_PER_M = 0.03
"""Pixels that differ more in inverse depth from the mean around them lie on no smooth surface."""
_STABLE_PER_M = 0.02
_EDGE_PER_M = 0.08
_WIDEST_EDGE_PX = 60


def inverse_depth(depth_m: Image) -> Image:
    """Return 1 / depth, 0 where there is no return."""
    valid = np.isfinite(depth_m) & (depth_m > 0)
    return np.where(valid, 1 / np.where(valid, depth_m, 1), 0).astype(np.float32)


def holes(depth_m: Image) -> dict[str, Samples]:
    """Share, areas, and the distance of every hole pixel to the nearest measurement."""
    hole = ~(np.isfinite(depth_m) & (depth_m > 0))
    result = {'hole_share': np.array([hole.mean()])}
    mask = hole.astype(np.uint8)
    if hole.any() and not hole.all():
        distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
        result['hole_distance_px'] = distance[hole].astype(np.float64)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        result['hole_area_log10_px'] = np.log10(stats[1:, cv2.CC_STAT_AREA])
    return result


def surface_noise(depth_m: Image) -> dict[str, Samples]:
    """Scatter about the mean of a 9x9 window, and how it correlates with distance.

    The mean of a plane's inverse depths around a pixel is the pixel's own, so on planes what
    remains is noise, less what is smoother than the window.
    """
    residual, smooth = _residual(depth_m)
    result: dict[str, Samples] = {}
    if smooth.sum() < 100:
        return result
    local = _local_stddev(residual)
    result['noise_per_km'] = local[smooth].astype(np.float64)[::7] * 1000
    for lag in (1, 2, 4):
        result[f'noise_correlation_{lag}px'] = _correlation(residual, smooth, lag)
    return result


def noise_by_distance(
    depth_m: Image, stddev_m: Image, edges_m: npt.NDArray[np.float64]
) -> Samples:
    """Median standard deviation in bins of distance, metres; NaN where a bin is nearly empty."""
    result = np.full(len(edges_m) - 1, np.nan)
    for number, (low, high) in enumerate(pairwise(edges_m)):
        inside = stddev_m[(depth_m >= low) & (depth_m < high) & np.isfinite(stddev_m)]
        if inside.size > 200:
            result[number] = np.median(inside)
    return result


def surface_stddev_m(depth_m: Image) -> Image:
    """Scatter in a 9x9 window as metres, NaN where there is no smooth surface."""
    residual, smooth = _residual(depth_m)
    local = _local_stddev(residual)
    return np.where(smooth, local * depth_m * depth_m, np.nan).astype(np.float32)


def _local_stddev(residual: Image) -> Image:
    # OpenCV's running sums leave small negative variances.
    variance = cv2.blur(residual * residual, (_WINDOW_PX, _WINDOW_PX))
    return np.sqrt(np.maximum(variance, 0))


def _residual(depth_m: Image) -> tuple[Image, Mask]:
    inverse = inverse_depth(depth_m)
    valid = inverse > 0
    window = np.ones((_WINDOW_PX, _WINDOW_PX), np.uint8)
    whole = cv2.erode(valid.astype(np.uint8), window, borderValue=0) > 0
    residual = inverse - cv2.blur(inverse, (_WINDOW_PX, _WINDOW_PX))
    rough = (np.abs(residual) > _SMOOTH_PER_M) & whole | ~whole
    smooth = cv2.dilate(rough.astype(np.uint8), window) == 0
    return np.where(whole, residual, 0).astype(np.float32), smooth


def _correlation(residual: Image, smooth: Mask, lag: int) -> Samples:
    """Along rows and columns, averaged."""
    values = []
    for first, second in (
        (np.s_[:, :-lag], np.s_[:, lag:]),
        (np.s_[:-lag], np.s_[lag:]),
    ):
        both = smooth[first] & smooth[second]
        a, b = residual[first][both].astype(np.float64), residual[second][both].astype(np.float64)
        scale = np.sqrt((a * a).mean() * (b * b).mean()) if both.any() else 0.0
        values.append((a * b).mean() / scale if scale > 0 else np.nan)
    return np.array([np.nanmean(values)])


class Edges(NamedTuple):
    """Places where a row of an image steps from one surface to another.

    Attributes:
        row: (N,) where.
        left: (N,) last column of the surface on the left.
        right: (N,) first column of the surface on the right.
        near_left: (N,) whether the surface on the left is the nearer one.
        gap_px: (N,) columns without a measurement in between.
        flying_px: (N,) columns that report something in between.
    """

    row: npt.NDArray[np.intp]
    left: npt.NDArray[np.intp]
    right: npt.NDArray[np.intp]
    near_left: Mask
    gap_px: npt.NDArray[np.intp]
    flying_px: npt.NDArray[np.intp]


def find_edges(depth_m: Image) -> Edges:
    """Find steps between two surfaces of which three pixels in a row are seen on either side."""
    inverse = inverse_depth(depth_m)
    valid = inverse > 0
    height, width = inverse.shape
    calm = np.zeros((height, width + 1), np.bool_)  # [u]: u - 1 and u are of one surface
    step = np.abs(np.diff(inverse, axis=1)) < _STABLE_PER_M
    calm[:, 1:-1] = step & valid[:, 1:] & valid[:, :-1]
    ends = np.zeros((height, width), np.bool_)
    starts = np.zeros((height, width), np.bool_)
    ends[:, 2:] = calm[:, 2:width] & calm[:, 1 : width - 1]
    starts[:, :-2] = calm[:, 1 : width - 1] & calm[:, 2:width]
    last = ends & ~calm[:, 1:]

    column = np.where(starts, np.arange(width), width)
    following = np.full((height, width + 1), width)
    following[:, :-1] = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    row, left = np.nonzero(last)
    right = following[row, left + 1]
    kept = (right < width) & (right - left <= _WIDEST_EDGE_PX)
    row, left, right = row[kept], left[kept], right[kept]
    jump = inverse[row, left] - inverse[row, right]
    kept = np.abs(jump) > _EDGE_PER_M
    row, left, right, jump = row[kept], left[kept], right[kept], jump[kept]
    counted = np.zeros((height, width + 1), np.intp)
    np.cumsum(valid, axis=1, out=counted[:, 1:])
    flying = counted[row, right] - counted[row, left + 1]
    return Edges(row, left, right, jump > 0, right - left - 1 - flying, flying)


def edge_profiles(depth_m: Image) -> dict[str, Samples]:
    """Gaps on either side of near surfaces, flying pixels, and how ragged outlines are."""
    edges = find_edges(depth_m)
    if edges.row.size < 20:
        return {}
    result = {
        'near_left_gap_px': edges.gap_px[edges.near_left].astype(np.float64),
        'near_right_gap_px': edges.gap_px[~edges.near_left].astype(np.float64),
        'flying_px': edges.flying_px.astype(np.float64),
    }
    result['raggedness_px'] = _raggedness(edges, depth_m.shape)
    return {name: samples for name, samples in result.items() if samples.size}


def _raggedness(edges: Edges, shape: tuple[int, ...]) -> Samples:
    """Second differences, from row to row, of where the outlines of near surfaces are."""
    second = []
    for side, columns in ((edges.near_left, edges.left), (~edges.near_left, edges.right)):
        at = np.zeros((shape[0] + 2, shape[1] + 8), np.bool_)
        at[edges.row[side] + 1, columns[side] + 4] = True
        row, column = np.nonzero(at)
        total = np.zeros(row.size)
        found = np.ones(row.size, np.bool_)
        for neighbour in (-1, 1):
            offset = np.full(row.size, 9)
            for shift in (4, -4, 3, -3, 2, -2, 1, -1, 0):
                offset[at[row + neighbour, column + shift]] = shift
            found &= offset < 9
            total += offset
        second.append(np.abs(total[found]))
    return np.concatenate(second)


def over_time(frames_m: Sequence[Image], still: Mask) -> dict[str, Samples]:
    """What changes between frames of a camera and a scene that do not move.

    Args:
        frames_m: At least 5.
        still: (H, W), where nothing moves.
    """
    inverse = np.stack([inverse_depth(frame) for frame in frames_m])
    valid = inverse > 0
    always = valid.all(axis=0) & still
    result: dict[str, Samples] = {}
    changed = (valid[1:] ^ valid[:-1])[:, still]
    result['flicker_share'] = changed.mean(axis=1)
    mean = inverse.mean(axis=0)
    change = np.where(always, inverse - mean, 0).astype(np.float32)
    calm = always & (np.abs(change).max(axis=0) < _SMOOTH_PER_M)
    scatter = change.std(axis=0, ddof=1)
    result['temporal_noise_per_km'] = scatter[calm].astype(np.float64)[::7] * 1000
    for lag in (1, 4):
        result[f'temporal_correlation_{lag}px'] = np.concatenate(
            [_correlation(image, calm, lag) for image in change]
        )
    # The mean image keeps what repeats; what changes it averages away, all but 1 / frames.
    depth_m = np.where(mean > 0, 1 / np.where(mean > 0, mean, 1), np.nan).astype(np.float32)
    residual, smooth = _residual(np.where(always, depth_m, np.nan).astype(np.float32))
    smooth &= calm
    if smooth.sum() > 100:
        blurred = [image - cv2.blur(image, (_WINDOW_PX, _WINDOW_PX)) for image in change]
        new = float(np.mean([np.square(image[smooth]).mean() for image in blurred]))
        new *= len(frames_m) / (len(frames_m) - 1)
        old = max(float(np.square(residual[smooth]).mean()) - new / len(frames_m), 0.0)
        result['repeating_share'] = np.array([old / max(old + new, 1e-18)])
    return result


def fattening(depth_m: Image, truth_m: Image) -> dict[str, Samples]:
    """How far the outlines of near surfaces are outside their true place, px.

    Args:
        depth_m: (H, W) the camera's.
        truth_m: (H, W) of the same view.
    """
    seen, true = find_edges(depth_m), find_edges(truth_m)
    inverse, truth = inverse_depth(depth_m), inverse_depth(truth_m)
    shifts = []
    for near_left in (True, False):
        a, b = seen.near_left == near_left, true.near_left == near_left
        seen_at = (seen.left if near_left else seen.right)[a]
        true_at = (true.left if near_left else true.right)[b]
        at = np.full(depth_m.shape, -1)
        at[seen.row[a], seen_at] = seen_at
        padded = np.pad(at, ((0, 0), (12, 12)), constant_values=-1)
        row = true.row[b]
        best = np.full(row.size, 99)
        for shift in sorted(range(-12, 13), key=abs, reverse=True):
            found = padded[row, true_at + 12 + shift]
            nearer = np.maximum(found, 0)
            same = np.abs(inverse[row, nearer] - truth[row, true_at]) < _EDGE_PER_M / 2
            best = np.where((found >= 0) & same, shift, best)
        outward = best if near_left else -best
        shifts.append(outward[np.abs(best) <= 12])
    samples = np.concatenate(shifts).astype(np.float64)
    return {'fattening_px': samples} if samples.size else {}


def wasserstein(first: Samples, second: Samples, quantiles: int = 1000) -> float:
    """Return the first Wasserstein distance of two samples, in their unit; NaN if one is empty.

    Computed as the mean difference of the quantile functions, at that many points.
    """
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if not (first.size and second.size):
        return float('nan')
    at = (np.arange(quantiles) + 0.5) / quantiles
    apart = np.quantile(first, at) - np.quantile(second, at)
    return float(np.abs(apart).mean())


def measured(
    frames_m: Sequence[Image], still: Mask | None = None, truths_m: Sequence[Image] = ()
) -> dict[str, Samples]:
    """Measure everything that the frames allow.

    Args:
        frames_m: (H, W) each.
        still: Where nothing moves, if the frames follow each other and the camera rests.
        truths_m: True depths of the first frames.
    """
    pooled: dict[str, list[Samples]] = {}
    for number, frame in enumerate(frames_m):
        parts = [holes(frame), surface_noise(frame), edge_profiles(frame)]
        if number < len(truths_m):
            parts.append(fattening(frame, truths_m[number]))
        for part in parts:
            for name, samples in part.items():
                pooled.setdefault(name, []).append(samples)
    if still is not None and len(frames_m) >= 5:
        for name, samples in over_time(frames_m, still).items():
            pooled.setdefault(name, []).append(samples)
    return {name: np.concatenate(parts) for name, parts in pooled.items()}
