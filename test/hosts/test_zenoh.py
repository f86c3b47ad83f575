"""The Zenoh host, in one process over loopback, against plain zenoh and independent nodes.

Expected strings and bytes come from rmw_zenoh's sources and docs/design.md (branch jazzy), hashes
from the .json files that a built ROS 2 Jazzy installs, not from this package.
"""

from __future__ import annotations

from contextlib import contextmanager
import os
from pathlib import Path
import socket
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip('xxhash', reason="pip install 'depth_refiner_ros[zenoh]'")
zenoh = pytest.importorskip('zenoh', reason="pip install 'depth_refiner_ros[zenoh]'")

import xxhash  # noqa: E402

from depth_refiner_ros.cli.play import Player  # noqa: E402
from depth_refiner_ros.cli.record import Recorder, SampleWriter  # noqa: E402
from depth_refiner_ros.config import configure  # noqa: E402
from depth_refiner_ros.data import (  # noqa: E402
    DepthImage,
    Header,
    PinholeCamera,
    RigidTransform,
)
from depth_refiner_ros.hosts import bag as bags  # noqa: E402
from depth_refiner_ros.hosts import live as live_module  # noqa: E402
from depth_refiner_ros.hosts import zenoh as host  # noqa: E402
from depth_refiner_ros.hosts.live import Level, Status  # noqa: E402
from depth_refiner_ros.hosts.typestore import FAMILY, STORE, TF_TYPE  # noqa: E402
from depth_refiner_ros.messages import encode, transforms_message  # noqa: E402
from depth_refiner_ros.stage import topic_inputs  # noqa: E402

# What is compared with a replay must not depend on when a model was loaded.
pytestmark = pytest.mark.usefixtures('classical_by_default')

IMAGE, INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'
IMAGE_HASH = 'RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47'
INFO_HASH = 'RIHS01_b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275'
STRING_HASH = 'RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18'
DEPTH_KEY = f'0/camera/depth/image_rect/sensor_msgs::msg::dds_::Image_/{IMAGE_HASH}'
INFO_KEY = f'0/camera/depth/camera_info/sensor_msgs::msg::dds_::CameraInfo_/{INFO_HASH}'
REFINED_KEY = f'0/camera/depth_refined/image_rect/sensor_msgs::msg::dds_::Image_/{IMAGE_HASH}'
WIDTH, HEIGHT = 64, 48
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 33_333_333
PATIENCE_S = 120


