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

import numpy as np
import numpy.typing as npt

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
    """Invented: the sensor saw nothing here, or something that was rejected."""
    ESTIMATED = 4
    """Invented from colour alone, metres and all."""
    ALIGNED = 5
    """Invented from colour, and brought in scale and shift to what was measured."""
    RELATIVE = 6
    """Invented from colour, and right but for scale and shift: no metres."""


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
            therefore answers in the encoding it was asked in.

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
    """What a CameraInfo says beyond the rectified pinhole, kept so that it is passed on unchanged.

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
"""The 21 keypoints of a hand in the order that MediaPipe made common."""
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
    """Hands as skeletons to look at."""

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
