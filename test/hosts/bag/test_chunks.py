"""Bombs: chunks that declare little, or nothing, and unpack to a lot."""

from __future__ import annotations

import bz2
import tracemalloc

import lz4.frame
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag1 import reader as rosbag1
from rosbags.rosbag2 import storage_mcap
from rosbags.typesys import Stores, get_typestore

from depth_refiner_ros.hosts.bag import BagError, chunks, open_bag
from depth_refiner_ros.hosts.bag.chunks import unpacked

ZEROS = bytes(64 << 20)
NOISE = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture(autouse=True)
def bounded():
    chunks.bound_chunks()


def zstd_of(data):
    return storage_mcap.zstd.compress(data)


@pytest.mark.parametrize(('name', 'pack'), [('lz4', lz4.frame.compress), ('zstd', zstd_of)])
def test_a_chunk_of_mcap_unpacks_to_what_it_declares_and_no_more(name, pack):
    unpack = storage_mcap.DECOMPRESSORS[name]
    assert unpack(pack(NOISE), len(NOISE)) == NOISE
    bomb = pack(ZEROS)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r'unpacks to more than 1000$'):
        unpack(bomb, 1000)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(('name', 'pack'), [('lz4', lz4.frame.compress), ('bz2', bz2.compress)])
def test_a_chunk_of_ros1_is_bounded_too(name, pack, monkeypatch):
    unpack = rosbag1.decompressors[name]
    assert unpack(pack(NOISE)) == NOISE
    bomb = pack(ZEROS)
    monkeypatch.setattr(chunks, 'LARGEST_BYTES', 1 << 20)
    with pytest.raises(ValueError, match='unpacks to more than 1048576'):
        unpack(bomb)


def test_what_several_frames_hold_is_read_whole():
    packed = lz4.frame.compress(NOISE[:7]) + lz4.frame.compress(NOISE[7:20])
    assert unpacked(lz4.frame.LZ4FrameDecompressor, packed, 20) == NOISE[:20]


@pytest.mark.parametrize(('name', 'pack'), [('lz4', lz4.frame.compress), ('zstd', zstd_of)])
def test_a_large_chunk_is_unpacked_piece_by_piece(name, pack, monkeypatch):
    monkeypatch.setattr(chunks, '_PIECE_BYTES', 1 << 16)
    assert storage_mcap.DECOMPRESSORS[name](pack(NOISE), len(NOISE)) == NOISE


@pytest.mark.parametrize(('name', 'pack'), [('lz4', lz4.frame.compress), ('bz2', bz2.compress)])
def test_a_chunk_that_is_cut_off_is_refused(name, pack):
    with pytest.raises(ValueError, match='ends early'):
        rosbag1.decompressors[name](pack(NOISE)[:-100])


@pytest.mark.parametrize('name', ['LZ4', 'BZ2'])
def test_recordings_are_read_as_before(tmp_path, name):
    store = get_typestore(Stores.ROS1_NOETIC)
    path = tmp_path / 'k.bag'
    writer = Writer1(path)
    writer.set_compression(Writer1.CompressionFormat[name])
    with writer:
        connection = writer.add_connection('/t', 'std_msgs/msg/String', typestore=store)
        message = store.types['std_msgs/msg/String'](data='hello ' * 100)
        writer.write(connection, 1, store.serialize_ros1(message, 'std_msgs/msg/String'))
    with open_bag(path) as reader:
        ((kind, _, raw),) = reader.messages()
        assert reader.deserialize(raw, kind.msgtype).data == 'hello ' * 100


def test_a_bomb_in_a_bag_is_one_sentence(tmp_path, monkeypatch):
    test_recordings_are_read_as_before(tmp_path, 'LZ4')
    monkeypatch.setattr(chunks, 'LARGEST_BYTES', 100)
    with (
        open_bag(tmp_path / 'k.bag') as reader,
        pytest.raises(BagError, match='unpacks to more than 100'),
    ):
        list(reader.messages())
