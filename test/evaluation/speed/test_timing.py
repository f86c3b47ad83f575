"""What is computed from times, with times made up; no test asks how fast anything is."""

from __future__ import annotations

import pytest

from depth_refiner_ros.evaluation.speed import timing


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_contenders_take_turns_and_each_begins_a_round():
    clock, calls = Clock(), []

    def contender(name, seconds_of):
        def work(item):
            calls.append((name, item))
            clock.now_s += seconds_of[item]

        return work

    slow, fast = {0: 4.0, 1: 40.0, 2: 6.0}, {0: 2.0, 1: 10.0, 2: 2.0}
    contenders = {'slow': contender('slow', slow), 'fast': contender('fast', fast)}
    rounds = list(timing.interleaved(contenders, [0, 1, 2], clock=clock))
    assert calls == [
        ('slow', 0),
        ('fast', 0),
        ('fast', 1),
        ('slow', 1),
        ('slow', 2),
        ('fast', 2),
    ]
    assert [r['slow'] for r in rounds] == [4, 40, 6]
    assert [r['fast'] for r in rounds] == [2, 10, 2]
    # Round by round 2, 4 and 3; what slowed the second round down slowed both.
    found = timing.ratio([r['slow'] for r in rounds], [r['fast'] for r in rounds])
    assert found == {'median': 3, 'q25': 2.5, 'q75': 3.5, 'of_minima': 2}


def test_a_ratio_is_of_rounds_not_of_medians():
    # Medians 5 and 4 would make 1.25.
    assert timing.ratio([1, 5, 9], [4, 1, 9])['median'] == 1


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match='2 rounds cannot be compared with 3'):
        timing.ratio([1, 2], [1, 2, 3])


def test_times_are_milliseconds():
    found = timing.spread_ms([0.010, 0.030, 0.020])
    assert found == pytest.approx({'median_ms': 20, 'p99_ms': 29.8, 'min_ms': 10})


def test_a_repeated_contender_repeats():
    items = []
    timing.repeated(items.append, 3)('a')
    assert items == ['a', 'a', 'a']


def test_the_fastest_of_some_times(monkeypatch):
    rounds = [{'': 3.0}, {'': 1.0}, {'': 2.0}]
    monkeypatch.setattr(timing, 'interleaved', lambda contenders, items: iter(rounds))
    assert timing.fastest_s(print, []) == 1
