"""Compressed images, as image_transport's plugins write them."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .. import rvl
from ..counts import metres_from_raw, raw_from_metres
from ..data import (
    ColorImage,
    DepthImage,
    Header,
    UInt8Array,
)
from .family import COMPRESSED_IMAGE, MessageFamily, header, header_message

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


def decompressed(data: Any, flags: int) -> npt.NDArray[Any]:
    """Return the pixels of a PNG or JPEG, as OpenCV reads them."""
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


def read_compressed_depth(msg: Any, unit_m: float) -> DepthImage:
    """Read compressedDepth (12 bytes of header, then PNG or RVL) or a plain 16-bit PNG.

    The format is that of image_transport_plugins' compressed_depth_image_transport: its config
    header holds an unused number and two quantisation parameters, a 32FC1 image is stored as
    inverse depth a / (raw - b). The format string is not to be trusted for more than its first
    word and 'rvl': drivers write it differently.
    """
    data = memoryview(msg.data).cast('B')
    encoding = msg.format.partition(';')[0].strip()
    if 'compressedDepth' not in msg.format:
        raw = decompressed(data, cv2.IMREAD_UNCHANGED)
        quantisation = None
    else:
        if len(data) < 12:
            raise ValueError(f'compressedDepth of {len(data)} bytes has no header')
        quantisation = struct.unpack_from('<2f', data, 4)
        if 'rvl' in msg.format:
            raw = _decode_rvl(data[12:])
        else:
            raw = decompressed(data[12:], cv2.IMREAD_UNCHANGED)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise ValueError(
            f'format {msg.format!r} holds a {raw.dtype} image of {raw.ndim} dimensions; '
            'a depth image has one channel of 16 bits'
        )
    if encoding != '32FC1' or quantisation is None:
        return DepthImage(header(msg), metres_from_raw(raw, unit_m), '16UC1')
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
        header=header_message(value_header, family),
        format=text,
        data=family.octets(octets),
    )
