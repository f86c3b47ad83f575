"""Hands: their keypoints as a cloud, their skeletons as markers, their wrists as poses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..data import HAND_JOINTS, HandMarkers, HandPoses, Hands, Header
from ..geometry import quaternion_from_rotation, wrist_rotation
from ..skeletons import skeletons
from .family import COMPRESSED_IMAGE, MESSAGE_TYPE, MessageFamily, header_message, point_field

_KEYPOINT = np.dtype(
    [(name, np.float32) for name in ('x', 'y', 'z', 'u', 'v', 'confidence', 'right')]
    + [('joint', np.uint32), ('hand', np.int32)]
)
_POINT_FIELD_TYPE = {'f': 7, 'u': 6, 'i': 5}


def hands_message(value: Hands, family: MessageFamily) -> Any:
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
        point_field(name, int(field[1]), _POINT_FIELD_TYPE[field[0].kind], family)
        for name, field in (_KEYPOINT.fields or {}).items()
    ]
    return family.make(
        MESSAGE_TYPE[Hands],
        header=header_message(value.header, family),
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
_MARKER_LIFETIME_NS = 500_000_000


def markers_message(value: HandMarkers, family: MessageFamily) -> Any:
    """Build a MarkerArray of skeletons: a list of lines and a list of spheres for every hand."""
    # Hands that are gone must not stay on the screen.
    markers = [_marker(value.header, family, 0, 0, _MARKER_DELETE_ALL, 1.0, [], [])]
    for skeleton in skeletons(value.hands):
        for kind, width_m, points_m, colors in (
            (_MARKER_LINE_LIST, skeleton.line_width_m, skeleton.lines_m, skeleton.line_colors),
            (_MARKER_SPHERE_LIST, skeleton.ball_width_m, skeleton.balls_m, skeleton.ball_colors),
        ):
            markers.append(
                _marker(
                    value.header,
                    family,
                    skeleton.number,
                    kind,
                    _MARKER_ADD,
                    width_m,
                    points_m,
                    colors,
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

    stamped = header_message(header, family)
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


def poses_message(value: HandPoses, family: MessageFamily) -> Any:
    """Build a PoseArray of the wrists."""
    hands = value.hands
    poses = [
        _pose(points_m[0], quaternion_from_rotation(wrist_rotation(points_m, right)), family)
        for points_m, right in zip(hands.points_m, hands.right >= 0.5, strict=True)
    ]
    return family.make(
        MESSAGE_TYPE[HandPoses], header=header_message(value.header, family), poses=poses
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
