from __future__ import annotations

import math

import pytest

from depth_refiner_ros.evaluation.speed.peak_search import PeakSearch


@pytest.mark.parametrize('capacity_hz', [0.3, 7.0, 24.9, 25.1, 400.0])
@pytest.mark.parametrize('guess_hz', [1.0, 25.0, 900.0])
def test_the_search_finds_the_capacity(capacity_hz, guess_hz):
    search, tries = PeakSearch(guess_hz), 0
    while not search.done:
        search.add(search.next_hz <= capacity_hz)
        tries += 1
    assert capacity_hz / 1.05 <= search.low_hz <= capacity_hz
    assert tries <= 5 + abs(math.log(guess_hz / capacity_hz, 1.05**8))


def test_the_search_ends_where_nothing_or_everything_is_sustained():
    nothing, everything = PeakSearch(20), PeakSearch(20)
    while not nothing.done:
        nothing.add(False)
    while not everything.done:
        everything.add(True)
    assert nothing.low_hz == 0
    assert everything.low_hz == 2000
