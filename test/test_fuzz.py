"""What strangers send: any message, any bag, any parameter file ends in a value or one error.

And in bounded memory: a few octets cannot claim gigabytes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
import struct
import tracemalloc
from types import SimpleNamespace
import zlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import yaml

from depth_refiner_ros.config import configure, read_parameters
from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    PointCloud,
    ProvenanceImage,
    StddevImage,
)
from depth_refiner_ros.hosts.bag import BagError, BagWriter, open_bag
from depth_refiner_ros.hosts.typestore import FAMILY, STORE
from depth_refiner_ros.messages import MESSAGE_TYPE, decode, encode, encode_compressed

VALUES = (DepthImage, StddevImage, ProvenanceImage, ColorImage, PinholeCamera, PointCloud)
HEADER = Header(1_700_000_000_000_000_000, 'camera')
UINT32 = st.one_of(st.integers(0, 64), st.integers(0, 2**32 - 1))


def decoded(value_type, message):
    """A value, or None where the message is refused; anything else is a fault."""
    tracemalloc.start()
    try:
        return decode(value_type, message, '/topic')
    except ValueError:
        return None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 << 20, f'{peak} bytes for one message'


def depth(shape=(12, 16)):
    depth_m = np.linspace(0.5, 4, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    return DepthImage(HEADER, depth_m, '16UC1')


def header_message():
    return SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=2), frame_id='camera')


# ---------------------------------------------------------------------------------- messages

ENCODINGS = ('16UC1', 'mono16', '32FC1', 'rgb8', 'bgra8', 'mono8', '8UC1', 'yuv422', 'nonsense')


@pytest.mark.parametrize('value_type', VALUES[:4], ids=lambda t: t.__name__)
@given(
    height=UINT32,
    width=UINT32,
    step=UINT32,
    encoding=st.sampled_from(ENCODINGS),
    big=st.integers(0, 255),
    data=st.binary(max_size=4096),
)
def test_any_image(value_type, height, width, step, encoding, big, data):
    message = SimpleNamespace(
        header=header_message(),
        height=height,
        width=width,
        step=step,
        encoding=encoding,
        is_bigendian=big,
        data=np.frombuffer(data, np.uint8),
    )
    value = decoded(value_type, message)
    if value is not None:
        assert height * width <= len(data)


FORMATS = ('16UC1; compressedDepth png', '32FC1; compressedDepth rvl', 'jpeg', 'png', '')
PNG = bytes(encode_compressed(depth(), FAMILY, 'png').data)
RVL = bytes(encode_compressed(depth(), FAMILY, 'rvl').data)
JPEG = bytes(
    encode_compressed(ColorImage(HEADER, np.zeros((12, 16, 3), np.uint8)), FAMILY, 'jpeg').data
)


@given(
    text=st.sampled_from(FORMATS),
    start=st.sampled_from((b'', PNG, RVL, PNG[12:], JPEG)),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    tail=st.binary(max_size=64),
    value_type=st.sampled_from((DepthImage, ColorImage)),
)
def test_any_compressed_image(text, start, changes, tail, value_type):
    data = bytearray(start + tail)
    for at, octet in changes:
        if at < len(data):
            data[at] = octet
    message = SimpleNamespace(
        header=header_message(), format=text, data=np.frombuffer(bytes(data), np.uint8)
    )
    decoded(value_type, message)


def png_of(width, height, depth_bits=16, color=0):
    """A PNG whose header claims a size that its one row of data does not fill."""

    def chunk(kind, body):
        check = struct.pack('>I', zlib.crc32(kind + body))
        return struct.pack('>I', len(body)) + kind + body + check

    head = chunk(b'IHDR', struct.pack('>2I5B', width, height, depth_bits, color, 0, 0, 0))
    return (
        b'\x89PNG\r\n\x1a\n'
        + head
        + chunk(b'IDAT', zlib.compress(bytes(99)))
        + chunk(b'IEND', b'')
    )


def jpeg_of(width, height):
    """JPEG's start, with an APP0, a fill octet and a frame of some size."""
    frame = b'\xff\xff\xc2\x00\x11\x08' + struct.pack('>2H', height, width) + b'\x03' + bytes(9)
    return b'\xff\xd8\xff\xe0\x00\x04ab' + frame


@pytest.mark.parametrize(
    'data', [png_of(30_000, 30_000), jpeg_of(65_000, 65_000)], ids=['png', 'jpeg']
)
@pytest.mark.parametrize('text', ['16UC1; compressedDepth png', 'png'])
def test_a_few_octets_cannot_claim_gigabytes(data, text):
    value_type = DepthImage if 'Depth' in text else ColorImage
    data = bytes(12) + data if 'Depth' in text else data
    message = SimpleNamespace(
        header=header_message(), format=text, data=np.frombuffer(data, np.uint8)
    )
    with pytest.raises(ValueError, match=r'image claims (\d+)x\1 pixels in \d+ bytes'):
        decode(value_type, message, '/topic')


def test_an_image_that_packs_well_is_read():
    """A wall of one distance: 1920x1440 in 16 bits, as small as deflate gets it."""
    value = DepthImage(HEADER, np.full((1440, 1920), 2.0, np.float32), '16UC1')
    message = encode_compressed(value, FAMILY, 'png')
    assert len(message.data) < 20_000
    np.testing.assert_array_equal(decode(DepthImage, message, '/t').depth_m, value.depth_m)


