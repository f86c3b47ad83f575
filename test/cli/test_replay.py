from __future__ import annotations

import functools
import os
from pathlib import Path
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from depth_refiner_ros.cli import main
from depth_refiner_ros.hosts.bag import open_bag
from depth_refiner_ros.stages import RefineDepth

IMAGE = 'sensor_msgs/msg/Image'
OUTPUTS = {
    '/camera/depth_refined/image_rect': IMAGE,
    '/camera/depth_refined/camera_info': 'sensor_msgs/msg/CameraInfo',
    '/camera/depth_refined/stddev': IMAGE,
    '/camera/depth_refined/provenance': IMAGE,
    '/camera/depth_inpainted/image_rect': IMAGE,
    '/camera/depth_inpainted/camera_info': 'sensor_msgs/msg/CameraInfo',
    '/camera/depth_inpainted/stddev': IMAGE,
    '/camera/depth_inpainted/provenance': IMAGE,
    '/camera/points': 'sensor_msgs/msg/PointCloud2',
}
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {'PYTHONPATH': str(ROOT)}
PATIENCE_S = 120


def replay(*arguments: object) -> int:
    return main(['replay', *map(str, arguments)])


def on(messages, topic):
    return [m.msg for m in messages if m.topic == topic]


def stamp_ns(msg) -> int:
    return msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec


def pixels(msg):
    dtype = {'16UC1': np.uint16, '32FC1': np.float32, 'mono8': np.uint8}[msg.encoding]
    return np.frombuffer(msg.data, dtype).reshape(msg.height, msg.width)


# --------------------------------------------------------------------------- every container


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
@pytest.mark.parametrize(
    ('name', 'storage'),
    [
        ('ros1.bag', ''),
        ('folder', 'sqlite3'),
        ('folder', 'mcap'),
        ('bare.mcap', ''),
        ('bare.db3', ''),
    ],
)
def test_every_container_gives_every_output_in_kind(bags, tmp_path, name, storage, encoding):
    source = bags.write(tmp_path / name, bags.scene(depth=encoding), storage)
    out = tmp_path / 'out.mcap'

    assert replay(source, '-o', out) == 0

    with open_bag(out) as reader:
        assert {c.topic: c.msgtype for c in reader.connections} == OUTPUTS
        assert {c.msgcount for c in reader.connections} == {4}
    messages = bags.read(out)
    stamps_ns = [bags.START_NS + i * bags.PERIOD_NS for i in range(4)]
    for topic in OUTPUTS:
        assert [stamp_ns(m) for m in on(messages, topic)] == stamps_ns
        assert {m.header.frame_id for m in on(messages, topic)} == {bags.FRAME}
    for stage in ('depth_refined', 'depth_inpainted'):
        for i, msg in enumerate(on(messages, f'/camera/{stage}/image_rect')):
            assert msg.encoding == encoding
            scale = 1000 if encoding == '16UC1' else 1
            wall = pixels(msg)[25:, :30] / scale
            np.testing.assert_allclose(wall, bags.depth_m(i)[25:, :30], atol=0.005)
        stddev = on(messages, f'/camera/{stage}/stddev')
        assert {m.encoding for m in stddev} == {'32FC1'}
        for msg in on(messages, f'/camera/{stage}/provenance'):
            assert msg.encoding == 'mono8'
            assert set(np.unique(pixels(msg))) <= {0, 1, 2, 3}
    hole = (slice(12, 18), slice(36, 42))
    for refined, inpainted, marks in zip(
        on(messages, '/camera/depth_refined/image_rect'),
        on(messages, '/camera/depth_inpainted/image_rect'),
        on(messages, '/camera/depth_inpainted/provenance'),
        strict=True,
    ):
        empty = np.nan_to_num(pixels(refined)[hole])
        assert not empty.any()
        assert (pixels(inpainted)[hole] > 0).all()
        assert (pixels(marks)[hole] == 3).all()
    for cloud in on(messages, '/camera/points'):
        assert (cloud.width, cloud.height) == (bags.WIDTH, bags.HEIGHT)


@pytest.mark.parametrize('name', ['ros1.bag', 'bare.mcap'])
def test_camera_info_goes_through_unchanged(bags, tmp_path, name):
    source = bags.write(tmp_path / name, bags.scene(2))
    replay(source, '-o', tmp_path / 'out.mcap')

    wanted = bags.info(0)
    for msg in on(bags.read(tmp_path / 'out.mcap'), '/camera/depth_refined/camera_info'):
        for field in ('d', 'k', 'r', 'p'):
            np.testing.assert_array_equal(getattr(msg, field), getattr(wanted, field))
        for field in ('width', 'height', 'distortion_model', 'binning_x', 'binning_y'):
            assert getattr(msg, field) == getattr(wanted, field)
        for field in ('x_offset', 'y_offset', 'width', 'height', 'do_rectify'):
            assert getattr(msg.roi, field) == getattr(wanted.roi, field)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_compressed_transports_are_read_like_raw_ones(bags, tmp_path, codec, encoding):
    scene = bags.scene(3, depth=encoding, codec=codec, color='jpeg')
    source = bags.write(tmp_path / 'in.mcap', scene)

    assert replay(source, '-o', tmp_path / 'out.mcap') == 0

    messages = bags.read(tmp_path / 'out.mcap')
    depth = on(messages, '/camera/depth_inpainted/image_rect')
    assert [m.encoding for m in depth] == [encoding] * 3
    scale = 1000 if encoding == '16UC1' else 1
    np.testing.assert_allclose(
        pixels(depth[0])[25:, :30] / scale, bags.depth_m(0)[25:, :30], atol=0.006
    )
    assert {f.name for f in on(messages, '/camera/points')[0].fields} == {'x', 'y', 'z', 'rgb'}


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'bgra8', 'yuv422'])
def test_colour_reaches_the_points(bags, tmp_path, encoding):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1, color=encoding))
    replay(source, '-o', tmp_path / 'out.mcap')

    (cloud,) = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')
    packed = np.frombuffer(cloud.data, np.uint32).reshape(bags.HEIGHT, bags.WIDTH, 4)[..., 3]
    rgb = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1)
    np.testing.assert_allclose(rgb.reshape(-1, 3), [bags.RGB] * (48 * 64), atol=4)


