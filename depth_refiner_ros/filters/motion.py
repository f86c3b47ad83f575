"""Estimates how a depth camera moved between two frames."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from ..data import BoolArray, Float32Array, Float64Array, PinholeCamera, UInt8Array
from ..kernels import (
    ByteImageOut,
    ByteRowOut,
    FloatImage,
    FloatImageOut,
    FloatImages,
    FloatImagesOut,
    FloatRow,
    FloatRowOut,
    PlaceRow,
    PlaceRowOut,
    kernel,
)
from .noise import FARTHEST_M, NEAREST_M, SensorNoise

# Frames are aligned at about this width: a quarter of VGA.
_WIDTH_PX = 160
# Pixels whose depths differ by more than this factor are not of one surface.
_SAME_SURFACE = np.float32(1.03)
# Neighbours farther from the mean of theirs than this share of its inverse depth lie at an edge.
_CURVED, _JUMP = np.float32(0.03), np.float32(0.06)
# The surface under a pixel is looked for this far to either side.
_NORMAL_PX = 2
# Where a matching window sees a surface, in reduced pixels: half a pixel of a structured-light
# camera (Nguyen et al., 3DIMPVT 2012, find 0.8 for one pixel at an edge).
_LATERAL_PX = np.float32(0.2)
# Residuals beyond this many standard deviations are of what moves, is hidden or is wrong: Tukey's
# biweight, 95 % efficient on Gaussian noise. The wide ones find the way back.
_GATE_STDDEVS, _WIDE_GATES_STDDEVS = 4.685, (20.0, 8.0)
_ITERATIONS, _MORE_ITERATIONS, _ROUGH = 6, 12, 2
# Parts of the view, this wide in reduced pixels, move by themselves where more misfits.
_PART_PX, _MISFIT_SHARE, _MISFIT = 11, 0.2, 255
# Below the first another motion is looked for; it must fit by so much more.
_GOOD_FIT, _CLEARLY_BETTER = 0.9, 0.2
# A step that is smaller is the last one.
_STEP_M, _STEP_RAD = 1e-4, 5e-5
# How much the motion may change from one frame to the next (one standard deviation): a hand's.
_CHANGE_M, _CHANGE_RAD = 0.005, 0.005
# By so much more where the view does not fit what the motion was: a jolt.
_WIDE = 10.0
# Neighbouring residuals are not independent, and normals are noisy, too: measured in simulation.
_INFORMATION_SHARE = 0.1
# A direction is determined where the depth says this much more about it than the prior.
_SAYS_MORE = 10.0
_UNSETTLED_M = 2e-3
# A step may be continued over this many gaps: of frames that did not come.
_LONGEST_STEP = 4.0
# Less than this in the full image is no motion, or not yet enough of it.
_STILL_PX, _FLOW_STEP = 0.3, 8
# A motion that fits so much less of the view than none does is wrong.
_WORSE = 0.05
# What odometry of wheels says from one frame to the next.
_TF_COVARIANCE = np.diag([1e-3**2] * 3 + [5e-4**2] * 3)
_FEWEST_POINTS = 300
_LEAST_OVERLAP, _LEAST_FIT = 0.4, 0.5
_NEAREST_M, _FARTHEST_M = np.float32(NEAREST_M), np.float32(FARTHEST_M)
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_CLOSEST_M, _GRAZING = np.float32(0.05), np.float32(0.1)
_SUMS = 30
_NOTHING = np.zeros((1, 1), np.float32)


class Motion(NamedTuple):
    """Where a camera sits in the frame of an earlier one.

    Attributes:
        rotation: (3, 3), earlier from present.
        translation_m: (3,), the present camera in the earlier one's frame.
        covariance: (6, 6) of translation (m) and rotation (rad) about the earlier camera's axes,
            in the order of geometry_msgs/PoseWithCovariance.
        undetermined: Of the six directions, those that the depth says little about: three facing
            a plane, one in a corridor.
        trouble: Why the motion is not known, if so; rotation and translation are no more than a
            guess then.
        depth_variance: (h, w) float32 square metres, what the covariance leaves open of the depth
            of a surface, on the reduced image of `surface`.
        source: What says so: depth or tf.
    """

    rotation: Float64Array
    translation_m: Float64Array
    covariance: Float64Array
    undetermined: int = 0
    trouble: str = ''
    depth_variance: Float32Array = _NOTHING
    source: str = 'depth'

    def matrix(self) -> Float64Array:
        """Return it as a (4, 4) matrix."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.rotation, self.translation_m
        return pose


