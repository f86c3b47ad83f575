"""depth-refiner info: what a recording holds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import rich.box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
import tyro

from ..config import configure, resolve
from ..data import ColorImage, DepthImage, PinholeCamera
from ..discovery import CAMERA_INFO
from ..hosts import bag as bags
from ..messages import COMPRESSED_IMAGE, IMAGE, decode
from .replay import topics_of

# A stage that reads every camera topic: which of them has the recording?
EVERY_PORT = 'register_color'

# Wide enough that no topic name is cut where the output goes into a file or a pipe.
_PIPE_WIDTH = 200


@dataclass(frozen=True)
class Info:
    """Show what a recording holds, at a glance.

    Reads the index and the first message of every camera topic, so it is as fast on a recording
    of hours.
    """

    bag: tyro.conf.Positional[Path]
    """A .bag file, an .mcap or .db3 file, or a rosbag2 folder."""
    namespace: str = '/camera'
    """Namespace of the stages' own topic names, as in replay."""

    def run(self) -> int:
        """Print it; return 0."""
        console = output_console()
        with bags.open_bag(self.bag) as reader:
            _print_summary(console, self.bag, reader)
            ports = recorded_ports(reader, configure({'stages': EVERY_PORT}), self.namespace)
            port_of = {topic: port for port, (topic, _) in ports.items()}
            console.print(_topics(reader, port_of))
        if 'depth' not in ports:
            console.print('[yellow]no depth topic[/yellow]: set topics.depth in a parameter file')
        return 0


def output_console() -> Console:
    """Return a console on stdout that does not cut lines where nobody sees them."""
    console = Console(emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def recorded_ports(
    reader: AnyReader, configuration: Any, namespace: str, *, guess: bool = True
) -> dict[str, tuple[str, str]]:
    """Return the recorded topic of every port that replay would find, and why that one."""
    topics = topics_of(reader, configuration, namespace, guess=guess)
    found = {}
    for port, topic in topics.items():
        connections = bags.recorded(reader, topic)
        if not connections:
            continue
        input_ = configuration.pipeline.inputs[port]
        if port in configuration.topics:
            reason = 'as configured'
        elif topic == resolve(input_.name, namespace):
            reason = "the stages' own name"
        else:
            reason = 'guessed from its name'
        found[port] = (connections[0].topic, reason)
    return found


def first_message(reader: AnyReader, connection: Connection) -> Any:
    """Return the first message of a connection, or None if there is none."""
    for found, _, raw in reader.messages(connections=[connection]):
        return reader.deserialize(raw, found.msgtype)
    return None


def _print_summary(console: Console, path: Path, reader: AnyReader) -> None:
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    size = sum(file.stat().st_size for file in files)
    suffixes = {suffix for file in files for suffix in file.suffixes}
    storage = (
        'ROS 1 bag'
        if not reader.is2
        else f'rosbag2, {"mcap" if ".mcap" in suffixes else "sqlite3"}'
        + (', zstd files' if '.zstd' in suffixes else '')
    )
    console.print(f'[bold]{escape(str(path))}[/bold]: {storage}, {_size(size)}')
    if not reader.message_count:
        console.print('no messages')
        return
    # The end of a recording is given as the moment after its last message.
    duration_s = (reader.end_time - reader.start_time - 1) / 1e9
    start = datetime.fromtimestamp(reader.start_time / 1e9, timezone.utc)
    console.print(
        f'{duration_s:.2f} s from {start:%Y-%m-%d %H:%M:%S} UTC ({reader.start_time / 1e9:.6f}), '
        f'{reader.message_count} messages'
    )


def _topics(reader: AnyReader, port_of: dict[str, str]) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for name in ('topic', 'port', 'type', 'count', 'Hz', 'holds'):
        right = name in ('count', 'Hz')
        table.add_column(name, justify='right' if right else 'left', overflow='fold')
    duration_s = max(0, reader.end_time - reader.start_time - 1) / 1e9
    for topic in sorted({c.topic for c in reader.connections}):
        connections = [c for c in reader.connections if c.topic == topic]
        count = sum(c.msgcount for c in connections)
        rate = f'{(count - 1) / duration_s:.1f}' if count > 1 and duration_s else ''
        table.add_row(
            escape(topic),
            port_of.get(topic, ''),
            connections[0].msgtype.replace('/msg/', '/'),
            str(count),
            rate,
            escape(_content(reader, connections)),
        )
    return table


def _content(reader: AnyReader, connections: list[Connection]) -> str:
    connection = next((c for c in connections if c.msgcount), None)
    if connection is None or connection.msgtype not in (IMAGE, COMPRESSED_IMAGE, CAMERA_INFO):
        return ''
    msg = first_message(reader, connection)
    if msg is None:
        return ''
    frame = f'in {msg.header.frame_id!r}'
    if connection.msgtype == CAMERA_INFO:
        try:
            camera = decode(PinholeCamera, msg)
        except ValueError:
            return f'{msg.width}x{msg.height}, not calibrated, {frame}'
        return (
            f'{camera.width}x{camera.height}, fx {camera.fx:.1f} fy {camera.fy:.1f} '
            f'cx {camera.cx:.1f} cy {camera.cy:.1f}, {frame}'
        )
    if connection.msgtype == IMAGE:
        return f'{msg.encoding} {msg.width}x{msg.height}, {frame}'
    for kind in (DepthImage, ColorImage):
        with suppress(ValueError):
            image: Any = decode(kind, msg)
            pixels = image.depth_m if kind is DepthImage else image.rgb
            return f'{msg.format!r} {pixels.shape[1]}x{pixels.shape[0]}, {frame}'
    return f'{msg.format!r}, not readable, {frame}'


def _size(octets: float) -> str:
    for unit in ('bytes', 'kB', 'MB', 'GB'):
        if octets < 1000:
            return f'{octets:.3g} {unit}' if unit != 'bytes' else f'{octets:.0f} bytes'
        octets /= 1000
    return f'{octets:.3g} TB'
