"""Recursive temporal filter that averages what stands still and drops what moved.

Standing still is meant in the world: where the camera moves, and it is known how, the filter's
state moves with it.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..data import Float32Array, PinholeCamera
from ..kernels import (
    FloatImage,
    FloatImageOut,
    FloatRow,
    FloatRowOut,
    PlaceImageOut,
    PlaceRow,
    PlaceRowOut,
    kernel,
)
from .denoise import Denoised
from .motion import STANDING_STILL, Motion
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
# What the state holds where a pixel was must be as near to it as `RESET_STDDEVS` allows at most,
# when the state is as uncertain as the pixel.
_CARRY_STDDEVS = np.float32(3 * 2**0.5)
# Less of a pixel than this on its surface says nothing about it.
_LEAST_SHARE = np.float32(0.1)
# Motion is looked for on every fourth pixel of every fourth row.
_COARSE = 4
_NEAREST_M, _FARTHEST_M = np.float32(NEAREST_M), np.float32(FARTHEST_M)
_NAN, _ZERO, _HALF, _ONE = np.float32(np.nan), np.float32(0), np.float32(0.5), np.float32(1)
_TWO, _FOUR = np.float32(2), np.float32(4)
# A pixel without a return is looked up with the depth of another moment.
_BRIDGE_GATE = np.float32(0.03)


class TemporalFilter:
    """Kalman filter of every pixel's depth, whose state stands still in the world.

    Where the camera moved the state is seen from where it is now: every pixel looks up, with its
    own depth, where its point was, and blends the state there between the pixels that lie on its
    surface. A pixel whose point was hidden, or is another one, finds nothing that fits and starts
    anew; so nothing is blended across an edge, and no image is kept but the last.

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
        # Depth and variance; zero depth marks a pixel without a state.
        self._state = np.empty((2, 0, 0), np.float32)
        self._missed_frames = np.empty((0, 0), np.float32)

    def __call__(
        self,
        depth_m: Float32Array,
        stddev_m: Float32Array,
        stamp_ns: int,
        *,
        floor_m: Float32Array | None = None,
        quantization_m: Float32Array | None = None,
        motion: Motion = STANDING_STILL,
        camera: PinholeCamera | None = None,
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
            motion: Of the camera since the frame before. If it is not known the filter empties
                itself.
            camera: Intrinsics; needed where the camera moved.

        Returns:
            Depth and standard deviation, (H, W) float32 metres, NaN where there is none.
        """
        gap_ns = stamp_ns - self._stamp_ns
        same = self._state.shape[1:] == depth_m.shape
        if not same or motion.trouble or not 0 <= gap_ns <= self.max_gap_ns:
            self._state = np.zeros((2, *depth_m.shape), np.float32)
            self._state[1] = 1
            self._missed_frames = np.zeros(depth_m.shape, np.float32)
        elif motion is not STANDING_STILL and camera is not None and min(depth_m.shape) > 1:
            self._carry(depth_m, stddev_m, quantization_m, motion, camera)
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
            self._state[0].ravel(),
            self._state[1].ravel(),
            self._missed_frames.ravel(),
            estimate_m.ravel(),
            estimate_stddev_m.ravel(),
        )
        return Denoised(estimate_m, estimate_stddev_m)

    def _carry(
        self,
        depth_m: Float32Array,
        stddev_m: Float32Array,
        quantization_m: Float32Array | None,
        motion: Motion,
        camera: PinholeCamera,
    ) -> None:
        """Move the state to where the camera is now."""
        width = depth_m.shape[1]
        carried = np.empty((2, *depth_m.shape), np.float32)
        nearest = np.empty(depth_m.shape if self.bridge_frames else (1, width), np.uint32)
        _carry(
            self._state[0].ravel(),
            self._state[1].ravel(),
            depth_m,
            stddev_m,
            np.zeros_like(depth_m) if quantization_m is None else quantization_m,
            motion.depth_variance,
            np.ascontiguousarray(motion.matrix()[:3], np.float32),
            camera.fx,
            camera.fy,
            camera.cx,
            camera.cy,
            np.empty((11, width), np.float32),
            np.empty(width, np.uint32),
            nearest,
            carried[0],
            carried[1],
        )
        self._state = carried
        if self.bridge_frames:
            self._missed_frames = np.asarray(self._missed_frames.ravel()[nearest], np.float32)

    def _drift_variance(self, depth_m: Float32Array, stddev_m: Float32Array) -> Float32Array:
        """Return the squared drift of each pixel's surroundings over the innovation variance."""
        height, width = depth_m.shape
        innovation, both = np.empty((2, -(-height // _COARSE), -(-width // _COARSE)), np.float32)
        _compare(depth_m, stddev_m, self._state[0], self._state[1], innovation, both)
        side = (max(1, round(self.motion_window_px / _COARSE)),) * 2
        mean: Float32Array = np.asarray(
            cv2.blur(innovation, side, borderType=cv2.BORDER_CONSTANT), np.float32
        )
        share = cv2.blur(both, side, borderType=cv2.BORDER_CONSTANT)
        mean /= np.maximum(share, np.float32(0.02))
        mean *= mean
        mean -= np.float32(MEAN_INNOVATION_VARIANCE)
        np.maximum(mean, np.float32(0), out=mean)
        mean *= np.float32(DRIFT_CAUTION)
        drift = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(drift, np.float32)


@kernel
def _compare(
    depth_m: FloatImage,
    stddev_m: FloatImage,
    state_m: FloatImage,
    state_variance: FloatImage,
    innovation: FloatImageOut,
    both: FloatImageOut,
) -> None:
    """Find the innovations in standard deviations, on the coarse grid; 0 where there is none."""
    for row in range(len(innovation)):
        y = _COARSE * row
        for column in range(innovation.shape[1]):
            x = _COARSE * column
            z_m, before_m, scatter_m = depth_m[y, x], state_m[y, x], stddev_m[y, x]
            seen = (before_m > _ZERO) & (z_m > _NEAREST_M) & (z_m < _FARTHEST_M)
            ratio = (z_m - before_m) / math.sqrt(scatter_m * scatter_m + state_variance[y, x])
            ratio = min(max(ratio, -RESET_STDDEVS), RESET_STDDEVS)
            innovation[row, column] = ratio if seen else _ZERO
            both[row, column] = _ONE if seen else _ZERO


@kernel
def _carry(
    state_m: FloatRow,
    state_variance: FloatRow,
    depth_m: FloatImage,
    stddev_m: FloatImage,
    quantization_m: FloatImage,
    motion_variance: FloatImage,
    pose: FloatImage,
    fx: np.float32,
    fy: np.float32,
    cx: np.float32,
    cy: np.float32,
    rows: FloatImageOut,
    corner: PlaceRowOut,
    nearest: PlaceImageOut,
    carried_m: FloatImageOut,
    carried_variance: FloatImageOut,
) -> None:
    last_block = motion_variance.shape[0] - 1
    block_y = depth_m.shape[0] // motion_variance.shape[0]
    height, width = depth_m.shape
    for y in range(height):
        here, near = state_m[y * width : (y + 1) * width], nearest[y % nearest.shape[0]]
        _find(here, depth_m[y], y, height, pose, fx, fy, cx, cy, rows, corner, near)
        _look_up(state_m, state_variance, corner, near, rows)
        if y % block_y == 0:
            _spread(motion_variance[min(y // block_y, last_block)], rows[10])
        _blend(depth_m[y], stddev_m[y], quantization_m[y], rows, carried_m[y], carried_variance[y])


def _find(
    state_m: FloatRow,
    depth_m: FloatRow,
    y: int,
    height: int,
    pose: FloatImage,
    fx: np.float32,
    fy: np.float32,
    cx: np.float32,
    cy: np.float32,
    rows: FloatImageOut,
    corner: PlaceRowOut,
    nearest: PlaceRowOut,
) -> None:
    """Find where a row of points was in the state: its upper left corner, and what is nearest.

    Rows 0 to 4 take the change of depth here with that there, depth here and there, and how far
    behind that corner a point lies.
    """
    width = len(depth_m)
    ray_y = (np.float32(y) - cy) / fy
    ax, bx = pose[0, 0] / fx, pose[0, 1] * ray_y + pose[0, 2] - pose[0, 0] * cx / fx
    ay, by = pose[1, 0] / fx, pose[1, 1] * ray_y + pose[1, 2] - pose[1, 0] * cx / fx
    az, bz = pose[2, 0] / fx, pose[2, 1] * ray_y + pose[2, 2] - pose[2, 0] * cx / fx
    tx, ty, tz = pose[0, 3], pose[1, 3], pose[2, 3]
    last_x, last_y = np.float32(width - 1), np.float32(height - 1)
    per_z, here, there, right, below = rows[0], rows[1], rows[2], rows[3], rows[4]
    us, vs = rows[5], rows[6]
    for x in range(width):
        measured = (depth_m[x] >= _NEAREST_M) & (depth_m[x] <= _FARTHEST_M)
        # Where nothing is seen, what was seen there says where to look.
        here_m = depth_m[x] if measured else state_m[x]
        along = az * np.float32(x) + bz
        there_m = along * here_m + tz
        per_m = _ONE / max(there_m, _NEAREST_M)
        u = ((ax * np.float32(x) + bx) * here_m + tx) * per_m * fx + cx
        v = ((ay * np.float32(x) + by) * here_m + ty) * per_m * fy + cy
        inside = (u >= _ZERO) & (u < last_x) & (v >= _ZERO) & (v < last_y)
        inside &= (here_m > _ZERO) & (there_m > _NEAREST_M)
        us[x], vs[x] = u if inside else _ZERO, v if inside else _ZERO
        here[x] = here_m if inside else _ZERO
        # Nothing fits a depth of nothing.
        there[x] = there_m if inside else _ZERO
    # Apart: so much at once does not fit into a processor's registers.
    for x in range(width):
        per_z[x] = _ONE / max(az * np.float32(x) + bz, _HALF)
        u, v = us[x], vs[x]
        # Neither is negative: cutting off what follows the point is what processors do fastest.
        left, top = np.int32(u), np.int32(v)
        right[x], below[x] = u - np.float32(left), v - np.float32(top)
        corner[x] = top * width + left
        nearest[x] = np.int32(v + _HALF) * width + np.int32(u + _HALF)


def _look_up(
    state_m: FloatRow,
    state_variance: FloatRow,
    corner: PlaceRow,
    nearest: PlaceRow,
    rows: FloatImageOut,
) -> None:
    """Fill rows 5 to 9 with the state at the corners and its variance at the nearest."""
    width = len(corner)
    right_m, below_m, across_m = state_m[1:], state_m[width:], state_m[width + 1 :]
    top_left, top_right, bottom_left, bottom_right = rows[5], rows[6], rows[7], rows[8]
    variance = rows[9]
    for x in range(width):
        place = corner[x]
        top_left[x], top_right[x] = state_m[place], right_m[place]
        bottom_left[x], bottom_right[x] = below_m[place], across_m[place]
    for x in range(width):
        variance[x] = state_variance[nearest[x]]


def _spread(coarse: FloatRow, fine: FloatRowOut) -> None:
    block = len(fine) // len(coarse)
    for number in range(len(coarse)):
        for x in range(number * block, (number + 1) * block):
            fine[x] = coarse[number]
    for x in range(len(coarse) * block, len(fine)):
        fine[x] = coarse[len(coarse) - 1]


def _blend(
    depth_m: FloatRow,
    stddev_m: FloatRow,
    quantization_m: FloatRow,
    rows: FloatImage,
    carried_m: FloatRowOut,
    carried_variance: FloatRowOut,
) -> None:
    """Blend the corners that lie on the pixel's surface."""
    per_z, here, there, rights, belows = rows[0], rows[1], rows[2], rows[3], rows[4]
    top_left, top_right, bottom_left, bottom_right = rows[5], rows[6], rows[7], rows[8]
    variance, grown = rows[9], rows[10]
    for x in range(len(depth_m)):
        there_m, right, below = there[x], rights[x], belows[x]
        measured = (depth_m[x] >= _NEAREST_M) & (depth_m[x] <= _FARTHEST_M)
        gate_m = _CARRY_STDDEVS * stddev_m[x] + quantization_m[x]
        gate_m = gate_m if measured else _BRIDGE_GATE * there_m
        off_0, off_1 = top_left[x] - there_m, top_right[x] - there_m
        off_2, off_3 = bottom_left[x] - there_m, bottom_right[x] - there_m
        share_0 = (_ONE - right) * (_ONE - below) if abs(off_0) < gate_m else _ZERO
        share_1 = right * (_ONE - below) if abs(off_1) < gate_m else _ZERO
        share_2 = (_ONE - right) * below if abs(off_2) < gate_m else _ZERO
        share_3 = right * below if abs(off_3) < gate_m else _ZERO
        share = share_0 + share_1 + share_2 + share_3
        off_m = share_0 * off_0 + share_1 * off_1 + share_2 * off_2 + share_3 * off_3
        known = (share > _LEAST_SHARE) & (here[x] > _ZERO)
        found_m = here[x] + off_m / max(share, _LEAST_SHARE) * per_z[x]
        carried_m[x] = found_m if known else _ZERO
        # What is blended of fewer pixels lies beside them.
        carried_variance[x] = variance[x] * (_TWO - share) + grown[x] if known else _ONE


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
