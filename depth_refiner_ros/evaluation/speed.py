"""How fast a pipeline runs here: its stages, the hosts around it, and against what.

On a shared machine a time says little. So a pipeline is timed in turns with two references, on the
same frames: copying the frame's own bytes, which no pipeline can undercut, and librealsense's
filters, which users run today. A reference
is repeated until it takes as long as the pipeline, ratios are taken turn by turn, and their median
is reported: what slows one turn down slows both sides of its ratio.

Rates and latencies are those of ros2_benchmark (NVIDIA-ISAAC-ROS/ros2_benchmark on GitHub): frames
are sent at a fixed rate, back and forth as in its SWEEPING mode; a frame's latency runs from the
moment it is sent; jitter is the change from one interval between results to the next; the peak
rate is the highest with fewer than 5 % of the frames missed. Three things differ. The search goes
on until it knows the rate to 5 %: its own 5 Hz are a third of what a CPU does here. A mean rate
divides by the intervals, not by the frames. And fixed rates beyond the peak are measured too, for
that latency stays bounded there is the point of a live host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from importlib import metadata
from itertools import islice
import math
import os
from pathlib import Path
import platform
import subprocess
import time
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from ..config import Configuration, encoded_as, port_topics
from ..geometry import TransformTree
from ..hosts import bag as bags
from ..hosts.live import LiveRunner
from ..invocation import command
from ..messages import MESSAGE_TYPE, decode, encode
from ..simulation import EPOCH_NS, simulate
from ..stage import Pipeline, Stage, Synchronizer, topic_inputs
from .peers import LibrealsenseTemporal

T = TypeVar('T')

Watch = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes items on while showing how far it got; takes the items, a title and their number."""

MISSED_LIMIT = 0.05
"""Share of missed frames from which a rate counts as too high."""
RESOLUTION = 0.05
"""How closely the peak rate is searched for, as a share of it."""
FIXED_RATES_HZ = (10.0, 30.0)

_RATE_HZ = 30.0  # of the stamps, where nothing waits for them
_WARM_UP_ROUNDS = 5
_BAG_FRAMES = 24
_BAG_ROUNDS = 3
_BRACKET = (1 + RESOLUTION) ** 8  # three halvings on a logarithmic scale end at the resolution
_LOWEST_HZ, _HIGHEST_HZ = 0.05, 2000.0
_FEWEST_SENT = 20  # with fewer, no frame may be missed without exceeding 5 %
_STEPS_DOWN = 5
_POLL_S = 0.01  # how often it is looked whether all frames have come back
_SILENCE_S = 3.0
_NAMESPACE = 'bench'