@given(
    height=UINT32,
    width=UINT32,
    point_step=UINT32,
    row_step=UINT32,
    offsets=st.lists(UINT32, min_size=3, max_size=4),
    big=st.booleans(),
    data=st.binary(max_size=4096),
)
def test_any_cloud(height, width, point_step, row_step, offsets, big, data):
    names = ('x', 'y', 'z', 'rgb')
    fields = [
        SimpleNamespace(name=name, offset=offset, datatype=7, count=1)
        for name, offset in zip(names, offsets, strict=False)
    ]
    message = SimpleNamespace(
        header=header_message(),
        height=height,
        width=width,
        point_step=point_step,
        row_step=row_step,
        fields=fields,
        is_bigendian=big,
        is_dense=False,
        data=np.frombuffer(data, np.uint8),
    )
    decoded(PointCloud, message)


def test_rows_of_a_cloud_that_overlap_are_refused():
    """One point repeated four billion times by a row step of 0."""
    fields = [SimpleNamespace(name=n, offset=4 * i, datatype=7) for i, n in enumerate('xyz')]
    message = SimpleNamespace(
        header=header_message(),
        height=2**32 - 1,
        width=1,
        point_step=12,
        row_step=0,
        fields=fields,
        is_bigendian=False,
        data=np.zeros(12, np.uint8),
    )
    with pytest.raises(ValueError, match='does not fit its 12 bytes'):
        decode(PointCloud, message, '/points')


NUMBERS = st.floats(width=64)


@given(
    size=st.tuples(UINT32, UINT32),
    k=st.lists(NUMBERS, min_size=9, max_size=9),
    p=st.lists(NUMBERS, min_size=12, max_size=12),
    d=st.lists(NUMBERS, max_size=14),
    binning=st.tuples(UINT32, UINT32),
    roi=st.tuples(UINT32, UINT32, UINT32, UINT32),
)
def test_any_calibration(size, k, p, d, binning, roi):
    names = ('x_offset', 'y_offset', 'height', 'width')
    message = SimpleNamespace(
        header=header_message(),
        height=size[0],
        width=size[1],
        distortion_model='plumb_bob',
        d=d,
        k=k,
        r=[0.0] * 9,
        p=p,
        binning_x=binning[0],
        binning_y=binning[1],
        roi=SimpleNamespace(**dict(zip(names, roi, strict=True)), do_rectify=False),
    )
    camera = decoded(PinholeCamera, message)
    if camera is not None:
        assert camera.width > 0
        assert np.isfinite([camera.fx, camera.fy, camera.cx, camera.cy]).all()


WHOLE = bytes(STORE.serialize_cdr(encode(depth(), FAMILY), MESSAGE_TYPE[DepthImage]))


@given(
    changes=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=6),
    end=st.integers(0, len(WHOLE)),
)
def test_any_serialized_image_as_the_live_host_takes_it(changes, end):
    """The host refuses whatever deserializing raises; what comes through must decode or refuse."""
    raw = bytearray(WHOLE)
    for at, octet in changes:
        raw[at] = octet
    try:
        message = STORE.deserialize_cdr(bytes(raw[:end]), MESSAGE_TYPE[DepthImage])
    except Exception:
        return
    decoded(DepthImage, message)


# -------------------------------------------------------------------------------------- bags


@pytest.fixture(scope='module', params=['k.mcap', 'k.db3', 'k.bag'])
def recording(request, tmp_path_factory):
    """The octets of a small recording of every kind."""
    folder = tmp_path_factory.mktemp('fuzz')
    if request.param == 'k.bag':
        return '.bag', (Path(__file__).parent / 'hosts' / 'realsense.bag').read_bytes()
    path = folder / ('k.mcap' if request.param == 'k.mcap' else 'k')
    with BagWriter(path, storage='mcap' if path.suffix else 'sqlite3') as writer:
        for i in range(3):
            writer.write('/depth', HEADER.stamp_ns + i, depth())
    found = path if path.is_file() else next(path.glob('*.db3'))
    return Path(request.param).suffix, found.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=20),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_a_bag_with_changed_octets_is_read_or_refused(recording, tmp_path, changes, keep):
    suffix, octets = recording
    raw = bytearray(octets)
    for place, octet in changes:
        raw[int(place * (len(raw) - 1))] = octet
    path = tmp_path / f'k{suffix}'
    path.write_bytes(raw[: int(keep * len(raw))])
    try:
        with open_bag(path) as reader:
            for connection, _, message in reader.messages():
                if connection.msgtype == 'sensor_msgs/msg/Image':
                    decoded(DepthImage, reader.deserialize(message, connection.msgtype))
    except BagError as error:
        assert str(path) in str(error)  # noqa: PT017


# -------------------------------------------------------------------------------- parameters

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(['/**', 'ros__parameters', 'refine_depth', 'topics', 'stages']),
                st.text(max_size=8),
                st.integers(),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES)
def test_any_parameter_file(tmp_path, tree):
    path = tmp_path / 'params.yaml'
    path.write_text(yaml.safe_dump(tree), encoding='utf-8')
    with contextlib.suppress(ValueError):
        configure(read_parameters(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_any_text_as_parameters(tmp_path, text):
    path = tmp_path / 'params.yaml'
    path.write_text(text, encoding='utf-8', errors='surrogatepass')
    with contextlib.suppress(ValueError):
        configure(read_parameters(path))


def test_aliases_cannot_grow_without_bound(tmp_path):
    laughs = 'a0: &a0 {x: 1}\n' + ''.join(
        f'a{i}: &a{i} {{{", ".join(f"k{j}: *a{i - 1}" for j in range(9))}}}\n' for i in range(1, 7)
    )
    path = tmp_path / 'laughs.yaml'
    path.write_text(laughs)
    with pytest.raises(ValueError, match='more than 10000 parameters'):
        read_parameters(path)


@pytest.mark.parametrize('text', ['&a {x: *a}', 'a: &a {x: {y: *a}}'])
def test_a_tree_that_holds_itself_is_refused(tmp_path, text):
    path = tmp_path / 'params.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match='nested more than 8 deep'):
        read_parameters(path)
