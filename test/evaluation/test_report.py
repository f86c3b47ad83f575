from __future__ import annotations

from html.parser import HTMLParser
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from depth_refiner_ros.evaluation import machine, report
from depth_refiner_ros.evaluation.run import Job, evaluate
from depth_refiner_ros.evaluation.workers import do
from depth_refiner_ros.pictures import read_png

HOLE = np.s_[10:20, 10:30]
CLASSICAL = 'classical=refine_depth,inpaint_depth'


def strict(text):
    def refuse(constant):
        raise AssertionError(f'{constant} is not JSON')

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def result(folder, wall, tmp_path):
    truth = wall()
    truth[HOLE] = 2100
    path = folder('x', [wall(hole=HOLE), None], {0: truth}, color=True, note='a wall')
    return do(Job(str(path), ('raw', 'nearest', CLASSICAL)), tmp_path)


def test_what_is_undefined_is_null(result):
    text = json.dumps(result, allow_nan=False)
    assert strict(text) == result
    raw = result['contenders']['raw']
    assert raw['metrics']['hole.mae_mm'] is None
    assert raw['metrics']['hole.coverage'] == 0
    assert raw['by_frame']['000']['hole.mae_mm'] is None
    assert raw['by_distance'][-1]['to_m'] is None  # endless
    assert result['corrupt'][0]['frame'] == '001'
    assert result['contenders']['classical']['stages'] == ['refine_depth', 'inpaint_depth']
    assert 'refine_depth.sensor' in result['contenders']['classical']['parameters']
    assert (result['frames'], result['scored'], result['draws']) == (2, 1, 1)


def test_latencies_are_all_in_the_histogram(result):
    for c in result['contenders'].values():
        latency = c['latency']
        assert len(latency['edges_ms']) == len(latency['counts']) + 1 == 21
        assert sum(latency['counts']) == 1
        low_ms, high_ms = latency['edges_ms'][0], latency['edges_ms'][-1]
        assert low_ms - 1e-3 <= c['metrics']['latency_p50_ms'] <= high_ms + 1e-3  # rounded


def test_an_evaluation_of_nothing_is_json(folder, wall):
    evaluation = evaluate(Job(str(folder('x', [wall()])), ('raw',)))
    found = report.summary(evaluation)
    assert strict(json.dumps(found, allow_nan=False))['scored'] == 0
    head, rows = report.rows(found)
    assert head == ['', 'flying'] or head == ['']
    assert rows[0][0] == 'raw'


def test_markdown(result):
    text = report.markdown([result])
    lines = text.splitlines()
    assert lines[0] == '### x'
    assert '1 of 2 frames scored' in text
    assert 'Note: a wall' in text
    (nearest,) = [line for line in lines if line.startswith('| nearest ')]
    assert nearest.startswith('| nearest | 100.0 | 1.000 | 1.000 | 0.0 |')
    (raw,) = [line for line in lines if line.startswith('| raw ')]
    assert raw.startswith('| raw | - | - | 0.000 | 0.0 |')
    table = [line for line in lines if line.startswith('|')]
    assert len({line.count('|') for line in table}) == 1
    assert 'Frame 001 left out: ' in text
    # what a reader may compare it with counts unfilled pixels as misses
    assert 'unfilled ones do not count here but in the next column' in text


def test_names_cannot_break_the_table(result):
    result['contenders'] = {'a|b': result['contenders']['nearest']}
    assert '| a\\|b | 100.0 |' in report.markdown([result])


def test_many_corrupt_frames_are_counted(result):
    result['corrupt'] = [{'frame': str(i), 'reason': 'bad'} for i in range(300)]
    said = report.left_out(result)
    assert len(said) == 6
    assert said[-1] == '295 more are left out; metrics.json names them.'


def test_draws_are_said(result):
    result['draws'] = 3
    assert report.caption(result).endswith('1 of 2 frames scored, 3 times.')


def test_pictures_are_those_of_the_chosen_frames(result, tmp_path):
    assert list(result['pictures']) == ['best', 'median', 'worst']
    for name in result['pictures'].values():
        rgb = read_png(tmp_path / name)
        assert rgb.shape[1] == 4 * 370 + 10
        assert (rgb == (213, 94, 0)).all(axis=2).any()  # inpainted


def test_punched_pictures_have_no_error_before(folder, wall, tmp_path, monkeypatch):
    drawn = []
    sheet = report.pictures.sheet

    def spy(rows, **options):
        drawn.append([[panel.title for panel in row] for row in rows])
        return sheet(rows, **options)

    monkeypatch.setattr(report.pictures, 'sheet', spy)
    path = folder('x', [wall(hole=HOLE), wall(hole=np.s_[30:40, 10:30])])
    result = do(Job(str(path), ('nearest',), name='robot/x'), tmp_path)
    assert drawn[0] == [['fed to the contenders', 'nearest', 'truth'], ['error after']]
    assert result['pictures']['best'] == 'robot-x-best.png'


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for name, value in attrs if name in ('src', 'href')]


def test_the_page_needs_nothing_else(result, tmp_path):
    page = tmp_path / 'index.html'
    report.write_page(page, [result], report.environment())
    text = page.read_text()
    links = Links()
    links.feed(text)
    assert len(links.found) == 4  # plots, and three frames
    assert all(link.startswith('data:image/') for link in links.found)
    assert not {'script', 'link', 'iframe'} & set(links.tags)
    assert 'http://' not in text
    assert 'https://' not in text
    assert text.count('<figcaption>') == 4
    assert 'The worst scored frame of classical' in text
    assert 'within a factor of 1.05' in text


def test_without_matplotlib_the_page_says_how_to_get_plots(result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.backends.backend_agg', None)
    page = tmp_path / 'index.html'
    report.write_page(page, [result], report.environment())
    assert 'pip install &quot;depth_refiner_ros[evaluate]&quot;' in page.read_text()


def test_environment_is_complete():
    found = report.environment()
    assert set(found['versions']) == {'python', 'depth_refiner_ros', 'rosbags', 'numpy', 'opencv'}
    assert found['versions']['opencv'] == cv2.__version__
    assert found['machine']['cores'] >= 1


def test_the_commit_is_not_that_of_a_repository_around_an_installation(tmp_path, monkeypatch):
    installed = tmp_path / 'venv/site-packages/depth_refiner_ros/evaluation/report.py'
    installed.parent.mkdir(parents=True)
    subprocess.run(['git', 'init', '-q', str(tmp_path)], check=True)
    monkeypatch.setattr(machine, '__file__', str(installed))
    assert report.environment()['commit'] == ''
