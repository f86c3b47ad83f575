"""Errors of depth against a reference, over regions and bins."""

from __future__ import annotations

from dataclasses import dataclass, field
import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..data import BoolArray, Float32Array, Float64Array
from ..geometry import fill_nearest
from .accumulate import LOG_BINS, has_depth, log_histogram, merged, quantile, ratio, sum_of_squares

_MM = 1e3  # per metre
_PER_KM = 1e3  # 1/km per 1/m

# Eigen et al., "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", NIPS
# 2014, use 1.25^n; Sajjan et al., "ClearGrasp", ICRA 2020, use 1.05 and 1.10 for manipulation.
_DELTAS = {
    'delta_1_05': 1.05,
    'delta_1_10': 1.10,
    'delta_1_25': 1.25,
    'delta_1_25_2': 1.25**2,
    'delta_1_25_3': 1.25**3,
}

REFERENCE_EDGES_M = (*(0.5 * i for i in range(13)), 8.0, 10.0, math.inf)
"""Bins of error against distance, metres."""
HOLE_DISTANCE_EDGES_PX = (0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5, math.inf)
"""Bins of error against the distance to the nearest measurement, pixels."""
HOLE_AREA_EDGES_PX = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, math.inf)
"""Bins of error against the area of the hole, pixels."""


