from __future__ import annotations

import json
from pathlib import Path
import tempfile

import pytest

from depth_refiner_ros.cli import bench as bench_module
from depth_refiner_ros.cli import main
from depth_refiner_ros.evaluation.speed import live_host
from depth_refiner_ros.evaluation.speed.bag_parts import measure_bag_parts
from depth_refiner_ros.evaluation.speed.hosts import measure_hosts
from depth_refiner_ros.evaluation.speed.peak_search import PeakSearch

QUICK = ['--size', '32', '24', '--rounds', '2', '--seconds', '0.05', '--inpaint-depth.model', '']


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    """Search roughly and send little: what is tested is not how fast it is."""
    monkeypatch.setattr(live_host, '_FEWEST_SENT', 3)
    monkeypatch.setattr(bench_module, '_CACHED_FRAMES', 3)
    monkeypatch.setattr(PeakSearch.__init__, '__defaults__', (0.5,))
    for measure in (measure_hosts, measure_bag_parts):
        few = {**measure.__kwdefaults__, 'frame_count': 2, 'rounds': 1}
        monkeypatch.setattr(measure, '__kwdefaults__', few)


def table_lines(out):
    """Return the lines of the tables; sentences wrap where the terminal wants."""
    return [line for line in out.splitlines() if line.startswith(' ')]


def bench(*arguments: object) -> int:
    return main(['bench', *map(str, arguments)])


def numbers(value, path=''):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from numbers(item, f'{path}.{name}')
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def test_json_is_all_there_is_on_stdout_and_stands_on_its_own(capfd):
    assert bench('--json', *QUICK, '--refine-depth.sensor', 'realsense_d400') == 0
    report = json.loads(capfd.readouterr().out)
    assert report['schema'] == 2
    assert report['date'].endswith('+00:00')
    assert report['machine']['cpu']
    assert {'version', 'commit', 'modified'} <= set(report)
    assert report['parameters']['refine_depth.sensor'] == 'realsense_d400'
    assert report['parameters']['stages'] == 'refine_depth,inpaint_depth,project_points'
    assert report['settings']['rounds'] == 2
    frames = report['frames']
    assert (frames['width'], frames['height'], frames['source']) == (32, 24, 'simulated')
    (size,) = report['sizes']
    assert (size['width'], size['height']) == (32, 24)
    assert list(size['stages']) == ['refine_depth', 'inpaint_depth', 'project_points']
    assert {'wall_ms', 'cpu_ms', 'p99_ms', 'min_ms', 'times'} == set(size['pipeline'])
    assert set(size['references']) == {'memory_copy', 'librealsense'}
    assert size['pipeline']['times']['memory_copy']['cpu'] > 0
    assert list(size['hosts']) == ['16UC1', '32FC1']
    for hosts in size['hosts'].values():
        assert list(hosts) == ['bag', 'live']
        assert hosts['bag']['times']['pipeline']['wall'] > 0
        assert hosts['live']['frames_per_s'] == pytest.approx(
            1e3 / hosts['live']['wall_ms'], rel=1e-3
        )
    parts = {'read', 'decode', 'pairing', 'encode', 'encode_and_write'}
    assert set(report['bag_parts']) == parts
    assert {'10_hz', '30_hz'} == set(report['live']['at'])
    assert report['memory']['frames_mb'] > 0
    assert report['wall_s'] > 0
    units = ('_ms', '_mb', '_hz', '_s', '_percent', '.times.')
    for path, value in numbers({'at': report['live'], 'sizes': size['stages']}):
        assert any(unit in path for unit in units) or isinstance(value, int), path


def test_the_table_names_stages_hosts_and_ratios(capsys):
    assert bench(*QUICK, '--hosts', 'bag', 'live') == 0
    out = capsys.readouterr().out
    for word in (
        '32x24',
        'refine_depth',
        'CPU ms',
        '/ memory copy',
        'bag host, 16UC1',
        'live host, 32FC1',
        'frames/s',
        '10 hz',
        '30 hz',
    ):
        assert word in out
    assert max(map(len, table_lines(out))) <= 100
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


