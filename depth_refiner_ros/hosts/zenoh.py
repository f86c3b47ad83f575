"""Runs a pipeline as a node of a Zenoh network, without ROS.

What goes over the wire is the protocol of rmw_zenoh, as ROS 2 Jazzy has it since 2025: its
docs/design.md, liveliness_utils.cpp (keys, tokens, gid) and attachment_helpers.cpp. Experimental
until tried with a real rmw_zenoh.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
import itertools
import json
import os
import re
import struct
import threading
import time
from types import TracebackType
from typing import Any, NamedTuple

import xxhash
import zenoh
import zenoh.ext

from ..config import Configuration, port_topics, resolve
from ..data import DepthImage
from ..messages import COMPRESSED_IMAGE, IMAGE, MESSAGE_TYPE, encode, transforms
from ..stage import Topic, needs_tf, topic_inputs
from .live import Frame, Level, LiveRunner, Status, Watch, reopened
from .typestore import FAMILY, STORE, TF_TYPE

ROUTER = 'tcp/127.0.0.1:7447'
"""Where rmw_zenoh's router listens, seen from its own machine."""

# Where processes on one machine meet without a router: the first takes it, the others connect and
# learn of each other by gossip. Not multicast, whose scouting socket is bound to every interface.
_RENDEZVOUS = 'tcp/127.0.0.1:7450'
_EPHEMERAL = 'tcp/127.0.0.1:0'
_MAX_MESSAGE_BYTES = 256 << 20  # what a stranger may make this process hold for one message

NO_HASH = 'TypeHashNotSupported'
"""What rmw_zenoh writes for a type's hash on Humble, which has none."""

# ------------------------------------------------------------------------- names on the wire


class Qos(NamedTuple):
    """What rmw_zenoh heeds of a QoS profile; deadline, lifespan and lease are always infinite."""

    depth: int = 1
    reliable: bool = True
    transient_local: bool = False
    keep_all: bool = False

    def __str__(self) -> str:
        """Return the last part of a liveliness token.

        Numbers are those of rmw/types.h; what equals rmw_zenoh's default (qos.cpp) stays empty.
        """
        reliability = '' if self.reliable else '2'
        durability = '1' if self.transient_local else ''
        history = '2' if self.keep_all else ''
        depth = '' if self.depth == _DEFAULT_DEPTH else str(self.depth)
        return f'{reliability}:{durability}:{history},{depth}:,:,:,,'

    @classmethod
    def parsed(cls, text: str) -> Qos:
        """Read what `__str__` writes; unknown parts count as the default."""
        reliability, durability, history, *_ = [*text.split(':'), '', '', '']
        kind, _, depth = history.partition(',')
        return cls(
            depth=int(depth) if depth.isascii() and depth.isdigit() else _DEFAULT_DEPTH,
            reliable=reliability != '2',
            transient_local=durability == '1',
            keep_all=kind == '2',
        )


_DEFAULT_DEPTH = 42
SENSOR_DATA = Qos(depth=5, reliable=False)


@cache
def type_hash(message_type: str) -> str:
    """Return the hash of a type that rosbags knows, as REP 2016 has it: RIHS01_ and 64 digits."""
    return STORE.hash_rihs01(message_type)


def topic_key(topic: str, message_type: str, digest: str, domain_id: int = 0) -> str:
    """Return the key that a topic's messages are put on."""
    return f'{domain_id}/{topic.strip("/")}/{_dds_type(message_type)}/{digest}'


class TopicKey(NamedTuple):
    """The parts of a key that describe its messages."""

    topic: str
    type: str
    hash: str

    @classmethod
    def parsed(cls, key: str) -> TopicKey | None:
        """Read what `topic_key` writes; None for any other key."""
        _, *path = key.split('/')
        if len(path) < 3 or (message_type := _ros_type(path[-2])) is None:
            return None
        return cls(f'/{"/".join(path[:-2])}', message_type, path[-1])


