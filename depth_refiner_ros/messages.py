"""Conversions between messages and values, and nothing else knows encoding, step and endianness.

A message is read by its field names, so the classes of rclpy and those of rosbags (ROS 1 and
ROS 2) serve alike; only building one needs to know which family it belongs to. cv_bridge is not
used: it copies twice, and its binary breaks with NumPy 2 on the distributions in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import struct
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from . import rvl
from .data import (
    HAND_BONES,
    HAND_JOINTS,
    Calibration,
    ColorImage,
    DepthEncoding,
    DepthImage,
    Float32Array,
    HandMarkers,
    HandPoses,
    Hands,
    Header,
    PinholeCamera,
    PointCloud,
    ProvenanceImage,
    RigidTransform,
    StddevImage,
    UInt8Array,
)
from .geometry import (
    quaternion_from_rotation,
    rotation_from_quaternion,
    size_around,
    wrist_rotation,
)

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'

MESSAGE_TYPE = {
    DepthImage: IMAGE,
    StddevImage: IMAGE,
    ProvenanceImage: IMAGE,
    ColorImage: IMAGE,
    PinholeCamera: 'sensor_msgs/msg/CameraInfo',
    PointCloud: 'sensor_msgs/msg/PointCloud2',
    Hands: 'sensor_msgs/msg/PointCloud2',
    HandMarkers: 'visualization_msgs/msg/MarkerArray',
    HandPoses: 'geometry_msgs/msg/PoseArray',
}
"""The message type each value is published as."""


class MessageFamily(NamedTuple):
    """How messages of one family (rclpy's, rosbags') are built.

    Attributes:
        make: Build a message from its type's name, a positional-only argument since PointField
            has a field `name`, and its fields.
        octets: Turn a contiguous array into what the family wants as `uint8[] data`.
        floats: Turn numbers into what the family wants as `float64[]`.
    """

    make: Callable[..., Any]
    octets: Callable[[npt.NDArray[Any]], Any]
    floats: Callable[[Iterable[float]], Any]


T = TypeVar('T')


def decode(
    value_type: type[T], msg: Any, topic: str = 'message', *, depth_unit_m: float = 0.0
) -> T:
    """Turn a message of either family into a value.

    Args:
        value_type: A class of `data`.
        msg: An Image, CompressedImage, CameraInfo or PointCloud2.
        topic: Where it came from, for the text of errors.
        depth_unit_m: Metres of one count of a depth image; 0: what its encoding says by REP 118,
            millimetres for 16UC1 and mono16, metres for 32FC1. The value keeps its encoding: it
            is published in that encoding's own unit.

    Raises:
        ValueError: If the message cannot be that value: one sentence that names the topic, what
            came and what is accepted.
    """
    try:
        if value_type is DepthImage:
            value: Any = _depth(msg, depth_unit_m)
        else:
            value = _DECODERS[value_type](msg)
    except ValueError as error:
        raise ValueError(f'{topic}: {error}') from None
    except AttributeError:
        raise ValueError(
            f'{topic}: a {type(msg).__name__} cannot be read as {value_type.__name__}; '
            f'expected {MESSAGE_TYPE.get(value_type, "another type")}'
        ) from None
    return value  # type: ignore[no-any-return]


def encode(value: Any, family: MessageFamily) -> Any:
    """Turn a value into a message of a family."""
    return _ENCODERS[type(value)](value, family)


def transforms(msg: Any) -> list[RigidTransform]:
    """Read a tf2_msgs/TFMessage, leaving out what has no unit quaternion, to tf2's tolerance."""
    found = []
    for item in msg.transforms:
        q, t = item.transform.rotation, item.transform.translation
        x, y, z, w = float(q.x), float(q.y), float(q.z), float(q.w)
        translation_m = np.array([t.x, t.y, t.z], np.float64)
        is_unit = abs(x * x + y * y + z * z + w * w - 1) <= 1e-2
        if not is_unit or not np.isfinite(translation_m).all():
            continue
        rotation = rotation_from_quaternion(x, y, z, w)
        found.append(RigidTransform(header(item), item.child_frame_id, rotation, translation_m))
    return found


def header(msg: Any) -> Header:
    """Read the header of a message."""
    stamp = msg.header.stamp
    return Header(stamp.sec * 1_000_000_000 + stamp.nanosec, msg.header.frame_id)


