"""How long each part of a replay takes that is not the stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...config import Configuration, port_topics
from ...hosts import bag as bags
from ...hosts.typestore import FAMILY, STORE
from ...messages import MESSAGE_TYPE, decode, encode
from ...simulation import EPOCH_NS
from ...stage import topic_inputs
from ...synchronizer import Synchronizer
from .clips import NAMESPACE, Clip, first_outputs, write_frames
from .timing import Watch, figures, interleaved, unwatched

_FRAMES = 24
_ROUNDS = 3


def measure_bag_parts(
    configuration: Configuration,
    clip: Clip,
    folder: Path,
    *,
    only: Sequence[str] = (),
    frame_count: int = _FRAMES,
    rounds: int = _ROUNDS,
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Time each part of what a replay from bag to bag does beside the stages, alone.

    The recording read is an mcap file without compression, made of the same frames. In a replay
    encoding and writing happen on a thread beside the stages, so the parts can exceed what it
    takes longer than the stages.

    Args:
        configuration: What to run.
        clip: What to run it on.
        folder: Where recordings are written; each is removed again but the last.
        only: Outputs to write, by `<stage>.<port>`; all if empty.
        frame_count: Frames of the recording.
        rounds: How often it is read and written.
        watch: See `Watch`.

    Returns:
        Figures a frame (see `timing.figures`) by part: `read`, `decode`, `pairing`, `encode` and
        `encode_and_write`.

    Raises:
        BagError: If the folder cannot be written.
    """
    inputs = topic_inputs(configuration.pipeline)
    topics = port_topics(inputs, {}, NAMESPACE)
    source = folder / 'frames.mcap'
    write_frames(source, list(clip.swept(frame_count)), topics)
    outputs = first_outputs(configuration, clip, only)
    with bags.open_bag(source) as reader:
        port_of = {topic: port for port, topic in topics.items()}
        connections = [c for c in reader.connections if c.topic in port_of]
        messages = [
            (port_of[c.topic], log_ns, reader.deserialize(raw, c.msgtype))
            for c, log_ns, raw in reader.messages(connections)
        ]
    recorded = {port for port, _, _ in messages}
    present = {port: topic for port, topic in inputs.items() if port in recorded}

    def read(number: int) -> None:
        with bags.open_bag(source) as reader:
            wanted = [c for c in reader.connections if c.topic in port_of]
            for connection, _, raw in reader.messages(wanted):
                reader.deserialize(raw, connection.msgtype)

    def decode_all(number: int) -> None:
        for port, _, message in messages:
            decode(inputs[port].type, message)

    def pair(number: int) -> None:
        synchronizer: Synchronizer[Any] = Synchronizer(present)
        for port, log_ns, message in messages:
            synchronizer.feed(port, log_ns, message, log_ns)
        synchronizer.finish()

    def encode_all(number: int) -> None:
        for _ in range(frame_count):
            for value in outputs.values():
                STORE.serialize_cdr(encode(value, FAMILY), MESSAGE_TYPE[type(value)])

    def encode_and_write(number: int) -> None:
        with bags.BagWriter(folder / f'written_{number}.mcap') as writer:
            for _ in range(frame_count):
                for port, value in outputs.items():
                    writer.write(f'/{port}', EPOCH_NS, value)

    def numbers() -> Iterator[int]:
        for number in range(rounds + 1):
            for path in folder.glob(f'*_{number - 1}.mcap'):
                path.unlink()
            yield number

    contenders: dict[str, Callable[[int], object]] = {
        'read': read,
        'decode': decode_all,
        'pairing': pair,
        'encode': encode_all,
        'encode_and_write': encode_and_write,
    }
    timed = watch(interleaved(contenders, numbers()), 'parts of a replay', rounds + 1)
    spent = list(timed)[1:]  # the first finds nothing in the page cache
    return {name: figures([s[name].shared(frame_count) for s in spent]) for name in contenders}