def test_depth_alone_is_enough(bags, tmp_path):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(2, color=None))

    assert replay(source, '-o', tmp_path / 'out.mcap') == 0

    (cloud, _) = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')
    assert {f.name for f in cloud.fields} == {'x', 'y', 'z'}


def test_the_last_frame_and_frames_out_of_order_come_out(bags, tmp_path):
    scene = bags.scene(5)
    late = [m._replace(log_ns=m.log_ns + bags.PERIOD_NS + 10) for m in scene[3:6]]
    messages = sorted(scene[:3] + late + scene[6:], key=lambda m: m.log_ns)
    source = bags.write(tmp_path / 'in.mcap', messages)
    replay(source, '-o', tmp_path / 'out.mcap')

    stamps = [stamp_ns(m) for m in on(bags.read(tmp_path / 'out.mcap'), '/camera/points')]
    assert stamps == sorted(stamps)
    assert stamps[-1] == bags.START_NS + 4 * bags.PERIOD_NS


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_twice_gives_the_same_bytes(bags, tmp_path, storage):
    source = bags.write(tmp_path / 'in.mcap', [*bags.scene(), *others(bags)])
    # The name is the same: a recording holds its own.
    first, second = (tmp_path / name / 'out' for name in ('first', 'second'))
    for out in (first, second):
        assert replay(source, '-o', out, '--keep', '--storage', storage) == 0

    assert len(bags.read_raw(first)) == 9 * 4 + len(others(bags))
    assert bags.read_raw(first) == bags.read_raw(second)
    if storage == 'mcap':
        assert (first / 'out.mcap').read_bytes() == (second / 'out.mcap').read_bytes()


def test_containers_agree_to_the_bit(bags, tmp_path):
    seen = []
    for name in ('ros1.bag', 'bare.mcap', 'bare.db3'):
        source = bags.write(tmp_path / name, bags.scene(3))
        replay(source, '-o', tmp_path / f'{name}.out')
        seen.append(bags.read_raw(tmp_path / f'{name}.out'))
    assert seen[0] == seen[1] == seen[2]


# ----------------------------------------------------------------------------------- options


def others(bags):
    """Messages of topics that no stage reads."""
    t = bags.START_NS
    return [
        bags.Message('/tf_static', t, bags.transform('base', bags.FRAME, (1.0, 2.0, 3.0))),
        bags.Message('/tf', t + 1, bags.transform('map', 'base', (0.5, 0.0, 0.0))),
        bags.Message('/chatter', t + 2, bags.text('grüezi')),
        bags.Message('/chatter', t + 90_000_000, bags.text('')),
        bags.Message('/other/image', t + 3, bags.color_image('rgb8', t)),
    ]


def merged(*lists):
    return sorted((m for items in lists for m in items), key=lambda m: m.log_ns)


def test_keep_copies_other_topics_bit_for_bit(bags, tmp_path):
    source = bags.write(tmp_path / 'in.mcap', merged(bags.scene(), others(bags)))
    replay(source, '-o', tmp_path / 'out.mcap', '--keep')

    topics = {m.topic for m in others(bags)}
    before = [m for m in bags.read_raw(source) if m[0] in topics]
    after = [m for m in bags.read_raw(tmp_path / 'out.mcap') if m[0] in topics]
    assert before == after
    assert len(after) == 5
    kept = {m[0] for m in bags.read_raw(tmp_path / 'out.mcap')}
    assert kept == topics | set(OUTPUTS)


def test_keep_from_ros1_is_the_cdr_of_the_same_message(bags, tmp_path):
    source = bags.write(tmp_path / 'in.bag', merged(bags.scene(), others(bags)))
    same = bags.write(tmp_path / 'same.mcap', merged(bags.scene(), others(bags)))
    replay(source, '-o', tmp_path / 'out', '--keep', '--storage', 'sqlite3')

    topics = {m.topic for m in others(bags)}
    wanted = [m for m in bags.read_raw(same) if m[0] in topics]
    assert [m for m in bags.read_raw(tmp_path / 'out') if m[0] in topics] == wanted
    with open_bag(tmp_path / 'out') as reader:
        (static,) = [c for c in reader.connections if c.topic == '/tf_static']
        assert static.ext.offered_qos_profiles[0].durability.name == 'TRANSIENT_LOCAL'


@pytest.mark.parametrize('out', ['out.mcap', 'out.db3', 'out'])
def test_keep_copies_types_that_nobody_has_a_definition_of(bags, tmp_path, out):
    source = bags.write(tmp_path / 'in.db3', merged(bags.scene(), others(bags)))
    database = sqlite3.connect(source)
    # As recorders before Iron left it: no definitions, and one type that only the robot knew.
    for table in ('message_definitions', 'metadata', 'schema'):
        database.execute(f'DROP TABLE {table}')
    database.execute("UPDATE topics SET type = 'robot_msgs/msg/Secret' WHERE name = '/chatter'")
    database.commit()
    database.close()
    before = [m for m in bags.read_raw(source) if m[0] in ('/chatter', '/other/image')]
    assert len(before) == 3

    assert replay(source, '-o', tmp_path / out, '--keep') == 0
    after = [m for m in bags.read_raw(tmp_path / out) if m[0] in ('/chatter', '/other/image')]
    assert after == before
    assert {kind for topic, kind, *_ in after if topic == '/chatter'} == {'robot_msgs/msg/Secret'}
    # What it holds of known types is read as ever, and may be replayed and kept again.
    again = tmp_path / 'again.mcap'
    assert replay(tmp_path / out, '-o', again, '--keep', '--only', 'project_points.points') == 2
    source_again = bags.write(tmp_path / 'depth.mcap', bags.scene())
    assert replay(source_again, '-o', again) == 0