# -------------------------------------------------------------------------------- reading

_DEPTH_DTYPE: dict[str, type] = {'16UC1': np.uint16, 'mono16': np.uint16, '32FC1': np.float32}
_COLOR_CHANNELS = {
    'rgb8': 3,
    'bgr8': 3,
    '8UC3': 3,
    'rgba8': 4,
    'bgra8': 4,
    'mono8': 1,
    '8UC1': 1,
    'yuv422': 2,
    'uyvy': 2,
    'yuv422_yuy2': 2,
    'yuyv': 2,
}
_TO_RGB = {
    'bgr8': cv2.COLOR_BGR2RGB,
    '8UC3': cv2.COLOR_BGR2RGB,
    'rgba8': cv2.COLOR_RGBA2RGB,
    'bgra8': cv2.COLOR_BGRA2RGB,
    'mono8': cv2.COLOR_GRAY2RGB,
    '8UC1': cv2.COLOR_GRAY2RGB,
    'yuv422': cv2.COLOR_YUV2RGB_UYVY,
    'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2,
    'yuyv': cv2.COLOR_YUV2RGB_YUY2,
}


def _pixels(msg: Any, dtype: type, channels: int = 1) -> npt.NDArray[Any]:
    """Return the pixels of an Image as (H, W, channels), a view where byte order allows."""
    pixel_size = np.dtype(dtype).itemsize * channels
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height < 1 or width < 1:
        raise ValueError(f'image is {width}x{height}; expected at least one pixel')
    if not step and len(msg.data) == height * width * pixel_size:
        step = width * pixel_size  # some drivers leave it out; it can be nothing else
    if step < width * pixel_size:
        raise ValueError(
            f'step is {step} bytes but a row of {width} {msg.encoding} pixels has '
            f'{width * pixel_size}'
        )
    data = np.frombuffer(msg.data, np.uint8)
    # The last row may leave its padding out.
    needed = step * (height - 1) + width * pixel_size
    if data.size < needed:
        raise ValueError(
            f'{width}x{height} {msg.encoding} with step {step} needs {needed} bytes, '
            f'got {data.size}'
        )
    order = np.dtype(dtype).newbyteorder('>' if msg.is_bigendian else '<')
    strides = (step, pixel_size, np.dtype(dtype).itemsize)
    pixels: npt.NDArray[Any] = np.ndarray((height, width, channels), order, data.data, 0, strides)
    return pixels


MILLIMETRE_M = 0.001


def metres_from_counts(counts: npt.NDArray[Any], unit_m: float = MILLIMETRE_M) -> Float32Array:
    """Return the float32 nearest to counts times their unit, NaN where the count is 0.

    Args:
        counts: Unsigned integers of any shape.
        unit_m: Metres of one count.
    """
    per_metre = round(1 / unit_m)
    if counts.dtype.itemsize <= 2 and abs(per_metre * unit_m - 1) < 1e-6:
        # 0.001 has no exact float, 1000 has; and the quotient of two floats is rounded once.
        depth_m = counts.astype(np.float32)  # always a copy, in native byte order
        depth_m /= np.float32(per_metre)
    else:
        depth_m = (counts * np.float64(unit_m)).astype(np.float32)
    depth_m[counts == 0] = np.nan
    return np.asarray(depth_m)


def _metres_from_raw(raw: npt.NDArray[Any], unit_m: float) -> Float32Array:
    """Turn the pixels of a depth image into metres with NaN for no return."""
    if raw.dtype.kind == 'u':
        return metres_from_counts(raw, unit_m or MILLIMETRE_M)
    if unit_m:
        depth_m = (raw * np.float64(unit_m)).astype(np.float32)
    else:
        depth_m = raw.astype(np.float32)  # always a copy, in native byte order
    with np.errstate(invalid='ignore'):
        depth_m[~((depth_m > 0) & (depth_m < np.inf))] = np.nan
    return np.asarray(depth_m)


def _depth(msg: Any, unit_m: float = 0.0) -> DepthImage:
    if hasattr(msg, 'format'):
        return _compressed_depth(msg, unit_m)
    dtype = _DEPTH_DTYPE.get(msg.encoding)
    if dtype is None:
        raise ValueError(
            f'encoding {msg.encoding!r} is not a depth image; accepted: 16UC1, mono16 '
            '(millimetres) and 32FC1 (metres)'
        )
    encoding: DepthEncoding = '16UC1' if dtype is np.uint16 else '32FC1'
    return DepthImage(header(msg), _metres_from_raw(_pixels(msg, dtype)[..., 0], unit_m), encoding)


