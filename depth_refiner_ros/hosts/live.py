"""What every live host shares: the newest frame wins, and silence is explained.

A host's callbacks only pair messages and leave the newest complete set in a slot; one worker
decodes it, runs the pipeline and hands on what somebody wants. A camera faster than the pipeline
therefore costs frames, which are counted, and never latency.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from enum import IntEnum
import threading
import time
from typing import Any, NamedTuple

import numpy as np

from ..config import Configuration, encoded_as
from ..data import DepthImage, Header
from ..geometry import TransformTree
from ..inference.guarded import FIRST_RETRY_S, LAST_RETRY_S
from ..messages import decode
from ..stage import Pipeline, Synchronizer, topic_inputs

_WINDOW = 300  # frames that latency is measured over
_RATE_WINDOW_S = 5.0
_STALE_S = 2.0  # without a result for so long, the status warns

Watch = Callable[[Mapping[str, Any], Mapping[str, Any], float], None]
"""Sees every frame: values in by port, values out by `<stage>.<port>`, seconds it took."""


class Level(IntEnum):
    """Severity of a status, with the values of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


class Status(NamedTuple):
    """How a live pipeline is doing: severity, one sentence, and figures by name."""

    level: Level
    text: str
    values: dict[str, str]


Frame = Mapping[str, Any]
"""Values by port."""


def reopened(
    camera: Callable[[], AbstractContextManager[Iterable[Frame]]],
    stopped: threading.Event,
    trouble: Callable[[str], None],
) -> Iterator[Frame]:
    """Yield a camera's frames until it ends, opening it anew, later and later, when it is lost.

    Args:
        camera: Opens it; whatever it raises, then or later, is a loss.
        stopped: Ends the waiting.
        trouble: Called with what is wrong, and with nothing when a frame comes.
    """
    wait_s = FIRST_RETRY_S
    while not stopped.is_set():
        try:
            with camera() as frames:
                for frame in frames:
                    trouble('')
                    wait_s = FIRST_RETRY_S
                    yield frame
            return
        except Exception as error:
            trouble(f'no camera: {error}')
        stopped.wait(wait_s)
        wait_s = min(2 * wait_s, LAST_RETRY_S)


class _Done(NamedTuple):
    """A frame that was finished."""

    at_s: float
    latency_s: float


