"""Depth, its standard deviation and provenance, and colour, as images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..counts import metres_from_raw, raw_from_metres
from ..data import (
    ColorImage,
    DepthEncoding,
    DepthImage,
    Header,
    ProvenanceImage,
    StddevImage,
)
from .compressed import decompressed, read_compressed_depth
from .family import IMAGE, MessageFamily, header, header_message, is_compressed

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


def read_depth(msg: Any, unit_m: float = 0.0) -> DepthImage:
    """Read an Image or CompressedImage of depth."""
    if is_compressed(msg):
        return read_compressed_depth(msg, unit_m)
    dtype = _DEPTH_DTYPE.get(msg.encoding)
    if dtype is None:
        raise ValueError(
            f'encoding {msg.encoding!r} is not a depth image; accepted: 16UC1, mono16 '
            '(millimetres) and 32FC1 (metres)'
        )
    encoding: DepthEncoding = '16UC1' if dtype is np.uint16 else '32FC1'
    return DepthImage(header(msg), metres_from_raw(_pixels(msg, dtype)[..., 0], unit_m), encoding)


def read_color(msg: Any) -> ColorImage:
    """Read an Image or CompressedImage of colour."""
    if is_compressed(msg):
        bgr = decompressed(msg.data, cv2.IMREAD_COLOR)
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


def read_stddev(msg: Any) -> StddevImage:
    """Read an Image of standard deviations."""
    if msg.encoding != '32FC1':
        raise ValueError(f'encoding {msg.encoding!r} is not a standard deviation; accepted: 32FC1')
    return StddevImage(header(msg), _pixels(msg, np.float32)[..., 0].astype(np.float32))


def read_provenance(msg: Any) -> ProvenanceImage:
    """Read an Image of provenances."""
    if msg.encoding not in ('mono8', '8UC1'):
        raise ValueError(f'encoding {msg.encoding!r} is not a provenance; accepted: mono8, 8UC1')
    return ProvenanceImage(header(msg), np.ascontiguousarray(_pixels(msg, np.uint8)[..., 0]))


# -------------------------------------------------------------------------------- building


def _image_message(
    value_header: Header, pixels: npt.NDArray[Any], encoding: str, family: MessageFamily
) -> Any:
    return family.make(
        IMAGE,
        header=header_message(value_header, family),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // pixels.shape[0],
        data=family.octets(pixels),
    )


def depth_message(value: DepthImage, family: MessageFamily) -> Any:
    """Build an Image, in the encoding that the value carries."""
    raw = raw_from_metres(value.depth_m, value.encoding)
    return _image_message(value.header, raw, value.encoding, family)


def stddev_message(value: StddevImage, family: MessageFamily) -> Any:
    """Build an Image of 32FC1 metres."""
    return _image_message(value.header, np.ascontiguousarray(value.stddev_m), '32FC1', family)


def provenance_message(value: ProvenanceImage, family: MessageFamily) -> Any:
    """Build a mono8 Image."""
    return _image_message(value.header, np.ascontiguousarray(value.provenance), 'mono8', family)


def color_message(value: ColorImage, family: MessageFamily) -> Any:
    """Build an rgb8 Image."""
    return _image_message(value.header, np.ascontiguousarray(value.rgb), 'rgb8', family)