@dataclass(frozen=True, eq=False)
class DepthErrors:
    """Sums over the pixels of a region, from which its metrics follow; add them to pool pixels.

    A pixel counts towards the errors where prediction and reference both have a depth, and towards
    the coverage where the reference has one. `DepthErrors()` is the sum over no pixels.

    Attributes:
        reference_count: Pixels with a reference.
        count: Those of them with a prediction.
        absolute_m: Sum of |d - r|.
        squared_m2: Sum of (d - r)^2.
        inverse_absolute_per_m: Sum of |1/d - 1/r|.
        inverse_squared_per_m2: Sum of (1/d - 1/r)^2.
        relative: Sum of |d - r| / r.
        within_5_percent: Pixels with |d - r| < 0.05 r.
        within_delta: Shape (5,), pixels with max(d/r, r/d) below 1.05, 1.10, 1.25^1, ^2, ^3.
        histogram: Shape (2, LOG_BINS), counts and sums of |d - r| in logarithmic bins.
    """

    reference_count: int = 0
    count: int = 0
    absolute_m: float = 0.0
    squared_m2: float = 0.0
    inverse_absolute_per_m: float = 0.0
    inverse_squared_per_m2: float = 0.0
    relative: float = 0.0
    within_5_percent: int = 0
    within_delta: Float64Array = field(default_factory=lambda: np.zeros(len(_DELTAS)))
    histogram: Float64Array = field(default_factory=lambda: np.zeros((2, LOG_BINS)))

    def __add__(self, other: DepthErrors) -> DepthErrors:
        """Pool the pixels of both."""
        return merged(self, other)

    def quantile_mm(self, share: float) -> float:
        """Return the absolute error, in millimetres, that this share of the pixels stays within.

        Read off a histogram: within 1.6 %, and exact where the errors around it are equal.
        """
        return quantile(self.histogram, share) * _MM

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name; NaN where there is no pixel.

        - `coverage`: Share of the reference pixels that have a prediction.
        - `rmse_mm`, `mae_mm`, `irmse_per_km`, `imae_per_km`: Uhrig et al., "Sparsity Invariant
          CNNs", 3DV 2017 (the KITTI depth completion benchmark); the last two on inverse depth.
        - `median_mm`: Median of |d - r|, see `quantile_mm`.
        - `absrel`: Mean of |d - r| / r.
        - `delta_1_25`, `delta_1_25_2`, `delta_1_25_3`, `delta_1_05`, `delta_1_10`: Share of pixels
          with max(d/r, r/d) below the threshold. Eigen et al., NIPS 2014, and Sajjan et al.,
          "ClearGrasp", ICRA 2020.
        - `within_5_percent`: Share of pixels with |d - r| < 0.05 r. It differs from `delta_1_05`
          on the near side only, where it allows d > 0.95 r and delta d > r / 1.05 = 0.952 r.
        """
        n = self.count
        return {
            'coverage': ratio(n, self.reference_count),
            'rmse_mm': math.sqrt(ratio(self.squared_m2, n)) * _MM,
            'mae_mm': ratio(self.absolute_m, n) * _MM,
            'median_mm': self.quantile_mm(0.5),
            'irmse_per_km': math.sqrt(ratio(self.inverse_squared_per_m2, n)) * _PER_KM,
            'imae_per_km': ratio(self.inverse_absolute_per_m, n) * _PER_KM,
            'absrel': ratio(self.relative, n),
            'within_5_percent': ratio(self.within_5_percent, n),
            **{name: ratio(k, n) for name, k in zip(_DELTAS, self.within_delta, strict=True)},
        }


def depth_errors(
    depth_m: Float32Array, reference_m: Float32Array, region: BoolArray | None = None
) -> DepthErrors:
    """Sum the errors of a depth image over a region.

    Args:
        depth_m: Shape (H, W), metres; NaN or 0 where there is no prediction.
        reference_m: Shape (H, W), metres; NaN or 0 where the truth is unknown.
        region: Shape (H, W); the whole image where omitted.
    """
    known = has_depth(reference_m)
    if region is not None:
        known &= region
    return _errors_of(depth_m[known], reference_m[known])


def _errors_of(depth_m: Float32Array, reference_m: Float32Array) -> DepthErrors:
    """Sum the errors of a list of pixels whose reference is known."""
    reference_count = len(reference_m)
    predicted = has_depth(depth_m)
    if not predicted.all():
        depth_m, reference_m = depth_m[predicted], reference_m[predicted]
    d, r = depth_m.astype(np.float64), reference_m.astype(np.float64)
    absolute = np.abs(d - r)
    inverse = absolute / (d * r)
    relative = absolute / r
    # max(d/r, r/d) < t, without a second division.
    larger = np.maximum(d, r) / np.minimum(d, r)
    return DepthErrors(
        reference_count=reference_count,
        count=len(d),
        absolute_m=float(absolute.sum()),
        squared_m2=sum_of_squares(absolute),
        inverse_absolute_per_m=float(inverse.sum()),
        inverse_squared_per_m2=sum_of_squares(inverse),
        relative=float(relative.sum()),
        within_5_percent=int(np.count_nonzero(relative < 0.05)),
        within_delta=np.array([np.count_nonzero(larger < t) for t in _DELTAS.values()], float),
        histogram=log_histogram(absolute, absolute),
    )


class Regions(NamedTuple):
    """Where errors are summed separately; the masks need no regard for missing references.

    Attributes:
        observed: Shape (H, W), the sensor measured a depth.
        hole: Shape (H, W), it did not.
        edge: Shape (H, W), near a depth discontinuity of the reference, observed or not.
    """

    observed: BoolArray
    hole: BoolArray
    edge: BoolArray


def depth_edges(reference_m: Float32Array, *, jump: float = 1.05) -> BoolArray:
    """Find the depth discontinuities of a reference.

    A discontinuity lies between two 4-neighbours of which one is more than `jump` times as far as
    the other: the foreground-background relation of Bochkovskii et al., "Depth Pro", 2024, at the
    lowest of its thresholds. A pixel without a reference first takes the depth of its nearest
    neighbour with one, so that a gap does not hide the discontinuity inside it.

    Args:
        reference_m: Shape (H, W), metres; NaN or 0 where unknown.
        jump: Ratio of the two depths.

    Returns:
        Shape (H, W), True for both pixels beside a discontinuity.
    """
    edges = np.zeros(reference_m.shape, np.bool_)
    filled_m = fill_nearest(np.where(has_depth(reference_m), reference_m, np.float32(np.nan)))
    if filled_m is None:
        return edges
    for near, far in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        a, b = filled_m[near], filled_m[far]
        jumps = np.maximum(a, b) > np.minimum(a, b) * np.float32(jump)
        edges[near] |= jumps
        edges[far] |= jumps
    return edges


def regions_of(
    raw_m: Float32Array, reference_m: Float32Array, *, edge_px: float = 3.0, jump: float = 1.05
) -> Regions:
    """Divide an image by what the sensor saw and by where the reference has its edges.

    Args:
        raw_m: Shape (H, W), what the sensor measured, metres; NaN or 0 for no return.
        reference_m: Shape (H, W), metres; NaN or 0 where unknown.
        edge_px: Distance, pixels, from a pixel of `depth_edges` within which `edge` lies.
        jump: Ratio of depths that is an edge.
    """
    observed = has_depth(raw_m)
    edges = depth_edges(reference_m, jump=jump)
    return Regions(observed, ~observed, distance_px(edges) <= edge_px)


def errors_by_region(
    depth_m: Float32Array, reference_m: Float32Array, regions: Regions
) -> dict[str, DepthErrors]:
    """Sum the errors of a depth image over 'all', 'observed', 'hole' and 'edge' pixels."""
    by_region = {
        name: depth_errors(depth_m, reference_m, region)
        for name, region in regions._asdict().items()
    }
    return {'all': by_region['observed'] + by_region['hole'], **by_region}


@dataclass(frozen=True, eq=False)
class BinnedErrors:
    """Errors by some other quantity of a pixel; add them to pool pixels.

    Attributes:
        edges: Ascending, n + 1; bin i holds edges[i] <= quantity < edges[i + 1].
        bins: Errors of the n bins.
    """

    edges: tuple[float, ...]
    bins: tuple[DepthErrors, ...]

    def __add__(self, other: BinnedErrors) -> BinnedErrors:
        """Pool the pixels of both.

        Raises:
            ValueError: If they have other bins.
        """
        if self.edges != other.edges:
            raise ValueError(f'bins differ: {self.edges} and {other.edges}')
        bins = zip(self.bins, other.bins, strict=True)
        return BinnedErrors(self.edges, tuple(a + b for a, b in bins))


def errors_by_bin(
    depth_m: Float32Array,
    reference_m: Float32Array,
    quantity: npt.NDArray[np.floating],
    edges: tuple[float, ...],
) -> BinnedErrors:
    """Sum the errors of a depth image by another quantity of its pixels.

    With `reference_m` itself and `REFERENCE_EDGES_M` this is error against distance; with
    `distance_to_measurement_px` or `hole_area_px` of the raw depth, error against hole size.

    Args:
        depth_m: Shape (H, W), metres; NaN or 0 where there is no prediction.
        reference_m: Shape (H, W), metres; NaN or 0 where unknown.
        quantity: Shape (H, W); pixels outside the bins are left out.
        edges: Ascending edges of the bins; the last may be infinite.
    """
    known = has_depth(reference_m) & (quantity >= edges[0]) & (quantity < edges[-1])
    # An 8-bit key makes the stable sort a radix sort.
    bins = np.searchsorted(edges, quantity[known], 'right').astype(np.uint8)
    order = np.argsort(bins, kind='stable')
    ends = np.searchsorted(bins[order], np.arange(2, len(edges)))
    return BinnedErrors(
        edges,
        tuple(
            _errors_of(d, r)
            for d, r in zip(
                np.split(depth_m[known][order], ends),
                np.split(reference_m[known][order], ends),
                strict=True,
            )
        ),
    )


def distance_to_measurement_px(raw_m: Float32Array) -> Float32Array:
    """Return how deep in a hole every pixel lies.

    Args:
        raw_m: Shape (H, W), metres; NaN or 0 where the sensor saw nothing.

    Returns:
        Shape (H, W), Euclidean distance to the nearest measured pixel, 0 at a measured one;
        infinite if there is none.
    """
    return distance_px(has_depth(raw_m))


def hole_area_px(raw_m: Float32Array) -> Float32Array:
    """Return the size of the hole that every pixel lies in.

    Args:
        raw_m: Shape (H, W), metres; NaN or 0 where the sensor saw nothing.

    Returns:
        Shape (H, W), number of pixels without a measurement that are connected to it through
        their sides (4-connected), 0 at a measured one.
    """
    hole = (~has_depth(raw_m)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(hole, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float32)
    areas[0] = 0
    return np.asarray(areas[labels])


def distance_px(to: BoolArray) -> Float32Array:
    """Return the Euclidean distance of every pixel to the nearest True, infinite if none is."""
    if not to.any():
        return np.full(to.shape, np.inf, np.float32)
    away = (~to).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