def wait(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, 'timed out'
        time.sleep(0.005)


def values(i):
    header = Header(START_NS + i * PERIOD_NS, 'camera')
    noise_m = np.random.default_rng(i).integers(-4, 5, (HEIGHT, WIDTH)) / 1000
    depth_m = (1.5 + noise_m).astype(np.float32)
    depth_m[10:20, 20:30] = np.nan
    depth = DepthImage(header, depth_m, '16UC1')
    return depth, PinholeCamera(header, WIDTH, HEIGHT, 60.0, 60.0, 32.0, 24.0)


def cdr(value):
    message = encode(value, FAMILY)
    return bytes(STORE.serialize_cdr(message, message.__msgtype__))


def stamp_ns(raw, kind=IMAGE):
    stamp = STORE.deserialize_cdr(raw, kind).header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def bag_of(path, count):
    with bags.BagWriter(path) as writer:
        transform = RigidTransform(
            Header(START_NS, 'base'), 'camera', np.eye(3), np.array([0.0, 0.0, 1.0])
        )
        writer.write_transforms('/tf_static', START_NS, [transform])
        for i in range(count):
            depth, camera = values(i)
            log_ns = START_NS + i * PERIOD_NS
            writer.write('/camera/depth/camera_info', log_ns, camera)
            writer.write('/camera/depth/image_rect', log_ns, depth)
    return path


def replayed(path, stages):
    """What the bag host makes of a recording: serialized messages by topic and stamp."""
    configuration = configure({'stages': stages})
    pipeline = configuration.pipeline(configuration.parameters)
    found = {}
    with bags.open_bag(path) as reader:
        topics = {p: f'/camera/{t.name}' for p, t in topic_inputs(configuration.pipeline).items()}
        for result in bags.replay(bags.Frames(reader, topic_inputs(pipeline), topics), pipeline):
            for port, value in result.outputs.items():
                topic = f'/camera/{pipeline.outputs[port].name}'
                found[topic, value.header.stamp_ns] = cdr(value)
    return found


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ('ROS_DOMAIN_ID', 'ROS_NAMESPACE', 'ZENOH_SESSION_CONFIG_URI'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def endpoint():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return f'tcp/127.0.0.1:{free.getsockname()[1]}'


@pytest.fixture
def node(endpoint):
    """Nodes of one network: the first listens, the others connect."""
    opened = []

    def make(name, namespace='/', **kwargs):
        where = {'connect': [endpoint]} if opened else {'listen': [endpoint]}
        opened.append(host.Node(name, namespace, **where, **kwargs))
        return opened[-1]

    yield make
    for item in reversed(opened):
        item.close()


@pytest.fixture
def other(node, endpoint):
    """A plain zenoh session on the same network, which knows nothing of this package."""
    node('first')
    config = zenoh.Config()
    config.insert_json5('mode', '"client"')
    config.insert_json5('connect/endpoints', f'["{endpoint}"]')
    config.insert_json5('scouting/multicast/enabled', 'false')
    with zenoh.open(config) as session:
        yield session


@pytest.fixture
def live(node):
    """Run a pipeline on the network, on a thread of its own."""
    running = []

    def start(parameters, gate=None, **options):
        warnings = []
        configuration = configure(parameters)
        made = host.LiveHost(
            configuration, node('refiner', '/camera'), warn=warnings.append, **options
        )
        made.warnings = warnings
        made.statuses = []
        if gate is not None:
            stages = made.runner._pipeline.stages
            ((name, stage),) = stages.items()
            stages[name] = gate(stage)

        def spin():
            made.statuses.extend(made.spin())

        thread = threading.Thread(target=spin)
        thread.start()
        running.append((made, thread, gate))
        return made

    yield start
    for made, thread, gate in running:
        if gate is not None:
            gate.open.set()
        made.stop()
        thread.join()
        made.__exit__(None, None, None)


# ----------------------------------------------------------------------------- on the wire


@pytest.mark.parametrize(
    ('qos', 'text'),
    [
        (host.Qos(7), '::,7:,:,:,,'),  # the talker of rmw_zenoh's docs/design.md
        (host.Qos(42), '::,:,:,:,,'),
        (host.Qos(5, reliable=False), '2::,5:,:,:,,'),
        (host.Qos(1, transient_local=True), ':1:,1:,:,:,,'),
        (host.Qos(10, keep_all=True), '::2,10:,:,:,,'),
    ],
)
def test_qos_is_written_as_rmw_zenoh_does(qos, text):
    assert str(qos) == text
    assert host.Qos.parsed(text) == qos


@pytest.mark.parametrize('text', ['', '::', 'x:y:z,w:,:', '9:9:9,-3:1,2:3,4:5,6,7', '::,²:'])
def test_qos_of_a_stranger_reads_as_the_default(text):
    assert host.Qos.parsed(text) == host.Qos(42)


def test_hashes_are_those_that_ros_installs():
    assert host.type_hash('std_msgs/msg/String') == STRING_HASH
    assert host.type_hash(IMAGE) == IMAGE_HASH
    assert host.type_hash(INFO) == INFO_HASH
    assert host.type_hash('sensor_msgs/msg/PointCloud2') == (
        'RIHS01_9198cabf7da3796ae6fe19c4cb3bdd3525492988c70522628af5daa124bae2b5'
    )
    assert host.type_hash(TF_TYPE) == (
        'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087'
    )
    assert host.type_hash('diagnostic_msgs/msg/DiagnosticArray') == (
        'RIHS01_5a8a36efb05fb25070fa0fb3810290c0e6cd4862b54a8fb975a1ee8dc55a333e'
    )


def test_keys_are_those_of_the_design_document():
    chatter = f'0/chatter/std_msgs::msg::dds_::String_/{STRING_HASH}'
    assert host.topic_key('/chatter', 'std_msgs/msg/String', STRING_HASH) == chatter
    robot = f'2/robot1/chatter/std_msgs::msg::dds_::String_/{STRING_HASH}'
    assert host.topic_key('/robot1/chatter', 'std_msgs/msg/String', STRING_HASH, 2) == robot
    found = host.TopicKey('/robot1/chatter', 'std_msgs/msg/String', STRING_HASH)
    assert host.TopicKey.parsed(robot) == found
    for key in (
        '',
        'a/b',
        'x',
        f'0/std_msgs::msg::dds_::String_/{STRING_HASH}',
        '0/a/b/c',
        '////',
    ):
        assert host.TopicKey.parsed(key) is None


def test_attachment_byte_by_byte():
    gid = bytes(range(16))
    tag = host.attachment(1, 0x0102030405060708, gid)
    assert tag.hex() == '0100000000000000' + '0807060504030201' + '10' + gid.hex()
    # The same by zenoh's own serializer, which rmw_zenoh uses.
    numbers = (zenoh.ext.Int64(1), zenoh.ext.Int64(0x0102030405060708), gid)
    assert tag == zenoh.ext.z_serialize(numbers).to_bytes()


def test_gid_is_the_hash_of_the_token_low_half_first():
    # XXH3-128 of nothing is published as 99aa06d3014798d86001c324468d497f.
    assert host.gid_of('').hex() == '7f498d4624c30160' + 'd8984701d306aa99'
    assert host.gid_of('token') == xxhash.xxh3_128_digest(b'token')[::-1]


def test_tokens_that_rmw_zenoh_shows(node, other):
    refiner = node('refiner', '/camera', domain_id=7)
    refiner.publisher('/camera/depth', IMAGE)
    refiner.subscribe('/tf_static', TF_TYPE, host.Qos(100, transient_local=True), print)
    wait(lambda: len(list(other.liveliness().get('@ros2_lv/7/**'))) == 3)
    tokens = {str(reply.ok.key_expr) for reply in other.liveliness().get('@ros2_lv/7/**')}
    zid = str(refiner._session.zid())
    tf_hash = host.type_hash(TF_TYPE)
    assert tokens == {
        f'@ros2_lv/7/{zid}/0/0/NN/%/%camera/refiner',
        f'@ros2_lv/7/{zid}/0/1/MP/%/%camera/refiner/%camera%depth/'
        f'sensor_msgs::msg::dds_::Image_/{IMAGE_HASH}/::,1:,:,:,,',
        f'@ros2_lv/7/{zid}/0/2/MS/%/%camera/refiner/%tf_static/'
        f'tf2_msgs::msg::dds_::TFMessage_/{tf_hash}/:1:,100:,:,:,,',
    }
    assert list(other.liveliness().get('@ros2_lv/0/*/0/*/MP/**')) == []


def test_the_graph_follows_those_who_come_and_go(node, other):
    watching = node('watching')
    token = (
        '@ros2_lv/0/8b20917502ee955ac4476e0266340d5c/0/10/MP/%/%/talker/%chatter/'
        f'std_msgs::msg::dds_::String_/{STRING_HASH}/::,7:,:,:,,'
    )
    for strange in ('@ros2_lv/0/x/MP', '@ros2_lv/0/a/0/0/MP/%/%/n/%t/not_a_type/h/q'):
        other.liveliness().declare_token(strange)
    declared = other.liveliness().declare_token(token)
    wait(lambda: watching.count_publishers('/chatter') == 1)
    assert watching.endpoints('MP') == [
        host.Endpoint('MP', '/chatter', 'std_msgs/msg/String', STRING_HASH, host.Qos(7))
    ]
    declared.undeclare()
    wait(lambda: watching.count_publishers('/chatter') == 0)


# --------------------------------------------------------------------------------- network


def test_only_loopback_unless_told_otherwise():
    config = host._config((), ())
    assert config.get_json('scouting/multicast/enabled') == 'false'
    assert 'tcp/127.0.0.1:7447' in config.get_json('connect/endpoints')  # rmw_zenoh's router
    for path in ('listen/endpoints', 'connect/endpoints'):
        for item in config.get_json(path).strip('[]').split(','):
            assert item.startswith('"tcp/127.0.0.1:')


def test_nodes_meet_without_router_or_flags_and_survive_the_first_one(monkeypatch):
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            ports.append(f'tcp/127.0.0.1:{free.getsockname()[1]}')
    monkeypatch.setattr(host, 'ROUTER', ports[0])
    monkeypatch.setattr(host, '_RENDEZVOUS', ports[1])
    with host.Node('b0') as first, host.Node('b1') as second:
        first.publisher('/first', IMAGE)
        second.publisher('/second', IMAGE)
        with host.Node('b2') as third:
            wait(lambda: {e.topic for e in third.endpoints('MP')} == {'/first', '/second'})
        first.close()
        with host.Node('b3') as late:
            wait(lambda: {e.topic for e in late.endpoints('MP')} == {'/second'})


def test_a_router_like_that_of_rmw_zenoh_brings_nodes_together(endpoint):
    config = zenoh.Config()
    config.insert_json5('mode', '"router"')
    config.insert_json5('listen/endpoints', f'["{endpoint}"]')
    config.insert_json5('scouting/multicast/enabled', 'false')
    gossip = (
        '{router: ["router", "peer"], peer: ["router"]}'  # rmw_zenoh's, of both configurations
    )
    config.insert_json5('scouting/gossip/target', gossip)
    got = []
    with (
        zenoh.open(config),
        host.Node('a', connect=[endpoint]) as first,
        host.Node('b', connect=[endpoint]) as second,
    ):
        publisher = first.publisher('/depth', IMAGE)
        second.subscribe('/depth', IMAGE, host.Qos(), got.append)
        wait(lambda: second.count_publishers('/depth') == 1 and publisher.matched)
        publisher.put(b'x')
        wait(lambda: got)


@pytest.mark.parametrize('text', ['x', '-1', '233', '１'])
def test_a_bad_domain_is_refused(monkeypatch, text):
    monkeypatch.setenv('ROS_DOMAIN_ID', text)
    with pytest.raises(ValueError, match='ROS_DOMAIN_ID must be a number from 0 to 232'):
        host.Node('name')


@pytest.mark.parametrize(
    ('name', 'namespace'), [('a b', '/'), ('a', '/1'), ('*', '/'), ('a', '/$')]
)
def test_a_bad_name_is_refused(name, namespace):
    with pytest.raises(ValueError, match='is no absolute name in ROS'):
        host.Node(name, namespace)


def test_an_endpoint_that_is_none_is_named():
    with pytest.raises(ValueError, match='cannot join a Zenoh network at nonsense: '):
        host.Node('name', connect=['nonsense'])


# -------------------------------------------------------------------------------- the host


def camera_of(other, made):
    """A foreign camera, once the host hears it and knows that somebody hears the host."""
    publishers = [other.declare_publisher(key) for key in (INFO_KEY, DEPTH_KEY)]
    wait(lambda: all(publisher.matching_status.matching for publisher in publishers))
    wait(made.runner._wanted)

    def send(i):
        for publisher, value in zip(publishers, reversed(values(i)), strict=True):
            publisher.put(cdr(value))

    return send


def test_answers_a_foreign_node_with_the_pixels_of_the_bag_host(live, other, tmp_path):
    expected = replayed(bag_of(tmp_path / 'k.mcap', 3), 'refine_depth')
    got = []
    made = live({'stages': 'refine_depth', 'deadline_s': 5.0})
    subscriber = other.declare_subscriber(REFINED_KEY, got.append)
    send = camera_of(other, made)
    for i in range(3):
        send(i)
        wait(lambda i=i: len(got) == i + 1)
    subscriber.undeclare()
    for i, sample in enumerate(got):
        raw = sample.payload.to_bytes()
        assert raw == expected['/camera/depth_refined/image_rect', START_NS + i * PERIOD_NS]
        sequence, published_ns, size, gid = struct.unpack('<qqB16s', sample.attachment.to_bytes())
        assert (sequence, size) == (i + 1, 16)
        assert abs(time.time_ns() - published_ns) < 3600e9
    tokens = [str(reply.ok.key_expr) for reply in other.liveliness().get('@ros2_lv/0/*/*/*/MP/**')]
    assert gid in [host.gid_of(token) for token in tokens]


def test_takes_humbles_key_and_refuses_another_definition(live, other):
    got = []
    made = live({'stages': 'refine_depth'})
    other.declare_subscriber(REFINED_KEY, got.append)
    depth, camera = values(0)
    keys = [key.rpartition('/')[0] for key in (INFO_KEY, DEPTH_KEY)]
    hashes = ('TypeHashNotSupported', 'TypeHashNotSupported', f'RIHS01_{"0" * 64}')
    keys = [f'{key}/{digest}' for key, digest in zip([*keys, keys[1]], hashes, strict=True)]
    infos, depths, others = (other.declare_publisher(key) for key in keys)
    wait(lambda: all(p.matching_status.matching for p in (infos, depths, others)))
    wait(made.runner._wanted)
    others.put(cdr(depth))
    wait(lambda: made.warnings)
    assert 'a sensor_msgs/msg/Image of another definition' in made.warnings[0]
    infos.put(cdr(camera))
    depths.put(cdr(depth))
    wait(lambda: got)
    assert stamp_ns(got[0].payload.to_bytes()) == START_NS


def test_bytes_of_a_stranger_are_refused_and_the_next_frame_works(live, other):
    got = []
    made = live({'stages': 'refine_depth'})
    other.declare_subscriber(REFINED_KEY, got.append)
    send = camera_of(other, made)
    whole = cdr(values(0)[0])
    huge = bytearray(whole)
    huge[-WIDTH * HEIGHT * 2 - 4 : -WIDTH * HEIGHT * 2] = b'\xff\xff\xff\x7f'  # 2 GB of pixels
    noise = np.random.default_rng(0).bytes(999)
    for count, payload in enumerate((b'', b'\0', whole[:4], whole[:-1], bytes(huge), noise)):
        other.put(DEPTH_KEY, payload)
        wait(lambda count=count: len(made.warnings) == count + 1)
        assert 'not a readable sensor_msgs/msg/Image' in made.warnings[-1]
    send(0)
    wait(lambda: got)
    assert made._status().values['refused'] == '6'


def test_publishes_only_what_is_subscribed(live, other):
    made = live({'stages': 'refine_depth,project_points'})
    assert made.runner._wanted() == []
    got = []
    subscriber = other.declare_subscriber(REFINED_KEY, got.append)
    send = camera_of(other, made)
    assert made.runner._wanted() == ['refine_depth.depth']
    send(0)
    wait(lambda: got)
    subscriber.undeclare()
    wait(lambda: made.runner._wanted() == [])


class Cameras:
    """A source that gives lists of frames, one list at each opening, and is lost after each."""

    def __init__(self, *lists):
        self.lists = list(lists)
        self.go_on = threading.Event()
        self.opened = 0

    @contextmanager
    def __call__(self):
        self.opened += 1
        yield self.frames()

    def frames(self):
        assert self.go_on.wait(PATIENCE_S)
        if not self.lists:
            return
        for i in self.lists.pop(0):
            depth, camera = values(i)
            yield {'depth': depth, 'camera': camera}
        raise OSError('unplugged')


def test_a_camera_in_the_process_is_refined_published_and_reopened(
    live, other, tmp_path, monkeypatch
):
    monkeypatch.setattr(live_module, 'FIRST_RETRY_S', 0.01)
    monkeypatch.setattr(live_module, 'LAST_RETRY_S', 0.01)
    expected = replayed(bag_of(tmp_path / 'k.mcap', 3), 'refine_depth')
    refined, raw = [], []
    cameras = Cameras([0], [], [1], [2])
    made = live(
        {'stages': 'refine_depth'}, source=host.Source(('depth', 'camera', 'color'), cameras)
    )
    other.declare_subscriber(REFINED_KEY, lambda sample: refined.append(sample.payload.to_bytes()))
    other.declare_subscriber(DEPTH_KEY, lambda sample: raw.append(sample.payload.to_bytes()))
    wait(lambda: made.runner._wanted() and made._cameras['depth'].matched)
    cameras.go_on.set()
    wait(made._stopped.is_set)  # as a recording does, this source ends
    wait(lambda: len(refined) == 3)
    assert raw == [cdr(values(i)[0]) for i in range(3)]
    assert refined == [
        expected['/camera/depth_refined/image_rect', START_NS + i * PERIOD_NS] for i in range(3)
    ]
    assert cameras.opened == 5
    assert made.warnings == ['no camera: unplugged'] * 4
    assert made._status().level == Level.ERROR
    assert made._status().text == 'no camera: unplugged'


def test_a_source_needs_no_publishers_and_leaves_the_other_inputs(live, node):
    cameras = Cameras()
    made = live(
        {'stages': 'refine_depth,inpaint_depth'}, source=host.Source(('depth', 'camera'), cameras)
    )
    try:
        watching = node('watching')
        wait(lambda: watching.count_publishers('/camera/depth/image_rect') == 1)
        others = ('color/image_rect', 'color/camera_info', 'depth/stddev', 'depth/provenance')
        expected = {f'/camera/{name}' for name in others}
        wait(lambda: {item.topic for item in watching.endpoints('MS')} >= expected)
        assert {item.topic for item in watching.endpoints('MS')} == expected
        assert made.warnings == []
    finally:
        cameras.go_on.set()


class Gate:
    """Holds a stage back, and lists the stamps of what it was given."""

    def __init__(self):
        self.open = threading.Event()
        self.seen_ns = []

    def __call__(self, stage):
        gate = self

        class Gated:
            inputs, outputs, parameters = stage.inputs, stage.outputs, stage.parameters
            capabilities = stage.capabilities

            def __call__(self, **given):
                gate.seen_ns.append(given['depth'].header.stamp_ns)
                assert gate.open.wait(PATIENCE_S)
                return stage(**given)

        return Gated()


def test_overload_keeps_the_newest_frame_and_counts_the_others(live, other):
    gate = Gate()
    got = []
    made = live({'stages': 'refine_depth', 'deadline_s': 5.0}, gate)
    other.declare_subscriber(REFINED_KEY, got.append)
    send = camera_of(other, made)
    sent = 40
    for i in range(sent):
        send(i)
        # The stage is stuck in the first frame; the host must not be.
        wait(lambda i=i: made.runner._received['depth'].count == i + 1)
        wait(lambda: gate.seen_ns)
    gate.open.set()
    wait(lambda: len(got) == 2)
    assert gate.seen_ns == [START_NS, START_NS + (sent - 1) * PERIOD_NS]
    assert made.runner.dropped == sent - 2
    assert made._inbox.overrun == 0


def test_inbox_keeps_the_last_few_of_every_source_in_order():
    inbox = host.Inbox(2)
    for source, item in (('a', 1), ('b', 2), ('a', 3), ('a', 4), ('b', 5)):
        inbox.put(source, item)
    assert inbox.overrun == 1
    assert [inbox.get(0) for _ in range(5)] == [('b', 2), ('a', 3), ('a', 4), ('b', 5), None]


def test_late_subscribers_get_static_transforms_as_with_rmw_zenoh(live, node, other):
    publisher = node('base').publisher('/tf_static', TF_TYPE, host.Qos(9, transient_local=True))
    for child in ('camera', 'gripper'):
        transform = RigidTransform(
            Header(START_NS, 'base'), child, np.eye(3), np.array([0.0, 0.0, 1.0])
        )
        message = transforms_message([transform], FAMILY)
        publisher.put(STORE.serialize_cdr(message, TF_TYPE))
    made = live({'stages': 'register_depth'})  # a stage that asks tf
    wait(lambda: made.runner.tree.lookup('base', 'gripper') is not None)
    assert made.runner.tree.lookup('base', 'camera').translation_m[2] == 1.0


def test_diagnostics_come_every_second(live, other):
    got = []
    key = '0/diagnostics/diagnostic_msgs::msg::dds_::DiagnosticArray_/*'
    other.declare_subscriber(key, lambda sample: got.append(sample.payload.to_bytes()))
    live({'stages': 'refine_depth'})
    wait(lambda: got)
    (status,) = STORE.deserialize_cdr(got[0], 'diagnostic_msgs/msg/DiagnosticArray').status
    assert status.name == '/camera/refiner: refine_depth'
    assert {'dropped', 'overrun', 'refused', 'latency_p99_ms'} <= {v.key for v in status.values}


def test_diagnostics_of_an_error():
    message = host.diagnostics_message('/n: s', Status(Level.ERROR, 'broken', {'rate_hz': '0.0'}))
    kind = 'diagnostic_msgs/msg/DiagnosticArray'
    (status,) = STORE.deserialize_cdr(STORE.serialize_cdr(message, kind), kind).status
    assert (status.level, status.name, status.message) == (2, '/n: s', 'broken')
    assert [(value.key, value.value) for value in status.values] == [('rate_hz', '0.0')]


# ------------------------------------------------------------------------- play and record


def test_play_live_record_is_the_recording_that_replay_writes(live, node, other, tmp_path):
    stages = 'refine_depth,inpaint_depth,project_points'
    bag = bag_of(tmp_path / 'k.mcap', 4)
    expected = replayed(bag, stages)
    inputs = {'/camera/depth/image_rect', '/camera/depth/camera_info'}
    topics = ('/tf_static', *inputs, *sorted({topic for topic, _ in expected}))
    writer = SampleWriter(tmp_path / 'out.mcap')
    with writer, bags.open_bag(bag) as recording:
        made = live({'stages': stages, 'deadline_s': 5.0})
        recorder = Recorder(host, node('recorder'), writer, topics, print)
        playing = node('player')
        player = Player(host, playing, recording)
        wait(lambda: len(made.runner._wanted()) == len(made.runner._pipeline.outputs))
        wait(lambda: {e.topic for e in playing.endpoints('MS')} >= inputs)
        wait(lambda: all(publisher.matched for publisher in player.publishers.values()))
        frames = 0
        for connection in player.play(rate=1000.0):
            frames += connection.topic == '/camera/depth/image_rect'
            wait(lambda n=frames: len(made.runner._done) == n)

        def all_written():
            recorder.step(0.01)
            return writer.message_count == 1 + 2 * frames + len(expected)

        wait(all_written)
        assert recorder.overrun == 0
    recorded = {}
    with bags.open_bag(tmp_path / 'out.mcap') as reader:
        for connection, _, raw in reader.messages():
            if connection.topic != '/tf_static':
                key = connection.topic, stamp_ns(raw, connection.msgtype)
                recorded[key] = bytes(raw)
        latched = [c for c in reader.connections if c.topic == '/tf_static']
        assert latched[0].ext.offered_qos_profiles[0].durability.name == 'TRANSIENT_LOCAL'
    assert {k: raw for k, raw in recorded.items() if k[0] not in inputs} == expected


# -------------------------------------------------------------------- independent software

# The interpreter that has the peers; their requirements need not fit this environment.
PEER = os.environ.get('DEPTH_REFINER_ZENOH_PEER', sys.executable)

PYZEROS = """
import sys, time
import numpy as np
import zenoh, pyzeros
from ros2_pyterfaces.cydr.all_msgs import CameraInfo, Header, Image, Time

config = zenoh.Config()
config.insert_json5('connect/endpoints', '["%s"]' % sys.argv[1])
config.insert_json5('scouting/multicast/enabled', 'false')
got = []
with zenoh.open(config) as session, pyzeros.auto_context('peer', session, '/camera') as node:
    subscriber = pyzeros.sub.RawSub(Image, 'depth_refined/image_rect', got.append, session=node)
    depths = pyzeros.Pub(Image, 'depth/image_rect', session=node)
    infos = pyzeros.Pub(CameraInfo, 'depth/camera_info', session=node)
    depth = np.load(sys.argv[2])
    sent = 0
    while not got and sent < 200:
        sent += 1
        header = Header(stamp=Time(sec=np.int32(sent), nanosec=np.uint32(7)), frame_id=b'camera')
        info = CameraInfo(header=header, height=np.uint32(48), width=np.uint32(64))
        info.k = np.array([60.0, 0, 32, 0, 60, 24, 0, 0, 1])
        info.p = np.array([60.0, 0, 32, 0, 0, 60, 24, 0, 0, 0, 1, 0])
        infos.publish(info)
        depths.publish(Image(header=header, height=np.uint32(48), width=np.uint32(64),
            encoding=b'16UC1', is_bigendian=np.uint8(0), step=np.uint32(128),
            data=depth.reshape(-1).view(np.uint8)))
        time.sleep(0.1)
    image = Image.deserialize(got[0].payload.to_bytes())
    assert 1 <= image.header.stamp.sec <= sent and image.header.stamp.nanosec == 7
    assert image.encoding in (b'16UC1', '16UC1')
    np.save(sys.argv[3], np.asarray(image.data).view(np.uint16).reshape(48, 64))
    attachment = pyzeros.builtin_msgs.Attachment.deserialize(
        b'\\0\\1\\0\\0' + got[0].attachment.to_bytes())
    assert attachment.gid_length == 16 and attachment.sequence_number >= 1
    tokens = [str(reply.ok.key_expr) for reply in session.liveliness().get('@ros2_lv/0/**')]
    made = [pyzeros.utils.rmw_zenoh_gid(token) for token in tokens if '/MP/' in token]
    assert bytes(np.asarray(attachment.source_gid, np.uint8)) in made
"""

SDK = """
import sys, time
import numpy as np
from pathlib import Path
from rosbags.typesys import Stores, get_typestore
from zenoh_ros2_sdk import ROS2Publisher, ROS2Subscriber, ZenohSession, get_registry

address, port = sys.argv[1].removeprefix('tcp/').split(':')
folder = Path(sys.argv[4])
store = get_typestore(Stores.ROS2_JAZZY)
for name in ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo', 'std_msgs/msg/Header',
             'sensor_msgs/msg/RegionOfInterest', 'builtin_interfaces/msg/Time'):
    package, _, short = name.split('/')
    path = folder / package / 'msg' / (short + '.msg')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(store.generate_msgdef(name, ros_version=2)[0].partition('=' * 80)[0])
ZenohSession.get_instance(address, int(port))
get_registry(str(folder))
where = dict(router_ip=address, router_port=int(port))
got = []
subscriber = ROS2Subscriber('/camera/depth_refined/image_rect', 'sensor_msgs/msg/Image',
    got.append, **where)
depths = ROS2Publisher('/camera/depth/image_rect', 'sensor_msgs/msg/Image', **where)
infos = ROS2Publisher('/camera/depth/camera_info', 'sensor_msgs/msg/CameraInfo', **where)
types = depths.session_mgr.store.types
T = lambda name, **fields: types[name](**fields)
depth = np.load(sys.argv[2])
sent = 0
while not got and sent < 200:
    sent += 1
    header = T('std_msgs/msg/Header', frame_id='camera',
        stamp=T('builtin_interfaces/msg/Time', sec=sent, nanosec=7))
    roi = T('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0,
        do_rectify=False)
    infos.publish(header=header, height=48, width=64, distortion_model='plumb_bob',
        d=np.zeros(5), k=np.array([60.0, 0, 32, 0, 60, 24, 0, 0, 1]), r=np.eye(3).reshape(-1),
        p=np.array([60.0, 0, 32, 0, 0, 60, 24, 0, 0, 0, 1, 0]), binning_x=0, binning_y=0, roi=roi)
    depths.publish(header=header, height=48, width=64, encoding='16UC1', is_bigendian=0, step=128,
        data=depth.reshape(-1).view(np.uint8))
    time.sleep(0.1)
for item in (depths, infos, subscriber):
    item.close()
depths.session_mgr.close()
assert 1 <= got[0].header.stamp.sec <= sent and got[0].encoding == '16UC1'
np.save(sys.argv[3], np.asarray(got[0].data).view(np.uint16).reshape(48, 64))
"""


@pytest.mark.parametrize(
    ('module', 'program'), [('pyzeros', PYZEROS), ('zenoh_ros2_sdk', SDK)], ids=['pyzeros', 'sdk']
)
def test_talks_with_an_independent_implementation(live, node, endpoint, tmp_path, module, program):
    lookup = f'import sys, importlib.util as u; sys.exit(u.find_spec({module!r}) is None)'
    if not Path(PEER).exists() or subprocess.run([PEER, '-c', lookup], check=False).returncode:
        pytest.skip(f'{module} is not installed for {PEER}; see DEPTH_REFINER_ZENOH_PEER')
    live({'stages': 'refine_depth', 'refine_depth.temporal_filter': False})
    watching = node('watching')
    depth, camera = values(0)
    raw = np.nan_to_num(np.rint(depth.depth_m * 1000)).astype(np.uint16)
    np.save(tmp_path / 'depth.npy', raw)
    names = [str(tmp_path / name) for name in ('depth.npy', 'refined.npy', 'msg')]
    done = subprocess.run(
        [PEER, '-c', program, endpoint, *names],
        capture_output=True,
        text=True,
        timeout=120,  # the first time, pyzeros compiles its messages
        check=False,
        env={**os.environ, 'ROS_DOMAIN_ID': '0'},
    )
    assert done.returncode == 0, done.stderr
    stage = configure({'stages': 'refine_depth', 'refine_depth.temporal_filter': False})
    outputs = stage.pipeline(stage.parameters)(None, depth=depth, camera=camera)
    refined_m = outputs['refine_depth.depth'].depth_m
    expected = np.nan_to_num(np.rint(refined_m * np.float32(1000))).astype(np.uint16)
    np.testing.assert_array_equal(np.load(tmp_path / 'refined.npy'), expected)
    assert watching.count_publishers('/camera/depth_refined/image_rect') == 1
