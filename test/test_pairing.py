from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.data import ColorImage, DepthImage, PinholeCamera
from depth_refiner_ros.pairing import RecordingSynchronizer, Stream
from depth_refiner_ros.stage import Topic

MS = 1_000_000
INPUTS = {
    'depth': Topic(DepthImage, 'depth'),
    'camera': Topic(PinholeCamera, 'camera', latched=True),
    'color': Topic(ColorImage, 'color', optional=True),
}


def stream(stamps_ms, log_ms=None, sizes=None):
    found = Stream()
    log_ms = stamps_ms if log_ms is None else log_ms
    for i, (stamp_ms, at_ms) in enumerate(zip(stamps_ms, log_ms, strict=True)):
        found.add(round(stamp_ms * MS), round(at_ms * MS), sizes[i] if sizes else None)
    return found


def paired(depth, camera=None, color=None, **options):
    streams = {'depth': depth, 'camera': camera or stream([0, 1]), 'color': color or stream([])}
    return RecordingSynchronizer(INPUTS, streams, slop_s=0.02, **options)


def numbers(synchronizer, port):
    return [s.numbers[port] for s in synchronizer.sets]


def test_own_stamp_then_nearest_then_none():
    depth = stream([100, 200, 300, 400])
    found = paired(depth, color=stream([90, 100, 185, 210, 325]))
    assert numbers(found, 'color') == [1, 3, None, None]


@pytest.mark.parametrize('seed', range(20))
def test_the_partner_is_what_a_search_over_all_finds(seed):
    rng = np.random.default_rng(seed)
    depth_ms = np.sort(rng.choice(3000, 60, replace=False)) + 1
    color_ms = rng.choice(3000, 80, replace=False) + 1
    logs_ms = rng.integers(0, 10_000, 80)
    found = paired(stream(depth_ms, depth_ms), color=stream(color_ms, logs_ms))
    assert numbers(found, 'depth') == list(range(60))
    for got, at_ms in zip(numbers(found, 'color'), depth_ms, strict=True):
        distance_ms = np.abs(color_ms - at_ms)
        if got is None:
            assert distance_ms.min() > 20
        else:
            assert distance_ms[got] == distance_ms.min() <= 20


def test_a_calibration_before_the_frame_else_the_first_after_it():
    depth = stream([0, 100, 200, 300, 400, 500])
    assert numbers(paired(depth, stream([210, 390])), 'camera') == [0, 0, 0, 0, 1, 1]
    # by stamps, whenever it was recorded
    assert numbers(paired(depth, stream([210, 390], [9000, 8000])), 'camera') == [0, 0, 0, 0, 1, 1]


def test_a_calibration_of_the_images_size():
    sizes = [(4, 6)] * 3 + [(2, 3)] * 3
    depth = stream([0, 100, 200, 300, 400, 500], sizes=sizes)
    camera = stream([0, 450], sizes=[(4, 6), (2, 3)])
    assert numbers(paired(depth, camera, sized='camera'), 'camera') == [0, 0, 0, 1, 1, 1]
    assert numbers(paired(depth, camera), 'camera') == [0, 0, 0, 0, 0, 1]
    # none fits: the rule as ever
    camera = stream([0, 450], sizes=[(4, 6), (8, 8)])
    assert numbers(paired(depth, camera, sized='camera'), 'camera') == [0, 0, 0, 0, 0, 1]


def test_frames_without_a_required_partner_are_counted():
    inputs = {'depth': INPUTS['depth'], 'right': Topic(DepthImage, 'right')}
    streams = {'depth': stream([0, 100, 200]), 'right': stream([0, 150, 210])}
    found = RecordingSynchronizer(inputs, streams, slop_s=0.02)
    assert [s.numbers for s in found.sets] == [
        {'depth': 0, 'right': 0},
        {'depth': 2, 'right': 2},
    ]
    assert (found.unmatched, found.duplicated) == (1, 0)


def test_frames_come_in_the_order_of_their_stamps():
    found = paired(stream([0, 66, 33, 99], [0, 34, 67, 99]))
    assert numbers(found, 'depth') == [0, 2, 1, 3]
    assert [s.log_ns for s in found.sets] == [n * MS for n in (0, 67, 67, 99)]


def test_copies_are_duplicates_and_frames_of_one_stamp_are_not():
    twice = stream(np.repeat([0, 33, 66, 99], 2), [0, 0.1, 33, 33.1, 66, 66.1, 99, 99.1])
    found = paired(twice)
    assert numbers(found, 'depth') == [0, 2, 4, 6]
    assert found.duplicated == 4
    coarse = stream([0, 0, 66, 66, 132, 132], [0, 33, 66, 99, 132, 165])
    found = paired(coarse)
    assert numbers(found, 'depth') == list(range(6))
    assert found.duplicated == 0


@pytest.mark.parametrize('length', [5, 50])
def test_a_recording_that_loops_keeps_both_rounds_apart(length):
    stamps = [1000 + 33 * i for i in range(length)]
    logs = [*stamps, *(stamp + 5000 for stamp in stamps)]
    twice = stream(stamps * 2, logs)
    found = paired(twice, twice, twice)
    assert found.duplicated == 0
    for port in INPUTS:
        assert numbers(found, port) == list(range(2 * length))


@pytest.mark.parametrize('stamp', [0, 1_700_000_000_000])
def test_streams_without_stamps_are_paired_by_the_time_of_recording(stamp):
    logs = [5000 + 33 * i for i in range(6)]
    still = [stamp] * 6
    found = paired(stream(still, logs), stream(still, logs), stream(still, [t + 5 for t in logs]))
    assert found.unstamped == ['depth', 'camera', 'color']
    for port in INPUTS:
        assert numbers(found, port) == list(range(6))


def test_only_the_calibration_lacks_stamps():
    logs = [5000 + 33 * i for i in range(6)]
    found = paired(stream([t - 3 for t in logs], logs), stream([0] * 6, logs))
    assert found.unstamped == ['camera']
    assert numbers(found, 'camera') == list(range(6))


def test_a_recording_without_frames():
    assert paired(stream([]), stream([])).sets == []
    found = paired(stream([1, 2]), stream([]))
    assert found.sets == []
    assert found.unmatched == 2