class Endpoint(NamedTuple):
    """A publisher ('MP') or subscription ('MS') that a liveliness token declares."""

    kind: str
    topic: str
    type: str
    hash: str
    qos: Qos

    @classmethod
    def parsed(cls, token: str) -> Endpoint | None:
        """Read a liveliness token; None for nodes, services and what is none."""
        parts = token.split('/')
        if len(parts) < 13 or parts[5] not in ('MP', 'MS'):
            return None
        message_type = _ros_type(parts[10])
        if message_type is None:
            return None
        topic = parts[9].replace('%', '/')
        return cls(parts[5], topic, message_type, parts[11], Qos.parsed(parts[12]))


def attachment(sequence: int, stamp_ns: int, gid: bytes) -> bytes:
    """Return what goes with every message: zenoh's serialization of two int64 and 16 bytes.

    Args:
        sequence: Counts a publisher's messages from 1.
        stamp_ns: When it was published, since the Unix epoch.
        gid: See `gid_of`.
    """
    return struct.pack('<qqB16s', sequence, stamp_ns, len(gid), gid)


def gid_of(token: str) -> bytes:
    """Return the 16 bytes that identify an endpoint: XXH3-128 of its token, low half first."""
    digest: int = xxhash.xxh3_128_intdigest(token.encode())
    return digest.to_bytes(16, 'little')


def _dds_type(message_type: str) -> str:
    package, kind, name = message_type.split('/')
    return f'{package}::{kind}::dds_::{name}_'


def _ros_type(dds_type: str) -> str | None:
    found = re.fullmatch(r'(\w+)::(\w+)::dds_::(\w+)_', dds_type, re.ASCII)
    return found and '/'.join(found.groups())


def _mangled(name: str) -> str:
    return name.replace('/', '%')


# ----------------------------------------------------------------------------- the network


def _config(connect: Sequence[str], listen: Sequence[str]) -> Any:
    """Make a session's configuration: rmw_zenoh's, on loopback unless flags say otherwise."""
    uri = os.environ.get('ZENOH_SESSION_CONFIG_URI')
    config = zenoh.Config.from_file(uri) if uri else zenoh.Config()
    changes: dict[str, Any] = {}
    if not uri:
        changes = {
            'mode': 'peer',
            'timestamping/enabled': True,  # what caches for late subscribers are ordered by
            'scouting/delay': 1,
            'scouting/multicast/enabled': False,
            'connect/endpoints': [] if listen else [ROUTER, _RENDEZVOUS],
            'listen/endpoints': [_EPHEMERAL],
            'transport/link/rx/max_message_size': _MAX_MESSAGE_BYTES,
        }
        if not connect:
            changes['listen/endpoints'].append(_RENDEZVOUS)
            changes['listen/exit_on_failure'] = bool(listen)
    if connect:
        changes['connect/endpoints'] = list(connect)
    if listen:
        changes['listen/endpoints'] = list(listen)
    for path, value in changes.items():
        config.insert_json5(path, json.dumps(value))
    return config


class Publisher:
    """Publishes serialized messages on a topic."""

    def __init__(self, declared: Any, gid: bytes) -> None:
        self._declared = declared
        self._gid = gid
        self._sequence = itertools.count(1)

    def put(self, cdr: bytes | memoryview) -> None:
        """Publish a message."""
        tag = attachment(next(self._sequence), time.time_ns(), self._gid)
        self._declared.put(bytes(cdr), attachment=tag)

    @property
    def matched(self) -> bool:
        """Whether anybody subscribes; always True where late subscribers are served."""
        status = getattr(self._declared, 'matching_status', None)
        return status is None or bool(status.matching)


