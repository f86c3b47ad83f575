"""What every live host shares: the newest frame wins, and silence is explained.

A host's callbacks only pair messages and leave the newest complete set in a slot; one worker
decodes it and runs the pipeline. What somebody wants is published by a thread of its own, each
output as soon as its stage is done, while the worker is on the rest and on the next frame. A
camera faster than that costs frames, which are counted, and never latency. What is optional never
costs a frame: colour that cannot be used is left out and reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from functools import partial
from pathlib import Path
from queue import SimpleQueue
import threading
import time
from typing import Any, NamedTuple

import numpy as np

from ..config import Configuration, encoded_as
from ..data import ColorImage, DepthImage, Header
from ..geometry import TransformTree
from ..inference.guarded import FIRST_RETRY_S, LAST_RETRY_S
from ..invocation import command
from ..messages import decode
from ..stage import Pipeline, topic_inputs
from ..synchronizer import Synchronizer
from .pace import Pace

_WINDOW = 300  # frames that latency is measured over
_RATE_WINDOW_S = 5.0
_STALE_S = 2.0  # without a result for so long, the status warns
_FROZEN = 5  # messages in a row with one stamp: no longer a driver that sent one twice
_CAMERA_OF = {'depth': 'camera', 'color': 'color_camera'}

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


class _Mark(Enum):
    """What ends in the outbox."""

    FRAME_ENDS = auto()
    ALL_ENDS = auto()


class _Done(NamedTuple):
    """A frame that was finished."""

    at_s: float
    latency_s: float
    work_s: float


@dataclass
class _Input:
    """What has come in on one port: how much, and of the last message its time, stamp and size."""

    count: int = 0
    at_s: float = 0.0
    stamp_ns: int = -1
    repeated: int = 0
    size_px: tuple[int, int] | None = None

    def note(self, stamp_ns: int, size_px: tuple[int, int] | None, now_s: float) -> None:
        self.repeated = self.repeated + 1 if stamp_ns == self.stamp_ns else 0
        self.count += 1
        self.at_s, self.stamp_ns, self.size_px = now_s, stamp_ns, size_px


def _stamp_ns(message: Any) -> int:
    header = message.header
    if isinstance(header, Header):
        return header.stamp_ns
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)


def _size_px(message: Any) -> tuple[int, int] | None:
    """Return width and height of an image or a calibration; None where they are not at hand."""
    if isinstance(message, DepthImage):
        return message.depth_m.shape[1], message.depth_m.shape[0]
    if isinstance(message, ColorImage):
        return message.rgb.shape[1], message.rgb.shape[0]
    width, height = getattr(message, 'width', 0), getattr(message, 'height', 0)
    return (int(width), int(height)) if width and height else None


class LiveRunner:
    """Feeds a pipeline from live topics.

    `feed` and `status` are called from one thread of the host, `publish` and `watch` from a thread
    for what goes out, `warn` from that one and from the worker's. Models are loaded beside the
    work: until one is, stages do without. A stage that nothing wanted builds on is not run.

    Args:
        pipeline: What to run.
        configuration: Host parameters; replace the attribute to change live ones.
        topics: Absolute topic of every input port, for texts.
        publish: Called with output port and value, for outputs that are wanted, in their order.
        wanted: Returns the outputs that somebody listens to; without any, frames are left.
        publishers: Returns how many publish on a topic.
        warn: Called with a sentence when a frame, or what is optional of it, had to be dropped.
        watch: Sees every frame; with it, all stages are run even if nobody else listens.
        inform: Called with a sentence that is worth a line in the log.
        clock_s: Monotonic seconds, by which the work on a frame is measured.

    Attributes:
        tree: Transforms known so far.
        dropped: Frames that a newer one overtook.
        failed: Frames that could not be decoded or worked on.
        missed: Frames that took longer than `frame_deadline_s`.
        left_out: Frames that had to do without an optional input that came.
        warned: The last sentence that `warn` got.
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
        inform: Callable[[str], None] = lambda text: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.configuration = configuration
        self.tree = TransformTree()
        self.dropped = self.failed = self.missed = self.left_out = 0
        self.warned = ''
        self._pipeline = pipeline
        self._inputs = topic_inputs(type(pipeline))
        self._topics = topics
        self._publish, self._wanted = publish, wanted
        self._publishers, self._warn, self._watch = publishers, warn, watch
        self._inform, self._clock_s = inform, clock_s
        self._pace, self._paced = Pace(), ''
        self._synchronizer: Synchronizer[tuple[Any, float]] = Synchronizer(
            self._inputs,
            slop_s=configuration.host.slop_s,
            deadline_s=configuration.host.deadline_s,
        )
        self._received = {port: _Input() for port in self._inputs}
        self._without: dict[str, str] = {}
        self._error = ''
        self._depths: tuple[DepthImage, DepthImage] | None = None
        self._done: deque[_Done] = deque(maxlen=_WINDOW)
        self._slot: tuple[dict[str, Any], float] | None = None
        self._wake = threading.Condition()
        self._running = True
        self._busy_since_s = float('inf')
        self._wanted_s = time.monotonic()
        pipeline.load_beside()
        self._outbox: SimpleQueue[Callable[[], None] | _Mark] = SimpleQueue()
        self._going_out = 0
        self._threads = [
            threading.Thread(target=self._work, name='pipeline', daemon=True),
            threading.Thread(target=self._send, name='publishing', daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the frames in work, and no other."""
        with self._wake:
            self._running = False
            self._wake.notify()
        for thread in self._threads:
            thread.join()

    def feed(self, port: str, message: Any) -> None:
        """Take one message in, or one value: what a source in this process has at hand."""
        stamp_ns, now_ns = _stamp_ns(message), time.monotonic_ns()
        with self._wake:
            self._received[port].note(stamp_ns, _size_px(message), now_ns * 1e-9)
            self._forget_calibration_of_another_size(port)
            if port == self._synchronizer.anchor:
                self._pace.stamped(stamp_ns)
            for matched in self._synchronizer.feed(
                port, stamp_ns, (message, now_ns * 1e-9), now_ns
            ):
                self._put(matched)
            self._wake.notify()

    def has_received(self, port: str) -> bool:
        """Whether anything has come in on a port."""
        return self._received[port].count > 0

    @property
    def ready(self) -> bool:
        """Whether a frame that comes now overtakes no other."""
        return self._slot is None

    def _forget_calibration_of_another_size(self, port: str) -> None:
        # A camera that changes its resolution sends the image first, or the calibration: the last
        # one must not serve for the new images, however long there was none.
        camera = _CAMERA_OF.get(port, '')
        if camera not in self._received or not self._differ(port, camera):
            return
        if self._received[port].stamp_ns != self._received[camera].stamp_ns:
            self._synchronizer.forget(camera)

    def _differ(self, port: str, camera: str) -> bool:
        image_px, camera_px = self._received[port].size_px, self._received[camera].size_px
        return image_px is not None and camera_px is not None and image_px != camera_px

    def _put(self, matched: Mapping[str, tuple[Any, float] | None]) -> None:
        arrived_s = max(item[1] for item in matched.values() if item is not None)
        if self._slot is not None:
            self.dropped += 1
        self._slot = {port: item and item[0] for port, item in matched.items()}, arrived_s

    # -- the worker

    def _next(self) -> tuple[dict[str, Any], float] | None:
        """Wait for a frame; None when there is to be none."""
        with self._wake:
            while self._running:
                now_ns = time.monotonic_ns()
                for matched in self._synchronizer.poll(now_ns):
                    self._put(matched)
                # The newest frame waits in the slot, not behind those that are yet to go out.
                if self._slot is not None and self._going_out <= 1:
                    taken, self._slot = self._slot, None
                    self._going_out += 1
                    return taken
                due_ns = self._synchronizer.due_ns() or 0
                # What is overdue and did not come out waits for a message, not for time.
                self._wake.wait((due_ns - now_ns) * 1e-9 if due_ns > now_ns else None)
        return None

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            messages, arrived_s = taken
            try:
                wanted = self._wanted()
                if wanted or self._watch:
                    self._busy_since_s = time.monotonic()
                    self._process(messages, wanted, arrived_s)
            except (ValueError, LookupError) as error:
                self._fail(str(error))
            except Exception as error:  # a robot's depth must outlive any one frame
                self._fail(f'{type(error).__name__}: {error}')
            finally:
                self._busy_since_s = float('inf')
                self._outbox.put(_Mark.FRAME_ENDS)
        self._outbox.put(_Mark.ALL_ENDS)

    def _send(self) -> None:
        """Do what is in the outbox; after a failure, leave the rest of its frame."""
        failed = False
        while (item := self._outbox.get()) is not _Mark.ALL_ENDS:
            if item is _Mark.FRAME_ENDS:
                failed = False
                with self._wake:
                    self._going_out -= 1
                    self._wake.notify()
            elif not failed:
                try:
                    item()
                except Exception as error:
                    failed = True
                    self._fail(f'{type(error).__name__}: {error}')

    def _process(self, messages: dict[str, Any], wanted: list[str], arrived_s: float) -> None:
        started_s = self._clock_s()
        without: dict[str, str] = {}
        values: dict[str, Any] = {}
        for port, message in messages.items():
            values[port], reason = self._decoded(port, message)
            if reason:
                without[port] = reason
        configuration = self.configuration
        encoding = configuration.host.depth_encoding
        self._pipeline.parameters = configuration.parameters
        made = None if self._watch is not None else wanted
        stages = self._pipeline.needed(made)
        self._reconsider(values, stages)
        outputs: dict[str, Any] = {}
        for port, value in self._pipeline.outputs_in_turn(self.tree, made, **values):
            outputs[port] = value
            if port in wanted:
                self._outbox.put(partial(self._publish_as, encoding, port, value))
        self._do_without({**without, **self._pipeline.left_out})
        work_s = self._clock_s() - started_s
        self._keep_up(work_s, stages)
        self._outbox.put(partial(self._finish, values, outputs, arrived_s, work_s))

    def _publish_as(self, encoding: str, port: str, value: Any) -> None:
        self._publish(port, encoded_as(value, encoding))

    def _finish(
        self, values: dict[str, Any], outputs: dict[str, Any], arrived_s: float, work_s: float
    ) -> None:
        now_s = time.monotonic()
        latency_s = now_s - arrived_s
        self.missed += 0 < self.configuration.host.frame_deadline_s < latency_s
        self._done.append(_Done(now_s, latency_s, work_s))
        images = [value for value in outputs.values() if isinstance(value, DepthImage)]
        if isinstance(values.get('depth'), DepthImage) and images:
            self._depths = values['depth'], images[-1]
        if self._watch is not None:
            self._watch(values, outputs, latency_s)
        self._error = ''

    def _reconsider(self, values: Mapping[str, Any], stages: list[str]) -> None:
        """Let stages try the models that nobody named, where what they cost may be another."""
        host, sizes = self.configuration.host, map(_size_px, values.values())
        work = (host, self.configuration.parameters, tuple(sizes), tuple(stages))
        with self._wake:
            renewed = self._pace.renewed(work)
        if renewed:
            self._paced = ''
            self._pipeline.decline_models('')

    def _keep_up(self, took_s: float, stages: list[str]) -> None:
        """Have stages leave the models that nobody named, where these cost the camera's rate."""
        ran = self._pipeline.unnamed_models
        models = {stage: model for stage, model in ran.items() if stage in stages}
        if not models or self._pipeline.loading or not self.configuration.host.keep_camera_rate:
            return
        with self._wake:
            verdict = self._pace.worked(took_s)
        if verdict is None:
            return
        self._paced = '; '.join(verdict.text(stage, model) for stage, model in models.items())
        if not verdict.keeps:
            self._pipeline.decline_models(self._paced)
        self._inform(self._paced)

    def _decoded(self, port: str, message: Any) -> tuple[Any, str]:
        """Return a message's value, or None and why it cannot be used if that may be left out."""
        kind = self._inputs[port].type
        if message is None or isinstance(message, kind):
            return message, ''
        try:
            unit_m = self.configuration.host.depth_unit_m if port == 'depth' else 0.0
            return decode(kind, message, self._topics[port], depth_unit_m=unit_m), ''
        except Exception as error:  # whatever a stranger's picture trips over
            if not self._inputs[port].optional:
                raise
            return None, str(error)

    def _do_without(self, reasons: dict[str, str]) -> None:
        self._without = reasons
        self.left_out += bool(reasons)
        if reasons:
            self._say(_without_text(reasons))

    def _fail(self, text: str) -> None:
        with self._wake:
            self.failed += 1
        self._error = f'frame dropped: {text}'
        self._say(self._error)

    def _say(self, text: str) -> None:
        self.warned = text
        self._warn(text)

    # -- status

    def status(self) -> Status:
        """Return how it goes: above all, why nothing is published."""
        values = self._values()
        now_s = time.monotonic()
        done = tuple(self._done)
        wanted = self._watch is not None or bool(self._wanted())
        if not wanted:
            self._wanted_s = now_s
        age_s = now_s - max(self._wanted_s, done[-1].at_s if done else 0.0)
        if wanted and age_s < _STALE_S:
            return self._running_status(values)
        if (busy_s := now_s - self._busy_since_s) > _STALE_S:
            text = f'the frame in work takes {busy_s:.0f} s already: a stage or its model hangs'
            return Status(Level.ERROR, text, values)
        if text := self._silent_input(wanted):
            return Status(Level.WARN, text, values)
        if not wanted:
            return Status(Level.OK, 'idle: nobody subscribes to an output', values)
        if text := self._frozen():
            return Status(Level.WARN, text, values)
        if self._error:
            return Status(Level.ERROR, self._error, values)
        if text := self._misfit():
            return Status(Level.WARN, text, values)
        return Status(Level.WARN, f'no result for {age_s:.0f} s: {self._cause(now_s)}', values)

    def _running_status(self, values: dict[str, str]) -> Status:
        rate = f'{values["rate_hz"]} Hz'
        warnings = [
            f'{name} runs without its model: {trouble}'
            for name, trouble in self._pipeline.troubles.items()
        ]
        if self._without:
            warnings.append(_without_text(self._without))
        if count := self._pipeline.without_provenance:
            warnings.append(
                f'{count} frames came without the provenance that others had: their depth '
                'counts as inpainted'
            )
        if late := self._late():
            warnings.append(late)
        loading = ''.join(f'; {text}' for text in self._pipeline.loading.values())
        if warnings:
            return Status(Level.WARN, f'{rate}, but {"; ".join(warnings)}{loading}', values)
        return Status(Level.OK, f'{rate}{loading}', values)

    def _silent_input(self, wanted: bool) -> str:
        """Say which required input has never come, and why."""
        for port in self._synchronizer.missing():
            if self.has_received(port):
                continue  # it was, in another size
            topic = self._topics[port]
            count = self._publishers(topic)
            if count and not wanted:
                continue  # a host may subscribe to what it works on only
            reason = (
                f'{count} publish it but nothing arrives: compare QoS with '
                f'`ros2 topic info -v {topic}`{self._too_large(port)}'
                if count
                else f'nobody publishes it: set topics.{port} or camera_namespace, choose a '
                'camera, or remap it'
            )
            return f'waiting for {port} on {topic}: {reason}'
        return ''

    def _too_large(self, port: str) -> str:
        """Say that images do not fit the kernel's receive buffer, if they do not."""
        camera = self._received.get(_CAMERA_OF.get(port, ''))
        buffer_bytes = _receive_buffer_bytes()
        if camera is None or camera.size_px is None or buffer_bytes is None:
            return ''
        width, height = camera.size_px
        if (image_bytes := 2 * width * height) <= buffer_bytes:
            return ''
        return (
            f'; an image of {width}x{height} has {image_bytes / 1e6:.1f} MB or more in fragments, '
            f'all of which are lost with one, and the kernel holds {buffer_bytes / 1e6:.1f} MB: '
            'sudo sysctl -w net.core.rmem_max=67108864, or '
            f'qos_overrides.{self._topics[port]}.subscription.reliability: reliable '
            '(Large images in docs/live.md)'
        )

    def _frozen(self) -> str:
        """Say which input sends one stamp over and over."""
        for port, topic in self._inputs.items():
            received = self._received[port]
            if not (topic.optional or topic.latched) and received.repeated >= _FROZEN:
                return (
                    f'{port} on {self._topics[port]} is frozen: its last {received.repeated + 1} '
                    f'messages carry one stamp, {received.stamp_ns * 1e-9:.3f} s; restart its '
                    'driver, or have it stamp its frames'
                )
        return ''

    def _misfit(self) -> str:
        """Say which image has a calibration of another size only."""
        for port, camera in _CAMERA_OF.items():
            if {port, camera} <= self._inputs.keys() and self._differ(port, camera):
                image_px, camera_px = (self._received[p].size_px or (0, 0) for p in (port, camera))
                return (
                    f'{port} on {self._topics[port]} is {image_px[0]}x{image_px[1]}, but the last '
                    f'calibration on {self._topics[camera]} is of {camera_px[0]}x{camera_px[1]}: '
                    f'set topics.{camera} to the camera_info of the same stream'
                )
        return ''

    def _cause(self, now_s: float) -> str:
        """Say why frames that came do not give results."""
        required = [
            port for port, topic in self._inputs.items() if not (topic.optional or topic.latched)
        ]
        for port in required:
            if (silent_s := now_s - self._received[port].at_s) > _STALE_S:
                return f'{port} on {self._topics[port]} has stopped, {silent_s:.0f} s ago'
        anchor = self._synchronizer.anchor
        apart_s = {
            port: abs(self._received[port].stamp_ns - self._received[anchor].stamp_ns) * 1e-9
            for port in required
        }
        farthest = max(apart_s, key=lambda port: apart_s[port])
        slop_s = self.configuration.host.slop_s
        differ = (
            f'stamps of {anchor} and {farthest} are {apart_s[farthest]:.3f} s apart, '
            f'more than slop_s ({slop_s:g} s)'
            if apart_s[farthest] > slop_s
            else f'stamps differ by more than slop_s ({slop_s:g} s)'
        )
        return f'{differ}; {command("doctor RECORDING")} finds out more'

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
        holes = [np.isnan(image.depth_m).mean() for image in self._depths or ()]
        holes_in, holes_out = holes or (np.nan, np.nan)
        return {
            'backend': ', '.join(sorted(set(self._pipeline.back_ends.values()))) or 'classical',
            'rate_hz': f'{(len(recent) - 1) / span_s if span_s else 0:.1f}',
            'work_p50_ms': f'{1e3 * np.median([d.work_s for d in recent] or [0.0]):.1f}',
            'latency_p50_ms': f'{np.percentile(latency_ms, 50):.1f}',
            'latency_p99_ms': f'{np.percentile(latency_ms, 99):.1f}',
            'dropped': str(self.dropped),
            'failed': str(self.failed),
            'missed': str(self.missed),
            'left_out': str(self.left_out),
            'unmatched': str(counts.unmatched),
            'late': str(counts.late),
            'duplicated': str(counts.duplicated),
            'clock_jumps': str(counts.jumps),
            'holes_in': f'{holes_in:.3f}',
            'holes_out': f'{holes_out:.3f}',
            **({'camera_rate': self._paced} if self._paced else {}),
            **self._pipeline.status,
            **{f'{stage}.model': note for stage, note in self._pipeline.notes.items()},
            **{f'{stage}.loading': text for stage, text in self._pipeline.loading.items()},
            **{f'received.{port}': str(item.count) for port, item in self._received.items()},
        }


def _without_text(reasons: Mapping[str, str]) -> str:
    ports_of: dict[str, list[str]] = {}
    for port, reason in reasons.items():
        ports_of.setdefault(reason, []).append(port)
    return '; '.join(f'without {", ".join(p)}: {reason}' for reason, p in ports_of.items())


def _receive_buffer_bytes() -> int | None:
    """Return the largest receive buffer that the kernel gives a socket; None where unknown."""
    try:
        return int(Path('/proc/sys/net/core/rmem_max').read_text(encoding='ascii'))
    except (OSError, ValueError):
        return None
