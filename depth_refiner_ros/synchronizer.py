"""How a live host pairs the messages of a stage's inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from .stage import Topic

T = TypeVar('T')

SLOP_S = 0.02
"""Default slop: more than half the interval of two free-running cameras at 30 Hz."""
DEADLINE_S = 0.05
"""Default wait for an optional input."""

_SILENT_NS = 1_000_000_000
JUMP_NS = 500_000_000
"""A clock that goes back by more has jumped: a bag loops, a simulation restarts."""
_GAPS_KEPT = 8


def anchor_of(inputs: Mapping[str, Topic]) -> str:
    """Return the port whose messages are the frames: the first required one.

    Raises:
        ValueError: If no input is required.
    """
    for port, topic in inputs.items():
        if not (topic.optional or topic.latched):
            return port
    raise ValueError('a stage needs an input that is neither optional nor latched')


class _Waiting:
    """Marks an input that may still come."""


_WAITING = _Waiting()


class _Port(Generic[T]):
    """Recent messages of one input, ordered by stamp."""

    def __init__(self, topic: Topic, queue_size: int) -> None:
        self.topic = topic
        self.items: deque[tuple[int, T]] = deque(maxlen=queue_size)
        self.gaps_ns: deque[int] = deque(maxlen=_GAPS_KEPT)
        self.newest_ns: int | None = None
        self.last: T | None = None

    def add(self, stamp_ns: int, item: T) -> bool:
        """Insert a message; False if one with its stamp is there already."""
        if self.newest_ns is not None and stamp_ns < self.newest_ns - JUMP_NS:
            self.forget()
        if any(stamp == stamp_ns for stamp, _ in self.items):
            return False
        if self.newest_ns is None or stamp_ns > self.newest_ns:
            if self.newest_ns is not None:
                self.gaps_ns.append(stamp_ns - self.newest_ns)
            self.newest_ns, self.last = stamp_ns, item
            self.items.append((stamp_ns, item))
        else:
            self.items.append((stamp_ns, item))
            self.items = deque(sorted(self.items, key=lambda pair: pair[0]), self.items.maxlen)
        return True

    def forget_before(self, stamp_ns: int) -> None:
        while self.items and self.items[0][0] < stamp_ns:
            self.items.popleft()

    def forget(self) -> None:
        self.items.clear()
        self.gaps_ns.clear()
        self.newest_ns = None

    def match(self, stamp_ns: int, slop_ns: int, overdue: bool) -> T | _Waiting | None:
        """Return the message for a stamp, None if there will be none, or `_WAITING`."""
        near = min(self.items, key=lambda pair: abs(pair[0] - stamp_ns), default=None)
        if near is not None and near[0] == stamp_ns:
            return near[1]
        if near is not None and abs(near[0] - stamp_ns) > slop_ns:
            near = None
        fallback = near[1] if near else (self.last if self.topic.latched else None)
        required = not self.topic.optional and fallback is None
        if self.newest_ns is None:
            return _WAITING if required else fallback
        if required:
            return _WAITING if self.newest_ns <= stamp_ns + slop_ns else None
        if overdue or self.newest_ns >= stamp_ns or stamp_ns - self.newest_ns > _SILENT_NS:
            return fallback
        # Nothing nearer can come if even the port's shortest interval leads past the frame.
        useful_until_ns = stamp_ns + (abs(near[0] - stamp_ns) - 1 if near else slop_ns)
        expected_ns = self.newest_ns + min(self.gaps_ns, default=1)
        return _WAITING if expected_ns <= useful_until_ns else fallback


class Synchronizer(Generic[T]):
    """Pairs the messages of a stage's inputs by stamp: one rule for all live hosts.

    `message_filters` cannot serve: its Python module imports rclpy, and two pairing rules would
    make hosts differ. A recording is paired by the same rule in `pairing.RecordingSynchronizer`,
    which knows what is still to come and need not wait.

    The first required input is the *anchor*; every set that comes out belongs to one anchor frame,
    and sets come out in the order of their stamps. The rule for every other input:

    1. A message with the anchor's own stamp is taken at once.
    2. Else the nearest within `slop_s` is taken as soon as nothing nearer can come: a later
       message is there, or even the input's shortest recent interval leads past the anchor.
    3. A `latched` input (a calibration) falls back to its last message of any age.
    4. An `optional` input that has been silent for a second, or that never spoke, is not waited
       for; else it is waited for until `deadline_s` after the anchor arrived, then left out.
    5. A required input is waited for until it has spoken past the anchor without a match; then
       the anchor is dropped and counted as unmatched.

    A second message with the same stamp on the same input is ignored. An anchor older than the
    last set is ignored as late, unless it is more than half a second older: then the clock has
    jumped (a bag loops, a simulation restarts) and everything starts anew. A queue holds at most
    `queue_size` messages; the oldest go first, and what can pair no more goes at once.

    Time is what the host says it is (`now_ns`).

    Args:
        inputs: The stage's inputs that arrive as messages.
        slop_s: Largest difference of stamps, seconds, that still counts as the same moment.
        deadline_s: Longest wait for an optional input, seconds.
        queue_size: Messages remembered per input.

    Raises:
        ValueError: If no input is required.
    """

    def __init__(
        self,
        inputs: Mapping[str, Topic],
        *,
        slop_s: float = SLOP_S,
        deadline_s: float = DEADLINE_S,
        queue_size: int = 30,
    ) -> None:
        self.anchor = anchor_of(inputs)
        self.unmatched = self.late = self.duplicated = self.jumps = 0
        self._slop_ns = round(slop_s * 1e9)
        self._deadline_ns = round(deadline_s * 1e9)
        self._queue_size = queue_size
        self._ports: dict[str, _Port[T]] = {
            port: _Port(topic, queue_size) for port, topic in inputs.items() if port != self.anchor
        }
        self._pending: deque[tuple[int, T, int]] = deque()  # stamp, message, time of arrival
        self._newest_anchor_ns: int | None = None
        self._last_set_ns: int | None = None

    def feed(self, port: str, stamp_ns: int, item: T, now_ns: int) -> list[dict[str, Any]]:
        """Take one message in; return the sets it completes, usually none or one."""
        if port == self.anchor:
            self._add_anchor(stamp_ns, item, now_ns)
        elif not self._ports[port].add(stamp_ns, item):
            self.duplicated += 1
        return self.poll(now_ns)

    def poll(self, now_ns: int) -> list[dict[str, Any]]:
        """Return the sets that are complete now that time has passed."""
        sets = []
        while self._pending:
            stamp_ns, item, arrived_ns = self._pending[0]
            matched = self._match(stamp_ns, overdue=now_ns - arrived_ns >= self._deadline_ns)
            if any(matched[p] is None and not self._ports[p].topic.optional for p in matched):
                self._pending.popleft()
                self.unmatched += 1
                continue
            if any(isinstance(value, _Waiting) for value in matched.values()):
                break
            self._pending.popleft()
            self._last_set_ns = stamp_ns
            for port in self._ports.values():
                port.forget_before(stamp_ns - self._slop_ns)
            sets.append({self.anchor: item, **matched})
        return sets

    def finish(self) -> list[dict[str, Any]]:
        """Return what is complete without waiting any longer, and forget the rest: the end."""
        sets = self.poll(now_ns=1 << 62)
        self.unmatched += len(self._pending)
        self._pending.clear()
        return sets

    def due_ns(self) -> int | None:
        """Return when `poll` may have more without another message; None if nothing waits."""
        return self._pending[0][2] + self._deadline_ns if self._pending else None

    def forget(self, port: str) -> None:
        """Forget what has come in on a port other than the anchor, its last message too."""
        self._ports[port].forget()
        self._ports[port].last = None

    def missing(self) -> list[str]:
        """Return the required inputs from which nothing has come yet."""
        silent = [
            p for p, s in self._ports.items() if s.newest_ns is None and not s.topic.optional
        ]
        return silent if self._newest_anchor_ns is not None else [self.anchor, *silent]

    def _match(self, stamp_ns: int, *, overdue: bool) -> dict[str, T | _Waiting | None]:
        return {
            name: port.match(stamp_ns, self._slop_ns, overdue)
            for name, port in self._ports.items()
        }

    def _add_anchor(self, stamp_ns: int, item: T, now_ns: int) -> None:
        newest_ns = self._newest_anchor_ns
        if newest_ns is not None and stamp_ns < newest_ns - JUMP_NS:
            self._start_anew(stamp_ns)
        elif any(stamp == stamp_ns for stamp, _, _ in self._pending) or (
            stamp_ns == self._last_set_ns
        ):
            self.duplicated += 1
            return
        elif self._last_set_ns is not None and stamp_ns < self._last_set_ns:
            self.late += 1
            return
        newest_ns = self._newest_anchor_ns
        in_order = newest_ns is None or stamp_ns > newest_ns
        self._newest_anchor_ns = stamp_ns if in_order else self._newest_anchor_ns
        self._pending.append((stamp_ns, item, now_ns))
        if not in_order:
            self._pending = deque(sorted(self._pending, key=lambda entry: entry[0]))
        if len(self._pending) > self._queue_size:
            self._pending.popleft()
            self.unmatched += 1

    def _start_anew(self, stamp_ns: int) -> None:
        self.jumps += 1
        self.unmatched += len(self._pending)
        self._pending.clear()
        self._newest_anchor_ns = self._last_set_ns = None
        for port in self._ports.values():
            if port.newest_ns is not None and port.newest_ns > stamp_ns + JUMP_NS:
                port.forget()
