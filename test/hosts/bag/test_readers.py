from __future__ import annotations

from io import BytesIO
import shutil
import sqlite3
import struct

import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from depth_refiner_ros.cli import main
from depth_refiner_ros.hosts.bag import BagError, open_bag
from depth_refiner_ros.hosts.typestore import STORE

STRING = 'std_msgs/msg/String'


def read(path):
    with open_bag(path) as reader:
        return [
            (c.topic, log_ns, reader.deserialize(raw, c.msgtype).data)
            for c, log_ns, raw in reader.messages()
            if reader.is_ros(c)
        ]


def cdr(text):
    return STORE.serialize_cdr(STORE.types[STRING](data=text), STRING)


def recorded(path, count=4, storage=StoragePlugin.SQLITE3, compression=None):
    writer = Writer(path, version=9, storage_plugin=storage)
    if compression:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        topic = writer.add_connection('/a', STRING, typestore=STORE)
        for i in range(count):
            writer.write(topic, i, cdr(str(i)))
    return path


EXPECTED = [('/a', i, str(i)) for i in range(4)]

# --------------------------------------------------------------------- killed recorders


def killed(folder, journal, count=4):
    """Copy a database whose recorder has committed half, and the rest into a file beside it."""
    whole = next(recorded(folder.with_name('whole'), count).glob('*.db3'))
    live = folder.with_name('live.db3')
    shutil.copyfile(whole, live)
    folder.mkdir()
    database = sqlite3.connect(live, isolation_level=None)
    rows = database.execute('SELECT * FROM messages ORDER BY id').fetchall()
    if journal == 'wal':
        database.execute('DELETE FROM messages WHERE id > ?', (count // 2,))
        database.execute('PRAGMA journal_mode = WAL')
        database.execute('PRAGMA wal_autocheckpoint = 0')
        for row in rows[count // 2 :]:
            database.execute('INSERT INTO messages VALUES (?, ?, ?, ?)', row)
    else:
        # Pages of a transaction that never ended are in the file, those they replace beside it.
        database.execute('PRAGMA cache_size = 1')
        database.execute('BEGIN')
        database.execute('UPDATE messages SET data = ?', (b'\0' * 20000,))
    for end in ('', '-wal', '-journal'):
        if (file := live.with_name(f'live.db3{end}')).exists():
            shutil.copyfile(file, folder / f'x_0.db3{end}')
    database.close()
    return folder


@pytest.mark.parametrize('journal', ['wal', 'journal'])
@pytest.mark.parametrize('named', ['folder', 'file', 'indexed'])
def test_what_lies_beside_a_database_is_read(tmp_path, journal, named):
    folder = killed(tmp_path / 'killed', journal)
    assert (folder / f'x_0.db3-{journal}').stat().st_size
    if named == 'indexed':  # as `ros2 bag reindex` leaves it: half of the messages counted
        text = (tmp_path / 'whole/metadata.yaml').read_text().replace('whole.db3', 'x_0.db3')
        (folder / 'metadata.yaml').write_text(text.replace('message_count: 4', 'message_count: 2'))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    folder.chmod(0o555)
    path = folder / 'x_0.db3' if named == 'file' else folder
    assert read(path) == EXPECTED
    with open_bag(path) as reader:
        assert [c.msgcount for c in reader.connections] == [4]
    folder.chmod(0o755)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before


def test_no_copy_stays_behind(tmp_path, monkeypatch):
    (tmp_path / 'tmp').mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'tmp'))
    assert read(killed(tmp_path / 'killed', 'wal')) == EXPECTED
    assert list((tmp_path / 'tmp').iterdir()) == []


def test_no_room_for_a_copy_says_how_to_recover(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    folder = killed(tmp_path / 'killed', 'wal')
    monkeypatch.setattr(shutil, 'copyfile', full)
    with pytest.raises(BagError, match=r'x_0\.db3-wal holds the end .*TMPDIR.*sqlite3 .*PRAGMA'):
        read(folder)


def test_files_without_metadata_are_one_recording(tmp_path):
    folder = tmp_path / 'splits'
    folder.mkdir()
    for i, (_, log_ns, text) in enumerate(EXPECTED):
        with Writer(tmp_path / f's{i}', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            topic = writer.add_connection('/a', STRING, typestore=STORE)
            writer.write(topic, log_ns, cdr(text))
        shutil.copyfile(tmp_path / f's{i}/s{i}.mcap', folder / f'x_{i}.mcap')
    assert read(folder) == EXPECTED
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(BagError, match=r'no \.mcap or \.db3 file'):
        read(folder)


# -------------------------------------------------------------------------- compression


@pytest.mark.parametrize(
    ('storage', 'mode'),
    [
        (StoragePlugin.MCAP, 'MESSAGE'),
        (StoragePlugin.SQLITE3, 'MESSAGE'),
        (StoragePlugin.SQLITE3, 'FILE'),
    ],
)
def test_compressed_files_named_alone(tmp_path, storage, mode):
    folder = recorded(tmp_path / 'x', storage=storage, compression=CompressionMode[mode])
    (file,) = (p for p in folder.iterdir() if p.suffix != '.yaml')
    assert read(folder) == read(file) == EXPECTED


# ------------------------------------------------------------------------------ foreign


def mcap(path, channels, *, profile='ros2'):
    """Write channels of (topic, schema, language, definition, encoding, message), one each."""

    def text(data):
        data = data if isinstance(data, bytes) else data.encode()
        return struct.pack('<I', len(data)) + data

    def record(opcode, data):
        return bytes([opcode]) + struct.pack('<Q', len(data)) + data

    out = BytesIO()
    out.write(b'\x89MCAP0\r\n' + record(1, text(profile) + text('')))
    for i, (topic, schema, language, definition, encoding, message) in enumerate(channels, 1):
        out.write(
            record(3, struct.pack('<H', i) + text(schema) + text(language) + text(definition))
        )
        out.write(record(4, struct.pack('<HH', i, i) + text(topic) + text(encoding) + text('')))
        out.write(record(5, struct.pack('<HIQQ', i, 0, i, i) + message))
    out.write(record(15, bytes(4)) + record(2, bytes(20)) + b'\x89MCAP0\r\n')
    path.write_bytes(out.getvalue())
    return path


ROS = ('/a', STRING, 'ros2msg', 'string data', 'cdr', cdr('0'))
FOREIGN = {
    'protobuf': ('/p', 'foxglove.X', 'protobuf', b'\n\xff\xfe\x80', 'protobuf', b'\x08\x01'),
    'json': ('/p', 'X', 'jsonschema', '{}', 'json', b'{}'),
    'no schema': ('/p', '', '', '', 'json', b'{}'),
    'broken definition': (
        '/p',
        'my_msgs/msg/X',
        'ros2msg',
        '%%% {',
        'cdr',
        b'\0',
    ),
    'unknown language': ('/p', 'my_msgs/msg/X', 'unknown', '', 'cdr', b'\0'),
    'a part is missing': ('/p', 'my_msgs/msg/X', 'ros2msg', 'other_msgs/Y y', 'cdr', b'\0'),
    'json that is called as in ROS': ('/a', STRING, 'jsonschema', '{}', 'json', b'{}'),
}


@pytest.mark.parametrize('kind', FOREIGN)
@pytest.mark.parametrize('first', [False, True])
def test_one_foreign_channel_is_no_damage(tmp_path, kind, first, capsys):
    channels = [FOREIGN[kind], ROS] if first else [ROS, FOREIGN[kind]]
    path = mcap(tmp_path / 'x.mcap', channels)
    assert [(topic, text) for topic, _, text in _readable(path)] == [('/a', '0')]
    with open_bag(path) as reader:
        raw = {(c.topic, c.ext.serialization_format): raw for c, _, raw in reader.messages()}
    assert raw[FOREIGN[kind][0], FOREIGN[kind][4]] == FOREIGN[kind][5]
    assert main(['info', str(path)]) == 0
    assert 'Traceback' not in capsys.readouterr().err


def _readable(path):
    with open_bag(path) as reader:
        for c, log_ns, raw in reader.messages():
            if c.msgtype == STRING and reader.is_ros(c):
                yield c.topic, log_ns, reader.deserialize(raw, c.msgtype).data


def test_a_broken_definition_is_named_when_it_is_needed(tmp_path):
    path = mcap(tmp_path / 'x.mcap', [ROS, FOREIGN['broken definition']])
    with pytest.raises(BagError, match=r'x\.mcap: my_msgs/msg/X cannot be read: '):
        read(path)


def test_schemas_of_others_keep_their_bytes(tmp_path):
    path = mcap(tmp_path / 'x.mcap', [FOREIGN['protobuf'], ROS])
    with open_bag(path) as reader:
        (owner,) = {id(c.owner): c.owner for c in reader.connections}.values()
        assert owner.schemas[1].data == b'\n\xff\xfe\x80'


@pytest.mark.parametrize('profile', ['ros1', ''])
def test_ros1_in_mcap(tmp_path, profile):
    store = get_typestore(Stores.ROS1_NOETIC)
    kind = 'std_msgs/msg/Header'
    time = store.types['builtin_interfaces/msg/Time'](sec=5, nanosec=6)
    raw = bytes(store.serialize_ros1(store.types[kind](7, time, 'optical'), kind))
    definition = 'uint32 seq\ntime stamp\nstring frame_id\n'
    channel = ('/h', 'std_msgs/Header', 'ros1msg', definition, 'ros1', raw)
    with open_bag(mcap(tmp_path / 'x.mcap', [channel], profile=profile)) as reader:
        assert not reader.is2
        ((connection, _, got),) = reader.messages()
        assert connection.msgtype == kind
        header = reader.deserialize(got, kind)
        assert (header.seq, header.stamp.sec, header.frame_id) == (7, 5, 'optical')
        cdr_octets = reader.ros2_types.ros1_to_cdr(got, kind)
    ros2 = STORE.deserialize_cdr(bytes(cdr_octets), kind)
    assert (ros2.stamp.nanosec, ros2.frame_id) == (6, 'optical')


def test_a_topic_whose_name_is_no_text_is_damage(tmp_path):
    path = mcap(tmp_path / 'x.mcap', [(b'/\xff', *ROS[1:])])
    with pytest.raises(BagError, match='is damaged'):
        read(path)


def test_definitions_that_a_recorder_did_not_find(tmp_path):
    path = next(recorded(tmp_path / 'x').glob('*.db3'))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE message_definitions SET encoding = 'unknown'")
    database.close()
    assert read(path) == EXPECTED


def test_every_profile_reads_as_ros2(tmp_path):
    from depth_refiner_ros.hosts.bag.readers import _AnyProfile

    path = mcap(tmp_path / 'x.mcap', [ROS], profile='px4')
    octets = path.read_bytes()
    wanted = octets[:17] + b'\x04\0\0\0ros2' + octets[25:]
    for size in (1, 7, 20, len(octets)):
        with path.open('rb') as file:
            proxy = _AnyProfile(file)
            assert b''.join(iter(lambda: proxy.read(size), b'')) == wanted  # noqa: B023
