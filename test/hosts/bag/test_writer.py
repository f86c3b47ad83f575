from __future__ import annotations

from collections import defaultdict
import errno
import resource
import threading

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2.storage_mcap import McapWriter

from depth_refiner_ros.data import (
    DepthImage,
    Header,
    RigidTransform,
)
from depth_refiner_ros.hosts.bag import (
    BagError,
    BagWriter,
    RunError,
    open_bag,
    static_transforms,
    storages,
)
from depth_refiner_ros.hosts.bag.storages import Channel, Rosbag2Writer
from depth_refiner_ros.messages import decode

from .recordings import (
    CAMERA,
    DEPTH,
    HEADER,
    NAMES,
    VALUES,
    at,
    frames,
    read,
    write,
)


@pytest.mark.parametrize(('name', 'storage'), NAMES)
def test_every_value_comes_back(tmp_path, name, storage):
    path = tmp_path / name
    write(path, [(t, 10 + i, v) for i, (t, v) in enumerate(VALUES.items())], storage=storage)

    messages = read(path)
    assert [(topic, log_ns) for topic, log_ns, _ in messages] == [
        (topic, 10 + i) for i, topic in enumerate(VALUES)
    ]
    for topic, _, msg in messages:
        value = decode(type(VALUES[topic]), msg, topic)
        assert value.header == HEADER
    assert decode(DepthImage, messages[0][2]).encoding == '16UC1'
    assert path.is_file() == name.startswith('bare.')
    assert not list(tmp_path.glob('.*'))


def test_transforms_come_back_latched(tmp_path):
    placed = RigidTransform(Header(5, 'a'), 'b', np.eye(3), np.array([1.0, 2.0, 3.0]))
    path = tmp_path / 'x.mcap'
    with BagWriter(path) as writer:
        writer.write_transforms('/tf_static', 5, [placed])
        writer.write_transforms('/tf', 6, [placed])
    with open_bag(path) as reader:
        found = static_transforms(reader).lookup('a', 'b')
        durability = {
            c.topic: c.ext.offered_qos_profiles[0].durability for c in reader.connections
        }
    assert found.translation_m.tolist() == [1, 2, 3]
    assert durability['/tf_static'].name == 'TRANSIENT_LOCAL'
    assert durability['/tf'].name == 'VOLATILE'


def test_a_thousand_messages_stay_in_order(tmp_path):
    path = write(tmp_path / 'x.mcap', (('/depth', i, at(DEPTH, i)) for i in range(1000)))
    assert [log_ns for _, log_ns, _ in read(path)] == list(range(1000))


def test_an_mcap_recording_has_the_bytes_that_rosbags_writes(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    payloads = [rng.bytes(size) for size in (0, 1, 700_000, 400_000, 3_000_000, 5)]

    def recorded(name):
        writer = Rosbag2Writer(tmp_path / name / 'bag', 'mcap')
        (tmp_path / name).mkdir()
        writer.open()
        channels = [
            Channel(f'/t{n}', f'a/msg/T{n}', 'uint8[] x', 'ros2msg', 'RIHS01_0', 'cdr', [])
            for n in range(2)
        ]
        first, second = map(writer.add, channels)
        for number, payload in enumerate(payloads):
            writer.write(second if number % 3 else first, 100 - number, payload)
        writer.close()
        return (tmp_path / name / 'bag' / 'bag.mcap').read_bytes()

    ours = recorded('ours')

    class Theirs(McapWriter):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.languages = defaultdict(str)

    plugins = {StoragePlugin.MCAP: Theirs}
    monkeypatch.setattr(Rosbag2Writer, 'STORAGE_PLUGINS', plugins)
    assert recorded('theirs') == ours


def test_a_topic_has_one_type(tmp_path):
    with BagWriter(tmp_path / 'x.mcap') as writer:
        writer.write('/a', 1, DEPTH)
        with pytest.raises(BagError, match='already recorded as sensor_msgs/msg/Image'):
            writer.write('/a', 2, CAMERA)


@pytest.mark.parametrize(('name', 'storage'), NAMES)
def test_an_error_of_the_caller_leaves_what_was_written(tmp_path, name, storage):
    path = tmp_path / name
    with pytest.raises(KeyError), BagWriter(path, storage=storage) as writer:  # noqa: PT012
        writer.write('/depth', 1, DEPTH)
        raise KeyError
    assert len(read(path)) == 1


@pytest.mark.parametrize(('name', 'storage'), NAMES)
def test_an_error_before_the_first_message_leaves_nothing(tmp_path, name, storage):
    with pytest.raises(KeyError), BagWriter(tmp_path / name, storage=storage):
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('name', 'storage'), NAMES)
def test_a_recording_of_nothing_is_readable(tmp_path, name, storage):
    with BagWriter(tmp_path / name, storage=storage):
        pass
    assert read(tmp_path / name) == []


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('x.bag', 'ROS 1 bags are read but not written; name it x.mcap'),
        ('x.BAG', 'name it x.mcap'),
        ('x.MCAP', 'small letters: x.mcap'),
        ('x.Db3', 'small letters: x.db3'),
        ('x.mcap.zstd', 'name it x.mcap'),
        ('x.tar.gz', 'name it x.mcap'),
    ],
)
def test_names_of_other_kinds_of_files_are_refused(tmp_path, name, words):
    with pytest.raises(BagError) as caught:
        BagWriter(tmp_path / name)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_may_have_any_other_name(tmp_path):
    for name in ('run.2', 'kitchen.v2', 'a b'):
        assert read(write(tmp_path / name, [('/depth', 1, DEPTH)]))


