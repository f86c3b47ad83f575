from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.cli import main
from depth_refiner_ros.hosts import bag


@pytest.fixture
def shown(capsys):
    def run(path, *flags):
        assert main(['info', str(path), *flags]) == 0
        out, err = capsys.readouterr()
        assert err == ''
        return out

    return run


def row(out, topic):
    (line,) = [line for line in out.splitlines() if line.split()[:1] == [topic]]
    return ' '.join(line.split())


@pytest.mark.parametrize(
    ('name', 'storage'),
    [
        ('x.bag', 'ROS 1 bag'),
        ('x.mcap', 'rosbag2, mcap'),
        ('x.db3', 'rosbag2, sqlite3'),
        ('x', 'rosbag2, mcap'),
    ],
)
def test_everything_at_a_glance(bags, tmp_path, shown, name, storage):
    path = bags.write(tmp_path / name, [*bags.scene(4), *chatter(bags)])
    out = shown(path)
    assert f'{path}: {storage}, ' in out
    # three periods, and the two nanoseconds between the first and the last topic of a frame
    assert '0.10 s from 2023-11-14 22:13:20 UTC (1700000000.128457), 13 messages' in out
    frame = f"in '{bags.FRAME}'"
    assert row(out, '/camera/depth/image_rect') == (
        f'/camera/depth/image_rect depth sensor_msgs/Image 4 30.0 16UC1 64x48, {frame}'
    )
    assert row(out, '/camera/color/image_rect').endswith(f'4 30.0 bgr8 64x48, {frame}')
    assert row(out, '/camera/depth/camera_info').endswith(
        f'camera sensor_msgs/CameraInfo 4 30.0 64x48, fx 60.0 fy 60.0 cx 31.5 cy 23.5, {frame}'
    )
    assert row(out, '/chatter') == '/chatter std_msgs/String 1'


def chatter(bags):
    return [bags.Message('/chatter', bags.START_NS + 50_000_000, bags.text('hi'))]


def test_compressed_topics(bags, tmp_path, shown):
    out = shown(bags.write(tmp_path / 'x.mcap', bags.scene(2, codec='rvl', color='jpeg')))
    depth = row(out, '/camera/depth/image_rect/compressedDepth')
    assert "'16UC1; compressedDepth rvl' 64x48" in depth
    assert ' depth ' in depth
    assert "'rgb8; jpeg compressed bgr8' 64x48" in row(out, '/camera/color/image_rect/compressed')


def test_what_cannot_be_read_is_said_not_raised(bags, tmp_path, shown):
    t = bags.START_NS
    zeros = {'k': np.zeros(9), 'p': np.zeros(12)}
    messages = [
        bags.Message('/camera/depth/camera_info', t, bags.info(t, **zeros)),
        bags.Message('/camera/depth/image_rect', t, bags.image(t, np.zeros((1, 1)), '64FC1')),
        bags.Message('/camera/color/image_rect/compressed', t, bags.compressed(t, 'h264', b'xyz')),
    ]
    out = shown(bags.write(tmp_path / 'x.mcap', messages))
    assert '64x48, not calibrated' in out
    assert '64FC1 1x1' in out
    assert "'h264', not readable" in out


def test_no_depth_and_no_messages(bags, tmp_path, shown):
    out = shown(bags.write(tmp_path / 'a.mcap', chatter(bags)))
    assert 'no depth topic' in out
    out = shown(bags.write(tmp_path / 'b.mcap', []))
    assert 'no messages' in out
    out = shown(bags.write(tmp_path / 'c.bag', []))
    assert 'no messages' in out


def test_namespace(bags, tmp_path, shown):
    two = bags.scene(1, base='/camera') + bags.scene(1, base='/rear')
    path = bags.write(tmp_path / 'x.mcap', two)
    assert ' depth ' in row(shown(path), '/camera/depth/image_rect')
    assert ' depth ' in row(shown(path, '--namespace', '/rear'), '/rear/depth/image_rect')


def test_only_the_first_message_of_a_topic_is_read(bags, tmp_path, shown, monkeypatch):
    path = bags.write(tmp_path / 'x.mcap', bags.scene(200))
    read = []
    deserialize = bag.Recording.deserialize

    def counted(self, raw, kind):
        read.append(kind)
        return deserialize(self, raw, kind)

    monkeypatch.setattr(bag.Recording, 'deserialize', counted)
    shown(path)
    # Each topic's for what it holds, and each image's for its encoding.
    assert len(read) == 3 + 2