STANDING_STILL = Motion(np.eye(3), np.zeros(3), np.zeros((6, 6)))
"""No motion at all: what stood at a pixel stands there still."""


class Surface(NamedTuple):
    """A depth image reduced to about 160 columns, and which way its surfaces face.

    Attributes:
        depth_m: (h, w) float32 metres, 0 where there is none.
        variance: (h, w) float32 square metres along the optical axis.
        normals: (3, h, w) float32 in the camera's optical frame; 0 where a pixel is at an edge.
        camera: Intrinsics of the reduced image.
    """

    depth_m: Float32Array
    variance: Float32Array
    normals: Float32Array
    camera: tuple[np.float32, np.float32, np.float32, np.float32]


def surface(depth_m: Float32Array, camera: PinholeCamera, noise: SensorNoise) -> Surface:
    """Reduce a depth image for `estimate_motion`, without blending across edges.

    Args:
        depth_m: (H, W) float32 metres, NaN or 0 where there is no return.
        camera: Intrinsics of `depth_m`.
        noise: Noise model of the camera.
    """
    height, width = depth_m.shape
    block = max(1, round(width / _WIDTH_PX))
    shape = height // block, width // block
    reduced_m = np.empty(shape, np.float32)
    normals = np.zeros((3, *shape), np.float32)
    # The middle of the first block lies this far into it.
    middle_px = (block - 1) / 2
    intrinsics = (
        np.float32(camera.fx / block),
        np.float32(camera.fy / block),
        np.float32((camera.cx - middle_px) / block),
        np.float32((camera.cy - middle_px) / block),
    )
    _reduce(depth_m, block, reduced_m)
    _face(reduced_m, *intrinsics, normals)
    stddev_m = noise.stddev_m(np.maximum(reduced_m, _NEAREST_M), camera.fx)
    return Surface(reduced_m, stddev_m * stddev_m, normals, intrinsics)


