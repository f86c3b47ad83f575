"""Timing contenders in turns, and what is computed from their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import time
from typing import Any, NamedTuple, TypeVar

import numpy as np

T = TypeVar('T')

Watch = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes items on while showing how far it got; takes the items, a title and their number."""


def unwatched(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    """Pass items on and show nothing: a `Watch`."""
    return items


class Spent(NamedTuple):
    """Seconds by the clock, and of processor time of all threads of the process."""

    wall_s: float
    cpu_s: float

    def since(self, before: Spent) -> Spent:
        """Return what passed between two readings."""
        return Spent(self.wall_s - before.wall_s, self.cpu_s - before.cpu_s)

    def shared(self, count: int) -> Spent:
        """Return the part of one of several that were timed together."""
        return Spent(self.wall_s / count, self.cpu_s / count)


def clocks() -> Spent:
    """Read both clocks."""
    return Spent(time.perf_counter(), time.process_time())


def interleaved(
    contenders: Mapping[str, Callable[[T], object]],
    items: Iterable[T],
    *,
    read: Callable[[], Spent] = clocks,
) -> Iterator[dict[str, Spent]]:
    """Time contenders in turns: all of them on the first item, then on the second, and so on.

    Every round begins with another contender, for each leaves the caches to the next.

    Yields:
        What each contender took in one round.
    """
    names = list(contenders)
    for number, item in enumerate(items):
        first = number % len(names)
        spent = {}
        for name in names[first:] + names[:first]:
            started = read()
            contenders[name](item)
            spent[name] = read().since(started)
        yield spent


def ratio(seconds: Sequence[float], reference_s: Sequence[float]) -> float:
    """Return the median of the ratios of rounds.

    Raises:
        ValueError: If the two were not timed in the same rounds.
    """
    if len(seconds) != len(reference_s):
        raise ValueError(f'{len(seconds)} rounds cannot be compared with {len(reference_s)}')
    # A clock may be too coarse for what is very short.
    return float(np.median(np.array(seconds) / np.maximum(reference_s, 1e-9)))


def figures(
    rounds: Sequence[Spent], references: Mapping[str, Sequence[Spent]] | None = None
) -> dict[str, Any]:
    """Return what is reported of something that was timed in rounds.

    Args:
        rounds: What it took in each.
        references: What others took in the same rounds, by name.

    Returns:
        `wall_ms` and `cpu_ms`, medians; `p99_ms` and `min_ms` by the clock; and `times` by
        reference: how many times as long, `wall` and `cpu`.
    """
    wall_s, cpu_s = np.array(rounds).T
    return {
        'wall_ms': 1e3 * float(np.median(wall_s)),
        'cpu_ms': 1e3 * float(np.median(cpu_s)),
        'p99_ms': 1e3 * float(np.percentile(wall_s, 99)),
        'min_ms': 1e3 * float(wall_s.min()),
        'times': {
            name: {
                'wall': ratio(wall_s, [spent.wall_s for spent in others]),
                'cpu': ratio(cpu_s, [spent.cpu_s for spent in others]),
            }
            for name, others in (references or {}).items()
        },
    }


def in_turns(
    contenders: Mapping[str, Callable[[T], object]],
    warm_up: Sequence[T],
    items: Sequence[T],
    watch: Watch = unwatched,
    title: str = '',
) -> dict[str, list[Spent]]:
    """Time contenders in turns, each repeated until it takes as long as the first of them.

    Other programs interrupt what takes long and miss what is short: only what takes equally long
    is disturbed equally.

    Args:
        contenders: What to time.
        warm_up: What each is called with beforehand, which tells how long it takes.
        items: What each is timed with, in turns.
        watch: See `Watch`.
        title: What is shown.

    Returns:
        What one call of each took, round by round.
    """
    tried = {
        name: [spent[name] for spent in interleaved({name: contender}, warm_up)]
        for name, contender in contenders.items()
    }
    shortest_s = {name: min(spent.wall_s for spent in rounds) for name, rounds in tried.items()}
    longest_s = next(iter(shortest_s.values()))
    counts = {name: max(1, round(longest_s / seconds)) for name, seconds in shortest_s.items()}
    repeating = {name: repeated(work, counts[name]) for name, work in contenders.items()}
    spent = list(watch(interleaved(repeating, items), title, len(items)))
    return {name: [each[name].shared(count) for each in spent] for name, count in counts.items()}


def repeated(contender: Callable[[T], object], count: int) -> Callable[[T], None]:
    """Return a contender that does the same several times."""

    def repeat(item: T) -> None:
        for _ in range(count):
            contender(item)

    return repeat