# What a few octets may claim: deflate packs at most 1032 to 1, JPEG less, and no camera has more
# than 8192 x 8192 pixels. An image this small needs no proof.
_PIXELS_AN_OCTET = 1032
_SMALL_PX, _LARGEST_PX = 1 << 22, 1 << 26


def _declared_size(octets: bytes | memoryview) -> tuple[int, int]:
    """Return width and height that a PNG or JPEG claims, 0 and 0 for anything else."""
    if octets[:8] == b'\x89PNG\r\n\x1a\n' and len(octets) >= 24:
        width, height = struct.unpack_from('>2I', octets, 16)
        return width, height
    at = 2 if octets[:2] == b'\xff\xd8' else len(octets)
    while at + 9 <= len(octets) and octets[at] == 0xFF:
        marker = octets[at + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from('>2H', octets, at + 5)
            return width, height
        if marker == 0xFF:  # fills up
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        else:
            at += 2 + int(struct.unpack_from('>H', octets, at + 2)[0])
    return 0, 0


_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def _is_cut_jpeg(octets: UInt8Array) -> bool:
    """Whether a JPEG lacks its end; OpenCV fills what is missing with grey and says nothing."""
    if bytes(octets[:2]) != b'\xff\xd8':
        return False
    data = octets.tobytes()
    return data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda')


def _imdecode(data: Any, flags: int) -> npt.NDArray[Any]:
    octets = np.frombuffer(data, np.uint8)
    width, height = _declared_size(octets.data)
    if width * height > min(max(_PIXELS_AN_OCTET * octets.size, _SMALL_PX), _LARGEST_PX):
        raise ValueError(f'image claims {width}x{height} pixels in {octets.size} bytes')
    if _is_cut_jpeg(octets):
        raise ValueError(f'JPEG of {octets.size} bytes is cut off')
    try:
        image = cv2.imdecode(octets, flags) if width and height else None
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f'{octets.size} bytes of compressed image are not a readable PNG or JPEG')
    return np.asarray(image)


def _compressed_depth(msg: Any, unit_m: float) -> DepthImage:
    """Read compressedDepth (12 bytes of header, then PNG or RVL) or a plain 16-bit PNG.

    The format is that of image_transport_plugins' compressed_depth_image_transport: its config
    header holds an unused number and two quantisation parameters, a 32FC1 image is stored as
    inverse depth a / (raw - b). The format string is not to be trusted for more than its first
    word and 'rvl': drivers write it differently.
    """
    data = memoryview(msg.data).cast('B')
    encoding = msg.format.partition(';')[0].strip()
    if 'compressedDepth' not in msg.format:
        raw = _imdecode(data, cv2.IMREAD_UNCHANGED)
        quantisation = None
    else:
        if len(data) < 12:
            raise ValueError(f'compressedDepth of {len(data)} bytes has no header')
        quantisation = struct.unpack_from('<2f', data, 4)
        if 'rvl' in msg.format:
            raw = _decode_rvl(data[12:])
        else:
            raw = _imdecode(data[12:], cv2.IMREAD_UNCHANGED)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise ValueError(
            f'format {msg.format!r} holds a {raw.dtype} image of {raw.ndim} dimensions; '
            'a depth image has one channel of 16 bits'
        )
    if encoding != '32FC1' or quantisation is None:
        return DepthImage(header(msg), _metres_from_raw(raw, unit_m), '16UC1')
    a, b = (np.float32(value) for value in quantisation)
    if not (0 < a < np.inf and np.isfinite(b)):
        raise ValueError(
            f'format {msg.format!r} needs quantisation parameters, got {a:g} and {b:g}'
        )
    with np.errstate(divide='ignore', invalid='ignore'):
        depth_m = a / (raw.astype(np.float32) - b)
        if unit_m:
            depth_m = (depth_m * np.float64(unit_m)).astype(np.float32)
    depth_m[(raw == 0) | ~(depth_m > 0) | ~np.isfinite(depth_m)] = np.nan
    return DepthImage(header(msg), depth_m, '32FC1')


