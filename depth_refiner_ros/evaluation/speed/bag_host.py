"""How long a replay from bag to bag takes, and what of it is not the stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...config import Configuration, port_topics
from ...hosts import bag as bags
from ...hosts.typestore import FAMILY, STORE
from ...messages import MESSAGE_TYPE, decode, encode
from ...simulation import EPOCH_NS
from ...stage import topic_inputs
from ...synchronizer import Synchronizer
from .clips import NAMESPACE, Clip, arrays, first_outputs
from .timing import Watch, interleaved, ratio, unwatched

_FRAMES = 24
_ROUNDS = 3


def measure_bag_host(
    configuration: Configuration,
    clip: Clip,
    folder: Path,
    *,
    only: Sequence[str] = (),
    frame_count: int = _FRAMES,
    rounds: int = _ROUNDS,
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Time a replay from bag to bag, in turns with each part of what it does beside the stages.

    The recording read is an mcap file without compression, made of the same frames.

    Args:
        configuration: What to run.
        clip: What to run it on.
        folder: Where recordings are written; each is removed again but the last.
        only: Outputs to write, by `<stage>.<port>`; all if empty.
        frame_count: Frames of the recording.
        rounds: How often it is replayed.
        watch: See `Watch`.

    Returns:
        Milliseconds a frame, medians of the rounds: `frame_ms` from opening the recording to
        closing the new one, `stages_ms` within it, `on_top_ms` the difference, `on_top_percent`
        its share of the stages, and `parts_ms`, each part timed alone. Encoding and writing
        happen on a thread beside the stages, so the parts can exceed what is on top; where they
        slow the stages down instead, `times_pipeline` tells, the ratio to the pipeline alone on
        the same frames.

    Raises:
        BagError: If the folder cannot be written.
    """
    pipeline_type = configuration.pipeline
    inputs = topic_inputs(pipeline_type)
    topics = port_topics(inputs, {}, NAMESPACE)
    source = folder / 'frames.mcap'
    stage_s: list[float] = []

    swept = list(clip.swept(frame_count))
    with bags.BagWriter(source) as writer:
        for frame in swept:
            for port, value in frame.items():
                writer.write(topics[port], value.header.stamp_ns, value)
    outputs = first_outputs(configuration, clip, only)
    with bags.open_bag(source) as reader:
        port_of = {topic: port for port, topic in topics.items()}
        connections = [c for c in reader.connections if c.topic in port_of]
        messages = [
            (port_of[c.topic], log_ns, reader.deserialize(raw, c.msgtype))
            for c, log_ns, raw in reader.messages(connections)
        ]
    spoken = {port for port, _, _ in messages}
    present = {port: topic for port, topic in inputs.items() if port in spoken}

    def replay(number: int) -> None:
        pipeline = pipeline_type(configuration.parameters)
        summary = bags.Summary()
        writer = bags.BagWriter(folder / f'replayed_{number}.mcap')
        with bags.open_bag(source) as reader, writer:
            frames = bags.Frames(reader, inputs, topics)
            frames.transforms = clip.transforms
            results = bags.record(
                bags.replay(frames, pipeline),
                writer,
                pipeline.outputs,
                NAMESPACE,
                depth_encoding=configuration.host.depth_encoding,
                only=only,
            )
            for _ in results:
                summary.add(pipeline)
        stage_s.append(sum(map(sum, summary.stage_s.values())))

    def alone(number: int) -> None:
        pipeline = pipeline_type(configuration.parameters)
        for frame in swept:
            pipeline(clip.transforms, **frame)

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
        'replay': replay,
        'pipeline': alone,
        'read': read,
        'decode': decode_all,
        'pairing': pair,
        'encode': encode_all,
        'encode_and_write': encode_and_write,
    }
    timed = watch(interleaved(contenders, numbers()), 'bag host', rounds + 1)
    spent = list(timed)[1:]  # the first finds nothing in the page cache

    def frame_ms(seconds: Iterable[float]) -> float:
        return float(np.median([1e3 * s / frame_count for s in seconds]))

    on_top_s = [s['replay'] - stages for s, stages in zip(spent, stage_s[1:], strict=True)]
    return {
        'frame_ms': frame_ms(s['replay'] for s in spent),
        'stages_ms': frame_ms(stage_s[1:]),
        'on_top_ms': frame_ms(on_top_s),
        'on_top_percent': 100 * ratio(on_top_s, stage_s[1:])['median'],
        'times_pipeline': ratio([s['replay'] for s in spent], [s['pipeline'] for s in spent]),
        'parts_ms': {
            'read_and_decode': frame_ms(s['read'] + s['decode'] for s in spent),
            'pairing': frame_ms(s['pairing'] for s in spent),
            'encode': frame_ms(s['encode'] for s in spent),
            'write': frame_ms(s['encode_and_write'] - s['encode'] for s in spent),
        },
        'frames': frame_count,
        'rounds': rounds,
        'written_mb_per_frame': sum(a.nbytes for a in arrays(outputs)) / 1e6,
    }
