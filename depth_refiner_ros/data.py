"""Values that flow between stages: metric, immutable, free of ROS and of any inference library.

Depth follows REP 118 outside and one convention inside: (H, W) float32 metres along the optical
axis, NaN where the sensor saw nothing. Frames are optical frames as REP 103 defines them: x right,
y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
import math
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from .kernels import ByteRowOut, FloatRow, FloatRowOut, kernel

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

DepthEncoding = Literal['16UC1', '32FC1']


class Provenance(IntEnum):
    """Where a depth pixel comes from, so that a robot can mask what it must not trust."""

    INVALID = 0
    """No depth: the pixel is NaN (32FC1) or 0 (16UC1)."""
    MEASURED = 1
    """The sensor's own value, unchanged."""
    REFINED = 2
    """The sensor's value, corrected within its noise."""
    INPAINTED = 3
    """Filled: the sensor measured nothing here, or its measurement was rejected."""
    ESTIMATED = 4
    """Estimated from colour alone, in metres."""
    ALIGNED = 5
    """Estimated from colour, and scaled and shifted to the measurements."""
    RELATIVE = 6
    """Estimated from colour, up to scale and shift: no metres."""


TRUST = (
    Provenance.MEASURED,
    Provenance.REFINED,
    Provenance.INPAINTED,
    Provenance.ALIGNED,
    Provenance.ESTIMATED,
    Provenance.RELATIVE,
)
"""Where depth can come from, the most trusted first; the codes themselves are in no such order."""
_codes = np.arange(256, dtype=np.uint8)
_ranks = np.full(256, len(TRUST), np.uint8)
_ranks[list(TRUST)] = np.arange(len(TRUST))


def _by_code(table: npt.NDArray[Any], provenance: UInt8Array) -> UInt8Array:
    """Look every pixel up in a table of 256; ten times as fast as indexing."""
    found = cv2.LUT(provenance, table.astype(np.uint8)) if provenance.size else provenance
    return np.asarray(found, np.uint8).reshape(provenance.shape)


def trusted(provenance: UInt8Array, least: Provenance = Provenance.REFINED) -> BoolArray:
    """Tell which pixels are trusted at least as much as an origin.

    By default these are the pixels whose depth the sensor saw: measured or refined.

    Args:
        provenance: Any shape, values of `Provenance`; a code that is none is not trusted.
        least: The least trusted origin that still counts, one of `TRUST`.
    """
    return _by_code(_ranks <= _ranks[least], provenance).view(np.bool_)


def at_most(provenance: UInt8Array, most: Provenance) -> UInt8Array:
    """Return provenance in which no pixel is trusted more than an origin, one of `TRUST`."""
    return _by_code(np.where(_ranks < _ranks[most], np.uint8(most), _codes), provenance)


def least_trusted(provenance: UInt8Array) -> Provenance:
    """Return the origin of the least trusted pixels, or INVALID if no pixel has depth."""
    worst = int(_by_code((_ranks + 1) % (len(TRUST) + 1), provenance).max(initial=0))
    return TRUST[worst - 1] if worst else Provenance.INVALID


@dataclass(frozen=True, slots=True)
class Header:
    """When and where a measurement was taken.

    Attributes:
        stamp_ns: Time of acquisition in nanoseconds.
        frame_id: Optical frame of the camera.
    """

    stamp_ns: int
    frame_id: str


def _freeze(owner: Any, name: str, dtype: type, *shape: int | None) -> None:
    """Check an array field and make it a read-only view; the caller's array stays as it is."""
    array = getattr(owner, name)
    fits = (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.ndim == len(shape)
        and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    )
    if not fits:
        wanted = ', '.join('*' if size is None else str(size) for size in shape)
        got = (
            f'shape {array.shape} {array.dtype}'
            if isinstance(array, np.ndarray)
            else type(array).__name__
        )
        raise ValueError(
            f'{type(owner).__name__}.{name} must be ({wanted}) {np.dtype(dtype).name}, got {got}'
        )
    view = array.view()
    view.flags.writeable = False
    object.__setattr__(owner, name, view)


