from __future__ import annotations

import json
import sys

import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.evaluation.speed import references, stages
from depth_refiner_ros.evaluation.speed.stages import measure_stages
from depth_refiner_ros.evaluation.speed.timing import Spent

WIDTH, HEIGHT = 32, 24


def test_stages_and_their_ratios(clip, monkeypatch):
    """With times made up: 60 ms for the pipeline on 1.5 threads, 3 and 20 for the references."""
    made_up_s = {'pipeline': 0.060, 'memory_copy': 0.003, 'librealsense': 0.020}
    called = []

    def in_turns(contenders, warm_up, items, watch, title):
        assert (len(warm_up), len(items)) == (5, 8)
        for item in (*warm_up, *items):
            contenders['pipeline'](item)
        contenders['librealsense'](items[0])
        return {name: [Spent(s, 1.5 * s)] * len(items) for name, s in made_up_s.items()}

    monkeypatch.setattr(stages, 'in_turns', in_turns)
    monkeypatch.setattr(references, 'librealsense', lambda frame: called.append)
    found = measure_stages(configure({}), clip, rounds=8)
    assert list(found) == ['stages', 'pipeline', 'back_ends', 'references']
    assert list(found['stages']) == ['refine_depth', 'inpaint_depth', 'project_points']
    for spent in found['stages'].values():
        assert 0 < spent['min_ms'] <= spent['wall_ms'] <= spent['p99_ms']
        assert spent['cpu_ms'] >= 0
        assert set(spent['times']) == {'memory_copy', 'librealsense'}
    assert found['pipeline']['wall_ms'] == pytest.approx(60)
    assert found['pipeline']['cpu_ms'] == pytest.approx(90)
    copy, chain = found['references']['memory_copy'], found['references']['librealsense']
    assert copy['wall_ms'] == pytest.approx(3)
    assert (chain['wall_ms'], chain['cpu_ms']) == pytest.approx((20, 30))
    times = found['pipeline']['times']
    assert times['memory_copy'] == pytest.approx({'wall': 20, 'cpu': 20})
    assert times['librealsense'] == pytest.approx({'wall': 3, 'cpu': 3})
    assert chain['reason'] is None
    assert 'depth' in called[0]
    json.dumps(found, allow_nan=False)


def test_the_copy_has_the_bytes_of_inputs_and_outputs(clip, monkeypatch):
    monkeypatch.setattr(references, 'librealsense', lambda frame: 'not here')
    found = measure_stages(configure({'stages': 'refine_depth'}), clip, rounds=1)
    # Depth and colour in; depth, standard deviation and provenance out.
    megabytes = HEIGHT * WIDTH * (4 + 3 + 4 + 4 + 1) / 1e6
    assert f'{megabytes:.2f} MB' in found['references']['memory_copy']['what']


def test_without_librealsense_the_ratio_is_null_and_says_why(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyrealsense2', None)
    found = measure_stages(configure({'stages': 'project_points'}), clip, rounds=1)
    assert 'pip install' in found['references']['librealsense']['reason']
    assert set(found['pipeline']['times']) == {'memory_copy'}


def test_librealsense_takes_part_where_it_is_installed(clip):
    pytest.importorskip('pyrealsense2')
    found = measure_stages(configure({'stages': 'project_points'}), clip, rounds=2)
    assert found['pipeline']['times']['librealsense']['cpu'] > 0
