"""Tiny recordings for the tests of the command line, built message by message."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from depth_refiner_ros.cli import main
from depth_refiner_ros.data import ColorImage, DepthImage, Header
from depth_refiner_ros.hosts.bag import open_bag
from depth_refiner_ros.hosts.typestore import FAMILY, STORE
from depth_refiner_ros.messages import encode_compressed

START_NS = 1_700_000_000_123_456_789
PERIOD_NS = 33_333_333
LATENCY_NS = 5_000_000
FRAME = 'camera_optical_frame'
WIDTH, HEIGHT = 64, 48
ROS1 = get_typestore(Stores.ROS1_NOETIC)
ROS1.register(
    {
        name: get_types_from_msg('geometry_msgs/TransformStamped[] transforms', name)[name]
        for name in ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')
    }
)
RGB = (200, 100, 50)


class Message(NamedTuple):
    topic: str
    log_ns: int
    msg: Any


def header(stamp_ns: int, frame_id: str = FRAME) -> Any:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = FAMILY.make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
    return FAMILY.make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)


def image(stamp_ns: int, pixels: np.ndarray, encoding: str, frame_id: str = FRAME) -> Any:
    return FAMILY.make(
        'sensor_msgs/msg/Image',
        header=header(stamp_ns, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=FAMILY.octets(pixels),
    )


def info(stamp_ns: int, frame_id: str = FRAME, **changes: Any) -> Any:
    """A CameraInfo in which every field tells itself apart from its default."""
    fields = {
        'header': header(stamp_ns, frame_id),
        'height': HEIGHT,
        'width': WIDTH,
        'distortion_model': 'rational_polynomial',
        'd': np.array([0.1, -0.2, 0.001, 0.002, 0.3, 0.0, 0.0, 0.0]),
        'k': np.array([61.0, 0, 30.5, 0, 62.0, 22.5, 0, 0, 1]),
        'r': np.array([0.0, -1, 0, 1, 0, 0, 0, 0, 1]),
        'p': np.array([60.0, 0, 31.5, -3.0, 0, 60.0, 23.5, 0, 0, 0, 1, 0]),
        'binning_x': 1,
        'binning_y': 1,
        'roi': FAMILY.make(
            'sensor_msgs/msg/RegionOfInterest',
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    }
    return FAMILY.make('sensor_msgs/msg/CameraInfo', **(fields | changes))


def compressed(stamp_ns: int, text: str, data: bytes, frame_id: str = FRAME) -> Any:
    return FAMILY.make(
        'sensor_msgs/msg/CompressedImage',
        header=header(stamp_ns, frame_id),
        format=text,
        data=np.frombuffer(data, np.uint8),
    )


def depth_m(i: int) -> np.ndarray:
    """Two walls, a hole on their edge, and millimetre noise that a seed repeats."""
    depth = np.full((HEIGHT, WIDTH), 1.5, np.float32)
    depth[:, 40:] = 2.0
    depth += np.random.default_rng(i).integers(-2, 3, depth.shape).astype(np.float32) / 1000
    depth[10:20, 34:44] = np.nan
    return depth


def depth_image(i: int, encoding: str, stamp_ns: int, frame_id: str = FRAME) -> Any:
    depth = depth_m(i)
    if encoding == '16UC1':
        depth = np.nan_to_num(np.rint(depth * 1000)).astype(np.uint16)
    return image(stamp_ns, depth, encoding, frame_id)


def color_image(encoding: str, stamp_ns: int, frame_id: str = FRAME) -> Any:
    rgb = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    rgb[:] = RGB
    if encoding in ('yuv422', 'uyvy'):
        # BT.601 in studio range, as cameras send it: Y 16 to 235, U and V around 128.
        r, g, b = RGB
        pixels = np.empty((HEIGHT, WIDTH, 2), np.uint8)
        pixels[..., 1] = round(16 + 0.257 * r + 0.504 * g + 0.098 * b)
        pixels[:, 0::2, 0] = round(128 - 0.148 * r - 0.291 * g + 0.439 * b)
        pixels[:, 1::2, 0] = round(128 + 0.439 * r - 0.368 * g - 0.071 * b)
    elif encoding == 'bgr8':
        pixels = np.ascontiguousarray(rgb[..., ::-1])
    elif encoding == 'bgra8':
        pixels = np.dstack([rgb[..., ::-1], np.full((HEIGHT, WIDTH), 255, np.uint8)])
    else:
        pixels = rgb
    return image(stamp_ns, pixels, encoding, frame_id)


def scene(
    count: int = 4,
    *,
    depth: str = '16UC1',
    color: str | None = 'bgr8',
    codec: str = '',
    base: str = '/camera',
    name: str = 'image_rect',
    depth_frame: str = FRAME,
    color_frame: str = FRAME,
) -> list[Message]:
    """A camera's messages: camera_info, depth and colour of every frame, logged 5 ms late."""
    found = []
    for i in range(count):
        stamp_ns = START_NS + i * PERIOD_NS
        log_ns = stamp_ns + LATENCY_NS
        found.append(Message(f'{base}/depth/camera_info', log_ns, info(stamp_ns, depth_frame)))
        if color == 'jpeg':
            rgb = np.empty((HEIGHT, WIDTH, 3), np.uint8)
            rgb[:] = RGB
            value = ColorImage(Header(stamp_ns, color_frame), rgb)
            msg = encode_compressed(value, FAMILY, 'jpeg')
            found.append(Message(f'{base}/color/{name}/compressed', log_ns + 1, msg))
        elif color:
            msg = color_image(color, stamp_ns, color_frame)
            found.append(Message(f'{base}/color/{name}', log_ns + 1, msg))
        topic = f'{base}/depth/{name}'
        if codec:
            value = DepthImage(Header(stamp_ns, depth_frame), depth_m(i), depth)
            msg = encode_compressed(value, FAMILY, codec)
            found.append(Message(f'{topic}/compressedDepth', log_ns + 2, msg))
        else:
            msg = depth_image(i, depth, stamp_ns, depth_frame)
            found.append(Message(topic, log_ns + 2, msg))
    return found