@dataclass(frozen=True, slots=True, eq=False)
class DepthImage:
    """Depth along the optical axis.

    Attributes:
        header: Acquisition stamp and optical frame.
        depth_m: Shape (H, W), float32, metres; NaN where there is no return.
        encoding: How the image is represented outside; a stage that replaces only `depth_m`
            therefore keeps the encoding of its input.

    Raises:
        ValueError: If `depth_m` has another shape or dtype, or `encoding` is not one of depth.
    """

    header: Header
    depth_m: Float32Array
    encoding: DepthEncoding = '32FC1'

    def __post_init__(self) -> None:
        _freeze(self, 'depth_m', np.float32, None, None)
        if self.encoding not in ('16UC1', '32FC1'):
            raise ValueError(f'depth encoding must be 16UC1 or 32FC1, got {self.encoding!r}')


@dataclass(frozen=True, slots=True, eq=False)
class StddevImage:
    """Standard deviation of a depth image.

    Attributes:
        header: Header of the depth image it belongs to.
        stddev_m: Shape (H, W), float32, metres; NaN where the depth is invalid.
    """

    header: Header
    stddev_m: Float32Array

    def __post_init__(self) -> None:
        _freeze(self, 'stddev_m', np.float32, None, None)


@dataclass(frozen=True, slots=True, eq=False)
class ProvenanceImage:
    """Where each pixel of a depth image comes from.

    Attributes:
        header: Header of the depth image it belongs to.
        provenance: Shape (H, W), uint8, values of `Provenance`.
    """

    header: Header
    provenance: UInt8Array

    def __post_init__(self) -> None:
        _freeze(self, 'provenance', np.uint8, None, None)


def check_companions_fit(
    depth: DepthImage, stddev: StddevImage | None, provenance: ProvenanceImage | None
) -> None:
    """Check that standard deviation and provenance, where there are any, describe a depth image.

    Raises:
        ValueError: If one has another size or frame than the depth.
    """
    height, width = depth.depth_m.shape
    companions: list[tuple[str, Header, npt.NDArray[Any]]] = []
    if stddev is not None:
        companions.append(('stddev', stddev.header, stddev.stddev_m))
    if provenance is not None:
        companions.append(('provenance', provenance.header, provenance.provenance))
    for name, header, image in companions:
        if image.shape != (height, width) or header.frame_id != depth.header.frame_id:
            raise ValueError(
                f'{name} is {image.shape[1]}x{image.shape[0]} in frame {header.frame_id!r}, but '
                f'its depth {width}x{height} in frame {depth.header.frame_id!r}; '
                f'pair each depth with the {name} that is published beside it'
            )


def origins(depth: DepthImage, provenance: ProvenanceImage | None) -> UInt8Array:
    """Return where the pixels of a depth image come from, INVALID exactly where it has none.

    Depth without provenance counts as measured, as it comes from a sensor. A pixel with depth of
    which its provenance says nothing counts as little as can be.

    Returns:
        Shape (H, W), values of `Provenance`; an array of the caller's own.
    """
    if provenance is None:
        marks = np.full(depth.depth_m.shape, Provenance.MEASURED, np.uint8)
    else:
        marks = provenance.provenance.copy()
    _mark(depth.depth_m.ravel(), marks.ravel())
    return marks


_LEAST_TRUSTED = np.uint8(TRUST[-1])
_FIRST_CODE, _LAST_CODE = np.uint8(min(TRUST)), np.uint8(max(TRUST))
_INVALID = np.uint8(Provenance.INVALID)


@kernel
def _mark(depth_m: FloatRow, provenance: ByteRowOut) -> None:
    for x in range(len(depth_m)):
        origin = provenance[x]
        known = (origin >= _FIRST_CODE) & (origin <= _LAST_CODE)
        origin = origin if known else _LEAST_TRUSTED
        provenance[x] = origin if depth_m[x] == depth_m[x] else _INVALID  # NaN


_ZERO, _INFINITY, _NAN = np.float32(0), np.float32(np.inf), np.float32(np.nan)


def deviations_m(
    depth: DepthImage, stddev: StddevImage | None, otherwise_m: Float32Array
) -> Float32Array:
    """Return the standard deviation of a depth image, NaN exactly where it has no depth.

    Args:
        depth: Depth.
        stddev: Its standard deviation, if it is known.
        otherwise_m: Shape (H, W), metres, for pixels where it is not.

    Returns:
        Shape (H, W), float32, metres; an array of the caller's own.
    """
    stated_m = np.empty(depth.depth_m.shape, np.float32)
    known_m = otherwise_m if stddev is None else stddev.stddev_m
    _state(depth.depth_m.ravel(), known_m.ravel(), otherwise_m.ravel(), stated_m.ravel())
    return stated_m