def test_keep_passes_two_types_of_one_topic_on_as_two(bags, tmp_path):
    source = bags.write(tmp_path / 'in.bag', bags.scene())
    mixed = tmp_path / 'mixed.bag'
    from rosbags.rosbag1 import Writer as Writer1

    with Writer1(mixed) as writer:
        connections = {}
        with open_bag(source) as reader:
            for c, log_ns, raw in reader.messages():
                if c.topic not in connections:
                    connections[c.topic] = writer.add_connection(
                        c.topic, c.msgtype, typestore=bags.ROS1
                    )
                writer.write(connections[c.topic], log_ns, raw)
        t = bags.START_NS
        for kind, value in (('std_msgs/msg/String', 'a'), ('std_msgs/msg/Int32', 5)):
            both = writer.add_connection('/both', kind, typestore=bags.ROS1)
            message = bags.ROS1.types[kind](data=value)
            writer.write(both, t, bags.ROS1.serialize_ros1(message, kind))
    assert replay(mixed, '-o', tmp_path / 'out.mcap', '--keep') == 0
    with open_bag(tmp_path / 'out.mcap') as reader:
        found = {
            c.msgtype: reader.deserialize(raw, c.msgtype).data
            for c, _, raw in reader.messages()
            if c.topic == '/both'
        }
    assert found == {'std_msgs/msg/String': 'a', 'std_msgs/msg/Int32': 5}


def test_keep_turns_the_tf_of_old_bags_into_tf2(bags, tmp_path):
    from rosbags.rosbag1 import Writer as Writer1

    source = bags.write(tmp_path / 'new.bag', bags.scene(1))
    old = tmp_path / 'old.bag'
    tf = bags.transform('base', bags.FRAME, (1.0, 2.0, 3.0))
    stamped = bags.to_ros1(tf.transforms)
    with Writer1(old) as writer, open_bag(source) as reader:
        connections = {}
        for c, log_ns, raw in reader.messages():
            if c.topic not in connections:
                connections[c.topic] = writer.add_connection(
                    c.topic, c.msgtype, typestore=bags.ROS1
                )
            writer.write(connections[c.topic], log_ns, raw)
        kind = 'tf/msg/tfMessage'
        connection = writer.add_connection('/tf', kind, typestore=bags.ROS1)
        message = bags.ROS1.types[kind](transforms=stamped)
        writer.write(connection, bags.START_NS, bags.ROS1.serialize_ros1(message, kind))

    assert replay(old, '-o', tmp_path / 'out.mcap', '--keep') == 0
    (raw,) = [m for m in bags.read_raw(tmp_path / 'out.mcap') if m[0] == '/tf']
    kind = 'tf2_msgs/msg/TFMessage'
    assert raw[1] == kind
    assert raw[3] == bags.STORE.serialize_cdr(tf, kind)


def test_replaying_a_replay_replaces_its_outputs(bags, tmp_path):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(2))
    args = ('--namespace', '/camera')
    first, second = tmp_path / 'first.mcap', tmp_path / 'second.mcap'
    everything = merged(bags.scene(2), [])
    replay(source, '-o', first, *args)
    both = bags.write(tmp_path / 'both.mcap', merged(everything, bags.read(first)))
    replay(both, '-o', second, *args, '--keep')

    assert bags.read_raw(second) == bags.read_raw(first)


def test_only(bags, tmp_path):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(2))
    wanted = ('inpaint_depth.depth', 'project_points.points')

    assert replay(source, '-o', tmp_path / 'out.mcap', '--only', *wanted) == 0

    topics = {m.topic for m in bags.read(tmp_path / 'out.mcap')}
    assert topics == {'/camera/depth_inpainted/image_rect', '/camera/points'}


def test_only_refuses_an_unknown_output(bags, tmp_path, refuse):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    text = refuse('replay', source, '-o', tmp_path / 'out.mcap', '--only', 'points')
    assert 'project_points.points' in text
    assert not (tmp_path / 'out.mcap').exists()


def test_a_replay_without_a_frame_fails_and_says_why(bags, tmp_path, refuse):
    out = tmp_path / 'out.mcap'
    source = tmp_path / 'in'
    with Writer(source, version=9) as writer:
        writer.add_connection('/camera/depth/image_rect', IMAGE, typestore=bags.STORE)
        kind = 'sensor_msgs/msg/CameraInfo'
        info = writer.add_connection('/camera/depth/camera_info', kind, typestore=bags.STORE)
        message = bags.info(bags.START_NS, bags.FRAME)
        writer.write(info, bags.START_NS, bags.STORE.serialize_cdr(message, kind))
    text = refuse('replay', source, '-o', out, exit_code=1)
    assert '/camera/depth/image_rect holds no messages' in text
    assert not out.exists()


def test_max_frames(bags, tmp_path, refuse):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(4))
    replay(source, '-o', tmp_path / 'out.mcap', '--max-frames', 2)

    points = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')
    assert [stamp_ns(m) for m in points] == [bags.START_NS, bags.START_NS + bags.PERIOD_NS]
    for count in (0, -1):
        text = refuse('replay', source, '-o', tmp_path / 'no.mcap', '--max-frames', count)
        assert 'at least 1' in text


def test_namespace_names_inputs_and_outputs(bags, tmp_path):
    front = bags.scene(2, base='/robot/front')
    rear = bags.scene(3, base='/camera')
    source = bags.write(tmp_path / 'in.mcap', merged(front, rear))
    replay(source, '-o', tmp_path / 'out.mcap', '--namespace', 'robot/front/')

    messages = bags.read(tmp_path / 'out.mcap')
    assert all(m.topic.startswith('/robot/front/') for m in messages)
    assert len(on(messages, '/robot/front/points')) == 2


