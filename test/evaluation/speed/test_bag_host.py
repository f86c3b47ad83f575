from __future__ import annotations

import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.evaluation.speed import bag_host
from depth_refiner_ros.evaluation.speed.bag_host import measure_bag_host
from depth_refiner_ros.hosts.bag import open_bag

WIDTH, HEIGHT = 32, 24


def test_bag_host_reports_what_is_on_top_of_the_stages(clip, tmp_path, monkeypatch):
    ms = {
        'replay': 1e6,
        'pipeline': 8e5,
        'read': 8,
        'decode': 2,
        'pairing': 1,
        'encode': 6,
        'encode_and_write': 20,
    }

    def interleaved(contenders, items):
        assert list(contenders) == list(ms)
        for item in items:
            for contender in contenders.values():
                contender(item)
            yield {name: 3 * spent_ms / 1e3 for name, spent_ms in ms.items()}

    monkeypatch.setattr(bag_host, 'interleaved', interleaved)
    found = measure_bag_host(configure({}), clip, tmp_path, frame_count=3, rounds=2)
    assert found['frame_ms'] == pytest.approx(1e6)
    assert 0 < found['stages_ms'] < 1e6
    assert found['parts_ms'] == pytest.approx(
        {'read_and_decode': 10, 'pairing': 1, 'encode': 6, 'write': 14}
    )
    assert found['on_top_ms'] + found['stages_ms'] == pytest.approx(1e6)
    assert found['on_top_percent'] > 0
    assert found['times_pipeline']['median'] == pytest.approx(1.25)
    assert (found['frames'], found['rounds']) == (3, 2)
    # Two depths, two deviations and two provenances, and points of 12 bytes and their colour.
    assert found['written_mb_per_frame'] == WIDTH * HEIGHT * (2 * (4 + 4 + 1) + 12 + 3) / 1e6
    assert len(list(tmp_path.iterdir())) == 3  # what was read, and the last of both written


def test_bag_host_replays_every_frame_and_writes_what_is_asked(clip, tmp_path):
    only = ('inpaint_depth.depth',)
    measure_bag_host(configure({}), clip, tmp_path, only=only, frame_count=4, rounds=1)
    with open_bag(tmp_path / 'replayed_1.mcap') as reader:
        (connection,) = reader.connections
        assert connection.topic == '/bench/depth_inpainted/image_rect'
        assert connection.msgcount == 4
