"""Runs a pipeline over a recording, and records what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import time
from typing import Any, NamedTuple

from ...config import encoded_as, resolve
from ...stage import Pipeline, Topic
from .errors import BagError
from .frames import Frames
from .writer import BagWriter


class Result(NamedTuple):
    """What a pipeline made of one frame.

    Attributes:
        log_ns: When the recording got the last message that the frame needed, calibrations aside.
        inputs: The values that went in, by port; optional ones may be None.
        outputs: The values that came out, by `<stage>.<port>`.
    """

    log_ns: int
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def replay(frames: Frames, pipeline: Pipeline) -> Iterator[Result]:
    """Feed a recording to a pipeline.

    Raises:
        BagError: If a frame cannot be decoded or processed: silence would falsify an evaluation.
    """
    for log_ns, matched in frames:
        try:
            values = frames.decoded(matched)
            outputs = pipeline(frames.transforms, **values)
            for port, reason in pipeline.left_out.items():
                frames.note_unread(port, reason)
        except (LookupError, ValueError) as error:
            stamp = next(msg for msg in matched.values() if msg is not None).header.stamp
            seconds = stamp.sec + stamp.nanosec / 1e9
            raise BagError(f'frame at {seconds:.6f} s: {error}') from None
        yield Result(log_ns, values, outputs)


class Summary:
    """What a replay did, gathered while it runs."""

    def __init__(self) -> None:
        self.frames = 0
        self.stage_s: dict[str, list[float]] = {}
        self._started_s = time.perf_counter()
        self.wall_s = 0.0

    def add(self, pipeline: Pipeline) -> None:
        """Count one frame."""
        self.frames += 1
        for name, seconds in pipeline.last_s.items():
            self.stage_s.setdefault(name, []).append(seconds)
        self.wall_s = time.perf_counter() - self._started_s

    def finish(self) -> None:
        """Stop the clock, after the recording is closed."""
        self.wall_s = time.perf_counter() - self._started_s


def record(
    results: Iterable[Result],
    writer: BagWriter,
    outputs: Mapping[str, Topic],
    namespace: str,
    *,
    depth_encoding: str = 'same',
    only: Sequence[str] = (),
) -> Iterator[Result]:
    """Write every output of a replay and hand its results on.

    Args:
        results: A `replay`.
        writer: Takes what comes out.
        outputs: The pipeline's outputs.
        namespace: Namespace of the written topics.
        depth_encoding: 'same', '16UC1' or '32FC1'.
        only: Outputs to write, by `<stage>.<port>`; all if empty.
    """
    for result in results:
        for port, value in result.outputs.items():
            if only and port not in only:
                continue
            topic = resolve(outputs[port].name, namespace)
            writer.write(topic, result.log_ns, encoded_as(value, depth_encoding))
        yield result