@kernel
def _reduce(depth_m: FloatImage, block: int, reduced_m: FloatImageOut) -> None:
    height, width = reduced_m.shape
    for y in range(height):
        for x in range(width):
            middle_m = depth_m[y * block + block // 2, x * block + block // 2]
            tolerance_m = middle_m * (_SAME_SURFACE - _ONE)
            total_m, count = _ZERO, _ZERO
            for row in range(y * block, (y + 1) * block):
                for column in range(x * block, (x + 1) * block):
                    z_m = depth_m[row, column]
                    fits = abs(z_m - middle_m) <= tolerance_m
                    total_m += z_m if fits else _ZERO
                    count += _ONE if fits else _ZERO
            seen = (middle_m >= _NEAREST_M) & (middle_m <= _FARTHEST_M)
            enough = count * np.float32(2) >= np.float32(block * block)
            reduced_m[y, x] = total_m / count if seen & enough else _ZERO


@kernel
def _face(
    depth_m: FloatImage,
    fx: np.float32,
    fy: np.float32,
    cx: np.float32,
    cy: np.float32,
    normals: FloatImagesOut,
) -> None:
    # A plane is affine in inverse depth, 1 / z = a x + b y + c along the ray (x, y, 1), and
    # (a, b, c) is its normal.
    height, width = depth_m.shape
    reach = _NORMAL_PX
    for y in range(reach, height - reach):
        for x in range(reach, width - reach):
            here = _ONE / depth_m[y, x]
            left, right = _ONE / depth_m[y, x - reach], _ONE / depth_m[y, x + reach]
            above, below = _ONE / depth_m[y - reach, x], _ONE / depth_m[y + reach, x]
            most = _CURVED * here
            flat = (abs(left + right - here - here) < most) & (
                abs(above + below - here - here) < most
            )
            flat &= (abs(left - right) < np.float32(0.3) * here) & (
                abs(above - below) < np.float32(0.3) * here
            )
            a = (right - left) / np.float32(2 * reach) * fx
            b = (below - above) / np.float32(2 * reach) * fy
            c = here - a * (np.float32(x) - cx) / fx - b * (np.float32(y) - cy) / fy
            scale = _ONE / math.sqrt(a * a + b * b + c * c)
            normals[0, y, x] = a * scale if flat else _ZERO
            normals[1, y, x] = b * scale if flat else _ZERO
            normals[2, y, x] = c * scale if flat else _ZERO


class _Comparison(NamedTuple):
    """Normal equations of two frames in a pose; of how many points, and how many fit."""

    information: Float64Array
    gradient: Float64Array
    points: float
    used: float
    fitting: float

    @property
    def fit(self) -> float:
        """Share of what both frames see that fits."""
        return self.fitting / max(self.used, 1.0)

    def misfit(self) -> str:
        """Say why the two frames do not belong together in this pose, if they do not."""
        if self.points < _FEWEST_POINTS:
            return 'too few pixels have depth'
        if self.used < _LEAST_OVERLAP * self.points:
            share = self.used / self.points
            return f'only {100 * share:.0f} % of what is seen was seen before'
        if self.fit < _LEAST_FIT:
            return f'only {100 * self.fit:.0f} % of what is seen moved as one'
        return ''


def _compared(
    now: Surface,
    before: Surface,
    pose: Float64Array,
    gate_stddevs: float = _GATE_STDDEVS,
    row_step: int = 1,
    misfit: UInt8Array | None = None,
) -> _Comparison:
    """Compare two frames in a pose; `misfit`, (h, w), takes where they do not fit."""
    height, width = now.depth_m.shape
    rows, sums = np.empty((14, width), np.float32), np.empty((_SUMS, width), np.float32)
    _accumulate(
        now.depth_m,
        now.variance,
        before.depth_m.ravel(),
        before.normals.reshape(3, -1),
        np.ascontiguousarray(pose[:3], np.float32),
        *now.camera,
        gate_stddevs,
        row_step,
        np.empty(width, np.uint32),
        rows,
        sums,
        np.empty((height, width), np.uint8) if misfit is None else misfit,
    )
    totals = sums.sum(axis=1, dtype=np.float64)
    information = np.zeros((6, 6))
    information[_UPPER] = row_step * _INFORMATION_SHARE * totals[:21]
    information += np.triu(information, 1).T
    gradient = row_step * _INFORMATION_SHARE * totals[21:27]
    return _Comparison(information, gradient, *totals[27:30])


_UPPER = np.triu_indices(6)
_PRIOR = np.repeat([_CHANGE_M**-2.0, _CHANGE_RAD**-2.0], 3)
_SCALE = np.sqrt(np.outer(_PRIOR, _PRIOR))


def estimate_motion(now: Surface, before: Surface, start: Float64Array | None = None) -> Motion:
    """Align a frame with an earlier one by projective point-to-plane ICP.

    Every point of the frame is compared with the plane at the pixel of the earlier frame that it
    falls on; distances weigh as the noise model says and count less the less they fit (Tukey's
    biweight; Chen and Medioni 1992; Newcombe et al., KinectFusion, ISMAR 2011). What moves by
    itself shows where the motion goes on as it was: parts of the view that do not fit it have no
    say. Only if little of the view fits is another motion looked for.

    In directions that the depth says nothing about the motion stays the one it started from, and
    the covariance says so. Sums run in a fixed order: the same frames give the same bits.

    Args:
        now: The frame.
        before: The earlier frame, of the same camera.
        start: (4, 4), where to start from: the motion between the frames before, or what tf says.

    Returns:
        The motion. `trouble` says why if it cannot be known.
    """
    start = np.eye(4) if start is None else start
    misfit = np.empty(now.depth_m.shape, np.uint8)
    _compared(now, before, start, misfit=misfit)
    variance = np.where(_moving(misfit, now), np.float32(np.inf), now.variance)
    pose, settled = _descended(now._replace(variance=variance), before, start)
    found = _compared(now, before, pose)
    if found.fit < _GOOD_FIT or not settled:
        other, other_settled = _descended(now, before, start, wide=True)
        again = _compared(now, before, other)
        if again.fit > found.fit + _CLEARLY_BETTER:
            pose, settled, found = other, other_settled, again
    information = found.information
    more = np.linalg.eigvalsh(information / _SCALE)
    return Motion(
        pose[:3, :3],
        pose[:3, 3],
        np.asarray(np.linalg.inv(information + np.diag(_PRIOR)), np.float64),
        int(np.count_nonzero(more < _SAYS_MORE)),
        found.misfit() or ('' if settled else 'the alignment does not settle'),
    )


def _moving(misfit: UInt8Array, now: Surface) -> BoolArray:
    """Return what is left out: parts of the view, and smooth surfaces, of which much misfits.

    The middle of what moves by itself fits as well as all the rest.
    """
    around = cv2.blur(misfit, (_PART_PX, _PART_PX), borderType=cv2.BORDER_REPLICATE)
    smooth = (now.normals[2] != 0).astype(np.uint8)
    count, label = cv2.connectedComponents(smooth, connectivity=4)
    label = label.ravel()
    share = np.bincount(label, misfit.ravel(), count) / np.bincount(label, minlength=count)
    share[0] = 0  # edges
    most = _MISFIT_SHARE * _MISFIT
    return np.asarray((around > most) | (share > most)[label].reshape(misfit.shape))


def _descended(
    now: Surface, before: Surface, start: Float64Array, *, wide: bool = False
) -> tuple[Float64Array, bool]:
    """Return the pose in which two frames fit best, near a start, and whether that is settled.

    `wide` looks farther away, and expects a motion that has changed as much.
    """
    pose, away = start, np.zeros(6)
    prior = _PRIOR / _WIDE**2 if wide else _PRIOR
    gates = [*_WIDE_GATES_STDDEVS] if wide else []
    gates += [_GATE_STDDEVS] * (_MORE_ITERATIONS if wide else _ITERATIONS)
    for number, gate in enumerate(gates):
        found = _compared(now, before, pose, gate, 2)
        gradient = found.gradient + prior * away
        step = np.asarray(
            -np.linalg.solve(found.information + np.diag(prior), gradient), np.float64
        )
        away += step
        pose = np.asarray(_exponential(step) @ pose, np.float64)
        small = max(abs(step[:3])) < _STEP_M and max(abs(step[3:])) < _STEP_RAD
        if number >= _ROUGH and small:
            break
    return pose, bool(max(abs(step[:3])) < _UNSETTLED_M)


class EgoMotion:
    """Follows a camera from frame to frame.

    While the camera moves by less than a fraction of a pixel it counts as standing still, and
    frames are compared with the one at which it came to rest, so that errors do not add up.

    Not thread safe. The same frames give the same bits.

    Attributes:
        pose: (4, 4), the present camera in the frame of the first.
        covariance: (6, 6) of `pose`, of translation and rotation about the first camera's axes.
        lost: How often the motion was not known: `pose` then stays where it was.
        last_trouble: Why, the last time.
        velocity: (6,), m/s and rad/s in the camera's own frame, by the last step.
        velocity_covariance: (6, 6) of `velocity`.
        flow_px: By how many pixels the view moved since the last frame, root mean square; NaN if
            that is not known.
        tf_off_m: How far tf was off in the last frame, where both it and the depth say something.
    """

    def __init__(self, *, max_gap_s: float = 0.5) -> None:
        """Configure.

        Args:
            max_gap_s: After a longer time between two frames the motion is not known.
        """
        self.max_gap_ns = round(max_gap_s * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen so far."""
        self.pose, self.covariance = np.eye(4), np.zeros((6, 6))
        self.lost, self.last_trouble = 0, ''
        self.tf_off_m, self.flow_px = 0.0, math.nan
        self.velocity, self.velocity_covariance = np.zeros(6), np.zeros((6, 6))
        self._before: Surface | None = None
        self._fixed: Float64Array | None = None
        self._stamp_ns = self._step_ns = 0
        # Where the camera was last in the frame that it is compared with, and its last step.
        self._there, self._step = np.eye(4), np.eye(4)
        self._base, self._base_covariance = self.pose, self.covariance

    def __call__(
        self,
        depth_m: Float32Array,
        camera: PinholeCamera,
        noise: SensorNoise,
        stamp_ns: int,
        *,
        fixed_from_camera: Float64Array | None = None,
        follow_fixed: bool = False,
    ) -> Motion:
        """Return the motion since the last frame whose motion was known and not nothing.

        Args:
            depth_m: (H, W) float32 metres, NaN where there is no return.
            camera: Its camera.
            noise: Noise model of the camera.
            stamp_ns: Time of the frame.
            fixed_from_camera: (4, 4), pose of the camera by tf; None if tf does not have it.
            follow_fixed: Take the motion that tf has as it is, if what is seen agrees with it;
                else the alignment only starts from there.

        Returns:
            The motion; `STANDING_STILL` itself where there is none. `trouble` says why if it is
            not known, of the first frame, too.
        """
        now, before = surface(depth_m, camera, noise), self._before
        gap_ns = stamp_ns - self._stamp_ns
        given = None
        if fixed_from_camera is not None and self._fixed is not None:
            given = np.linalg.inv(self._fixed) @ fixed_from_camera
        if before is None:
            motion = _unknown('this is the first frame')
        elif before.camera != now.camera or before.depth_m.shape != now.depth_m.shape:
            motion = _unknown('the camera is another one')
        elif not 0 <= gap_ns <= self.max_gap_ns:
            motion = _unknown('time jumped')
        elif follow_fixed:
            motion = _followed(now, before, given)
        else:
            start = given
            if start is None:
                share = min(gap_ns / self._step_ns, _LONGEST_STEP) if self._step_ns else 0.0
                start = self._there @ _scaled(self._step, share)
            motion = _estimated(now, before, start, given)
        self.tf_off_m = 0.0
        if given is not None and not motion.trouble:
            self.tf_off_m = float(np.linalg.norm(given[:3, 3] - motion.translation_m))
        self._stamp_ns, self.flow_px = stamp_ns, math.nan
        if motion.trouble:
            if before is not None:
                self.lost += 1
                self.last_trouble = motion.trouble
                # The camera may have gone anywhere.
                self.covariance = self.covariance + np.eye(6)
            self._base, self._base_covariance = self.pose, self.covariance
            self._step, self._step_ns = np.eye(4), 0
        else:
            there = motion.matrix()
            self._step, self._step_ns = np.linalg.inv(self._there) @ there, gap_ns
            self.pose = self._base @ there
            turned = np.kron(np.eye(2), self._base[:3, :3])
            self.covariance = self._base_covariance + turned @ motion.covariance @ turned.T
            self.flow_px = _flow_px(now, self._step, camera)
            per_s = 1e9 / max(gap_ns, 1)
            self.velocity = per_s * np.concatenate([self._step[:3, 3], _turn(self._step)])
            self.velocity_covariance = per_s**2 * motion.covariance
            if _flow_px(now, there, camera) < _STILL_PX:
                self._there = there
                return STANDING_STILL
            self._base, self._base_covariance = self.pose, self.covariance
        self._before, self._there, self._fixed = now, np.eye(4), fixed_from_camera
        if motion.trouble:
            return motion
        depth_variance = np.empty_like(now.depth_m)
        covariance = motion.covariance.astype(np.float32)
        _spread(now.depth_m, now.normals, covariance, *now.camera, depth_variance)
        return motion._replace(depth_variance=depth_variance)


@kernel
def _spread(
    depth_m: FloatImage,
    normals: FloatImages,
    covariance: FloatImage,
    fx: np.float32,
    fy: np.float32,
    cx: np.float32,
    cy: np.float32,
    depth_variance: FloatImageOut,
) -> None:
    height, width = depth_m.shape
    for y in range(height):
        for x in range(width):
            z_m = depth_m[y, x]
            ray_x, ray_y = (np.float32(x) - cx) / fx, (np.float32(y) - cy) / fy
            nx, ny, nz = normals[0, y, x], normals[1, y, x], normals[2, y, x]
            facing = nx * ray_x + ny * ray_y + nz
            # At an edge it is unknown which way it faces: the depth then moves with the camera.
            flat = facing > _GRAZING
            per = _ONE / facing if flat else _ONE
            nx, ny, nz = nx * per, ny * per, nz * per if flat else _ONE
            by = (
                nx,
                ny,
                nz,
                z_m * (ray_y * nz - ny),
                z_m * (nx - ray_x * nz),
                z_m * (ray_x * ny - ray_y * nx),
            )
            total = _ZERO
            for i in range(6):
                for j in range(6):
                    total += by[i] * covariance[i, j] * by[j]
            depth_variance[y, x] = total


def _unknown(trouble: str) -> Motion:
    return Motion(np.eye(3), np.zeros(3), np.zeros((6, 6)), 6, trouble)


def _followed(now: Surface, before: Surface, given: Float64Array | None) -> Motion:
    """Return the motion by tf, if the depth agrees with it."""
    if given is None:
        return _unknown('tf does not have it')
    found = _compared(now, before, given, _WIDE_GATES_STDDEVS[-1])
    still = _compared(now, before, np.eye(4), _WIDE_GATES_STDDEVS[-1])
    misfit = found.misfit()
    if found.fit < still.fit - _WORSE:
        misfit = misfit or 'standing still would fit better'
    trouble = f'tf does not agree with what is seen: {misfit}' if misfit else ''
    return Motion(given[:3, :3], given[:3, 3], _TF_COVARIANCE, 0, trouble, source='tf')


def _estimated(
    now: Surface, before: Surface, start: Float64Array, given: Float64Array | None
) -> Motion:
    motion = estimate_motion(now, before, start)
    if not motion.trouble:
        return motion
    # Somebody who fills the view of a tripod, or a robot whose tf knows where it is.
    least = max(_compared(now, before, motion.matrix()).fit, _LEAST_FIT)
    still = np.zeros((6, 6))
    for source, pose, covariance in (
        ('tf', given, _TF_COVARIANCE),
        ('depth', np.eye(4), still),
    ):
        if pose is None:
            continue
        found = _compared(now, before, pose)
        if found.fit >= least and not found.misfit():
            return Motion(pose[:3, :3], pose[:3, 3], covariance, source=source)
    return motion


def _flow_px(now: Surface, pose: Float64Array, camera: PinholeCamera) -> float:
    """Return the root mean square of how far pixels moved in the image."""
    fx, fy, cx, cy = now.camera
    z_m = now.depth_m[::_FLOW_STEP, ::_FLOW_STEP].astype(np.float64)
    y, x = np.nonzero(z_m)
    z_m = z_m[y, x]
    rays = np.stack([(x * _FLOW_STEP - cx) / fx, (y * _FLOW_STEP - cy) / fy, np.ones(len(x))])
    moved = pose[:3, :3] @ (rays * z_m) + pose[:3, 3:]
    off = moved[:2] / np.maximum(moved[2], 1e-3) - rays[:2]
    return float(camera.fx * np.sqrt(np.square(off).sum(axis=0).mean())) if len(x) else math.inf


def _exponential(step: Float64Array) -> Float64Array:
    """Return the (4, 4) motion of a small translation and a rotation vector."""
    turn = step[3:]
    angle = float(np.linalg.norm(turn))
    cross = np.array([[0, -turn[2], turn[1]], [turn[2], 0, -turn[0]], [-turn[1], turn[0], 0]])
    sine = math.sin(angle) / angle if angle > 1e-9 else 1.0
    cosine = (1 - math.cos(angle)) / angle**2 if angle > 1e-5 else 0.5
    pose = np.eye(4)
    pose[:3, :3] += sine * cross + cosine * cross @ cross
    pose[:3, 3] = step[:3]
    return pose


def _scaled(pose: Float64Array, share: float) -> Float64Array:
    """Return a share of a small motion."""
    return _exponential(share * np.concatenate([pose[:3, 3], _turn(pose)]))


def _turn(pose: Float64Array) -> Float64Array:
    """Return the rotation vector of a small motion."""
    r = pose[:3, :3]
    return np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 2


@kernel
def _accumulate(
    depth_m: FloatImage,
    variance: FloatImage,
    before_m: FloatRow,
    normals: FloatImage,
    pose: FloatImage,
    fx: np.float32,
    fy: np.float32,
    cx: np.float32,
    cy: np.float32,
    gate: np.float32,
    row_step: int,
    place: PlaceRowOut,
    rows: FloatImageOut,
    sums: FloatImageOut,
    misfit: ByteImageOut,
) -> None:
    height, width = depth_m.shape
    sums[:] = _ZERO
    weighted = rows[8]
    for y in range(0, height, row_step):
        _project(depth_m[y], y, width, height, pose, fx, fy, cx, cy, place, rows)
        _look_up(before_m, normals, place, rows)
        _weigh(depth_m[y], variance[y], width, fx, fy, cx, cy, gate, rows, sums, misfit[y])
        number = 0
        for i in range(6):
            for x in range(width):
                weighted[x] = rows[i, x] * rows[6, x]
            for j in range(i, 6):
                _add_products(weighted, rows[j], sums[number])
                number += 1
            _add_products(weighted, rows[7], sums[21 + i])


def _project(
    depth_m: FloatRow,
    y: int,
    width: int,
    height: int,
    pose: FloatImage,
    fx: np.float32,
    fy: np.float32,
    cx: np.float32,
    cy: np.float32,
    place: PlaceRowOut,
    rows: FloatImageOut,
) -> None:
    """Move a row of points; fill rows 8 to 12 with them and the pixel that they fall on.

    `place` is the number of that pixel.
    """
    ray_y = (np.float32(y) - cy) / fy
    ax, bx = pose[0, 0] / fx, pose[0, 1] * ray_y + pose[0, 2] - pose[0, 0] * cx / fx
    ay, by = pose[1, 0] / fx, pose[1, 1] * ray_y + pose[1, 2] - pose[1, 0] * cx / fx
    az, bz = pose[2, 0] / fx, pose[2, 1] * ray_y + pose[2, 2] - pose[2, 0] * cx / fx
    tx, ty, tz = pose[0, 3], pose[1, 3], pose[2, 3]
    last_x, last_y = np.float32(width - 1), np.float32(height - 1)
    px, py, pz, column, row = rows[8], rows[9], rows[10], rows[11], rows[12]
    for x in range(len(depth_m)):
        z_m = depth_m[x]
        px[x] = (ax * np.float32(x) + bx) * z_m + tx
        py[x] = (ay * np.float32(x) + by) * z_m + ty
        pz[x] = (az * np.float32(x) + bz) * z_m + tz
        per_m = _ONE / max(pz[x], _CLOSEST_M)
        u, v = px[x] * per_m * fx + cx + _HALF, py[x] * per_m * fy + cy + _HALF
        inside = (u >= _ZERO) & (u <= last_x) & (v >= _ZERO) & (v <= last_y)
        inside &= (z_m > _ZERO) & (pz[x] > _CLOSEST_M)
        # Outside is the first pixel, which has no normal.
        # Neither is negative: cutting off what follows the point is what processors do fastest.
        left, top = np.int32(u if inside else _ZERO), np.int32(v if inside else _ZERO)
        column[x], row[x] = np.float32(left), np.float32(top)
        place[x] = top * width + left


def _look_up(
    before_m: FloatRow, normals: FloatImage, place: PlaceRow, rows: FloatImageOut
) -> None:
    """Fill rows 0 to 2 and 13 with normal and depth of the pixels that `place` names."""
    for x in range(len(place)):
        rows[0, x], rows[1, x] = normals[0, place[x]], normals[1, place[x]]
        rows[2, x], rows[13, x] = normals[2, place[x]], before_m[place[x]]


def _weigh(
    depth_m: FloatRow,
    variance: FloatRow,
    width: int,
    fx: np.float32,
    fy: np.float32,
    cx: np.float32,
    cy: np.float32,
    gate: np.float32,
    rows: FloatImageOut,
    sums: FloatImageOut,
    misfit: ByteRowOut,
) -> None:
    """Fill rows 3 to 7: how a point moves with the camera, its weight and distance."""
    px, py, pz, column, row = rows[8], rows[9], rows[10], rows[11], rows[12]
    normal_x, normal_y, normal_z, before_m = rows[0], rows[1], rows[2], rows[13]
    per_fx, per_fy, per_gate = _ONE / fx, _ONE / fy, _ONE / (gate * gate)
    about_x, about_y, about_z, weights, distances = rows[3], rows[4], rows[5], rows[6], rows[7]
    points, uses, fittings = sums[27], sums[28], sums[29]
    for x in range(width):
        nx, ny, nz, there_m = normal_x[x], normal_y[x], normal_z[x], before_m[x]
        off_m = nx * (px[x] - (column[x] - cx) * per_fx * there_m)
        off_m += ny * (py[x] - (row[x] - cy) * per_fy * there_m)
        off_m += nz * (pz[x] - there_m)
        used = nz != _ZERO
        # Noise moves a point along its ray, and its surface sideways.
        slant = (nx * px[x] + ny * py[x] + nz * pz[x]) / max(pz[x], _CLOSEST_M)
        aside_m = _LATERAL_PX * depth_m[x] * per_fx
        noise = np.float32(2) * slant * slant * variance[x] + aside_m * aside_m * (_ONE - nz * nz)
        weight = _ONE / noise if used else _ZERO
        square = off_m * off_m * weight * per_gate
        share = max(_ONE - square, _ZERO)
        about_x[x], about_y[x] = py[x] * nz - pz[x] * ny, pz[x] * nx - px[x] * nz
        about_z[x] = px[x] * ny - py[x] * nx
        weights[x], distances[x] = share * share * weight, off_m
        # What came in front of another surface, or went, shows at edges, too.
        jumped = (there_m > _ZERO) & (abs(pz[x] - there_m) > _JUMP * pz[x])
        jumped &= (column[x] > _ZERO) & (row[x] > _ZERO)
        misfit[x] = _MISFIT if (square >= _ONE) | jumped else 0
        points[x] += _ONE if depth_m[x] > _ZERO else _ZERO
        uses[x] += _ONE if used else _ZERO
        fittings[x] += _ONE if used & (square < _ONE) & (weight > _ZERO) else _ZERO


def _add_products(one: FloatRow, other: FloatRow, total: FloatRowOut) -> None:
    for x in range(len(total)):
        total[x] += one[x] * other[x]