@kernel
def _state(
    depth_m: FloatRow, known_m: FloatRow, otherwise_m: FloatRow, stddev_m: FloatRowOut
) -> None:
    for x in range(len(depth_m)):
        is_known = (known_m[x] > _ZERO) & (known_m[x] < _INFINITY)
        stated_m = known_m[x] if is_known else otherwise_m[x]
        stddev_m[x] = stated_m if depth_m[x] == depth_m[x] else _NAN


@dataclass(frozen=True, slots=True, eq=False)
class ColorImage:
    """A colour image.

    Attributes:
        header: Acquisition stamp and optical frame.
        rgb: Shape (H, W, 3), uint8, red first.
    """

    header: Header
    rgb: UInt8Array

    def __post_init__(self) -> None:
        _freeze(self, 'rgb', np.uint8, None, None, 3)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fields of a CameraInfo beyond the rectified pinhole, which are passed on unchanged.

    Attributes:
        distortion_model: Name of the distortion model of the raw image.
        d: Distortion parameters.
        k: Row-major 3x3 intrinsics of the raw image, pixels.
        r: Row-major 3x3 rectification rotation.
        p: Row-major 3x4 projection of the rectified image, pixels.
        width: Width of the full-resolution image, pixels.
        height: Height of the full-resolution image, pixels.
        binning_x: Pixels of the sensor combined into one column (0 and 1 both mean none).
        binning_y: Likewise for rows.
        roi: x_offset, y_offset, height, width, do_rectify of the region of interest, full pixels.
    """

    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]
    width: int
    height: int
    binning_x: int = 0
    binning_y: int = 0
    roi: tuple[int, int, int, int, bool] = (0, 0, 0, 0, False)


@dataclass(frozen=True, slots=True)
class PinholeCamera:
    """Intrinsics of a rectified image.

    Attributes:
        header: Stamp and optical frame.
        width: Columns of the image, pixels.
        height: Rows of the image, pixels.
        fx: Horizontal focal length, pixels.
        fy: Vertical focal length, pixels.
        cx: Column of the principal point, pixels.
        cy: Row of the principal point, pixels.
        calibration: The CameraInfo these numbers were read from, if there was one.

    Raises:
        ValueError: If the size or a focal length is not positive, or a number is not finite.
    """

    header: Header
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0):
            raise ValueError(f'camera size must be positive, got {self.width}x{self.height}')
        if not (self.fx > 0 and self.fy > 0):
            raise ValueError(
                f'focal length must be positive, got fx={self.fx:g} fy={self.fy:g}; '
                'is the camera calibrated?'
            )
        if not all(math.isfinite(number) for number in (self.fx, self.fy, self.cx, self.cy)):
            raise ValueError(
                f'intrinsics must be finite, got fx={self.fx:g} fy={self.fy:g} '
                f'cx={self.cx:g} cy={self.cy:g}; is the camera calibrated?'
            )

    def scaled(self, width: int, height: int) -> PinholeCamera:
        """Return the camera of the same view sampled at another size.

        Pixel centres sit at whole numbers, so the principal point moves with the pixel's corner.
        The calibration is dropped: it described the original size.
        """
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            calibration=None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class PointCloud:
    """An organised point cloud, one point a pixel.

    Attributes:
        header: Stamp and optical frame.
        points_m: Shape (H, W, 3), float32, metres; NaN where there is no point.
        rgb: Shape (H, W, 3), uint8, or None for a cloud without colour.
    """

    header: Header
    points_m: Float32Array
    rgb: UInt8Array | None = None

    def __post_init__(self) -> None:
        _freeze(self, 'points_m', np.float32, None, None, 3)
        if self.rgb is not None:
            _freeze(self, 'rgb', np.uint8, *self.points_m.shape)


HAND_JOINTS = (
    'wrist',
    *(f'thumb_{joint}' for joint in ('cmc', 'mcp', 'ip', 'tip')),
    *(
        f'{finger}_{joint}'
        for finger in ('index', 'middle', 'ring', 'pinky')
        for joint in ('mcp', 'pip', 'dip', 'tip')
    ),
)
"""The 21 keypoints of a hand in MediaPipe's order."""
HAND_BONES = tuple((0 if n % 4 == 1 else n - 1, n) for n in range(1, len(HAND_JOINTS)))
"""Pairs of joints that a bone connects, from the wrist outwards."""


