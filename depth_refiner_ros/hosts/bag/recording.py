"""Reads recordings of any kind: ROS 1 .bag files, and sqlite3 and mcap files of rosbag2."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
import re
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
)
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ...data import RigidTransform
from ...geometry import TransformTree
from ...messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    is_compressed,
    transforms,
)
from ..typestore import STORE, TF_TYPE
from .chunks import ZSTD_MAGIC, bound_chunks, unpack_zstd_file, unpacked_zstd
from .connections import encoding
from .errors import BagError, unreadable
from .readers import NoRoomError, Rosbag2Reader, accept_foreign_schemas

if TYPE_CHECKING:
    from rosbags.interfaces.typing import Typesdict

TF_TOPICS = ('/tf_static', '/tf')
RENAMED_TYPES = {'tf/msg/tfMessage': TF_TYPE}  # before tf2, in recordings like TUM's


class Recording(AnyReader):
    """A recording that reports whatever its bytes trip over as what it is: damage.

    Decompression, SQLite and deserialization all have exceptions of their own, and a flipped bit
    may raise any of them, or none that is about files. What is not ROS and what has no readable
    definition is no damage: it is among the connections and can be copied, but not deserialized.

    Args:
        paths: A recording of any kind, or the files of one without its metadata.yaml.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(paths, default_typestore=STORE)
        if self.is2:
            self.readers = [Rosbag2Reader(path) for path in paths]
        self._unreadable_types: dict[str, str] = {}

    def _open(self) -> None:
        assert self.stack
        for reader in self.readers:
            self.stack.enter_context(reader)
        self.connections = [c for reader in self.readers for c in reader.connections]
        encodings = {encoding(c) for c in self.connections}
        if encodings:  # an mcap file may hold ROS 1
            self.is2 = 'ros1' not in encodings or 'cdr' in encodings
        self._register_types([c for c in self.connections if self.is_ros(c)])

    def is_ros(self, connection: Connection) -> bool:
        """Return whether a topic's messages are those of the recording's version of ROS."""
        return encoding(connection) == ('cdr' if self.is2 else 'ros1')

    def _register_types(self, connections: Sequence[Connection]) -> None:
        """Learn the types; those whose definition cannot be read are remembered as such."""
        none = MessageDefinitionFormat.NONE
        parsed: dict[str, Typesdict] = {}
        for connection in connections:
            if connection.msgdef.format is not none:
                with self._type_may_fail(connection.msgtype):
                    parsed[connection.msgtype] = _types(connection)
        types: Typesdict = {}
        if any(connection.msgdef.format is none for connection in connections):
            types |= STORE.fielddefs
        for found in parsed.values():
            types |= found
        self.typestore = get_typestore(Stores.EMPTY)
        try:
            self.typestore.register(types)
        except Exception:  # one of them; which, only trying tells
            self.typestore = get_typestore(Stores.EMPTY)
            for name, found in parsed.items():
                with self._type_may_fail(name):
                    self.typestore.register(found)
        for connection in connections:
            if connection.digest and connection.msgdef.format is not none:
                with self._type_may_fail(connection.msgtype):
                    self._check_digest(connection)

    @contextmanager
    def _type_may_fail(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the parser raises whatever it trips over
            reason = ' '.join(str(error).split())[:200].rstrip('.') or type(error).__name__
            self._unreadable_types.setdefault(name, reason)

    def _check_digest(self, connection: Connection) -> None:
        name = connection.msgtype
        if self.is2:
            digest = self.typestore.hash_rihs01(name)
        else:
            digest = self.typestore.generate_msgdef(name)[1]
        if digest != connection.digest:
            raise ValueError(f'its hash is {digest}, not the recorded {connection.digest}')

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Read messages; see `AnyReader.messages`.

        Raises:
            BagError: If the recording is damaged.
        """
        try:
            for connection, log_ns, raw in super().messages(connections, start, stop):
                # A file whose messages are compressed says so in metadata.yaml only.
                if raw[:4] == ZSTD_MAGIC and encoding(connection) == 'cdr':
                    raw = unpacked_zstd(raw)
                yield connection, log_ns, raw
        except Exception as error:
            raise BagError(unreadable(Path(str(self.paths[0])), error)) from None

    @cached_property
    def ros2_types(self) -> Typestore:
        """The recording's types as ROS 2 has them.

        In a ROS 1 recording, Header has a seq and some fields other names.
        """
        if self.is2:
            return self.typestore
        types = dict(self.typestore.fielddefs)
        for old, new in RENAMED_TYPES.items():
            if old in types:
                types[new] = types.pop(old)
        for name, (_, fields) in types.items():
            known = STORE.fielddefs.get(name)
            same = known and [kind for _, kind in known[1]] == [kind for _, kind in fields]
            if known and (same or name == 'std_msgs/msg/Header'):
                types[name] = known
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        return store

    def deserialize(self, rawdata: bytes, typ: str) -> object:
        """Deserialize a message; see `AnyReader.deserialize`.

        Raises:
            BagError: If the message is damaged, or its type unknown.
        """
        if typ in self._unreadable_types or typ not in self.typestore.types:
            reason = self._unreadable_types.get(typ, 'the recording does not define it')
            raise BagError(f'{self.paths[0]}: {typ} cannot be read: {reason}')
        try:
            return super().deserialize(rawdata, typ)
        except Exception as error:
            raise BagError(unreadable(Path(str(self.paths[0])), error)) from None


def _types(connection: Connection) -> Typesdict:
    """Parse a definition."""
    text, name = connection.msgdef.data, connection.msgtype
    if connection.msgdef.format is MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, name)
    rule = '=' * 80 + '\n'
    if not text.startswith(f'{rule}IDL: '):
        return get_types_from_idl(text)
    found: Typesdict = {}
    for part in text.split(rule)[1:]:
        found |= get_types_from_idl(part.partition('\n')[2])
    return found


@contextmanager
def open_bag(path: Path) -> Iterator[Recording]:
    """Open a recording of any kind.

    Raises:
        BagError: If there is none, or it is damaged or of no known format.
    """
    if not path.exists():
        raise BagError(f'{path} does not exist')
    bound_chunks()
    accept_foreign_schemas()
    paths = [path]
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        # A recorder that was killed has not written it.
        paths = sorted(p for p in path.iterdir() if p.suffix in ('.mcap', '.db3'))
        if not paths:
            raise BagError(
                f'{path} has no metadata.yaml and no .mcap or .db3 file: it is no recording'
            )
    with ExitStack() as stack:
        try:
            if path.suffix == '.zstd':
                paths = [stack.enter_context(_unpacked(path))]
            recording = Recording(paths)
            recording.open()
        except PermissionError:
            raise
        except NoRoomError as error:
            raise BagError(str(error)) from None
        except Exception as error:
            raise BagError(unreadable(paths[0], error)) from None
        stack.callback(_close_quietly, recording)
        yield recording


def _close_quietly(recording: Recording) -> None:
    with suppress(Exception):
        recording.close()


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Unpack a file that rosbag2 compressed whole."""
    with TemporaryDirectory(prefix='depth_refiner_') as folder:
        file = Path(folder, path.stem)
        unpack_zstd_file(path, file)
        yield file


def tf_connections(reader: AnyReader, *topics: str) -> list[Connection]:
    """Return the connections that carry transforms."""
    kinds = (TF_TYPE, *RENAMED_TYPES)
    return [c for c in reader.connections if c.topic in topics and c.msgtype in kinds]


def static_transforms(
    reader: AnyReader, later: Callable[[], Iterable[RigidTransform]] | None = None
) -> TransformTree:
    """Return the tree of all static transforms, which hold for the whole recording.

    Args:
        reader: An open recording.
        later: See `TransformTree`.
    """
    tree = TransformTree(later=later)
    static = tf_connections(reader, '/tf_static')
    if static:
        for connection, _, raw in reader.messages(connections=static):
            tree.update(transforms(reader.deserialize(raw, connection.msgtype)))
    return tree


def recorded(reader: AnyReader, topic: str) -> list[Connection]:
    """Return the connections of a topic, or of its first compressed transport, or none.

    Those that have messages come first: image_transport advertises every transport of an image,
    and a recorder that takes all topics notes them, empty as they are.
    """
    names = (topic, f'{topic}/compressedDepth', f'{topic}/compressed')
    found = [[c for c in reader.connections if c.topic == name] for name in names]
    found.sort(key=lambda connections: not any(c.msgcount for c in connections))  # stable
    return next((connections for connections in found if connections), [])


def contents(reader: AnyReader) -> tuple[dict[str, str], dict[str, str]]:
    """Return the message type of every topic that has messages, and the encoding of its images."""
    filled = [c for c in reader.connections if c.msgcount]
    encodings: dict[str, str] = {}
    for connection in filled:
        if connection.msgtype not in (IMAGE, COMPRESSED_IMAGE):
            continue
        if connection.topic in encodings:
            continue
        for _, _, raw in reader.messages(connections=[connection]):
            image: Any = reader.deserialize(raw, connection.msgtype)
            encodings[connection.topic] = image.format if is_compressed(image) else image.encoding
            break
    return {c.topic: c.msgtype for c in filled}, encodings


_SDK_SENSOR = re.compile(r'(.*/device_\d+/sensor_\d+)/')


def recorded_depth_unit_m(reader: AnyReader, topic: str) -> float:
    """Return the metres of one count of a depth topic, 0 where the recording does not say.

    realsense-viewer and the SDK record the sensor's options beside its images.
    """
    sensor = _SDK_SENSOR.match(topic)
    if sensor is None:
        return 0.0
    names = [f'{sensor[1]}/option/{name}/value' for name in ('Depth Units', 'Depth_Units')]
    options = [c for c in reader.connections if c.topic in names and c.msgcount]
    for connection, _, raw in reader.messages(connections=options) if options else ():
        option: Any = reader.deserialize(raw, connection.msgtype)
        unit_m = float(f'{option.data:.6g}')  # a float32: in six digits it is 0.00025 again
        return unit_m if 0 < unit_m <= 1 else 0.0
    return 0.0