class Node(AbstractContextManager['Node']):
    """A ROS 2 node on a Zenoh network, as rmw_zenoh's graph and ours show it.

    Args:
        name: Name of the node.
        namespace: Its namespace; relative topics are resolved in it.
        connect: Endpoints to connect to, like tcp/192.168.0.7:7447. Without any of these two, the
            router on this machine and every other such node on it are found, and nothing beyond.
        listen: Endpoints to listen on, by default some port of the loopback interface.
        domain_id: Partition of the network; None reads ROS_DOMAIN_ID.

    Raises:
        ValueError: If a name, an endpoint or the domain is not usable.
    """

    def __init__(
        self,
        name: str,
        namespace: str = '/',
        *,
        connect: Sequence[str] = (),
        listen: Sequence[str] = (),
        domain_id: int | None = None,
    ) -> None:
        self.namespace = _checked_name(f'/{namespace.strip("/")}')
        self.full_name = _checked_name(f'{self.namespace.rstrip("/")}/{name}')
        self.domain_id = _domain_id() if domain_id is None else domain_id
        self._name = name
        self._ids = itertools.count()
        self._declared: list[Any] = []
        self._endpoints: dict[str, Endpoint] = {}
        try:
            self._session: Any = zenoh.open(_config(connect, listen))
        except (zenoh.ZError, ValueError) as error:
            where = ', '.join([*connect, *listen]) or 'the loopback interface'
            raise ValueError(f'cannot join a Zenoh network at {where}: {error}') from None
        self._node_id = next(self._ids)
        self._declare_token(self._token(self._node_id, 'NN'))
        self._declared.append(
            self._session.liveliness().declare_subscriber(
                f'@ros2_lv/{self.domain_id}/**', self._on_token, history=True
            )
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the network, and the graph."""
        self._session.close()

    def endpoints(self, kind: str) -> list[Endpoint]:
        """Return the publishers ('MP') or subscriptions ('MS') of the network."""
        return [item for item in tuple(self._endpoints.values()) if item.kind == kind]

    def count_publishers(self, topic: str) -> int:
        """Return how many publish on a topic."""
        return sum(item.topic == topic for item in self.endpoints('MP'))

    def publisher(
        self, topic: str, message_type: str, qos: Qos | None = None, digest: str = ''
    ) -> Publisher:
        """Declare a publisher.

        Args:
            topic: Absolute name.
            message_type: Like sensor_msgs/msg/Image.
            qos: Reliable and depth 1 if not given.
            digest: Hash of a type that rosbags does not know.
        """
        qos = qos or Qos()
        digest = digest or type_hash(message_type)
        key = topic_key(_checked_name(topic), message_type, digest, self.domain_id)
        options: dict[str, Any] = {
            'reliability': _reliability(qos),
            'congestion_control': zenoh.CongestionControl.BLOCK
            if qos.reliable and qos.keep_all
            else zenoh.CongestionControl.DROP,
        }
        declared: Any
        if qos.transient_local:
            # As rmw_publisher_data.cpp has it, the sporadic heartbeat of half a second included.
            heartbeat = zenoh.ext.MissDetectionConfig(heartbeat=None, sporadic_heartbeat=0.5)
            declared = zenoh.ext.declare_advanced_publisher(
                self._session,
                key,
                cache=zenoh.ext.CacheConfig(qos.depth),
                publisher_detection=True,
                sample_miss_detection=heartbeat if qos.reliable else None,
                **options,
            )
        else:
            declared = self._session.declare_publisher(key, **options)
        self._declared.append(declared)
        token = self._announce('MP', topic, message_type, digest, qos)
        return Publisher(declared, gid_of(token))

    def subscribe(
        self, topic: str, message_type: str, qos: Qos, callback: Callable[[Any], None]
    ) -> None:
        """Call with every sample of a topic, whatever its type's hash, on a thread of zenoh."""
        digest = type_hash(message_type)
        key = topic_key(_checked_name(topic), message_type, '*', self.domain_id)
        self._tap(key, qos, callback)
        self._announce('MS', topic, message_type, digest, qos)

    def record(self, topics: Sequence[str], callback: Callable[[Any], None]) -> None:
        """Call with every sample of some topics of any type, or without any of all topics.

        Nobody sees such a subscription before `announce` shows it.
        """
        paths = [f'{_checked_name(topic).strip("/")}/*/*' for topic in topics] or ['**']
        for path in paths:
            self._tap(f'{self.domain_id}/{path}', Qos(100, True, True), callback)

    def announce(self, publisher: Endpoint) -> None:
        """Show a subscription to what another node publishes, for those that wait for one."""
        self._announce('MS', publisher.topic, publisher.type, publisher.hash, publisher.qos)

    def _tap(self, key: str, qos: Qos, callback: Callable[[Any], None]) -> None:
        if not qos.transient_local:
            self._declared.append(self._session.declare_subscriber(key, callback))
            return
        # As rmw_subscription_data.cpp has it.
        history = zenoh.ext.HistoryConfig(detect_late_publishers=True, max_samples=qos.depth)
        recovery = zenoh.ext.RecoveryConfig(periodic_queries=None, heartbeat=True)
        self._declared.append(
            zenoh.ext.declare_advanced_subscriber(
                self._session,
                key,
                callback,
                history=history,
                recovery=recovery if qos.reliable else None,
                subscriber_detection=True,
            )
        )

    # -- the graph

    def _token(self, entity_id: int, kind: str) -> str:
        zid, node_id = self._session.zid(), self._node_id
        identity = f'@ros2_lv/{self.domain_id}/{zid}/{node_id}/{entity_id}/{kind}'
        return f'{identity}/%/{_mangled(self.namespace)}/{self._name}'

    def _announce(self, kind: str, topic: str, message_type: str, digest: str, qos: Qos) -> str:
        parts = _mangled(topic), _dds_type(message_type), digest, str(qos)
        token = '/'.join([self._token(next(self._ids), kind), *parts])
        self._declare_token(token)
        return token

    def _declare_token(self, token: str) -> None:
        self._declared.append(self._session.liveliness().declare_token(token))

    def _on_token(self, sample: Any) -> None:
        token = str(sample.key_expr)
        if sample.kind == zenoh.SampleKind.DELETE:
            self._endpoints.pop(token, None)
        elif endpoint := Endpoint.parsed(token):
            self._endpoints[token] = endpoint


def _reliability(qos: Qos) -> Any:
    kinds = zenoh.Reliability
    return kinds.RELIABLE if qos.reliable else kinds.BEST_EFFORT


def _checked_name(name: str) -> str:
    if name != '/' and not re.fullmatch(r'(/[A-Za-z_]\w*)+', name, re.ASCII):
        raise ValueError(
            f'{name!r} is no absolute name in ROS: words of letters, digits and underscores, each '
            'after a slash and with no digit first'
        )
    return name


def _domain_id() -> int:
    text = os.environ.get('ROS_DOMAIN_ID') or '0'
    if not (text.isascii() and text.isdigit() and int(text) <= 232):
        raise ValueError(f'ROS_DOMAIN_ID must be a number from 0 to 232, got {text!r}')
    return int(text)


class Inbox:
    """Takes samples from zenoh's threads to one thread, keeping the last few of every source.

    Attributes:
        overrun: Samples that were pushed out before they were taken.
    """

    def __init__(self, depth: int) -> None:
        self.overrun = 0
        self._depth = depth
        self._arrivals = itertools.count()
        self._queues: dict[str, deque[tuple[int, Any]]] = {}
        self._ready = threading.Condition()

    def put(self, source: str, sample: Any) -> None:
        """Add a sample of a source."""
        with self._ready:
            queue = self._queues.setdefault(source, deque(maxlen=self._depth))
            self.overrun += len(queue) == self._depth
            queue.append((next(self._arrivals), sample))
            self._ready.notify()

    def get(self, timeout_s: float) -> tuple[str, Any] | None:
        """Return source and sample in the order of arrival, or None when time is up."""
        with self._ready:
            if not self._ready.wait_for(lambda: any(self._queues.values()), timeout_s):
                return None
            waiting = ((queue[0][0], name) for name, queue in self._queues.items() if queue)
            source = min(waiting)[1]
            return source, self._queues[source].popleft()[1]


# ------------------------------------------------------------------------------- the host

_DIAGNOSTICS = 'diagnostic_msgs/msg/DiagnosticArray'
_STATUS_S = 1.0
_STOP_S = 0.1  # how long a host may take to notice that it was stopped
_FRAMES = 'frames'  # what the inbox calls the frames of a source


class Source(NamedTuple):
    """A camera in this process, in place of topics.

    Attributes:
        ports: The inputs that its frames can hold.
        open: Opens it; see `reopened`.
    """

    ports: tuple[str, ...]
    open: Callable[[], AbstractContextManager[Iterable[Frame]]]


class LiveHost(AbstractContextManager['LiveHost']):
    """A pipeline as a node of a Zenoh network: what `StageNode` is to ROS.

    It subscribes at once; iterate over `spin` to feed the pipeline. What a source gives is not
    subscribed to but published, where somebody listens.

    Args:
        configuration: What to run, with which parameters, on which topics.
        node: The node to be, closed by whoever opened it.
        warn: Called with a sentence when a message cannot be used, from any thread.
        source: Where frames come from if not from topics; when it ends, so does `spin`.
        watch: Sees every frame; see `LiveRunner`.
        inform: Called with a sentence that is worth a line in the log.

    Attributes:
        topics: Absolute topic of every input port.
        runner: What feeds the pipeline, and counts.
    """

    def __init__(
        self,
        configuration: Configuration,
        node: Node,
        *,
        warn: Callable[[str], None],
        source: Source | None = None,
        watch: Watch | None = None,
        inform: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.topics = port_topics(
            topic_inputs(configuration.pipeline), configuration.topics, node.namespace
        )
        self._node = node
        self._warn = warn
        self._stages = ', '.join(configuration.pipeline.stage_types)
        self._inbox = Inbox(SENSOR_DATA.depth)
        self._types: dict[str, str] = {}
        self._refused = 0
        self._stopped = threading.Event()
        self._source_trouble = ''
        pipeline = configuration.pipeline(configuration.parameters)
        self._publishers = {
            port: node.publisher(resolve(topic.name, node.namespace), MESSAGE_TYPE[topic.type])
            for port, topic in pipeline.outputs.items()
        }
        self._diagnostics = node.publisher('/diagnostics', _DIAGNOSTICS)
        self.runner = LiveRunner(
            pipeline,
            configuration,
            self.topics,
            publish=self._publish,
            wanted=lambda: [port for port, p in self._publishers.items() if p.matched],
            publishers=node.count_publishers,
            warn=warn,
            watch=watch,
            inform=inform,
        )
        given = source.ports if source is not None else ()
        self._cameras: dict[str, Publisher] = {}
        for port, topic in topic_inputs(configuration.pipeline).items():
            if port in given:
                self._cameras[port] = node.publisher(self.topics[port], MESSAGE_TYPE[topic.type])
            else:
                self._subscribe_port(configuration, port, topic)
        if needs_tf(pipeline):
            static = Qos(depth=100, transient_local=True)
            self._subscribe('/tf_static', '/tf_static', TF_TYPE, static)
            self._subscribe('/tf', '/tf', TF_TYPE, Qos(depth=100))
        self._source: threading.Thread | None = None
        if source is not None:
            self._source = threading.Thread(target=self._pump, args=(source,), name='camera')
            self._source.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._source is not None:
            self._source.join()
        self.runner.stop()

    def stop(self) -> None:
        """End `spin`, from any thread."""
        self._stopped.set()

    def spin(self) -> Iterator[Status]:
        """Feed the pipeline, yielding every second how it goes, which /diagnostics gets too."""
        status_at_s = time.monotonic() + _STATUS_S
        while not self._stopped.is_set():
            wait_s = min(_STOP_S, status_at_s - time.monotonic())
            received = self._inbox.get(max(wait_s, 0))
            if received is not None:
                self._take(*received)
            if time.monotonic() >= status_at_s:
                status_at_s = time.monotonic() + _STATUS_S
                status = self._status()
                self._publish_status(status)
                yield status

    def _pump(self, source: Source) -> None:
        """Take a source's frames to the inbox, and behind the last one its end."""
        for frame in reopened(source.open, self._stopped, self._report):
            self._inbox.put(_FRAMES, frame)
            if self._stopped.is_set():
                return
        self._inbox.put(_FRAMES, None)

    def _report(self, trouble: str) -> None:
        self._source_trouble = trouble
        if trouble:
            self._warn(trouble)

    def _subscribe_port(self, configuration: Configuration, port: str, topic: Topic) -> None:
        host = configuration.host
        message_type, name = MESSAGE_TYPE[topic.type], self.topics[port]
        depth = topic.type is DepthImage
        transport = host.depth_image_transport if depth else host.image_transport
        if message_type == IMAGE and transport != 'raw':
            message_type, name = COMPRESSED_IMAGE, f'{name}/{transport}'
        self._subscribe(port, name, message_type, SENSOR_DATA)

    def _subscribe(self, source: str, topic: str, message_type: str, qos: Qos) -> None:
        self._types[source] = message_type
        self._node.subscribe(topic, message_type, qos, partial(self._inbox.put, source))

    def _take(self, source: str, sample: Any) -> None:
        if source == _FRAMES:
            self._take_frame(sample)
            return
        message_type = self._types[source]
        key = str(sample.key_expr)
        digest = key.rpartition('/')[2]
        if digest not in (type_hash(message_type), NO_HASH):
            self._refuse(f'{key}: a {message_type} of another definition')
            return
        try:
            message = STORE.deserialize_cdr(sample.payload.to_bytes(), message_type)
        except Exception as error:  # whatever a stranger's bytes trip over
            self._refuse(f'{key}: not a readable {message_type}: {error}')
            return
        if source in self.topics:
            self.runner.feed(source, message)
        else:
            self.runner.tree.update(transforms(message))

    def _take_frame(self, frame: Frame | None) -> None:
        if frame is None:
            self.stop()
            return
        for port, publisher in self._cameras.items():
            if (value := frame.get(port)) is not None:
                self.runner.feed(port, value)
                if publisher.matched:
                    publisher.put(_cdr(value))

    def _refuse(self, text: str) -> None:
        self._refused += 1
        self._warn(text)

    def _publish(self, port: str, value: Any) -> None:
        self._publishers[port].put(_cdr(value))

    def _status(self) -> Status:
        level, text, values = self.runner.status()
        counts = {'overrun': str(self._inbox.overrun), 'refused': str(self._refused)}
        if self._source_trouble:
            level, text = Level.ERROR, self._source_trouble
        return Status(level, text, {**values, **counts})

    def _publish_status(self, status: Status) -> None:
        if self._diagnostics.matched:
            message = diagnostics_message(f'{self._node.full_name}: {self._stages}', status)
            self._diagnostics.put(STORE.serialize_cdr(message, _DIAGNOSTICS))


def _cdr(value: Any) -> memoryview:
    cdr: memoryview = STORE.serialize_cdr(encode(value, FAMILY), MESSAGE_TYPE[type(value)])
    return cdr


def diagnostics_message(name: str, status: Status) -> Any:
    """Return a DiagnosticArray of one status, stamped now."""
    make = FAMILY.make
    sec, nanosec = divmod(time.time_ns(), 1_000_000_000)
    return make(
        _DIAGNOSTICS,
        header=make(
            'std_msgs/msg/Header',
            stamp=make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec),
            frame_id='',
        ),
        status=[
            make(
                'diagnostic_msgs/msg/DiagnosticStatus',
                level=int(Level(status.level)),
                name=name,
                message=status.text,
                hardware_id='none',
                values=[
                    make('diagnostic_msgs/msg/KeyValue', key=key, value=value)
                    for key, value in status.values.items()
                ],
            )
        ],
    )
