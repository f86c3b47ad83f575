from __future__ import annotations

import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.evaluation.speed import bag_parts
from depth_refiner_ros.evaluation.speed.bag_parts import measure_bag_parts
from depth_refiner_ros.evaluation.speed.timing import Spent


def test_parts_of_a_replay_are_told_for_a_frame(clip, tmp_path, monkeypatch):
    ms = {'read': 8, 'decode': 2, 'pairing': 1, 'encode': 6, 'encode_and_write': 20}

    def interleaved(contenders, items):
        assert list(contenders) == list(ms)
        for item in items:
            for contender in contenders.values():
                contender(item)
            # The first round finds nothing in the page cache, and does not count.
            slower = 10 if item == 0 else 1
            yield {name: Spent(3e-3 * slower * m, 6e-3 * m) for name, m in ms.items()}

    monkeypatch.setattr(bag_parts, 'interleaved', interleaved)
    found = measure_bag_parts(configure({}), clip, tmp_path, frame_count=3, rounds=2)
    assert {name: spent['wall_ms'] for name, spent in found.items()} == pytest.approx(ms)
    assert found['read']['cpu_ms'] == pytest.approx(16)
    assert len(list(tmp_path.iterdir())) == 2  # what was read, and the last that was written
