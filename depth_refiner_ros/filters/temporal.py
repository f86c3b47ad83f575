"""Recursive temporal filter that averages what stands still and drops what moved."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..data import Float32Array
from ..kernels import FloatRow, FloatRowOut, kernel
from .denoise import Denoised
from .noise import FARTHEST_M, NEAREST_M

# Huber's constant: 95 % of the efficiency of the mean on Gaussian noise. A pixel that flickers
# between two disparities settles on the one it shows most.
HUBER_STDDEVS = np.float32(1.345)
# Above the first a pixel's memory fades, above the second it is gone.
FADE_STDDEVS = np.float32(2)
RESET_STDDEVS = np.float32(3)
# A local mean of innovations beyond this is motion: noise, correlated over a few pixels, averages
# out over a window of 31 of them.
MEAN_INNOVATION_VARIANCE = 0.1
# The mean of a window falls short of the motion at the edge of what moves.
DRIFT_CAUTION = 6.0
# Motion is looked for on every fourth pixel of every fourth row.
_COARSE = 4
_NEAREST_M, _FARTHEST_M = np.float32(NEAREST_M), np.float32(FARTHEST_M)
_NAN, _ZERO, _ONE, _FOUR = np.float32(np.nan), np.float32(0), np.float32(1), np.float32(4)


class TemporalFilter:
    """Kalman filter of every pixel's depth, whose state stands still.

    What moved shows in two ways. A pixel whose innovation no noise explains is reset to its
    measurement at once. A window of pixels whose innovations share a sign is on a surface that
    shifts by less than its noise, as when the camera moves: their mean is taken as the drift and
    raises the variance of the prediction by its square (covariance matching, Mehra 1972), so the
    filter weighs old and new by what each is worth. Innovations are clipped as in Huber's
    M-estimator.

    Not thread safe. The same frames give the same bits.
    """

    def __init__(
        self,
        *,
        memory_frames: float = 30,
        motion_window_px: int = 31,
        bridge_frames: int = 0,
        max_gap_s: float = 0.5,
    ) -> None:
        """Configure an empty filter.

        Args:
            memory_frames: A static pixel is averaged over at most this many frames. May be changed
                between two calls.
            motion_window_px: Side of the window in which innovations must average out. Smaller
                sees the slow motion of smaller objects and averages less.
            bridge_frames: A pixel that loses its return keeps its depth for this many frames.
            max_gap_s: A longer time between two frames empties the filter.

        Raises:
            ValueError: If a parameter is out of its range.
        """
        if memory_frames < 1 or motion_window_px < 1 or bridge_frames < 0 or max_gap_s <= 0:
            raise ValueError(
                'memory_frames and motion_window_px must be 1 or more, bridge_frames 0 or more '
                'and max_gap_s above 0; they are '
                f'{memory_frames}, {motion_window_px}, {bridge_frames} and {max_gap_s}'
            )
        self.memory_frames = memory_frames
        self.motion_window_px = motion_window_px
        self.bridge_frames = bridge_frames
        self.max_gap_ns = round(max_gap_s * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen so far."""
        self._stamp_ns = 0
        # Zero depth marks a pixel without a state.
        self._depth_m = np.empty((0, 0), np.float32)
        self._variance = np.empty((0, 0), np.float32)
        self._missed_frames = np.empty((0, 0), np.float32)

    def __call__(
        self,
        depth_m: Float32Array,
        stddev_m: Float32Array,
        stamp_ns: int,
        *,
        floor_m: Float32Array | None = None,
        quantization_m: Float32Array | None = None,
    ) -> Denoised:
        """Fold a frame into the state and return the state where the frame has a return.

        The filter empties itself first when the image size changed, when time ran backwards and
        when more than `max_gap_s` passed.

        Args:
            depth_m: (H, W) float32 metres, NaN where there is no return.
            stddev_m: (H, W) float32 metres, standard deviation of these readings.
            stamp_ns: Time of the frame.
            floor_m: (H, W) float32 metres, standard deviation that no averaging removes.
            quantization_m: (H, W) float32 metres between two depths the sensor can report. One
                step of it is never taken for motion.

        Returns:
            Depth and standard deviation, (H, W) float32 metres, NaN where there is none.
        """
        gap_ns = stamp_ns - self._stamp_ns
        if self._depth_m.shape != depth_m.shape or not 0 <= gap_ns <= self.max_gap_ns:
            self._depth_m = np.zeros(depth_m.shape, np.float32)
            self._variance = np.ones(depth_m.shape, np.float32)
            self._missed_frames = np.zeros(depth_m.shape, np.float32)
        self._stamp_ns = stamp_ns
        nothing = np.zeros_like(depth_m) if floor_m is None or quantization_m is None else depth_m
        estimate_m, estimate_stddev_m = np.empty((2, *depth_m.shape), np.float32)
        _update(
            depth_m.ravel(),
            stddev_m.ravel(),
            (nothing if floor_m is None else floor_m).ravel(),
            (nothing if quantization_m is None else quantization_m).ravel(),
            self._drift_variance(depth_m, stddev_m).ravel(),
            1 / max(self.memory_frames - 1, 1e-3),
            self.bridge_frames,
            self._depth_m.ravel(),
            self._variance.ravel(),
            self._missed_frames.ravel(),
            estimate_m.ravel(),
            estimate_stddev_m.ravel(),
        )
        return Denoised(estimate_m, estimate_stddev_m)

    def _drift_variance(self, depth_m: Float32Array, stddev_m: Float32Array) -> Float32Array:
        """Return the squared drift of each pixel's surroundings over the innovation variance."""
        height, width = depth_m.shape
        coarse = (slice(None, None, _COARSE), slice(None, None, _COARSE))
        state, depth = self._depth_m[coarse], depth_m[coarse]
        both = (state > 0) & (depth > NEAREST_M) & (depth < FARTHEST_M)
        variance = np.where(both, stddev_m[coarse], np.float32(1)) ** 2 + self._variance[coarse]
        innovation = np.where(both, depth - state, np.float32(0)) / np.sqrt(variance)
        np.clip(innovation, -RESET_STDDEVS, RESET_STDDEVS, out=innovation)
        side = (max(1, round(self.motion_window_px / _COARSE)),) * 2
        mean: Float32Array = np.asarray(
            cv2.blur(innovation, side, borderType=cv2.BORDER_CONSTANT), np.float32
        )
        share = cv2.blur(both.astype(np.float32), side, borderType=cv2.BORDER_CONSTANT)
        mean /= np.maximum(share, np.float32(0.02))
        mean *= mean
        mean -= np.float32(MEAN_INNOVATION_VARIANCE)
        np.maximum(mean, np.float32(0), out=mean)
        mean *= np.float32(DRIFT_CAUTION)
        drift = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(drift, np.float32)


