"""Pairs the messages of a whole recording by stamp, which can look ahead as no live host can."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .stage import Topic
from .synchronizer import JUMP_NS, SLOP_S, anchor_of

Size = tuple[int, int]
"""Height and width, pixels."""


@dataclass
class Stream:
    """When the messages of one input were taken and recorded, in the recording's order.

    Attributes:
        stamps_ns: Their header stamps.
        log_ns: When they were recorded.
        sizes: Sizes of their images; None where only decoding shows it.
    """

    stamps_ns: list[int] = field(default_factory=list)
    log_ns: list[int] = field(default_factory=list)
    sizes: list[Size | None] = field(default_factory=list)

    def add(self, stamp_ns: int, log_ns: int, size: Size | None = None) -> None:
        """Add one message."""
        self.stamps_ns.append(stamp_ns)
        self.log_ns.append(log_ns)
        self.sizes.append(size)

    def is_unstamped(self) -> bool:
        """Return whether the stamps are of no use: all are zero, or the same."""
        if not self.stamps_ns or any(stamp != self.stamps_ns[0] for stamp in self.stamps_ns):
            return False
        return self.stamps_ns[0] == 0 or len(self.stamps_ns) > 2


class Set(NamedTuple):
    """The messages of one frame.

    Attributes:
        log_ns: When the last of them was recorded, calibrations aside.
        numbers: Which message of its stream every port takes; None for none.
    """

    log_ns: int
    numbers: dict[str, int | None]


class RecordingSynchronizer:
    """Pairs all messages of a recording: the rule of `Synchronizer`, without its haste.

    The first required input is the anchor. Every other input gives, for each anchor frame:

    1. The message with the frame's own stamp.
    2. Else the nearest within `slop_s`.
    3. A `latched` one (a calibration) else its last message before the frame, else its first
       after it. Where calibrations of several sizes are recorded and one has the image's size,
       only such are considered for 2 and 3.

    Among equal stamps, as a recording that loops has them, the one recorded nearest to the frame
    is taken. A frame that lacks a required input is counted as unmatched, and one that repeats
    the stamp of another and was recorded right after it as duplicated. Sets come in the order of
    their stamps, and start anew where the clock jumped back.

    A stream without stamps (all of them zero or the same) is paired by the time of recording.

    Args:
        inputs: The stage's inputs that have messages.
        streams: The messages of each.
        slop_s: See `Synchronizer`.
        sized: The latched port whose size must be the anchor's.

    Attributes:
        anchor: The port whose messages are the frames.
        unstamped: The ports without stamps.
        sets: The frames.
        unmatched: Frames without a required partner.
        duplicated: Frames that repeat another.

    Raises:
        ValueError: If no input is required.
    """

    def __init__(
        self,
        inputs: Mapping[str, Topic],
        streams: Mapping[str, Stream],
        *,
        slop_s: float = SLOP_S,
        sized: str | None = None,
    ) -> None:
        self.anchor = anchor_of(inputs)
        self.unmatched = self.duplicated = 0
        self.unstamped = [port for port in inputs if streams[port].is_unstamped()]
        self.sets: list[Set] = []
        slop_ns = round(slop_s * 1e9)
        anchors = streams[self.anchor]
        indexes: dict[tuple[str, Size | None], _Index] = {}
        for port in inputs:
            if port == self.anchor:
                continue
            by_log = {self.anchor, port} & set(self.unstamped)
            sizes: set[Size | None] = {None}
            if port == sized and len(set(streams[port].sizes)) > 1:
                sizes |= set(streams[port].sizes)
            for size in sizes:
                indexes[port, size] = _Index(streams[port], bool(by_log), size)
        last_ns = 0
        for number in self._in_order(anchors):
            log_ns = anchors.log_ns[number]
            numbers: dict[str, int | None] = {self.anchor: number}
            for port, topic in inputs.items():
                if port == self.anchor:
                    continue
                every = indexes[port, None]
                at_ns = log_ns if every.by_log else anchors.stamps_ns[number]
                fitting = indexes.get((port, anchors.sizes[number]), every)
                numbers[port] = every.same(at_ns, log_ns)
                if numbers[port] is None:
                    numbers[port] = fitting.nearest(at_ns, log_ns, slop_ns, topic.latched)
            if any(n is None and not inputs[port].optional for port, n in numbers.items()):
                self.unmatched += 1
                continue
            waited_ns = [
                streams[port].log_ns[n]
                for port, n in numbers.items()
                if n is not None and not inputs[port].latched
            ]
            last_ns = max(last_ns, *waited_ns)
            self.sets.append(Set(last_ns, numbers))

    def _in_order(self, anchors: Stream) -> list[int]:
        """Return the frames that are no duplicates, in the order of their stamps."""
        logs = anchors.log_ns
        if self.anchor in self.unstamped:
            return sorted(range(len(logs)), key=lambda n: logs[n])
        spacing_ns = (logs[-1] - logs[0]) / (len(logs) - 1) if len(logs) > 1 else 0.0
        ordered: list[int] = []
        run: list[int] = []
        newest_ns, newest_log_ns = -1, 0
        seen: dict[int, int] = {}  # of this run, when a stamp was recorded
        for number, (stamp_ns, log_ns) in enumerate(zip(anchors.stamps_ns, logs, strict=True)):
            back_ns = newest_ns - stamp_ns
            # Where a loop goes back by less than a jump, the time that passed meanwhile tells.
            if back_ns > JUMP_NS or (back_ns >= 0 and back_ns + log_ns - newest_log_ns > JUMP_NS):
                ordered += sorted(run, key=lambda n: anchors.stamps_ns[n])
                run, seen, newest_ns = [], {}, -1
            if stamp_ns in seen and log_ns - seen[stamp_ns] < spacing_ns / 2:
                self.duplicated += 1
                continue
            seen[stamp_ns] = log_ns
            run.append(number)
            if stamp_ns > newest_ns:
                newest_ns, newest_log_ns = stamp_ns, log_ns
        return ordered + sorted(run, key=lambda n: anchors.stamps_ns[n])


class _Index:
    """The messages of a stream by time, to be searched."""

    def __init__(self, stream: Stream, by_log: bool, size: Size | None) -> None:
        times_ns = stream.log_ns if by_log else stream.stamps_ns
        numbers = [n for n in range(len(times_ns)) if size in (None, stream.sizes[n])]
        numbers.sort(key=lambda n: (times_ns[n], stream.log_ns[n]))
        self.by_log = by_log
        self._numbers = numbers
        self._times_ns = [times_ns[n] for n in numbers]
        self._log_ns = stream.log_ns

    def same(self, at_ns: int, log_ns: int) -> int | None:
        """Return the message of this very time, the one recorded nearest if there are several."""
        first, end = bisect_left(self._times_ns, at_ns), bisect_right(self._times_ns, at_ns)
        candidates: Sequence[int] = self._numbers[first:end]
        return min(candidates, key=lambda n: abs(self._log_ns[n] - log_ns), default=None)

    def nearest(self, at_ns: int, log_ns: int, slop_ns: int, latched: bool) -> int | None:
        """Return the nearest message within the slop; a latched one else before, else after."""
        place = bisect_left(self._times_ns, at_ns)
        around = self._times_ns[max(0, place - 1) : place + 1]
        near_ns = min(around, key=lambda time_ns: abs(time_ns - at_ns), default=None)
        if near_ns is None:
            return None
        if abs(near_ns - at_ns) > slop_ns:
            if not latched:
                return None
            near_ns = around[0]  # the last before, or where there is none the first after
        return self.same(near_ns, log_ns)
