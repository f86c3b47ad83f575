"""What is computed from times, with times made up; no test asks how fast anything is."""

from __future__ import annotations

import pytest

from depth_refiner_ros.evaluation.speed import timing
from depth_refiner_ros.evaluation.speed.timing import Spent


class Clocks:
    """Time that passes only when somebody works: on two threads, of which one waits half of it."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return Spent(self.now_s, 1.5 * self.now_s)


def working(clocks, seconds_of, calls):
    def contender(name):
        def work(item):
            calls.append((name, item))
            clocks.now_s += seconds_of[name][item]

        return work

    return {name: contender(name) for name in seconds_of}


def test_contenders_take_turns_and_each_begins_a_round():
    clocks, calls = Clocks(), []
    seconds_of = {'slow': {0: 4.0, 1: 40.0, 2: 6.0}, 'fast': {0: 2.0, 1: 10.0, 2: 2.0}}
    contenders = working(clocks, seconds_of, calls)
    rounds = list(timing.interleaved(contenders, [0, 1, 2], read=clocks))
    assert calls == [
        ('slow', 0),
        ('fast', 0),
        ('fast', 1),
        ('slow', 1),
        ('slow', 2),
        ('fast', 2),
    ]
    assert [r['slow'] for r in rounds] == [(4, 6), (40, 60), (6, 9)]
    assert [r['fast'] for r in rounds] == [(2, 3), (10, 15), (2, 3)]
    # Round by round 2, 4 and 3; what slowed the second round down slowed both.
    found = timing.figures([r['slow'] for r in rounds], {'fast': [r['fast'] for r in rounds]})
    assert found == {
        'wall_ms': 6000,
        'cpu_ms': 9000,
        'p99_ms': pytest.approx(39_320),
        'min_ms': 4000,
        'times': {'fast': {'wall': 3, 'cpu': 3}},
    }


def test_a_ratio_is_of_rounds_not_of_medians():
    # Medians 5 and 4 would make 1.25.
    assert timing.ratio([1, 5, 9], [4, 1, 9]) == 1


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match='2 rounds cannot be compared with 3'):
        timing.ratio([1, 2], [1, 2, 3])


def test_what_is_short_is_repeated_and_reported_for_one(monkeypatch):
    clocks, calls = Clocks(), []
    contenders = working(
        clocks, {'long': {'a': 9.0, 'b': 8.0}, 'short': {'a': 2.0, 'b': 4}}, calls
    )
    monkeypatch.setattr(timing.interleaved, '__kwdefaults__', {'read': clocks})
    found = timing.in_turns(contenders, ['a', 'b'], ['b'])
    # At their best 8 s against 2 s: four of the short one in a round.
    assert calls[4:] == [('long', 'b')] + 4 * [('short', 'b')]
    assert found == {'long': [(8, 12)], 'short': [(4, 6)]}