@kernel
def _update(
    depth_m: FloatRow,
    stddev_m: FloatRow,
    floor_m: FloatRow,
    quantization_m: FloatRow,
    drift: FloatRow,
    least_gain: np.float32,
    bridge_frames: np.float32,
    state_m: FloatRowOut,
    state_variance: FloatRowOut,
    missed_frames: FloatRowOut,
    estimate_m: FloatRowOut,
    estimate_stddev_m: FloatRowOut,
) -> None:
    for x in range(len(depth_m)):
        measured = (depth_m[x] >= _NEAREST_M) & (depth_m[x] <= _FARTHEST_M)
        z_m = depth_m[x] if measured else _ZERO
        variance = stddev_m[x] * stddev_m[x] if measured else _ONE
        before_m, before_variance = state_m[x], state_variance[x]

        innovation_m = z_m - before_m
        innovation_variance = before_variance + variance
        # One step of quantisation is no evidence of motion, however many sigmas it is.
        surprise = abs(innovation_m) - quantization_m[x]
        surprise /= math.sqrt(innovation_variance)
        moved = (surprise > RESET_STDDEVS) | (before_m == _ZERO) | (not measured)
        faded = max(surprise - FADE_STDDEVS, _ZERO)
        motion = (faded * faded + drift[x]) * innovation_variance
        # The gain never falls below 1 / memory_frames.
        prediction = max(motion + before_variance, variance * least_gain)
        gain = prediction / (prediction + variance)
        most_m = HUBER_STDDEVS * math.sqrt(prediction + variance)
        after_m = before_m + gain * min(max(innovation_m, -most_m), most_m)
        after_variance = gain * variance
        after_m = z_m if moved else after_m
        after_variance = variance if moved else after_variance

        bridged = (not measured) & (before_m > _ZERO) & (missed_frames[x] < bridge_frames)
        missed_frames[x] = missed_frames[x] + _ONE if bridged else _ZERO
        state_m[x] = before_m if bridged else after_m
        # Nobody looked: the surface may have moved by as much as it was uncertain.
        state_variance[x] = _FOUR * before_variance if bridged else after_variance
    for x in range(len(depth_m)):
        left_m, least_m = math.sqrt(state_variance[x]), min(floor_m[x], stddev_m[x])
        left_m = least_m if least_m > left_m else left_m
        estimate_m[x] = state_m[x] if state_m[x] > _ZERO else _NAN
        estimate_stddev_m[x] = left_m if state_m[x] > _ZERO else _NAN