def test_topics_are_guessed_where_they_have_other_names(bags, tmp_path):
    source = bags.write(tmp_path / 'in.bag', bags.scene(2, base='/kinect', name='image_raw'))

    assert replay(source, '-o', tmp_path / 'out.mcap') == 0
    assert len(on(bags.read(tmp_path / 'out.mcap'), '/camera/points')) == 2


def test_camera_preset_reads_the_drivers_topics(bags, tmp_path, refuse):
    renamed = {
        '/camera/depth': '/camera/camera/aligned_depth_to_color',
        '/camera/color': '/camera/camera/color',
    }
    scene = [
        m._replace(topic=m.topic.replace(old, new))
        for m in bags.scene(2, name='image_raw')
        for old, new in renamed.items()
        if m.topic.startswith(old)
    ]
    source = bags.write(tmp_path / 'in.mcap', scene)

    assert replay(source, '-o', tmp_path / 'out.mcap', '--camera', 'realsense') == 0
    assert len(on(bags.read(tmp_path / 'out.mcap'), '/camera/points')) == 2

    text = refuse('replay', source, '-o', tmp_path / 'no.mcap', '--camera', 'kinect_v1')
    assert 'no /camera/depth_registered/image_raw' in text
    assert '/camera/camera/aligned_depth_to_color/image_raw' in text
    assert not (tmp_path / 'no.mcap').exists()
    text = refuse('replay', source, '-o', tmp_path / 'no.mcap', '--camera', 'webcam')
    assert 'realsense' in text


@pytest.mark.parametrize(('asked', 'scale'), [('16UC1', 1000), ('32FC1', 1)])
def test_depth_encoding_can_be_asked_for(bags, tmp_path, asked, scale):
    other = {'16UC1': '32FC1', '32FC1': '16UC1'}[asked]
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1, depth=other))
    replay(source, '-o', tmp_path / 'out.mcap', '--depth-encoding', asked)

    for stage in ('depth_refined', 'depth_inpainted'):
        (msg,) = on(bags.read(tmp_path / 'out.mcap'), f'/camera/{stage}/image_rect')
        assert msg.encoding == asked
        np.testing.assert_allclose(pixels(msg)[25:, :30] / scale, 1.5, atol=0.01)


@pytest.mark.parametrize('word', ['false', 'no', 'Off'])
def test_words_switch_off(bags, tmp_path, word):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    out = tmp_path / 'out.mcap'
    assert replay(source, '-o', out, '--project-points.color', word) == 0
    (cloud,) = on(bags.read(out), '/camera/points')
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z']


def test_stages_are_chosen_and_ordered(bags, tmp_path):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(2))

    assert replay(source, '-o', tmp_path / 'out.mcap', '--stages', 'project_points') == 0
    assert {m.topic for m in bags.read(tmp_path / 'out.mcap')} == {'/camera/points'}


def test_register_color_takes_tf_from_the_recording(bags, tmp_path, capsys):
    static = [
        bags.Message('/tf_static', 0, bags.transform('rgb_frame', 'depth_frame', (0.02, 0, 0)))
    ]
    t = bags.START_NS
    infos = [bags.Message('/camera/color/camera_info', t, bags.info(t, 'rgb_frame'))]
    scene = bags.scene(2, depth_frame='depth_frame', color_frame='rgb_frame')
    stages = 'register_color,refine_depth,inpaint_depth,project_points'
    source = bags.write(tmp_path / 'in.mcap', merged(static, infos, scene))
    untied = bags.write(tmp_path / 'untied.mcap', merged(infos, scene))

    assert replay(source, '-o', tmp_path / 'out.mcap', '--stages', stages) == 0
    messages = bags.read(tmp_path / 'out.mcap')
    (color, _) = on(messages, '/camera/color_registered/image_rect')
    assert color.header.frame_id == 'depth_frame'
    assert {f.name for f in on(messages, '/camera/points')[0].fields} == {'x', 'y', 'z', 'rgb'}

    # Colour is optional: without a transform depth goes on without it, and that is printed.
    capsys.readouterr()
    assert replay(untied, '-o', tmp_path / 'no.mcap', '--stages', stages) == 0
    text = ' '.join(capsys.readouterr().err.split())
    assert "left out: no transform from 'depth_frame' to 'rgb_frame'" in text
    messages = bags.read(tmp_path / 'no.mcap')
    assert {f.name for f in on(messages, '/camera/points')[0].fields} == {'x', 'y', 'z'}
    assert not on(messages, '/camera/color_registered/image_rect')


# ---------------------------------------------------------------------------- parameter files


def test_parameter_file_names_topics_and_values(bags, tmp_path):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(2, base='/x'))
    params = tmp_path / 'p.yaml'
    params.write_text(
        '/**:\n  ros__parameters:\n'
        '    topics: {depth: /x/depth/image_rect, camera: /x/depth/camera_info}\n'
        '    stages: project_points\n'
        '    project_points.stride_px: 4\n'
    )

    assert replay(source, '-o', tmp_path / 'out.mcap', '--params', params) == 0
    (cloud, _) = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')
    assert (cloud.width, cloud.height) == (16, 12)

    flag = ('--project-points.stride-px', 8)
    assert replay(source, '-o', tmp_path / 'two.mcap', '--params', params, *flag) == 0
    (cloud, _) = on(bags.read(tmp_path / 'two.mcap'), '/camera/points')
    assert (cloud.width, cloud.height) == (8, 6)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('refine_depth: {spatial_strenght: 1.0}', 'did you mean refine_depth.spatial_strength?'),
        ('refine_depth: {spatial_strength: 2.0}', 'between 0 and 1'),
        ('refine_depth: {spatial_strength: much}', "must be a float, got 'much'"),
        ('refine_depth: {sensor: webcam}', 'must be one of kinect_v1'),
        ('stages: refine_depth,polish', "unknown stage 'polish'"),
        ('stages: refine_depth,refine_depth', 'listed twice'),
        ("stages: ''", 'at least one stage'),
        ('slop_s: -1', 'between 0 and 1 s'),
        ('topics: {dept: /x}', 'unknown port topics.dept'),
        ('topics: {depth: 3}', 'must be the name of a topic'),
        ('a: [', 'not a parameter file'),
        ('just words', 'not a parameter file'),
        ('/**: {ros__parameters: [1]}', 'must hold names and values'),
        ('nothing: 1', 'unknown parameter nothing'),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(
    bags, tmp_path, refuse, content, words
):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    params = tmp_path / 'p.yaml'
    params.write_text(content)
    text = refuse('replay', source, '-o', tmp_path / 'out.mcap', '--params', params)
    assert words in text
    assert not (tmp_path / 'out.mcap').exists()


