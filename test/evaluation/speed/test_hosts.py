from __future__ import annotations

import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.evaluation.speed import hosts
from depth_refiner_ros.evaluation.speed.hosts import measure_hosts
from depth_refiner_ros.evaluation.speed.timing import Spent
from depth_refiner_ros.hosts.bag import open_bag


def test_hosts_are_told_against_the_stages_and_the_references(clip, tmp_path, monkeypatch):
    ms = {'pipeline': 20, 'bag': 25, 'live': 16, 'librealsense': 10, 'memory_copy': 1}

    def interleaved(contenders, items):
        for number in items:
            for contender in contenders.values():
                contender(number)
            # Three frames a round, and the copy eight times over.
            count = {'memory_copy': 24}
            yield {
                name: Spent(1e-3 * ms[name] * count.get(name, 3), 2e-3 * ms[name] * 3)
                for name in contenders
            }

    monkeypatch.setattr(hosts, 'interleaved', interleaved)
    found = measure_hosts(configure({}), clip, tmp_path, frame_count=3, rounds=2)
    assert list(found) == ['bag', 'live']
    assert found['bag']['wall_ms'] == pytest.approx(25)
    assert found['bag']['cpu_ms'] == pytest.approx(50)
    assert found['bag']['times']['pipeline']['wall'] == pytest.approx(1.25)
    assert found['live']['frames_per_s'] == pytest.approx(62.5)
    assert found['live']['times']['memory_copy']['wall'] == pytest.approx(16)
    assert len(list(tmp_path.iterdir())) == 2  # what was read, and the last that was written


def test_the_bag_host_writes_every_frame_of_what_is_asked(clip, tmp_path):
    only = ('inpaint_depth.depth',)
    measure_hosts(
        configure({}), clip, tmp_path, hosts=('bag',), only=only, frame_count=4, rounds=1
    )
    with open_bag(tmp_path / 'replayed_1.mcap') as reader:
        (connection,) = reader.connections
        assert connection.topic == '/bench/depth_inpainted/image_rect'
        assert connection.msgcount == 4


def test_the_live_host_is_given_every_frame(clip, tmp_path, monkeypatch):
    published = []
    monkeypatch.setattr(hosts, 'encode', lambda value, family: published.append(value) or value)
    configuration = configure({'stages': 'project_points'})
    measure_hosts(configuration, clip, tmp_path, hosts=('live',), frame_count=6, rounds=1)
    stamps_ns = [value.header.stamp_ns for value in published if hasattr(value, 'points_m')]
    assert len(stamps_ns) == 2 * 6  # none was overtaken
    assert len(set(stamps_ns)) == 6


def test_a_frame_that_fails_ends_it(clip, tmp_path, monkeypatch):
    def fail(value, family):
        raise ValueError('no room')

    configuration = configure({'stages': 'project_points'})
    feed = hosts.encode
    calls = iter(range(1000))
    monkeypatch.setattr(
        hosts, 'encode', lambda v, f: feed(v, f) if next(calls) < 4 else fail(v, f)
    )
    with pytest.raises(ValueError, match=r'the live host failed on a frame: .*no room'):
        measure_hosts(configuration, clip, tmp_path, hosts=('live',), frame_count=1, rounds=1)
