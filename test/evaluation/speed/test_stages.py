from __future__ import annotations

import json
import sys

import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.evaluation.speed import stages
from depth_refiner_ros.evaluation.speed.stages import measure_stages

WIDTH, HEIGHT = 32, 24

MADE_UP_S = {'pipeline': 0.060, 'memory_copy': 0.003, 'librealsense': 0.020}


@pytest.fixture
def made_up_rounds(monkeypatch):
    """Runs the contenders, but says they took what `MADE_UP_S` says, and in one round 10 times
    as long; returns how often each reference is called."""
    called = dict.fromkeys(MADE_UP_S, 0)

    def counted(name):
        def call(*arguments):
            called[name] += 1

        return call

    class Copy:
        megabytes = 1.0

        def __init__(self, frame, outputs):
            pass

        __call__ = staticmethod(counted('memory_copy'))

    def interleaved(contenders, items):
        for number, item in enumerate(items):
            spent_s = {}
            for name, contender in contenders.items():
                before = called.get(name, 0)
                contender(item)
                calls = max(called.get(name, 0) - before, 1)
                spent_s[name] = MADE_UP_S[name] * calls * (10 if number == 6 else 1)
            yield spent_s

    def fastest_s(contender, items):
        if isinstance(contender, Copy):
            return MADE_UP_S['memory_copy']
        for item in items:
            contender(item)
        return 0.060 if contender.__name__ == 'run' else MADE_UP_S['librealsense']

    monkeypatch.setattr(stages, 'interleaved', interleaved)
    monkeypatch.setattr(stages, 'fastest_s', fastest_s)
    monkeypatch.setattr(stages, 'MemoryCopy', Copy)
    monkeypatch.setattr(stages, 'librealsense', lambda frame: counted('librealsense'))


@pytest.mark.usefixtures('made_up_rounds')
def test_stages_and_their_ratios(clip):
    found = measure_stages(configure({}), clip, rounds=8)
    assert list(found) == ['stages', 'pipeline', 'ratios']
    assert list(found['stages']) == ['refine_depth', 'inpaint_depth', 'project_points']
    for spent in found['stages'].values():
        assert 0 < spent['min_ms'] <= spent['median_ms'] <= spent['p99_ms']
    assert found['pipeline']['median_ms'] == pytest.approx(60)
    assert found['pipeline']['cpu_ms'] >= 0
    copy, chain = found['ratios']['memory_copy'], found['ratios']['librealsense']
    # Repeated to last as long as the pipeline, reported for one.
    assert (copy['repeats'], chain['repeats']) == (20, 3)
    assert copy['median_ms'] == pytest.approx(3)
    assert chain['median_ms'] == pytest.approx(20)
    times = copy['times']['pipeline']
    assert times == pytest.approx({'median': 20, 'q25': 20, 'q75': 20, 'of_minima': 20})
    assert chain['times']['pipeline']['median'] == pytest.approx(3)
    assert set(chain['times']) == {'pipeline', *found['stages']}
    assert chain['reason'] is None
    json.dumps(found, allow_nan=False)


def test_the_copy_has_the_bytes_of_inputs_and_outputs(clip, monkeypatch):
    monkeypatch.setattr(stages, 'librealsense', lambda frame: 'not here')
    found = measure_stages(configure({'stages': 'refine_depth'}), clip, rounds=1)
    # Depth and colour in; depth, standard deviation and provenance out.
    megabytes = HEIGHT * WIDTH * (4 + 3 + 4 + 4 + 1) / 1e6
    assert f'{megabytes:.2f} MB' in found['ratios']['memory_copy']['what']


def test_without_librealsense_the_ratio_is_null_and_says_why(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyrealsense2', None)
    found = measure_stages(configure({'stages': 'project_points'}), clip, rounds=1)
    chain = found['ratios']['librealsense']
    assert chain['median_ms'] is None
    assert chain['times'] is None
    assert 'pip install' in chain['reason']


def test_librealsense_takes_part_where_it_is_installed(clip):
    pytest.importorskip('pyrealsense2')
    found = measure_stages(configure({'stages': 'project_points'}), clip, rounds=2)
    assert found['ratios']['librealsense']['times']['pipeline']['median'] > 0