def test_missing_parameter_file_is_named(bags, tmp_path, refuse):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    text = refuse('replay', source, '-o', tmp_path / 'o.mcap', '--params', tmp_path / 'no.yaml')
    assert f'{tmp_path}/no.yaml: No such file' in text


# --------------------------------------------------------------------------------- bad input


def damaged(bags, tmp_path, kind) -> Path:
    if kind == 'missing':
        return tmp_path / 'missing.mcap'
    if kind == 'folder without metadata':
        folder = bags.write(tmp_path / 'f', bags.scene(1))
        (folder / 'metadata.yaml').unlink()
        (folder / 'f.mcap').unlink()
        return folder
    if kind == 'folder without its file':
        folder = bags.write(tmp_path / 'f', bags.scene(1))
        (folder / 'f.mcap').unlink()
        return folder
    if kind.startswith('metadata '):
        folder = bags.write(tmp_path / 'f', bags.scene(1))
        content = {
            'metadata empty': b'',
            'metadata yaml': b'a: [',
            'metadata bytes': b'\xff\xfe\0',
        }
        (folder / 'metadata.yaml').write_bytes(content[kind])
        return folder
    what, _, suffix = kind.partition(' ')
    path = tmp_path / f'x{suffix}'
    if what in ('text', 'empty'):
        path.write_text('hello\n' if what == 'text' else '')
        return path
    bags.write(path, bags.scene(4))
    size = path.stat().st_size
    os.truncate(path, {'half': size // 2, 'tail': size - 20, 'head': 30}[what])
    return path


@pytest.mark.parametrize(
    ('kind', 'words'),
    [
        ('missing', 'does not exist'),
        ('folder without metadata', 'it is no recording'),
        ('folder without its file', 'missing'),
        ('metadata empty', 'not a readable bag'),
        ('metadata yaml', 'not a readable bag'),
        ('metadata bytes', 'not a readable bag'),
        ('half .mcap', 'mcap recover'),
        ('tail .mcap', 'mcap recover'),
        ('head .mcap', 'mcap recover'),
        ('half .bag', 'rosbag reindex'),
        ('tail .bag', 'rosbag reindex'),
        ('half .db3', '.recover'),
        ('head .db3', '.recover'),
        ('text .mcap', 'not a bag'),
        ('text .bag', 'not a bag'),
        ('text .db3', 'not a bag'),
        ('text .txt', '.txt'),
        ('empty .mcap', 'is empty'),
        ('empty .bag', 'is empty'),
        ('empty .db3', 'is empty'),
    ],
)
def test_unreadable_recordings_are_refused_in_one_line(bags, tmp_path, refuse, kind, words):
    source = damaged(bags, tmp_path, kind)
    text = refuse('replay', source, '-o', tmp_path / 'out.mcap')
    assert refuse('info', source) == refuse('doctor', source) == text
    assert words in text
    assert str(source) in text
    assert not (tmp_path / 'out.mcap').exists()
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize('suffix', ['.mcap', '.bag', '.db3'])
def test_flipped_bits_never_give_a_traceback(bags, tmp_path, capsys, suffix):
    clean = bags.write(tmp_path / f'clean{suffix}', bags.scene(1)).read_bytes()
    rng = np.random.default_rng(7)
    for trial in range(25):
        octets = bytearray(clean)
        for _ in range(rng.integers(1, 20)):
            near_an_end = int(rng.integers(3000))
            where = [near_an_end, len(octets) - 1 - near_an_end, int(rng.integers(len(octets)))]
            octets[int(rng.choice(where))] = int(rng.integers(256))
        path = tmp_path / f'x{trial}{suffix}'
        path.write_bytes(octets)
        code = main(['doctor', str(path)])
        _, err = capsys.readouterr()
        assert code in (0, 1, 2)
        assert err.count('\n') == (code == 2), err


def test_a_compressed_chunk_that_is_damaged_keeps_what_came_before(bags, tmp_path, refuse):
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

    writer = Writer(tmp_path / 'f', version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    writer.open()
    connections = {}
    for topic, log_ns, msg in bags.scene(150):
        kind = msg.__msgtype__
        if topic not in connections:
            connections[topic] = writer.add_connection(topic, kind, typestore=bags.STORE)
        writer.write(connections[topic], log_ns, bags.STORE.serialize_cdr(msg, kind))
    writer.close()
    path = tmp_path / 'f/f.mcap'
    octets = bytearray(path.read_bytes())
    with open_bag(path) as reader:
        chunk = reader.readers[0].storage.chunks[-1]
        assert len(reader.readers[0].storage.chunks) > 1
    start = chunk.chunk_start_offset + 200
    octets[start : start + 100] = b'\xff' * 100
    path.write_bytes(octets)

    stages = ('--stages', 'project_points', '--project-points.stride-px', '8')
    text = refuse('replay', path, '-o', tmp_path / 'out.mcap', *stages, exit_code=1)
    assert 'is damaged' in text
    count = len(bags.read(tmp_path / 'out.mcap'))
    assert f'out.mcap holds the {count} messages written before' in text


def test_wanting_topics_are_named(bags, tmp_path, refuse):
    out = tmp_path / 'out.mcap'
    no_info = [m for m in bags.scene(2) if 'info' not in m.topic]
    source = bags.write(tmp_path / 'no_info.mcap', no_info)
    text = refuse('replay', source, '-o', out)
    assert 'no /camera/depth/camera_info for the port camera' in text

    color_only = [m for m in bags.scene(2) if 'color' in m.topic]
    source = bags.write(tmp_path / 'color_only.mcap', color_only)
    text = refuse('replay', source, '-o', out)
    assert 'no /camera/depth/image_rect' in text
    assert 'it has /camera/color/image_rect' in text

    wrong = [bags.Message('/camera/depth/image_rect', 1, bags.text('depth'))]
    source = bags.write(tmp_path / 'wrong.mcap', wrong)
    text = refuse('replay', source, '-o', out)
    assert 'std_msgs/msg/String' in text
    assert 'sensor_msgs/msg/Image' in text

    source = bags.write(tmp_path / 'nothing.mcap', [])
    assert 'no topics at all' in refuse('replay', source, '-o', out)
    assert not out.exists()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'width': 32, 'height': 24}, 'the image is 64x48 but its camera_info says 32x24'),
        ({'k': np.zeros(9), 'p': np.zeros(12)}, 'calibrate'),
    ],
)
def test_bad_camera_info_ends_the_run_and_leaves_no_bag(bags, tmp_path, refuse, changes, words):
    scene = [
        m._replace(msg=bags.info(stamp_ns(m.msg), **changes)) if 'info' in m.topic else m
        for m in bags.scene(2)
    ]
    source = bags.write(tmp_path / 'in.mcap', scene)
    assert words in refuse('replay', source, '-o', tmp_path / 'out.mcap')
    assert not (tmp_path / 'out.mcap').exists()