def test_output_holds_the_json_and_stdout_the_table(tmp_path, capsys):
    path = tmp_path / 'bench.json'
    assert bench(*QUICK, '--hosts', '--stages', 'refine_depth', '-o', path) == 0
    report = json.loads(path.read_text())
    assert report['sizes'][0]['hosts'] == {}
    assert not {'bag_parts', 'live'} & set(report)
    assert list(report['sizes'][0]['stages']) == ['refine_depth']
    assert 'refine_depth' in capsys.readouterr().out


def test_both_outputs_are_the_same(tmp_path, capfd):
    path = tmp_path / 'bench.json'
    assert bench(*QUICK, '--hosts', '--json', '--output', path) == 0
    assert json.loads(capfd.readouterr().out) == json.loads(path.read_text())


def test_back_ends_are_timed_and_those_that_are_not_there_say_why(capfd):
    pytest.importorskip('onnxruntime', reason='runs the model of this test')
    arguments = [*QUICK, '--hosts', '--stages', 'inpaint_depth']
    backends = ['--backends', 'onnxruntime', 'tensorrt-fp16']
    assert bench('--json', *arguments, *backends) == 0
    found = json.loads(capfd.readouterr().out)['back_ends']
    assert list(found) == ['onnxruntime', 'tensorrt-fp16']
    timed = found['onnxruntime']
    assert timed['reason'] is None
    assert timed['agreement'].startswith('depth_small runs on onnxruntime (median')
    assert timed['times']['bare']['cpu'] > 0
    assert timed['wall_ms'] > 0
    assert set(found['tensorrt-fp16']) == {'reason'}
    assert bench(*arguments, *backends) == 0
    out = capfd.readouterr().out
    assert '/ bare' in out
    assert 'not timed: tensorrt-fp16' in out


def test_frames_of_a_bag(bags, tmp_path, capfd):
    bag = bags.write(tmp_path / 'some.mcap', bags.scene(3))
    arguments = ['--rounds', '2', '--seconds', '0.05', '--json', '--hosts', 'bag']
    assert bench(bag, *arguments, '--only', 'inpaint_depth.depth') == 0
    report = json.loads(capfd.readouterr().out)
    frames = report['frames']
    assert frames['source'] == str(bag)
    assert frames['count'] == 3
    assert (frames['width'], frames['height']) == (bags.WIDTH, bags.HEIGHT)
    assert frames['depth_encoding'] == '16UC1'
    assert frames['ports'] == ['camera', 'color', 'depth']
    assert list(report['sizes'][0]['hosts']['16UC1']) == ['bag']


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stopped:
        bench('--help')
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for words in ('ros2_benchmark', 'librealsense', '--json', 'depth-refiner bench', '--hosts'):
        assert words in out


def test_what_cannot_be_is_refused_before_anything_runs(refuse, tmp_path, bags):
    assert 'no folder' in refuse('bench', '--output', tmp_path / 'none' / 'b.json')
    assert 'is a folder' in refuse('bench', '--output', tmp_path)
    assert '--rounds' in refuse('bench', '--rounds', '0')
    assert '--seconds' in refuse('bench', '--seconds', '0')
    assert '--size' in refuse('bench', '--size', '0', '480')
    assert 'no output' in refuse('bench', '--only', 'nothing.depth')
    assert 'there is no such' in refuse('bench', '--backends', 'such')
    model = ('--stages', 'inpaint_depth', '--inpaint-depth.model', 'none')
    assert 'no model none' in refuse('bench', '--backends', 'auto', *model)
    assert 'does not exist' in refuse('bench', tmp_path / 'none.mcap')
    bag = bags.write(tmp_path / 'some.mcap', bags.scene(1))
    assert '--size' in refuse('bench', bag, '--size', '64', '48')


@pytest.mark.parametrize(
    ('module', 'where', 'host'),
    [
        (bench_module, 'measure_stages', 'bag'),
        (bench_module, 'measure_hosts', 'live'),
        (bench_module, 'measure_bag_parts', 'bag'),
        (live_host, 'live_run', 'live'),
    ],
)
def test_interrupted_it_leaves_nothing_behind(module, where, host, tmp_path, monkeypatch, capfd):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    monkeypatch.setattr(module, where, interrupt)
    assert bench('--json', *QUICK, '--hosts', host, '-o', tmp_path / 'bench.json') == 130
    out, err = capfd.readouterr()
    assert out == ''
    assert err == 'interrupted\n'
    assert list(Path(tmp_path).iterdir()) == []