def unwatched(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    """Pass items on and show nothing: a `Watch`."""
    return items


# ------------------------------------------------------------------------------------- frames


class Clip(NamedTuple):
    """What is fed to a pipeline, over and over.

    Attributes:
        source: Where they come from, for the report.
        values: One value per input port for every frame; optional ones may be missing.
        transforms: What answers the stages' frame lookups.
    """

    source: str
    values: Sequence[Mapping[str, Any]]
    transforms: TransformTree

    def swept(self, count: int, rate_hz: float = _RATE_HZ) -> Iterator[dict[str, Any]]:
        """Yield frames back and forth, so that neighbours in time stay neighbours.

        Their stamps go on and on; all values of a frame share one.
        """
        for number in range(count):
            stamp_ns = EPOCH_NS + round(number * 1e9 / rate_hz)
            yield {
                port: replace(value, header=replace(value.header, stamp_ns=stamp_ns))
                for port, value in self.values[swept_index(number, len(self.values))].items()
            }


def swept_index(number: int, count: int) -> int:
    """Return which of `count` items is due at a step of playing them back and forth."""
    period = max(2 * count - 2, 1)
    return min(number % period, period - number % period) if count > 1 else 0


def simulated_frames(
    count: int, width: int, height: int, pipeline: type[Pipeline], watch: Watch = unwatched
) -> Clip:
    """Simulate the frames a pipeline takes: depth, the camera's calibration and colour.

    Raises:
        ValueError: If the pipeline needs an input that the simulated camera does not have.
    """
    ports = topic_inputs(pipeline)
    found = []
    for frame in watch(simulate(count, width=width, height=height), 'simulate', count):
        values = {
            'depth': frame.depth,
            'camera': frame.camera,
            'color': frame.color,
            'color_camera': frame.camera,
        }
        found.append({port: value for port, value in values.items() if port in ports})
    missing = [p for p, t in ports.items() if not t.optional and p not in found[0]]
    if missing:
        raise ValueError(
            f'the simulated camera has no {missing[0]}, which these stages need; name a bag'
        )
    return Clip('simulated', found, TransformTree())


def recorded_frames(
    reader: bags.Recording,
    configuration: Configuration,
    topics: Mapping[str, str],
    count: int,
    watch: Watch = unwatched,
) -> Clip:
    """Read the first frames of a recording, paired as a replay would pair them.

    Args:
        reader: An open recording.
        configuration: The pipeline, and how to pair.
        topics: Absolute topic of every input port.
        count: How many frames at most.
        watch: See `Watch`.

    Raises:
        BagError: If the recording lacks a required topic, or holds no complete frame.
    """
    found = bags.Frames(
        reader,
        topic_inputs(configuration.pipeline),
        topics,
        slop_s=configuration.host.slop_s,
        depth_unit_m=configuration.host.depth_unit_m,
    )
    path = reader.paths[0]
    values = []
    for _, matched in watch(islice(found, count), 'read', min(count, found.frame_count)):
        try:
            decoded = found.decoded(matched)
        except ValueError as error:
            raise bags.BagError(f'{path}: {error}') from None
        values.append({port: value for port, value in decoded.items() if value is not None})
    if not values:
        raise bags.BagError(
            f'{path} holds no complete frame; {command("doctor RECORDING")} tells why'
        )
    return Clip(str(path), values, found.transforms)


# --------------------------------------------------------------------------------- in turns


def interleaved(
    contenders: Mapping[str, Callable[[T], object]],
    items: Iterable[T],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[dict[str, float]]:
    """Time contenders in turns: all of them on the first item, then on the second, and so on.

    Every round begins with another contender, for each leaves the caches to the next.

    Yields:
        The seconds each contender took in one round.
    """
    names = list(contenders)
    for number, item in enumerate(items):
        first = number % len(names)
        spent_s = {}
        for name in names[first:] + names[:first]:
            started_s = clock()
            contenders[name](item)
            spent_s[name] = clock() - started_s
        yield spent_s


def ratio(seconds: Sequence[float], reference_s: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles of the ratios of rounds, and the ratio of the minima.

    The minima are what both take undisturbed, if they ever were.

    Raises:
        ValueError: If the two were not timed in the same rounds.
    """
    if len(seconds) != len(reference_s):
        raise ValueError(f'{len(seconds)} rounds cannot be compared with {len(reference_s)}')
    q25, median, q75 = np.percentile(np.array(seconds) / np.array(reference_s), (25, 50, 75))
    minima = min(seconds) / min(reference_s)
    return {'median': float(median), 'q25': float(q25), 'q75': float(q75), 'of_minima': minima}


def spread_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the minimum in milliseconds."""
    spent_ms = 1e3 * np.array(seconds)
    return {
        'median_ms': float(np.median(spent_ms)),
        'p99_ms': float(np.percentile(spent_ms, 99)),
        'min_ms': float(spent_ms.min()),
    }


def fastest_s(contender: Callable[[T], object], items: Iterable[T]) -> float:
    """Return the shortest time that a contender takes on one of some items."""
    return min(spent_s[''] for spent_s in interleaved({'': contender}, items))


def repeated(contender: Callable[[T], object], count: int) -> Callable[[T], None]:
    """Return a contender that does the same several times.

    Other programs interrupt what takes long and miss what is short: only what takes equally long
    is disturbed equally.
    """

    def repeat(item: T) -> None:
        for _ in range(count):
            contender(item)

    return repeat


def arrays(values: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
    """Return the arrays that a frame's values hold."""
    held = [getattr(value, item.name) for value in values.values() for item in fields(value)]
    return [array for array in held if isinstance(array, np.ndarray)]


def _outputs(configuration: Configuration, clip: Clip, only: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the pipeline makes of the first frame, as it would be published."""
    pipeline = configuration.pipeline(configuration.parameters)
    outputs = pipeline(clip.transforms, **clip.values[0])
    encoding = configuration.host.depth_encoding
    return {
        port: encoded_as(value, encoding)
        for port, value in outputs.items()
        if not only or port in only
    }


class _Copy:
    """Copies as many bytes as a frame's inputs and outputs have, into memory that is there.

    Done again and again it finds much of them in the processor's caches: a floor.
    """

    def __init__(self, frame: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._pairs = [(a, np.zeros_like(a)) for a in arrays(frame) + arrays(outputs)]
        self.megabytes = sum(array.nbytes for array, _ in self._pairs) / 1e6

    def __call__(self, frame: Mapping[str, Any]) -> None:
        for source, target in self._pairs:
            np.copyto(target, source)


def librealsense(frame: Mapping[str, Any]) -> Stage | str:
    """Return librealsense's chain, tried on a frame, or the reason why there is none."""
    if not {'depth', 'camera'} <= frame.keys():
        return 'the pipeline takes no depth'
    try:
        peer = LibrealsenseTemporal()
        peer(frame['depth'], frame['camera'])
    except (ValueError, RuntimeError, OSError) as error:
        return ' '.join(str(error).split())
    return peer


def stages(
    configuration: Configuration, clip: Clip, rounds: int, watch: Watch = unwatched
) -> dict[str, Any]:
    """Time a pipeline and each of its stages in process, in turns with its references.

    Returns:
        Sections of the report: `stages`, milliseconds by stage within the pipeline; `pipeline`,
        likewise for the whole, with `cpu_ms` of all threads per frame; `ratios`, how many times
        as long as each reference they take, which in every round is repeated `repeats` times.

    Raises:
        LookupError: If tf does not connect two frames that a stage looks up.
    """
    pipeline = configuration.pipeline(configuration.parameters)
    stage_s: dict[str, list[float]] = {name: [] for name in pipeline.stages}
    cpu_s: list[float] = []

    def run(frame: Mapping[str, Any]) -> None:
        started_s = time.process_time()
        pipeline(clip.transforms, **frame)
        cpu_s.append(time.process_time() - started_s)
        for name, seconds in pipeline.last_s.items():
            stage_s[name].append(seconds)

    first = clip.values[0]
    copy = _Copy(first, _outputs(configuration, clip))
    references: dict[str, Callable[[Any], object]] = {'memory_copy': copy}
    peer = librealsense(first)
    if not isinstance(peer, str):
        chain = peer
        references['librealsense'] = lambda frame: chain(frame['depth'], frame['camera'])
    feed = clip.swept(_WARM_UP_ROUNDS + rounds)
    pipeline_s = fastest_s(run, islice(feed, _WARM_UP_ROUNDS))
    counts = {'pipeline': 1}
    contenders: dict[str, Callable[[Any], object]] = {'pipeline': run}
    for name, reference in references.items():
        count = round(pipeline_s / fastest_s(reference, [first] * _WARM_UP_ROUNDS))
        counts[name] = max(1, count)
        contenders[name] = repeated(reference, counts[name])
    spent = list(watch(interleaved(contenders, feed), 'stages', rounds))
    total_s = {name: [s[name] / counts[name] for s in spent] for name in contenders}
    stage_s = {name: seconds[_WARM_UP_ROUNDS:] for name, seconds in stage_s.items()}
    parts_s = {'pipeline': total_s['pipeline'], **stage_s}

    def against(name: str, what: str, reason: str | None = None) -> dict[str, Any]:
        if name not in total_s:
            return {'what': what, 'median_ms': None, 'times': None, 'reason': reason}
        times = {part: ratio(seconds, total_s[name]) for part, seconds in parts_s.items()}
        repeats = counts[name]
        spread = spread_ms(total_s[name])
        return {'what': what, **spread, 'repeats': repeats, 'times': times, 'reason': None}

    return {
        'stages': {name: spread_ms(seconds) for name, seconds in stage_s.items()},
        'pipeline': {
            **spread_ms(total_s['pipeline']),
            'cpu_ms': float(np.median(1e3 * np.array(cpu_s[_WARM_UP_ROUNDS:]))),
        },
        'ratios': {
            'memory_copy': against(
                'memory_copy',
                f'np.copyto of the {copy.megabytes:.2f} MB that a frame and its outputs have',
            ),
            'librealsense': against(
                'librealsense',
                'disparity, spatial, temporal and hole filling filter at their defaults on a '
                'software device, conversion from and to metres included',
                peer if isinstance(peer, str) else None,
            ),
        },
    }


# ------------------------------------------------------------------------------- the bag host


def bag_host(
    configuration: Configuration,
    clip: Clip,
    folder: Path,
    *,
    only: Sequence[str] = (),
    frame_count: int = _BAG_FRAMES,
    rounds: int = _BAG_ROUNDS,
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
    topics = port_topics(inputs, {}, _NAMESPACE)
    source = folder / 'frames.mcap'
    stage_s: list[float] = []

    swept = list(clip.swept(frame_count))
    with bags.BagWriter(source) as writer:
        for frame in swept:
            for port, value in frame.items():
                writer.write(topics[port], value.header.stamp_ns, value)
    outputs = _outputs(configuration, clip, only)
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
                _NAMESPACE,
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
                bags.STORE.serialize_cdr(encode(value, bags.FAMILY), MESSAGE_TYPE[type(value)])

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


# ------------------------------------------------------------------------------ the live host


class Run(NamedTuple):
    """Frames sent to a live host at a fixed rate, and what came back.

    Attributes:
        rate_hz: The rate asked for.
        sent_s: When each frame was sent, by its number.
        received_s: When the last output of a frame was there, by the frame's number, in the
            order of arrival.
        wall_s: From the first frame until nothing was left to wait for.
        cpu_s: Processor time of all threads meanwhile, sending included.
        rss_growth_mb: Memory the process has more than before; None where the system does not
            tell.
        overall_cpu_percent: Share of all cores that was busy meanwhile, whoever kept them so:
            what is beyond this process's own disturbed it. None where there is no /proc.
    """

    rate_hz: float
    sent_s: Sequence[float]
    received_s: Mapping[int, float]
    wall_s: float
    cpu_s: float
    rss_growth_mb: float | None = None
    overall_cpu_percent: float | None = None

    @property
    def missed(self) -> int:
        """Frames that never came back."""
        return len(self.sent_s) - len(self.received_s)

    @property
    def sustained(self) -> bool:
        """Whether the rate was really sent, and fewer than 5 % of the frames were missed."""
        sent_hz = mean_rate_hz(self.sent_s)
        kept_up = sent_hz is not None and sent_hz >= (1 - MISSED_LIMIT) * self.rate_hz
        return kept_up and self.missed < MISSED_LIMIT * len(self.sent_s)

    def metrics(self) -> dict[str, Any]:
        """Return the figures of the run; None where too little came back to tell."""
        latency_ms = 1e3 * np.array(
            [at_s - self.sent_s[number] for number, at_s in self.received_s.items()]
        )
        # ros2_benchmark's jitter: how much the interval between two results differs from the one
        # before.
        jitter_ms = 1e3 * np.abs(np.diff(list(self.received_s.values()), 2))
        return {
            'rate_hz': self.rate_hz,
            'sent_hz': mean_rate_hz(self.sent_s),
            'received_hz': mean_rate_hz(list(self.received_s.values())),
            'sent': len(self.sent_s),
            'missed': self.missed,
            'missed_percent': 100 * self.missed / len(self.sent_s),
            'sustained': self.sustained,
            'latency_ms': _described(latency_ms),
            'jitter_ms': _described(jitter_ms),
            'cpu_percent': 100 * self.cpu_s / self.wall_s,
            'overall_cpu_percent': self.overall_cpu_percent,
            'rss_growth_mb': self.rss_growth_mb,
        }


def mean_rate_hz(times_s: Sequence[float]) -> float | None:
    """Return the events a second between the first and the last."""
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        return None
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


def _described(values: npt.NDArray[np.float64]) -> dict[str, float] | None:
    if not values.size:
        return None
    p50, p99 = np.percentile(values, (50, 99))
    return {
        'mean': float(values.mean()),
        'p50': float(p50),
        'p99': float(p99),
        'min': float(values.min()),
        'max': float(values.max()),
    }


class PeakSearch:
    """Finds the highest rate that something sustains, by trying.

    Starting from a guess, rates are raised or lowered by about half until one is sustained and
    one is not; then their geometric mean is tried, until they are close.

    Args:
        guess_hz: Where to begin.
        resolution: How close the two rates must come, as a share.

    Attributes:
        next_hz: What to try next.
        low_hz: Highest rate known to be sustained; 0 before there is one.
        high_hz: Lowest rate above it known not to be; inf before there is one.
    """

    def __init__(self, guess_hz: float, resolution: float = RESOLUTION) -> None:
        self.next_hz = min(max(guess_hz, _LOWEST_HZ), _HIGHEST_HZ)
        self.low_hz, self.high_hz = 0.0, math.inf
        self._resolution = resolution

    @property
    def done(self) -> bool:
        """Whether there is nothing left to try."""
        if self.low_hz == 0:
            return self.high_hz <= _LOWEST_HZ
        close = self.high_hz <= (1 + self._resolution) * (1 + 1e-9) * self.low_hz
        return close or self.low_hz >= _HIGHEST_HZ

    def add(self, sustained: bool) -> None:
        """Take in how `next_hz` went."""
        if sustained:
            self.low_hz = self.next_hz
        else:
            self.high_hz = self.next_hz
        if self.low_hz == 0:
            self.next_hz = max(self.high_hz / _BRACKET, _LOWEST_HZ)
        elif self.high_hz == math.inf:
            self.next_hz = min(self.low_hz * _BRACKET, _HIGHEST_HZ)
        else:
            self.next_hz = math.sqrt(self.low_hz * self.high_hz)


def live_run(
    configuration: Configuration,
    clip: Clip,
    rate_hz: float,
    seconds: float,
    *,
    only: Sequence[str] = (),
) -> Run:
    """Send frames to a live host at a fixed rate, as messages; outputs are encoded as messages.

    Sending is one thread's work and the pipeline another's, as in a ROS node; what a middleware
    takes to carry the messages is not in it.

    Args:
        configuration: What to run.
        clip: What to send.
        rate_hz: Frames a second.
        seconds: How long; at least 20 frames are sent.
        only: Outputs that somebody listens to, by `<stage>.<port>`; all if empty.

    Raises:
        ValueError: If the pipeline failed on a frame.
    """
    pipeline = configuration.pipeline(configuration.parameters)
    inputs = topic_inputs(configuration.pipeline)
    wanted = [port for port in pipeline.outputs if not only or port in only]
    messages = [
        {port: encode(value, bags.FAMILY) for port, value in values.items()}
        for values in clip.values
    ]
    count = max(math.ceil(seconds * rate_hz), _FEWEST_SENT)
    stamps_ns = [EPOCH_NS + round(number * 1e9 / rate_hz) for number in range(count)]
    number_of = {stamp_ns: number for number, stamp_ns in enumerate(stamps_ns)}
    sent_s: list[float] = []
    received_s: dict[int, float] = {}
    warnings: list[str] = []

    def publish(port: str, value: Any) -> None:
        encode(value, bags.FAMILY)
        # The last output of a frame decides; the order of arrival stays that of the first.
        received_s[number_of[value.header.stamp_ns]] = time.perf_counter()

    before_mb, before_ticks = resident_mb(), _machine_ticks()
    runner = LiveRunner(
        pipeline,
        configuration,
        port_topics(inputs, configuration.topics, _NAMESPACE),
        publish=publish,
        wanted=lambda: wanted,
        publishers=lambda topic: 1,
        warn=warnings.append,
    )
    runner.tree = clip.transforms
    try:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        for number, stamp_ns in enumerate(stamps_ns):
            _wait_until(started_s + number / rate_hz)
            sent_s.append(time.perf_counter())
            stamped = messages[swept_index(number, len(messages))]
            for port, message in stamped.items():
                runner.feed(port, _restamped(message, stamp_ns))
        _drain(runner, count, received_s)
        wall_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    finally:
        runner.stop()
    if warnings:
        raise ValueError(
            f'the live host failed on {len(warnings)} of {count} frames: {warnings[0]}'
        )
    after_mb = resident_mb()
    growth_mb = None if before_mb is None or after_mb is None else after_mb - before_mb
    overall_percent = _busy_percent(before_ticks, _machine_ticks())
    return Run(rate_hz, sent_s, received_s, wall_s, cpu_s, growth_mb, overall_percent)


def _wait_until(due_s: float) -> None:
    while (left_s := due_s - time.perf_counter()) > 0:
        time.sleep(left_s)


def _drain(runner: LiveRunner, sent: int, received_s: Mapping[int, float]) -> None:
    """Wait until every frame has come back or was overtaken, as long as some still do."""
    seen, heard_s = -1, time.perf_counter()
    while time.perf_counter() - heard_s < _SILENCE_S:
        accounted = len(received_s) + runner.dropped + runner.failed
        if accounted >= sent:
            return
        if accounted != seen:
            seen, heard_s = accounted, time.perf_counter()
        time.sleep(_POLL_S)


def _restamped(message: Any, stamp_ns: int) -> Any:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = replace(message.header.stamp, sec=sec, nanosec=nanosec)
    return replace(message, header=replace(message.header, stamp=stamp))


def live_host(
    configuration: Configuration,
    clip: Clip,
    guess_hz: float,
    *,
    seconds: float = 5.0,
    only: Sequence[str] = (),
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Find the highest rate a live host sustains, and measure it there and at fixed rates.

    A trial run warms up, the search tries rates for half the time of a measurement, and the rate
    it finds must then hold for the whole: it is lowered, in growing steps, until it does.

    Args:
        configuration: What to run.
        clip: What to send.
        guess_hz: Where the search begins.
        seconds: How long to measure at each rate.
        only: Outputs that somebody listens to, by `<stage>.<port>`; all if empty.
        watch: See `Watch`.

    Returns:
        `peak_hz`, the results a second at the highest rate sustained, None if there is none;
        `peak`, the figures of that run; `at`, those at each fixed rate; `tried`, every rate of
        the search and the share it missed. `cpu_percent` is the process's, 100 for one core;
        `overall_cpu_percent` the machine's, 100 for all cores.

    Raises:
        ValueError: If the pipeline failed on a frame.
    """
    tried: list[Run] = []
    confirmed: list[Run] = []
    fixed: list[Run] = []

    def sent(rate_hz: float, run_s: float) -> Run:
        return live_run(configuration, clip, rate_hz, run_s, only=only)

    def runs() -> Iterator[Run]:
        yield sent(guess_hz, seconds / 2)
        search = PeakSearch(guess_hz)
        while not search.done:
            tried.append(sent(search.next_hz, seconds / 2))
            search.add(tried[-1].sustained)
            yield tried[-1]
        rate_hz = search.low_hz
        for step in range(_STEPS_DOWN if rate_hz else 0):
            confirmed.append(sent(rate_hz, seconds))
            yield confirmed[-1]
            if confirmed[-1].sustained:
                break
            rate_hz /= (1 + RESOLUTION) ** 2**step
        for rate_hz in FIXED_RATES_HZ:
            fixed.append(sent(rate_hz, seconds))
            yield fixed[-1]

    expected = 1 + 6 + 1 + len(FIXED_RATES_HZ)
    for _ in watch(runs(), 'live host', expected):
        pass
    peak = confirmed[-1].metrics() if confirmed else None
    return {
        'peak_hz': peak['received_hz'] if peak and peak['sustained'] else None,
        'peak': peak,
        'at': {f'{run.rate_hz:g}_hz': run.metrics() for run in fixed},
        'tried': [
            {
                'rate_hz': run.rate_hz,
                'missed_percent': 100 * run.missed / len(run.sent_s),
                'sustained': run.sustained,
            }
            for run in tried + confirmed
        ],
        'run_s': seconds,
    }


# -------------------------------------------------------------------------------- the machine


def resident_mb() -> float | None:
    """Return the memory that the process has now; None where there is no /proc."""
    try:
        pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    except OSError:
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def peak_resident_mb() -> float | None:
    """Return the most memory that the process ever had; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / 1e6 if platform.system() == 'Darwin' else peak * 1024 / 1e6
    return max(peak_mb, resident_mb() or 0.0)  # Linux counts the first one late


def _machine_ticks() -> tuple[int, int] | None:
    """Return how long all cores were busy and how long they were there, in clock ticks."""
    try:
        first = Path('/proc/stat').read_text(encoding='ascii').partition('\n')[0]
    except OSError:
        return None
    user, nice, system, idle, waiting, *rest = (int(ticks) for ticks in first.split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + waiting


def _busy_percent(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] == before[1]:
        return None
    return 100 * (after[0] - before[0]) / (after[1] - before[1])


def machine() -> dict[str, Any]:
    """Describe the machine and the versions at work, so that figures stand on their own."""
    allowed = getattr(os, 'sched_getaffinity', None)
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        load = None
    return {
        'cpu': _cpu_model(),
        'cores': os.cpu_count(),
        'cores_allowed': len(allowed(0)) if allowed else os.cpu_count(),
        'load_average_1_min': load,
        'system': platform.platform(),
        'architecture': platform.machine(),
        'python': platform.python_version(),
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'opencv_threads': cv2.getNumThreads(),
        'rosbags': _installed('rosbags'),
        'pyrealsense2': _installed('pyrealsense2'),
    }


def _cpu_model() -> str:
    # Arm's cpuinfo names no model, but its device tree names the board.
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
        return Path('/proc/device-tree/model').read_text(encoding='utf-8').strip('\0\n')
    except OSError:
        return platform.processor() or platform.machine()


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def revision() -> dict[str, Any]:
    """Return the package's version and, in a checkout, its commit and whether files differ."""
    found: dict[str, Any] = {
        'version': _installed('depth_refiner_ros'),
        'commit': None,
        'modified': None,
    }
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return found

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        found['commit'] = git('rev-parse', 'HEAD')
        found['modified'] = bool(git('status', '--porcelain', '--untracked-files=no'))
    except (OSError, subprocess.SubprocessError):
        pass
    return found