@pytest.mark.parametrize('encoding', ['8UC1', 'rgb8', '64FC1'])
def test_an_image_that_is_no_depth_is_refused(bags, tmp_path, refuse, encoding):
    channels = 3 if encoding == 'rgb8' else 8
    t = bags.START_NS
    odd = bags.image(t, np.zeros((bags.HEIGHT, bags.WIDTH, channels), np.uint8), encoding)
    scene = [m._replace(msg=odd) if m.topic.endswith('h/image_rect') else m for m in bags.scene(1)]
    text = refuse('replay', bags.write(tmp_path / 'in.mcap', scene), '-o', tmp_path / 'out.mcap')
    assert f'/camera/depth/image_rect: encoding {encoding!r} is not a depth image' in text


@pytest.mark.parametrize(
    ('encoding', 'channels', 'dtype'),
    [('bayer_grbg8', 1, np.uint8), ('rgb16', 3, np.uint16), ('32FC1', 1, np.float32)],
)
def test_colour_that_cannot_be_read_is_counted_and_left_out(
    bags, tmp_path, capsys, encoding, channels, dtype
):
    pixels_ = np.ones((bags.HEIGHT, bags.WIDTH, channels), dtype)
    scene = [
        m._replace(msg=bags.image(stamp_ns(m.msg), pixels_, encoding)) if 'color' in m.topic else m
        for m in bags.scene(3)
    ]
    source = bags.write(tmp_path / 'in.mcap', scene)
    assert replay(source, '-o', tmp_path / 'out.mcap') == 0
    err = capsys.readouterr().err
    if 'left out' in err:
        assert err.count('/camera/color/image_rect left out') == 1
        assert f'3 images of /camera/color/image_rect left out: encoding {encoding!r}' in err
    without = bags.write(tmp_path / 'without.mcap', bags.scene(3, color=None))
    assert replay(without, '-o', tmp_path / 'same.mcap') == 0
    assert bags.read_raw(tmp_path / 'out.mcap') == bags.read_raw(tmp_path / 'same.mcap')


def test_one_cut_jpeg_costs_its_own_colour_alone(bags, tmp_path, capsys):
    scene, cut = [], 0
    for m in bags.scene(3, color='jpeg'):
        if 'color' in m.topic:
            cut += 1
            if cut == 2:
                octets = np.asarray(m.msg.data)
                m.msg.data = octets[: len(octets) * 3 // 4]  # OpenCV would fill the rest with grey
        scene.append(m)
    source = bags.write(tmp_path / 'in.mcap', scene)
    assert replay(source, '-o', tmp_path / 'out.mcap') == 0
    err = capsys.readouterr().err
    assert '1 images of /camera/color/image_rect/compressed left out' in err.replace('\n', ' ')
    clouds = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')
    assert ['rgb' in {field.name for field in cloud.fields} for cloud in clouds] == [
        True,
        False,
        True,
    ]


def test_a_depth_image_that_cannot_be_read_ends_the_run_and_keeps_what_came_before(
    bags, tmp_path, refuse
):
    scene = bags.scene(3, color=None)
    last = scene[-1]
    last.msg.data = last.msg.data[:-100]
    source = bags.write(tmp_path / 'in.mcap', scene)
    text = refuse('replay', source, '-o', tmp_path / 'out.mcap', exit_code=1)
    assert '/camera/depth/image_rect: 64x48' in text
    messages = bags.read(tmp_path / 'out.mcap')
    assert len(on(messages, '/camera/points')) == 2
    assert text.endswith(f'out.mcap holds the {len(messages)} messages written before\n')


# ------------------------------------------------------------------------------- bad output


def test_an_existing_output_is_never_touched(bags, tmp_path, refuse):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    for name in ('out.mcap', 'out'):
        out = tmp_path / name
        out.write_text('mine')
        assert 'exists already' in refuse('replay', source, '-o', out)
        assert out.read_text() == 'mine'
    before = source.read_bytes()
    assert 'is the recording to be read' in refuse('replay', source, '-o', source)
    assert source.read_bytes() == before


@pytest.mark.parametrize('name', ['out.mcap', 'out'])
def test_an_output_that_cannot_be_made_is_refused(bags, tmp_path, refuse, name):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    (tmp_path / 'file').write_text('')
    text = refuse('replay', source, '-o', tmp_path / 'file' / name)
    assert 'cannot write' in text
    assert 'Not a directory' in text


def test_a_new_folder_is_made_for_the_output(bags, tmp_path):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    assert replay(source, '-o', tmp_path / 'new' / 'sub' / 'out.mcap') == 0
    assert (tmp_path / 'new/sub/out.mcap').exists()


def test_mcap_name_and_sqlite3_contradict(bags, tmp_path, refuse):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    text = refuse('replay', source, '-o', tmp_path / 'o.mcap', '--storage', 'sqlite3')
    assert 'without .mcap' in text


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_file_that_may_not_grow_is_said_in_one_line(bags, tmp_path, storage):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(20))
    limit = 120_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    arguments = ['replay', source, '-o', tmp_path / 'out', '--storage', storage]
    done = subprocess.run(
        [sys.executable, '-m', 'depth_refiner_ros', *map(str, arguments)],
        preexec_fn=limited,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f'depth-refiner: cannot write {tmp_path}/out: ')
    assert done.stderr.endswith('nothing was written\n')
    assert not (tmp_path / 'out').exists()
    assert done.stderr.count('\n') == 1