def _decode_rvl(data: memoryview) -> npt.NDArray[np.uint16]:
    if len(data) < 8:
        raise ValueError(f'RVL image of {len(data)} bytes has no size')
    width, height = struct.unpack_from('<2I', data)
    # Every pixel costs at least a part of a nibble only in a run of zeros; the bound that
    # image_transport uses keeps a few hostile bytes from claiming gigabytes.
    if not width or not height or width * height > max(5 * len(data), 1 << 22):
        raise ValueError(f'RVL image claims {width}x{height} pixels in {len(data)} bytes')
    return rvl.decode(data[8:], width * height).reshape(height, width)


def _color(msg: Any) -> ColorImage:
    if hasattr(msg, 'format'):
        bgr = _imdecode(msg.data, cv2.IMREAD_COLOR)
        return ColorImage(header(msg), np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))
    channels = _COLOR_CHANNELS.get(msg.encoding)
    if channels is None:
        raise ValueError(
            f'encoding {msg.encoding!r} is not a colour image; accepted: '
            f'{", ".join(_COLOR_CHANNELS)}'
        )
    raw = _pixels(msg, np.uint8, channels)
    if channels == 2 and msg.width % 2:
        raise ValueError(f'{msg.encoding} stores pixels in pairs, but the width is {msg.width}')
    if msg.encoding == 'rgb8':
        return ColorImage(header(msg), np.ascontiguousarray(raw))
    rgb = cv2.cvtColor(np.ascontiguousarray(raw), _TO_RGB[msg.encoding])
    return ColorImage(header(msg), np.asarray(rgb, np.uint8))


def _stddev(msg: Any) -> StddevImage:
    if msg.encoding != '32FC1':
        raise ValueError(f'encoding {msg.encoding!r} is not a standard deviation; accepted: 32FC1')
    return StddevImage(header(msg), _pixels(msg, np.float32)[..., 0].astype(np.float32))


def _provenance(msg: Any) -> ProvenanceImage:
    if msg.encoding not in ('mono8', '8UC1'):
        raise ValueError(f'encoding {msg.encoding!r} is not a provenance; accepted: mono8, 8UC1')
    return ProvenanceImage(header(msg), np.ascontiguousarray(_pixels(msg, np.uint8)[..., 0]))


def _camera(msg: Any) -> PinholeCamera:
    # ROS 1 spells the matrices in capitals.
    d, k, r, p = (
        tuple(float(x) for x in getattr(msg, name if hasattr(msg, name) else name.upper()))
        for name in 'dkrp'
    )
    roi = msg.roi
    calibration = Calibration(
        msg.distortion_model,
        d,
        k,
        r,
        p,
        int(msg.width),
        int(msg.height),
        int(msg.binning_x),
        int(msg.binning_y),
        (roi.x_offset, roi.y_offset, roi.height, roi.width, bool(roi.do_rectify)),
    )
    # P belongs to the rectified image; drivers of a single camera often leave it zero.
    fx, fy, cx, cy = [p[i] for i in (0, 5, 2, 6)] if p[0] else [k[i] for i in (0, 4, 2, 5)]
    if not fx or not fy:
        raise ValueError(
            'camera_info has no focal length (K and P are zero): calibrate the camera'
        )
    if calibration.width > 0 and calibration.height > 0:
        _check_centre((fx, fy, cx, cy), calibration.width, calibration.height)
    bin_x, bin_y = max(1, calibration.binning_x), max(1, calibration.binning_y)
    width = (roi.width or calibration.width) // bin_x
    height = (roi.height or calibration.height) // bin_y
    return PinholeCamera(
        header(msg),
        width,
        height,
        fx / bin_x,
        fy / bin_y,
        (cx - roi.x_offset) / bin_x,
        (cy - roi.y_offset) / bin_y,
        calibration,
    )