@dataclass(frozen=True, slots=True, eq=False)
class Hands:
    """Keypoints of the hands in an image; N may be 0.

    Attributes:
        header: Stamp and optical frame.
        points_m: Shape (N, 21, 3), float32, metres, ordered as `HAND_JOINTS`.
        pixels_px: Shape (N, 21, 2), float32, columns and rows.
        confidence: Shape (N, 21), float32, probability that a point is within 20 mm of the joint.
        right: Shape (N,), float32, probability of a right hand.
        ids: Shape (N,), int32, the same from frame to frame while a hand is followed.
    """

    header: Header
    points_m: Float32Array
    pixels_px: Float32Array
    confidence: Float32Array
    right: Float32Array
    ids: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        count, joints = len(self.ids), len(HAND_JOINTS)
        _freeze(self, 'points_m', np.float32, count, joints, 3)
        _freeze(self, 'pixels_px', np.float32, count, joints, 2)
        _freeze(self, 'confidence', np.float32, count, joints)
        _freeze(self, 'right', np.float32, count)
        _freeze(self, 'ids', np.int32, count)

    @classmethod
    def none(cls, header: Header) -> Hands:
        """No hands."""
        joints = len(HAND_JOINTS)
        return cls(
            header,
            np.zeros((0, joints, 3), np.float32),
            np.zeros((0, joints, 2), np.float32),
            np.zeros((0, joints), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class HandMarkers:
    """Hands as skeletons for RViz."""

    hands: Hands

    @property
    def header(self) -> Header:
        """Header of the hands."""
        return self.hands.header


@dataclass(frozen=True, slots=True, eq=False)
class HandPoses:
    """Where the wrists of hands are and how they are turned."""

    hands: Hands

    @property
    def header(self) -> Header:
        """Header of the hands."""
        return self.hands.header


@dataclass(frozen=True, slots=True, eq=False)
class CameraOdometry:
    """Where a camera has gone since it was first followed, as its depth tells.

    Attributes:
        pose: The camera's frame at its time, placed in the frame where it started.
        covariance: Shape (6, 6), of position (m) and rotation (rad) about the axes of the start.
        velocity: Shape (6,), m/s and rad/s in the camera's own frame.
        velocity_covariance: Shape (6, 6), of `velocity`.
    """

    pose: RigidTransform
    covariance: Float64Array
    velocity: Float64Array
    velocity_covariance: Float64Array

    def __post_init__(self) -> None:
        _freeze(self, 'covariance', np.float64, 6, 6)
        _freeze(self, 'velocity', np.float64, 6)
        _freeze(self, 'velocity_covariance', np.float64, 6, 6)

    @property
    def header(self) -> Header:
        """Header of the pose."""
        return self.pose.header


@dataclass(frozen=True, slots=True, eq=False)
class RigidTransform:
    """Where one frame sits in another: p_parent = rotation @ p_child + translation_m.

    Attributes:
        header: Stamp, and the parent frame.
        child_frame_id: The frame that is placed.
        rotation: Shape (3, 3), float64, orthonormal.
        translation_m: Shape (3,), float64, metres.
    """

    header: Header
    child_frame_id: str
    rotation: Float64Array
    translation_m: Float64Array

    def __post_init__(self) -> None:
        _freeze(self, 'rotation', np.float64, 3, 3)
        _freeze(self, 'translation_m', np.float64, 3)

    def matrix(self) -> Float64Array:
        """Return it as a (4, 4) matrix."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.translation_m
        return matrix

    def inverse(self) -> RigidTransform:
        """Return where the parent frame sits in the child."""
        return RigidTransform(
            Header(self.header.stamp_ns, self.child_frame_id),
            self.header.frame_id,
            self.rotation.T.copy(),
            -self.rotation.T @ self.translation_m,
        )

    def __matmul__(self, other: RigidTransform) -> RigidTransform:
        """Chain transforms: self places b in a, other c in b, the result c in a."""
        return RigidTransform(
            self.header,
            other.child_frame_id,
            self.rotation @ other.rotation,
            self.rotation @ other.translation_m + self.translation_m,
        )
