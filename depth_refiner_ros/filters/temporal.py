"""Recursive temporal filter that averages what stands still and drops what moved."""

from __future__ import annotations

import cv2
import numpy as np

from ..data import Float32Array, UInt8Array
from .denoise import BAND_ROWS, Denoised
from .noise import FARTHEST_M, NEAREST_M

# Huber's constant: 95 % of the efficiency of the mean on Gaussian noise. A pixel that flickers
# between two disparities settles on the one it shows most.
HUBER_STDDEVS = 1.345
# Above the first a pixel's memory fades, above the second it is gone.
FADE_STDDEVS = 2.0
RESET_STDDEVS = 3.0
# A local mean of innovations beyond this is motion: noise, correlated over a few pixels, averages
# out over a window of 31 of them.
MEAN_INNOVATION_VARIANCE = 0.1
# The mean of a window falls short of the motion at the edge of what moves.
DRIFT_CAUTION = 6.0
# Motion is looked for on every fourth pixel of every fourth row.
_COARSE = 4


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
        self._missed_frames = np.empty((0, 0), np.uint8)
        # Work arrays of one band of rows; fresh pages cost more than the arithmetic on them.
        self._work = np.empty((6, 0, 0), np.float32)

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
            self._missed_frames = np.zeros(depth_m.shape, np.uint8)
            self._work = np.empty((6, BAND_ROWS, depth_m.shape[1]), np.float32)
        self._stamp_ns = stamp_ns

        measured: UInt8Array = np.asarray(cv2.inRange(depth_m, NEAREST_M, FARTHEST_M), np.uint8)
        drift = self._drift_variance(depth_m, stddev_m)
        estimate = np.full(depth_m.shape, np.nan, np.float32)
        stddev = np.full(depth_m.shape, np.nan, np.float32)
        for start in range(0, depth_m.shape[0], BAND_ROWS):
            rows = slice(start, start + BAND_ROWS)
            known = self._update(
                rows,
                depth_m[rows],
                stddev_m[rows],
                measured[rows],
                drift[rows],
                None if quantization_m is None else quantization_m[rows],
            )
            cv2.copyTo(self._depth_m[rows], known, estimate[rows])
            left = np.sqrt(self._variance[rows], out=self._work[0, : len(known)])
            if floor_m is not None:
                np.fmax(left, np.fmin(floor_m[rows], stddev_m[rows]), out=left)
            cv2.copyTo(left, known, stddev[rows])
        return Denoised(estimate, stddev)

    def _update(
        self,
        rows: slice,
        depth_m: Float32Array,
        stddev_m: Float32Array,
        measured: UInt8Array,
        drift: Float32Array,
        quantization_m: Float32Array | None,
    ) -> UInt8Array:
        """Update the state of some rows and return where it has a depth."""
        state, state_variance = self._depth_m[rows], self._variance[rows]
        work = self._work[:, : state.shape[0]]
        depth, variance, innovation, innovation_variance, innovation_stddev, surprise = work
        depth.fill(0)
        cv2.copyTo(depth_m, measured, depth)
        variance.fill(1)
        cv2.copyTo(stddev_m, measured, variance)
        variance *= variance

        np.subtract(depth, state, out=innovation)
        np.add(state_variance, variance, out=innovation_variance)
        np.sqrt(innovation_variance, out=innovation_stddev)
        # One step of quantisation is no evidence of motion, however many sigmas it is.
        np.abs(innovation, out=surprise)
        if quantization_m is not None:
            surprise -= quantization_m
        surprise /= innovation_stddev
        moved = (surprise > RESET_STDDEVS) | (state == 0) | (measured == 0)
        surprise -= np.float32(FADE_STDDEVS)
        cv2.threshold(surprise, 0, 0, cv2.THRESH_TOZERO, dst=surprise)
        surprise *= surprise
        surprise += drift

        surprise *= innovation_variance
        surprise += state_variance
        # The gain never falls below 1 / memory_frames.
        least = np.float32(1 / max(self.memory_frames - 1, 1e-3))
        np.multiply(variance, least, out=innovation_stddev)
        prediction = np.maximum(surprise, innovation_stddev, out=surprise)
        np.add(prediction, variance, out=innovation_variance)
        gain = np.divide(prediction, innovation_variance, out=prediction)
        np.sqrt(innovation_variance, out=innovation_stddev)
        innovation_stddev *= np.float32(HUBER_STDDEVS)
        np.minimum(innovation, innovation_stddev, out=innovation)
        np.negative(innovation_stddev, out=innovation_stddev)
        np.maximum(innovation, innovation_stddev, out=innovation)
        innovation *= gain
        known = measured
        if self.bridge_frames:
            missed = self._missed_frames[rows]
            bridged = (measured == 0) & (state > 0) & (missed < self.bridge_frames)
            np.copyto(missed, np.where(bridged, missed + np.uint8(1), np.uint8(0)))
            known = measured | (bridged * np.uint8(255))
            moved &= ~bridged
            innovation[bridged] = 0
            # Nobody looked: the surface may have moved by as much as it was uncertain.
            gain[bridged] = 4 * state_variance[bridged]
        np.add(state, innovation, out=state)
        np.multiply(gain, variance, out=state_variance)
        cv2.copyTo(depth, moved.view(np.uint8), state)
        cv2.copyTo(variance, moved.view(np.uint8), state_variance)
        return known

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