# ---------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize('name', ['out.mcap', 'out'])
def test_ctrl_c_in_a_stage_leaves_a_readable_bag(bags, tmp_path, monkeypatch, capsys, name):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(4))
    frames = []

    def interrupted(self, depth, camera, _call=RefineDepth.__call__, **companions):
        if len(frames) == 2:
            raise KeyboardInterrupt
        frames.append(depth)
        return _call(self, depth, camera, **companions)

    monkeypatch.setattr(RefineDepth, '__call__', interrupted)
    assert replay(source, '-o', tmp_path / name) == 130

    assert 'interrupted' in capsys.readouterr().err
    assert len(on(bags.read(tmp_path / name), '/camera/points')) == 2


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_running_replay(bags, tmp_path, number):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(3000, color=None))
    out = tmp_path / 'out.mcap'
    process = subprocess.Popen(
        [sys.executable, '-m', 'depth_refiner_ros', 'replay', str(source), '-o', str(out)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup SIGHUP is ignored, and a replay leaves it so.
        preexec_fn=functools.partial(signal.signal, number, signal.SIG_DFL),
    )
    partial = tmp_path / '.out.mcap.partial' / '.out.mcap.partial.mcap'
    deadline_s = time.monotonic() + PATIENCE_S
    while not (partial.exists() and partial.stat().st_size > 500_000):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 128 + number, err
    assert 'Traceback' not in err
    total = len(bags.read(out))
    assert err == f'interrupted: {out} holds the {total} messages written before\n'
    count = len(on(bags.read(out), '/camera/points'))
    assert 0 < count < 3000
    assert not partial.parent.exists()


def test_what_a_killed_run_had_written_is_moved_aside_and_named(bags, tmp_path, capsys):
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1))
    stale = tmp_path / '.out.mcap.partial'
    stale.mkdir()
    (stale / 'out.mcap').write_text('half a recording')
    for number in (1, 2):
        assert replay(source, '-o', tmp_path / 'out.mcap') == 0
        assert not stale.exists()
        assert (tmp_path / f'out_cut_{number}.mcap').read_text() == 'half a recording'
        err = capsys.readouterr().err
        assert f'mcap recover {tmp_path}/out_cut_{number}.mcap' in err
        (tmp_path / 'out.mcap').unlink()
        stale.mkdir()
        (stale / 'out.mcap').write_text('half a recording')


def test_the_module_runs_as_a_command(bags, tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'depth_refiner_ros', 'replay', 'no.bag', '-o', 'o.mcap'],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'depth-refiner: no.bag does not exist\n'


def test_names_with_rich_markup_are_printed_as_they_are(bags, tmp_path, capsys):
    source = bags.write(tmp_path / 'a[red]b:smile:.mcap', bags.scene(1))
    shutil.copy(source, tmp_path / 'c.mcap')
    assert replay(source, '-o', tmp_path / '[bold]out.mcap') == 0
    err = capsys.readouterr().err.replace('\n', '')
    assert 'a[red]b:smile:.mcap' in err
    assert '[bold]out.mcap' in err


# --------------------------------------------------------------------------- right or refused


def emptied(bags, path, messages, *topics):
    """Write a recording that declares topics nothing was published on."""
    types = dict(topics)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in types.items():
            writer.add_connection(topic, kind, typestore=bags.STORE)
        connections = {}
        for m in messages:
            kind = m.msg.__msgtype__
            if m.topic not in connections:
                connections[m.topic] = writer.add_connection(m.topic, kind, typestore=bags.STORE)
            octets = bags.STORE.serialize_cdr(m.msg, kind)
            writer.write(connections[m.topic], m.log_ns, octets)
    return path


@pytest.mark.parametrize(
    ('options', 'empty'),
    [
        ({'codec': 'png'}, ('/camera/depth/image_rect', IMAGE)),
        ({}, ('/camera/aligned_depth_to_color/image_raw', IMAGE)),
        ({'name': 'image_raw'}, ('/camera/depth/image_rect', IMAGE)),
        ({'color': 'jpeg'}, ('/camera/color/image_rect', IMAGE)),
    ],
)
def test_a_topic_without_messages_does_not_hide_one_with(bags, tmp_path, options, empty):
    source = emptied(bags, tmp_path / 'in', bags.scene(3, **options), empty)
    assert replay(source, '-o', tmp_path / 'out.mcap', '--stages', 'project_points') == 0
    clouds = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')
    assert [[field.name for field in cloud.fields] for cloud in clouds] == [
        ['x', 'y', 'z', 'rgb']
    ] * 3