@pytest.mark.parametrize(('name', 'storage'), NAMES)
def test_paths_that_cannot_be_written(tmp_path, name, storage):
    (tmp_path / name).write_text('mine')
    with pytest.raises(BagError, match='exists already'):
        BagWriter(tmp_path / name, storage=storage)
    with (
        pytest.raises(BagError, match=r'cannot write .*: Not a directory'),
        BagWriter(tmp_path / name / name, storage=storage),
    ):
        pass
    assert (tmp_path / name).read_text() == 'mine'


def test_a_write_that_fails_is_told_at_the_next_write_or_the_end(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(storages._Mcap, 'write', full)
    with (
        pytest.raises(BagError, match='the disk is full; nothing was written'),
        BagWriter(tmp_path / 'a.mcap') as writer,
    ):
        writer.write('/depth', 1, DEPTH)
    with (  # noqa: PT012
        pytest.raises(BagError, match='the disk is full'),
        BagWriter(tmp_path / 'b.mcap') as writer,
    ):
        for i in range(100_000):
            writer.write('/depth', i, DEPTH)
    assert i < 1000


@pytest.mark.parametrize(('name', 'storage'), NAMES)
@pytest.mark.parametrize('limit_bytes', [1_500_000, 2_700_000])
def test_a_full_disk_costs_the_last_megabyte(tmp_path, name, storage, limit_bytes):
    header = Header(0, 'optical')
    images = [DepthImage(header, np.full((80, 60), 1 + i / 1000, np.float32)) for i in range(200)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = BagWriter(tmp_path / name, storage=storage)
    try:
        with pytest.raises(RunError, match='cannot write') as caught, writer:  # noqa: PT012
            for i, image in enumerate(images):
                if i == 1:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
                writer.write('/depth', i, image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    messages = read(tmp_path / name)
    message_bytes = 80 * 60 * 4
    assert 1 << 20 <= len(messages) * message_bytes <= limit_bytes
    assert str(caught.value).endswith(f'holds the {len(messages)} messages written before')
    for i, (_, log_ns, message) in enumerate(messages):
        assert log_ns == i
        np.testing.assert_array_equal(
            np.frombuffer(message.data, np.float32), images[i].depth_m.ravel()
        )
    leftovers = {path.name for path in tmp_path.rglob('.*')}
    assert not leftovers


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_channel_that_is_no_ros_is_written_as_it_is(tmp_path, storage):
    descriptor, message = bytes(range(256)), b'\xff\x00\x80'  # neither is text
    foreign = Channel('/f', 'pkg.Frame', descriptor, 'protobuf', '', 'protobuf', [])
    writer = Rosbag2Writer(tmp_path / 'x', storage)
    writer.open()
    writer.write(writer.add(foreign), 5, message)
    writer.close()
    (file,) = (tmp_path / 'x').glob(f'x.{storage.replace("sqlite3", "db3")}')
    octets = file.read_bytes()
    assert message in octets
    if storage == 'mcap':  # once where it begins, once in the summary
        named = b'\x08\0\0\0protobuf' + len(descriptor).to_bytes(4, 'little') + descriptor
        assert octets.count(b'\x09\0\0\0pkg.Frame' + named) == 2
    assert read(tmp_path / 'x') == []  # a folder's metadata names ROS messages alone


def test_no_thread_outlives_its_recording(tmp_path):
    before = threading.active_count()
    write(tmp_path / 'x.mcap', frames(3))
    with pytest.raises(BagError), BagWriter(tmp_path / 'x.mcap' / 'y'):
        pass
    assert threading.active_count() == before
