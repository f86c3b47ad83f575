from __future__ import annotations

from dataclasses import replace
import struct

import numpy as np
import pytest

from depth_refiner_ros.data import (
    PointCloud,
)
from depth_refiner_ros.messages import (
    decode,
    encode,
)

from .builders import (
    HEADER,
    RGB,
    ROS2,
    delivered,
    family,
    header_message,
    refused,
)

POINTS_M = np.array([[[1.0, -2.0, 3.0], [np.nan] * 3], [[0.5, 0.25, 0.125], [4, 5, 6]]])
POINTS_M = POINTS_M.astype(np.float32)


def test_a_cloud_as_rviz_reads_it():
    msg = delivered(ROS2, encode(PointCloud(HEADER, POINTS_M), family()))
    assert [(f.name, f.offset, f.datatype, f.count) for f in msg.fields] == [
        ('x', 0, 7, 1),
        ('y', 4, 7, 1),
        ('z', 8, 7, 1),
    ]
    assert (msg.width, msg.height, msg.point_step, msg.row_step) == (2, 2, 12, 24)
    assert not msg.is_bigendian
    assert not msg.is_dense
    assert msg.data.size == 48
    assert msg.data[:12].tobytes() == struct.pack('<3f', 1.0, -2.0, 3.0)
    assert msg.data[24:36].tobytes() == struct.pack('<3f', 0.5, 0.25, 0.125)
    again = decode(PointCloud, msg)
    np.testing.assert_array_equal(again.points_m, POINTS_M)
    assert again.rgb is None
    assert again.header == HEADER


def test_a_colored_cloud_as_rviz_reads_it():
    msg = delivered(ROS2, encode(PointCloud(HEADER, POINTS_M, RGB), family()))
    assert [(f.name, f.offset, f.datatype, f.count) for f in msg.fields] == [
        ('x', 0, 7, 1),
        ('y', 4, 7, 1),
        ('z', 8, 7, 1),
        ('rgb', 12, 7, 1),
    ]
    assert (msg.point_step, msg.row_step) == (16, 32)
    # 0x00RRGGBB, little endian: blue, green, red, 0
    assert msg.data[:16].tobytes() == struct.pack('<3f', 1.0, -2.0, 3.0) + bytes([10, 0, 255, 0])
    assert msg.data[28:32].tobytes() == bytes([30, 200, 1, 0])
    again = decode(PointCloud, msg)
    np.testing.assert_array_equal(again.points_m, POINTS_M)
    np.testing.assert_array_equal(again.rgb, RGB)


def cloud(store, columns, *, width, height=1, point_step, row_padding=0, big=False):
    """A PointCloud2 of columns (name, offset, datatype, values)."""
    order = '>' if big else '<'
    points = np.zeros((height, width, point_step), np.uint8)
    for _, offset, datatype, values in columns:
        packed = np.asarray(values, order + {6: 'u4', 7: 'f4', 8: 'f8'}[datatype])
        size = packed.itemsize
        octets = np.frombuffer(packed.tobytes(), np.uint8).reshape(height, width, size)
        points[..., offset : offset + size] = octets
    rows = points.reshape(height, width * point_step)
    rows = np.concatenate([rows, np.full((height, row_padding), 0xEE, np.uint8)], 1)
    make_field = store.types['sensor_msgs/msg/PointField']
    return store.types['sensor_msgs/msg/PointCloud2'](
        header=header_message(store),
        height=height,
        width=width,
        fields=[make_field(name=n, offset=o, datatype=t, count=1) for n, o, t, _ in columns],
        is_bigendian=big,
        point_step=point_step,
        row_step=rows.shape[1],
        data=rows.reshape(-1),
        is_dense=True,
    )


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('datatype', [6, 7])
def test_a_cloud_of_another_layout(store, big, datatype):
    # PCL aligns to 16 bytes, orders freely, and stores colour as uint32 or float32
    red = np.array([0x00FF8001] * 6, np.uint32)
    columns = [
        ('z', 4, 7, [3, 4, 5, 6, 7, 8]),
        ('x', 8, 7, [1, 2, 3, 4, 5, 6]),
        ('y', 16, 7, [9, 8, 7, 6, 5, 4]),
        ('rgb', 24, datatype, red.view(np.float32) if datatype == 7 else red),
        ('t', 32, 8, [0.0] * 6),
    ]
    msg = cloud(store, columns, width=3, height=2, point_step=48, row_padding=5, big=big)
    value = decode(PointCloud, delivered(store, msg))
    np.testing.assert_array_equal(value.points_m[1, 2], [6.0, 4.0, 8.0])
    np.testing.assert_array_equal(value.points_m[0, 0], [1.0, 9.0, 3.0])
    assert (value.rgb == (255, 128, 1)).all()


def xyz(*names, datatype=7):
    size = 8 if datatype == 8 else 4
    return [(name, i * size, datatype, [1.0, 2.0]) for i, name in enumerate(names)]


def test_an_empty_cloud(store):
    msg = cloud(store, [(n, 4 * i, 7, []) for i, n in enumerate('xyz')], width=0, point_step=12)
    assert decode(PointCloud, delivered(store, msg)).points_m.shape == (1, 0, 3)


@pytest.mark.parametrize(
    ('columns', 'changes', 'text'),
    [
        (xyz('x', 'i'), {}, 'point cloud has no float32 field y, z'),
        (xyz('x', 'y', 'z', datatype=8), {}, 'point cloud has no float32 field x, y, z'),
        (xyz('x', 'y', 'z', datatype=6), {}, 'point cloud has no float32 field x, y, z'),
        (
            xyz('x', 'y', 'z'),
            {'data': np.zeros(47, np.uint8)},
            'point cloud of 2x1 does not fit its 47 bytes',
        ),
        (
            xyz('x', 'y', 'z'),
            {'point_step': 11},
            'point cloud of 2x1 does not fit its 48 bytes',
        ),
        (
            xyz('x', 'y', 'z'),
            {'width': 3},
            'point cloud of 3x1 does not fit its 48 bytes',
        ),
        (
            xyz('x', 'y', 'z'),
            {'height': 4_000_000_000, 'row_step': 4_000_000_000},
            'point cloud of 2x4000000000 does not fit its 48 bytes',
        ),
    ],
)
def test_a_malformed_cloud_is_refused(store, columns, changes, text):
    msg = cloud(store, columns, width=2, point_step=24)
    refused(PointCloud, replace(msg, **changes), text)