def _check_centre(intrinsics: tuple[float, ...], width: int, height: int) -> None:
    """Refuse a principal point outside the image: points would be several times too wide."""
    if not np.isfinite(intrinsics).all():
        return  # PinholeCamera says so
    fx, fy, cx, cy = intrinsics
    if 0 <= cx <= width and 0 <= cy <= height:
        return
    size = size_around(cx, cy)
    remedy = 'publish those of the stream'
    if size is not None and size[0] * height == size[1] * width:
        fitting = PinholeCamera(Header(0, ''), *size, fx, fy, cx, cy).scaled(width, height)
        remedy += (
            f'; scaled, they are fx {fitting.fx:.1f} fy {fitting.fy:.1f} '
            f'cx {fitting.cx:.1f} cy {fitting.cy:.1f}'
        )
    raise ValueError(
        f'the principal point, cx {cx:g} cy {cy:g}, is outside the {width}x{height} image: the '
        'intrinsics are those of '
        + (f'{size[0]}x{size[1]} pixels' if size else 'another resolution')
        + f': {remedy}'
    )


_CLOUD_UINT32 = 6
_CLOUD_FLOAT32 = 7


def _cloud(msg: Any) -> PointCloud:
    # Colour is the same 32 bits under either type.
    offsets = {
        f.name: f.offset
        for f in msg.fields
        if f.datatype == _CLOUD_FLOAT32 or (f.name == 'rgb' and f.datatype == _CLOUD_UINT32)
    }
    if missing := {'x', 'y', 'z'} - set(offsets):
        raise ValueError(f'point cloud has no float32 field {", ".join(sorted(missing))}')
    height, width, step = int(msg.height), int(msg.width), int(msg.point_step)
    data = np.frombuffer(msg.data, np.uint8)
    needed = msg.row_step * (height - 1) + width * step
    overlapping = height > 1 and msg.row_step < width * step
    if max(offsets.values()) + 4 > step or overlapping or data.size < needed:
        raise ValueError(f'point cloud of {width}x{height} does not fit its {data.size} bytes')
    order = '>' if msg.is_bigendian else '<'

    octets = np.ndarray((height, width, step), np.uint8, data, strides=(msg.row_step, step, 1))

    def column(name: str, kind: str) -> npt.NDArray[Any]:
        four = octets[..., offsets[name] : offsets[name] + 4]
        values: npt.NDArray[Any] = four.view(order + kind)[..., 0]
        return values

    points_m = np.stack([column(axis, 'f4') for axis in 'xyz'], -1).astype(np.float32)
    if 'rgb' not in offsets:
        return PointCloud(header(msg), points_m)
    packed = column('rgb', 'u4')
    rgb = np.stack([packed >> shift & 255 for shift in (16, 8, 0)], -1).astype(np.uint8)
    return PointCloud(header(msg), points_m, rgb)


_DECODERS: dict[type, Callable[[Any], Any]] = {
    DepthImage: _depth,
    StddevImage: _stddev,
    ProvenanceImage: _provenance,
    ColorImage: _color,
    PinholeCamera: _camera,
    PointCloud: _cloud,
}


# ------------------------------------------------------------------------------- building


_FARTHEST_MM_M = np.float32(65.535)


def raw_from_metres(depth_m: Float32Array, encoding: DepthEncoding) -> npt.NDArray[Any]:
    """Turn metres into 16UC1 millimetres (0 where NaN or beyond 65.535 m) or 32FC1 metres."""
    if encoding == '32FC1':
        return np.ascontiguousarray(depth_m)
    # Rounds and saturates in one pass, NaN to 0.
    scaled = cv2.multiply(depth_m, 1000.0, dtype=cv2.CV_16U)  # type: ignore[call-overload]
    mm = np.asarray(scaled, np.uint16)
    with np.errstate(invalid='ignore'):
        mm[depth_m > _FARTHEST_MM_M] = 0
    return mm


def _header_message(value: Header, family: MessageFamily) -> Any:
    sec, nanosec = divmod(value.stamp_ns, 1_000_000_000)
    time = family.make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
    return family.make('std_msgs/msg/Header', stamp=time, frame_id=value.frame_id)


def _image_message(
    value_header: Header, pixels: npt.NDArray[Any], encoding: str, family: MessageFamily
) -> Any:
    return family.make(
        IMAGE,
        header=_header_message(value_header, family),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // pixels.shape[0],
        data=family.octets(pixels),
    )


def _depth_message(value: DepthImage, family: MessageFamily) -> Any:
    raw = raw_from_metres(value.depth_m, value.encoding)
    return _image_message(value.header, raw, value.encoding, family)


def _stddev_message(value: StddevImage, family: MessageFamily) -> Any:
    return _image_message(value.header, np.ascontiguousarray(value.stddev_m), '32FC1', family)


