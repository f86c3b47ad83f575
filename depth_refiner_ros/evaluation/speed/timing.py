"""Timing contenders in turns, and what is computed from their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import time
from typing import Any, TypeVar

import numpy as np

T = TypeVar('T')

Watch = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes items on while showing how far it got; takes the items, a title and their number."""


def unwatched(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    """Pass items on and show nothing: a `Watch`."""
    return items


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
