"""Which rates a live host sustains, and how late its results come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
import math
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...config import Configuration, port_topics
from ...hosts.live import LiveRunner
from ...hosts.typestore import FAMILY
from ...messages import encode
from ...simulation import EPOCH_NS
from ...stage import Pipeline, topic_inputs
from ..machine import busy_percent, machine_ticks, resident_mb
from .clips import NAMESPACE, Clip, swept_index
from .peak_search import RESOLUTION, PeakSearch
from .timing import Watch, unwatched

MISSED_LIMIT = 0.05
"""Share of missed frames from which a rate counts as too high."""
FIXED_RATES_HZ = (10.0, 30.0)

_FEWEST_SENT = 20  # with fewer, no frame may be missed without exceeding 5 %
_STEPS_DOWN = 5
_POLL_S = 0.01  # how often it is looked whether all frames have come back
_SILENCE_S = 3.0


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
        """Return the figures of the run; None where too few frames came back."""
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


def warm_pipeline(configuration: Configuration, clip: Clip) -> Pipeline:
    """Return a pipeline that has seen a frame: its models are loaded."""
    pipeline = configuration.pipeline(configuration.parameters)
    pipeline(clip.transforms, **clip.values[0])
    return pipeline


def live_runner(
    configuration: Configuration,
    pipeline: Pipeline,
    clip: Clip,
    publish: Callable[[str, Any], None],
    warn: Callable[[str], None],
    *,
    only: Sequence[str] = (),
) -> LiveRunner:
    """Return a live host whose outputs, or some of them, are listened to."""
    # What is measured must stay the same at every rate.
    host = replace(configuration.host, keep_camera_rate=False)
    wanted = [port for port in pipeline.outputs if not only or port in only]
    runner = LiveRunner(
        pipeline,
        replace(configuration, host=host),
        port_topics(topic_inputs(configuration.pipeline), configuration.topics, NAMESPACE),
        publish=publish,
        wanted=lambda: wanted,
        publishers=lambda topic: 1,
        warn=warn,
    )
    runner.tree = clip.transforms
    return runner


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
    messages = [
        {port: encode(value, FAMILY) for port, value in values.items()} for values in clip.values
    ]
    count = max(math.ceil(seconds * rate_hz), _FEWEST_SENT)
    stamps_ns = [EPOCH_NS + round(number * 1e9 / rate_hz) for number in range(count)]
    number_of = {stamp_ns: number for number, stamp_ns in enumerate(stamps_ns)}
    sent_s: list[float] = []
    received_s: dict[int, float] = {}
    warnings: list[str] = []

    def publish(port: str, value: Any) -> None:
        encode(value, FAMILY)
        # The last output of a frame decides; the order of arrival stays that of the first.
        received_s[number_of[value.header.stamp_ns]] = time.perf_counter()

    pipeline = warm_pipeline(configuration, clip)
    before_mb, before_ticks = resident_mb(), machine_ticks()
    runner = live_runner(configuration, pipeline, clip, publish, warnings.append, only=only)
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
    overall_percent = busy_percent(before_ticks, machine_ticks())
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


def measure_live_host(
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
