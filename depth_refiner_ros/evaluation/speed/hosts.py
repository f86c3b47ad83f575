"""How many frames a second the hosts do, in turns with the pipeline alone and the references."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
import time
from typing import Any

from ...config import Configuration, port_topics
from ...data import DepthEncoding
from ...hosts import bag as bags
from ...hosts.typestore import FAMILY
from ...messages import encode
from ...stage import topic_inputs
from .clips import NAMESPACE, Clip, first_outputs, write_frames
from .live_host import live_runner, warm_pipeline
from .references import references
from .timing import Spent, Watch, figures, interleaved, repeated, unwatched

HOSTS = ('bag', 'live')
ENCODINGS: tuple[DepthEncoding, ...] = ('16UC1', '32FC1')

_FRAMES = 16
_ROUNDS = 5
_OFTEN = {'memory_copy': 8}  # one pass is too short to be disturbed as the others are
_POLL_S = 0.0005  # how often it is looked whether the live host takes another frame


def measure_hosts(
    configuration: Configuration,
    clip: Clip,
    folder: Path,
    *,
    hosts: Sequence[str] = HOSTS,
    only: Sequence[str] = (),
    frame_count: int = _FRAMES,
    rounds: int = _ROUNDS,
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Time the hosts at work on the same frames, as fast as they go.

    The bag host replays an mcap file without compression into another; the live host takes the
    next message as soon as none would be overtaken, and every output is encoded.

    Args:
        configuration: What to run.
        clip: What to run it on.
        folder: Where recordings are written; each is removed again but the last.
        hosts: Which, of `HOSTS`.
        only: Outputs to write, by `<stage>.<port>`; all if empty.
        frame_count: Frames of a round.
        rounds: How often they are worked on.
        watch: See `Watch`.

    Returns:
        Figures a frame (see `timing.figures`) by host, with `frames_per_s`; their `times` have
        `pipeline` too, the stages alone on the same frames.

    Raises:
        BagError: If the folder cannot be written.
        ValueError: If the pipeline failed on a frame.
    """
    pipeline = warm_pipeline(configuration, clip)
    swept = list(clip.swept(frame_count))
    there, _ = references(swept[0], first_outputs(configuration, clip, only))

    def alone(number: int) -> None:
        for frame in swept:
            pipeline(clip.transforms, **frame)

    def over_all(reference: Callable[[Any], object]) -> Callable[[int], None]:
        def run(number: int) -> None:
            for frame in swept:
                reference(frame)

        return run

    contenders: dict[str, Callable[[int], object]] = {'pipeline': alone}
    if 'bag' in hosts:
        contenders['bag'] = _bag_host(configuration, clip, swept, folder, only)
    if 'live' in hosts:
        contenders['live'] = _live_host(configuration, clip, swept, only)
    contenders |= {
        name: repeated(over_all(reference), _OFTEN.get(name, 1))
        for name, reference in there.items()
    }

    def numbers() -> Iterator[int]:
        for number in range(rounds + 1):
            for path in folder.glob(f'*_{number - 1}.mcap'):
                path.unlink()
            yield number

    timed = watch(interleaved(contenders, numbers()), 'hosts', rounds + 1)
    spent = list(timed)[1:]  # the first finds nothing in the page cache

    def a_frame(name: str) -> list[Spent]:
        return [s[name].shared(frame_count * _OFTEN.get(name, 1)) for s in spent]

    against = {name: a_frame(name) for name in (*there, 'pipeline')}
    found = {name: figures(a_frame(name), against) for name in hosts}
    return {name: {**f, 'frames_per_s': 1e3 / f['wall_ms']} for name, f in found.items()}


def _bag_host(
    configuration: Configuration,
    clip: Clip,
    swept: Sequence[Mapping[str, Any]],
    folder: Path,
    only: Sequence[str],
) -> Callable[[int], None]:
    """Return what replays a recording of some frames, which it writes first."""
    inputs = topic_inputs(configuration.pipeline)
    topics = port_topics(inputs, {}, NAMESPACE)
    source = folder / 'frames.mcap'
    write_frames(source, swept, topics)

    pipeline = warm_pipeline(configuration, clip)

    def replay(number: int) -> None:
        writer = bags.BagWriter(folder / f'replayed_{number}.mcap')
        with bags.open_bag(source) as reader, writer:
            frames = bags.Frames(reader, inputs, topics)
            frames.transforms = clip.transforms
            for _ in bags.record(
                bags.replay(frames, pipeline),
                writer,
                pipeline.outputs,
                NAMESPACE,
                depth_encoding=configuration.host.depth_encoding,
                only=only,
            ):
                pass

    return replay


def _live_host(
    configuration: Configuration,
    clip: Clip,
    swept: Sequence[Mapping[str, Any]],
    only: Sequence[str],
) -> Callable[[int], None]:
    """Return what sends frames through a live host."""
    messages = [{port: encode(value, FAMILY) for port, value in frame.items()} for frame in swept]

    pipeline = warm_pipeline(configuration, clip)

    def publish(port: str, value: Any) -> None:
        encode(value, FAMILY)

    def send(number: int) -> None:
        warnings: list[str] = []
        runner = live_runner(configuration, pipeline, clip, publish, warnings.append, only=only)
        try:
            for frame in messages:
                for port, message in frame.items():
                    runner.feed(port, message)
                while not runner.ready:
                    time.sleep(_POLL_S)
        finally:
            runner.stop()
        if warnings:
            raise ValueError(f'the live host failed on a frame: {warnings[0]}')

    return send