def transform(parent: str, child: str, xyz_m: tuple[float, float, float]) -> Any:
    names = dict(zip('xyz', xyz_m, strict=True))
    translation = FAMILY.make('geometry_msgs/msg/Vector3', **names)
    rotation = FAMILY.make('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0)
    stamped = FAMILY.make(
        'geometry_msgs/msg/TransformStamped',
        header=header(START_NS, parent),
        child_frame_id=child,
        transform=FAMILY.make(
            'geometry_msgs/msg/Transform', translation=translation, rotation=rotation
        ),
    )
    return FAMILY.make('tf2_msgs/msg/TFMessage', transforms=[stamped])


def text(data: str) -> Any:
    return FAMILY.make('std_msgs/msg/String', data=data)


def to_ros1(msg: Any) -> Any:
    """The same message in its ROS 1 class: Header has a seq, CameraInfo's matrices capitals."""
    if isinstance(msg, list):
        return [to_ros1(item) for item in msg]
    name = getattr(msg, '__msgtype__', None)
    if name is None:
        return msg
    if name == 'builtin_interfaces/msg/Time':
        return ROS1.types[name](sec=msg.sec, nanosec=msg.nanosec)
    values = {
        field: 0
        if field == 'seq'
        else to_ros1(getattr(msg, field if hasattr(msg, field) else field.lower()))
        for field, _ in ROS1.fielddefs[name][1]
    }
    return ROS1.types[name](**values)


def write(path: Path, messages: Iterable[Message], storage: str = 'mcap') -> Path:
    """Write a recording: .bag is ROS 1, .mcap or .db3 a bare file, anything else a folder."""
    if path.suffix == '.bag':
        with Writer1(path) as writer:
            connections: dict[str, Any] = {}
            for topic, log_ns, msg in messages:
                kind = msg.__msgtype__
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=ROS1)
                raw = ROS1.serialize_ros1(to_ros1(msg), kind)
                writer.write(connections[topic], log_ns, raw)
        return path
    bare = path.suffix in ('.mcap', '.db3')
    folder = path.with_name(f'{path.name}.folder') if bare else path
    sqlite = storage == 'sqlite3' or path.suffix == '.db3'
    plugin = StoragePlugin.SQLITE3 if sqlite else StoragePlugin.MCAP
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for topic, log_ns, msg in messages:
            kind = msg.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_ns, STORE.serialize_cdr(msg, kind))
    if bare:
        (inner,) = folder.glob(f'*{path.suffix}')
        inner.rename(path)
    return path


def read(path: Path) -> list[Message]:
    """Read a recording back, whole."""
    with open_bag(path) as reader:
        return [
            Message(c.topic, log_ns, reader.deserialize(raw, c.msgtype))
            for c, log_ns, raw in reader.messages()
        ]


def read_raw(path: Path) -> list[tuple[str, str, int, bytes]]:
    with open_bag(path) as reader:
        return [(c.topic, c.msgtype, log_ns, bytes(raw)) for c, log_ns, raw in reader.messages()]


@pytest.fixture(scope='session')
def bags() -> SimpleNamespace:
    """Everything above, for tests cannot import a conftest."""
    return SimpleNamespace(
        **{name: value for name, value in globals().items() if not name.startswith('_')}
    )


@pytest.fixture
def refuse(capsys):
    """Run a command that must fail in one line on stderr: what users can mend has exit code 2."""

    def run(*arguments: Any, exit_code: int = 2) -> str:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == exit_code, err
        assert err.startswith('depth-refiner: ')
        assert err.count('\n') == 1, err
        assert 'Traceback' not in err
        assert out == ''
        return err

    return run


@pytest.fixture(autouse=True)
def _without_models(classical_by_default):
    """Few commands are about a model: those name it."""
