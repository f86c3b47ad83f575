from __future__ import annotations

import subprocess
import sys

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from depth_refiner_ros.hosts.bag import (
    BagError,
    open_bag,
    recorded,
)
from depth_refiner_ros.hosts.typestore import FAMILY, STORE

from .recordings import (
    frames,
    write,
)


def test_open_bag_closes_its_file_and_passes_the_callers_errors(tmp_path):
    path = write(tmp_path / 'x.mcap', frames(1))
    with pytest.raises(AssertionError, match='mine'), open_bag(path) as reader:
        raise AssertionError('mine')
    assert reader.stack is None


def test_what_a_damaged_file_raises_is_always_the_same(tmp_path, monkeypatch):
    path = write(tmp_path / 'x.mcap', frames(1))
    for failure in (ZeroDivisionError('a'), MemoryError(), KeyError('b'), OverflowError()):
        with open_bag(path) as reader:

            def messages(*_, failure=failure):
                yield from ()
                raise failure

            monkeypatch.setattr(reader.readers[0].storage, 'messages', messages)
            with pytest.raises(BagError, match='is damaged'):
                list(reader.messages())
            with pytest.raises(BagError, match='is damaged'):
                reader.deserialize(b'\0\1\0\0', 'sensor_msgs/msg/Image')


def test_recorded_prefers_the_raw_topic(tmp_path):
    msg = FAMILY.make('std_msgs/msg/String', data='x')
    kind = msg.__msgtype__
    with Writer(tmp_path / 'x', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in ('/b/compressed', '/b/compressedDepth', '/a/compressed', '/a'):
            connection = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connection, 1, STORE.serialize_cdr(msg, kind))
    with open_bag(tmp_path / 'x') as reader:
        assert [c.topic for c in recorded(reader, '/a')] == ['/a']
        assert [c.topic for c in recorded(reader, '/b')] == ['/b/compressedDepth']
        assert recorded(reader, '/c') == []


def test_importing_the_host_changes_nothing_in_rosbags():
    code = """
from rosbags.rosbag1 import reader as rosbag1
from rosbags.rosbag2 import storage_mcap

def patched():
    return [*storage_mcap.DECOMPRESSORS.values(), *rosbag1.decompressors.values(),
            storage_mcap.get_msgdef, storage_mcap.read_string]

before = patched()
import depth_refiner_ros.hosts.bag as bag
assert patched() == before
from pathlib import Path
try:
    with bag.open_bag(Path(".")):
        pass
except bag.BagError:
    pass
assert patched() != before
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