def _provenance_message(value: ProvenanceImage, family: MessageFamily) -> Any:
    return _image_message(value.header, np.ascontiguousarray(value.provenance), 'mono8', family)


def _color_message(value: ColorImage, family: MessageFamily) -> Any:
    return _image_message(value.header, np.ascontiguousarray(value.rgb), 'rgb8', family)


def _camera_message(value: PinholeCamera, family: MessageFamily) -> Any:
    c = value.calibration or Calibration(
        distortion_model='plumb_bob',
        d=(0.0,) * 5,
        k=(value.fx, 0.0, value.cx, 0.0, value.fy, value.cy, 0.0, 0.0, 1.0),
        r=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        p=(value.fx, 0.0, value.cx, 0.0, 0.0, value.fy, value.cy, 0.0, 0.0, 0.0, 1.0, 0.0),
        width=value.width,
        height=value.height,
    )
    x_offset, y_offset, roi_height, roi_width, do_rectify = c.roi
    return family.make(
        MESSAGE_TYPE[PinholeCamera],
        header=_header_message(value.header, family),
        height=c.height,
        width=c.width,
        distortion_model=c.distortion_model,
        d=family.floats(c.d),
        k=family.floats(c.k),
        r=family.floats(c.r),
        p=family.floats(c.p),
        binning_x=c.binning_x,
        binning_y=c.binning_y,
        roi=family.make(
            'sensor_msgs/msg/RegionOfInterest',
            x_offset=x_offset,
            y_offset=y_offset,
            height=roi_height,
            width=roi_width,
            do_rectify=do_rectify,
        ),
    )


def _cloud_message(value: PointCloud, family: MessageFamily) -> Any:
    """Pack x y z, and colour as the 0x00RRGGBB bits of a float32, as PCL and RViz read it."""
    names = ['x', 'y', 'z']
    packed = np.ascontiguousarray(value.points_m)
    if value.rgb is not None:
        names.append('rgb')
        color = cv2.cvtColor(np.ascontiguousarray(value.rgb), cv2.COLOR_RGB2BGRA)
        color[..., 3] = 0
        # OpenCV moves the bits of a float32 as they are, four times as fast as numpy's strides.
        sources = [packed, color.view(np.float32)]
        packed = np.empty((*packed.shape[:2], 4), np.float32)
        cv2.mixChannels(sources, [packed], [0, 0, 1, 1, 2, 2, 3, 3])
    height, width, columns = packed.shape
    point_fields = [
        family.make(
            'sensor_msgs/msg/PointField',
            name=name,
            offset=4 * i,
            datatype=_CLOUD_FLOAT32,
            count=1,
        )
        for i, name in enumerate(names)
    ]
    return family.make(
        MESSAGE_TYPE[PointCloud],
        header=_header_message(value.header, family),
        height=height,
        width=width,
        fields=point_fields,
        is_bigendian=False,
        point_step=4 * columns,
        row_step=4 * columns * width,
        data=family.octets(packed),
        is_dense=False,
    )


# ---------------------------------------------------------------------------------- hands

_KEYPOINT = np.dtype(
    [(name, np.float32) for name in ('x', 'y', 'z', 'u', 'v', 'confidence', 'right')]
    + [('joint', np.uint32), ('hand', np.int32)]
)
_POINT_FIELD_TYPE = {'f': 7, 'u': 6, 'i': 5}


def _hands_message(value: Hands, family: MessageFamily) -> Any:
    """One row a hand, one column a joint: x y z, u v, confidence, right, joint, hand."""
    count, joints = len(value.ids), len(HAND_JOINTS)
    points = np.zeros((count, joints), _KEYPOINT)
    for i, name in enumerate('xyz'):
        points[name] = value.points_m[..., i]
    points['u'], points['v'] = value.pixels_px[..., 0], value.pixels_px[..., 1]
    points['confidence'] = value.confidence
    points['right'] = value.right[:, None]
    points['joint'] = np.arange(joints)
    points['hand'] = value.ids[:, None]
    point_fields = [
        family.make(
            'sensor_msgs/msg/PointField',
            name=name,
            offset=int(field[1]),
            datatype=_POINT_FIELD_TYPE[field[0].kind],
            count=1,
        )
        for name, field in (_KEYPOINT.fields or {}).items()
    ]
    return family.make(
        MESSAGE_TYPE[Hands],
        header=_header_message(value.header, family),
        height=count,
        width=joints,
        fields=point_fields,
        is_bigendian=False,
        point_step=_KEYPOINT.itemsize,
        row_step=_KEYPOINT.itemsize * joints,
        data=family.octets(points),
        is_dense=True,
    )


