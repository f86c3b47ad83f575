from __future__ import annotations

import json
import math
import threading

import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import PinholeCamera
from depth_refiner_ros.evaluation.speed import live_host
from depth_refiner_ros.evaluation.speed.clips import Clip
from depth_refiner_ros.evaluation.speed.live_host import Run, live_run, measure_live_host


def run(sent_s, received_s, rate_hz=10.0, **changes):
    return Run(rate_hz, sent_s, received_s, wall_s=0.5, cpu_s=0.2, **changes)


def test_figures_of_a_run():
    # Frame 2 is missed; results come after 20, 20, 50 and 30 ms.
    found = run([0, 0.1, 0.2, 0.3, 0.4], {0: 0.02, 1: 0.12, 3: 0.35, 4: 0.43}).metrics()
    assert found['sent_hz'] == pytest.approx(10)
    assert found['received_hz'] == pytest.approx(3 / 0.41)
    assert (found['sent'], found['missed'], found['missed_percent']) == (5, 1, 20)
    assert found['latency_ms']['mean'] == pytest.approx(30)
    assert found['latency_ms']['p50'] == pytest.approx(25)
    assert found['latency_ms']['max'] == pytest.approx(50)
    # Intervals of 100, 230 and 80 ms: changes of 130 and 150 ms.
    assert found['jitter_ms']['mean'] == pytest.approx(140)
    assert found['jitter_ms']['min'] == pytest.approx(130)
    assert found['jitter_ms']['max'] == pytest.approx(150)
    assert found['cpu_percent'] == pytest.approx(40)
    assert found['rss_growth_mb'] is None


@pytest.mark.parametrize('received_s', [{}, {3: 1.0}, {3: 1.0, 4: 1.1}])
def test_a_run_with_too_few_results_says_null(received_s):
    found = run([i / 10 for i in range(20)], received_s).metrics()
    assert found['jitter_ms'] is None
    assert (found['latency_ms'] is None) == (not received_s)
    assert (found['received_hz'] is None) == (len(received_s) < 2)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(('missed', 'sustained'), [(0, True), (4, True), (5, False), (60, False)])
def test_a_rate_is_sustained_with_fewer_than_5_percent_missed(missed, sustained):
    sent_s = [i / 10 for i in range(100)]
    received_s = {i: at_s + 0.01 for i, at_s in enumerate(sent_s[: 100 - missed])}
    assert run(sent_s, received_s).sustained is sustained


def test_a_rate_that_could_not_be_sent_is_not_sustained():
    sent_s = [i / 9 for i in range(100)]
    everything = dict(enumerate(sent_s))
    assert not run(sent_s, everything).sustained
    assert run(sent_s, everything, rate_hz=9.2).sustained


def consumer(capacity_hz):
    """A `live_run` that takes 1 / capacity_hz for a frame and keeps the newest waiting, without
    a clock."""
    runs = []

    def live_run(configuration, clip, rate_hz, seconds, *, only=()):
        count = max(math.ceil(seconds * rate_hz), 20)
        sent_s = [i / rate_hz for i in range(count)]
        received_s, free_s, waiting = {}, 0.0, None
        for number, at_s in enumerate([*sent_s, math.inf]):
            if waiting is not None and free_s <= at_s:
                free_s = max(free_s, sent_s[waiting]) + 1 / capacity_hz
                received_s[waiting] = free_s
                waiting = None
            if at_s < math.inf:
                waiting = number
        runs.append((rate_hz, seconds))
        return Run(rate_hz, sent_s, received_s, max(seconds, 1e-9), 0.1)

    return live_run, runs


@pytest.mark.parametrize('capacity_hz', [12.0, 24.0, 80.0])
def test_peak_of_a_consumer_of_known_capacity(clip, monkeypatch, capacity_hz):
    live_run, runs = consumer(capacity_hz)
    monkeypatch.setattr(live_host, 'live_run', live_run)
    found = measure_live_host(configure({}), clip, guess_hz=20.0, seconds=10.0)
    # Up to 5 % may be missed at the peak, and the search stops within 5 %.
    assert 0.95 * capacity_hz <= found['peak_hz'] <= 1.01 * capacity_hz
    assert found['peak']['sustained']
    assert list(found['at']) == ['10_hz', '30_hz']
    assert found['at']['10_hz']['missed'] == 0
    assert found['at']['30_hz']['sustained'] is (capacity_hz >= 30)
    assert [hz for hz, _ in runs[-2:]] == [10, 30]
    assert runs[0] == (20, 5)  # the trial
    assert len(found['tried']) == len(runs) - 3
    json.dumps(found, allow_nan=False)


def test_no_peak_where_no_rate_is_sustained(clip, monkeypatch):
    live_run, _ = consumer(1e-3)
    monkeypatch.setattr(live_host, 'live_run', live_run)
    found = measure_live_host(configure({}), clip, guess_hz=1.0, seconds=1.0)
    assert found['peak_hz'] is None
    assert found['peak'] is None


def test_a_peak_that_does_not_hold_for_long_is_lowered(clip, monkeypatch):
    def live_run(configuration, clip, rate_hz, seconds, *, only=()):
        capacity_hz = 20 if seconds > 1 else 22
        sent_s = [i / rate_hz for i in range(100)]
        come = 100 if rate_hz <= capacity_hz else 50
        return Run(rate_hz, sent_s, {i: sent_s[i] + 0.01 for i in range(come)}, 1, 1)

    monkeypatch.setattr(live_host, 'live_run', live_run)
    found = measure_live_host(configure({}), clip, guess_hz=22.0, seconds=2.0)
    assert found['peak']['sustained']
    assert 20 / 1.05**2 <= found['peak']['rate_hz'] <= 20
    assert any(not t['sustained'] and t['rate_hz'] <= 22 for t in found['tried'])


def test_a_live_run_accounts_for_every_frame(clip):
    configuration = configure({'stages': 'project_points'})
    done = live_run(configuration, clip, rate_hz=200.0, seconds=0.1)
    assert len(done.sent_s) == 20
    assert 0 < len(done.received_s) <= 20
    assert all(at_s > done.sent_s[i] for i, at_s in done.received_s.items())
    assert list(done.received_s) == sorted(done.received_s)
    assert done.wall_s >= 19 / 200
    assert done.cpu_s > 0


def test_a_live_run_that_fails_says_why(clip):
    broken = Clip(
        'broken', [clip.values[0], {**clip.values[0], **_smaller(clip)}], clip.transforms
    )
    with pytest.raises(ValueError, match=r'failed on \d+ of 20 frames: .* 8x6'):
        live_run(configure({'stages': 'project_points'}), broken, 500.0, 0.01)


def _smaller(clip):
    header = clip.values[0]['camera'].header
    return {'camera': PinholeCamera(header, 8, 6, 20.0, 20.0, 4.0, 3.0)}


def test_an_interrupted_live_run_leaves_no_thread(clip, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(live_host, '_drain', interrupt)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        live_run(configure({'stages': 'project_points'}), clip, 500.0, 0.01)
    assert threading.active_count() == before
