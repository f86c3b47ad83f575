"""depth-refiner play: publish a recording on a Zenoh network, in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
import time
from typing import Annotated, Any

from rich.console import Console
from rosbags.interfaces import Connection
import tyro

from ..hosts import bag as bags
from ..hosts.bag.connections import is_latched
from ..hosts.typestore import TF_TYPE
from .live import NetworkFlags, ended_by_signals, network_node, zenoh_host
from .replay import progress

_TF_BEFORE_TF2 = ('tf/msg/tfMessage',)
_MAX_LATCHED = 1000  # messages that one latched topic keeps for late subscribers


@dataclass(frozen=True)
class Play:
    """EXPERIMENTAL. Publish a recording on a Zenoh network, at the pace it was logged.

    What was recorded as latched (/tf_static) is published at once and kept for late subscribers.

        depth-refiner play mine.mcap --rate 0.5 --loop
    """

    bag: tyro.conf.Positional[Path]
    """A .bag file, an .mcap or .db3 file, or a rosbag2 folder."""
    rate: float = 1.0
    """Factor on the speed."""
    loop: bool = False
    """Start anew at the end, until Ctrl-C."""
    start: float = 0.0
    """Seconds to leave out at the beginning."""
    delay: float = 1.0
    """Seconds to wait before the first message, for subscribers to find the publishers."""
    topics: tuple[str, ...] = ()
    """Topics to publish; all if not given."""
    network: Annotated[NetworkFlags, tyro.conf.arg(name='')] = field(default_factory=NetworkFlags)

    def run(self) -> int:
        """Publish; return 0."""
        if not self.rate > 0:
            raise ValueError(f'--rate must be above 0, got {self.rate:g}')
        if self.start < 0 or self.delay < 0:
            raise ValueError('--start and --delay cannot be negative')
        zenoh = zenoh_host()
        console = Console(stderr=True, emoji=False, highlight=False, soft_wrap=True)
        sent = 0
        with (
            ended_by_signals(),
            bags.open_bag(self.bag) as recording,
            network_node(zenoh, 'depth_refiner_play', self.network) as node,
        ):
            player = Player(zenoh, node, recording, self.topics)
            time.sleep(self.delay)
            for _ in count() if self.loop else range(1):
                messages = player.play(rate=self.rate, start_s=self.start)
                for _ in progress(messages, 'play', player.message_count, console):
                    sent += 1
        console.print(f'{sent} messages of {len(player.publishers)} topics published')
        return 0


class Player:
    """Publishes a recording's messages as they are, under the types they were recorded with.

    Attributes:
        publishers: One per topic.
        message_count: Messages of the recording on these topics.

    Raises:
        BagError: If there is no such topic.
    """

    def __init__(
        self, zenoh: Any, node: Any, recording: bags.Recording, topics: tuple[str, ...] = ()
    ) -> None:
        present = {connection.topic for connection in recording.connections}
        if missing := sorted(set(topics) - present):
            raise bags.BagError(
                f'the bag has no {missing[0]}; it has {", ".join(sorted(present)) or "no topics"}'
            )
        self._recording = recording
        self._connections = [c for c in recording.connections if not topics or c.topic in topics]
        self.message_count = sum(c.msgcount for c in self._connections)
        self._latched = {c.topic for c in self._connections if is_latched(c)}
        self.publishers: dict[str, Any] = {}
        for connection in self._connections:
            if connection.topic not in self.publishers:
                self.publishers[connection.topic] = self._publisher(zenoh, node, connection)

    def play(self, *, rate: float = 1.0, start_s: float = 0.0) -> Iterator[Connection]:
        """Publish one message after the other in time, yielding where each came from."""
        began_s = time.monotonic()
        start_ns = self._recording.start_time + round(start_s * 1e9)
        for connection, log_ns, raw in self._recording.messages(connections=self._connections):
            since_start_s = (log_ns - start_ns) / 1e9
            if connection.topic not in self._latched:
                if since_start_s < 0:
                    continue
                time.sleep(max(began_s + since_start_s / rate - time.monotonic(), 0))
            if not self._recording.is2:
                raw = bytes(self._recording.ros2_types.ros1_to_cdr(raw, _type(connection)))
            self.publishers[connection.topic].put(raw)
            yield connection

    def _publisher(self, zenoh: Any, node: Any, connection: Connection) -> Any:
        latched = connection.topic in self._latched
        same = [c for c in self._connections if c.topic == connection.topic]
        depth = min(sum(c.msgcount for c in same), _MAX_LATCHED) if latched else 10
        # A recording can wait where a camera cannot: nothing is dropped on a busy network.
        qos = zenoh.Qos(depth, reliable=True, transient_local=latched, keep_all=True)
        message_type = _type(connection)
        digest = self._recording.ros2_types.hash_rihs01(message_type)
        return node.publisher(connection.topic, message_type, qos, digest)


def _type(connection: Connection) -> str:
    return TF_TYPE if connection.msgtype in _TF_BEFORE_TF2 else connection.msgtype