_MARKER_SPHERE_LIST, _MARKER_LINE_LIST = 7, 5
_MARKER_ADD, _MARKER_DELETE_ALL = 0, 3
_BONE_WIDTH_M, _JOINT_WIDTH_M = 0.006, 0.012
_RIGHT_RGB, _LEFT_RGB = (0.34, 0.71, 0.91), (0.9, 0.62, 0.0)
_MARKER_LIFETIME_NS = 500_000_000


def _markers_message(value: HandMarkers, family: MessageFamily) -> Any:
    """Skeletons: lines and spheres, the fainter the less sure, blue for right hands."""
    hands = value.hands
    # Hands that are gone must not stay on the screen.
    markers = [_marker(value.header, family, 0, 0, _MARKER_DELETE_ALL, 1.0, [], [])]
    bones = np.array(HAND_BONES).ravel()
    for points_m, sure, right, number in zip(
        hands.points_m, hands.confidence, hands.right, hands.ids, strict=True
    ):
        rgb = _RIGHT_RGB if right >= 0.5 else _LEFT_RGB
        colors = [(*rgb, 0.15 + 0.85 * float(c)) for c in sure]
        for kind, width_m, joints in (
            (_MARKER_LINE_LIST, _BONE_WIDTH_M, bones),
            (_MARKER_SPHERE_LIST, _JOINT_WIDTH_M, np.arange(len(HAND_JOINTS))),
        ):
            markers.append(
                _marker(
                    value.header,
                    family,
                    int(number),
                    kind,
                    _MARKER_ADD,
                    width_m,
                    points_m[joints],
                    [colors[j] for j in joints],
                )
            )
    return family.make(MESSAGE_TYPE[HandMarkers], markers=markers)


def _marker(
    header: Header,
    family: MessageFamily,
    number: int,
    kind: int,
    action: int,
    width_m: float,
    points_m: Iterable[Iterable[float]],
    colors: Iterable[tuple[float, ...]],
) -> Any:
    def color(values: Iterable[float]) -> Any:
        r, g, b, a = (float(v) for v in values)
        return family.make('std_msgs/msg/ColorRGBA', r=r, g=g, b=b, a=a)

    stamped = _header_message(header, family)
    return family.make(
        'visualization_msgs/msg/Marker',
        header=stamped,
        ns='bones' if kind == _MARKER_LINE_LIST else 'joints',
        id=number,
        type=kind,
        action=action,
        pose=_pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), family),
        scale=family.make('geometry_msgs/msg/Vector3', x=width_m, y=width_m, z=width_m),
        color=color((1, 1, 1, 1)),
        lifetime=family.make(
            'builtin_interfaces/msg/Duration', sec=0, nanosec=_MARKER_LIFETIME_NS
        ),
        frame_locked=False,
        points=[_point(point_m, family) for point_m in points_m],
        colors=[color(each) for each in colors],
        texture_resource='',
        texture=family.make(
            COMPRESSED_IMAGE,
            header=stamped,
            format='',
            data=family.octets(np.zeros(0, np.uint8)),
        ),
        uv_coordinates=[],
        text='',
        mesh_resource='',
        mesh_file=family.make(
            'visualization_msgs/msg/MeshFile',
            filename='',
            data=family.octets(np.zeros(0, np.uint8)),
        ),
        mesh_use_embedded_materials=False,
    )


def _poses_message(value: HandPoses, family: MessageFamily) -> Any:
    hands = value.hands
    poses = [
        _pose(points_m[0], quaternion_from_rotation(wrist_rotation(points_m, right)), family)
        for points_m, right in zip(hands.points_m, hands.right >= 0.5, strict=True)
    ]
    return family.make(
        MESSAGE_TYPE[HandPoses], header=_header_message(value.header, family), poses=poses
    )


