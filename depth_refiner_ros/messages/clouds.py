"""Point clouds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..data import PointCloud
from .family import MESSAGE_TYPE, MessageFamily, header, header_message, point_field

_CLOUD_UINT32 = 6
_CLOUD_FLOAT32 = 7


def read_cloud(msg: Any) -> PointCloud:
    """Read a PointCloud2 with float32 x y z, and rgb where it has one."""
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


def cloud_message(value: PointCloud, family: MessageFamily) -> Any:
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
        point_field(name, 4 * i, _CLOUD_FLOAT32, family) for i, name in enumerate(names)
    ]
    return family.make(
        MESSAGE_TYPE[PointCloud],
        header=header_message(value.header, family),
        height=height,
        width=width,
        fields=point_fields,
        is_bigendian=False,
        point_step=4 * columns,
        row_step=4 * columns * width,
        data=family.octets(packed),
        is_dense=False,
    )