class LiveRunner:
    """Feeds a pipeline from live topics.

    `feed`, `poll` and `status` are called from one thread of the host, `publish` and `warn` from
    the worker's.

    Args:
        pipeline: What to run.
        configuration: Host parameters; replace the attribute to change live ones.
        topics: Absolute topic of every input port, for texts.
        publish: Called with output port and value, for outputs that are wanted.
        wanted: Returns the outputs that somebody listens to; without any, frames are left.
        publishers: Returns how many publish on a topic.
        warn: Called with a sentence when a frame had to be dropped.
        watch: Sees every frame, on the worker's thread; with it, frames are made for it even if
            nobody else listens.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        configuration: Configuration,
        topics: Mapping[str, str],
        *,
        publish: Callable[[str, Any], None],
        wanted: Callable[[], list[str]],
        publishers: Callable[[str], int],
        warn: Callable[[str], None],
        watch: Watch | None = None,
    ) -> None:
        self.configuration = configuration
        self.tree = TransformTree()
        self.dropped = self.failed = self.missed = 0
        self._pipeline = pipeline
        self._inputs = topic_inputs(type(pipeline))
        self._topics = topics
        self._publish, self._wanted = publish, wanted
        self._publishers, self._warn, self._watch = publishers, warn, watch
        self._synchronizer: Synchronizer[tuple[Any, float]] = Synchronizer(
            self._inputs,
            slop_s=configuration.host.slop_s,
            deadline_s=configuration.host.deadline_s,
        )
        self._received = dict.fromkeys(self._inputs, 0)
        self._error = ''
        self._holes = (float('nan'), float('nan'))
        self._done: deque[_Done] = deque(maxlen=_WINDOW)
        self._slot: tuple[dict[str, Any], float] | None = None
        self._wake = threading.Condition()
        self._running = True
        self._busy_since_s = float('inf')
        self._started_s = time.monotonic()
        self._thread = threading.Thread(target=self._work, name='pipeline', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the frame in work, and no other."""
        with self._wake:
            self._running = False
            self._wake.notify()
        self._thread.join()

    def feed(self, port: str, message: Any) -> None:
        """Take one message in, or one value: what a source in this process has at hand."""
        self._received[port] += 1
        header = message.header
        stamp_ns = (
            header.stamp_ns
            if isinstance(header, Header)
            else header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        )
        now_ns = time.monotonic_ns()
        item = (message, now_ns * 1e-9)
        for matched in self._synchronizer.feed(port, stamp_ns, item, now_ns):
            self._put(matched)

    def poll(self) -> None:
        """Let waiting for optional inputs come to its end."""
        for matched in self._synchronizer.poll(time.monotonic_ns()):
            self._put(matched)

    def _put(self, matched: Mapping[str, tuple[Any, float] | None]) -> None:
        arrived_s = max(item[1] for item in matched.values() if item is not None)
        messages = {port: item and item[0] for port, item in matched.items()}
        with self._wake:
            if self._slot is not None:
                self.dropped += 1
            self._slot = messages, arrived_s
            self._wake.notify()

    # -- the worker

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._slot is not None or not self._running)
                if not self._running or self._slot is None:
                    return
                (messages, arrived_s), self._slot = self._slot, None
            try:
                wanted = self._wanted()
                if not (wanted or self._watch):
                    continue
                self._busy_since_s = time.monotonic()
                self._process(messages, wanted, arrived_s)
            except (ValueError, LookupError) as error:
                self._fail(str(error))
            except Exception as error:  # a robot's depth must outlive any one frame
                self._fail(f'{type(error).__name__}: {error}')
            else:
                self._error = ''
            finally:
                self._busy_since_s = float('inf')

    def _process(self, messages: dict[str, Any], wanted: list[str], arrived_s: float) -> None:
        values: dict[str, Any] = {
            port: message
            if message is None or isinstance(message, self._inputs[port].type)
            else decode(
                self._inputs[port].type,
                message,
                self._topics[port],
                depth_unit_m=self.configuration.host.depth_unit_m if port == 'depth' else 0.0,
            )
            for port, message in messages.items()
        }
        configuration = self.configuration
        self._pipeline.parameters = configuration.parameters
        outputs = self._pipeline(self.tree, **values)
        for port in wanted:
            if port in outputs:
                self._publish(port, encoded_as(outputs[port], configuration.host.depth_encoding))
        now_s = time.monotonic()
        latency_s = now_s - arrived_s
        self.missed += 0 < configuration.host.frame_deadline_s < latency_s
        self._done.append(_Done(now_s, latency_s))
        images = [value for value in outputs.values() if isinstance(value, DepthImage)]
        if isinstance(values.get('depth'), DepthImage) and images:
            before, after = values['depth'].depth_m, images[-1].depth_m
            self._holes = float(np.isnan(before).mean()), float(np.isnan(after).mean())
        if self._watch is not None:
            self._watch(values, outputs, latency_s)

    def _fail(self, text: str) -> None:
        self.failed += 1
        self._error = f'frame dropped: {text}'
        self._warn(self._error)

    # -- status

    def status(self) -> Status:
        """Return how it goes: above all, why nothing is published."""
        values = self._values()
        done = tuple(self._done)
        age_s = time.monotonic() - (done[-1].at_s if done else self._started_s)
        if age_s < _STALE_S:
            rate = f'{values["rate_hz"]} Hz'
            told = [
                f'{name} runs without its model: {trouble}'
                for name, trouble in self._pipeline.troubles.items()
            ]
            if count := self._pipeline.without_provenance:
                told.append(
                    f'{count} frames came without the provenance that others had: their depth '
                    'counts as inpainted'
                )
            if late := self._late():
                told.append(late)
            if told:
                return Status(Level.WARN, f'{rate}, but {"; ".join(told)}', values)
            return Status(Level.OK, rate, values)
        if (busy_s := time.monotonic() - self._busy_since_s) > _STALE_S:
            text = f'the frame in work takes {busy_s:.0f} s already: a stage or its model hangs'
            return Status(Level.ERROR, text, values)
        for port in self._synchronizer.missing():
            topic = self._topics[port]
            count = self._publishers(topic)
            reason = (
                f'{count} publish it but nothing arrives: compare QoS with '
                f'`ros2 topic info -v {topic}`'
                if count
                else f'nobody publishes it: set topics.{port}, choose a camera, or remap it'
            )
            return Status(Level.WARN, f'waiting for {port} on {topic}: {reason}', values)
        if self._error:
            return Status(Level.ERROR, self._error, values)
        if not self._wanted():
            return Status(Level.OK, 'idle: nobody subscribes to an output', values)
        slop_s = self.configuration.host.slop_s
        text = (
            f'no result for {age_s:.0f} s: inputs stopped, or their stamps differ by more than '
            f'slop_s ({slop_s:g} s); `depth-refiner doctor` on a recording tells which'
        )
        return Status(Level.WARN, text, values)

    def _late(self) -> str:
        """Say how many recent frames missed their deadline, or nothing."""
        deadline_s = self.configuration.host.frame_deadline_s
        recent = self._recent()
        missed = sum(0 < deadline_s < frame.latency_s for frame in recent)
        if not missed:
            return ''
        return (
            f'{missed} of the last {len(recent)} frames took longer than frame_deadline_s '
            f'({deadline_s:g} s)'
        )

    def _recent(self) -> list[_Done]:
        since_s = time.monotonic() - _RATE_WINDOW_S
        return [frame for frame in tuple(self._done) if frame.at_s > since_s]

    def _values(self) -> dict[str, str]:
        recent = self._recent()
        span_s = recent[-1].at_s - recent[0].at_s if recent else 0.0
        latency_ms = 1e3 * np.array([frame.latency_s for frame in tuple(self._done)] or [0.0])
        counts = self._synchronizer
        return {
            'backend': ', '.join(sorted(set(self._pipeline.back_ends.values()))) or 'classical',
            'rate_hz': f'{(len(recent) - 1) / span_s if span_s else 0:.1f}',
            'latency_p50_ms': f'{np.percentile(latency_ms, 50):.1f}',
            'latency_p99_ms': f'{np.percentile(latency_ms, 99):.1f}',
            'dropped': str(self.dropped),
            'failed': str(self.failed),
            'missed': str(self.missed),
            'unmatched': str(counts.unmatched),
            'late': str(counts.late),
            'duplicated': str(counts.duplicated),
            'clock_jumps': str(counts.jumps),
            'holes_in': f'{self._holes[0]:.3f}',
            'holes_out': f'{self._holes[1]:.3f}',
            **{f'{stage}.model': note for stage, note in self._pipeline.notes.items()},
            **{f'received.{port}': str(count) for port, count in self._received.items()},
        }
