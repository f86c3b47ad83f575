"""Geometry of depth images: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from .data import (
    ColorImage,
    DepthImage,
    Float32Array,
    Float64Array,
    Header,
    PinholeCamera,
    RigidTransform,
    UInt8Array,
)
from .kernels import (
    FloatImage,
    FloatImageOut,
    FloatImagesOut,
    FloatRow,
    FloatRowOut,
    IntImage,
    IntImageOut,
    IntRowOut,
    kernel,
)


@lru_cache(maxsize=8)
def _rays(
    width: int, height: int, fx: float, fy: float, cx: float, cy: float
) -> tuple[Float32Array, Float32Array]:
    """Return x/z of every column, (1, W), and y/z of every row, (H, 1)."""
    x = ((np.arange(width) - cx) / fx).astype(np.float32)[None, :]
    y = ((np.arange(height) - cy) / fy).astype(np.float32)[:, None]
    return x, y


def check_camera_fits(depth_m: npt.NDArray[np.generic], camera: PinholeCamera) -> None:
    """Check that a camera describes an image.

    Raises:
        ValueError: If the sizes differ.
    """
    height, width = depth_m.shape[:2]
    if (width, height) != (camera.width, camera.height):
        raise ValueError(
            f'the image is {width}x{height} but its camera_info says '
            f'{camera.width}x{camera.height}; '
            'pair each image with the camera_info of its own stream'
        )


_SAME_PX = 1.0  # drivers write the same calibration twice, and round it


def registered(
    color: ColorImage,
    depth: DepthImage,
    color_camera: PinholeCamera | None = None,
    camera: PinholeCamera | None = None,
) -> bool:
    """Return whether a colour image is registered to a depth image.

    It does if both have the same size, the same frame and the same intrinsics: two cameras often
    share a size, and sometimes a frame_id. Intrinsics that are not known decide nothing.

    Args:
        color: The colour image.
        depth: The depth image.
        color_camera: Intrinsics of `color`.
        camera: Intrinsics of `depth`.
    """
    if color.rgb.shape[:2] != depth.depth_m.shape:
        return False
    if color.header.frame_id != depth.header.frame_id:
        return False
    return color_camera is None or camera is None or same_intrinsics(color_camera, camera)


def same_intrinsics(one: PinholeCamera, other: PinholeCamera) -> bool:
    """Tell whether two cameras see every direction in the same pixel, to one pixel."""
    if (one.width, one.height) != (other.width, other.height):
        return False

    def apart_px(size: int, f: float, c: float, f_other: float, c_other: float) -> float:
        # Where the other camera sees what the one sees in its first and its last pixel.
        return max(abs((edge - c) * f_other / f + c_other - edge) for edge in (0, size - 1))

    x_px = apart_px(one.width, one.fx, one.cx, other.fx, other.cx)
    y_px = apart_px(one.height, one.fy, one.cy, other.fy, other.cy)
    return max(x_px, y_px) <= _SAME_PX


# What depth and colour cameras stream, (width, height).
_SIZES_PX = (
    (160, 120),
    (320, 180),
    (320, 200),
    (320, 240),
    (320, 288),
    (424, 240),
    (480, 270),
    (480, 300),
    (512, 424),
    (512, 512),
    (640, 360),
    (640, 400),
    (640, 480),
    (640, 576),
    (672, 376),
    (800, 600),
    (848, 480),
    (960, 540),
    (1024, 768),
    (1024, 1024),
    (1280, 720),
    (1280, 800),
    (1280, 960),
    (1280, 1024),
    (1920, 1080),
    (2048, 1536),
    (2560, 1440),
    (3840, 2160),
)
_NEAR_CENTRE = 0.05  # of the width or height: as far as a principal point lies from the middle


def size_around(cx: float, cy: float) -> tuple[int, int] | None:
    """Return the usual image size, width and height, that has a principal point in its middle."""

    def off_centre(size: tuple[int, int]) -> float:
        width, height = size
        return max(abs((cx + 0.5) / width - 0.5), abs((cy + 0.5) / height - 0.5))

    nearest = min(_SIZES_PX, key=off_centre)
    return nearest if off_centre(nearest) <= _NEAR_CENTRE else None


def points_from_depth(depth_m: Float32Array, camera: PinholeCamera) -> Float32Array:
    """Deproject a depth image into the camera's optical frame.

    Args:
        depth_m: Shape (H, W), metres along the optical axis, NaN where unknown.
        camera: Intrinsics of the same size.

    Returns:
        Shape (H, W, 3), metres; NaN where the depth is NaN.

    Raises:
        ValueError: If the camera has another size.
    """
    check_camera_fits(depth_m, camera)
    x, y = _rays(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    points_m = np.empty((*depth_m.shape, 3), np.float32)
    _deproject(depth_m, x[0], y[:, 0], points_m)
    return points_m


@kernel
def _deproject(
    depth_m: FloatImage, ray_x: FloatRow, ray_y: FloatRow, points_m: FloatImagesOut
) -> None:
    for y in range(len(ray_y)):
        row_m, points_row_m, slope_y = depth_m[y], points_m[y], ray_y[y]
        for x in range(len(ray_x)):
            points_row_m[x, 0] = row_m[x] * ray_x[x]
            points_row_m[x, 1] = row_m[x] * slope_y
            points_row_m[x, 2] = row_m[x]


def register_depth(
    depth_m: Float32Array,
    camera: PinholeCamera,
    target: PinholeCamera,
    target_from_source: RigidTransform,
) -> Float32Array:
    """Move a depth image into another camera; see `seen_from`, whose depth this is."""
    return seen_from(depth_m, camera, target, target_from_source).depth_m


class Seen(NamedTuple):
    """A depth image as another camera sees it.

    Attributes:
        depth_m: Shape (target.height, target.width), float32 metres along the target's optical
            axis, NaN where no pixel lands.
        source: The same shape, int32, flat index of the pixel that is seen; -1 where none is.
    """

    depth_m: Float32Array
    source: npt.NDArray[np.int32]


def seen_from(
    depth_m: Float32Array,
    camera: PinholeCamera,
    target: PinholeCamera,
    target_from_source: RigidTransform,
) -> Seen:
    """Move a depth image into another camera, nearer surfaces hiding farther ones.

    Every pixel is splatted over the target pixels its footprint covers, so that a target of
    higher resolution shows no pinholes, and a depth buffer decides which surface is seen. Depth is
    moved, never interpolated.

    Args:
        depth_m: Shape (H, W), metres, NaN where unknown.
        camera: Intrinsics of `depth_m`.
        target: Intrinsics of the camera to move into.
        target_from_source: The source camera's optical frame, placed in the target's.

    Raises:
        ValueError: If `camera` has another size than `depth_m`.
    """
    check_camera_fits(depth_m, camera)
    x, y = _rays(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    seen_m = np.empty((target.height, target.width), np.float32)
    source = np.empty(seen_m.shape, np.int32)
    _splat(
        depth_m,
        x[0],
        y[:, 0],
        _pose(target_from_source),
        _intrinsics(target),
        target.fx / camera.fx,
        target.fy / camera.fy,
        np.empty(camera.width, np.float32),
        np.empty((4, camera.width), np.int32),
        seen_m,
        source,
    )
    return Seen(seen_m, source)


def _pose(transform: RigidTransform) -> Float32Array:
    """Return rotation and translation, (3, 4)."""
    columns = [transform.rotation, transform.translation_m]
    return np.column_stack(columns).astype(np.float32)


def _intrinsics(camera: PinholeCamera) -> Float32Array:
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)


# The margin closes most cracks that rounding and the sensor's depth steps open between two pixels;
# the bound keeps what almost touches the target's lens from covering its whole image.
_CRACK_PX, _MOST_MAGNIFIED = np.float32(0.05), np.float32(2)
_NEAREST_M, _FARTHEST_M = np.float32(1e-3), np.float32(1e6)
_NAN, _INFINITY = np.float32(np.nan), np.float32(np.inf)
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


@kernel
def _splat(
    depth_m: FloatImage,
    ray_x: FloatRow,
    ray_y: FloatRow,
    pose: FloatImage,
    intrinsics: FloatRow,
    ratio_x: np.float32,
    ratio_y: np.float32,
    moved_m: FloatRowOut,
    edges: IntImageOut,
    seen_m: FloatImageOut,
    source: IntImageOut,
) -> None:
    height, width = seen_m.shape
    seen_m[:] = _INFINITY
    source[:] = -1
    left, right, top, bottom = edges[0], edges[1], edges[2], edges[3]
    for y in range(depth_m.shape[0]):
        _move(depth_m[y], ray_x, ray_y[y], pose, moved_m)
        _cover(
            depth_m[y], ray_x, ray_y[y], pose, 0, moved_m, intrinsics, ratio_x, width, left, right
        )
        _cover(
            depth_m[y], ray_x, ray_y[y], pose, 1, moved_m, intrinsics, ratio_y, height, top, bottom
        )
        for x in range(depth_m.shape[1]):
            for row in range(top[x], bottom[x]):
                for column in range(left[x], right[x]):
                    if moved_m[x] <= seen_m[row, column]:
                        seen_m[row, column] = moved_m[x]
                        source[row, column] = y * depth_m.shape[1] + x
    for row in range(height):
        for column in range(width):
            hit = seen_m[row, column] < _INFINITY
            seen_m[row, column] = seen_m[row, column] if hit else _NAN


def _move(
    depth_m: FloatRow, ray_x: FloatRow, ray_y: np.float32, pose: FloatImage, moved_m: FloatRowOut
) -> None:
    for x in range(len(depth_m)):
        ray = pose[2, 0] * ray_x[x] + (pose[2, 1] * ray_y + pose[2, 2])
        moved_m[x] = ray * depth_m[x] + pose[2, 3]


def _cover(
    depth_m: FloatRow,
    ray_x: FloatRow,
    ray_y: np.float32,
    pose: FloatImage,
    axis: int,
    moved_m: FloatRow,
    intrinsics: FloatRow,
    ratio: np.float32,
    size: int,
    first: IntRowOut,
    end: IntRowOut,
) -> None:
    """Find the target pixels whose centres lie under a source pixel, along one axis."""
    for x in range(len(depth_m)):
        ray = pose[axis, 0] * ray_x[x] + (pose[axis, 1] * ray_y + pose[axis, 2])
        per_m = _ONE / moved_m[x]
        at = (ray * depth_m[x] + pose[axis, 3]) * per_m * intrinsics[axis] + intrinsics[2 + axis]
        magnified = min(depth_m[x] * per_m, _MOST_MAGNIFIED)
        half = max(magnified * ratio, _ONE) * _HALF + _CRACK_PX
        low = min(max(np.ceil(at - half), _ZERO), np.float32(size))
        high = min(max(np.floor(at + half) + _ONE, _ZERO), np.float32(size))
        seen = (moved_m[x] > _NEAREST_M) & (moved_m[x] < _FARTHEST_M)
        first[x] = np.int32(low) if seen else 0
        end[x] = np.int32(high) if seen else 0


def register_color(
    rgb: UInt8Array,
    color_camera: PinholeCamera,
    depth_m: Float32Array,
    camera: PinholeCamera,
    color_from_depth: RigidTransform,
) -> UInt8Array:
    """Look up the colour of every depth pixel.

    A pixel without depth borrows that of its nearest measured neighbour: at a stereo or projector
    baseline of a few centimetres a wrong guess costs a few pixels of parallax, no colour at all
    would cost the guide that hole filling needs most there. Surfaces the colour camera cannot see
    take the colour of what hides them.

    Args:
        rgb: Shape (h, w, 3), uint8, the colour camera's image.
        color_camera: Intrinsics of `rgb`.
        depth_m: Shape (H, W), metres, NaN where unknown.
        camera: Intrinsics of `depth_m`.
        color_from_depth: The depth camera's optical frame, placed in the colour camera's.

    Returns:
        Shape (H, W, 3), uint8; black outside the view of the colour camera.

    Raises:
        ValueError: If a camera does not fit its image.
    """
    check_camera_fits(rgb, color_camera)
    check_camera_fits(depth_m, camera)
    filled_m = fill_nearest(depth_m)
    if filled_m is None:
        return np.zeros((*depth_m.shape, 3), np.uint8)
    x, y = _rays(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    u, v = np.empty((2, *depth_m.shape), np.float32)
    _project(filled_m, x[0], y[:, 0], _pose(color_from_depth), _intrinsics(color_camera), u, v)
    return np.asarray(cv2.remap(rgb, u, v, cv2.INTER_LINEAR), np.uint8)


@kernel
def _project(
    depth_m: FloatImage,
    ray_x: FloatRow,
    ray_y: FloatRow,
    pose: FloatImage,
    intrinsics: FloatRow,
    u: FloatImageOut,
    v: FloatImageOut,
) -> None:
    for y in range(depth_m.shape[0]):
        _project_row(depth_m[y], ray_x, ray_y[y], pose, intrinsics, u[y], v[y])


def _project_row(
    depth_m: FloatRow,
    ray_x: FloatRow,
    ray_y: np.float32,
    pose: FloatImage,
    intrinsics: FloatRow,
    u: FloatRowOut,
    v: FloatRowOut,
) -> None:
    for x in range(len(depth_m)):
        x_m = depth_m[x] * (pose[0, 0] * ray_x[x] + (pose[0, 1] * ray_y + pose[0, 2])) + pose[0, 3]
        y_m = depth_m[x] * (pose[1, 0] * ray_x[x] + (pose[1, 1] * ray_y + pose[1, 2])) + pose[1, 3]
        z_m = depth_m[x] * (pose[2, 0] * ray_x[x] + (pose[2, 1] * ray_y + pose[2, 2])) + pose[2, 3]
        per_m = _ONE / max(z_m, _NEAREST_M)
        u[x] = x_m * per_m * intrinsics[0] + intrinsics[2]
        v[x] = y_m * per_m * intrinsics[1] + intrinsics[3]


def fill_nearest(depth_m: Float32Array) -> Float32Array | None:
    """Give every pixel without depth that of the nearest pixel with one.

    Args:
        depth_m: Shape (H, W), NaN where unknown.

    Returns:
        Shape (H, W), or None if no pixel has a depth.
    """
    hole = np.isnan(depth_m)
    if not hole.any():
        return depth_m
    if hole.all():
        return None
    _, labels = cv2.distanceTransformWithLabels(
        hole.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    filled_m = np.empty(depth_m.shape, np.float32)
    _take_nearest(depth_m, labels, np.empty(depth_m.size + 1, np.float32), filled_m)
    return filled_m


@kernel
def _take_nearest(
    depth_m: FloatImage, labels: IntImage, by_label: FloatRowOut, filled_m: FloatImageOut
) -> None:
    # Labels number the valid pixels in an order of OpenCV's choosing: read it off at those pixels.
    height, width = depth_m.shape
    for y in range(height):
        for x in range(width):
            if not math.isnan(depth_m[y, x]):
                by_label[labels[y, x]] = depth_m[y, x]
    for y in range(height):
        for x in range(width):
            filled_m[y, x] = by_label[labels[y, x]]


_SAME_SURFACE = 1.05
"""Neighbours whose depths differ by more than this factor are never blended."""


def resize_without_blending(depth_m: Float32Array, shape: tuple[int, int]) -> Float32Array:
    """Sample a depth image in another size: smooth on a surface, sharp at its edges.

    Between four neighbours of one surface inverse depth is interpolated, in which planes are
    planes; where they are of several, or one of them is unknown, the nearest one is taken.

    Args:
        depth_m: Shape (h, w), positive, NaN where unknown.
        shape: Height and width wanted, px.

    Returns:
        Shape `shape`, NaN where the nearest pixel is unknown.
    """
    if depth_m.shape == shape:
        return np.array(depth_m)

    def sampled(length: int, wanted: int) -> tuple[npt.NDArray[np.intp], Float32Array]:
        """Return the pixel before every wanted one, and how far it lies behind it."""
        at = np.clip((np.arange(wanted) + 0.5) * (length / wanted) - 0.5, 0, length - 1)
        before = np.minimum(at.astype(np.intp), max(length - 2, 0))
        return before, (at - before).astype(np.float32)

    (top, down), (left, right) = map(sampled, depth_m.shape, shape)
    bottom = np.minimum(top + 1, depth_m.shape[0] - 1)
    after = np.minimum(left + 1, depth_m.shape[1] - 1)
    rows, columns = depth_m[top], depth_m[bottom]
    corners = rows[:, left], rows[:, after], columns[:, left], columns[:, after]
    down = down[:, None]
    nearest_m = np.where(
        down < 0.5,
        np.where(right < 0.5, corners[0], corners[1]),
        np.where(right < 0.5, corners[2], corners[3]),
    )
    # NaN compares false, so that what has an unknown neighbour is not blended either.
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    inverse = [1 / corner for corner in corners]
    upper = inverse[0] + right * (inverse[1] - inverse[0])
    lower = inverse[2] + right * (inverse[3] - inverse[2])
    blended_m = 1 / (upper + down * (lower - upper))
    same = high <= np.float32(_SAME_SURFACE) * low
    return np.asarray(np.where(same, blended_m, nearest_m), np.float32)


def rotation_from_quaternion(x: float, y: float, z: float, w: float) -> Float64Array:
    """Return the (3, 3) rotation matrix of a quaternion, normalised first."""
    s = 2 / (x * x + y * y + z * z + w * w)
    return np.array(
        [
            [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
            [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
            [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: Float64Array) -> tuple[float, float, float, float]:
    """Return x, y, z, w of a rotation matrix, w not negative.

    S. W. Shepperd, "Quaternion from rotation matrix", 1978: the largest of four expressions is
    the one that loses no digits.
    """
    m = rotation
    squares = np.array(
        [
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
            1 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    products = np.array(
        [
            [squares[0], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], squares[1], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squares[2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]],
        ]
    )
    largest = products[int(np.argmax(squares))]
    x, y, z, w = largest / np.linalg.norm(largest) * (-1 if largest[3] < 0 else 1)
    return float(x), float(y), float(z), float(w)


def wrist_rotation(points_m: npt.NDArray[np.floating], right: bool) -> Float64Array:
    """Return how a hand is turned: x along the palm to the fingers, z out of the palm.

    Args:
        points_m: (21, 3), ordered as `data.HAND_JOINTS`.
        right: Whether it is a right hand.

    Returns:
        (3, 3) rotation whose columns are the hand's axes; none at all if the palm has no area.
    """
    wrist, index, middle, pinky = (points_m[n].astype(np.float64) for n in (0, 5, 9, 17))
    out = np.cross(index - wrist, pinky - wrist) * (1 if right else -1)
    x = middle - wrist
    z = out - x * (out @ x) / max(x @ x, 1e-12)
    lengths = np.linalg.norm(x), np.linalg.norm(z)
    if min(lengths) < 1e-9:
        return np.eye(3)
    x, z = x / lengths[0], z / lengths[1]
    return np.stack([x, np.cross(z, x), z], 1)


# tf is remembered for so long, carried on for at most so long, and not known inside longer gaps.
_REMEMBERED_NS, _CARRIED_ON_NS, _GAP_NS = 2_000_000_000, 100_000_000, 500_000_000


class TransformTree:
    """The transforms of every frame to its parent: as much of tf as a stage needs.

    The latest serve, or those at a time: between two they are interpolated, after the last they go
    on at its speed for a tenth of a second, since tf often comes after the image. A transform that
    came once holds for ever.

    Frames are named as in tf2: a slash that ROS 1 put before the name does not count.

    Args:
        transforms: What is known.
        later: Asked once for what a recording holds of later transforms, when the tree does not
            connect two frames: of each frame that has none yet, the first then serves.
    """

    def __init__(
        self,
        transforms: Iterable[RigidTransform] = (),
        *,
        later: Callable[[], Iterable[RigidTransform]] | None = None,
    ) -> None:
        self._parents: dict[str, RigidTransform] = {}
        # Tuples, which another thread may read while they are replaced.
        self._recent: dict[str, tuple[RigidTransform, ...]] = {}
        self._later = later
        self.update(transforms)

    def update(self, transforms: Iterable[RigidTransform]) -> None:
        """Add transforms; a newer one of the same child frame replaces the older."""
        for transform in map(_without_slashes, transforms):
            child, stamp_ns = transform.child_frame_id, transform.header.stamp_ns
            self._parents[child] = transform
            kept = [
                old
                for old in self._recent.get(child, ())
                if old.header.frame_id == transform.header.frame_id
                and stamp_ns - _REMEMBERED_NS <= old.header.stamp_ns < stamp_ns
            ]
            self._recent[child] = (*kept, transform)

    def lookup_at(self, target: str, source: str, stamp_ns: int) -> RigidTransform | None:
        """Return where `source` sat in `target` at a time, or None where tf does not know."""
        moments: dict[str, RigidTransform] = {}
        for child, recent in tuple(self._recent.items()):
            moment = recent[0] if len(recent) == 1 else _at(recent, stamp_ns)
            if moment is not None:
                moments[child] = moment
        tree = TransformTree()
        tree._parents = moments
        return tree.lookup(target, source)

    def lookup(self, target: str, source: str) -> RigidTransform | None:
        """Return where `source` sits in `target`, or None while the tree does not connect them."""
        found = self._connect(target.lstrip('/'), source.lstrip('/'))
        if found is None and self._later is not None:
            later, self._later = self._later, None
            for transform in map(_without_slashes, later()):
                self._parents.setdefault(transform.child_frame_id, transform)
            found = self._connect(target.lstrip('/'), source.lstrip('/'))
        return found

    def _connect(self, target: str, source: str) -> RigidTransform | None:
        to_source, to_target = self._ancestors(source), self._ancestors(target)
        for ancestor, root_from_source in to_source.items():
            if ancestor in to_target:
                return to_target[ancestor].inverse() @ root_from_source
        return None

    def _ancestors(self, frame: str) -> dict[str, RigidTransform]:
        """Return, nearest first, every ancestor of a frame and where the frame sits in it."""
        here = RigidTransform(Header(0, frame), frame, np.eye(3), np.zeros(3))
        chain = {frame: here}
        while (step := self._parents.get(here.header.frame_id)) is not None:
            here = step @ here
            if here.header.frame_id in chain:  # a loop in tf: nothing beyond it can be trusted
                break
            chain[here.header.frame_id] = here
        return chain


def _at(recent: tuple[RigidTransform, ...], stamp_ns: int) -> RigidTransform | None:
    """Return what transforms of one frame, in the order of their stamps, say of a time."""
    later = next((i for i, t in enumerate(recent) if t.header.stamp_ns >= stamp_ns), None)
    if later == 0:
        return recent[0] if recent[0].header.stamp_ns == stamp_ns else None
    second = len(recent) - 1 if later is None else later
    before, after = recent[second - 1], recent[second]
    start_ns, span_ns = before.header.stamp_ns, after.header.stamp_ns - before.header.stamp_ns
    if span_ns > _GAP_NS or stamp_ns > after.header.stamp_ns + _CARRIED_ON_NS:
        return None
    share = (stamp_ns - start_ns) / span_ns
    turn, _ = cv2.Rodrigues(before.rotation.T @ after.rotation)
    turned, _ = cv2.Rodrigues(share * turn)
    way_m = after.translation_m - before.translation_m
    return RigidTransform(
        Header(stamp_ns, before.header.frame_id),
        before.child_frame_id,
        before.rotation @ np.asarray(turned, np.float64),
        before.translation_m + share * way_m,
    )


def _without_slashes(transform: RigidTransform) -> RigidTransform:
    parent, child = transform.header.frame_id, transform.child_frame_id
    if not (parent.startswith('/') or child.startswith('/')):
        return transform
    header = Header(transform.header.stamp_ns, parent.lstrip('/'))
    return replace(transform, header=header, child_frame_id=child.lstrip('/'))