def _pose(position_m: Iterable[float], quaternion: Iterable[float], family: MessageFamily) -> Any:
    x, y, z, w = (float(v) for v in quaternion)
    return family.make(
        'geometry_msgs/msg/Pose',
        position=_point(position_m, family),
        orientation=family.make('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w),
    )


def _point(point_m: Iterable[float], family: MessageFamily) -> Any:
    x, y, z = (float(v) for v in point_m)
    return family.make('geometry_msgs/msg/Point', x=x, y=y, z=z)


_ENCODERS: dict[type, Callable[[Any, MessageFamily], Any]] = {
    DepthImage: _depth_message,
    StddevImage: _stddev_message,
    ProvenanceImage: _provenance_message,
    ColorImage: _color_message,
    PinholeCamera: _camera_message,
    PointCloud: _cloud_message,
    Hands: _hands_message,
    HandMarkers: _markers_message,
    HandPoses: _poses_message,
}


def transforms_message(items: Iterable[RigidTransform], family: MessageFamily) -> Any:
    """Build a tf2_msgs/TFMessage."""
    messages = []
    for item in items:
        x, y, z, w = quaternion_from_rotation(item.rotation)
        tx, ty, tz = (float(t) for t in item.translation_m)
        rotation = family.make('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w)
        translation = family.make('geometry_msgs/msg/Vector3', x=tx, y=ty, z=tz)
        transform = family.make(
            'geometry_msgs/msg/Transform', translation=translation, rotation=rotation
        )
        messages.append(
            family.make(
                'geometry_msgs/msg/TransformStamped',
                header=_header_message(item.header, family),
                child_frame_id=item.child_frame_id,
                transform=transform,
            )
        )
    return family.make('tf2_msgs/msg/TFMessage', transforms=messages)


# image_transport's own defaults: depths to 10 m, finest (0.1 mm) at the near end.
_DEPTH_MAX_M = 10.0
_DEPTH_QUANTIZATION = 100.0


def encode_compressed(
    value: DepthImage | ColorImage, family: MessageFamily, codec: str = 'png'
) -> Any:
    """Turn an image into a CompressedImage, as image_transport's plugins would.

    Args:
        value: A depth image becomes compressedDepth, a colour image a compressed one.
        family: The family of the message.
        codec: 'png' or 'rvl' for depth, 'jpeg' or 'png' for colour.

    Raises:
        ValueError: If the codec does not fit the value.
    """
    if isinstance(value, ColorImage):
        if codec not in ('jpeg', 'png'):
            raise ValueError(f'colour is compressed as jpeg or png, not {codec!r}')
        bgr = cv2.cvtColor(value.rgb, cv2.COLOR_RGB2BGR)
        octets = _imencode(f'.{codec}', bgr)
        text = f'rgb8; {codec} compressed bgr8'
        return _compressed_message(value.header, text, octets, family)
    if codec not in ('png', 'rvl'):
        raise ValueError(f'depth is compressed as png or rvl, not {codec!r}')
    a = b = 0.0
    if value.encoding == '16UC1':
        raw = raw_from_metres(value.depth_m, '16UC1')
    else:
        a = _DEPTH_QUANTIZATION * (_DEPTH_QUANTIZATION + 1)
        b = 1 - a / _DEPTH_MAX_M
        with np.errstate(invalid='ignore', divide='ignore'):
            inverse = np.float32(a) / value.depth_m + np.float32(b)
            inverse[~((value.depth_m < _DEPTH_MAX_M) & (inverse < 65536))] = 0
        raw = inverse.astype(np.uint16)
    if codec == 'rvl':
        height, width = raw.shape
        body = np.frombuffer(struct.pack('<2I', width, height) + rvl.encode(raw), np.uint8)
    else:
        body = _imencode('.png', raw)
    octets = np.concatenate([np.frombuffer(struct.pack('<i2f', 0, a, b), np.uint8), body])
    text = f'{value.encoding}; compressedDepth {codec}'
    return _compressed_message(value.header, text, octets, family)


def _imencode(suffix: str, image: npt.NDArray[Any]) -> UInt8Array:
    done, octets = cv2.imencode(suffix, image)
    if not done:
        raise ValueError(f'OpenCV cannot write {suffix} images')
    return np.asarray(octets, np.uint8).reshape(-1)


def _compressed_message(
    value_header: Header, text: str, octets: UInt8Array, family: MessageFamily
) -> Any:
    return family.make(
        COMPRESSED_IMAGE,
        header=_header_message(value_header, family),
        format=text,
        data=family.octets(octets),
    )
