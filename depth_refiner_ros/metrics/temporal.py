"""How steady depth is where nothing moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import BoolArray, Float32Array
from .accumulate import has_depth, merged, ratio

_MM = 1e3  # per metre


@dataclass(frozen=True)
class TemporalNoise:
    """Sums over the static pixels of sequences; add them to pool sequences.

    Attributes:
        transitions: Pairs of a static pixel in one frame and in the next.
        compared: Those with depth in both.
        blinked: Those with depth in exactly one.
        change_m: Sum of |d_t - d_{t-1}| over the compared.
        pixels: Static pixels with depth in at least two frames.
        stddev_m: Sum of their standard deviations over time.
    """

    transitions: int = 0
    compared: int = 0
    blinked: int = 0
    change_m: float = 0.0
    pixels: int = 0
    stddev_m: float = 0.0

    def __add__(self, other: TemporalNoise) -> TemporalNoise:
        """Pool the sequences of both."""
        return merged(self, other)

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name; NaN where there is nothing to compare.

        - `flicker_mm`: Mean |d_t - d_{t-1}|. Of independent Gaussian noise it is 2 / sqrt(pi) =
          1.13 times the standard deviation; what lags or is smoothed over time has less.
        - `temporal_stddev_mm`: Mean over the pixels of the sample standard deviation (n - 1) over
          time; it sees slow drift, too.
        - `blink_rate`: Share of the transitions at which a pixel gains or loses its depth.
        """
        return {
            'flicker_mm': ratio(self.change_m, self.compared) * _MM,
            'temporal_stddev_mm': ratio(self.stddev_m, self.pixels) * _MM,
            'blink_rate': ratio(self.blinked, self.transitions),
        }


class Flicker:
    """Watches a sequence of depth images of one camera; memory does not grow with its length.

    Args:
        static: Shape (H, W), pixels that show something at rest from a camera at rest; all where
            omitted. It must not be derived from the depth under test, whose flicker it would hide.
    """

    def __init__(self, static: BoolArray | None = None) -> None:
        self._static = static
        self._sums = TemporalNoise()
        self._last_m: Float32Array | None = None

    def add(self, depth_m: Float32Array) -> None:
        """Take the next frame: shape (H, W), metres, NaN or 0 where there is no depth.

        Raises:
            ValueError: If its size differs from that of the frames before.
        """
        depth_m = np.where(has_depth(depth_m), depth_m, np.float32(np.nan))
        depth_m = depth_m.ravel() if self._static is None else depth_m[self._static]
        if self._last_m is None:
            self._count = np.zeros(depth_m.shape, np.int32)
            self._first_m = np.full(depth_m.shape, np.nan, np.float32)
            self._offset_m = np.zeros(depth_m.shape)
            self._squared_m2 = np.zeros(depth_m.shape)
        else:
            if depth_m.shape != self._last_m.shape:
                raise ValueError('frames of a sequence must have one size')
            change_m = np.abs(depth_m - self._last_m)
            compared = int(np.count_nonzero(~np.isnan(change_m)))
            blinked = int(np.count_nonzero(np.isnan(depth_m) != np.isnan(self._last_m)))
            total_m = float(np.nansum(change_m, dtype=np.float64))
            self._sums += TemporalNoise(depth_m.size, compared, blinked, total_m)
        self._last_m = depth_m
        # Sums of offsets from a pixel's first depth lose no digits, those of depths would.
        np.copyto(self._first_m, depth_m, where=np.isnan(self._first_m))
        offset_m = np.nan_to_num(depth_m - self._first_m).astype(np.float64)
        self._count += ~np.isnan(depth_m)
        self._offset_m += offset_m
        self._squared_m2 += offset_m * offset_m

    def result(self) -> TemporalNoise:
        """Return the sums over the frames so far."""
        if self._last_m is None:
            return self._sums
        several = self._count > 1
        n, offset_m = self._count[several], self._offset_m[several]
        variance_m2 = (self._squared_m2[several] - offset_m * offset_m / n) / (n - 1)
        stddev_m = np.sqrt(np.maximum(variance_m2, 0))
        return self._sums + TemporalNoise(pixels=len(n), stddev_m=float(stddev_m.sum()))
