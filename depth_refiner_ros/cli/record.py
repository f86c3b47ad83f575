"""depth-refiner record: record topics of a Zenoh network."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import time
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.markup import escape
from rosbags.interfaces import QosDurability
import tyro

from ..hosts import bag as bags
from ..hosts.typestore import STORE
from . import signals
from .live import NetworkFlags, ended_by_signals, network_node, zenoh_host
from .replay import kept

_WAITING = 100  # messages that a slow disk may let wait
_REFRESH_S = 0.2


@dataclass(frozen=True)
class Record:
    """EXPERIMENTAL. Record topics of a Zenoh network until Ctrl-C.

    Types come from the network; those whose definition is not known here are left out.

        depth-refiner record -o mine.mcap --topics /camera/depth/image_rect --seconds 10
    """

    output: Annotated[Path, tyro.conf.arg(aliases=['-o'])]
    """Recording to write: NAME.mcap or NAME.db3 for a single file, any other name for a rosbag2
    folder."""
    topics: tuple[str, ...] = ()
    """Topics to record; all if not given."""
    seconds: float | None = None
    """Stop after so long."""
    storage: Literal['mcap', 'sqlite3'] = 'mcap'
    """Format of a rosbag2 folder."""
    network: Annotated[NetworkFlags, tyro.conf.arg(name='')] = field(default_factory=NetworkFlags)

    def run(self) -> int:
        """Record; return 0, or 1 if nothing came."""
        zenoh = zenoh_host()
        console = Console(stderr=True, emoji=False, highlight=False, soft_wrap=True)
        end_s = time.monotonic() + (float('inf') if self.seconds is None else self.seconds)
        writer = SampleWriter(self.output, storage=self.storage)
        with (
            kept(writer, console),
            ended_by_signals(),
            network_node(zenoh, 'depth_refiner_record', self.network) as node,
        ):
            recorder = Recorder(
                zenoh, node, writer, self.topics, lambda text: console.print(escape(text))
            )
            console.print('recording; Ctrl-C ends it')
            while time.monotonic() < end_s:
                signals.check()
                recorder.step(min(_REFRESH_S, max(end_s - time.monotonic(), 0)))
        lost = f', {recorder.overrun} lost to a slow disk' if recorder.overrun else ''
        name = escape(str(self.output))
        console.print(f'{name}: {writer.message_count} messages{lost}')
        return 0 if writer.message_count else 1


class SampleWriter(bags.BagWriter):
    """A `BagWriter` of messages that arrive serialized."""

    def write_serialized(
        self, topic: str, message_type: str, log_ns: int, cdr: bytes, *, latched: bool
    ) -> None:
        """Write a message of a type that rosbags knows; see `write`."""
        durability = QosDurability.TRANSIENT_LOCAL if latched else None
        self._put(self._channel(topic, message_type, durability), log_ns, cdr)


class Recorder:
    """Takes samples from the network to a recording, in the order they arrive.

    Args:
        zenoh: The Zenoh host.
        node: What subscribes.
        writer: Takes what is recorded.
        topics: Absolute names; all if none.
        say: Called once with a sentence for every topic that is left out.
    """

    def __init__(
        self, zenoh: Any, node: Any, writer: SampleWriter, topics: tuple[str, ...], say: Any
    ) -> None:
        self._zenoh, self._node, self._writer, self._say = zenoh, node, writer, say
        self._topics = topics
        self._announced: set[tuple[str, str]] = set()
        self._refusals: dict[str, str] = {}
        self._inbox = zenoh.Inbox(_WAITING)
        node.record(topics, partial(self._arrived, self._inbox.put))

    @property
    def overrun(self) -> int:
        """Messages lost because writing could not keep up."""
        return int(self._inbox.overrun)

    def step(self, timeout_s: float) -> None:
        """Write the next message, or return when none came in time."""
        self._announce()
        received = self._inbox.get(timeout_s)
        if received is None:
            return
        log_ns, sample = received[1]
        key = str(sample.key_expr)
        if key not in self._refusals:
            self._refusals[key] = refusal = self._refusal(key)
            if refusal:
                self._say(refusal)
        if self._refusals[key]:
            return
        name, message_type, _ = self._zenoh.TopicKey.parsed(key)
        latched = any(
            item.topic == name and item.qos.transient_local for item in self._node.endpoints('MP')
        )
        cdr = sample.payload.to_bytes()
        self._writer.write_serialized(name, message_type, log_ns, cdr, latched=latched)

    @staticmethod
    def _arrived(put: Any, sample: Any) -> None:
        put('network', (time.time_ns(), sample))

    def _announce(self) -> None:
        """Show a subscription for every publisher, since some publish only what is wanted."""
        for item in self._node.endpoints('MP'):
            wanted = not self._topics or item.topic in self._topics
            if wanted and (item.topic, item.type) not in self._announced:
                self._announced.add((item.topic, item.type))
                self._node.announce(item)

    def _refusal(self, key: str) -> str:
        """Say why a key's messages cannot be recorded, or nothing."""
        parsed = self._zenoh.TopicKey.parsed(key)
        if parsed is None:
            return f'left out {key}: not a topic of ROS 2'
        if parsed.type not in STORE.fielddefs:
            return f'left out {parsed.topic}: the definition of {parsed.type} is not known here'
        if parsed.hash not in (self._zenoh.type_hash(parsed.type), self._zenoh.NO_HASH):
            return f'left out {parsed.topic}: its {parsed.type} has another definition'
        return ''