def test_a_replay_that_writes_nothing_fails_and_says_why(bags, tmp_path, capsys):
    scene = [m for m in bags.scene(3, color=None) if not m.topic.endswith('camera_info')]
    info = ('/camera/depth/camera_info', 'sensor_msgs/msg/CameraInfo')
    source = emptied(bags, tmp_path / 'in', scene, info)
    assert replay(source, '-o', tmp_path / 'out.mcap') == 1
    text = capsys.readouterr().err
    assert '/camera/depth/camera_info holds no messages; choose' in text
    source = bags.write(tmp_path / 'plain.mcap', bags.scene(3, color=None))
    arguments = ('--stages', 'register_color', '--only', 'register_color.color')
    assert replay(source, '-o', tmp_path / 'out.mcap', *arguments) == 1
    text = capsys.readouterr().err
    assert '3 frames went in and nothing came out as register_color.color' in text
    assert not (tmp_path / 'out.mcap').exists()


def test_a_unit_of_its_own_gives_metres(bags, tmp_path):
    # Counts of 0.25 mm: what is written as 1.5 and 2 m is 0.375 and 0.5 m, plus a few counts.
    source = bags.write(tmp_path / 'in.mcap', bags.scene(1, color=None))
    arguments = ('--stages', 'project_points', '--depth-unit-m', '0.00025')
    assert replay(source, '-o', tmp_path / 'out.mcap', *arguments) == 0
    (cloud,) = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')
    z_m = cloud.data.view(np.float32).reshape(48, 64, -1)[..., 2]
    expected_m = np.rint(1000 * bags.depth_m(0)).astype(np.float64) * 0.00025
    np.testing.assert_array_equal(z_m, expected_m.astype(np.float32))


def test_a_recording_of_the_sdk_says_its_unit_and_has_its_camera(bags, tmp_path):
    store = bags.ROS1
    sensor = '/device_0/sensor_0'
    depth = bags.image(bags.START_NS, np.full((48, 64), 8000, np.uint16), 'mono16', '')
    info = bags.info(0, '', p=np.zeros(12))
    option = store.types['std_msgs/msg/Float32'](data=np.float32(0.00025))
    messages = [
        bags.Message(f'{sensor}/option/Depth Units/value', bags.START_NS, option),
        bags.Message(f'{sensor}/Depth_0/info/camera_info', bags.START_NS, info),
        bags.Message(f'{sensor}/Depth_0/image/data', bags.START_NS, depth),
    ]
    source = bags.write(tmp_path / 'in.bag', messages)
    assert replay(source, '-o', tmp_path / 'out.mcap', '--stages', 'refine_depth') == 0
    out = bags.read(tmp_path / 'out.mcap')
    (refined,) = on(out, '/camera/depth_refined/image_rect')
    assert refined.encoding == '16UC1'
    assert (pixels(refined) == 2000).all()  # 8000 * 0.25 mm
    (camera,) = on(out, '/camera/depth_refined/camera_info')
    assert camera.k[0] == 61.0


def test_points_are_projected_with_the_camera_info_of_their_own_image(bags, tmp_path):
    aligned = '/camera/aligned_depth_to_color'
    of_color = np.array([96.0, 0, 31.5, 0, 0, 96, 23.5, 0, 0, 0, 1, 0])
    messages = bags.scene(2, color=None, name='image_rect_raw')
    for m in bags.scene(2, color=None, name='image_raw'):
        topic = m.topic.replace('/camera/depth', aligned)
        msg = m.msg
        if topic.endswith('camera_info'):
            msg = bags.info(stamp_ns(msg), p=of_color)
        messages.append(m._replace(topic=topic, msg=msg))
    messages.sort(key=lambda m: m.log_ns)
    source = bags.write(tmp_path / 'in.mcap', messages)
    named = tmp_path / 'named.yaml'
    named.write_text('topics: {depth: /camera/depth/image_rect_raw}', encoding='utf-8')
    for arguments, f_px in (((), 96.0), (('--params', named), 60.0)):
        out = tmp_path / f'{f_px}.mcap'
        assert replay(source, '-o', out, '--stages', 'project_points', *arguments) == 0
        cloud = on(bags.read(out), '/camera/points')[0]
        x_m, _, z_m = cloud.data.view(np.float32).reshape(48, 64, -1)[0, 0]
        assert x_m == pytest.approx(-31.5 / f_px * z_m)


def test_colour_of_another_camera_is_not_painted_on(bags, tmp_path):
    front = bags.scene(2, color=None, base='/front')
    rear = bags.scene(2, base='/rear')
    messages = sorted(front + rear, key=lambda m: m.log_ns)
    source = bags.write(tmp_path / 'in.mcap', messages)
    assert replay(source, '-o', tmp_path / 'out.mcap', '--stages', 'project_points') == 0
    cloud = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')[0]
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z']
    # Named, in the same frame and size, but through another lens.
    rear += [
        m._replace(topic='/rear/color/camera_info', msg=bags.info(stamp_ns(m.msg), p=np.zeros(12)))
        for m in rear
        if m.topic == '/rear/depth/camera_info'
    ]
    messages = sorted(front + rear, key=lambda m: m.log_ns)
    source = bags.write(tmp_path / 'lens.mcap', messages)
    named = tmp_path / 'named.yaml'
    named.write_text('topics: {color: /rear/color/image_rect}', encoding='utf-8')
    arguments = ('--stages', 'project_points', '--params', named)
    assert replay(source, '-o', tmp_path / 'lens_out.mcap', *arguments) == 0
    cloud = on(bags.read(tmp_path / 'lens_out.mcap'), '/camera/points')[0]
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z']


def test_one_camera_info_serves_depth_and_colour(bags, tmp_path):
    names = {
        '/camera/depth/camera_info': 'camera_info',
        '/camera/depth/image_rect': 'image_depth_rect',
        '/camera/color/image_rect': 'image_color_rect',
    }
    messages = [m._replace(topic=f'/kinect2/qhd/{names[m.topic]}') for m in bags.scene(3)]
    source = bags.write(tmp_path / 'in.mcap', messages)
    arguments = ('--camera', 'kinect_v2', '--stages', 'project_points')
    assert replay(source, '-o', tmp_path / 'out.mcap', *arguments) == 0
    clouds = on(bags.read(tmp_path / 'out.mcap'), '/camera/points')
    assert [len(cloud.fields) for cloud in clouds] == [4, 4, 4]
