"""Whether a published standard deviation agrees with the errors."""

from __future__ import annotations

from dataclasses import dataclass, field
import math
from typing import NamedTuple

import numpy as np

from ..data import BoolArray, Float32Array, Float64Array
from .accumulate import (
    LOG_BINS,
    has_depth,
    log_histogram,
    merged,
    ratio,
    sum_of_squares,
    trapezoid,
)

# Shares of the pixels that are removed, most doubtful first.
_REMOVED = np.arange(100) / 100


class Sparsification(NamedTuple):
    """Error of what is left when the most doubtful pixels are removed.

    Attributes:
        removed: Shape (100,), share of the pixels removed: 0, 0.01, ... 0.99.
        by_stddev: Shape (100,), error of the rest when the largest standard deviations go first,
            as a share of the error of all.
        oracle: Shape (100,), the same when the largest errors go first: no order is better.
    """

    removed: Float64Array
    by_stddev: Float64Array
    oracle: Float64Array

    @property
    def ause(self) -> float:
        """Area between the two curves: 0 for a perfect order, whatever the scale of the stddev."""
        return trapezoid(self.by_stddev - self.oracle, self.removed)


@dataclass(frozen=True, eq=False)
class StddevCalibration:
    """Sums over pixels with a depth, a standard deviation and a reference; add them to pool.

    Attributes:
        predicted_count: Pixels with depth and reference.
        count: Those of them with a standard deviation above 0.
        within_1_sigma: Pixels with |error| <= stddev.
        within_2_sigma: Pixels with |error| <= 2 stddev.
        gaussian_nats: Sum of the negative log likelihoods under a Gaussian.
        laplace_nats: Likewise under a Laplace distribution of the same standard deviation.
        by_stddev: Shape (3, LOG_BINS), count, sum of |error| and of error^2 by standard deviation.
        by_error: Shape (3, LOG_BINS), the same by |error|.
    """

    predicted_count: int = 0
    count: int = 0
    within_1_sigma: int = 0
    within_2_sigma: int = 0
    gaussian_nats: float = 0.0
    laplace_nats: float = 0.0
    by_stddev: Float64Array = field(default_factory=lambda: np.zeros((3, LOG_BINS)))
    by_error: Float64Array = field(default_factory=lambda: np.zeros((3, LOG_BINS)))

    def __add__(self, other: StddevCalibration) -> StddevCalibration:
        """Pool the pixels of both."""
        return merged(self, other)

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name; NaN where there is no pixel.

        - `stddev_coverage`: Share of the predicted pixels that have a standard deviation above 0.
        - `within_1_sigma`, `within_2_sigma`: Share of the errors within 1 and 2 standard
          deviations: 0.683 and 0.954 if errors are Gaussian, 0.757 and 0.941 if Laplace.
        - `nll_gaussian`, `nll_laplace`: Mean negative log likelihood of the error in metres, nats.
          Only differences between methods on the same pixels mean something.
        - `ause_mae`, `ause_rmse`: `sparsification`'s area on either error.
        """
        n = self.count
        return {
            'stddev_coverage': ratio(n, self.predicted_count),
            'within_1_sigma': ratio(self.within_1_sigma, n),
            'within_2_sigma': ratio(self.within_2_sigma, n),
            'nll_gaussian': ratio(self.gaussian_nats, n),
            'nll_laplace': ratio(self.laplace_nats, n),
            'ause_mae': self.sparsification().ause,
            'ause_rmse': self.sparsification(squared=True).ause,
        }

    def sparsification(self, *, squared: bool = False) -> Sparsification:
        """Return the sparsification curves of MAE, or of RMSE if `squared`.

        Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow", ECCV
        2018; both curves are divided by the error of all pixels. Steps and the trapezoidal area
        are those of Gustafsson et al., "Evaluating Scalable Bayesian Deep Learning Methods for
        Robust Computer Vision", CVPR Workshops 2020. Pixels whose standard deviations differ by
        less than a bin, 1.6 %, count as tied, and ties are removed in random order on average.
        """
        by_stddev = self._remaining_error(self.by_stddev, squared=squared)
        oracle = self._remaining_error(self.by_error, squared=squared)
        return Sparsification(_REMOVED, by_stddev, oracle)

    @staticmethod
    def _remaining_error(histogram: Float64Array, *, squared: bool) -> Float64Array:
        counts, sums = histogram[0], histogram[2 if squared else 1]
        if not counts.any():
            return np.full(len(_REMOVED), math.nan)
        below, sums_below = np.cumsum(counts), np.cumsum(sums)
        kept = (1 - _REMOVED) * below[-1]
        mean = np.interp(kept, [0, *below], [0, *sums_below]) / kept
        if squared:
            mean = np.sqrt(mean)
        return mean / mean[0] if mean[0] > 0 else np.ones(len(_REMOVED))


def stddev_calibration(
    depth_m: Float32Array,
    stddev_m: Float32Array,
    reference_m: Float32Array,
    region: BoolArray | None = None,
) -> StddevCalibration:
    """Compare the errors of a depth image with the standard deviations published with it.

    Args:
        depth_m: Shape (H, W), metres; NaN or 0 where there is no prediction.
        stddev_m: Shape (H, W), metres; NaN or 0 where none is published.
        reference_m: Shape (H, W), metres; NaN or 0 where unknown.
        region: Shape (H, W); the whole image where omitted.
    """
    predicted = has_depth(depth_m) & has_depth(reference_m)
    if region is not None:
        predicted &= region
    both = predicted & has_depth(stddev_m)
    sigma = stddev_m[both].astype(np.float64)
    error = np.abs(depth_m[both].astype(np.float64) - reference_m[both])
    sigmas = error / sigma
    log_sigma = float(np.log(sigma).sum())
    # Laplace of scale sigma / sqrt(2): log(2 b) + |e| / b.
    return StddevCalibration(
        predicted_count=int(np.count_nonzero(predicted)),
        count=len(sigma),
        within_1_sigma=int(np.count_nonzero(sigmas <= 1)),
        within_2_sigma=int(np.count_nonzero(sigmas <= 2)),
        gaussian_nats=0.5 * (len(sigma) * math.log(math.tau) + sum_of_squares(sigmas)) + log_sigma,
        laplace_nats=len(sigma) * math.log(2) / 2 + log_sigma + math.sqrt(2) * float(sigmas.sum()),
        by_stddev=log_histogram(sigma, error, error * error),
        by_error=log_histogram(error, error, error * error),
    )
